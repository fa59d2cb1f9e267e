"""`zoo score --server`: the same lines and pictures as here, from a service that may be busy."""

from __future__ import annotations

import json
import re
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.commands import refused
from tests.processes import until
from tests.serve.services import (
    HERE,
    Running,
    pictures,
    promote,
    running,
    settings,
    shelf_with,
)
from zoo.cli import main
from zoo.errors import ConfigError, RefusedError, StorageError
from zoo.serve import client as clients
from zoo.serve.client import Client
from zoo.serve.keys import new_key

if TYPE_CHECKING:
    from registry.bundle import Bundle


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Bundle) -> Path:
    """A home with a detector, and a folder of pictures, one of which is none."""
    root = tmp_path_factory.mktemp("asked")
    shelf_with(root, [tiny_bundle])
    (root / "planks").mkdir()
    for at, content in enumerate(pictures(7)):
        (root / "planks" / f"{at}.png").write_bytes(content)
    return root


@pytest.fixture(scope="module")
def key(root: Path) -> str:
    return new_key(root / "keys", "tests")


@pytest.fixture(scope="module")
def server(root: Path, key: str) -> Iterator[Running]:
    """A service with keys, at another place than the home of the client."""
    with running(settings(root, keys=root / "keys")) as server:
        yield server


@pytest.fixture(autouse=True)
def at_home(root: Path, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ZOO_SHELF", raising=False)
    monkeypatch.setenv("ZOO_HOME", str(root))
    monkeypatch.setenv("ZOO_SERVER_KEY", key)


def lines_of(capsys: pytest.CaptureFixture[str], *more: str | Path) -> list[dict[str, Any]]:
    capsys.readouterr()
    main(["score", "weave", *map(str, more)])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for line in lines:
        line.pop("time")
    return lines


def test_lines_overlays_and_table_are_those_of_scoring_here(
    capsys: pytest.CaptureFixture[str], root: Path, server: Running, tmp_path: Path
) -> None:
    found: dict[str, list[dict[str, Any]]] = {}
    for name, more in (("here", ()), ("there", ("--server", server.address))):
        folder = tmp_path / name
        out = "--out", str(folder / "maps"), "--csv", str(folder / "table.csv")
        found[name] = lines_of(capsys, root / "planks", *more, *out)
        for line in found[name]:
            line["overlay"] = str(Path(line["overlay"]).relative_to(folder))
    assert found["there"] == found["here"]
    assert list(found["there"][0]) == list(found["here"][0]), "in the same order"
    assert len(found["here"]) == 7
    assert {line["verdict"] for line in found["here"]} == {"good", "defective"}
    pictures_of = [sorted((tmp_path / name / "maps").iterdir()) for name in ("here", "there")]
    assert len(pictures_of[0]) == 7
    for one, other in zip(*pictures_of, strict=True):
        assert one.read_bytes() == other.read_bytes()
    tables = [(tmp_path / name / "table.csv").read_text().splitlines() for name in found]
    assert len(tables[0]) == len(tables[1]) == 8
    assert tables[0][0] == tables[1][0]


def test_without_overlays_the_lines_are_the_same(
    capsys: pytest.CaptureFixture[str], root: Path, server: Running
) -> None:
    there = lines_of(capsys, root / "planks", "--server", server.address)
    assert there == lines_of(capsys, root / "planks")


def test_a_defect_fails_if_that_is_wanted(
    capsys: pytest.CaptureFixture[str], root: Path, server: Running
) -> None:
    for image, code in (("0.png", None), ("1.png", 1)):
        command = ["score", "weave", str(root / "planks" / image), "--server", server.address]
        if code is None:
            main([*command, "--fail-on-defect"])
        else:
            with pytest.raises(SystemExit) as exit_:
                main([*command, "--fail-on-defect"])
            assert exit_.value.code == code


def test_pictures_that_are_refused_do_not_keep_others_from_being_scored(
    capsys: pytest.CaptureFixture[str], root: Path, server: Running, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(root / "planks", tmp_path / "planks"))
    (folder / "2.png").write_bytes(b"no picture")
    images = [folder, folder / "absent.png"]
    with pytest.raises(SystemExit) as exit_:
        main(["score", "weave", *map(str, images), "--server", server.address])
    assert exit_.value.code == 2
    ended = capsys.readouterr()
    assert len(ended.out.splitlines()) == 6
    said = ended.err.splitlines()
    assert f"{folder / '2.png'}: These 10 bytes cannot be read as a picture" in said[0]
    assert "absent.png cannot be opened: No such file" in said[1]
    assert "2 of 8 images could not be scored" in said[2]


def test_a_key_comes_from_a_file_or_the_environment_and_without_one_it_is_refused(
    capsys: pytest.CaptureFixture[str],
    root: Path,
    key: str,
    server: Running,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("ZOO_SERVER_KEY")
    there = str(root / "planks" / "0.png"), "--server", server.address
    line = refused(capsys, "score", "weave", *there)
    assert f"The service at {server.address} refuses: A key is needed" in line
    (tmp_path / "key").write_text(f"{key}\n")
    assert len(lines_of(capsys, *there, "--key-file", tmp_path / "key")) == 1
    (tmp_path / "key").write_text("")
    assert "is empty" in refused(capsys, "score", "weave", *there, "--key-file", tmp_path / "key")
    monkeypatch.setenv("ZOO_SERVER_KEY", "with a blank")
    line = refused(capsys, "score", "weave", *there)
    assert "The key of the service has blanks" in line
    assert "with a blank" not in line


def test_a_detector_that_the_service_does_not_have_is_refused(
    capsys: pytest.CaptureFixture[str], root: Path, server: Running
) -> None:
    image = root / "planks" / "0.png"
    line = refused(capsys, "score", "waeve", image, "--server", server.address)
    assert "No detector 'waeve' here; there are weave. Did you mean 'weave'?" in line


def test_a_busy_service_is_asked_again(
    root: Path, key: str, capsys: pytest.CaptureFixture[str], tiny_bundle: Bundle
) -> None:
    busy = settings(root, keys=root / "keys", wait_s=0.001, most_waiting_bytes=6000)
    with running(busy) as server:
        lines = lines_of(capsys, root / "planks" / "[0-2].png", "--server", server.address)
        with Client(server.address, key=key) as client:
            text = client._pool.request(
                "GET", f"{server.address}/metrics", headers={"X-API-Key": key}
            ).data.decode()
    assert len(lines) == 3
    assert re.search(r'zoo_refused_total\{code="(busy|full)"\} [1-9]', text), "it was never busy"


def test_a_service_that_is_not_there_is_told_at_once(
    capsys: pytest.CaptureFixture[str], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "LOST_TRIES", 1)
    line = refused(capsys, "score", "weave", root / "planks", "--server", f"{HERE}:9")
    assert f"The service at {HERE}:9 cannot be reached" in line
    assert "Connection refused" in line


@pytest.mark.parametrize(
    "address",
    ["weave", "ftp://x", "http://", "http://me:pass@host", "//host", "http://[1", "http://a:b"],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="is no address of a service") as error:
        Client(address)
    assert "pass" not in str(error.value)


class Wrong(BaseHTTPRequestHandler):
    """Answers as something else would: by the number in the path of the address."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        kind = self.path.split("/")[1]
        body = {
            "html": b"<html>Welcome",
            "list": b"[]",
            "nan": b'{"score": NaN}',
            "map": _with_map("AAAA"),
            "large": _with_map("k05VTVBZAQB2AHsnZGVzY3InOiAnPGY0J30="),
            "redirect": b"",
            "proxy": b"Bad gateway",
        }[kind]
        self.send_response({"redirect": 307, "proxy": 502}.get(kind, 200))
        if kind == "redirect":
            self.send_header("Location", f"{HERE}:9/elsewhere")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def _with_map(packed: str) -> bytes:
    thresholds = {
        "picture": 1,
        "look_again": 1,
        "pixel": 1,
        "smallest_region": 1,
        "false_alarm_rate": 0.05,
        "false_alarm_interval": None,
        "rule": "normal",
    }
    answer = {
        "request_id": "1",
        "name": "weave",
        "texture": "weave",
        "version": 1,
        "digest": "",
        "picture": "",
        "verdict": "good",
        "is_anomalous": False,
        "score": 0.5,
        "thresholds": thresholds,
        "p_value": None,
        "anomalous_pixels": 0,
        "anomalous_share": 0,
        "regions": [],
        "statistics": {},
        "warnings": [],
        "height": 64,
        "width": 72,
        "seconds": 0.1,
        "map": packed,
    }
    return json.dumps(answer).encode()


@pytest.fixture(scope="module")
def other() -> Iterator[str]:
    """The address of a server that is no service of ours."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Wrong) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"{HERE}:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("html", "does not answer as a service of texture-zoo: its answer has 1 faults"),
        ("list", "does not answer as a service of texture-zoo"),
        ("nan", "does not answer as a service of texture-zoo"),
        ("redirect", "does not answer as a service of texture-zoo: it answers with status 307"),
        ("proxy", "does not answer as a service of texture-zoo: it answers with status 502"),
        ("map", "The service sent no map of 64x72 pixels"),
        ("large", "The service sent no map of 64x72 pixels"),
    ],
)
def test_what_is_no_service_of_ours_is_told(
    capsys: pytest.CaptureFixture[str],
    root: Path,
    other: str,
    kind: str,
    words: str,
    tmp_path: Path,
) -> None:
    image, out = root / "planks" / "0.png", tmp_path / "maps"
    line = refused(capsys, "score", "weave", image, "--server", f"{other}/{kind}", "--out", out)
    assert words in line


def test_a_service_that_ends_is_told_after_what_was_scored(
    root: Path, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "LOST_TRIES", 1)
    content = pictures(1)[0]
    with (
        running(settings(root, keys=root / "keys")) as server,
        Client(server.address, key=key) as client,
    ):
        assert client.score("weave", content).verdict == "good"
        server.stop()
        errors: list[Exception] = []
        until(lambda: _fails(client, content, errors), what="it goes on")
    assert isinstance(errors[0], StorageError), errors
    assert "cannot be reached" in str(errors[0])


def _fails(client: Client, content: bytes, errors: list[Exception]) -> bool:
    try:
        client.score("weave", content)
    except (StorageError, RefusedError) as error:
        errors.append(error)
    return bool(errors)


def test_a_client_follows_a_promotion(
    root: Path, key: str, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    shelf_with(tmp_path, [tiny_bundle])
    content = pictures(1)[0]
    with (
        running(settings(tmp_path, refresh_s=0.1)) as server,
        Client(server.address) as client,
    ):
        assert client.score("weave", content).version == 1
        promote(tmp_path, tiny_bundle, version=2)
        until(lambda: client.score("weave", content).version == 2, what="it does not follow")
