"""Searches and model versions in MLflow. No other package imports MLflow.

`store` opens an MLflow store. `search_runs` keeps one search, a run a trial, and `buffer` delivers
it when the store was away. `searches` lists the searches of a store, `records` reads one of them.
`model_versions` keeps published bundles in MLflow's Model Registry.
"""

__all__ = ["buffer", "model_versions", "records", "search_runs", "searches", "store"]
