"""A detector works in other processes and threads as it does in the one that loaded it.

Each test runs a script in a Python of its own with several threads, as a user's program has: the
tests themselves compute with one thread, which has nothing to wait for.
"""

from __future__ import annotations

import copy
import os
import pickle
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

import zoo
from registry import bundle
from registry.bundle import Bundle
from registry.folder_shelf import FolderShelf
from tests.exams import publish
from tests.processes import free_port, same_imports
from tests.textures_drawn import draw
from zoo.detectors.detector import Detector
from zoo.errors import ConfigError

PATIENCE_S = 100.0  # a script takes less than ten seconds of one core
BEGIN = """
import multiprocessing, os, sys
import cv2, numpy as np, torch, zoo
torch.set_num_threads(2)
cv2.setNumThreads(4)
pictures = [np.random.default_rng(n).integers(0, 255, (256, 320, 1), np.uint8) for n in range(3)]

def result(at):
    found = detector.score(pictures[at])
    return found.map.tobytes(), found.regions

if __name__ == "__main__":
    detector = zoo.load("weave", shelf=sys.argv[1])
    assert torch.get_num_threads() == 2
    expected = [result(at) for at in range(3)]
    # With one thread as in a child, since another number of threads may change the last digits.
    torch.set_num_threads(1)
    one = [result(at) for at in range(3)]
    torch.set_num_threads(2)
    result(0)
"""
WAYS = {
    "multiprocessing": """
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(result, range(3), chunksize=1) == one
""",
    "a server that forks after it has loaded": """
    children = []
    for _ in range(2):
        child = os.fork()
        if not child:
            os._exit(0 if [result(at) for at in range(3)] == one else 1)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
""",
    "workers of a DataLoader": """
    class Scored(torch.utils.data.Dataset):
        def __len__(self):
            return 3
        def __getitem__(self, at):
            return result(at)
    from torch.utils.data import DataLoader
    loader = DataLoader(Scored(), 1, num_workers=2, multiprocessing_context="fork",
                        collate_fn=lambda batch: batch[0])
    assert list(loader) == one
""",
    "the threads of one process": """
    from concurrent.futures import ThreadPoolExecutor
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(result, [0, 1, 2] * 4)) == expected * 4
""",
}
SPAWNED = """
import multiprocessing, sys, zoo, numpy as np
picture = np.random.default_rng(0).integers(0, 255, (64, 72, 1), np.uint8)

def score(detector, queue):
    queue.put((detector.score(picture).score, repr(detector)))

if __name__ == "__main__":
    detector, context = zoo.load("weave", shelf=sys.argv[1]), multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=score, args=(detector, queue))
    process.start()
    found = queue.get(timeout=60)
    process.join()
    assert found == (detector.score(picture).score, repr(detector))
"""


SERVED = """
import os, cv2, numpy as np, torch, zoo
torch.set_num_threads(2)
cv2.setNumThreads(4)
picture = np.random.default_rng(0).integers(0, 255, (256, 320, 1), np.uint8)
detector = zoo.load("weave", shelf=os.environ["SHELF"])
loaded_by, first = os.getpid(), detector.score(picture).score  # the threads of torch have started

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    found = detector.score(picture).score
    return [f"{loaded_by} {os.getpid()} {abs(found - first) < 1e-4}".encode()]
"""


def run(script: str, folder: Path) -> None:
    """Run a script in a Python of its own, which must end well and soon."""
    (folder / "script.py").write_text(script)
    process = subprocess.Popen(
        [sys.executable, str(folder / "script.py"), str(folder / "shelf")],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        | same_imports(),
    )
    try:
        _, said = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, said
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its children too, if they wait forever
        process.communicate()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.usefixtures("shelf")
def test_a_detector_that_has_scored_with_many_threads_scores_the_same_in(
    way: str, tmp_path: Path
) -> None:
    run(BEGIN + WAYS[way], tmp_path)


