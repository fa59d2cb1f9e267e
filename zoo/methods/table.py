"""The names of all methods. It imports nothing, so help texts can list the methods quickly.

To add a method, add its module to this package and its line to `METHODS`.
"""

from __future__ import annotations

METHODS: dict[str, str] = {
    "fcbigan": "zoo.methods.fcbigan.method:FCBiGAN",
    "feature_dictionary": "zoo.methods.feature_dictionary:FeatureDictionary",
    "feature_memory": "zoo.methods.feature_memory:FeatureMemory",
    "feature_noise": "zoo.methods.feature_noise:FeatureNoise",
    "bigan": "zoo.methods.bigan:BiGAN",
    "f_anogan": "zoo.methods.f_anogan:FAnoGAN",
    "local_statistics": "zoo.methods.local_statistics:LocalStatistics",
    "random_features": "zoo.methods.random_features:RandomFeatures",
    "sparse_dictionary": "zoo.methods.sparse_dictionary:SparseDictionary",
}
DEFAULT = "fcbigan"  # the method of a search
PRESETS: dict[str, str] = {"thesis": "fcbigan"}  # named configurations, and the method of each


def names() -> list[str]:
    """Return the names of all methods, in the order of the table."""
    return list(METHODS)
