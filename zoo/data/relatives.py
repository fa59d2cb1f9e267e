"""Which good pictures show the same piece of material: copies, overlapping or adjoining crops.

Relatives must be in the same split, or a detector is judged on what it was trained on. Pictures of
one periodic texture resemble each other without being relatives: a pair must match at one place
only, and in far more frequencies than a period has.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Complex64, Float32, Shaped

from zoo.data.textures import Picture

_SIDE = 128  # pixels of the longest side of a thumbnail
# Measured on 530 pictures of five real textures: copies and overlapping crops reach a coherence of
# 0.44 to 1. Of other pairs, those of a wire grid that lie at the same phase reach the most, 0.40.
_COHERENCE = 0.45
_LEVEL = 7.0  # standard deviations above chance; the best of 20 000 chance pairs has about 5.5
# A period gives a second peak, one period away and almost as high: 1.0 to 1.5 times lower.
_PEAK_RATIO, _PERIOD_RATIO = 1.6, 1.35
_SEAM_LEVEL, _SEAM_CORRELATION, _SEAM_RATIO = 6.5, 0.45, 1.4  # chance: 4.2, 0.3 and 1.1
_LINE_MIN = 32  # pixels; a shorter line has too few frequencies to reach the level
_LINKS = 8  # of a picture to relatives that it is joined with already; more take time only
_TURNED_CANDIDATES, _TURNED_SIMILARITY = 3, 0.3
_RUN_MIN, _RUN_RATIO, _RUN_PICTURES = 3, 2.0, 24

Plane = Float32[np.ndarray, "_ _"]


class Link(NamedTuple):
    """Two pictures that are relatives.

    Attributes:
        strength: Higher is more certain. Above 2: copies and overlaps; above 1: adjoining crops;
            below 1: pictures that only look like one sheet.
        first: Place of one picture in the sequence.
        second: Place of the other picture, larger than `first`.
    """

    strength: float
    first: int
    second: int


def _shrink(pixels: Shaped[np.ndarray, "h w c"], times: int) -> Float32[np.ndarray, "_ _"]:
    """Return the grey picture, averaged over squares; the remainder at the end is left out."""
    height, width = pixels.shape[0] // times, pixels.shape[1] // times
    squares = pixels[: height * times, : width * times].reshape(height, times, width, times, -1)
    return np.asarray(squares.mean(axis=(1, 3, 4), dtype=np.float32))


def _taper(length: int) -> Float32[np.ndarray, " {length}"]:
    """Return weights that rise from 0 to 1 over an eighth at each end."""
    place = np.arange(length) + 0.5
    depth = np.minimum(place, place[::-1]) / max(1, round(length / 8))
    return np.asarray(0.5 - 0.5 * np.cos(np.pi * np.minimum(depth, 1)), np.float32)


@functools.cache
def _band(side: int) -> Float32[np.ndarray, "_ _"]:
    """Return 1 at the frequencies that are compared: neither illumination, nor pixel noise."""
    rows, columns = np.abs(np.fft.fftfreq(side) * side)[:, None], np.arange(side // 2 + 1)
    radius = np.hypot(rows, columns)
    inside = (radius > 4) & (radius < 0.35 * side) & (rows > 1) & (columns > 1)
    return np.asarray(inside, np.float32)


def _change(thumb: Plane) -> Plane:
    """Return a thumbnail without what is constant along rows or columns: edges of a conveyor."""
    change = np.diff(np.diff(thumb, axis=0), axis=1)
    return np.asarray(change * np.outer(*map(_taper, change.shape)), np.float32)


def _phases(thumbs: Sequence[Plane], side: int) -> Complex64[np.ndarray, "n _ _"]:
    spectra = np.stack([np.fft.rfft2(_change(thumb), s=(side, side)) for thumb in thumbs])
    return np.asarray(spectra / (np.abs(spectra) + 1e-6) * _band(side), np.complex64)


def _coherence(
    first: Complex64[np.ndarray, "_ _"], others: Complex64[np.ndarray, "n _ _"], side: int
) -> Float32[np.ndarray, "n _ _"]:
    """Return the share of frequencies with equal phases, at every shift.

    Source: Kuglin and Hines 1975, phase correlation; here only of the frequencies of `_band`.
    """
    surface = np.fft.irfft2(first * others.conj(), s=(side, side))
    return np.asarray(surface * (side**2 / (2 * _band(side).sum())), np.float32)


@functools.cache
def _chance(area: int, side: int) -> float:
    """Return the standard deviation of the coherence of two unrelated pieces of this area."""
    return float((2 * _band(side).sum() * max(area, 1) / side**2) ** -0.5)


def _at(a: Plane, b: Plane, down: int, right: int, side: int) -> float:
    """Return the coherence of two thumbnails where they overlap if b is moved, or 0 for chance."""
    rows = slice(max(0, down), min(a.shape[0], b.shape[0] + down))
    columns = slice(max(0, right), min(a.shape[1], b.shape[1] + right))
    height, width = rows.stop - rows.start, columns.stop - columns.start
    if min(height, width) < side / 8:
        return 0.0
    inner = b[rows.start - down :, columns.start - right :][:height, :width]
    phases = _phases([a[rows, columns], inner], side)
    near = np.roll(_coherence(phases[0], phases[1:], side)[0], (2, 2), (0, 1))[:5, :5].max()
    return float(near) if near > _LEVEL * _chance(height * width, side) else 0.0


def _periods(thumb: Plane, side: int) -> Iterator[tuple[int, int]]:
    """Return the three shifts at which a thumbnail is most like itself."""
    power = np.abs(np.fft.rfft2(_change(thumb), s=(side, side))) ** 2 * _band(side)
    surface = np.roll(np.fft.irfft2(power, s=(side, side)), (side // 2, side // 2), (0, 1))
    top = left = side // 2
    for _ in range(3):
        surface[max(0, top - 3) : top + 4, max(0, left - 3) : left + 4] = -np.inf
        top, left = divmod(int(surface.argmax()), side)
        yield top - side // 2, left - side // 2


def _overlap(a: Plane, b: Plane, surface: Plane) -> float:
    """Return the coherence of the two thumbnails where they overlap, or 0 if that is chance."""
    side = len(surface)
    top, left = divmod(int(surface.argmax()), side)
    rest = np.roll(surface, (5 - top, 5 - left), (0, 1))
    rest[:11, :11] = 0
    if surface[top, left] < _PEAK_RATIO * rest.max():
        return 0.0
    # A shift is known up to the side of the plane, so there are four places.
    places = itertools.product((top, top - side), (left, left - side))
    best, down, right = max((_at(a, b, *place, side), *place) for place in places)
    if best < _COHERENCE:
        return 0.0
    for rows, columns in _periods(a, side):
        if best < _PERIOD_RATIO * _at(a, b, down + rows, right + columns, side):
            return 0.0  # moved by a period, it fits as well
    return best


def _overlaps(thumbs: Sequence[Plane], side: int) -> Iterator[Link]:
    """Find copies, shifted copies and overlapping crops."""
    phases = _phases(thumbs, side)
    levels = np.array([_LEVEL * _chance(thumb.size, side) for thumb in thumbs])
    group = np.arange(len(thumbs))
    for first in range(len(thumbs) - 1):
        surfaces = _coherence(phases[first], phases[first + 1 :], side)
        level = np.maximum(levels[first], levels[first + 1 :])
        found = 0
        for place in np.flatnonzero(surfaces.max(axis=(1, 2)) > level):
            second = first + 1 + int(place)
            if found >= _LINKS and group[first] == group[second]:
                continue
            coherence = _overlap(thumbs[first], thumbs[second], surfaces[place])
            if coherence:
                yield Link(2 + coherence, first, second)
                group[group == group[second]] = group[first]
                found += 1


def _fingerprints(thumbs: Sequence[Plane], side: int) -> Float32[np.ndarray, "n k k"]:
    """Return how strong each frequency is beside its neighbours; it turns as the picture does."""
    blocks = max(1, side // 10 - 1 + side // 10 % 2)  # an odd number: the centre is a centre
    low, high = side // 2 - blocks * 5 // 2, side // 2 + blocks * 5 // 2 + 1
    prints = []
    for thumb in thumbs:
        spectrum = np.fft.fftshift(np.fft.fft2(_change(thumb), s=(side, side)))[low:high, low:high]
        strength = np.log(np.abs(spectrum) + 1e-3).reshape(blocks, 5, blocks, 5)
        differences = strength - strength.mean(axis=(1, 3), keepdims=True)
        prints.append(differences.reshape(5 * blocks, -1) / (np.linalg.norm(differences) + 1e-6))
    return np.asarray(prints, np.float32)


def _turned(thumbs: Sequence[Plane], side: int) -> Iterator[Link]:
    """Find copies that are turned by a multiple of 90 degrees, flipped, or both."""
    prints, phases = _fingerprints(thumbs, side), _phases(thumbs, side)
    rows = prints.reshape(len(prints), -1)
    for flip, turn in list(itertools.product((False, True), range(4)))[1:]:
        moved = [np.rot90(thumb[:, ::-1] if flip else thumb, turn) for thumb in thumbs]
        moved_prints = np.rot90(prints[:, :, ::-1] if flip else prints, turn, (1, 2))
        similar = rows @ moved_prints.reshape(rows.shape).T
        np.fill_diagonal(similar, 0)
        moved_phases = _phases(moved, side)
        best = np.argsort(-similar, axis=1, kind="stable")[:, :_TURNED_CANDIDATES]
        pairs = [(a, int(b)) for a, row in enumerate(best) for b in row if a < b]
        for a, b in (pair for pair in pairs if similar[pair] > _TURNED_SIMILARITY):
            surface = _coherence(phases[a], moved_phases[b : b + 1], side)[0]
            coherence = _overlap(thumbs[a], moved[b], surface)
            if surface.max() > _COHERENCE and coherence:
                yield Link(2 + coherence, a, b)


def _edges(pictures: Sequence[Picture], place: int, axis: int) -> Complex64[np.ndarray, "n k"]:
    """Return the phases of the first or the last line of pictures; all are equally long."""
    lines = [picture.pixels.take(place, axis).mean(axis=1) for picture in pictures]
    changes = np.diff(np.asarray(lines, np.float32), axis=1)
    highest = round(0.375 * changes.shape[1])
    spectra = np.fft.rfft(changes * _taper(changes.shape[1]), axis=1)[:, 3:highest]
    return np.asarray(spectra / (np.abs(spectra) + 1e-6), np.complex64)


def _seams(pictures: Sequence[Picture], links: Sequence[Link]) -> Iterator[Link]:
    """Find crops that adjoin: the last line of one continues in the first line of the other.

    No third picture may continue it nearly as well, unless `links` say that it is a relative.
    """
    alike = np.eye(len(pictures), dtype=np.bool_)
    for _, first, second in links:
        alike[first, second] = alike[second, first] = True
    for axis in (0, 1):
        lengths = [picture.pixels.shape[1 - axis] for picture in pictures]
        for length in sorted(set(lengths)):
            members = [each for each, found in enumerate(lengths) if found == length]
            if len(members) < 2 or length < _LINE_MIN:
                continue
            chosen = [pictures[each] for each in members]
            ends = _edges(chosen, -1, axis)
            match = (ends @ _edges(chosen, 0, axis).conj().T).real / ends.shape[1]
            level = max(_SEAM_CORRELATION, _SEAM_LEVEL / (2 * ends.shape[1]) ** 0.5)
            near = alike[np.ix_(members, members)]
            for a, b in np.argwhere((match > level) & ~near):
                others = max(match[a][~near[b]].max(initial=0), match[~near[a], b].max(initial=0))
                if match[a, b] > _SEAM_RATIO * others:
                    first, second = sorted((members[a], members[b]))
                    yield Link(1 + float(match[a, b]), first, second)


def _runs(pictures: Sequence[Picture], thumbs: Sequence[Plane]) -> Iterator[Link]:
    """Find pictures of one sheet: consecutive names, and much closer to each other than to others.

    A run has at most a quarter of the pictures. Where light or material drifts, nothing is found.
    """
    count = len(pictures)
    if count < _RUN_PICTURES:
        return
    parts = [re.split(r"(\d+)", picture.name) for picture in pictures]  # 9.png before 10.png
    keys = [[int(part) if part.isdecimal() else part for part in name] for name in parts]
    order = sorted(range(count), key=keys.__getitem__)
    rows = []  # colours, and contrasts in all, along columns and along rows
    for pixels, thumb in ((pictures[each].pixels, thumbs[each]) for each in order):
        contrasts = [thumb.std(), thumb.std(axis=0).mean(), thumb.std(axis=1).mean()]
        rows.append([*pixels[::8, ::8].mean(axis=(0, 1)), *np.log1p(contrasts)])
    values = np.asarray(rows) - np.median(rows, axis=0)
    values /= np.median(np.abs(values), axis=0) + 1e-6
    distances = np.sqrt(((values[:, None] - values) ** 2).mean(axis=2))
    for start in range(count - _RUN_MIN + 1):
        for stop in range(start + _RUN_MIN, min(count, start + count // 4) + 1):
            near = distances[start:stop]
            outside = min(near[:, :start].min(initial=np.inf), near[:, stop:].min(initial=np.inf))
            if outside > _RUN_RATIO * near[:, start:stop].max():
                for one, other in itertools.pairwise(order[start:stop]):
                    yield Link(0.5, min(one, other), max(one, other))


def related(pictures: Sequence[Picture]) -> list[Link]:
    """Find relatives by content, and in the last rule by names; not all pairs of a large group.

    Copies: encoded again, shifted, brighter, flipped, turned by 90 degrees. Crops that overlap at
    one scale. Crops that adjoin. Three and more pictures with consecutive names that are much
    closer in colour and contrast than any other picture; crops that do not touch are seldom found.
    """
    if len(pictures) < 2:
        return []
    times = -(-max(max(picture.pixels.shape[:2]) for picture in pictures) // _SIDE)
    thumbs = [_shrink(p.pixels, min(times, *p.pixels.shape[:2])) for p in pictures]
    side = -(-max(max(thumb.shape) for thumb in thumbs) // 16) * 16
    links = [*_overlaps(thumbs, side), *_turned(thumbs, side)]
    more = [*_seams(pictures, links), *_runs(pictures, thumbs)]
    return sorted({*links, *more}, reverse=True)


def join(count: int, links: Sequence[Link], *, largest: int | None = None) -> list[list[int]]:
    """Join `count` linked pictures into groups, the most certain links first.

    A link that would make a group of more than `largest` pictures is left out.

    Example:
        >>> links = [Link(2.9, 0, 3), Link(1.6, 1, 3)]
        >>> join(4, links), join(4, links, largest=2)
        ([[0, 1, 3], [2]], [[0, 3], [1], [2]])
    """
    group = {place: [place] for place in range(count)}
    for _, first, second in sorted(links, reverse=True):
        one, other = group[first], group[second]
        if one is not other and len(one) + len(other) <= (largest or count):
            one += other
            group.update(dict.fromkeys(other, one))
    return sorted(sorted(each) for each in {id(each): each for each in group.values()}.values())


def groups(pictures: Sequence[Picture]) -> list[list[int]]:
    """Divide pictures into groups of relatives, and return their places; many groups have one."""
    return join(len(pictures), related(pictures))
