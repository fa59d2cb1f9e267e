"""The names of all methods. It imports nothing, so help texts can list the methods quickly.

To add a method, add its module to this package and its line to `METHODS`; a line in `_IN_WORDS`
says to people what it is.
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
_IN_WORDS: dict[str, str] = {
    "fcbigan": "a network that rebuilds good material (FCBiGAN)",
    "feature_dictionary": "a dictionary of good patches, seen through a network of everyday "
    "photographs",
    "feature_memory": "a memory of good patches, seen through a network of everyday photographs",
    "feature_noise": "a small network that tells good patches from disturbed ones, seen through a "
    "network of everyday photographs",
    "bigan": "a network that rebuilds good patches (BiGAN)",
    "f_anogan": "a network that rebuilds good patches (f-AnoGAN)",
    "local_statistics": "statistics of brightness and fine structure around each pixel",
    "random_features": "a memory of good patches, seen through an untrained network",
    "sparse_dictionary": "a dictionary of good patches of which a few make up each new one",
}


def names() -> list[str]:
    """Return the names of all methods, in the order of the table."""
    return list(METHODS)


def in_words(name: str) -> str:
    """Return what a method is, for people who know none; that of no line is called by its name."""
    return _IN_WORDS.get(name, f"the method '{name}'")
