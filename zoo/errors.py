"""Every error that a user of the zoo can meet, in one tree.

    ZooError
    ├── DataError             a folder of pictures is not what was asked for
    │   ├── EmptyFolderError    there is no picture where good ones were expected
    │   ├── BadImageError       a picture cannot be read or used
    │   └── BadMaskError        a mask does not fit its picture
    ├── ConfigError           a value of a configuration is out of its range
    │   └── SpaceError          a search space file is not valid
    ├── ScoresError           a file has no lines of `zoo score`, or none of the detector
    ├── BundleError           a detector on disk is damaged, or of a newer format
    ├── SignatureError        no trusted key has signed a detector
    ├── UnknownDetectorError  the shelf has no detector of that name
    ├── DivergedError         the losses of a training are no longer finite
    ├── SearchError           a search cannot start, cannot go on, or found no detector
    ├── PromotionError        there is nothing that can be promoted
    ├── RefusedError          the service does not answer a request, or refused ours
    └── StorageError          a disk is full or read-only, or a server cannot be reached
        └── UnreachableError    a server gives no usable answer; what is cached may be used

Each message says what was asked, what was found, and what to do. The command line prints it as one
line and exits with code 2. Any other exception is a bug of the zoo and keeps its traceback.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable

# In an address: all before the last `@`, and the values of parameters that are named so.
_CREDENTIALS = re.compile(r"(?<=://)(?:[^\s/:@]*:\S*|[^\s/@]*)(?=@)")
_TOKENS = re.compile(
    r"([?&][^\s=&]*(?:passw|pwd|token|secret|key|credential|signature)[^\s=&]*=)[^\s&]+",
    re.IGNORECASE,
)


def without_secrets(text: str) -> str:
    """Return a text with passwords and tokens in addresses replaced by `***`.

    Example:
        >>> without_secrets("no answer from https://me:pass@there:5000/?token=abc&page=2")
        'no answer from https://***@there:5000/?token=***&page=2'
    """
    return _TOKENS.sub(r"\1***", _CREDENTIALS.sub("***", text))


def visible(text: str) -> str:
    r"""Return a text in one line whose control characters are escaped, as Python writes them.

    Example:
        >>> print(visible("wood\x1b[2J\nPromoted"))
        wood\x1b[2J\nPromoted
    """
    return "".join(
        each if each.isprintable() or unicodedata.category(each) == "Zs" else ascii(each)[1:-1]
        for each in text
    )


class ZooError(Exception):
    """An error that the user can correct; the message says how.

    It is one line without passwords, tokens and control characters, whatever is quoted in it.
    """

    def __init__(self, message: str) -> None:
        """Take the message."""
        super().__init__(visible(without_secrets(message)))


class DataError(ZooError):
    """A folder of pictures is not what was asked for."""


class EmptyFolderError(DataError):
    """There is no picture where good ones were expected."""


class BadImageError(DataError):
    """A picture cannot be read, is too small, or does not have the shape of a picture."""


class BadMaskError(DataError):
    """A mask is missing, or its size is not that of its picture."""


class ConfigError(ZooError):
    """A value of a configuration is out of its range."""


class SpaceError(ConfigError):
    """A search space file has an unknown field or an empty range, or is not YAML."""


class ScoresError(ZooError):
    """A file does not have the lines that `zoo score` writes, or none of the detector."""


class BundleError(ZooError):
    """A detector on disk is damaged, incomplete, or of a newer format."""


class SignatureError(ZooError):
    """Keys are named that are trusted, and none of them has signed the detector."""


class UnknownDetectorError(ZooError):
    """The shelf has no detector of that name."""


class DivergedError(ZooError):
    """The losses of a training are no longer finite."""


class SearchError(ZooError):
    """A search cannot start, cannot go on, or ended without a detector."""


class PromotionError(ZooError):
    """There is nothing that can be promoted. A refusal by the gate is not an error."""


class RefusedError(ZooError):
    """The service does not answer a request, with the status of HTTP and a code for programs."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        code: str = "refused",
        retry_after_s: int | None = None,
    ) -> None:
        """Take the answer; all has a default, so that the error can be pickled.

        Args:
            message: As of any error.
            status: Of HTTP.
            code: A short name of the reason.
            retry_after_s: When to ask again; None if that would not help.
        """
        super().__init__(message)
        self.status, self.code, self.retry_after_s = status, code, retry_after_s


class StorageError(ZooError):
    """A disk is full or read-only, or a server cannot be reached."""


class UnreachableError(StorageError):
    """A server gives no usable answer, so a cached copy may be used, or the request repeated."""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        """Take the message, and the seconds that the server asks to wait, if it does."""
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Terminated(KeyboardInterrupt):
    """This process was told to end by SIGTERM; Ctrl-C reaches the processes it started too."""


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


def one_line(text: object) -> str:
    r"""Return an error or a text as one line; the message of a library may have several.

    Example:
        >>> one_line("first\n  second")
        'first second'
    """
    return " ".join(str(text).split())
