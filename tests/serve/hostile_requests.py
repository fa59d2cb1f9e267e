"""Requests by somebody who wishes the service ill, drawn at random with a seed.

Each kind returns the bytes to send, and how: at once, drop by drop, or with the end missing. None
of them may be answered but by a refusal.
"""

from __future__ import annotations

import io
import json
import pickle
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal
from urllib.parse import quote

from PIL import Image

SCORE = "/v1/detectors/weave/score"
HOST = "Host: 127.0.0.1"

How = Literal["at once", "no end", "drops", "leaves"]


@dataclass(frozen=True)
class Bad:
    """A request.

    Attributes:
        kind: What is wrong with it.
        sent: Its bytes.
        how: `no end` waits for an answer to a part; `drops` sends a byte now and then; `leaves`
            closes its side, and there may be no answer.
    """

    kind: str
    sent: bytes
    how: How = "at once"


def request(
    body: bytes, *headers: str, url: str = SCORE, method: str = "POST", host: str = HOST
) -> bytes:
    """Return a request of HTTP/1.1."""
    lines = [f"{method} {url} HTTP/1.1", host, f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def png(height: int, width: int, data: bytes, *, depth: int = 8, colour: int = 0) -> bytes:
    """Return a PNG that states a size, with any data."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(each)) + name + each + struct.pack(">I", zlib.crc32(name + each))
        for name, each in chunks
    )


def tiff(height: int, width: int, packed: bytes, *, compression: int = 8) -> bytes:
    """Return a grey TIFF of one strip that states a size."""
    entries = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, compression), (262, 3, 1)]
    entries += [(273, 4, 8 + 2 + 12 * 9 + 4), (277, 3, 1), (278, 4, height), (279, 4, len(packed))]
    table = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return b"II*\0" + struct.pack("<IH", 8, 9) + table + bytes(4) + packed


@lru_cache
def zeros(size: int) -> bytes:
    """Return what unpacks to so many zeros."""
    packer, parts = zlib.compressobj(9), []
    for _ in range(size // 2**20):
        parts.append(packer.compress(bytes(2**20)))
    return b"".join([*parts, packer.compress(bytes(size % 2**20)), packer.flush()])


@lru_cache
def picture(form: str) -> bytes:
    """Return a good picture in a format."""
    disk = io.BytesIO()
    noise = random.Random(form).randbytes(64 * 72)
    Image.frombytes("L", (72, 64), noise).save(disk, form)
    return disk.getvalue()


@lru_cache
def scans() -> bytes:
    """Return a JPEG of five thousand scans."""
    disk = io.BytesIO()
    Image.new("L", (4000, 4000)).save(disk, "jpeg", progressive=True)
    content = disk.getvalue()
    start = content.rindex(b"\xff\xda")
    return content[:start] + content[start:-2] * 5000 + content[-2:]


def bomb(rng: random.Random) -> Bad:
    """Return a small file of a huge picture, or of one that unpacks to far more than it has."""
    side = rng.choice([8000, 20_000, 65_535, 2**31 - 1])
    made: list[Callable[[], bytes]] = [
        lambda: png(side, side, zeros(2**22)),
        lambda: png(9000, 9000, zeros(81_009_000)),
        lambda: png(side, 1, b"", depth=16, colour=6),
        lambda: tiff(side % 65_536, side % 65_536, zeros(2**22)),
        lambda: tiff(64, 64, zeros(2**28)),
        lambda: tiff(64, 64, b"\x81\0" * 2**19, compression=32773),
        lambda: b"P6 %d %d 255\n" % (side, side) + bytes(1000),
        lambda: b"BM" + struct.pack("<IIIIiiHHIIIIII", 99, 0, 54, 40, side, side, 1, 8, *[0] * 6),
        lambda: b"GIF89a" + struct.pack("<HHBBB", 65_535, 65_535, 0x80, 0, 0) + bytes(50),
        scans,
    ]
    return Bad("bomb", request(rng.choice(made)()))


def damaged(rng: random.Random) -> Bad:
    """Return a picture that is cut short, or only begins as one."""
    form = rng.choice(["png", "jpeg", "tiff", "bmp", "webp", "gif"])
    whole = picture(form)
    cut = whole[: rng.randrange(len(whole) * 3 // 4)]
    return Bad("damaged", request(rng.choice([cut, whole[:12] + rng.randbytes(500)])))


def other_type(rng: random.Random) -> Bad:
    """Return what is no picture."""
    content = rng.choice(
        [
            b"",
            b"text",
            json.dumps({"picture": "x" * rng.randrange(1000)}).encode(),
            b"[" * 100_000,
            b"<!doctype html><script>alert(1)</script>",
            b"<svg xmlns='http://www.w3.org/2000/svg'/>",
            b"<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>",
            b"%PDF-1.7",
            b"PK\3\4" + rng.randbytes(50),
            b"\x1f\x8b" + rng.randbytes(50),
            b"\x93NUMPY\x01\x00" + rng.randbytes(100),
            b"\0\0\0\x18ftypheic" + rng.randbytes(50),
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
            pickle.dumps(rng.random()),
            rng.randbytes(rng.randrange(1, 3000)),
        ]
    )
    kind = rng.choice(["", "image/png", "text/plain", "application/json", "a" * 500, "\xff/\xfe"])
    return Bad("wrong type", request(content, f"Content-Type: {kind}"))


def huge_name(rng: random.Random) -> Bad:
    """Return a name of a detector that is far too long."""
    sign = rng.choice(["w", "%20", "%E6%9C%A8", "..", "@", ":", "%25"])
    name = sign * rng.choice([350, 900, 2000, 10_000, 40_000])
    url = rng.choice([f"/v1/detectors/{name}/score", f"{SCORE}?rate=0.1&{name}=1", f"/{name}"])
    return Bad("huge name", request(picture("png"), url=url))


_TRICKS = (
    "..",
    ".",
    "../weave",
    "..%2f..%2f..%2fetc%2fpasswd",
    "%2e%2e/%2e%2e/shelf",
    "%252e%252e%252f",
    "..\\..\\weave",
    "/etc/passwd",
    "%00",
    "weave%00.png",
    "weave%0d%0aX-Evil:%201",
    "weave%0a",
    "weave/..",
    "weave;x",
    "weave@",
    "weave:",
    "weave:-1",
    "weave:99999999999999999999999",
    "weave:1e3",
    "weave@../../x",
    "weave@sha256:" + "0" * 64,
    "weave@sha256:../../../objects",
    "%ff%fe",
    "%C0%AE%C0%AE",
    "\u202eevaew".encode().decode("latin-1"),
    "%F0%9F%92%A3",
    "s3:%2f%2fbucket",
    "file:%2f%2f%2fetc",
    "~root",
    "$HOME",
    "{{7*7}}",
    "%7b%7b7*7%7d%7d",
    "weave'%20OR%201=1",
    "CON",
    "weave ".strip() + "%20",
    "WEAVE",
    "%",
    "%zz",
)


def path_trick(rng: random.Random) -> Bad:
    """Return a name that would lead elsewhere if it were a path, or mean something else."""
    name = rng.choice(_TRICKS)
    url = rng.choice(
        [
            f"/v1/detectors/{name}/score",
            f"/v1/detectors/{name}/marks",
            f"/static/{name}/{name}",
            f"//{name}/v1/detectors/weav/score",
            f"http://127.0.0.1/v1/detectors/{name}/score",
            f"/v1/detectors/weave/{name}",
        ]
    )
    return Bad("path trick", request(picture("png"), url=url.replace(" ", "%20")))


def half_body(rng: random.Random) -> Bad:
    """Return a body that ends before its stated length."""
    whole = request(picture("png"))
    at = whole.index(b"\r\n\r\n") + 4
    return Bad("half body", whole[: rng.randrange(at, len(whole))], "leaves")


def slow(rng: random.Random) -> Bad:
    """Return a header or a body that does not come to its end in time."""
    whole = request(picture("png"))
    at = whole.index(b"\r\n\r\n")
    cut = rng.choice([0, at // 2, at, at + 4, at + 100, len(whole) - 1])
    ways: list[How] = ["no end", "drops"]  # a drop would be the last byte
    return Bad("slow", whole[:cut], rng.choice(ways[: 1 if cut == len(whole) - 1 else 2]))


def no_http(rng: random.Random) -> Bad:
    """Return what is no request, or is one to some programs and two to others."""
    chunked = "Transfer-Encoding: chunked"
    head = f"POST {SCORE} HTTP/1.1\r\n{HOST}\r\n"
    texts = [
        "GARBAGE\r\n\r\n",
        "GET /\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n",
        f"{head}Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
        f"{head}Content-Length: -4\r\n\r\nabcd",
        f"{head}Content-Length: +4\r\n\r\nabcd",
        f"{head}Content-Length: 4_0\r\n\r\nabcd",
        f"{head}Content-Length: {'9' * 30}\r\n\r\nabcd",
        f"{head}Content-Length : 4\r\n\r\nabcd",
        f"{head}{chunked}\r\n\r\nzz\r\nabcd\r\n0\r\n\r\n",
        f"{head}{chunked}\r\n\r\n{'f' * 30}\r\nabcd\r\n",
        f"{head}{chunked}\r\n\r\n-4\r\nabcd\r\n0\r\n\r\n",
        f"{head}{chunked}\r\n\r\n4;{'x' * 70_000}\r\nabcd\r\n0\r\n\r\n",
        f"{head}Transfer-Encoding: chunked, gzip\r\n\r\n4\r\nabcd\r\n0\r\n\r\n",
        f"{head}Transfer-Encoding: xchunked\r\nContent-Length: 4\r\n\r\nabcd",
        f"{head}X: a\r\n b: c\0\r\n\r\n",
        f"{head}X{'y' * rng.choice([40_000, 90_000])}: a\r\n\r\n",
        f"{head}{''.join(f'X{each}: y' + chr(13) + chr(10) for each in range(6000))}\r\n",
        f"POST {SCORE} HTTP/1.1\r\n\r\n",
        f"POST {SCORE} HTTP/1.1\r\n{HOST}\r\nHost: evil\r\n\r\n",
        f"POST /a b HTTP/1.1\r\n{HOST}\r\n\r\n",
        f"P\0ST / HTTP/1.1\r\n{HOST}\r\n\r\n",
    ]
    return Bad("no HTTP", rng.choice(texts).encode("latin-1"))


def other_method(rng: random.Random) -> Bad:
    """Return a method that the route does not take."""
    method = rng.choice(["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECTS", "post"])
    upgrade = "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"
    return Bad("method", request(b"", *(upgrade if rng.random() < 0.3 else ()), method=method))


def query(rng: random.Random) -> Bad:
    """Return values that are none."""
    value = rng.choice(["-1", "0", "1", "nan", "inf", "1e999", "abc", "", "0x1", "%00", "9" * 900])
    url = rng.choice([f"{SCORE}?rate={value}", f"{SCORE}?map={value}x", f"{SCORE}?rate=.1&rate=x"])
    return Bad("query", request(picture("png"), url=url))


def header(rng: random.Random) -> Bad:
    """Return a header that asks for what there is not, or comes from another site."""
    each = rng.choice(
        [
            "Accept: text/html",
            "Accept: image/png;q=0",
            "Accept: " + "image/webp," * 1000 + "x/y",
            "Accept: ;;;q=q",
            "Content-Encoding: gzip",
            "Content-Encoding: br, br",
            "Content-Type: multipart/form-data; boundary=x",
            "Origin: http://evil.example",
            "Origin: null",
            "Origin: http://[",
            "Sec-Fetch-Site: cross-site",
            "Sec-Fetch-Site: same-site",
        ]
    )
    return Bad("header", request(picture("png"), each))


def host(rng: random.Random) -> Bad:
    """Return a name of the host that is not this machine's."""
    each = rng.choice(
        ["evil.example", "127.0.0.1.evil.example", "localhost.evil", "[::2]", "", "127.1", "0"]
    )
    return Bad("host", request(picture("png"), host=f"Host: {each}"))


def too_large(rng: random.Random) -> Bad:
    """Return a body above the bound, stated or in chunks."""
    size = 2**20 + rng.randrange(1, 2**19)
    if rng.random() < 0.5:
        return Bad("too large", request(bytes(size)))
    head = f"POST {SCORE} HTTP/1.1\r\n{HOST}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    chunk = b"10000\r\n" + bytes(2**16) + b"\r\n"
    return Bad("too large", head + chunk * (size // 2**16 + 1) + b"0\r\n\r\n")


def other_route(rng: random.Random) -> Bad:
    """Return what the routes of the page do not take."""
    body = rng.choice([b"", b"{}", b"[]", b'{"detector": "weave"}', b"\xff", b"[" * 9999, b"null"])
    url = rng.choice(
        [
            "/v1/preview",
            "/v1/detectors/weave/marks",
            f"/v1/detectors/weave/marks/{quote(rng.choice(_TRICKS), safe='%')}",
            "/v1/nothing",
            "/.git/config",
            "/wp-login.php",
        ]
    )
    method = "PUT" if "/marks/" in url else "POST"
    return Bad("other route", request(body, url=url, method=method))


KINDS: tuple[tuple[Callable[[random.Random], Bad], int], ...] = (  # with their weights
    (bomb, 10),
    (damaged, 12),
    (other_type, 12),
    (huge_name, 8),
    (path_trick, 14),
    (half_body, 6),
    (slow, 3),
    (no_http, 12),
    (other_method, 5),
    (query, 6),
    (header, 6),
    (host, 3),
    (too_large, 3),
    (other_route, 6),
)


def drawn(count: int, *, seed: int) -> Iterator[Bad]:
    """Yield so many requests; each kind is among the first ones."""
    rng = random.Random(seed)
    kinds, weights = zip(*KINDS, strict=True)
    for at in range(count):
        yield (kinds[at] if at < len(kinds) else rng.choices(kinds, weights)[0])(rng)
