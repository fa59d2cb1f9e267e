"""A data set from its archives to folders that the zoo reads, with its licence beside it.

Everything is made aside and renamed as a whole, so a folder is complete or not there. What was
downloaded stays until it is unpacked, so the same command goes on after whatever stopped it.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from filelock import FileLock, Timeout

from registry.names import folder_name
from zoo.data.fetch.arrange import ARRANGEMENTS
from zoo.data.fetch.download import Downloader, Progress, Remote
from zoo.data.fetch.sets import ALL, DataSet, chosen
from zoo.data.fetch.unpack import Place, Unpacker
from zoo.data.layouts import arranged, check_test, layout_of, unwrapped
from zoo.errors import ConfigError, DataError, StorageError
from zoo.files import LEAST_FREE, storage_error, write_whole
from zoo.https import TIMEOUT_S, Client, check_address
from zoo.words import megabytes

WORK = ".fetch"  # a folder in the one of the data: what is downloaded and unpacked
GROWS = 1.2  # an archive of pictures unpacks to at most so many times its size


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What is to be fetched, and how.

    Attributes:
        key: The name of the data set.
        dataset: The data set.
        to: The folder that gets a folder for each texture.
        only: What of the data set; by default its textures.
        accepted: Whether its licence is accepted.
        archives: Files that were downloaded by other means; without them, they are downloaded.
        url: Another address of an archive.
        sha256: Of the archive, in place of the one known.
        unverified: Whether archives are taken whose SHA-256 is not known.
        keep: Whether downloaded archives are kept.
    """

    key: str
    dataset: DataSet
    to: Path
    only: tuple[str, ...] = ()
    accepted: bool = False
    archives: tuple[Path, ...] = ()
    url: str | None = None
    sha256: str | None = None
    unverified: bool = False
    keep: bool = False


@dataclass(frozen=True, kw_only=True)
class _Job:
    """One archive: a file that is there, or one to download, and what to take from it."""

    names: tuple[str, ...]
    file: Path | None = None
    remote: Remote | None = None
    all_of_them: bool = True  # whether each name must be in it
    note: str = ""  # for the user, before it is begun


