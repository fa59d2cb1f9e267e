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
from zoo.report import overlays, windows
from zoo.search.search_report import ALL_MAPS, MAPS, WINDOWS
from zoo.training import (
    METRIC,
    ablation,
    choose,
    floor,
    in_final_form,
    made,
    part_of,
    with_threshold,
)

if TYPE_CHECKING:
    from registry.bundle import Bundle
    from registry.runs.buffer import BufferedRuns
    from registry.trials import Outcome
    from zoo.cli._search_run import Searched
    from zoo.scoring.thresholds import Rates
    from zoo.training import TrainingData

JOINED = 3  # best trained detectors that may join the sum
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
    searched: Searched, data: TrainingData, *, rates: Rates
) -> tuple[Bundle, dict[str, float]]:
    """Finish the best detectors of a search, and add them to the floor where that is better.

    Args:
        searched: What the search has made.
        data: The texture.
        rates: Of good pictures.

    Returns:
        The detector, and the figures of the search.
    """
    found, confirmed = searched.result, searched.confirmed
    best = bundle.load(found.best)
    candidates = [
        *([confirmed.best] if confirmed else []),
        *searched.longer,
        *(bundle.load(each.folder) for each in found.detectors[:JOINED]),
    ]
    candidates.sort(key=lambda each: -each.metrics[METRIC])
    trained = [in_final_form(each, data) for each in candidates[:JOINED]]
    parts = [*searched.untrained, *(part_of(each, data, rates=rates) for each in trained)]
    fusion = choose(parts, data)
    chosen = with_threshold(made(parts, fusion, data, rates=rates), data, rates=rates)
    chosen = ablation.with_ablation(chosen, parts, fusion, data)
    say(f"The detector is {described(chosen)}.")
    figures = {
        METRIC: chosen.metrics[METRIC],
        f"{METRIC}_trial": best.metrics[METRIC],
        f"{METRIC}_untrained": made(parts, floor(parts, data), data).metrics[METRIC],
        "seconds": found.seconds,
    }
    figures |= {f"trials_{name}": float(number) for name, number in found.outcomes.items()}
    if confirmed:
        figures |= {
            f"confirmed_{METRIC}": confirmed.mean,
            "confirmed_spread": confirmed.spread,
            "confirmed_seeds": float(len(confirmed.values)),
        }
    return chosen, figures


def described(made: Bundle) -> str:
    """Return of which parts the map and the score of a detector are the sum."""
    texts = []
    for what in ("map", "score"):
        weights = made.fusion[f"{what}_weights"]
        used = [part.method for part, weight in zip(made.parts, weights, strict=True) if weight]
        texts.append(f"{' + '.join(used)} for the {what}")
    return ", ".join(texts)


def example_maps(best: Bundle, data: TrainingData, folder: Path) -> list[Path]:
    """Write a detector's maps of validation windows, and a sheet of the defects.

    The windows are kept one by one too, with what the detector says of each, for the report.

    Args:
        best: The detector.
        data: The texture.
        folder: Of the search.

    Returns:
        The paths of two pictures: one validation window of each family with its map, and the sheet.
    """
    detector = Detector(best)
    shown = windows.chosen(data.validation)
    scores = [detector.score(window.image) for window in shown]
    windows.save(shown, scores, folder / MAPS / WINDOWS)
    last = {window.family: at for at, window in enumerate(shown)}
    rows = [
        overlays.picture_and_map(shown[at].image, scores[at], shown[at].mask)
        for at in list(last.values())[:MAPS_SHOWN]
    ]
    sheet = folder / MAPS / "synthetic_defects.png"
    draw_sheet(data.splits.val, seed=data.validation_seed, optics=data.optics).save(sheet)
    return [overlays.save(overlays.stacked(rows), folder / MAPS / ALL_MAPS), sheet]
