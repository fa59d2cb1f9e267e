"""Painting in other processes: the same patches, no process left, no script run twice."""

from __future__ import annotations

import copy
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.processes import descendants
from tests.textures_drawn import draw
from zoo.data.defects.fit_pictures import FitPictures, Style
from zoo.data.preprocessing import Preprocessing
from zoo.methods.fcbigan import defect_patches, painters, training
from zoo.methods.fcbigan.config import NetworkConfig, TrainConfig
from zoo.methods.fcbigan.defect_patches import USES, DefectPatches
from zoo.methods.fcbigan.painters import Cuts, Shared, workers_for
from zoo.methods.protocol import Progress, Report, State

SHAPE = NetworkConfig(
    patch=16, depth=2, discriminator_depth=2, segmenter_depth=3, width=4, latent_channels=4,
    segmenter=True,
)  # fmt: skip
CONFIG = TrainConfig(
    megapixels=4 * 2 * 8 * 16**2 / 1e6, batch=8, defect_rounds=1, placebo_share=0.5, reports=2
)
CPU = torch.device("cpu")
# A user's script: no guard, and it trains with two painters.
SCRIPT = """
import multiprocessing, time
import torch
from zoo.methods.fcbigan import defect_patches, training
from zoo.methods.fcbigan.config import NetworkConfig, TrainConfig
print("begun", flush=True)
defect_patches.DEFECT_POOL = 48
torch.set_num_threads(1)
training.workers_for = lambda *_: 2
shape = NetworkConfig(
    patch=16, depth=2, discriminator_depth=2, segmenter_depth=3, width=4, latent_channels=4,
    segmenter=True,
)
def report(progress):
    print("painters", *(each.pid for each in multiprocessing.active_children()), flush=True)
    time.sleep({wait})
training.fit(
    [torch.rand(1, 40, 48) * 2 - 1],
    training.new_networks(shape, channels=1, seed=0),
    TrainConfig(megapixels=0.01, batch=8, defect_rounds=1, reports=1, fixed_patches=0),
    generator=torch.Generator().manual_seed(0),
    report=report,
)
print("left", len(multiprocessing.active_children()), flush=True)
"""


@pytest.fixture(scope="module")
def pictures() -> FitPictures:
    rng = np.random.default_rng(0)
    return FitPictures(
        [draw(64, 71, rng), draw(41, 64, rng)], Preprocessing(mode="L", scale=0.75), device=CPU
    )


def trained(
    pictures: FitPictures, report: Report = lambda progress: None, state: State | None = None
) -> dict[str, Tensor]:
    networks = training.fit(
        pictures,
        training.new_networks(SHAPE, channels=1, seed=0),
        CONFIG,
        generator=torch.Generator().manual_seed(0),
        report=report,
        state=state,
    )
    return {name: tensor.clone() for name, tensor in networks.state_dict().items()}


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert len(one) > 20
    assert one.keys() == other.keys()
    assert all(tensor.equal(other[name]) for name, tensor in one.items())


@pytest.fixture
def small_pools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(defect_patches, "DEFECT_POOL", 48)


