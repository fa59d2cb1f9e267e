"""Nearest neighbours of feature vectors in a memory of a few thousand good vectors.

The vectors are features of any network, one for each cell of a grid over an image.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float, Int
from torch import Tensor

POOL = 20_000  # vectors that a memory is chosen from; more change little and take longer
PROJECTED = 64  # dimensions of the projection for the choice; distances change by about a tenth
# Distances in memory at a time: those on a processor stay in its cache.
_AT_ONCE, _ON_PROCESSOR = 2**22, 2**20


def some(
    vectors: Float[Tensor, "n d"], count: int, *, generator: torch.Generator
) -> Float[Tensor, "m d"]:
    """Draw `count` of the vectors without replacement; all if there are fewer."""
    order = torch.randperm(len(vectors), generator=generator, device=vectors.device)
    return vectors[order[:count]]


def pool(
    maps: Iterable[Float[Tensor, "c _ _"]], *, images: int, generator: torch.Generator
) -> Float[Tensor, "n c"]:
    """Draw about `POOL` vectors from the feature maps of good images, equally many from each.

    Args:
        maps: One map for each image, used one after the other.
        images: Number of images.
        generator: Draws, on the device of the maps.
    """
    share = -(-POOL // images)
    return torch.cat([some(each.flatten(1).T, share, generator=generator) for each in maps])


def remember(
    vectors: Float[Tensor, "n d"], count: int, *, generator: torch.Generator
) -> Float[Tensor, "m d"]:
    """Choose `count` representative vectors; all if there are fewer.

    Source:
        Roth et al. 2022, section 3.2: greedy k-centre on a random projection. Ours chooses from
        at most `POOL` vectors, drawn at random.
    """
    pool = some(vectors, POOL, generator=generator)
    low = pool
    if pool.shape[1] > PROJECTED:
        shape = (pool.shape[1], PROJECTED)
        low = pool @ torch.randn(shape, generator=generator, device=pool.device)
    return pool[centres(low, count, generator=generator)]


def centres(
    vectors: Float[Tensor, "n d"], count: int, *, generator: torch.Generator
) -> Int[Tensor, " m"]:
    """Choose vectors one by one: the first at random, each next one the farthest from the others.

    The first k of m chosen vectors are those for `count` k. Their covering radius is at most twice
    that of the best k (Gonzalez 1985).

    Args:
        vectors: The vectors to choose from.
        count: Number of vectors to choose; all if there are fewer.
        generator: Draws the first, on the device of the vectors.

    Returns:
        The indices of the chosen vectors, without repetition.

    Example:
        >>> line = torch.tensor([[0.0], [1.0], [7.0], [10.0]])
        >>> chosen = centres(line, 3, generator=torch.Generator().manual_seed(0))
        >>> sorted(chosen.tolist())
        [0, 2, 3]
    """
    squares = vectors.square().sum(dim=1)
    away = torch.full_like(squares, torch.inf)
    place = torch.randint(len(vectors), (1,), generator=generator, device=vectors.device)
    chosen = []
    for _ in range(min(count, len(vectors))):
        chosen.append(place)
        offset = squares + squares[place] - 2 * (vectors @ vectors[place[0]])
        away = torch.minimum(away, offset.clamp_min(0)).index_fill(0, place, -1.0)
        place = away.argmax()[None]
    return torch.cat(chosen)


def distances(
    vectors: Float[Tensor, "n d"], memory: Float[Tensor, "m d"], *, count: int = 1
) -> Float[Tensor, "n {count}"]:
    """Return the Euclidean distances to the nearest vectors of the memory, nearest first.

    Args:
        vectors: Any number of vectors; they are processed in parts, to limit the memory use.
        memory: At least `count` vectors.
        count: Number of nearest vectors.
    """
    squares = memory.square().sum(dim=1)
    found = []
    # An exported graph is of pictures of all sizes, so the number of parts would be wrong in it.
    tracing = torch.compiler.is_compiling()
    most = _ON_PROCESSOR if vectors.device.type == "cpu" else _AT_ONCE
    parts = [vectors] if tracing else torch.split(vectors, max(1, most // len(memory)))
    for part in parts:
        # |v - m|^2 - |v|^2 has the same order and costs one product. It loses digits, so the
        # distances themselves are computed again.
        ranks = torch.addmm(squares, part, memory.T, alpha=-2)
        nearest = _first(ranks) if count == 1 else ranks.topk(count, largest=False).indices
        away = [(part - memory[column]).norm(dim=1) for column in nearest.T]
        found.append(torch.stack(away, dim=1).sort(dim=1).values)
    return torch.cat(found)


def _first(ranks: Float[Tensor, "n m"]) -> Int[Tensor, "n 1"]:
    """Return the place of the smallest value of each row; faster than `topk`."""
    if ranks.device.type != "cpu" or torch.compiler.is_compiling():
        return ranks.argmin(dim=1, keepdim=True)
    return torch.from_numpy(ranks.numpy().argmin(axis=1, keepdims=True))  # twice as fast


def distance_maps(
    features: Float[Tensor, "b c h w"], memory: Float[Tensor, "m c"], *, count: int = 1
) -> Float[Tensor, "b {count} h w"]:
    """Return for each cell of feature maps the distances to the nearest vectors of the memory."""
    cells = features.movedim(1, -1)
    away = distances(cells.flatten(0, 2), memory, count=count)
    return away.reshape(*cells.shape[:3], count).movedim(-1, 1)
