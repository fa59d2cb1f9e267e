"""The exam of the two dictionaries, and tests of their parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from registry import bundle
from tests.method_exam import MethodExam, fit_bundle, fit_weights, losses_of
from tests.test_imports import imported
from zoo.errors import ConfigError
from zoo.methods import named
from zoo.methods.feature_dictionary import cluster, principal
from zoo.methods.sparse_dictionary import SparseDictionary, pursue
from zoo.training.data import TrainingData


class TestFeatureDictionary(MethodExam):
    name = "feature_dictionary"
    options = {"words": 20, "nearest": 3}  # noqa: RUF012  read only


class TestSparseDictionary(MethodExam):
    name = "sparse_dictionary"
    options = {"patch": 9, "atoms": 12, "nonzeros": 2, "stride": 2}  # noqa: RUF012  read only


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("name", "field", "value", "said"),
    [
        ("feature_dictionary", "patch", 15, "16 or more"),
        ("feature_dictionary", "words", 0, "1 or more"),
        ("feature_dictionary", "nearest", 1001, "1 to 1000"),
        ("feature_dictionary", "variance", 1.5, "at most 1"),
        ("feature_dictionary", "variance", 0.0, "above 0"),
        ("sparse_dictionary", "patch", 2, "3 or more"),
        ("sparse_dictionary", "stride", 16, "1 to 15"),
        ("sparse_dictionary", "nonzeros", 256, "1 to 32"),
        ("sparse_dictionary", "atoms", 1, "2 to 2048"),
    ],
)
def test_a_dictionary_refuses_what_cannot_work_with_field_and_value(
    name: str, field: str, value: float, said: str
) -> None:
    with pytest.raises(ConfigError, match=f"{field} must be .*{said}.*, not {value}\\."):
        named(name)(**{field: value})


def test_principal_directions_keep_the_share_of_the_variance_and_no_more() -> None:
    vectors = drawn(500, 6) * torch.tensor([5.0, 3.0, 1.0, 0.3, 0.1, 0.1]) + 7
    mean, axes = principal(vectors, variance=0.95)
    centred = vectors - mean
    total = centred.square().sum()
    kept = (centred @ axes).square().sum(dim=0)
    assert kept.sum() >= 0.95 * total > kept[:-1].sum()
    torch.testing.assert_close(axes.T @ axes, torch.eye(axes.shape[1]), atol=1e-5, rtol=0)
    assert principal(vectors, variance=1.0)[1].shape == (6, 6)


def test_clusters_that_lie_apart_each_have_a_centre_in_their_middle() -> None:
    places = torch.tensor([[0.0, 0.0], [50.0, 0.0], [0.0, 50.0]])
    vectors = (places[:, None] + drawn(3, 100, 2)).flatten(0, 1)
    centres = cluster(vectors, 12, generator=torch.Generator().manual_seed(0))
    assert centres.shape == (12, 2)
    away = torch.cdist(vectors, centres).amin(dim=1)
    assert away.mean() < torch.cdist(vectors, places).amin(dim=1).mean()
    assert torch.cdist(places, centres).amin(dim=1).max() < 3


def test_a_dictionary_of_more_words_than_vectors_is_the_vectors() -> None:
    vectors = drawn(5, 3)
    centres = cluster(vectors, 9, generator=torch.Generator().manual_seed(0))
    assert sorted(centres.tolist()) == sorted(vectors.tolist())


def test_pursuit_chooses_and_weighs_as_scikit_learn_does() -> None:
    from sklearn.linear_model import orthogonal_mp_gram

    atoms = functional.normalize(drawn(40, 16), dim=1)
    signals = drawn(30, 16, seed=1)
    gram, inner = (atoms @ atoms.T).double(), (atoms @ signals.T).double()
    expected = orthogonal_mp_gram(gram.numpy(), inner.numpy(), n_nonzero_coefs=4).T
    code, chosen = pursue(signals, atoms, 4)
    found = torch.zeros(30, 40).scatter(1, chosen, code)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-3)
    assert (found != 0).sum() == 30 * 4


def test_pursuit_finds_the_two_atoms_that_a_signal_is_made_of() -> None:
    atoms = torch.eye(8)
    code, chosen = pursue(3 * atoms[2:3] - 5 * atoms[6:7], atoms, 2)
    assert chosen.tolist() == [[6, 2]]
    torch.testing.assert_close(code, torch.tensor([[-5.0, 3.0]]), atol=1e-4, rtol=0)


def test_pursuit_takes_flat_signals_and_twin_atoms() -> None:
    atoms = functional.normalize(drawn(3, 8), dim=1).repeat(2, 1)
    code, chosen = pursue(torch.cat([torch.zeros(1, 8), drawn(4, 8, seed=1)]), atoms, 4)
    assert code.isfinite().all()
    assert (code[0] == 0).all()
    assert all(len(set(row)) == 4 for row in chosen.tolist())


def test_a_sparse_dictionary_places_a_defect_where_it_is() -> None:
    """The map of patches has no shift against the image."""
    method = SparseDictionary(patch=9, atoms=8, nonzeros=2, stride=3)
    images = [drawn(1, 60, 70, seed=seed) * 0.1 for seed in range(2)]
    losses = losses_of(method, fit_weights(method, images))
    image = images[0].clone()
    image[0, 30, 40] += 20
    error = losses(image)[0]
    rows, columns = torch.nonzero(error > error.max() / 2).T
    assert abs(float(rows.float().mean()) - 30) < 1.5
    assert abs(float(columns.float().mean()) - 40) < 1.5


def test_scoring_with_a_dictionary_imports_no_scikit_learn(
    tiny_data: TrainingData, tmp_path: Path
) -> None:
    for exam in (TestFeatureDictionary, TestSparseDictionary):
        method = named(exam.name)(**exam.options)
        made = fit_bundle(tiny_data, method)
        bundle.save(made, tmp_path / exam.name)
    found = imported(
        "import sys, pathlib, numpy as np\n"
        "from registry import bundle\n"
        "from zoo.detectors import Detector\n"
        "assert len(sys.argv) == 3\n"
        "for name in sys.argv[1:]:\n"
        "    detector = Detector(bundle.load(pathlib.Path(name)))\n"
        "    assert detector.map(np.zeros((61, 47, 1), np.uint8)).shape == (61, 47)",
        *(str(path) for path in sorted(tmp_path.iterdir())),
    )
    assert "torch" in found
    assert "sklearn" not in found
