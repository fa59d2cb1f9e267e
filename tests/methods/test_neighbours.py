"""A memory covers the vectors it was chosen from, and distances are exact."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from zoo.methods import neighbours


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def cloud() -> Tensor:
    return torch.randn(500, 7, generator=drawn(1)) * torch.rand(7, generator=drawn(2))


def radius(vectors: Tensor, chosen: Tensor) -> float:
    return float(torch.cdist(vectors, vectors[chosen]).amin(dim=1).max())


def test_more_centres_cover_closer_and_fewer_are_the_first_of_them(cloud: Tensor) -> None:
    radii = []
    every = neighbours.centres(cloud, 64, generator=drawn())
    for count in (1, 4, 16, 64):
        chosen = neighbours.centres(cloud, count, generator=drawn())
        assert torch.equal(chosen, every[:count])
        radii.append(radius(cloud, chosen))
    assert radii == sorted(radii, reverse=True)
    assert radii[-1] < radii[0] / 2


def test_centres_lie_apart_by_what_they_cover(cloud: Tensor) -> None:
    chosen = neighbours.centres(cloud, 30, generator=drawn())
    gaps = torch.cdist(cloud[chosen], cloud[chosen]) + torch.eye(30) * 1e9
    assert gaps.min() >= radius(cloud, chosen) - 1e-4


def test_centres_cover_better_than_as_many_drawn_at_random(cloud: Tensor) -> None:
    chosen = neighbours.centres(cloud, 40, generator=drawn())
    others = [torch.randperm(500, generator=drawn(seed))[:40] for seed in range(5)]
    assert radius(cloud, chosen) < min(radius(cloud, other) for other in others)


def test_none_is_chosen_twice_even_where_vectors_repeat() -> None:
    same = torch.ones(6, 3)
    assert len(set(neighbours.centres(same, 4, generator=drawn()).tolist())) == 4
    assert sorted(neighbours.centres(same, 9, generator=drawn()).tolist()) == list(range(6))


@pytest.mark.parametrize("dimensions", [5, 2 * neighbours.PROJECTED])
def test_what_is_remembered_is_among_what_was_seen(dimensions: int) -> None:
    seen = torch.randn(300, dimensions, generator=drawn())
    kept = neighbours.remember(seen, 20, generator=drawn())
    assert kept.shape == (20, dimensions)
    assert (kept[:, None] == seen).all(dim=2).any(dim=1).all()
    assert len(torch.unique(kept, dim=0)) == 20
    assert torch.equal(kept, neighbours.remember(seen, 20, generator=drawn()))
    assert not torch.equal(kept, neighbours.remember(seen, 20, generator=drawn(5)))


def test_a_memory_larger_than_what_was_seen_holds_all_of_it() -> None:
    seen = torch.randn(12, 4, generator=drawn())
    kept = neighbours.remember(seen, 100, generator=drawn())
    assert sorted(kept.tolist()) == sorted(seen.tolist())


def test_some_are_drawn_without_repeating() -> None:
    seen = torch.arange(10.0)[:, None]
    few = neighbours.some(seen, 4, generator=drawn())
    assert len(set(few[:, 0].tolist())) == 4
    assert sorted(neighbours.some(seen, 99, generator=drawn())[:, 0].tolist()) == list(range(10))


@pytest.mark.parametrize("count", [1, 3])
def test_distances_are_those_of_brute_force_in_parts_or_not(
    cloud: Tensor, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = torch.randn(90, 7, generator=drawn(3)) + 100  # far away, so that digits matter
    vectors = cloud + 100
    true = (vectors[:, None].double() - memory[None].double()).norm(dim=2)
    expected = true.sort(dim=1).values[:, :count].float()
    whole = neighbours.distances(vectors, memory, count=count)
    monkeypatch.setattr(neighbours, "_AT_ONCE", 1000)
    parts = neighbours.distances(vectors, memory, count=count)
    assert whole.shape == (500, count)
    for found in (whole, parts):
        assert torch.allclose(found, expected, atol=2e-2)
    assert torch.allclose(whole[:, 0], expected[:, 0], rtol=1e-2)


def test_a_vector_of_the_memory_is_at_no_distance(cloud: Tensor) -> None:
    assert (neighbours.distances(cloud[5:9], cloud)[:, 0] == 0).all()


def test_a_pool_has_as_many_vectors_of_each_map(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "POOL", 10)
    maps = [torch.full((2, height, 5), float(height)) for height in (3, 4, 9)]
    found = neighbours.pool(iter(maps), images=3, generator=drawn())
    assert found.shape == (12, 2)
    assert found[:, 0].tolist() == [3.0] * 4 + [4.0] * 4 + [9.0] * 4


def test_a_map_of_distances_has_each_cell_in_its_place(cloud: Tensor) -> None:
    features = torch.randn(2, 7, 4, 6, generator=drawn(4))
    found = neighbours.distance_maps(features, cloud, count=2)
    assert found.shape == (2, 2, 4, 6)
    one = neighbours.distances(features[:, :, 3, 1], cloud, count=2)
    assert torch.allclose(found[:, :, 3, 1], one, atol=1e-4)
