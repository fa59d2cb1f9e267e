"""Which bundle each name of one texture stands for, and the history of changes: plain values.

A shelf has one pointer a texture and replaces it as a whole, so a change of a name and the entry of
the history that gives its reason are written together or not at all. Nothing here reads or writes.
"""

from __future__ import annotations

import getpass
import json
import re
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

from zoo.errors import BundleError, PromotionError

CHAMPION = "champion"
CHALLENGER = "challenger"
PREVIOUS = "previous"  # the champion before this one; a rollback makes it champion again
LATEST = 2**37  # seconds since 1970: beyond it there is no date
LARGEST = 1e12  # of a figure
DIGEST = re.compile(r"[0-9a-f]{64}")

Act = Literal["promoted", "forced", "refused", "rolled_back", "removed"]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One entry of the history of a texture; entries are added and never changed.

    Attributes:
        act: What was done.
        version: The version that it was done to.
        digest: The digest of its bundle.
        reason: Why, with the figures in words.
        figures: The figures as numbers.
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
    """The aliases, versions and history of one texture.

    Attributes:
        texture: Name of the texture.
        aliases: The version that each alias stands for.
        versions: The digest of each version; the digest of a version never changes.
        history: Oldest entry first.
        signatures: Those of bundles, by digest, as `registry.signing` makes them.
    """

    texture: str
    aliases: Mapping[str, int] = field(default_factory=dict)
    versions: Mapping[int, str] = field(default_factory=dict)
    history: tuple[Entry, ...] = ()
    signatures: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def with_version(self, digest: str, alias: str | None, entry: Entry) -> Pointer:
        """Return the pointer with the version of the entry added, and the alias moved to it.

        The champion that is replaced becomes `previous`.

        Raises:
            PromotionError: The version exists and stands for another bundle, or it was removed:
                its number is not used again.
        """
        version = entry.version
        if version in self.removed():
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
            del aliases[CHALLENGER]  # the champion is no challenger
        versions = {**self.versions, version: digest}
        return replace(
            self, aliases=aliases, versions=versions, history=self._with(entry, digest=digest)
        )

    def with_champion(self, digest: str, entry: Entry, *, against: str | None) -> Pointer:
        """Return the pointer with a new champion, if it was compared with the present one.

        Args:
            digest: Of the new champion.
            entry: For the history.
            against: Digest of the champion that it was compared with; None if there was none.

        Raises:
            PromotionError: Another detector is champion now; or as in `with_version`.
        """
        if self.digests().get(CHAMPION) != against:
            raise PromotionError(
                f"Another detector became the champion of '{self.texture}' while this one was "
                "compared with the one before. Promote it again, to compare it with the new one."
            )
        return self.with_version(digest, CHAMPION, entry)

    def rolled_back(self, reason: str) -> Pointer:
        """Return the pointer with the champion and the previous champion exchanged.

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
        text = f"Back from version {now}" + (f": {reason}" if reason else ".")
        entry = Entry(act="rolled_back", version=before, reason=text)
        history = self._with(entry, digest=self.versions[before])
        return replace(self, aliases=aliases, history=history)

    def without(self, version: int, reason: str) -> Pointer:
        """Return the pointer without one version, and without the aliases that stood for it.

        Raises:
            PromotionError: There is no such version, or it is the champion.
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
        entry = Entry(act="removed", version=version, reason=reason)
        return replace(
            self,
            aliases={alias: at for alias, at in self.aliases.items() if at != version},
            versions={at: digest for at, digest in self.versions.items() if at != version},
            history=self._with(entry, digest=self.versions[version]),
        )

    def with_signature(self, digest: str, signature: str) -> Pointer:
        """Return the pointer with a signature of a bundle added; others of the bundle stay."""
        known = self.signatures.get(digest, ())
        added = known if signature in known else (*known, signature)
        return replace(self, signatures={**self.signatures, digest: added})

    def version_of(self, digest: str) -> int | None:
        """Return the first version that stands for this bundle."""
        return next((at for at, each in self.versions.items() if each == digest), None)

    def version_for(self, digest: str, *, preferred: int) -> int:
        """Return the version to publish a bundle as.

        It is the version that the bundle has, else the preferred one, else the next free one if the
        preferred one is or was another bundle's.
        """
        own = self.version_of(digest)
        if own is not None:
            return own
        used = preferred in self.versions or preferred in self.removed()
        return self.next_version() if used else preferred

    def removed(self) -> set[int]:
        """Return the versions that were removed."""
        return {entry.version for entry in self.history if entry.act == "removed"}

    def next_version(self) -> int:
        """Return the first number above all that were ever used."""
        return max([*self.versions, *self.removed()], default=0) + 1

    def digests(self) -> dict[str, str]:
        """Return the digest that each alias and each version stands for, aliases first."""
        aliases = {alias: self.versions[at] for alias, at in sorted(self.aliases.items())}
        return aliases | {str(at): self.versions[at] for at in sorted(self.versions)}

    def to_json(self) -> bytes:
        """Return the pointer as it is stored."""
        card = asdict(self) | {
            "versions": {str(version): digest for version, digest in self.versions.items()}
        }
        return json.dumps(card, indent=1, sort_keys=True).encode()

    def _with(self, entry: Entry, *, digest: str) -> tuple[Entry, ...]:
        """Return the history with one more entry."""
        return (*self.history, replace(entry, digest=digest))


