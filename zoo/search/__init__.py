"""The search for a detector's settings: Ray Tune with Optuna's TPE and ASHA, for one texture.

`run.run_search` runs the trials and returns the best detector of each. `config` has the limits of
a search and the protocol `TrialLog`, through which a search reports its trials; `progress` has the
protocol of what shows it to the user. `search_report` gathers what the report of a search shows. No
module here imports MLflow.
"""

# `callback`, `earlier`, `importance`, `trial` and `tune_controller` are private: parts of others.
__all__ = [
    "all_textures",
    "cluster",
    "cluster_file",
    "config",
    "confirm",
    "pacing",
    "progress",
    "run",
    "search_report",
    "space",
    "storage",
    "study",
    "trial_files",
]
