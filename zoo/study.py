"""What Optuna is told of a search: the curve of each trial, and how it ended."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from optuna.samplers import TPESampler
from optuna.trial import TrialState
from ray.tune.search.optuna import OptunaSearch

from zoo.trial import FAILURE

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

STARTUP = 8  # trials drawn at random before TPE has enough to go by


class Study(OptunaSearch):
    """Ray's searcher of Optuna, but it tells the truth.

    Ray's own tells of every trial that it is complete, with its last value; the early value of one
    that ASHA stopped then counts as what its settings are worth. Here a trial is COMPLETE if it
    made all its reports, with the best of them as its value, as that is the detector it leaves;
    PRUNED with its curve if it was stopped early; FAIL if it failed. One that was interrupted stays
    RUNNING, and is told of when it has gone on.
    """

    _ot_study: Any  # Ray makes it once it knows the space, and declares it None

    def __init__(self, *, seed: int, reports: int, first: dict[str, Any]) -> None:
        """Begin a study.

        Args:
            seed: Of what TPE draws.
            reports: How many a trial makes that nobody stops.
            first: Parameters that are tried before any are drawn.
        """
        sampler = TPESampler(seed=seed, n_startup_trials=STARTUP)
        super().__init__(sampler=sampler, points_to_evaluate=[first])
        self._reports = reports
        self._curves: dict[str, dict[int, float]] = {}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Note a report; one that a resumed trial makes again is known already."""
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
        """Note how a trial ended. The report at which it was stopped comes here and not above.

        A trial of which the search could not write down that it ended may end again.
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

    def settle(self, trials: Sequence[Trial]) -> None:
        """Take from the trials of a resumed search what was written down of this study too early.

        A trial that Ray does not know any more has failed; Ray draws another in its place.
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
