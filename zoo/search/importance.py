"""How much each setting decides whether a trial is among the best, by Optuna."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
    json_to_distribution,
)
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import TrialState, create_trial
from ray.tune.search.optuna import OptunaSearch

from registry.trials import TrialRecord
from zoo.files import read_object, write_text
from zoo.report.search_page import Importance

if TYPE_CHECKING:
    from optuna.study import Study

FEWEST = 10  # whole trials
BEST_SHARE = 0.1  # of the trials, that count as the best,
FEWEST_BEST = 5  # but so many at least, as Optuna advises
WIDE = 20.0  # times: a range of numbers above 0 so wide was searched by its logarithm
RANGES = "ranges.json"  # in the folder of a search


def save_ranges(domains: Mapping[str, Any], folder: Path) -> None:
    """Write the range of each setting of a search into its folder.

    Args:
        domains: The distributions of Ray Tune, and fixed values.
        folder: Of the search.

    Raises:
        StorageError: It cannot be written.
    """
    ranges = OptunaSearch.convert_search_space(dict(domains))
    texts = {name: json.loads(distribution_to_json(each)) for name, each in ranges.items()}
    write_text(json.dumps(texts, indent=1), folder / RANGES)


def importance(trials: Sequence[TrialRecord], folder: Path | None = None) -> Importance:
    """Return the importance of the settings that differ among whole trials.

    A trial that was stopped early has no final value, so it does not count.

    Args:
        trials: Of a search.
        folder: Of the search; the ranges of its settings are in it. Those of older searches are
            taken from the trials.
    """
    whole = [trial for trial in trials if trial.outcome == "finished" and trial.best is not None]
    counts = f"{len(whole)} of {len(trials)} trials are whole"
    if len(whole) < FEWEST:
        return Importance(
            shares={},
            note=f"{counts}. To say which settings matter takes {FEWEST} whole trials: a trial "
            "that was stopped early has no final value.",
        )
    values = [{name: _value(text) for name, text in each.params.items()} for each in whole]
    ranges = _ranges(values, read_object(folder / RANGES) if folder else {})
    if not ranges or len({each.best for each in whole}) == 1:
        return Importance(shares={}, note=f"{counts}, and they do not differ.")
    best = max(FEWEST_BEST, round(BEST_SHARE * len(whole)))
    study = _study(whole, values, ranges)
    evaluator = PedAnovaImportanceEvaluator(target_quantile=best / len(whole))
    return Importance(
        shares=get_param_importances(study, evaluator=evaluator),
        note=f"{counts}; these are compared with the best {best} of them.",
    )


def _study(
    whole: Sequence[TrialRecord],
    values: Sequence[Mapping[str, Any]],
    ranges: Mapping[str, BaseDistribution],
) -> Study:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(direction="maximize")
    finally:
        optuna.logging.set_verbosity(before)
    for trial, known in zip(whole, values, strict=True):
        study.add_trial(
            create_trial(
                state=TrialState.COMPLETE,
                value=trial.best,
                params={name: known[name] for name in ranges},
                distributions=dict(ranges),
            )
        )
    return study


def _ranges(
    values: Sequence[Mapping[str, Any]], stored: Mapping[str, Any]
) -> dict[str, BaseDistribution]:
    """Return the range of each setting that differs; a stored one is widened to hold all values."""
    names = sorted(set.intersection(*(set(each) for each in values)))
    found = {}
    for name in names:
        seen = [each[name] for each in values]
        if len(set(map(repr, seen))) > 1:
            found[name] = _range(seen, _stored(stored.get(name)))
    return found


def _range(seen: Sequence[Any], stored: BaseDistribution | None) -> BaseDistribution:
    numbers = all(isinstance(each, int | float) and not isinstance(each, bool) for each in seen)
    if isinstance(stored, CategoricalDistribution) or not numbers:
        own = stored.choices if isinstance(stored, CategoricalDistribution) else ()
        return CategoricalDistribution(tuple(dict.fromkeys([*own, *seen])))
    low, high = min(seen), max(seen)
    if isinstance(stored, FloatDistribution | IntDistribution):
        low, high, log = min(low, stored.low), max(high, stored.high), stored.log
    else:
        log = low > 0 and high / low >= WIDE
    if all(isinstance(each, int) for each in (*seen, low, high)):
        return IntDistribution(int(low), int(high), log=log)
    return FloatDistribution(float(low), float(high), log=log)


def _stored(known: Any) -> BaseDistribution | None:
    try:
        return json_to_distribution(json.dumps(known)) if known else None
    except (ValueError, KeyError, TypeError):
        return None


def _value(text: str) -> Any:
    """Return a setting as MLflow's text stands for it."""
    if text in ("True", "False"):
        return text == "True"
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        return number if math.isfinite(number) else text
    return text
