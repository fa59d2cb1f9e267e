"""The report of a search: where its values are read, and when it is made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.cli.output import say
from zoo.errors import SearchError, StorageError, ZooError, one_line, without_secrets

if TYPE_CHECKING:
    from registry.pointer import Entry
    from registry.runs.store import Store
    from registry.trials import SearchRecord

FILE = "report.html"


def searches(storage: Path) -> list[str]:
    """Return the names of the searches that have a folder, the oldest first."""
    from registry.trials import SEARCH_CONFIG

    return sorted(path.parent.name for path in storage.glob(f"*/{SEARCH_CONFIG}"))


def write(name: str, folder: Path | None, target: Path, *, store: Store | None = None) -> Path:
    """Write the report of a search, from MLflow's record, its folder and the shelf.

    Without one of them, the report has what the others have, and says so.

    Args:
        name: Of the search.
        folder: Of the search; None if it is gone.
        target: Where to write it.
        store: MLflow's, if it is open; else it is opened, if there is one.

    Raises:
        SearchError: Neither MLflow nor a folder has the search.
        ConfigError: The target is no report.
        StorageError: It cannot be written.
    """
    from zoo.report import page, search_page
    from zoo.search import search_report

    record, missing = _record(name, folder, store)
    history, unread = _history(record.texture)
    sources = search_report.Sources(
        record=record, folder=folder, history=history, missing=(*missing, *unread)
    )
    return page.write(search_page.render(search_report.gathered(sources)), target)


@contextmanager
def reported(folder: Path, store: Store) -> Iterator[dict[str, Any]]:
    """Write the report of a search and log it to MLflow when the block ends, also by an error.

    Yields:
        The answer of the search; the block fills it, and the path of the report is added. What
        goes wrong with the report is said in one line, and changes nothing else.
    """
    result: dict[str, Any] = {}
    try:
        yield result
    except ZooError:
        _reported(folder, store)
        raise
    if path := _reported(folder, store):
        result["report"] = str(path)


def _reported(folder: Path, store: Store) -> Path | None:
    from registry.runs.searches import log_files

    try:
        path = write(folder.name, folder, folder / FILE, store=store)
    except Exception as error:  # a fault of the report must not cost hours of search
        reason = without_secrets(one_line(error)) or type(error).__name__
        say(f"The search is not harmed, but it has no report: {reason}")
        return None
    try:
        log_files(store, folder.name, [path], under="report")
    except StorageError as error:
        say(f"The report is in {path}, and not in MLflow: {one_line(error)}")
    else:
        say(f"The report is in {path}.")
    return path


def _record(
    name: str, folder: Path | None, store: Store | None
) -> tuple[SearchRecord, tuple[str, ...]]:
    """Return what is known of a search, and what is missing, a sentence each."""
    from registry.runs.records import search_record
    from zoo.search import trial_files

    why = "MLflow has no record of it"
    try:
        opened = store or _open_store()
        found = search_record(opened, name) if opened else None
    except StorageError as error:
        found, why = None, one_line(error)
    if found is not None:
        gone = "The folder of the search is gone, with its detectors and pictures."
        return found, () if folder else (gone,)
    if folder is None:
        raise SearchError(f"There is no search '{name}'. `zoo runs` lists those that there are.")
    return trial_files.record_of(folder), (
        f"The trials are from the files of the search: {why.rstrip('.')}. Which of them were "
        "stopped early, and whether its detector was promoted, is not known.",
    )


def _open_store() -> Store | None:
    """Return MLflow's store; None for a database that does not exist: it would be made."""
    from registry.runs.store import database, open_store
    from zoo.home import tracking_uri

    uri = tracking_uri()
    path = database(uri)
    return None if path and not path.is_file() else open_store(uri)


def _history(texture: str) -> tuple[tuple[Entry, ...], tuple[str, ...]]:
    """Return the history of a texture on the shelf, and why there is none."""
    from registry.shelf import open_shelf

    try:
        return open_shelf().pointer(texture).history, ()
    except ZooError as error:
        return (), (f"What was promoted is not known: {one_line(error)}",)
