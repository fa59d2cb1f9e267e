"""`zoo serve` as a process: when it starts, when it refuses to, and how it ends."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.commands import refused
from tests.processes import same_imports, until
from tests.serve.services import SECONDS, pictures, promote, shelf_with
from zoo.detectors import Detector

if TYPE_CHECKING:
    from registry.bundle import Bundle
    from zoo.training.fit import Checkpoint

ZOO = Path(sys.executable).parent / "zoo"
SCORE = "/v1/detectors/weave/score"


@pytest.fixture
def home(tmp_path: Path, tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with one detector."""
    shelf_with(tmp_path, [tiny_bundle])
    monkeypatch.delenv("ZOO_SHELF", raising=False)
    monkeypatch.setenv("ZOO_HOME", str(tmp_path))
    return tmp_path


@dataclass
class Process:
    """`zoo serve` in another process.

    Attributes:
        process: The process.
        port: Where it listens.
        lines: What it has written to stderr.
        trusted: Certificates that are trusted; None for plain HTTP.
    """

    process: subprocess.Popen[str]
    port: int
    lines: list[str]
    trusted: ssl.SSLContext | None

    def get(self, url: str) -> int:
        """Return the status of a GET; 0 if there is no answer."""
        made = (
            http.client.HTTPSConnection("localhost", self.port, timeout=5, context=self.trusted)
            if self.trusted
            else http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        )
        with closing(made) as connection:
            try:
                connection.request("GET", url)
                return connection.getresponse().status
            except OSError:
                return 0

    def ended(self) -> int:
        """Return the exit code, after the end."""
        return self.process.wait(SECONDS)


