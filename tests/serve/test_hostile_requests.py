"""Thousands of bad requests: each a refusal in one sentence, and the next good one is answered.

`ZOO_EXAMPLES=5000` draws so many, and others each time; `-s` shows how they were answered.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.serve import hostile_requests
from tests.serve.hostile_requests import Bad
from tests.serve.services import Running, pictures, running, settings, shelf_with
from zoo.serve import connections

if TYPE_CHECKING:
    from registry.bundle import Bundle

COUNT = int(os.environ.get("ZOO_EXAMPLES", "150"))
SEED = time.time_ns() if "ZOO_EXAMPLES" in os.environ else 18
AT_ONCE = 6
MEGABYTES = 600  # that the memory may grow by
SECONDS = 60.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Bundle) -> Iterator[Running]:
    """A server with short limits of time."""
    root = tmp_path_factory.mktemp("attacked")
    shelf_with(root, [tiny_bundle])
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(connections, "HEADER_S", 1.0)
        known = settings(root, body_s=1.0, most_bytes=2**20, wait_s=30.0)
        with running(known) as server:
            yield server


def reply_of(server: Running, bad: Bad) -> bytes:
    """Send a request, and return the whole first answer; empty if there is none."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS) as connection:
        try:
            connection.sendall(bad.sent)
            if bad.how == "leaves":
                connection.shutdown(socket.SHUT_WR)
            return _read(connection, drops=bad.how == "drops")
        except (BrokenPipeError, ConnectionResetError):
            return _rest(connection)


def _read(connection: socket.socket, *, drops: bool) -> bytes:
    content, end = b"", time.monotonic() + SECONDS
    connection.settimeout(0.1 if drops else SECONDS)
    while time.monotonic() < end:
        try:
            part = connection.recv(2**16)
        except TimeoutError:
            assert drops, "no answer"
            connection.sendall(b"x")
            continue
        content += part
        head, is_whole, body = content.partition(b"\r\n\r\n")
        if not part or (is_whole and len(body) >= _length(head)):
            return content
    raise AssertionError(f"no end of an answer: {content[:200]!r}")


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.split(b":")[1])
    return 0


def _rest(connection: socket.socket) -> bytes:
    content = b""
    try:
        while part := connection.recv(2**16):
            content += part
    except OSError:
        pass
    return content


def status_of(reply: bytes) -> int:
    return int(reply.split(b" ", 2)[1]) if reply else 0


def faults(bad: Bad, reply: bytes) -> str:
    """Return what is wrong with the answer to a bad request; empty if nothing is."""
    if not reply:
        return "" if bad.how == "leaves" else "no answer"
    status = status_of(reply)
    if not 400 <= status < 500:
        return f"status {status}"
    head, _, body = reply.partition(b"\r\n\r\n")
    try:
        refusal = json.loads(body[: _length(head)])
        message = refusal["message"]
    except (ValueError, KeyError, TypeError):
        return "no refusal in JSON"
    if set(refusal) != {"error", "message"} or not refusal["error"]:
        return f"fields {sorted(refusal)}"
    if len(message) > 500 or not message.isprintable() or len(message) < 10:
        return f"a message of {len(message)} letters"
    told = [each for each in ("Traceback", "attacked", "site-packages") if each in message]
    return f"it tells of {told}" if told else ""


def megabytes() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1e3 for line in lines if line.startswith("VmRSS"))


def test_bad_requests_are_refused_and_the_next_good_one_is_answered(
    server: Running, caplog: pytest.LogCaptureFixture
) -> None:
    content = pictures(2)[1]
    good = hostile_requests.request(content)
    expected = _verdict(reply_of(server, Bad("good", good)))
    assert expected["verdict"] == "defective"
    before = megabytes()

    def attacked(bad: Bad) -> tuple[Bad, bytes, dict[str, object]]:
        reply = reply_of(server, bad)
        return bad, reply, _verdict(reply_of(server, Bad("good", good)))

    counts: Counter[tuple[str, int]] = Counter()
    wrong = []
    with ThreadPoolExecutor(AT_ONCE) as clients:
        requests = hostile_requests.drawn(COUNT, seed=SEED)
        while some := list(islice(requests, 10 * AT_ONCE)):
            for bad, reply, after in clients.map(attacked, some):
                counts[bad.kind, status_of(reply)] += 1
                assert after == expected, "a good picture is answered as before"
                if fault := faults(bad, reply):
                    wrong.append((fault, bad.kind, bad.how, bad.sent[:300], reply[-300:]))
    print(f"\nseed {SEED}; memory grew by {megabytes() - before:.0f} MB")
    for (kind, status), count in sorted(counts.items()):
        print(f"{kind:<12} {status or 'no answer':>9} {count}")
    assert not wrong, f"{len(wrong)} of {COUNT}, with seed {SEED}: {wrong[:5]}"
    assert sum(counts.values()) == COUNT
    assert len({kind for kind, _ in counts}) == len(hostile_requests.KINDS)
    assert "Traceback" not in caplog.text
    assert megabytes() - before < MEGABYTES


def _verdict(reply: bytes) -> dict[str, object]:
    answer = json.loads(reply.partition(b"\r\n\r\n")[2])
    assert status_of(reply) == 200, answer
    return {name: answer[name] for name in ("verdict", "score", "digest", "anomalous_pixels")}
