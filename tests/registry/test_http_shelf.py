"""A shelf on a web server: the reading part of the exam, its cache, and hosts that fail or lie."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

import zoo
from registry import bundle, maintenance
from registry.bundle import Bundle
from registry.folder_shelf import FolderShelf
from registry.http_shelf import HttpShelf
from registry.pointer import Edit, Pointer
from registry.publish import DOUBTS, publish
from registry.shelf import names_on, open_shelf
from tests import exams
from tests.exams import ShelfReadingExam, drawn_bundle, flip
from tests.web_server import Site, endless, new_certificate, send, serving, silent
from zoo.errors import BundleError, ConfigError, StorageError, UnknownDetectorError

WHERE = "http://127.0.0.1"


class Publisher:
    """A shelf in a folder whose changes are published at once as files for a web server."""

    def __init__(self, folder: Path, to: Path) -> None:
        self.shelf, self.to = FolderShelf(folder), to

    def change(self, texture: str, edit: Edit, *, folder: Path | None = None) -> Pointer:
        changed = self.shelf.change(texture, edit, folder=folder)
        publish(self.shelf, self.to, allow=DOUBTS)
        return changed


@pytest.fixture
def writer(tmp_path: Path) -> Publisher:
    return Publisher(tmp_path / "own", tmp_path / "public")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    (tmp_path / "public").mkdir()
    return Site(root=tmp_path / "public")


@pytest.fixture
def shelf(address: str, tmp_path: Path) -> HttpShelf:
    return HttpShelf(address, tmp_path / "cache", timeout_s=10.0)


@pytest.fixture
def digest(writer: Publisher, tmp_path: Path) -> str:
    return exams.publish(writer, drawn_bundle(tmp_path / "b"), texture="grid", version=1)


class TestHttpShelf(ShelfReadingExam):
    """With the fixtures of this module."""


def test_a_second_fetch_asks_only_whether_the_pointer_is_the_same(
    site: Site, shelf: HttpShelf, digest: str
) -> None:
    shelf.fetch("grid")
    assert site.paths == [
        "/textures/grid.json",
        *(f"/objects/{digest}/{file}" for file in (bundle.CARD, bundle.WEIGHTS)),
    ]
    site.asked.clear()
    site.statuses.clear()
    shelf.fetch("grid")
    assert site.paths == ["/textures/grid.json"]
    assert site.statuses == [304]


def test_a_pinned_digest_asks_nothing_once_it_is_cached(
    site: Site, shelf: HttpShelf, digest: str
) -> None:
    shelf.fetch("grid")
    site.asked.clear()
    assert bundle.digest(shelf.fetch(f"grid@sha256:{digest}")) == digest
    assert site.asked == []


def test_a_host_without_tags_is_read_again_each_time(
    site: Site, shelf: HttpShelf, writer: Publisher, digest: str, tmp_path: Path
) -> None:
    site.tags = False
    assert bundle.digest(shelf.fetch("grid")) == digest
    second = drawn_bundle(tmp_path / "second", seed=2)
    newer = exams.publish(writer, second, texture="grid", version=2)
    assert bundle.digest(shelf.fetch("grid")) == newer
    assert {tag for _, _, tag in site.asked} == {""}


def test_a_tag_beside_another_content_is_not_used(
    site: Site, shelf: HttpShelf, digest: str, tmp_path: Path
) -> None:
    shelf.fetch("grid")
    [cached] = (tmp_path / "cache" / "textures").rglob("grid.json")
    old = json.loads(cached.read_bytes())
    cached.write_text(json.dumps(old | {"aliases": {}}))  # as if written by another process
    assert bundle.digest(shelf.fetch("grid")) == digest
    assert site.asked[-1] == ("/textures/grid.json", "", "")


def test_without_a_host_the_last_pointer_is_used_with_a_warning(
    site: Site, writer: Publisher, digest: str, tmp_path: Path
) -> None:
    with serving(site) as address:
        shelf = HttpShelf(address, tmp_path / "cache", timeout_s=10.0)
        shelf.fetch("grid")
    [seen] = (tmp_path / "cache" / "textures").rglob("grid.json")
    os.utime(seen, (time.time() - 3 * 86400,) * 2)
    with pytest.warns(UserWarning, match=f"{address}/textures/grid.json.*seen, 3 days ago"):
        assert bundle.digest(shelf.fetch("grid")) == digest
    with pytest.warns(UserWarning, match="what the cache holds"):
        assert list(names_on(shelf)) == ["grid"]
    other = HttpShelf(address, tmp_path / "empty cache", timeout_s=10.0)
    with pytest.raises(StorageError, match=f"Cannot read {address}/textures/grid.json"):
        other.fetch("grid")
    with pytest.raises(StorageError, match=f"Cannot read {address}/index.json"):
        names_on(other)


def half(request: BaseHTTPRequestHandler) -> bool:
    send(request, 200, b'{"texture": "grid", ', {"Content-Length": "4000"})
    return True


def page(request: BaseHTTPRequestHandler) -> bool:
    send(request, 200, b"<!DOCTYPE html><h1>Log in</h1>", {"Content-Type": "text/html; charset=x"})
    return True


def page_as_json(request: BaseHTTPRequestHandler) -> bool:
    send(request, 200, b"<!DOCTYPE html><h1>Log in</h1>", {"Content-Type": "application/json"})
    return True


def large(request: BaseHTTPRequestHandler) -> bool:
    send(request, 200, b"{}", {"Content-Length": str(2**40)})
    return True


def status(number: int, headers: dict[str, str] | None = None) -> Callable[..., bool]:
    def reply(request: BaseHTTPRequestHandler) -> bool:
        send(request, number, b"no", headers)
        return True

    return reply


HOSTS = {
    "half a body": (half, "broke off|Connection broken"),
    "a web page": (page, "answers with a web page"),
    "a web page that is called JSON": (page_as_json, "is no pointer|is no JSON|damaged"),
    "a body that is too large": (large, "more than the 17 MB|more than the 67 MB"),
    "an endless body": (endless, "more than the 17 MB|more than the 67 MB"),
    "no permission": (status(403), "the server answers 403. Check"),
    "an error": (status(500), "the server answers 500"),
    "a redirect to a file": (status(302, {"Location": "file:///etc/passwd"}), "leads on to file:"),
    "a redirect to HTTP": (status(301, {"Location": "http://example.org/"}), "is not HTTPS"),
    "a redirect in a circle": (status(302, {"Location": "/x"}), "more than 5 times"),
    "silence": (silent(2.0), "does not answer in time"),
    "a status that no host gives": (status(206), "the server answers 206"),
}


@pytest.mark.parametrize("host", HOSTS)
def test_a_host_that_fails_or_lies_is_one_line_and_the_cache_serves(
    host: str, site: Site, address: str, digest: str, tmp_path: Path
) -> None:
    (reply, why), patience = HOSTS[host], 0.5 if host == "silence" else 10.0
    shelf = HttpShelf(address, tmp_path / "cache", timeout_s=patience)
    shelf.fetch("grid")
    site.reply = reply
    with pytest.warns(UserWarning, match=f"(?s)(?:{why}).*the last pointer seen") as told:
        assert bundle.digest(shelf.fetch("grid")) == digest
    assert "\n" not in str(told[0].message)
    other = HttpShelf(address, tmp_path / "empty cache", timeout_s=patience)
    for read in (lambda: other.fetch("grid"), lambda: names_on(other)):
        with pytest.raises(StorageError, match=f"(?:{why})") as refused:
            read()
        assert "\n" not in str(refused.value)
    assert not [path for path in (tmp_path / "empty cache").rglob("*") if path.name != ".lock"]


@pytest.mark.parametrize("host", [each for each in HOSTS if "status" not in each])
def test_a_bundle_that_a_host_garbles_is_not_kept(
    host: str, site: Site, shelf: HttpShelf, digest: str, tmp_path: Path
) -> None:
    reply, _ = HOSTS[host]
    site.reply = lambda request: "/objects/" in request.path and reply(request)
    with pytest.raises((StorageError, BundleError), match=digest) as refused:
        shelf.fetch("grid")
    assert "\n" not in str(refused.value)
    assert not list((tmp_path / "cache" / "objects").iterdir())
    site.reply = lambda request: False
    assert bundle.digest(shelf.fetch("grid")) == digest


@pytest.mark.parametrize("file", bundle.FILES)
def test_a_changed_byte_is_found_and_nothing_of_it_is_kept(
    file: str, site: Site, shelf: HttpShelf, digest: str, tmp_path: Path
) -> None:
    flip(tmp_path / "public" / "objects" / digest / file)
    with pytest.raises(BundleError, match=rf"{WHERE}.*{digest}.* is damaged: its SHA-256"):
        shelf.fetch("grid")
    assert not list((tmp_path / "cache" / "objects").iterdir())
    [checked] = maintenance.verify(shelf)
    assert "is damaged" in checked.problem
    flip(tmp_path / "public" / "objects" / digest / file)
    assert bundle.digest(shelf.fetch("grid")) == digest
    assert [each.problem for each in maintenance.verify(shelf)] == [""]


def test_a_champion_that_cannot_be_had_leaves_the_one_before_in_use(
    site: Site, shelf: HttpShelf, writer: Publisher, digest: str, tmp_path: Path
) -> None:
    shelf.fetch("grid")
    second = drawn_bundle(tmp_path / "second", seed=2)
    newer = exams.publish(writer, second, texture="grid", version=2)
    flip(tmp_path / "public" / "objects" / newer / bundle.WEIGHTS)
    for _ in range(2):
        with pytest.warns(UserWarning, match=f"{newer}.* Using version 1 of 'grid'"):
            assert shelf.resolve("grid") == (shelf.fetch("grid:1"), 1)
    with pytest.raises(BundleError, match=newer):
        shelf.fetch("grid:2")
    flip(tmp_path / "public" / "objects" / newer / bundle.WEIGHTS)
    assert shelf.resolve("grid")[1] == 2


def test_a_texture_that_is_no_longer_published_is_unknown(
    site: Site, shelf: HttpShelf, writer: Publisher, digest: str, tmp_path: Path
) -> None:
    exams.publish(writer, drawn_bundle(tmp_path / "w"), texture="wood", version=1)
    shelf.fetch("wood")
    publish(writer.shelf, writer.to, only=["grid"], allow=DOUBTS)
    with pytest.raises(UnknownDetectorError, match="No detector 'wood' .*; it has grid"):
        shelf.fetch("wood")


def test_a_host_that_has_lost_the_shelf_is_no_empty_shelf(
    site: Site, shelf: HttpShelf, digest: str, tmp_path: Path
) -> None:
    shelf.fetch("grid")
    (tmp_path / "public").rename(tmp_path / "gone")
    with pytest.warns(UserWarning, match="no shelf at .*: index.json is missing.*last pointer"):
        assert bundle.digest(shelf.fetch("grid")) == digest


@pytest.mark.parametrize(
    ("index", "why"),
    [
        (b"", "is no JSON"),
        (b"[]", "does not name textures"),
        (b'{"textures": {}}', "has format None, and this version reads 1"),
        (b'{"format": 2, "textures": {}}', "has format 2, and this version reads 1"),
        (b'{"format": 1, "textures": {"../x": {}}}', "has a name that no texture has: '../x'"),
        (b"[" * 10**5, "is no JSON"),
    ],
)
def test_an_index_of_another_kind_is_refused(
    index: bytes, why: str, site: Site, shelf: HttpShelf, digest: str, tmp_path: Path
) -> None:
    (tmp_path / "public" / "index.json").write_bytes(index)
    with pytest.raises(StorageError, match=f"There is no shelf at .*index.json {why}"):
        shelf.textures()


def test_the_pointer_of_another_texture_is_refused(
    site: Site, shelf: HttpShelf, digest: str, tmp_path: Path
) -> None:
    textures = tmp_path / "public" / "textures"
    (textures / "wood.json").write_bytes((textures / "grid.json").read_bytes())
    with pytest.raises(StorageError, match="is the pointer of 'grid' and not of 'wood'"):
        shelf.fetch("wood")


def test_it_is_read_only_and_says_what_to_do(shelf: HttpShelf, digest: str) -> None:
    writes: list[Callable[[], object]] = [
        lambda: shelf.change("grid", lambda old: old),
        lambda: shelf.check_writable("grid"),
        lambda: shelf.discard(digest),
        lambda: maintenance.collect(shelf),
    ]
    for write in writes:
        with pytest.raises(StorageError, match="read-only. Set ZOO_SHELF .*`zoo shelf publish"):
            write()


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://example.org/shelf", "plain HTTP"),
        ("https://me:word@example.org/", "has a user or a password"),
        ("https://example.org/?a=1", "a part after \\? or #"),
        ("https://", "no address"),
    ],
)
def test_an_address_that_is_not_safe_is_refused_with_what_is(
    url: str, why: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=why):
        open_shelf(url)


def test_it_is_read_over_tls(
    site: Site, digest: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = new_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with serving(site, certificate) as address:
        shelf = HttpShelf(f"{address}/", tmp_path / "cache")
        assert bundle.digest(shelf.fetch("grid")) == digest


def test_two_hosts_in_one_cache_do_not_mix(
    site: Site, address: str, shelf: HttpShelf, digest: str, tmp_path: Path
) -> None:
    shelf.fetch("grid")
    (tmp_path / "other").mkdir()
    with serving(Site(root=tmp_path / "other")) as elsewhere:
        other = HttpShelf(elsewhere, tmp_path / "cache", timeout_s=10.0)
        with pytest.raises(StorageError, match="There is no shelf at"):
            other.fetch("grid")


def test_a_detector_is_loaded_listed_shown_and_follows_its_champion(
    tiny_bundle: Bundle,
    site: Site,
    address: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    drawn_folder: Path,
) -> None:
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    writer = Publisher(tmp_path / "own", tmp_path / "public")
    bundle.save(tiny_bundle, tmp_path / "one")
    first = exams.publish(writer, tmp_path / "one", texture="weave", version=1)
    monkeypatch.setenv("ZOO_SHELF", address)
    detector = zoo.load("weave", max_age_s=0.0)
    assert detector.digest == first
    assert "weave" in zoo.names()
    card = zoo.show("weave")
    assert (card["digest"], card["lineage"]["who"]) == (first, "")
    image = next((drawn_folder / "test").rglob("*.png"))
    score = detector.score(image).score
    bundle.save(bundle.with_metrics(tiny_bundle, {"test_image_auroc": 0.5}), tmp_path / "two")
    newer = exams.publish(writer, tmp_path / "two", texture="weave", version=2)
    patience = time.monotonic() + 20
    while detector.digest != newer and time.monotonic() < patience:
        assert detector.score(image).score == score
        time.sleep(0.02)
    assert detector.digest == newer
    for thread in threading.enumerate():  # the last check, while there is something to ask
        if "_look" in thread.name:
            thread.join()
