"""Keys of the service: a file of their SHA-256 digests, so that reading it gives nobody a key.

A key has 256 random bits, so one hash is enough: nobody can try them all.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
from pathlib import Path

from zoo.errors import ConfigError, ZooError
from zoo.files import TEXT, read_regular, reading, write_whole, writing

log = logging.getLogger("zoo.serve")

_LABEL = re.compile(r"[\w.@+-][\w.@+ -]{0,59}")
_LINE = re.compile(rf"([0-9a-f]{{64}})  ({_LABEL.pattern})")
_HEAD = "# SHA-256 of each key, and whom it is for. Remove a line to take a key away.\n"


def new_key(path: Path, label: str) -> str:
    """Make a key, add its digest to a file, and return the key: it is written nowhere else.

    Args:
        path: The file; it is made if need be, readable for its owner only.
        label: Whom the key is for. The log names it.

    Raises:
        ConfigError: The label is taken or is none, or the file is damaged.
        StorageError: The file cannot be written.
    """
    if not _LABEL.fullmatch(label):
        raise ConfigError(
            f"'{label}' is no label of a key: it has up to 60 letters, digits, blanks and . @ + - "
            "and says whom the key is for. Give another."
        )
    text, known = (_text(path), _parsed(path)) if path.exists() else (_HEAD, {})
    if label in known.values():
        raise ConfigError(
            f"{path} has a key of '{label}'. Give another label, or remove its line first."
        )
    key = f"zoo_{secrets.token_urlsafe(32)}"
    line = f"{_digest(key)}  {label}\n"
    with writing(path, f"the keys {path}"):
        write_whole(path, (text + "\n" * (not text.endswith("\n")) + line).encode())
        path.chmod(0o600)
    return key


class Keys:
    """The keys that are accepted; a change of their file counts after the next `refresh`."""

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            ConfigError: It has no key, or a line is none.
            StorageError: It cannot be read.
        """
        self._path = path
        self._known = _parsed(path)
        if not self._known:
            raise ConfigError(f"{path} has no key. Make one with `zoo serve --new-key LABEL`.")

    def refresh(self) -> None:
        """Read the file again; one that cannot be read changes nothing but the log."""
        try:
            found = _parsed(self._path)
        except ZooError as error:
            log.warning("The keys stay as they are: %s", error)
            return
        if found != self._known:
            log.info("The keys are now those of: %s", ", ".join(found.values()) or "nobody")
        self._known = found

    def owner(self, key: str) -> str | None:
        """Return the label of a key; None if it is not accepted. All keys are compared."""
        asked, owner = _digest(key), None
        for digest, label in self._known.items():
            if hmac.compare_digest(digest, asked):
                owner = label
        return owner


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def _text(path: Path) -> str:
    with reading(f"the keys {path}"):
        return read_regular(path, most=TEXT).decode("utf-8", "replace")


def _parsed(path: Path) -> dict[str, str]:
    """Return the label of each digest."""
    found: dict[str, str] = {}
    for number, line in enumerate(_text(path).splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line.rstrip())
        if match is None:
            raise ConfigError(
                f"Line {number} of {path} is no key: it should be the SHA-256 of one in 64 small "
                "hexadecimal digits, two blanks and a label. Correct it, or remove it."
            )
        found[match[1]] = match[2]
    return found
