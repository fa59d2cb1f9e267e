"""A test for a change in a sequence of numbers, which may be looked at after each number."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.special import betaln, ndtr, ndtri

SHIFTS = (1.0, 2.0, 3.0)  # up and down, in standard deviations of a normal quantity
KEPT = 0.05  # share of a stake that is not risked, so that one number cannot lose it all
BEYOND = 0.9  # share of numbers outside of the range of the reference after a large change
BLOCK = 1024  # numbers whose ranks are found at a time


@dataclass(frozen=True, kw_only=True)
class Watched:
    """What the test found.

    Attributes:
        p_value: The smallest one at any time. If nothing changes, the probability that it is ever
            p or less is at most p.
        told: The place at which it first was as small as asked for; None if it never was.
        since: The place at which the change began, as estimated then.
        rose: Whether the numbers became larger.
    """

    p_value: float
    told: int | None = None
    since: int | None = None
    rose: bool = False


@dataclass(frozen=True, kw_only=True)
class _Bet:
    """One part of the stake.

    Attributes:
        rises: Whether the bet is on larger numbers.
        stake: The log of this part after each number.
        before: The log of what the bet won from the first number to before each.
    """

    rises: bool
    stake: Float[np.ndarray, " t"]
    before: Float[np.ndarray, " t"]


def watch(
    values: Float[np.ndarray, " t"],
    reference: Float[np.ndarray, " n"],
    *,
    p: float,
    rises_only: bool = False,
) -> Watched:
    """Test whether numbers are still like those of a reference, and like each other.

    Exactly valid for any distribution, any size of the reference, and ties, as long as reference
    and numbers are exchangeable. Each number is ranked among the reference and all numbers before
    it. Ranks in a fixed reference would not be independent: a small reference is never quite like
    a long stream, and this would be found sooner or later.

    A stake is divided, and each part is multiplied at each number by a bet of mean 1:

    - A half bets that the ranks are those of a normal quantity which shifted by one of `SHIFTS`. A
      share 1 / (s (s + 1)) of it begins at number s: a change may come at any time.
    - A quarter each bets that from the first number on a share `BEYOND` lies above the range of the
      reference, or below it. The ranks cannot tell this of a small reference, because after a
      few numbers most of those before are changed ones.

    Args:
        values: At least one, in their order.
        reference: Values before the first one, in any order; may be empty.
        p: The p-value at which a change is told.
        rises_only: Whether to bet on larger numbers only.

    Source:
        Ville 1939: a stake that such bets multiply is ever above 1 / p with probability at most p.
        Vovk, Gammerman, Shafer 2005, section 7.1 (exchangeability martingales by online p-values);
        Gordon, Pollak 1994 (change points by sequential ranks). Differently, a bet is the mean of
        its density over the cell of a rank, so that nothing is drawn at random. That the share of
        numbers above the range of n is Beta(1, n): Vovk 2012.
    """
    bets = _bets(values, reference, rises_only=rises_only)
    logs = np.logaddexp.reduce([bet.stake for bet in bets])
    p_value = float(np.exp(-max(0.0, logs.max())))
    if p_value > p:
        return Watched(p_value=p_value)
    told = int((logs >= -math.log(p)).argmax())
    best = max(bets, key=lambda bet: bet.stake[told])
    since = int(best.before[: told + 1].argmin())  # from there to here the most is won
    return Watched(p_value=p_value, told=told, since=since, rose=best.rises)


def stake(
    values: Float[np.ndarray, " t"], reference: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " t"]:
    """Return the log of the stake of `watch` after each number; it is 0 before the first one."""
    return np.asarray(np.logaddexp.reduce([bet.stake for bet in _bets(values, reference)]))


def _bets(
    values: Float[np.ndarray, " t"],
    reference: Float[np.ndarray, " n"],
    *,
    rises_only: bool = False,
) -> list[_Bet]:
    places = np.arange(1, len(values) + 1)
    from_now_on = -np.log(places * (places + 1.0))
    lower, upper = _cells(values, reference)
    ways = (True,) if rises_only else (True, False)
    bets = []
    for rises, size in itertools.product(ways, SHIFTS):
        won = _shifted(lower, upper, size if rises else -size)
        before = np.concatenate([[0.0], won[:-1]])
        own = np.logaddexp.accumulate(from_now_on - before) + won
        share = math.log(2 * len(SHIFTS) * len(ways))
        bets.append(_Bet(rises=rises, stake=own - share, before=before))
    for rises in ways if len(reference) else ():
        outside = values > reference.max() if rises else values < reference.min()
        own = _outside(np.cumsum(outside), places, len(reference))
        bets.append(_Bet(rises=rises, stake=own - math.log(2 * len(ways)), before=0 * own))
    return bets


def _cells(
    values: Float[np.ndarray, " t"], reference: Float[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " t"], Float[np.ndarray, " t"]]:
    """Return which share of the numbers so far is larger than each number, and at least as large.

    The reference counts, and the number itself. A number without ties has a cell of one rank.
    """
    seen = np.sort(reference)
    larger, as_large = [], []
    for first in range(0, len(values), BLOCK):
        block = values[first : first + BLOCK]
        in_block = np.tril(block[None] > block[:, None]).sum(axis=1)
        ties = np.tril(block[None] == block[:, None]).sum(axis=1)
        above = len(seen) - np.searchsorted(seen, block, side="right")
        from_here = len(seen) - np.searchsorted(seen, block, side="left")
        larger.append(above + in_block)
        as_large.append(from_here + in_block + ties)
        seen = np.sort(np.concatenate([seen, block]), kind="stable")
    count = len(reference) + np.arange(1, len(values) + 1)
    return np.concatenate(larger) / count, np.concatenate(as_large) / count


def _shifted(
    lower: Float[np.ndarray, " t"], upper: Float[np.ndarray, " t"], shift: float
) -> Float[np.ndarray, " t"]:
    """Return the log of what a bet on a shift multiplied the stake by, since the first number."""
    bets = (ndtr(ndtri(upper) + shift) - ndtr(ndtri(lower) + shift)) / (upper - lower)
    return np.asarray(np.cumsum(np.log(KEPT + (1 - KEPT) * bets)))


def _outside(
    outside: Int[np.ndarray, " t"], places: Int[np.ndarray, " t"], n: int
) -> Float[np.ndarray, " t"]:
    """Return the log of what the bet on numbers outside of the range multiplied the stake by."""
    inside = places - outside
    expected = betaln(1 + outside, n + inside) - betaln(1, n)
    return np.asarray(outside * math.log(BEYOND) + inside * math.log(1 - BEYOND) - expected)
