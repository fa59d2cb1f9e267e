"""What `zoo search` does after the search: the finished detector and its example maps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from registry import bundle
from zoo.cli.output import say
from zoo.data.defects.sheet import draw_sheet
from zoo.detectors import Detector
from zoo.errors import StorageError, one_line
from zoo.report import overlays
from zoo.training import METRIC, finish, with_baseline

if TYPE_CHECKING:
    from registry.bundle import Bundle
    from registry.runs.buffer import BufferedRuns
    from registry.trials import Outcome
    from zoo.search.confirm import Confirmed
    from zoo.search.run import SearchResult
    from zoo.training import TrainingData

MAPS_SHOWN = 8  # example maps of a search: they fit on one page
PATIENCE_ON_ERROR_S = 10.0  # for MLflow, while a user waits to read what went wrong


@contextmanager
def closed_on_error(log: BufferedRuns) -> Iterator[None]:
    """End the search's MLflow runs if it fails or is stopped."""
    try:
        yield
    except BaseException as error:
        outcome: Outcome = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        try:
            log.close({}, outcome, timeout_s=PATIENCE_ON_ERROR_S)
        except StorageError as lost:
            say(f"zoo: {one_line(lost)}")
        raise


def finish_best(
    found: SearchResult,
    confirmed: Confirmed | None,
    data: TrainingData,
    *,
    false_alarm_rate: float,
) -> tuple[Bundle, dict[str, float]]:
    """Finish the best detector of a search.

    Returns:
        The detector, and the figures of the search.
    """
    checkpoint = confirmed.best if confirmed else bundle.load(found.best)
    best = with_baseline(finish(checkpoint, data, false_alarm_rate=false_alarm_rate), data)
    value, baseline = checkpoint.metrics[METRIC], best.metrics[f"{METRIC}_baseline"]
    if value <= baseline:
        say(f"Local statistics, the baseline, are as good ({baseline:.3f}): search for longer.")
    figures = {METRIC: value, f"{METRIC}_baseline": baseline, "seconds": found.seconds}
    figures |= {f"trials_{name}": float(number) for name, number in found.outcomes.items()}
    if confirmed:
        figures |= {
            f"confirmed_{METRIC}": confirmed.mean,
            "confirmed_spread": confirmed.spread,
            "confirmed_seeds": float(len(confirmed.values)),
        }
    return best, figures


def example_maps(best: Bundle, data: TrainingData, folder: Path) -> list[Path]:
    """Write a detector's maps of one validation window per family, and a sheet of the defects.

    Returns:
        The paths of the two images.
    """
    detector = Detector(best)
    windows = {window.family: window for window in data.validation}
    rows = [
        overlays.picture_and_map(window.image, detector.score(window.image), window.mask)
        for window in list(windows.values())[:MAPS_SHOWN]
    ]
    sheet = folder / "synthetic_defects.png"
    folder.mkdir(parents=True, exist_ok=True)
    draw_sheet(data.splits.val, seed=data.validation_seed).save(sheet)
    return [overlays.save(overlays.stacked(rows), folder / "maps_on_val.png"), sheet]
