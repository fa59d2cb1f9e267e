"""Measures the trials of a search on the test images, after the search has ended.

A search chooses its detector by the validation AP on synthetic defects. The audit compares that
choice with the test AP of all trials and of the methods that learn nothing: how much lower it is
than the best one, and how well validation AP and test AP correlate. The result is not used to
choose anything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from registry import bundle
from registry.trials import CHAMPION, FLOOR, SEARCH_CONFIG, UNTRAINED
from zoo.data.layouts import folder_names
from zoo.data.testset import has_test
from zoo.data.textures import Texture
from zoo.detectors import Detector
from zoo.errors import BundleError, DataError, SearchError, did_you_mean
from zoo.evaluation import audit_log
from zoo.evaluation.audit import pixel_ap, score_test
from zoo.files import read_object, write_csv
from zoo.report.plots import Scatter, draw_scatter

FEWEST_TRIALS = 3  # a rank correlation of two trials is always 1 or -1
TABLE, PLOT, LOGS = "audit.csv", "audit.png", "audit"
_TRIAL = re.compile(r"[^_]+_(?P<name>[^_]+)_(?P<number>\d+)_")  # Ray's name of a trial's folder


@dataclass(frozen=True, kw_only=True)
class AuditedTrial:
    """The best detector of a trial.

    Attributes:
        trial: Name of the trial.
        folder: Folder of the bundle.
        val_pixel_ap: The objective of the search.
        val_pixel_ap_held_out: The same over the families that no training sees; None if the
            bundle does not have it.
    """

    trial: str
    folder: Path
    val_pixel_ap: float
    val_pixel_ap_held_out: float | None


@dataclass(frozen=True, kw_only=True)
class Point:
    """One trial with its validation AP and its test AP."""

    trial: str
    val_pixel_ap: float
    val_pixel_ap_held_out: float | None
    test_pixel_ap: float


@dataclass(frozen=True, kw_only=True)
class SearchAudit:
    """The choice of a search compared with the test AP of all trials.

    Attributes:
        search: Name of the search.
        trials: Number of trials with a detector.
        champion: What the search chose: its detector, named `best`.
        champion_val_pixel_ap: Its objective.
        champion_test_pixel_ap: Its average precision on the test images.
        oracle: The trial, method or sum with the highest test AP; a search must not know it.
        oracle_test_pixel_ap: Its average precision on the test images.
        regret: The test AP of the oracle minus that of the champion.
        spearman: Rank correlation of `val_pixel_ap` with test AP over trials and methods; None if
            either is the same for all of them.
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
    """Return the folder of an ended search on the same pictures, the newest if none is named.

    Args:
        storage: Folder of all searches.
        texture: Texture of the search.
        name: Name of the search.

    Raises:
        SearchError: There is no such search, it has not ended, or it was on other pictures.
    """
    configs = {
        path.parent.name: read_object(path) for path in sorted(storage.glob(f"*/{SEARCH_CONFIG}"))
    }
    known = [each for each, config in configs.items() if config.get("texture") == texture.name]
    if name is not None and name not in known:
        there_are = (
            f"those of '{texture.name}' are {', '.join(known)}" if known else "there is none"
        )
        raise SearchError(
            f"There is no search '{name}' of '{texture.name}' under {storage}; {there_are}."
            f"{did_you_mean(name, known)}"
        )
    if not known:
        raise SearchError(
            f"There is no search of '{texture.name}' under {storage} to audit. Start one with "
            f"`zoo search --category {texture.name}`."
        )
    chosen = name or known[-1]
    if not (storage / chosen / CHAMPION / bundle.CARD).is_file():
        raise SearchError(
            f"The search {chosen} has not ended with a detector; it can be audited only after its "
            "end. Wait for it, or continue it with `zoo search --resume`."
        )
    searched = str(configs[chosen].get("fingerprint"))
    if searched != texture.fingerprint:
        raise SearchError(
            f"The search {chosen} was on other pictures ({searched[:19]}...) than {texture.root} "
            f"holds now ({texture.fingerprint[:19]}...). Give the pictures of the search."
        )
    return storage / chosen


def kept_detectors(folder: Path, *, say: Callable[[str], None]) -> list[AuditedTrial]:
    """Return the best detector of each trial of a search, in the order in which the trials began.

    An interrupted trial may have two checkpoints, or an incomplete one. An incomplete checkpoint is
    reported to `say` and skipped.
    """
    trials: list[AuditedTrial] = []
    own = (CHAMPION, FLOOR, UNTRAINED, LOGS)
    folders = (each for each in folder.iterdir() if each.is_dir() and each.name not in own)
    for trial in sorted(folders, key=_number):
        name = _TRIAL.match(trial.name)
        detectors = []
        for path in sorted(trial.glob("checkpoint_*/bundle")):
            try:
                metrics = bundle.load(path).metrics
            except BundleError as error:
                say(f"Skipped: {error}")
                continue
            detectors.append(
                AuditedTrial(
                    trial=name["name"] if name else trial.name,
                    folder=path,
                    val_pixel_ap=metrics["val_pixel_ap"],
                    val_pixel_ap_held_out=metrics.get("val_pixel_ap_held_out"),
                )
            )
        if detectors:
            trials.append(max(detectors, key=lambda detector: detector.val_pixel_ap))
    return trials