@dataclass(frozen=True, kw_only=True)
class Fetcher:
    """Fetches data sets.

    Attributes:
        say: Receives lines of progress.
        progress: Receives what is done, the bytes of it, and the bytes in all.
        timeout_s: Seconds to wait for a byte.
        pause: Waits for some seconds.
    """

    say: Callable[[str], None]
    progress: Progress
    timeout_s: float = TIMEOUT_S
    pause: Callable[[float], None] = time.sleep

    def fetch(self, wish: Wish) -> list[Path]:
        """Return the folders that were made.

        A folder that is there already is left as it is, whoever made it.

        Raises:
            ConfigError: The licence is not accepted, an address is not safe, or an archive's
                SHA-256 is not known and this is not accepted.
            DataError: An archive is damaged, another one, or holds what it should not.
            StorageError: A server does not answer, or the disk is full.
        """
        if not wish.accepted:
            raise ConfigError(
                f"Not fetched: read the licence of {wish.dataset.title} ({wish.dataset.page}). If "
                "you accept it, run the same command with --accept-licence."
            )
        work = wish.to / WORK
        try:
            work.mkdir(parents=True, exist_ok=True)
            with _alone(work):
                return self._fetch(wish, work)
        except OSError as error:
            raise storage_error(f"Cannot fetch to {wish.to}", error) from error

    def _fetch(self, wish: Wish, work: Path) -> list[Path]:
        names = chosen(wish.dataset, wish.only)
        missing = tuple(name for name in names if not (wish.to / name).exists())
        for name in names:
            if name not in missing:
                self.say(f"{wish.to / name} is there already, and is left as it is.")
        if not missing:
            return []
        jobs = self._given(wish, missing) if wish.archives else _remote(wish, missing)
        for job in jobs:
            if job.note:
                self.say(job.note)
        self._check_room(jobs, wish, work)
        made = []
        for job in jobs:
            made += self._done(job, wish, work)
        return made

    def _given(self, wish: Wish, names: tuple[str, ...]) -> list[_Job]:
        """Return what to take from files that the user has."""
        jobs = []
        for file in wish.archives:
            if not file.is_file():
                raise DataError(f"There is no file {file}. Give the archive that you downloaded.")
            found = self._downloader(file.parent).digest_of(file)
            known = {each.sha256: key for key, each in wish.dataset.archives.items() if each.sha256}
            if found in known:
                holds = names if known[found] == ALL else (known[found],)
                jobs.append(_Job(names=tuple(n for n in holds if n in names), file=file))
            elif found == wish.sha256 or wish.unverified:
                if found != wish.sha256:
                    self._warn(file.name, found)
                jobs.append(_Job(names=names, file=file, all_of_them=bool(wish.only)))
            else:
                raise ConfigError(
                    f"{file} has the SHA-256 {found}, which is none of those known of "
                    f"{wish.dataset.title}: it may be damaged, changed or another version. If you "
                    "know that it is right, state this with --sha256 and that hash; to take it as "
                    "it is, add --unverified."
                )
        return [job for job in jobs if job.names]

    def _done(self, job: _Job, wish: Wish, work: Path) -> list[Path]:
        """Download and unpack one archive, and return the folders that were made."""
        file = job.file
        if job.remote:
            if job.remote.sha256 is None:
                self.say(
                    f"WARNING: the SHA-256 of {job.remote.name} is not known, so nobody can tell "
                    "whether what comes is what was published."
                )
            loader = self._downloader(work, plain=job.remote.sha256 is not None)
            file = loader.download(job.remote)
            if job.remote.sha256 is None:
                self._warn(file.name, loader.digest_of(file))
        assert file is not None
        aside = work / "unpacked"
        shutil.rmtree(aside, ignore_errors=True)  # of a run that was killed
        try:
            made = self._unpacked(job, wish, file, aside)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        if job.remote and wish.keep:
            self.say(f"The archive is kept as {file}.")
        elif job.remote:
            file.unlink(missing_ok=True)
        return made

    def _unpacked(self, job: _Job, wish: Wish, file: Path, aside: Path) -> list[Path]:
        place = _place(wish.dataset, job.names)
        Unpacker(progress=self.progress).unpack(file, aside, place, skip=wish.dataset.skip)
        there = [name for name in job.names if (aside / name).is_dir()]
        absent = [name for name in job.names if name not in there]
        if absent and (job.all_of_them or not there):
            raise DataError(
                f"{file} has no {', '.join(absent)}. Take another archive of {wish.dataset.title}, "
                f"or name what this one has with --only ({', '.join(wish.dataset.names)})."
            )
        ready = {name: _ready(aside / name, wish, file) for name in there}
        made = []
        for name, folder in ready.items():
            target = wish.to / name
            if target.exists():
                raise DataError(f"{target} was made meanwhile, and is left as it is.")
            folder.rename(target)
            made.append(target)
        return made

    def _check_room(self, jobs: Sequence[_Job], wish: Wish, work: Path) -> None:
        """Refuse to begin what the disk has no room for, as far as the sizes are known.

        Raises:
            StorageError: There is too little room.
        """
        loader, unpacked, downloads = self._downloader(work), 0, [0]
        for job in jobs:
            if job.file:
                unpacked += Unpacker(progress=_silent).needed(job.file)
            elif job.remote and job.remote.bytes:
                unpacked += round(GROWS * job.remote.bytes)
                downloads.append(loader.left(job.remote) or 0)
        needed = unpacked + (sum(downloads) if wish.keep else max(downloads))
        free = shutil.disk_usage(work).free
        if needed + LEAST_FREE > free:
            raise StorageError(
                f"{wish.dataset.title} needs about {needed / 1e9:.1f} GB on the disk of {wish.to}, "
                f"and {free / 1e9:.1f} GB are free. Free some space, give --data on another disk, "
                "or fetch less of it with --only."
            )

    def _warn(self, name: str, found: str) -> None:
        self.say(f"WARNING: {name} is taken unverified. Its SHA-256 is {found}.")

    def _downloader(self, folder: Path, *, plain: bool = False) -> Downloader:
        return Downloader(
            folder=folder,
            web=Client(timeout_s=self.timeout_s, plain=plain),
            progress=self.progress,
            say=self.say,
            pause=self.pause,
        )


def _remote(wish: Wish, names: tuple[str, ...]) -> list[_Job]:
    """Return what to download, after every address was checked.

    Raises:
        ConfigError: A SHA-256 is not known, or an address is not safe without it.
    """
    dataset = wish.dataset
    sources = dataset.sources(names, unverified=wish.unverified or wish.sha256 is not None)
    if (wish.url or wish.sha256) and len(sources) > 1:
        raise ConfigError(
            f"--url and --sha256 are of one archive, and {', '.join(names)} come in "
            f"{len(sources)}. Name one with --only."
        )
    jobs = []
    for key, taken in sources.items():
        archive = dataset.archives[key]
        urls = (wish.url,) if wish.url else archive.url
        sha256 = wish.sha256 or archive.sha256
        remote = Remote(
            name=_file_name(wish, key, urls[0]),
            page=dataset.page,
            urls=urls,
            sha256=sha256,
            bytes=archive.bytes if sha256 == archive.sha256 else None,
        )
        _check_remote(remote, wish)
        jobs.append(_Job(names=taken, remote=remote, note=_note(remote, key, taken, dataset)))
    return jobs


