"""A buffer between a search and MLflow, for the time when MLflow cannot be reached.

A search may take hours, and its MLflow server may be restarted meanwhile. Each entry is first
appended to a file beside the search. A thread of its own writes the entries to MLflow in their
order, so the search never waits for a server. Entries that are not written when a search ends, or
is killed, are written when it is resumed.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from registry.runs.search_runs import SearchRuns
from registry.trials import Outcome, Scalar, TrialUsage
from zoo.errors import StorageError
from zoo.files import read_regular, storage_error, write_whole

FILE = "record.jsonl"
RECORD = 2**30  # bytes of the file; an entry has a few hundred
RETRY_S = 5.0
TIMEOUT_S = 300.0  # longer than a server takes to restart

_Step = Annotated[int, Field(ge=0, lt=2**63)]
_Figures = dict[str, float]
_Said = dict[str, Scalar | bool | None]
# The values of an entry after its kind, as they are read back from the file.
_VALUES: Mapping[str, TypeAdapter[Any]] = {
    "started": TypeAdapter(tuple[str, _Said]),
    "reported": TypeAdapter(tuple[str, _Step, Annotated[_Figures, Field(min_length=1)], _Said]),
    "ended": TypeAdapter(tuple[str, Outcome, str | None, _Said]),
    "champion": TypeAdapter(tuple[str, list[str]]),
    "close": TypeAdapter(tuple[_Figures, Outcome, list[str] | None]),
}


class BufferedRuns:
    """A `TrialLog` that passes each entry on to `SearchRuns` as soon as MLflow takes it.

    An entry may be passed on twice, before and after a kill; `SearchRuns` writes it once.
    """

    def __init__(
        self,
        runs: SearchRuns,
        folder: Path,
        *,
        say: Callable[[str], None],
        retry_s: float = RETRY_S,
    ) -> None:
        """Start the thread, with the entries that an earlier process of this search left.

        Args:
            runs: Where the entries go.
            folder: Of the search; `FILE` in it holds the entries that are not written.
            say: Receives a line when the store cannot be reached, and one when it can again.
            retry_s: Seconds between two attempts while it cannot be reached.

        Raises:
            StorageError: The folder cannot be written, or its record is damaged.
        """
        self._runs, self._file, self._say, self._retry_s = runs, folder / FILE, say, retry_s
        self._change = threading.Condition()
        self._failure: StorageError | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            entries = _entries(_whole_lines(self._file), self._file)
            self._waiting = deque(entry for entry in entries if entry[0] != "close")  # it goes on
            if not self._waiting:
                self._file.unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(f"Cannot keep a record in {folder}", error) from error
        self._thread = threading.Thread(target=self._deliver, name="mlflow-buffer", daemon=True)
        self._thread.start()

    def started(self, trial: str, params: Mapping[str, Scalar]) -> None:
        """Add a new trial, or one that goes on, and its parameters."""
        self._add("started", trial, dict(params))

    def reported(
        self, trial: str, step: int, metrics: Mapping[str, float], usage: TrialUsage
    ) -> None:
        """Add one report of a trial, and what the trial has used until then."""
        self._add("reported", trial, step, dict(metrics), dict(usage))

    def ended(self, trial: str, outcome: Outcome, bundle: Path | None, usage: TrialUsage) -> None:
        """Add how a trial ended, and what it has used."""
        self._add("ended", trial, outcome, str(bundle) if bundle else None, dict(usage))

    def champion(self, bundle: Path, pictures: Sequence[Path]) -> None:
        """Add the best detector of the search and pictures of its maps."""
        self._add("champion", str(bundle), [str(picture) for picture in pictures])

    def close(
        self,
        summary: Mapping[str, float],
        outcome: Outcome,
        known: Collection[str] | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """Add the end of the search, and wait until every entry is written.

        Args:
            summary: Figures of the search.
            outcome: How it ended.
            known: All trials that the search knows, if it has come to its end.
            timeout_s: Seconds to wait.

        Raises:
            StorageError: MLflow cannot be reached in that time; no entry is lost.
        """
        self._add("close", dict(summary), outcome, None if known is None else list(known))
        self.drain(timeout_s=timeout_s)

    def drain(self, *, timeout_s: float = TIMEOUT_S) -> None:
        """Wait until every entry is written.

        Raises:
            StorageError: MLflow cannot be reached in that time; no entry is lost.
        """
        deadline = time.monotonic() + timeout_s
        with self._change:
            while self._waiting and (left := deadline - time.monotonic()) > 0:
                assert self._thread.is_alive(), "the traceback of its exception is above"
                self._change.wait(min(left, 1.0))
            if self._waiting:
                raise StorageError(
                    f"{self._failure or 'The MLflow store does not answer.'} {len(self._waiting)} "
                    f"entries of this search are kept in {self._file}; they are written to MLflow "
                    "when it is resumed, with the same command and --resume."
                )

    def _add(self, kind: str, *values: Any) -> None:
        entry = [kind, *values]
        with self._change:
            try:
                with self._file.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(entry) + "\n")
            except OSError as error:
                raise storage_error(f"Cannot write the record {self._file}", error) from error
            self._waiting.append(entry)
            self._change.notify_all()

    def _deliver(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._waiting)
                entry = self._waiting[0]
            try:
                self._pass_on(entry)
            except StorageError as error:
                self._wait_after(error)
                continue
            with self._change:
                if self._failure:
                    self._say("The MLflow store is back.")
                self._failure = None
                self._waiting.popleft()
                if not self._waiting:
                    self._file.unlink(missing_ok=True)
                self._change.notify_all()

    def _pass_on(self, entry: list[Any]) -> None:
        match entry:
            case ["started", trial, params]:
                self._runs.started(trial, params)
            case ["reported", trial, step, metrics, usage]:
                self._runs.reported(trial, step, metrics, usage)
            case ["ended", trial, outcome, bundle, usage]:
                self._runs.ended(trial, outcome, Path(bundle) if bundle else None, usage)
            case ["champion", bundle, pictures]:
                self._runs.champion(Path(bundle), [Path(picture) for picture in pictures])
            case ["close", summary, outcome, known]:
                self._runs.close(summary, outcome, known)
            case _:
                self._say(f"An entry of another version of this program is left out: {entry}")

    def _wait_after(self, error: StorageError) -> None:
        with self._change:
            if self._failure is None:
                self._say(f"{error} The search goes on; its record is kept in {self._file}.")
            self._failure = error
        time.sleep(self._retry_s)


def _whole_lines(file: Path) -> str:
    """Return the lines of a record; none if there is no file.

    A kill may have cut the last line short: it was never an entry. It is removed, so that the next
    entry does not begin in the middle of it.

    Raises:
        OSError: The file cannot be read, or is to be replaced and cannot be.
    """
    if not file.exists():
        return ""
    content = read_regular(file, most=RECORD)
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        write_whole(file, whole)
    return whole.decode(errors="replace")


def _entries(lines: str, file: Path) -> list[list[Any]]:
    """Read the entries of a record.

    Raises:
        StorageError: A line is no entry.
    """
    entries = []
    for number, line in enumerate(lines.splitlines(), 1):
        try:
            entry = json.loads(line)
            if not (isinstance(entry, list) and entry and isinstance(entry[0], str)):
                raise ValueError("it is no entry")
            if entry[0] in _VALUES:  # else of another version, and left out
                _VALUES[entry[0]].validate_python(tuple(entry[1:]), strict=True)
        except ValidationError as error:
            raise _damaged(file, number, error.errors()[0]["msg"]) from error
        except (ValueError, RecursionError) as error:
            raise _damaged(file, number, str(error)) from error
        entries.append(entry)
    return entries


def _damaged(file: Path, number: int, reason: str) -> StorageError:
    return StorageError(
        f"The record {file} is damaged in line {number}: {reason}. It holds what MLflow has not "
        "been told of this search. Mend or remove the line, then run the same command again."
    )
