"""What the names of one texture stand for, and how they came to: plain values, no input or output.

A shelf keeps one pointer a texture and replaces it whole, so a name and the entry that says why it
changed are there together or not at all.
"""

from __future__ import annotations

import getpass
import json
import re
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Literal, get_args

from zoo.errors import BundleError, PromotionError

CHAMPION = "champion"
CHALLENGER = "challenger"
DIGEST = re.compile(r"[0-9a-f]{64}")
PREVIOUS = "previous"  # the champion before this one, which a rollback brings back

Act = Literal["promoted", "forced", "refused", "rolled_back", "removed"]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of a texture's history; lines are added and never changed.

    Attributes:
        act: What was done.
        version: To which version.
        digest: Of its bundle.
        reason: Why, with the figures in words.
        figures: The same as numbers.
        run: The MLflow run that the detector came from, if it is known.
        who: User and machine.
        when: Seconds since 1970.
    """

    act: Act
    version: int
    digest: str = ""
    reason: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)
    run: str | None = None
    who: str = field(default_factory=lambda: _who())
    when: float = field(default_factory=lambda: round(time.time(), 3))


@dataclass(frozen=True, kw_only=True)
class Pointer:
    """What one texture's names stand for.

    Attributes:
        texture: The texture's name.
        aliases: The version that each alias stands for.
        versions: The digest of each version; a version never changes its digest.
        history: Oldest first.
    """

    texture: str
    aliases: Mapping[str, int] = field(default_factory=dict)
    versions: Mapping[int, str] = field(default_factory=dict)
    history: tuple[Entry, ...] = ()

    def with_version(self, digest: str, alias: str | None, entry: Entry) -> Pointer:
        """Return the pointer with the entry's version in it, and the alias moved to it.

        The champion that makes way becomes `previous`.

        Raises:
            PromotionError: The version is there already and stands for another bundle, or was
                removed: its number is not used again.
        """
        version = entry.version
        if version in self.gone():
            raise PromotionError(
                f"Version {version} of '{self.texture}' was removed, and numbers are not used "
                f"again. Publish it as version {self.next_version()}."
            )
        held = self.versions.get(version, digest)
        if held != digest:
            raise PromotionError(
                f"Version {version} of '{self.texture}' is bundle {held[:12]} and cannot become "
                f"{digest[:12]}: versions never change. Publish it as version "
                f"{self.next_version()}."
            )
        aliases = dict(self.aliases)
        if alias == CHAMPION and aliases.get(CHAMPION, version) != version:
            aliases[PREVIOUS] = aliases[CHAMPION]
        if alias:
            aliases[alias] = version
        if alias == CHAMPION and aliases.get(CHALLENGER) == version:
            del aliases[CHALLENGER]  # it is one no more
        return replace(self, aliases=aliases, versions={**self.versions, version: digest})._and(
            replace(entry, digest=digest)
        )

    def with_champion(self, digest: str, entry: Entry, *, against: str | None) -> Pointer:
        """Return the pointer with a new champion, if the present one is who it was compared with.

        Args:
            digest: Of the new champion.
            entry: Why it is.
            against: Digest of the champion that it was compared with; None if there was none.

        Raises:
            PromotionError: Another is champion now; or as in `with_version`.
        """
        if self.digests().get(CHAMPION) != against:
            raise PromotionError(
                f"Another detector became the champion of '{self.texture}' while this one was "
                "compared with the one before. Promote it again, to compare it with the new one."
            )
        return self.with_version(digest, CHAMPION, entry)

    def rolled_back(self, reason: str) -> Pointer:
        """Return the pointer with the champion and the one before it changed places.

        Raises:
            PromotionError: There was no champion before this one, or it was removed.
        """
        if PREVIOUS not in self.aliases:
            raise PromotionError(
                f"'{self.texture}' has no champion before this one to go back to. "
                f"`zoo history {self.texture}` shows what there was."
            )
        now, before = self.aliases[CHAMPION], self.aliases[PREVIOUS]
        aliases = {**self.aliases, CHAMPION: before, PREVIOUS: now}
        said = f"Back from version {now}" + (f": {reason}" if reason else ".")
        return replace(self, aliases=aliases)._and(
            Entry(act="rolled_back", version=before, digest=self.versions[before], reason=said)
        )

    def without(self, version: int, reason: str) -> Pointer:
        """Return the pointer without one version, and without the aliases that stood for it.

        Raises:
            PromotionError: It is not there, or it is the champion.
        """
        if version not in self.versions:
            known = ", ".join(map(str, sorted(self.versions))) or "none"
            raise PromotionError(
                f"There is no version {version} of '{self.texture}' to remove; there is {known}."
            )
        if self.aliases.get(CHAMPION) == version:
            raise PromotionError(
                f"Version {version} is the champion of '{self.texture}' and cannot be removed. "
                "Promote another first, or go back with `zoo rollback`."
            )
        return replace(
            self,
            aliases={alias: at for alias, at in self.aliases.items() if at != version},
            versions={at: digest for at, digest in self.versions.items() if at != version},
        )._and(Entry(act="removed", version=version, digest=self.versions[version], reason=reason))

    def version_of(self, digest: str) -> int | None:
        """Return the first version that is this bundle."""
        return next((at for at, each in self.versions.items() if each == digest), None)

    def gone(self) -> set[int]:
        """Return the versions that were removed."""
        return {entry.version for entry in self.history if entry.act == "removed"}

    def next_version(self) -> int:
        """Return the first number above all that were ever used."""
        return max([*self.versions, *self.gone()], default=0) + 1

    def digests(self) -> dict[str, str]:
        """Return the digest behind each alias and each version, aliases first."""
        aliases = {alias: self.versions[at] for alias, at in sorted(self.aliases.items())}
        return aliases | {str(at): self.versions[at] for at in sorted(self.versions)}

    def to_json(self) -> bytes:
        """Return the pointer as it is kept."""
        card = asdict(self) | {
            "versions": {str(version): digest for version, digest in self.versions.items()}
        }
        return json.dumps(card, indent=1, sort_keys=True).encode()

    def _and(self, entry: Entry) -> Pointer:
        return replace(self, history=(*self.history, entry))


Edit = Callable[[Pointer], Pointer]


def pointer_from_json(content: bytes, *, where: str) -> Pointer:
    """Read a pointer, also one from before there was a history; `where` names it in the error.

    Raises:
        BundleError: The content is no pointer.
    """
    try:
        card = json.loads(content)
        versions = {int(version): str(digest) for version, digest in card["versions"].items()}
        aliases = {str(alias): int(version) for alias, version in card["aliases"].items()}
        if not set(aliases.values()) <= set(versions):
            raise ValueError("an alias stands for a version that is not there")
        if not all(DIGEST.fullmatch(digest) for digest in versions.values()):
            raise ValueError("a digest is no SHA-256")  # it names a folder that may be replaced
        history = tuple(Entry(**entry) for entry in card.get("history", ()))
        if not {entry.act for entry in history} <= set(get_args(Act)):
            raise ValueError("its history tells of acts that this version does not know")
        return Pointer(
            texture=str(card["texture"]), aliases=aliases, versions=versions, history=history
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BundleError(
            f"The pointer {where} is damaged: {error}. The bundles beside it are unharmed: "
            "remove the pointer and promote again."
        ) from error


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may have no name for its user
        user = "unknown"
    return f"{user}@{socket.gethostname()}"