def _note(remote: Remote, key: str, names: Sequence[str], dataset: DataSet) -> str:
    size = megabytes(remote.bytes / 1e6) if remote.bytes else "of unknown size"
    note = f"{', '.join(names)}: from {remote.urls[0]}, {size}."
    if key == ALL and len(names) < len(dataset.names) and set(names) <= set(dataset.archives):
        note += (
            f" An archive of {', '.join(names)} alone is known, but not its SHA-256; --unverified "
            "takes it."
        )
    return note


def _check_remote(remote: Remote, wish: Wish) -> None:
    for url in remote.urls:
        check_address(url, plain=True)
        if remote.sha256:
            continue
        try:
            check_address(url)
        except ConfigError as error:
            raise ConfigError(
                f"{wish.dataset.title} is known at plain HTTP only ({url}) and without a SHA-256, "
                "so nobody could tell whether it was changed on the way. Download it yourself and "
                "give it with --archive FILE --unverified, or state its hash with --sha256."
            ) from error
        if not wish.unverified:
            raise ConfigError(
                f"The SHA-256 of {url} is not known, so nobody can tell whether what comes is what "
                "was published. Add --unverified to take it nevertheless, or state its hash with "
                "--sha256."
            )


def _file_name(wish: Wish, key: str, url: str) -> str:
    """Return a name for an archive on this disk, with the ending that its address has."""
    given = PurePosixPath(unquote(urlsplit(url).path)).name
    ending = re.search(r"(\.tar)?\.[A-Za-z0-9]{1,4}$", given)
    own = f"{wish.key}-{key}" if not wish.url else f"{wish.key}-{key}-{given[:60]}"
    return folder_name(own.removesuffix(ending[0] if ending else "") + (ending or [""])[0])


def _place(dataset: DataSet, names: Sequence[str]) -> Place:
    """Return where a file of an archive goes: into the folder of its texture, or nowhere."""
    if len(dataset.names) == 1:
        return lambda path: PurePosixPath(names[0]) / path

    def place(path: PurePosixPath) -> PurePosixPath | None:
        for depth, part in enumerate(path.parts[:-1]):
            if part in dataset.names:
                return PurePosixPath(*path.parts[depth:]) if part in names else None
        return None

    return place


def _ready(folder: Path, wish: Wish, file: Path) -> Path:
    """Arrange the folder of a texture, and check that the zoo reads it.

    Raises:
        DataError: It does not.
    """
    ARRANGEMENTS[wish.dataset.arrange](folder)
    inner = unwrapped(folder)
    layout = layout_of(inner)
    found = arranged(inner, layout) if layout else None
    if found is None or not found.good:
        has = ", ".join(sorted(path.name for path in inner.iterdir())[:5]) or "nothing"
        raise DataError(
            f"{file} does not have what {wish.dataset.title} should have: no good pictures of "
            f"'{folder.name}' were found in it, but {has}. Take another archive of it."
        )
    check_test(found)
    licence = f"{wish.dataset.licence}\n\n{wish.dataset.title}\n{wish.dataset.terms}\n"
    write_whole(inner / "LICENCE.txt", f"{licence}{wish.dataset.page}\n".encode())
    citation = f"{wish.dataset.citation}\n\n{wish.dataset.page}\n"
    write_whole(inner / "CITATION.txt", citation.encode())
    return inner


@contextmanager
def _alone(work: Path) -> Iterator[None]:
    """Refuse to work beside another `zoo fetch`; at the end leave no folder with nothing in it."""
    try:
        with FileLock(work / "lock", timeout=0):
            try:
                yield
            finally:
                left = [path for path in work.iterdir() if path.name != "lock"]
                if not left:
                    shutil.rmtree(work, ignore_errors=True)
    except Timeout as error:
        raise StorageError(
            f"Another `zoo fetch` is writing to {work.parent}. Wait until it has ended."
        ) from error


def _silent(what: str, done: int, size: int | None) -> None:
    """Say nothing."""
