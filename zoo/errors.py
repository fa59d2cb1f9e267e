"""Every error that a user of the zoo can meet, in one tree.

    ZooError
    ├── DataError             a folder of pictures is not what was asked for
    │   ├── EmptyFolderError    no picture where good ones were expected
    │   ├── BadImageError       a picture that cannot be read or used
    │   └── BadMaskError        a mask that does not belong to its picture
    ├── ConfigError           a value of a configuration is out of its range
    │   └── SpaceError          a search space file names what does not exist
    ├── BundleError           a detector on disk is damaged or too new
    ├── UnknownDetectorError  no detector of that name on the shelf
    ├── DivergedError         a training went to infinity
    ├── SearchError           a search cannot start, go on or end with a detector
    ├── PromotionError        there is nothing that could be promoted
    └── StorageError          a disk is full or read-only, or a server is away

Each message says what was asked, what was found, and what to do. The command line prints it
as one line and exits with code 2; any other exception is a bug of ours and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ZooError(Exception):
    """Something a user can put right; the message says how."""


class DataError(ZooError):
    """A folder of pictures is not what was asked for."""


class EmptyFolderError(DataError):
    """There is no picture where good ones were expected."""


class BadImageError(DataError):
    """A picture cannot be read, or is too small, or has a shape that is no picture's."""


class BadMaskError(DataError):
    """A mask is missing, or has another size than its picture."""


class ConfigError(ZooError):
    """A value of a configuration is out of its range."""


class SpaceError(ConfigError):
    """A search space file has an unknown field, an empty range, or is no YAML."""


class BundleError(ZooError):
    """A detector on disk is damaged, incomplete, or of a newer format."""


class UnknownDetectorError(ZooError):
    """The shelf has no detector of that name."""


class DivergedError(ZooError):
    """A training's losses are no longer numbers."""


class SearchError(ZooError):
    """A search cannot start, cannot go on, or ended without any detector."""


class PromotionError(ZooError):
    """There is nothing that could be promoted. A refusal by the gate is no error."""


class StorageError(ZooError):
    """A disk is full or read-only, or a server cannot be reached."""


def did_you_mean(asked: str, known: Iterable[str]) -> str:
    """Return ` Did you mean 'x'?` for the nearest known name, or an empty string.

    Example:
        >>> did_you_mean("carpt", ["carpet", "wood"])
        " Did you mean 'carpet'?"
        >>> did_you_mean("zzz", ["carpet", "wood"])
        ''
    """
    near = difflib.get_close_matches(asked, list(known), n=1)
    return f" Did you mean '{near[0]}'?" if near else ""
