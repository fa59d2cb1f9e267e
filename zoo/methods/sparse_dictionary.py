"""Patches written with a few atoms of a dictionary of good ones: how badly, and with how much.

scikit-learn learns the dictionary; scoring is plain tensors.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor
from torch.nn import functional

from zoo.data.patches import Patches
from zoo.errors import ConfigError
from zoo.methods.protocol import (
    Images,
    Losses,
    Method,
    Progress,
    Report,
    Shape,
    State,
    Weights,
    one_by_one,
)
from zoo.scoring.maps import interpolated

SHARE = 40  # patches that the dictionary is learnt from, for each atom
PENALTY = 0.2  # on the code while learning, for patches of mean norm 1; 0.1 and 0.05 did no better
PASSES = 3  # over those patches
BLOCK = 4096  # patches coded at once; with 256 atoms a few arrays of 4 MB


@dataclass(frozen=True, kw_only=True)
class SparseDictionary(Method):
    """Error and l1 norm of each patch's sparse code, and how far its mean is from good ones.

    Three losses a pixel. Which way they are anomalous is for the rule that is chosen on *val*: a
    smooth blob among fibres has a *small* error and a short code, and only `mahalanobis` sees that.

    Source:
        Carrera et al. 2017. Ours: the code is that of orthogonal matching pursuit with
        a fixed number of atoms; a Mahalanobis distance or a weighted sum of the indicators stands
        for their kernel density; the patch's mean is an indicator too, as its removal hides stains.

    Attributes:
        patch: Side of a patch, in pixels after scaling; at least 3.
        atoms: In the dictionary. More describe finer, defects included.
        nonzeros: Atoms that a patch may be written with; fewer than `atoms`.
        stride: Pixels between two patches that are scored, at most `patch`; between them the
            losses are interpolated. Scoring's time falls with its square.
    """

    loss_names = ("error", "length", "tone")
    published: ClassVar[Mapping[str, Mapping[str, float]]] = {
        "test_pixel_auroc": {"nanofibres": 0.93}  # Source: Peccia 2021, Table 1
    }

    patch: int = 15
    atoms: int = 256
    nonzeros: int = 5
    stride: int = 4

    def __post_init__(self) -> None:
        """Refuse what cannot work, naming field and value."""
        for name, low in (("patch", 3), ("atoms", 2), ("nonzeros", 1), ("stride", 1)):
            if getattr(self, name) < low:
                raise ConfigError(
                    f"{name} must be {low} or more, not {getattr(self, name)}. Raise it."
                )
        for name, above in (("stride", self.patch), ("nonzeros", self.atoms - 1)):
            if getattr(self, name) > above:
                raise ConfigError(
                    f"{name} must be at most {above}, not {getattr(self, name)}. Lower it."
                )

    def fit(
        self, images: Images, *, generator: Generator, report: Report, state: State | None = None
    ) -> None:
        """Learn the atoms, and what means good patches have.

        Raises:
            BadImageError: An image is smaller than `patch`.
        """
        from sklearn.decomposition import MiniBatchDictionaryLearning
        from sklearn.exceptions import ConvergenceWarning
        from threadpoolctl import threadpool_limits

        patches = Patches(images, patch=self.patch, generator=generator, rotations=False)
        rest, means = _centred(patches.draw(SHARE * self.atoms).flatten(2))
        size = rest.norm(dim=1).mean().clamp_min(1e-6)
        seed = int(torch.randint(2**31, (1,), generator=generator, device=generator.device))
        learner = MiniBatchDictionaryLearning(
            n_components=self.atoms,
            alpha=PENALTY,
            max_iter=PASSES,
            batch_size=256,
            fit_algorithm="cd",
            random_state=seed,
        )
        # One thread, as the order of sums hangs on their number. A code that has not converged does
        # no harm: exact ones, in six times the time, leave patches the same error.
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            learner.fit((rest / size).double().cpu().numpy())
        atoms = torch.from_numpy(learner.components_).to(rest)
        weights = {
            "atoms": functional.normalize(atoms, dim=1),
            "mean": means.mean(dim=0),
            "deviation": means.std(dim=0).clamp_min(1e-6),
        }
        report(Progress(weights=weights))

    def shapes(self, channels: int) -> Mapping[str, Shape]:
        """Return the shapes of the atoms and of the statistics of means."""
        atoms = (self.atoms, channels * self.patch**2)
        return {"atoms": atoms, "mean": (channels,), "deviation": (channels,)}

    def scorer(self, weights: Weights, *, used: Sequence[bool] | None = None) -> Losses:
        """Return what gives each pixel the three losses of the patch around it."""
        atoms, mean, deviation = (weights[name] for name in ("atoms", "mean", "deviation"))

        def losses(x: Float[Tensor, "c h w"]) -> Float[Tensor, "3 h w"]:
            places = x.unfold(1, self.patch, self.stride).unfold(2, self.patch, self.stride)
            c, rows, columns = places.shape[:3]
            found = []
            for top in range(0, rows, max(1, BLOCK // columns)):
                some = places[:, top : top + max(1, BLOCK // columns)]
                patches = some.permute(1, 2, 0, 3, 4).reshape(-1, c, self.patch**2)
                rest, means = _centred(patches)
                code, chosen = pursue(rest, atoms, self.nonzeros)
                error = (rest - (code[:, :, None] * atoms[chosen]).sum(dim=1)).norm(dim=1)
                tone = ((means - mean) / deviation).norm(dim=1)
                found.append(torch.stack([error, code.abs().sum(dim=1), tone]))
            grid = torch.cat(found, dim=1).reshape(3, rows, columns)
            first, (height, width) = (self.patch // 2, self.patch // 2), x.shape[-2:]
            size = {"height": height, "width": width}
            return interpolated(grid[None], step=self.stride, first=first, **size)[0]

        return one_by_one(losses)


def pursue(
    signals: Float[Tensor, "n d"], atoms: Float[Tensor, "k d"], nonzeros: int
) -> tuple[Float[Tensor, "n {nonzeros}"], Int[Tensor, "n {nonzeros}"]]:
    """Write each signal with a few atoms: the best one by one, all coefficients refitted.

    Args:
        signals: One a row.
        atoms: Of norm 1.
        nonzeros: How many atoms, fewer than there are.

    Returns:
        The coefficients and their atoms' numbers, as they were chosen.

    Source:
        Pati et al. 1993, with inner products of signals and atoms kept up to date in place of the
        residual.
    """
    gram = atoms @ atoms.T
    first = signals @ atoms.T
    now, chosen = first, torch.empty(len(signals), 0, dtype=torch.long, device=signals.device)
    code = signals.new_empty(len(signals), 0)
    for step in range(1, nonzeros + 1):
        best = now.abs().scatter(1, chosen, -1.0).argmax(dim=1, keepdim=True)
        chosen = torch.cat([chosen, best], dim=1)
        inner = gram[chosen[:, :, None], chosen[:, None, :]]
        # Two atoms that are nearly one would make this singular.
        inner = inner + 1e-6 * torch.eye(step, device=signals.device)
        code = torch.linalg.solve(inner, first.gather(1, chosen)[:, :, None])[:, :, 0]
        whole = torch.zeros_like(first).scatter(1, chosen, code)
        now = first - whole @ gram
    return code, chosen


def _centred(
    patches: Float[Tensor, "n c q"],
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n c"]]:
    """Take each channel's mean out of each patch; return what is left, and the means."""
    means = patches.mean(dim=2)
    return (patches - means[:, :, None]).flatten(1), means
