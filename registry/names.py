"""Names of textures and detectors, and the errors for unknown ones."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from urllib.parse import unquote

from registry.pointer import CHAMPION, Pointer
from zoo.errors import ConfigError, UnknownDetectorError, did_you_mean

MOST_BYTES = 230  # of the name of a file: a disk allows 255, and a search adds its time
_RESERVED = re.compile(r'[/\\:@"]')


def normal(texture: str) -> str:
    """Return a name with each letter in its composed form; macOS writes accents apart.

    Example:
        >>> len("cafe\u0301"), len(normal("cafe\u0301"))
        (5, 4)
    """
    return unicodedata.normalize("NFC", texture)


def checked_name(texture: str) -> str:
    """Return the name of a texture in its composed form, if it can be published under that name.

    Raises:
        ConfigError: It cannot name a texture on a shelf.
    """
    name = normal(texture)
    if _RESERVED.search(name) or not name.isprintable() or not name.strip():
        better = re.sub(r"[^\w. ()-]+", "-", name).strip("- ") or "texture"
    elif len(file_name(name).encode()) > MOST_BYTES:
        better = name[:20].strip()
    else:
        return name
    raise ConfigError(
        f"'{texture}' cannot name a texture on a shelf: a name has at most {MOST_BYTES} letters "
        '(fewer with accents or signs) and none of / \\ : @ " or a control character. Rename the '
        f"folder to '{better}', or give the folder itself as --data with --category '{better}'."
    )


def file_name(texture: str) -> str:
    """Return the name of a file that stands for a texture, on a disk, in S3 or in MLflow.

    Letters, digits, blanks, dots, hyphens and underscores stay, other signs are percent-encoded, as
    is a first sign that is neither a letter nor a digit. No two names give the same file.

    Example:
        >>> file_name("wood (2)"), file_name("../50%")
        ('wood %282%29', '%2E.%2F50%25')
    """
    return re.sub(r"^[\W_]|[^\w. -]", _encoded, normal(texture))


def texture_of(file: str) -> str | None:
    """Return the texture that the name of a file stands for; None if `file_name` never gives it."""
    texture = unquote(file)
    return texture if file_name(texture) == file else None


def parsed(name: str) -> tuple[str, str]:
    """Split a name into the texture and `@alias`, `:version`, `@sha256:digest` or nothing.

    Raises:
        UnknownDetectorError: The name does not begin with the name of a texture.

    Example:
        >>> parsed("grid@challenger"), parsed("grid:3"), parsed("grid")
        (('grid', '@challenger'), ('grid', ':3'), ('grid', ''))
    """
    texture = re.split("[@:]", name, maxsplit=1)[0]
    try:
        return checked_name(texture), name[len(texture) :]
    except ConfigError as error:
        raise UnknownDetectorError(
            f"'{name}' is no detector's name: write TEXTURE, TEXTURE@ALIAS, TEXTURE:VERSION or "
            "TEXTURE@sha256:DIGEST."
        ) from error


def folder_name(texture: str) -> str:
    """Return a readable name for a folder about a texture; several textures may have the same.

    Example:
        >>> folder_name("wood (2)")
        'wood -2'
    """
    return re.sub(r"[^\w. -]", "-", normal(texture)).strip("-. ") or "texture"


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
    from registry.starters import starter_names  # which imports this module

    hint = ""
    if texture in starter_names():
        hint = (
            f" The starter '{texture}' is not on a shelf: it is loaded by default, and read-only."
        )
    if not known:
        return UnknownDetectorError(
            f"No detector '{texture}' on the shelf {where}; it is empty.{hint} "
            f"Make one: `zoo search --category {texture} --data DIR`."
        )
    return UnknownDetectorError(
        f"No detector '{texture}' on the shelf {where}; it has {', '.join(known)}."
        f"{hint or did_you_mean(texture, known)}"
    )


def _encoded(sign: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in sign[0].encode(errors="surrogatepass"))
