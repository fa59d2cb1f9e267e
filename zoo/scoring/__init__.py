"""From losses to a map, a score and a decision, and their metrics. Works on arrays and tensors.

A method gives each pixel one or several losses. `aggregation` combines them into one map,
`selection` chooses the rule for this on *val*, `thresholds` sets the threshold, `fusion` adds the
maps of several detectors, `outlines` says which pixels are anomalous and `regions` which of them
are one defect, `maps` has operations on maps, `metrics` measures their quality, `curves` has the
curves behind these figures, and `objective` is the figure that a search looks for.
"""

__all__ = [
    "aggregation",
    "curves",
    "fusion",
    "maps",
    "metrics",
    "objective",
    "outlines",
    "regions",
    "selection",
    "thresholds",
]
