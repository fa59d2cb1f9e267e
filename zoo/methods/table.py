"""The names of all methods. Nothing heavy is imported here, so that help texts may list them.

To add a method, add its module to this package and its line to `METHODS`.
"""

from __future__ import annotations

METHODS: dict[str, str] = {
    "fcbigan": "zoo.methods.fcbigan.method:FCBiGAN",
    "feature_dictionary": "zoo.methods.feature_dictionary:FeatureDictionary",
    "feature_memory": "zoo.methods.feature_memory:FeatureMemory",
    "bigan": "zoo.methods.bigan:BiGAN",
    "f_anogan": "zoo.methods.f_anogan:FAnoGAN",
    "local_statistics": "zoo.methods.local_statistics:LocalStatistics",
    "random_features": "zoo.methods.random_features:RandomFeatures",
    "sparse_dictionary": "zoo.methods.sparse_dictionary:SparseDictionary",
}
DEFAULT = "fcbigan"  # what a search tunes
BASELINE = "local_statistics"  # what every detector must beat: it learns next to nothing
PRESETS: dict[str, str] = {"thesis": "fcbigan"}  # configurations with a name, and their method


def names() -> list[str]:
    """Return the names of all methods, in the order of the table."""
    return list(METHODS)