@pytest.mark.skipif(find_spec("gunicorn") is None, reason="gunicorn is not installed")
@pytest.mark.usefixtures("shelf")
def test_the_workers_of_gunicorn_score_with_a_detector_that_was_loaded_before_they_were_forked(
    tmp_path: Path,
) -> None:
    (tmp_path / "served.py").write_text(SERVED)
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "--preload", "--workers", "3", "--threads", "2"]
    command += ["--bind", f"127.0.0.1:{port}", "--chdir", str(tmp_path), "served:app"]
    environment = os.environ | same_imports() | {"SHELF": str(tmp_path / "shelf")}
    environment.pop("OMP_NUM_THREADS", None)
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            command, stdout=log, stderr=log, env=environment, start_new_session=True
        )

    def asked(_: int) -> list[str]:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=PATIENCE_S) as answer:
            return str(answer.read().decode()).split()

    try:
        deadline = time.monotonic() + PATIENCE_S
        while b"Booting worker" not in (tmp_path / "log").read_bytes():
            assert server.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(asked, range(24)))
        server.terminate()
        assert server.wait(timeout=PATIENCE_S) == 0
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()
    assert {same for _, _, same in answers} == {"True"}
    assert {int(parent) for parent, _, _ in answers} == {server.pid}
    assert len({worker for _, worker, _ in answers} - {str(server.pid)}) > 1


@pytest.mark.usefixtures("shelf")
def test_a_detector_is_sent_to_a_process_that_is_spawned(tmp_path: Path) -> None:
    run(SPAWNED, tmp_path)


def test_a_child_that_was_forked_during_a_refresh_can_refresh_too(
    shelf: FolderShelf, tmp_path: Path
) -> None:
    detector = zoo.load("weave", shelf=str(tmp_path / "shelf"))
    with detector._looking:  # as another thread holds it while it loads
        child = os.fork()
        if not child:
            free = detector._looking.acquire(blocking=False)
            os._exit(0 if free else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert detector.refresh() is False


COPIES: dict[str, Callable[[Detector], Detector]] = {
    "pickle": lambda detector: pickle.loads(pickle.dumps(detector)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


@pytest.mark.parametrize("way", COPIES)
def test_a_copy_of_a_detector_scores_the_same_and_knows_its_version_after_a_refresh(
    shelf: FolderShelf, tiny_bundle: Bundle, tmp_path: Path, way: str
) -> None:
    detector = zoo.load("weave", shelf=str(tmp_path / "shelf"))
    picture = draw(64, 72, np.random.default_rng(0))
    copied = COPIES[way](detector)
    assert copied.score(picture).map.tobytes() == detector.score(picture).map.tobytes()
    assert (copied.digest, copied.version) == (detector.digest, 1)

    bundle.save(bundle.with_metrics(tiny_bundle, {"test_image_auroc": 0.5}), tmp_path / "newer")
    publish(shelf, tmp_path / "newer", texture="weave", version=2)
    first = detector.digest
    assert detector.refresh()
    copied = COPIES[way](detector)
    assert (copied.digest, copied.version) == (detector.digest, detector.version)
    assert copied.digest != first
    assert copied.refresh() is False


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA here")
def test_a_detector_on_cuda_says_in_a_forked_child_what_to_do(tiny_bundle: Bundle) -> None:
    detector, picture = Detector(tiny_bundle, device="cuda"), np.zeros((64, 72), np.uint8)
    detector.score(picture)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        said = []
        for call in (lambda: detector.score(picture), lambda: Detector(tiny_bundle, device="cuda")):
            try:
                call()
            except ConfigError as error:
                said.append(str(error))
        os.write(writing, "\n".join(said).encode())
        os._exit(0)
    os.waitpid(child, 0)
    lines = os.read(reading, 10_000).decode().splitlines()
    assert len(lines) == 2
    assert all("made by fork" in line and "'spawn'" in line for line in lines)