def audit_search(
    folder: Path, texture: Texture, *, say: Callable[[str], None], device: str = "cpu"
) -> SearchAudit:
    """Measure every trial of an ended search on the test images, and write a table and a plot.

    For each detector there is also a file with a line for each test picture. The defective pictures
    to which the chosen detector gives the lowest scores, and the good ones with the highest, are
    reported to `say`.

    The detectors are measured one after the other, so only the maps of one are in memory. The table
    is written again after each, so that an interruption loses one trial only.

    Args:
        folder: Folder of the search.
        texture: The pictures of the search.
        say: Receives a line for each trial.
        device: Where to compute.

    Raises:
        ConfigError: The device does not exist here.
        SearchError: Fewer than three trials have a detector.
        DataError: No test image has a mask of a defect.
        StorageError: The table or the plot cannot be written.
    """
    if not has_test(texture):
        raise DataError(_without_defects(texture))
    trials = kept_detectors(folder, say=say)
    others = [folder / UNTRAINED / name for name in folder_names(folder / UNTRAINED)]
    others += [folder / name for name in (FLOOR, CHAMPION)]
    if len(trials) < FEWEST_TRIALS:
        raise SearchError(
            f"The search {folder.name} has {len(trials)} trials with a detector; to compare "
            f"validation with test takes {FEWEST_TRIALS}. Search for longer."
        )
    points: list[Point] = []
    for each in [*trials, *filter(None, map(_other, others))]:
        scored = score_test(Detector(bundle.load(each.folder), device=device), texture)
        if not scored.located:
            raise DataError(_without_defects(texture))
        audit_log.write(scored, log_of(folder, each.trial))
        points.append(
            Point(
                trial=each.trial,
                val_pixel_ap=each.val_pixel_ap,
                val_pixel_ap_held_out=each.val_pixel_ap_held_out,
                test_pixel_ap=pixel_ap(scored),
            )
        )
        write_csv([asdict(point) for point in points], folder / TABLE)
        say(f"{each.trial}: val {points[-1].val_pixel_ap:.3f}, test {points[-1].test_pixel_ap:.3f}")
    found = replace(compared(folder.name, points, champion=CHAMPION), trials=len(trials))
    names = [point.trial for point in points]
    plot = Scatter(
        title=f"{found.search}: {found.trials} trials, regret {found.regret:.3f}",
        labels=("val_pixel_ap (synthetic defects)", "test_pixel_ap"),
        x=[point.val_pixel_ap for point in points],
        y=[point.test_pixel_ap for point in points],
        marked={
            "chosen by the search": names.index(found.champion),
            "best on the test images": names.index(found.oracle),
        },
    )
    draw_scatter(plot, folder / PLOT)
    for line in audit_log.nearest(log_of(folder, found.champion)):
        say(line)
    return found


def log_of(folder: Path, trial: str) -> Path:
    """Return the file with what the detector of a trial says of each test picture."""
    return folder / LOGS / f"{trial}.jsonl"


def compared(search: str, points: Sequence[Point], *, champion: str | None = None) -> SearchAudit:
    """Compare what the search chose with the best test AP.

    Args:
        search: Name of the search.
        points: All trials, methods and sums.
        champion: Name of the point that the search chose; None is the highest validation AP, the
            first of those that are equal.
    """
    chosen = next(
        (point for point in points if point.trial == champion),
        max(points, key=lambda point: point.val_pixel_ap),
    )
    oracle = max(points, key=lambda point: point.test_pixel_ap)
    held_out = [
        (point.val_pixel_ap_held_out, point.test_pixel_ap)
        for point in points
        if point.val_pixel_ap_held_out is not None
    ]
    return SearchAudit(
        search=search,
        trials=len(points),
        champion=chosen.trial,
        champion_val_pixel_ap=chosen.val_pixel_ap,
        champion_test_pixel_ap=chosen.test_pixel_ap,
        oracle=oracle.trial,
        oracle_test_pixel_ap=oracle.test_pixel_ap,
        regret=oracle.test_pixel_ap - chosen.test_pixel_ap,
        spearman=_spearman([(point.val_pixel_ap, point.test_pixel_ap) for point in points]),
        spearman_held_out=_spearman(held_out),
    )


def _other(folder: Path) -> AuditedTrial | None:
    """Return the detector in a folder that is no trial's; None if there is none.

    The choice of an older search is no sum: it is the detector of one of its trials.
    """
    if not (folder / bundle.CARD).is_file():
        return None
    found = bundle.load(folder)
    if folder.name == CHAMPION and not found.parts:
        return None
    metrics = found.metrics
    return AuditedTrial(
        trial=folder.name,
        folder=folder,
        val_pixel_ap=metrics["val_pixel_ap"],
        val_pixel_ap_held_out=metrics.get("val_pixel_ap_held_out"),
    )


def _spearman(pairs: Sequence[tuple[float, float]]) -> float | None:
    from scipy.stats import spearmanr  # imported here because the import is slow

    if len(pairs) < FEWEST_TRIALS or any(len(set(side)) == 1 for side in zip(*pairs, strict=True)):
        return None
    return float(spearmanr(*zip(*pairs, strict=True)).statistic)


def _number(trial: Path) -> tuple[int, str]:
    match = _TRIAL.match(trial.name)
    return (int(match["number"]) if match else 0, trial.name)


def _without_defects(texture: Texture) -> str:
    return (
        f"No test image of '{texture.name}' in {texture.root} has a mask of a defect, so there is "
        "no test AP to compare with. Give a data set with test/<kind> and ground_truth/<kind>."
    )
