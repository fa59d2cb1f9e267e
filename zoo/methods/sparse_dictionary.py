"""The error and the norm of sparse codes of patches, with a dictionary learned on good ones.

scikit-learn learns the dictionary; scoring uses torch only.
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

from zoo.data.defects.fit_pictures import canvas_of
from zoo.data.patches import Patches
from zoo.methods.configuration import check_fields
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

SHARE = 40  # patches to learn the dictionary from, for each atom
PENALTY = 0.2  # on the l1 norm of the code in learning; patches have mean norm 1; 0.1 and 0.05
# were not better
PASSES = 3  # passes over these patches
MOST_ATOMS, MOST_NONZEROS = 2048, 32  # the time for a patch grows with the one and the other
BLOCK = 4096  # patches coded at once; with 256 atoms these are a few arrays of 4 MB


@dataclass(frozen=True, kw_only=True)
class SparseDictionary(Method):
    """Error and l1 norm of the sparse code of each patch, and the distance of its mean.

    Each pixel has three losses. The rule that is chosen on *val* determines which values are
    anomalous: a smooth blob among fibres has a *small* error and a small norm, which only
    `mahalanobis` detects.

    Source:
        Carrera et al. 2017. Ours: the code is that of orthogonal matching pursuit with a fixed
        number of atoms; a Mahalanobis distance or a weighted sum of the indicators replaces their
        kernel density; the mean of the patch is an indicator too, because stains change it.

    Attributes:
        patch: Side of a patch, in pixels after scaling; at least 3.
        atoms: Number of atoms in the dictionary, at most 2048. With more of them all patches have
            a smaller error, also defective ones.
        nonzeros: Number of atoms in the code of a patch; fewer than `atoms`, at most 32.
        stride: Pixels between two scored patches, at most `patch`; between them the losses are
            interpolated. The time to score falls with its square.
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
        """Refuse values that are out of their range."""
        most = min(MOST_NONZEROS, self.atoms - 1)
        check_fields(
            self,
            [
                ("patch", self.patch >= 3, "3 or more"),
                ("atoms", 2 <= self.atoms <= MOST_ATOMS, f"2 to {MOST_ATOMS}"),
                ("nonzeros", 1 <= self.nonzeros <= most, f"1 to {most} (less than atoms)"),
                ("stride", 1 <= self.stride <= self.patch, f"1 to {self.patch} (patch)"),
            ],
        )

    def fit(
        self, images: Images, *, generator: Generator, report: Report, state: State | None = None
    ) -> None:
        """Learn the atoms, and the statistics of the means of good patches.

        Raises:
            BadImageError: An image is smaller than `patch`.
        """
        from sklearn.decomposition import MiniBatchDictionaryLearning
        from sklearn.exceptions import ConvergenceWarning
        from threadpoolctl import threadpool_limits

        canvas = canvas_of(images)
        patches = Patches(canvas, patch=self.patch, generator=generator, rotations=False)
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
        # One thread, because the order of sums depends on their number. The codes need not
        # converge: exact ones take six times as long and give the same error.
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
        """Return the shapes of the atoms and of the statistics of the means."""
        atoms = (self.atoms, channels * self.patch**2)
        return {"atoms": atoms, "mean": (channels,), "deviation": (channels,)}

    def scorer(self, weights: Weights, *, used: Sequence[bool] | None = None) -> Losses:
        """Return the loss function: the three losses of the patch around each pixel."""
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
    """Return sparse codes of signals by orthogonal matching pursuit.

    The best atom is added one by one, and all coefficients are fitted again.

    Args:
        signals: One in each row.
        atoms: With norm 1.
        nonzeros: Number of atoms in each code, fewer than there are atoms.

    Returns:
        The coefficients and the indices of their atoms, in the order in which they were chosen.

    Source:
        Pati et al. 1993, with updates of the inner products of signals and atoms instead of the
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
        # Two nearly equal atoms would make this matrix singular.
        inner = inner + 1e-6 * torch.eye(step, device=signals.device)
        # Without an error if atoms are not of norm 1: a map that is not finite is refused later.
        code = torch.linalg.solve_ex(inner, first.gather(1, chosen)[:, :, None])[0][:, :, 0]
        whole = torch.zeros_like(first).scatter(1, chosen, code)
        now = first - whole @ gram
    return code, chosen


def _centred(
    patches: Float[Tensor, "n c q"],
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n c"]]:
    """Subtract the mean of each channel from each patch; return the difference and the means."""
    means = patches.mean(dim=2)
    return (patches - means[:, :, None]).flatten(1), means
