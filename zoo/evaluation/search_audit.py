"""How good a search's choice was, seen from the test images once the search has ended.

A search chooses by synthetic defects. Here every trial that it kept is measured on the test images
as well: how much better the best of them would have been, and whether the two ever agree. Nothing
is chosen by it.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

from registry import bundle
from zoo.data.testset import has_test
from zoo.data.textures import Texture
from zoo.detectors import Detector
from zoo.errors import BundleError, DataError, SearchError, did_you_mean
from zoo.evaluation.audit import pixel_ap, score_test
from zoo.files import write_text
from zoo.report.plots import Scatter, draw_scatter

FEWEST_TRIALS = 3  # a rank correlation of two is always 1 or -1
TABLE, PLOT = "audit.csv", "audit.png"
_TRIAL = re.compile(r"[^_]+_(?P<name>[^_]+)_(?P<number>\d+)_")  # Ray's name of a trial's folder


@dataclass(frozen=True, kw_only=True)
class AuditedTrial:
    """A trial's best detector, where the search left it.

    Attributes:
        trial: Whose it is.
        folder: The bundle.
        val_pixel_ap: The search's objective.
        val_pixel_ap_held_out: The same over the families that no training sees; None if the
            bundle does not say.
    """

    trial: str
    folder: Path
    val_pixel_ap: float
    val_pixel_ap_held_out: float | None


@dataclass(frozen=True, kw_only=True)
class Point:
    """One trial as the validation windows and as the test images see it."""

    trial: str
    val_pixel_ap: float
    val_pixel_ap_held_out: float | None
    test_pixel_ap: float


@dataclass(frozen=True, kw_only=True)
class SearchAudit:
    """How good a search's choice was, seen from the test images.

    Attributes:
        search: Its name.
        trials: How many had a detector.
        champion: The trial that the search chose, by `val_pixel_ap`.
        champion_val_pixel_ap: Its objective.
        champion_test_pixel_ap: Its average precision on the test images.
        oracle: The trial that is best on the test images, which no search may know.
        oracle_test_pixel_ap: Its average precision there.
        regret: What the choice lost: the oracle's less the champion's.
        spearman: Rank correlation of `val_pixel_ap` with test AP over trials; None if either is
            the same for all.
        spearman_held_out: The same for `val_pixel_ap_held_out`, over the trials that have it.
    """

    search: str
    trials: int
    champion: str
    champion_val_pixel_ap: float
    champion_test_pixel_ap: float
    oracle: str
    oracle_test_pixel_ap: float
    regret: float
    spearman: float | None
    spearman_held_out: float | None


def find_search(storage: Path, texture: Texture, name: str | None = None) -> Path:
    """Return the folder of an ended search on these very pictures, the newest if none is named.

    Args:
        storage: Folder of all searches.
        texture: What it was for.
        name: Of the search.

    Raises:
        SearchError: There is none, it has not ended, or it was for something else.
    """
    plans = {path.parent.name: _plan(path) for path in _plans(storage)}
    mine = [each for each, plan in plans.items() if plan.get("texture") == texture.name]
    said = f"those of '{texture.name}' are {', '.join(mine)}" if mine else "there is none"
    if name is not None and name not in mine:
        raise SearchError(
            f"There is no search '{name}' of '{texture.name}' under {storage}; {said}."
            f"{did_you_mean(name, mine)}"
        )
    if not mine:
        raise SearchError(
            f"There is no search of '{texture.name}' under {storage} to audit. Start one with "
            f"`zoo search --category {texture.name}`."
        )
    chosen = name or mine[-1]
    if not (storage / chosen / "best" / bundle.CARD).is_file():
        raise SearchError(
            f"The search {chosen} has not ended with a detector, and test images are for "
            "afterwards. Wait for it, or go on with `zoo search --resume`."
        )
    begun_on = str(plans[chosen].get("fingerprint"))
    if begun_on != texture.fingerprint:
        raise SearchError(
            f"The search {chosen} was on other pictures ({begun_on[:19]}...) than {texture.root} "
            f"holds now ({texture.fingerprint[:19]}...). Give the pictures it was on."
        )
    return storage / chosen


def kept_detectors(folder: Path, *, say: Callable[[str], None]) -> list[AuditedTrial]:
    """Return the best detector of each trial of a search, in the order the trials began.

    A trial that was interrupted may have left two checkpoints, or half of one; the latter is told
    and passed over.
    """
    found: list[AuditedTrial] = []
    for trial in sorted((each for each in folder.iterdir() if each.is_dir()), key=_number):
        left = []
        for where in sorted(trial.glob("checkpoint_*/bundle")):
            try:
                known = bundle.load(where).metrics
            except BundleError as error:
                say(f"Passed over: {error}")
                continue
            named = _TRIAL.match(trial.name)
            left.append(
                AuditedTrial(
                    trial=named["name"] if named else trial.name,
                    folder=where,
                    val_pixel_ap=known["val_pixel_ap"],
                    val_pixel_ap_held_out=known.get("val_pixel_ap_held_out"),
                )
            )
        if left:
            found.append(max(left, key=lambda kept: kept.val_pixel_ap))
    return found


def audit_search(folder: Path, texture: Texture, *, say: Callable[[str], None]) -> SearchAudit:
    """Measure every trial of an ended search on the test images, and leave a table and a plot.

    One detector after the other: what is held are the maps of one of them. The table grows with
    each, so that an interruption keeps what is done.

    Args:
        folder: Of the search.
        texture: The pictures it was on.
        say: Receives a line for each trial.

    Raises:
        SearchError: Fewer than three trials have a detector.
        DataError: No test image has a defect.
        StorageError: The table or the plot cannot be written.
    """
    if not has_test(texture):
        raise DataError(_without_defects(texture))
    kept = kept_detectors(folder, say=say)
    if len(kept) < FEWEST_TRIALS:
        raise SearchError(
            f"The search {folder.name} has {len(kept)} trials with a detector; to compare "
            f"validation with test takes {FEWEST_TRIALS}. Search for longer."
        )
    points: list[Point] = []
    for each in kept:
        scored = score_test(Detector(bundle.load(each.folder)), texture)
        if not scored.defective.any():
            raise DataError(_without_defects(texture))
        points.append(
            Point(
                trial=each.trial,
                val_pixel_ap=each.val_pixel_ap,
                val_pixel_ap_held_out=each.val_pixel_ap_held_out,
                test_pixel_ap=pixel_ap(scored),
            )
        )
        write_text(_table(points), folder / TABLE)
        say(
            f"{len(points)} of {len(kept)}: {each.trial} val {points[-1].val_pixel_ap:.3f}, "
            f"test {points[-1].test_pixel_ap:.3f}"
        )
    found = compared(folder.name, points)
    trials = [point.trial for point in points]
    plot = Scatter(
        title=f"{found.search}: {found.trials} trials, regret {found.regret:.3f}",
        labels=("val_pixel_ap (synthetic defects)", "test_pixel_ap"),
        x=[point.val_pixel_ap for point in points],
        y=[point.test_pixel_ap for point in points],
        marked={
            "chosen by the search": trials.index(found.champion),
            "best on the test images": trials.index(found.oracle),
        },
    )
    draw_scatter(plot, folder / PLOT)
    return found


def compared(search: str, points: Sequence[Point]) -> SearchAudit:
    """Compare what the search chose with what the test images would have chosen.

    Of equals the earlier trial is meant, as in the search itself.
    """
    champion = max(points, key=lambda point: point.val_pixel_ap)
    oracle = max(points, key=lambda point: point.test_pixel_ap)
    held_out = [
        (point.val_pixel_ap_held_out, point.test_pixel_ap)
        for point in points
        if point.val_pixel_ap_held_out is not None
    ]
    return SearchAudit(
        search=search,
        trials=len(points),
        champion=champion.trial,
        champion_val_pixel_ap=champion.val_pixel_ap,
        champion_test_pixel_ap=champion.test_pixel_ap,
        oracle=oracle.trial,
        oracle_test_pixel_ap=oracle.test_pixel_ap,
        regret=oracle.test_pixel_ap - champion.test_pixel_ap,
        spearman=_spearman([(point.val_pixel_ap, point.test_pixel_ap) for point in points]),
        spearman_held_out=_spearman(held_out),
    )


def _spearman(pairs: Sequence[tuple[float, float]]) -> float | None:
    from scipy.stats import spearmanr  # here: it is slow to import, and promotion does without

    if len(pairs) < FEWEST_TRIALS or any(len(set(side)) == 1 for side in zip(*pairs, strict=True)):
        return None
    return float(spearmanr(*zip(*pairs, strict=True)).statistic)


def _table(points: Sequence[Point]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in fields(Point))
    writer.writerows(astuple(point) for point in points)
    return text.getvalue()


def _plans(storage: Path) -> list[Path]:
    return sorted(storage.glob("*/search.json"))


def _plan(path: Path) -> dict[str, Any]:
    """Read a plan; one that is damaged belongs to no texture."""
    try:
        plan = json.loads(path.read_text())
    except ValueError:
        return {}
    return plan if isinstance(plan, dict) else {}


def _number(trial: Path) -> tuple[int, str]:
    named = _TRIAL.match(trial.name)
    return (int(named["number"]) if named else 0, trial.name)


def _without_defects(texture: Texture) -> str:
    return (
        f"No test image of '{texture.name}' in {texture.root} has a defect, so there is no test AP "
        "to compare with. Give a data set with test/<kind> and ground_truth/<kind>."
    )
