"""Downloads: resumed, checked, and never joined from two files."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from tests.cli.commands import full_disk
from tests.web_server import (
    Reply,
    Site,
    endless,
    new_certificate,
    range_of,
    send,
    serving,
    silent,
)
from zoo.data.fetch.download import TRIES, Downloader, Remote
from zoo.errors import DataError, StorageError
from zoo.https import Client

CONTENT = random.Random(0).randbytes(400_000)
OTHER = random.Random(1).randbytes(400_000)
SHA = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Told:
    """What a download said, and how long it waited."""

    lines: list[str] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    shown: list[tuple[str, int, int | None]] = field(default_factory=list)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a.tar").write_bytes(CONTENT)
    return Site(root=tmp_path / "files")


@pytest.fixture
def remote(address: str) -> Remote:
    return Remote(
        name="set-a.tar",
        page="https://example.org/page",
        urls=(f"{address}/a.tar",),
        sha256=SHA,
        bytes=len(CONTENT),
    )


@pytest.fixture
def loader(tmp_path: Path, told: Told) -> Downloader:
    (tmp_path / "work").mkdir()
    return Downloader(
        folder=tmp_path / "work",
        web=Client(timeout_s=10.0, plain=True),
        progress=lambda what, done, size: told.shown.append((what, done, size)),
        say=told.lines.append,
        pause=told.waits.append,
    )


def breaks_off(after: int, times: int, *, content: bytes = CONTENT, ranges: bool = True) -> Reply:
    """Return a reply that promises the rest of the content and sends only so many bytes of it."""
    count = 0

    def reply(request: BaseHTTPRequestHandler) -> bool:
        nonlocal count
        count += 1
        if count > times:
            return False
        begin = (range_of(request) or 0) if ranges else 0
        headers = {"ETag": '"one"', "Content-Length": str(len(content) - begin)}
        if begin:
            headers["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        send(request, 206 if begin else 200, content[begin : begin + after], headers)
        return True

    return reply


def test_a_file_is_downloaded_with_progress_and_its_hash(
    loader: Downloader, remote: Remote, site: Site, told: Told
) -> None:
    path = loader.download(remote)
    assert path.read_bytes() == CONTENT
    assert path.name == "set-a.tar"
    assert [each.name for each in loader.folder.iterdir()] == ["set-a.tar"]
    assert told.shown[-1] == ("set-a.tar", len(CONTENT), len(CONTENT))
    assert told.lines == []
    loader.download(remote)
    assert len(site.asked) == 1


def test_a_download_that_breaks_off_goes_on_where_it_was(
    loader: Downloader, remote: Remote, site: Site, told: Told
) -> None:
    site.reply = breaks_off(90_000, times=4)
    assert loader.download(remote).read_bytes() == CONTENT
    ranges = [asked for _, asked, _ in site.asked]
    assert ranges == ["", "bytes=90000-", "bytes=180000-", "bytes=270000-", "bytes=360000-"]
    assert told.waits == [1.0] * 4  # each attempt brought something
    assert "broke off" in told.lines[0]
    assert "at 0.1 MB" in told.lines[0]


def test_a_new_run_goes_on_with_what_an_interrupted_one_left(
    loader: Downloader, remote: Remote, site: Site
) -> None:
    def interrupt(what: str, done: int, size: int | None) -> None:
        if done > 100_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace(loader, progress=interrupt).download(remote)
    part = loader.folder / "set-a.tar.part"
    there = part.stat().st_size
    assert there >= 100_000
    assert loader.left(remote) == len(CONTENT) - there
    assert loader.download(remote).read_bytes() == CONTENT
    assert site.asked[-1][1] == f"bytes={there}-"
    assert site.statuses[-1] == 206


def test_a_complete_part_is_not_asked_for_again(
    loader: Downloader, remote: Remote, site: Site
) -> None:
    whole = loader.download(remote)
    whole.rename(loader.folder / "set-a.tar.part")  # as if stopped before it was renamed
    (loader.folder / "set-a.tar.json").write_text(
        f'{{"url": "{remote.urls[0]}", "tag": "\\"x\\"", "total": {len(CONTENT)}}}'
    )
    assert loader.download(remote).read_bytes() == CONTENT
    assert len(site.asked) == 1


@pytest.mark.parametrize("known", [True, False])
def test_a_file_that_changed_meanwhile_is_not_joined_to_the_old_one(
    known: bool, loader: Downloader, remote: Remote, site: Site, told: Told
) -> None:
    remote = remote if known else replace(remote, sha256=None)
    site.reply = breaks_off(90_000, times=1, content=OTHER)  # of another ETag
    assert loader.download(remote).read_bytes() == CONTENT
    assert site.statuses == [200]
    assert any("begins again: the server sends all of it" in line for line in told.lines)


def test_a_server_without_tags_is_resumed_only_if_the_hash_decides(
    loader: Downloader, remote: Remote, site: Site, told: Told
) -> None:
    def untagged(request: BaseHTTPRequestHandler) -> bool:
        begin = range_of(request) or 0
        headers = {"Content-Length": str(len(CONTENT) - begin)}
        if begin:
            headers["Content-Range"] = f"bytes {begin}-{len(CONTENT) - 1}/{len(CONTENT)}"
        send(request, 206 if begin else 200, CONTENT[begin : begin + 250_000], headers)
        return True

    site.reply = untagged
    assert loader.download(remote).read_bytes() == CONTENT
    assert [asked for _, asked, _ in site.asked] == ["", "bytes=250000-"]
    part = loader.folder / "set-a.tar.part"
    part.write_bytes(CONTENT[:1000])
    (loader.folder / "set-a.tar.json").write_text(
        f'{{"url": "{remote.urls[0]}", "tag": "", "total": null}}'
    )
    (loader.folder / "set-a.tar").unlink()
    site.asked.clear()
    site.reply = lambda request: False
    loader.download(replace(remote, sha256=None))
    assert [asked for _, asked, _ in site.asked] == [""]


def test_a_part_that_does_not_fit_is_given_up_once_and_all_is_asked_for(
    loader: Downloader, remote: Remote, site: Site, told: Told
) -> None:
    (loader.folder / "set-a.tar.part").write_bytes(OTHER[:100_000])
    (loader.folder / "set-a.tar.json").write_text(
        f'{{"url": "{remote.urls[0]}", "tag": "", "total": null}}'
    )
    assert loader.download(remote).read_bytes() == CONTENT
    assert [asked for _, asked, _ in site.asked] == ["bytes=100000-", ""]
    assert "does not fit what came of it before; beginning again" in told.lines[0]


def test_a_server_that_ignores_ranges_sends_all_again(
    loader: Downloader, remote: Remote, site: Site
) -> None:
    site.reply = breaks_off(90_000, times=2, ranges=False)
    site.ranges = False
    assert loader.download(remote).read_bytes() == CONTENT


@pytest.mark.parametrize(
    "stated", ["bytes 7-399999/400000", "bytes 90000-399999/500000", "bytes */400000", "nonsense"]
)
def test_a_part_other_than_the_one_asked_for_is_not_joined(
    stated: str, loader: Downloader, remote: Remote, site: Site
) -> None:
    first = breaks_off(90_000, times=1)

    def wrong(request: BaseHTTPRequestHandler) -> bool:
        if first(request):
            return True
        if range_of(request) is None:
            return False
        send(request, 206, OTHER[90_000:], {"ETag": '"one"', "Content-Range": stated})
        return True

    site.reply = wrong
    assert loader.download(remote).read_bytes() == CONTENT


def test_a_server_that_has_less_than_what_came_is_asked_for_all(
    loader: Downloader, remote: Remote, site: Site
) -> None:
    (loader.folder / "set-a.tar.part").write_bytes(CONTENT + OTHER)
    (loader.folder / "set-a.tar.json").write_text(
        f'{{"url": "{remote.urls[0]}", "tag": "\\"old\\"", "total": 800000}}'
    )
    site.reply = lambda request: (
        bool(range_of(request))
        and bool(send(request, 416, b"", {"Content-Range": f"bytes */{len(CONTENT)}"}))
    )
    assert loader.download(remote).read_bytes() == CONTENT


def test_another_file_than_the_one_known_is_kept_aside_and_not_used(
    loader: Downloader, remote: Remote, site: Site
) -> None:
    (site.root / "a.tar").write_bytes(OTHER)
    found = hashlib.sha256(OTHER).hexdigest()
    with pytest.raises(DataError, match=f"its SHA-256 is {found} and should be {SHA}"):
        loader.download(remote)
    assert [each.name for each in loader.folder.iterdir()] == ["set-a.tar.refused"]
    assert loader.download(replace(remote, sha256=found)).read_bytes() == OTHER


def page(request: BaseHTTPRequestHandler) -> bool:
    send(request, 200, b"<html>log in</html>", {"Content-Type": "text/html"})
    return True


def hidden_page(request: BaseHTTPRequestHandler) -> bool:
    send(request, 200, b"\n <!DOCTYPE html>...", {"Content-Type": "application/octet-stream"})
    return True


def longer(request: BaseHTTPRequestHandler) -> bool:
    send(request, 200, CONTENT, {"Content-Length": "999999999"})
    return True


def status(number: int) -> Reply:
    def reply(request: BaseHTTPRequestHandler) -> bool:
        send(request, number, b"no", {"Location": "http://elsewhere.example.org/a.tar"})
        return True

    return reply


SERVERS: dict[str, tuple[Reply, str, int]] = {
    "a web page": (page, "answers with a web page and not with a file", 1),
    "a web page that says it is a file": (hidden_page, "no archive; it begins with '<!DOCT", 1),
    "a length above what is known": (longer, "it has 1000 MB or more, and should have 1 MB", 1),
    "a body above what is known": (endless, "and should have 1 MB at most", 1),
    "nothing": (status(404), "there is nothing", 1),
    "nothing any more": (status(410), "there is nothing any more", 1),
    "no permission": (status(403), "the server answers 403", 1),
    "an error": (status(503), "the server answers 503", TRIES),
    "silence": (silent(1.5), "does not answer in time", TRIES),
}


@pytest.mark.parametrize("server", SERVERS)
def test_a_server_that_fails_or_lies_is_one_line_with_what_to_do(
    server: str, loader: Downloader, remote: Remote, site: Site, told: Told
) -> None:
    reply, why, times = SERVERS[server]
    site.reply, patience = reply, 0.2 if server == "silence" else 10.0
    with pytest.raises(StorageError, match=why) as refused:
        replace(loader, web=Client(timeout_s=patience)).download(remote)
    assert "see https://example.org/page, and give another one with --url" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(site.asked) == times
    assert told.waits == [1.0, 2.0, 4.0, 8.0][: times - 1]
    assert not (loader.folder / "set-a.tar").exists()


def test_what_came_is_not_given_up_for_a_page(
    loader: Downloader, remote: Remote, site: Site
) -> None:
    first = breaks_off(90_000, times=1)
    site.reply = lambda request: first(request) or hidden_page(request)
    with pytest.raises(StorageError, match="no archive"):
        loader.download(remote)
    assert (loader.folder / "set-a.tar.part").stat().st_size == 90_000
    site.reply = lambda request: False
    site.asked.clear()
    loader.download(remote)
    assert site.asked[0][1] == "bytes=90000-"


def test_a_redirect_from_https_to_http_is_not_followed(
    loader: Downloader, site: Site, remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = new_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    secure_site = Site(root=site.root, reply=status(302))
    with serving(secure_site, certificate) as secure:
        with pytest.raises(StorageError, match="leads on to http://elsewhere"):
            loader.download(replace(remote, urls=(f"{secure}/a.tar",)))
        secure_site.reply = lambda request: False
        assert loader.download(replace(remote, urls=(f"{secure}/a.tar",))).is_file()


def test_the_next_address_is_tried_and_goes_on_with_what_came(
    loader: Downloader, remote: Remote, address: str, site: Site, told: Told
) -> None:
    first = breaks_off(90_000, times=1)

    def dead(request: BaseHTTPRequestHandler) -> bool:
        return "dead" in request.path and (first(request) or status(404)(request))

    site.reply = dead
    urls = (f"{address}/dead.tar", f"{address}/a.tar")
    assert loader.download(replace(remote, urls=urls)).read_bytes() == CONTENT
    assert "Trying the next address." in told.lines[-1]
    assert site.asked[-1][:2] == ("/a.tar", "bytes=90000-")


def test_a_server_that_asks_for_patience_gets_it(
    loader: Downloader, remote: Remote, site: Site, told: Told
) -> None:
    count = 0

    def busy(request: BaseHTTPRequestHandler) -> bool:
        nonlocal count
        count += 1
        return count == 1 and bool(send(request, 503, b"", {"Retry-After": "7"}))

    site.reply = busy
    loader.download(remote)
    assert told.waits == [7.0]


def test_a_disk_without_room_is_told_before_anything_comes(
    loader: Downloader, remote: Remote, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoo.data.fetch.download.LEAST_FREE", 2**60)
    with pytest.raises(StorageError, match="set-a.tar has 0 MB, and .* MB are free") as refused:
        loader.download(remote)
    assert "--url" not in str(refused.value)
    assert not (loader.folder / "set-a.tar").exists()


def test_a_full_disk_is_one_line_and_what_came_stays(
    loader: Downloader, remote: Remote, site: Site
) -> None:
    with full_disk(200_000), pytest.raises(StorageError, match="Cannot keep set-a.tar"):
        loader.download(remote)
    assert (loader.folder / "set-a.tar.part").stat().st_size > 100_000
    assert loader.download(remote).read_bytes() == CONTENT


def test_among_random_faults_the_file_is_whole_or_the_fault_is_told(
    loader: Downloader, remote: Remote, site: Site
) -> None:
    rng = random.Random(3)
    faults: list[Callable[[BaseHTTPRequestHandler], bool]] = [
        breaks_off(50_000, times=10**6),
        breaks_off(0, times=10**6),
        status(503),
        breaks_off(70_000, times=10**6, content=OTHER),
    ]
    site.reply = lambda request: rng.random() < 0.6 and rng.choice(faults)(request)
    done = 0
    for _ in range(12):
        try:
            assert loader.download(remote).read_bytes() == CONTENT
            done += 1
            (loader.folder / "set-a.tar").unlink()
        except (StorageError, DataError):
            assert not (loader.folder / "set-a.tar").exists()
    assert done > 3
