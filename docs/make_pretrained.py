"""Train the weights from which a segmenter may start: `make pretrained`, an hour on two cores.

The segmenter of FCBiGAN is trained as in a search, but on drawn textures (drawn_textures.py), each
for a short while, so that it learns what a defect is on any material. A search leaves out some
families of defects, which then judge its trials; they rotate over its seeds. Weights that had seen
them would be no fair start, so there is a file of weights for each rotation.

The same machine makes the same bytes.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import Pool

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from docs.drawn_textures import material
from zoo.data.defects.families import ROTATIONS, held_out
from zoo.data.defects.fit_pictures import FitPictures, Style
from zoo.data.patches import Patches, augment
from zoo.data.preprocessing import Preprocessing, intensity_range
from zoo.methods.fcbigan import pretrained
from zoo.methods.fcbigan.config import PRETRAINED, NetworkConfig, TrainConfig
from zoo.methods.fcbigan.networks import Networks, initialise
from zoo.methods.fcbigan.painters import Cuts
from zoo.methods.fcbigan.training import Players, half_precision, spot

ROUNDS = 7_000
PATCH, TEXTURES_A_ROUND, HALF = 64, 4, 2  # a round has HALF good and HALF painted patches of each
ALIVE, LIFE = 12, 48  # textures that are used by turns, and the rounds after which one is replaced
PICTURES, PAINTINGS = 6, 12  # of a texture
TAUGHT = TrainConfig(defect_rounds=1, defect_learning_rate=2e-3, defect_ema=0.995)  # as in a search


@dataclass(kw_only=True)
class Texture:
    """Patches of one drawn texture, in [-1, 1], under benign variation.

    Attributes:
        good: Without a change.
        painted: With defects and placebos.
        masks: Where `painted` is defective.
        left: Rounds that it will still be used in.
    """

    good: Float[Tensor, "g 3 p p"]
    painted: Float[Tensor, "n 3 p p"]
    masks: Bool[Tensor, "n p p"]
    left: int = LIFE

    def drawn(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return HALF good and HALF painted patches, and their masks."""
        painted = torch.from_numpy(rng.integers(0, len(self.painted), HALF))
        good = torch.from_numpy(rng.integers(0, len(self.good), HALF))
        masks = self.masks[painted]
        both = torch.cat([self.good[good], self.painted[painted]])
        return both, torch.cat([torch.zeros_like(masks), masks])


def texture(rotation: int, number: int) -> Texture:
    """Draw a texture, and paint on it as a search with this rotation does."""
    rng = np.random.default_rng((rotation, number))
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    made = material(rng)
    pixels = [made.picture(rng) for _ in range(PICTURES)]
    low, high = intensity_range(pixels)
    pictures = FitPictures(
        pixels,
        Preprocessing(mode="RGB", scale=float(rng.choice((1.0, 0.75, 0.5))), low=low, high=high),
        device=torch.device("cpu"),
        optics=made.optics,
        unseen=held_out(rotation),
    )
    style = Style(
        placebos=float(rng.choice((0.0, 0.5))),
        soft=bool(rng.random() < 0.3),
        contrasts=(float(rng.choice((0.05, 0.4))), 1.0),
    )
    cuts = Cuts(pictures, patch=PATCH, style=style)
    painted = torch.cat([cuts[rotation, number, each] for each in range(PAINTINGS)])
    good = Patches(pictures.canvas(), patch=PATCH, generator=generator, rotations=True)
    variation = float(rng.choice((0.25, 0.5, 1.0)))
    first, second = (
        pictures.varied(each, variation, generator=generator)
        for each in (good.draw(len(painted)), painted[:, 3:-1])
    )
    return Texture(good=first, painted=second, masks=painted[:, -1] > 0)


def rounds(rotation: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the patches and masks of each round."""
    rng = np.random.default_rng(rotation)
    generator = torch.Generator().manual_seed(rotation)
    numbers = iter(range(10**9))
    alive = [texture(rotation, next(numbers)) for _ in range(ALIVE)]
    for each in alive:
        each.left = int(rng.integers(1, LIFE + 1))  # so that they are not replaced together
    for _ in range(ROUNDS):
        picks = rng.choice(ALIVE, TEXTURES_A_ROUND, replace=False)
        drawn = [alive[pick].drawn(rng) for pick in picks]
        x, masks = (torch.cat(each) for each in zip(*drawn, strict=True))
        both = augment(torch.cat([x, masks[:, None]], 1), generator=generator, rotations=True)
        x, masks = both[:, :3], both[:, 3] > 0
        if rng.random() < 0.5:  # grey, as most textures are
            x = x.mean(1, keepdim=True).expand_as(x)
        if rng.random() < 0.5:
            x = -x
        yield x.contiguous(memory_format=torch.channels_last), masks
        for pick in picks:
            alive[pick].left -= 1
            if not alive[pick].left:
                alive[pick] = texture(rotation, next(numbers))


class Learner:
    """The segmenter of one shape, trained as in a search."""

    def __init__(self, width: int, depth: int) -> None:
        """Draw its weights."""
        shape = NetworkConfig(patch=PATCH, width=width, segmenter_depth=depth, segmenter=True)
        networks = Networks(shape, channels=3)
        assert networks.segmenter is not None
        initialise(networks.segmenter, torch.Generator().manual_seed(0))
        networks.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.players, self.losses = Players(networks, TAUGHT), deque[float](maxlen=500)

    def learn(self, x: Tensor, masks: Tensor, share: float) -> None:
        """Do a round; `share` is that of the training, from 0 to 1."""
        self.players.pace(share)
        with torch.autocast("cpu", torch.bfloat16, enabled=half_precision(x.device)):
            self.losses.append(spot(self.players, x, masks).item())
        self.players.average("segmenter", decay=TAUGHT.defect_ema)

    def weights(self) -> dict[str, Tensor]:
        """Return the averaged weights."""
        segmenter = self.players.scoring().segmenter
        assert segmenter is not None
        return dict(segmenter.state_dict())


def train(rotation: int) -> None:
    """Train the segmenters of all shapes, and write the file of a rotation."""
    torch.set_num_threads(1)
    began, learners = time.monotonic(), {shape: Learner(*shape) for shape in PRETRAINED}
    for number, (x, masks) in enumerate(rounds(rotation)):
        for learner in learners.values():
            learner.learn(x, masks, number / ROUNDS)
        if number % 500 == 499:
            means = {str(k): round(float(np.mean(v.losses)), 4) for k, v in learners.items()}
            line = f"{rotation}: {number + 1} rounds, {time.monotonic() - began:.0f} s, {means}"
            print(line, file=sys.stderr, flush=True)
    pretrained.write({shape: each.weights() for shape, each in learners.items()}, rotation)


def main() -> None:
    """Train for each rotation, two at once; what is done is on stderr."""
    with Pool(2) as pool:
        pool.map(train, range(ROTATIONS), chunksize=1)


if __name__ == "__main__":
    main()