Edit = Callable[[Pointer], Pointer]


def needed(pointers: Iterable[Pointer]) -> set[str]:
    """Return the digests of all versions of these pointers."""
    return {digest for pointer in pointers for digest in pointer.versions.values()}


def pointer_from_json(content: bytes, *, where: str) -> Pointer:
    """Read a pointer; the oldest ones have no history.

    Args:
        content: The stored pointer.
        where: Its address, for the error.

    Raises:
        BundleError: The content is not a valid pointer.
    """
    try:
        card = json.loads(content)
        versions = {int(version): str(digest) for version, digest in card["versions"].items()}
        aliases = {str(alias): int(version) for alias, version in card["aliases"].items()}
        if not set(aliases.values()) <= set(versions):
            raise ValueError("an alias stands for a version that does not exist")
        if not all(DIGEST.fullmatch(digest) for digest in versions.values()):
            raise ValueError("a digest is no SHA-256")  # it becomes the name of a folder
        history = tuple(_entry(entry) for entry in card.get("history", ()))
        if not {entry.act for entry in history} <= set(get_args(Act)):
            raise ValueError("its history has acts that this version does not know")
        signatures = card.get("signatures", {}).items()
        return Pointer(
            texture=str(card["texture"]),
            aliases=aliases,
            versions=versions,
            history=history,
            signatures={str(digest): tuple(map(str, each)) for digest, each in signatures},
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BundleError(
            f"The pointer {where} is damaged: {error}. The bundles beside it are unharmed: "
            "remove the pointer and promote again."
        ) from error


def _entry(values: Any) -> Entry:
    """Return an entry of the history.

    Raises:
        ValueError: A value of it is not what it should be.
    """
    if not isinstance(values, dict):
        raise ValueError(f"an entry of its history is no object: {str(values)[:200]}")
    texts = [values.get(name, "") for name in ("act", "digest", "reason", "who")]
    run, figures, when = values.get("run"), values.get("figures", {}), values.get("when", 0.0)
    if not (
        all(isinstance(text, str) for text in texts)
        and isinstance(run, str | None)
        and isinstance(values["version"], int)
        and isinstance(figures, dict)
        and all(isinstance(number, float | int) for number in (when, *figures.values()))
        and all(abs(number) <= LARGEST or number != number for number in figures.values())
        and 0 <= when < LATEST
    ):
        raise ValueError(f"an entry of its history is no such thing: {str(values)[:200]}")
    return Entry(**values)


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user in a container may have no name
        user = "unknown"
    return f"{user}@{socket.gethostname()}"
