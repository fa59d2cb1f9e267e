"""From losses to a map, a score and a verdict, and how good they are. Arrays and tensors only.

A method gives each pixel one or several losses. `aggregation` makes one map of them, `selection`
chooses how on *val*, `thresholds` sets where good ends, `maps` has the operations on maps, and
`metrics` measures them.
"""

__all__ = ["aggregation", "maps", "metrics", "selection", "thresholds"]
