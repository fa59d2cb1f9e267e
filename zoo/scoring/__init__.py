"""From losses to a map, a score and a decision, and their metrics. Works on arrays and tensors.

A method gives each pixel one or several losses. `aggregation` combines them into one map,
`selection` chooses the rule for this on *val*, `thresholds` sets the threshold, `maps` has
operations on maps, and `metrics` measures their quality.
"""

__all__ = ["aggregation", "maps", "metrics", "selection", "thresholds"]
