"""The search for a detector's settings: Ray Tune with Optuna's TPE and ASHA, for one texture.

`run.run_search` runs the trials and returns the best detector of each. `config` has the limits of
a search and the protocol `TrialLog`, through which a search reports its trials. No module here
imports MLflow.
"""

# `callback`, `earlier`, `trial` and `tune_controller` are private: parts of `run`.
__all__ = [
    "all_textures",
    "cluster",
    "cluster_file",
    "config",
    "confirm",
    "pacing",
    "run",
    "space",
    "storage",
    "study",
]