@contextmanager
def serving(home: Path, *options: str, trusted: ssl.SSLContext | None = None) -> Iterator[Process]:
    """Run `zoo serve` at a free port until it is ready; kill it at the end if it has not ended."""
    environment = os.environ | {"ZOO_HOME": str(home), "OMP_NUM_THREADS": "1"} | same_imports()
    process = subprocess.Popen(
        [ZOO, "serve", "--port", "0", "--refresh", "0.2", *options],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    made = Process(process, 0, [], trusted)
    said = process.stderr
    assert said is not None
    reader = threading.Thread(target=lambda: made.lines.extend(iter(said.readline, "")))
    reader.start()
    try:
        until(lambda: bool(made.lines), what="it says nothing")
        found = re.search(r"://[^/]+:(\d+)/", made.lines[0])
        assert found, made.lines
        made.port = int(found[1])
        until(lambda: made.get("/readyz") == 200, what="it is not ready")
        yield made
    finally:
        process.kill()
        process.wait()
        reader.join(SECONDS)
        said.close()


class Load:
    """Clients that send pictures one after the other, each on one connection, until told to stop.

    Attributes:
        answers: All answers with status 200.
        statuses: All others.
        lost: Requests that were sent whole, to a server that took connections, without an answer.
    """

    def __init__(self, port: int, *, clients: int = 6) -> None:
        self._port, self._stopped = port, threading.Event()
        self._contents = pictures(8)
        self.answers: list[dict[str, Any]] = []
        self.statuses: list[int] = []
        self.lost: list[str] = []
        self._threads = [threading.Thread(target=self._run, args=(at,)) for at in range(clients)]
        for each in self._threads:
            each.start()

    def stop(self) -> None:
        """Let each client end after its present request."""
        self._stopped.set()
        for each in self._threads:
            each.join(SECONDS)

    def _run(self, at: int) -> None:
        while not self._stopped.is_set():
            made = http.client.HTTPConnection("127.0.0.1", self._port, timeout=SECONDS)
            with closing(made) as connection:
                try:
                    connection.connect()
                except OSError:
                    return  # it listens no longer
                at = self._use(connection, at)

    def _use(self, connection: http.client.HTTPConnection, at: int) -> int:
        """Send pictures over one connection until it or the load ends."""
        while not self._stopped.is_set():
            content = self._contents[at % len(self._contents)]
            at += 1
            try:
                connection.request("POST", SCORE, content)
                reply = connection.getresponse()
                body = reply.read()
            except (OSError, http.client.HTTPException) as error:
                self.lost.append(f"{type(error).__name__}: {error}")
                break
            if reply.status == 200:
                self.answers.append(json.loads(body) | {"content": content})
            else:
                self.statuses.append(reply.status)
            if reply.will_close:
                break
        return at


def test_under_load_a_promotion_gives_no_wrong_answer_and_sigterm_loses_none(
    home: Path, tiny_checkpoints: Sequence[Checkpoint]
) -> None:
    first, second = tiny_checkpoints[-1].bundle, tiny_checkpoints[0].bundle
    with serving(home) as server:
        load = Load(server.port)
        until(lambda: bool(load.answers), what="no load")
        digests = {str(load.answers[0]["digest"]): first}
        for version, made in ((2, second), (3, replace(first, data={"again": True}))):
            digests[promote(home, made, version=version)] = made
            until(partial(_answers, load, version), what="the new champion does not answer")
        server.process.send_signal(signal.SIGTERM)
        assert server.ended() == 128 + signal.SIGTERM
        load.stop()
    assert (load.lost, load.statuses) == ([], [])
    said = [line for line in server.lines if '" 200 ' in line and "POST" in line]
    assert len(said) == len(load.answers), "each request is a line of the log"
    assert any("Finishing what was accepted" in line for line in server.lines)
    assert not any("Traceback" in line for line in server.lines)
    assert list(digests) == list(
        dict.fromkeys(each["digest"] for each in sorted(load.answers, key=lambda x: x["version"]))
    )
    detectors = {digest: Detector(made) for digest, made in digests.items()}
    expected: dict[tuple[str, bytes], float] = {}
    for answer in load.answers:
        key = answer["digest"], answer["content"]
        if key not in expected:
            expected[key] = detectors[key[0]].score(key[1]).score
        assert answer["score"] == pytest.approx(expected[key], abs=1e-4)
    assert len({round(score, 4) for score in expected.values()}) > 8, "of two detectors at least"


def _answers(load: Load, version: int) -> bool:
    return bool(load.answers[-1]["version"] == version)


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate of localhost that signs itself, and its private key."""
    pem, key = tmp_path / "tls.pem", tmp_path / "tls.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*command, "-out", pem, "-keyout", key], check=True, capture_output=True)
    return pem, key


def test_ctrl_c_waits_for_a_slow_body_over_https(
    home: Path, certificate: tuple[Path, Path]
) -> None:
    content, (pem, key) = pictures(1)[0], certificate
    trusted = ssl.create_default_context(cafile=str(pem))
    options = ["--certificate", str(pem), "--private-key", str(key)]
    with serving(home, *options, trusted=trusted) as server:
        assert server.lines[0].startswith("Serving at https://127.0.0.1:")
        plain = socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS)
        with plain, trusted.wrap_socket(plain, server_hostname="localhost") as slow:
            head = f"POST {SCORE} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}"
            slow.sendall(f"{head}\r\n\r\n".encode() + content[:100])
            time.sleep(0.3)
            server.process.send_signal(signal.SIGINT)
            until(lambda: server.get("/livez") == 0, what="it still listens")
            slow.sendall(content[100:])
            reply = slow.recv(2**16)
        assert reply.startswith(b"HTTP/1.1 200 OK")
        assert b"connection: close" in reply
        assert server.ended() == 128 + signal.SIGINT


def test_a_port_that_is_taken_is_refused(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refused(capsys, "serve", "--port", str(port))
    assert f"Cannot listen at port {port} of 127.0.0.1: another program has it" in line


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--host", "0.0.0.0"], "At 0.0.0.0 other machines can reach the service, and it has no"),
        (["--host", "::"], "and it has no keys. Make one with `zoo serve --new-key LABEL`"),
        (["--host", "203.0.113.7"], "has no keys"),
        (["--host", "no such host"], "has no keys"),
        (["--keys", "none"], "Cannot read the keys none"),
        (["waeve"], "No detector 'waeve' here; there are"),
        (["../weave"], "'../weave' is no detector's name"),
        (["--device", "cuda:99"], "cuda:99"),
        (["--port", "70000"], "is no port from 0 to 65535"),
        (["--keep-pictures"], "there is no journal"),
        (["--max-megapixels", "400"], "most_megapixels is 400"),
        (["--private-key", "key.pem"], "--private-key is the key of a certificate"),
        (["--certificate", "none.pem"], "none.pem cannot be used as the certificate"),
        (["--new-key", "a\nb"], "is no label of a key"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, list) else "",
)
def test_what_cannot_be_served_is_refused_in_one_line(
    home: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    assert words in refused(capsys, "serve", "--port", "0", *options)


def test_a_key_is_printed_once_and_the_file_of_the_home_is_used(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from zoo.cli import main
    from zoo.serve.keys import Keys

    main(["serve", "--new-key", "line 3"])
    printed = capsys.readouterr()
    key = printed.out.strip()
    assert Keys(home / "service-keys").owner(key) == "line 3"
    assert key not in printed.err
    line = refused(capsys, "serve", "--host", "203.0.113.7", "--port", "0")
    assert "Cannot listen at port 0 of 203.0.113.7: that is no address of this machine" in line
