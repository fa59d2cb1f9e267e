"""Data sets from their authors' servers to folders that the zoo reads: download, check, unpack.

`sets.yaml` lists them; one line adds one. Nothing is fetched before its licence is accepted.
"""

from __future__ import annotations

from zoo.data.fetch.fetching import Fetcher, Wish
from zoo.data.fetch.sets import DataSet, load, named

__all__ = ["DataSet", "Fetcher", "Wish", "load", "named"]
