"""Paints patches with synthetic defects: in the process that trains, or ahead of it in others.

A GPU trains faster than one core paints. What is painted follows from a seed alone, so the number
of processes changes nothing in a detector.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from zoo.data.defects.fit_pictures import FitPictures, Style

CUTS_PER_PAINTING = 6  # patches cut from one painted image, because painting is slow
AT_ONCE = 4  # paintings that a process hands over together
MOST = 15  # processes; as many paint some thousand patches a second
ROOM = 2**30  # bytes of shared memory beside the pictures, for patches that wait
SHARED_MEMORY = "/dev/shm"

Seed = tuple[int, int, int]


def workers_for(device: torch.device, pictures: FitPictures) -> int:
    """Return the number of processes that paint for a training on this device.

    On a CPU it is 0: the training paints itself, because it uses the cores. On a GPU it is one for
    each thread of torch but the one that trains. It is 0 too where there is too little shared
    memory, as in a container that Docker starts without `--shm-size`, and in a daemonic process,
    which may have no children.
    """
    if device.type == "cpu" or multiprocessing.current_process().daemon:
        return 0
    need = ROOM + 2 * sum(each.nbytes for each in pictures.pixels)
    if shutil.disk_usage(SHARED_MEMORY).free < need:
        return 0
    return min(torch.get_num_threads() - 1, MOST)


class Cuts(Dataset[Tensor]):
    """Patches of paintings; a seed determines the painting and the patches."""

    def __init__(self, pictures: FitPictures, *, patch: int, style: Style) -> None:
        """Set what is painted; the arguments are those of `DefectPatches`."""
        self.pictures, self.patch, self.style = pictures, patch, style

    def __getitem__(self, seed: Seed) -> Float[Tensor, "k c p p"]:
        """Return patches of one painting, each with an edited pixel at a random place.

        Their channels are those before and after the painting, and the mask.
        """
        rng = np.random.default_rng(seed)
        made = self.pictures.painting(self.patch, rng, self.style)
        mask = torch.from_numpy(made.mask).to(made.after)[None]
        all_ = torch.cat([made.before, made.after, mask])
        places = rng.choice(np.argwhere(made.edited), CUTS_PER_PAINTING)
        corners = places - rng.integers(0, self.patch, places.shape)
        limit = np.array(made.mask.shape) - self.patch
        cuts = [
            all_[:, top : top + self.patch, left : left + self.patch]
            for top, left in corners.clip(0, limit)
        ]
        return torch.stack(cuts)


class Shared(Dataset[Tensor]):
    """A dataset whose arrays are in shared memory; a process that receives it copies none."""

    def __init__(self, dataset: Cuts) -> None:
        """Copy the arrays."""
        buffers: list[pickle.PickleBuffer] = []
        self.pickled = pickle.dumps(dataset, protocol=5, buffer_callback=buffers.append)
        arrays = [np.frombuffer(buffer.raw(), np.uint8) for buffer in buffers]
        ends = np.cumsum([-(-len(array) // 64) * 64 for array in arrays]).tolist()  # aligned
        self.memory = torch.empty(ends[-1], dtype=torch.uint8)
        self.memory.share_memory_()  # type: ignore[no-untyped-call]
        self.places = [
            slice(start, start + len(array))
            for start, array in zip([0, *ends], arrays, strict=False)
        ]
        for place, array in zip(self.places, arrays, strict=True):
            self.memory.numpy()[place] = array

    def __getitem__(self, seed: Seed) -> Float[Tensor, "k c p p"]:
        """Return what the dataset returns."""
        return self._opened[seed]

    @cached_property
    def _opened(self) -> Cuts:
        memory = self.memory.numpy().data
        opened: Cuts = pickle.loads(self.pickled, buffers=[memory[each] for each in self.places])
        return opened


def painting(
    cuts: Cuts, seeds: Iterable[Seed], *, workers: int, waiting: int, pinned: bool
) -> DataLoader[Tensor]:
    """Return a loader of the patches of `AT_ONCE` paintings at a time, in the order of the seeds.

    Args:
        cuts: What is painted.
        seeds: Of the paintings; they may be changed before the loader is iterated again.
        workers: Number of processes; with 0 this one paints. They live as long as the loader.
        waiting: Number of paintings that are painted ahead.
        pinned: Whether the patches are in memory from which a GPU copies while it computes.
    """
    dataset: Dataset[Tensor] = cuts
    ahead: dict[str, Any] = {}
    if workers:
        pictures = cuts.pictures.to_paint(placebos=cuts.style.placebos > 0)
        dataset = Shared(Cuts(pictures, patch=cuts.patch, style=cuts.style))
        # A fork of a process with threads, CUDA or Ray may hang. A server process without any of
        # them has imported this module once, and forks the workers.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        ahead = {
            "multiprocessing_context": context,
            "worker_init_fn": _begin_worker,
            "persistent_workers": True,
            "prefetch_factor": max(1, -(-waiting // (AT_ONCE * workers))),
        }
    return DataLoader(
        dataset,
        sampler=seeds,
        batch_size=AT_ONCE,
        collate_fn=torch.cat,
        num_workers=workers,
        pin_memory=pinned,
        generator=torch.Generator(),  # the loader would draw from the global one
        **ahead,
    )


@contextmanager
def without_main() -> Iterator[None]:
    """Start processes that do not import the user's script.

    Otherwise a script without `if __name__ == "__main__"` would train in each of them. They need
    nothing of it.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _begin_worker(number: int) -> None:
    """Use one thread, and end with the process that trains, also when that is killed."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
