"""Names of textures and detectors, and the errors for unknown ones."""

from __future__ import annotations

import re
from collections.abc import Sequence

from registry.pointer import CHAMPION, Pointer
from zoo.errors import ConfigError, UnknownDetectorError, did_you_mean

TEXTURE_NAME = re.compile(r"[^\W_][\w. -]*")


def checked_name(texture: str) -> str:
    """Return the name of a texture if it can be a file name and has no `@` and no `:`.

    Raises:
        ConfigError: It cannot name a texture on a shelf.
    """
    if not TEXTURE_NAME.fullmatch(texture):
        raise ConfigError(
            f"'{texture}' cannot name a texture on a shelf: a name starts with a letter or a digit "
            "and has only letters, digits, blanks, '.', '_' and '-'. Rename the folder."
        )
    return texture


def parsed(name: str) -> tuple[str, str]:
    """Split a name into the texture and `@alias`, `:version`, `@sha256:digest` or nothing.

    Raises:
        UnknownDetectorError: The name does not begin with the name of a texture.

    Example:
        >>> parsed("grid@challenger"), parsed("grid:3"), parsed("grid")
        (('grid', '@challenger'), ('grid', ':3'), ('grid', ''))
    """
    texture = re.split("[@:]", name, maxsplit=1)[0]
    if not TEXTURE_NAME.fullmatch(texture):
        raise UnknownDetectorError(
            f"'{name}' is no detector's name: write TEXTURE, TEXTURE@ALIAS, TEXTURE:VERSION or "
            "TEXTURE@sha256:DIGEST."
        )
    return texture, name[len(texture) :]


def named_version(pointer: Pointer, reference: str, *, where: str) -> int:
    """Return the version that a reference stands for; without a reference, the champion's.

    Args:
        pointer: Of the texture.
        reference: The second part of what `parsed` returns.
        where: Address of the shelf, for the error.

    Raises:
        UnknownDetectorError: The pointer has no such alias, version or digest.
    """
    known = {f"@{alias}": at for alias, at in sorted(pointer.aliases.items())}
    known |= {f":{at}": at for at in sorted(pointer.versions)}
    pinned = {f"@sha256:{each}": at for at, each in sorted(pointer.versions.items(), reverse=True)}
    found = (known | pinned).get(reference or f"@{CHAMPION}")
    if found is None:
        name, names = pointer.texture + reference, [pointer.texture + each for each in known]
        raise UnknownDetectorError(
            f"No detector '{name}' on the shelf {where}; of '{pointer.texture}' it has "
            f"{', '.join(names)}.{did_you_mean(name, names)}"
        )
    return found


def unknown(texture: str, known: Sequence[str], *, where: str) -> UnknownDetectorError:
    """Return the error for a texture that is not on a shelf; near names are offered.

    Args:
        texture: What was asked for.
        known: The textures on the shelf.
        where: Address of the shelf.
    """
    if not known:
        return UnknownDetectorError(
            f"No detector '{texture}' on the shelf {where}; it is empty. "
            f"Make one: `zoo search --category {texture} --data DIR`."
        )
    return UnknownDetectorError(
        f"No detector '{texture}' on the shelf {where}; it has {', '.join(known)}."
        f"{did_you_mean(texture, known)}"
    )
