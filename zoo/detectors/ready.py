"""A bundle that is built for one device, and the maps that it computes.

A plain detector computes one map. A fused detector computes one for each of its parts that has a
weight, on a CPU several beside each other, and adds their log tails.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from registry.bundle import Bundle
from zoo.data.preprocessing import prepare
from zoo.detectors.card import Card, read, tensors_of, unfit
from zoo.detectors.devices import moved
from zoo.detectors.limits import BEYOND
from zoo.errors import BadImageError, BundleError
from zoo.methods import Losses
from zoo.scoring.aggregation import anomaly_map
from zoo.scoring.fusion import log_tail
from zoo.scoring.maps import enlarge

MOST_PIXELS = 2**28  # of a picture, 16384x16384: its maps alone need about ten gigabytes
LARGE = 2**24  # values of pictures beside which nothing else is computed, for the memory
Pictures = Sequence[Shaped[np.ndarray, "h w c"]]  # of the same size
Weights = Sequence[float]  # of each pipeline in a map


@dataclass(frozen=True, kw_only=True)
class Ready:
    """A bundle and what is built from it; replaced as a whole, so no score mixes two bundles.

    Attributes:
        bundle: The bundle.
        card: Its card, checked.
        losses: The loss function of each pipeline; None for a part that has no weight.
        device: Where to compute.
    """

    bundle: Bundle
    card: Card
    losses: tuple[Losses | None, ...]
    device: torch.device

    def losses_of(self, at: int, pictures: Pictures) -> Float[Tensor, "b t h2 w2"]:
        """Return the losses of a pipeline, at its scale.

        Raises:
            BadImageError: The pictures are too small or too large for this detector.
            ConfigError: The process was made by fork and cannot use the device.
        """
        height, width = pictures[0].shape[:2]
        self._check_size(height, width)
        compute, preprocessing = self.losses[at], self.card.pipelines[at].preprocessing
        assert compute is not None  # only what has a weight is asked for
        x = torch.stack([prepare(pixels, preprocessing) for pixels in pictures])
        return compute(moved(x, self.device))

    @contextmanager
    def enough_memory(self, pixels: Shaped[np.ndarray, "h w c"]) -> Iterator[None]:
        """Turn an error of missing memory in the block into one that says what to do.

        Args:
            pixels: The picture that the block scores, or one of several.

        Raises:
            BadImageError: There is not enough memory.
        """
        try:
            yield
        except (MemoryError, RuntimeError) as error:  # torch has no type of its own for the CPU
            if "memory" not in str(error) and not isinstance(error, MemoryError):
                raise
            height, width = pixels.shape[:2]
            raise BadImageError(
                f"There is not enough memory on {self.device} for an image of {height}x{width} "
                "pixels. Cut it into pieces, or score fewer at a time."
            ) from error

    def values(self, at: int, pictures: Pictures) -> Iterator[Float[Tensor, "h w"]]:
        """Yield the map of each picture by a pipeline; for a part of a fusion, its log tail.

        Raises:
            BadImageError: The pictures are too small or too large for this detector.
            BundleError: A map is not finite.
        """
        height, width = pictures[0].shape[:2]
        calibration, fusion = self.card.pipelines[at].calibration, self.card.fusion
        for losses in self.losses_of(at, pictures):
            found = enlarge(anomaly_map(losses, calibration), height, width)
            if not -BEYOND < found.min() <= found.max() < BEYOND:
                raise BundleError(
                    f"The detector '{self.bundle.texture}' gives this image an anomaly of "
                    f"{found.max():.3g}: its calibration or its weights are damaged. "
                    "Fetch or promote it again."
                )
            yield log_tail(found, fusion.tails[at]) if fusion else found

    def maps(
        self, pictures: Pictures, *sums: Weights
    ) -> list[tuple[Float[np.ndarray, "h w"], ...]]:
        """Return for each picture the maps with these weights; each pipeline is computed once.

        Args:
            pictures: Pictures of the same size.
            sums: The weights of each map: those of the card, of the map or of the score.

        Raises:
            BadImageError: As in `values`.
            BundleError: As in `values`.
        """
        totals: list[list[Tensor | None]] = [[None] * len(sums) for _ in pictures]
        shares = {at: each for at, each in enumerate(zip(*sums, strict=True)) if any(each)}
        for weights, values in zip(
            shares.values(), self._values_of(list(shares), pictures), strict=True
        ):
            for total, found in zip(totals, values, strict=True):
                for turn, weight in enumerate(weights):
                    if weight:
                        before = total[turn]
                        total[turn] = weight * found if before is None else before + weight * found
        return [tuple(_array(each) for each in total) for total in totals]

    def _values_of(
        self, pipelines: Sequence[int], pictures: Pictures
    ) -> Iterable[Sequence[Float[Tensor, "h w"]]]:
        """Return the maps of each pipeline.

        On a CPU pipelines share the threads, as some steps of each use one thread in any case.
        """
        alone = self.device.type != "cpu" or sum(each.size for each in pictures) > LARGE
        threads = torch.get_num_threads()
        at_once = 1 if alone else min(threads, len(pipelines))

        def values(at: int) -> list[Tensor]:
            return list(self.values(at, pictures))

        if at_once < 2:
            return map(values, pipelines)
        # torch has a number of threads for each thread of Python; a new one has the last that was
        # set anywhere.
        pool = ThreadPoolExecutor(
            at_once, "part", initializer=lambda: torch.set_num_threads(threads // at_once)
        )
        try:
            with pool:
                found = [pool.submit(values, at) for at in pipelines]
        except RuntimeError:  # no thread can be started, or the main thread has ended
            return map(values, pipelines)
        finally:
            torch.set_num_threads(threads)
        return [each.result() for each in found]

    def _check_size(self, height: int, width: int) -> None:
        if height * width > MOST_PIXELS:
            raise BadImageError(
                f"The image has {height}x{width} pixels; at most {MOST_PIXELS / 1e6:.0f} "
                "megapixels can be scored at once. Cut it into pieces."
            )
        used = [each for each, use in zip(self.card.pipelines, self.card.used, strict=True) if use]
        side = min(height, width)
        if any(max(1, round(side * p.preprocessing.scale)) < p.method.patch for p in used):
            need = max(each.smallest(each.method.patch) for each in used)
            raise BadImageError(
                f"The image has {height}x{width} pixels; the detector '{self.bundle.texture}' was "
                f"trained on patches of {need:.0f}x{need:.0f} pixels of it. Score larger images."
            )


def built(bundle: Bundle, device: torch.device) -> Ready:
    """Check a bundle and build its methods; a part of no weight is checked only.

    Raises:
        BundleError: The method, the configuration or the weights do not fit this version.
    """
    card = read(bundle)
    losses: list[Losses | None] = []
    sources = bundle.parts or (bundle,)
    for source, pipeline, use in zip(sources, card.pipelines, card.used, strict=True):
        try:
            losses.append(pipeline.losses(tensors_of(source, device)) if use else None)
        except (RuntimeError, TypeError, ValueError) as error:
            raise unfit(bundle, error) from error
    return Ready(bundle=bundle, card=card, losses=tuple(losses), device=device)


def _array(found: Tensor | None) -> Float[np.ndarray, "h w"]:
    assert found is not None  # a card has no weights that are all 0
    return np.asarray(found.cpu().numpy())
