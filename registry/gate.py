"""The rules of promotion: figures of a challenger and a champion in, a decision out.

The figures are average precisions (AP) on validation windows, between 0 and 1. How they are
measured is the caller's part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from registry.pointer import CHALLENGER, CHAMPION, Act

# Not the usual 0.95: *val* has a few dozen windows, and with so few, a challenger whose AP is truly
# higher by a tenth would mostly be refused. Its AP must be higher as well.
WIN_SHARE = 0.9
# With fewer, the bootstrap has too few different draws, and every difference looks certain.
FEWEST_WINDOWS = 8
FEWEST_FAMILIES = 2


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What the gate decides on a challenger.

    Attributes:
        promoted: Whether the challenger becomes the champion.
        reason: Why, with the figures.
        challenger_ap: AP of the challenger.
        champion_ap: AP of the champion on the same windows; None if they were not compared.
        win_share: Share of the bootstrap draws in which the challenger's AP is higher; None if they
            were not compared.
        forced: Whether the challenger becomes the champion against the rules.
    """

    promoted: bool
    reason: str
    challenger_ap: float
    champion_ap: float | None = None
    win_share: float | None = None
    forced: bool = False

    @property
    def act(self) -> Act:
        """The act that the history of the texture has for it."""
        if self.forced:
            return "forced"
        return "promoted" if self.promoted else "refused"

    @property
    def alias(self) -> str:
        """The alias that the challenger gets."""
        return CHAMPION if self.promoted else CHALLENGER

    @property
    def figures(self) -> dict[str, float]:
        """The figures that there are, by the names that the history of the texture has for them."""
        known = {
            "val_pixel_ap": self.challenger_ap,
            "champion_val_pixel_ap": self.champion_ap,
            "win_share": self.win_share,
        }
        return {name: value for name, value in known.items() if value is not None}


def first_champion(texture: str, *, challenger_ap: float) -> Decision:
    """Promote the challenger of a texture that has no champion."""
    reason = f"'{texture}' has no champion yet, so the challenger becomes the first."
    return Decision(promoted=True, reason=reason, challenger_ap=challenger_ap)


def already_champion(texture: str, *, challenger_ap: float) -> Decision:
    """Refuse a challenger that is the champion."""
    reason = f"This detector is already the champion of '{texture}'."
    return Decision(promoted=False, reason=reason, challenger_ap=challenger_ap)


def comparable(*, windows: int, families: int) -> bool:
    """Return whether so many validation windows of so many defect families allow a comparison."""
    return windows >= FEWEST_WINDOWS and families >= FEWEST_FAMILIES


def too_few_windows(*, windows: int, unseen: int, families: int, challenger_ap: float) -> Decision:
    """Refuse a challenger that cannot be compared with the champion.

    Args:
        windows: All validation windows.
        unseen: Those without a pixel that challenger or champion was fitted on.
        families: Defect families among the unseen windows.
        challenger_ap: AP of the challenger on all windows.
    """
    reason = (
        f"Of {windows} validation windows, {unseen} in {families} families show no pixel that "
        f"challenger or champion was fitted on; a comparison takes {FEWEST_WINDOWS} in "
        f"{FEWEST_FAMILIES}. Add good pictures and search again."
    )
    return Decision(promoted=False, reason=reason, challenger_ap=challenger_ap)


def against_champion(
    *, challenger_ap: float, champion_ap: float, win_share: float, draws: int
) -> Decision:
    """Promote a challenger with a higher AP that wins at least `WIN_SHARE` of the draws.

    Args:
        challenger_ap: AP of the challenger on the windows of the comparison.
        champion_ap: AP of the champion on the same windows.
        win_share: Share of the paired bootstrap draws in which the challenger's AP is higher.
        draws: Number of draws.
    """
    higher = challenger_ap > champion_ap
    reason = (
        f"The challenger's val AP of {challenger_ap:.3f} {'beats' if higher else 'does not beat'} "
        f"the champion's {champion_ap:.3f}; it wins {win_share:.1%} of {draws} paired bootstrap "
        f"draws, and {WIN_SHARE:.0%} are needed."
    )
    return Decision(
        promoted=higher and win_share >= WIN_SHARE,
        reason=reason,
        challenger_ap=challenger_ap,
        champion_ap=champion_ap,
        win_share=win_share,
    )


def above_untrained(
    decision: Decision, name: str, *, challenger_ap: float, untrained_ap: float, loss: float
) -> Decision:
    """Refuse a challenger that a method which learns nothing beats beyond chance.

    Args:
        decision: The decision so far.
        name: The method, for the reason.
        challenger_ap: AP of the challenger on all validation windows.
        untrained_ap: AP of the method on the same windows.
        loss: Share of the paired bootstrap draws in which the AP of the method is higher.
    """
    if not decision.promoted or challenger_ap >= untrained_ap or loss < WIN_SHARE:
        return decision
    reason = (
        f"The challenger's val AP of {challenger_ap:.3f} is below that of {name} "
        f"({untrained_ap:.3f}, in {loss:.1%} of the bootstrap draws). Search for longer, or with "
        "another space."
    )
    return replace(decision, promoted=False, reason=reason)


def forced(decision: Decision, *, because: str) -> Decision:
    """Promote a refused challenger for a reason given by the user."""
    if decision.promoted:
        return decision
    reason = f"Forced, because {because.rstrip('.')}. The gate said: {decision.reason}"
    return replace(decision, promoted=True, forced=True, reason=reason)


def doubted(decision: Decision, doubts: Sequence[str]) -> Decision:
    """Refuse a challenger whose verdicts on the test pictures cannot be trusted.

    The first champion of a texture, and one that was forced, stay; the reason has the doubts.

    Args:
        decision: The decision so far.
        doubts: A line for each; none changes nothing.
    """
    if not doubts or not decision.promoted:
        return decision
    first = decision.champion_ap is None
    said = " ".join(doubts)
    return replace(
        decision,
        promoted=first or decision.forced,
        reason=f"{decision.reason} But: {said}" if first or decision.forced else said,
    )