@pytest.mark.usefixtures("small_pools")
def test_any_number_of_painters_trains_the_same_detector_and_none_is_left(
    pictures: FitPictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = trained(pictures)
    monkeypatch.setattr(training, "workers_for", lambda *_: 2)
    seen: list[int] = []
    states: list[State] = []

    def report(progress: Progress) -> None:
        seen.append(len(multiprocessing.active_children()))
        states.append(copy.deepcopy(progress.state))

    assert_equal(trained(pictures, report), alone)
    assert seen == [2, 2]
    assert not multiprocessing.active_children()
    assert_equal(trained(pictures, state=states[0]), alone)


@pytest.mark.usefixtures("small_pools")
def test_painters_end_when_a_report_stops_the_training(
    pictures: FitPictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "workers_for", lambda *_: 1)

    def report(progress: Progress) -> None:
        raise KeyboardInterrupt(len(multiprocessing.active_children()))

    with pytest.raises(KeyboardInterrupt, match="1"):
        trained(pictures, report)
    assert not multiprocessing.active_children()


@pytest.mark.usefixtures("small_pools")
@pytest.mark.parametrize("workers", [0, 2])
def test_pools_follow_from_the_generator_and_their_number_only(
    pictures: FitPictures, workers: int
) -> None:
    generator = torch.Generator().manual_seed(5)
    seed = int(torch.randint(2**31, (), generator=torch.Generator().manual_seed(5)))
    cuts = Cuts(pictures, patch=16, style=Style(placebos=1.0, soft=True))
    users = torch.get_rng_state()
    with closing(
        DefectPatches(
            pictures,
            patch=16,
            generator=generator,
            style=Style(placebos=1.0, soft=True),
            workers=workers,
        )
    ) as fakes:
        fakes.begin(3 * USES * 48)
        for pool in range(3):
            expected = torch.cat([cuts[seed, pool, each] for each in range(48 // 6)])
            assert fakes.pool.equal(expected)
            fakes.draw(USES * 48, rotations=False)
            if pool < 2:
                fakes.draw(0, rotations=False)
        fakes.begin(1)
        assert not fakes.pool.equal(expected)
    assert torch.get_rng_state().equal(users), "the global generator is the user's"


def test_shared_pictures_are_painted_on_as_they_are_and_copied_once() -> None:
    rng = np.random.default_rng(0)
    pixels = [draw(41, 53, rng), draw(64, 71, rng)]
    pictures = FitPictures(pixels, Preprocessing(mode="L"), device=CPU).to_paint(placebos=True)
    cuts = Cuts(pictures, patch=16, style=Style(placebos=1.0))
    shared = Shared(cuts)
    assert len(shared.pickled) < sum(each.nbytes for each in pixels) / 2
    assert shared[1, 2, 3].equal(cuts[1, 2, 3])
    opened = shared._opened.pictures
    assert "donors" in opened.__dict__, "each process would measure them again"
    assert len(opened.pixels) == 2
    memory = shared.memory.numpy()
    assert all(np.shares_memory(each, memory) for each in [*opened.pixels, *opened.donors.images])
    assert all(each.flags.aligned for each in opened.donors.images)


def test_painters_are_the_other_threads_of_a_training_on_a_gpu(
    pictures: FitPictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu, found = torch.device("cuda"), {}
    monkeypatch.setattr(painters, "ROOM", 0)
    for threads in (1, 8, 64):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        found[threads] = workers_for(gpu, pictures)
        assert workers_for(CPU, pictures) == 0
    assert found == {1: 0, 8: 7, 64: 15}
    monkeypatch.setattr(painters, "ROOM", 2**60)
    assert workers_for(gpu, pictures) == 0, "there is not so much shared memory"


@pytest.mark.parametrize("as_file", [True, False])
def test_a_script_without_a_guard_trains_once(as_file: bool, tmp_path: Path) -> None:
    script = SCRIPT.format(wait=0)
    (tmp_path / "script.py").write_text(script)
    command = [str(tmp_path / "script.py")] if as_file else ["-c", script]
    ended = subprocess.run(
        [sys.executable, "-W", "error", *command], capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 0, ended.stderr
    begun, painting, left = ended.stdout.splitlines()
    assert begun == "begun"
    assert len(painting.split()) == 3
    assert left == "left 0"
    assert not ended.stderr


def test_painters_end_with_a_training_that_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(wait=600)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.stdout.readline()
        started = set(descendants(process.pid)) - {process.pid}
        os.kill(process.pid, signal.SIGKILL)
    assert len(started) >= 3, "the server and two painters"
    deadline = time.monotonic() + 30
    while left := {each for each in started if _runs(each)}:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def _runs(process: int) -> bool:
    """Return whether a process exists and has not ended."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
