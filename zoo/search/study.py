"""How Optuna learns of the trials: the curve of each one, and how it ended."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from optuna.samplers import TPESampler
from optuna.trial import TrialState
from ray.tune.search.optuna import OptunaSearch

from zoo.search.trial import FAILURE

if TYPE_CHECKING:
    from ray.tune.experiment import Trial


STARTUP = 8  # trials drawn at random before TPE models the results


class Study(OptunaSearch):
    """Ray's `OptunaSearch`, with the right state for each trial.

    Ray's class marks every trial as COMPLETE with its last value. The early value of a trial that
    ASHA stopped then counts as its final value. Here a trial with all its reports is COMPLETE, and
    its value is its best report, because that is the detector it leaves. A trial that was stopped
    early is PRUNED, with its curve. One that failed is FAIL. One that was interrupted stays RUNNING
    until it has gone on and ended.
    """

    _ot_study: Any  # Ray declares it None, and sets it once it knows the space

    def __init__(self, *, seed: int, reports: int, first: list[dict[str, Any]]) -> None:
        """Create the study.

        Args:
            seed: Of TPE.
            reports: Number of reports of a whole trial.
            first: Parameters of the first trials.
        """
        sampler = TPESampler(seed=seed, n_startup_trials=STARTUP)
        super().__init__(sampler=sampler, points_to_evaluate=first)
        self._reports = reports
        self._curves: dict[str, dict[int, float]] = {}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Pass on a report, unless it is known: a resumed trial may repeat reports."""
        if FAILURE in result or trial_id in self._completed_trials:
            return
        value, step = float(result[self.metric]), int(result["training_iteration"])
        curve = self._curves.setdefault(trial_id, {})
        if step not in curve and math.isfinite(value):
            curve[step] = value
            self._ot_trials[trial_id].report(value, step)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Pass on how a trial ended, and its last report, which Ray sends here only.

        A trial may end twice, if the search was killed before Ray had saved its end.
        """
        if trial_id in self._completed_trials:
            return
        if result and self.metric in result:
            self.on_trial_result(trial_id, result)
        error = error or FAILURE in (result or {})
        curve = self._curves.pop(trial_id, {})
        whole = not error and max(curve, default=0) >= self._reports
        ended = TrialState.COMPLETE if whole else TrialState.PRUNED
        self._ot_study.tell(
            self._ot_trials[trial_id],
            max(curve.values()) if whole else None,
            state=TrialState.FAIL if error else ended,
        )
        self._completed_trials.add(trial_id)

    def reconcile(self, trials: Sequence[Trial]) -> None:
        """Correct the restored study by the trials of a resumed search.

        Ray saves its files one after the other, so the study may be older or newer than the
        trials. A trial that only the study has is marked as failed; Ray draws another.
        """
        for trial in trials:
            if trial.trial_id not in self._ot_trials:
                self._ot_study.enqueue_trial(trial.evaluated_params)
                self.suggest(trial.trial_id)
            if trial.is_finished():
                error = trial.status == trial.ERROR
                self.on_trial_complete(trial.trial_id, trial.last_result, error)
        for lost in self._ot_trials.keys() - {trial.trial_id for trial in trials}:
            self.on_trial_complete(lost, error=True)
