"""The record of a search, kept while MLflow is away.

A search may take a night, and its MLflow server may be restarted meanwhile. What is told goes into
a file beside the search first, and from there to MLflow, in order, by a thread of its own: the
search never waits for a server. What could not be delivered when a search ends, or is killed, is
delivered when it is resumed.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from registry.runs import Facts, Outcome, Scalar, SearchRuns
from zoo.bundle import storage_error
from zoo.errors import StorageError

FILE = "record.jsonl"
RETRY_S = 5.0
PATIENCE_S = 300.0  # a restart of a server, and some more


class Outbox:
    """A `TrialLog` that passes on to `SearchRuns` as soon as that can take it.

    Everything may be told twice, once before and once after a kill; `SearchRuns` notes it once.
    """

    def __init__(
        self,
        runs: SearchRuns,
        folder: Path,
        *,
        say: Callable[[str], None],
        retry_s: float = RETRY_S,
    ) -> None:
        """Begin, with whatever an earlier end of this search left undelivered.

        Args:
            runs: Who is told.
            folder: Of the search; `FILE` in it holds what is not delivered.
            say: Hears that the store is away, and that it is back.
            retry_s: Seconds between two tries while it is away.

        Raises:
            StorageError: The folder cannot be written.
        """
        self._runs, self._file, self._say, self._retry_s = runs, folder / FILE, say, retry_s
        self._change = threading.Condition()
        self._failure: StorageError | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            left = self._file.read_text("utf-8") if self._file.exists() else ""
        except OSError as error:
            raise storage_error(f"Cannot keep a record in {folder}", error) from error
        # A kill may have cut the last line short; it was then not told.
        notes = [json.loads(line) for line in left[: left.rfind("\n") + 1].splitlines()]
        self._waiting = deque(note for note in notes if note[0] != "close")  # it is open again
        self._thread = threading.Thread(target=self._deliver, name="outbox", daemon=True)
        self._thread.start()

    def started(self, trial: str, params: Mapping[str, Scalar]) -> None:
        """Note a new trial, or one that goes on, and the parameters drawn for it."""
        self._tell("started", trial, dict(params))

    def reported(self, trial: str, step: int, metrics: Mapping[str, float], facts: Facts) -> None:
        """Note one report, in the order the trial made them, and what it took until then."""
        self._tell("reported", trial, step, dict(metrics), dict(facts))

    def ended(self, trial: str, outcome: Outcome, bundle: Path | None, facts: Facts) -> None:
        """Note how the trial ended, and what it took."""
        self._tell("ended", trial, outcome, str(bundle) if bundle else None, dict(facts))

    def champion(self, bundle: Path, pictures: Sequence[Path]) -> None:
        """Keep the search's best detector and pictures of its maps with the parent run."""
        self._tell("champion", str(bundle), [str(picture) for picture in pictures])

    def close(
        self,
        summary: Mapping[str, float],
        outcome: Outcome,
        known: Collection[str] | None = None,
        *,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """End the parent run, and wait until everything is delivered.

        `known` are all trials of the search, where it has come to its end.

        Raises:
            StorageError: MLflow is still away after `patience_s` seconds; nothing is lost.
        """
        self._tell("close", dict(summary), outcome, None if known is None else list(known))
        self.drain(patience_s=patience_s)

    def drain(self, *, patience_s: float = PATIENCE_S) -> None:
        """Wait until everything is delivered.

        Raises:
            StorageError: MLflow is still away after `patience_s` seconds; nothing is lost.
        """
        deadline = time.monotonic() + patience_s
        with self._change:
            while self._waiting and (left := deadline - time.monotonic()) > 0:
                assert self._thread.is_alive(), "the traceback of what ended it is above"
                self._change.wait(min(left, 1.0))
            if self._waiting:
                raise StorageError(
                    f"{self._failure or 'The MLflow store does not answer.'} {len(self._waiting)} "
                    f"notes of this search wait in {self._file}; they are delivered when it is "
                    "resumed, with the same command and --resume."
                )

    def _tell(self, what: str, *values: Any) -> None:
        note = [what, *values]
        with self._change:
            try:
                with self._file.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(note) + "\n")
            except OSError as error:
                raise storage_error(f"Cannot write the record {self._file}", error) from error
            self._waiting.append(note)
            self._change.notify_all()

    def _deliver(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._waiting)
                note = self._waiting[0]
            try:
                self._pass_on(note)
            except StorageError as error:
                self._is_away(error)
                continue
            with self._change:
                if self._failure:
                    self._say("The MLflow store is back.")
                self._failure = None
                self._waiting.popleft()
                if not self._waiting:
                    self._file.unlink(missing_ok=True)
                self._change.notify_all()

    def _pass_on(self, note: list[Any]) -> None:
        match note:
            case ["started", trial, params]:
                self._runs.started(trial, params)
            case ["reported", trial, step, metrics, facts]:
                self._runs.reported(trial, step, metrics, facts)
            case ["ended", trial, outcome, bundle, facts]:
                self._runs.ended(trial, outcome, Path(bundle) if bundle else None, facts)
            case ["champion", bundle, pictures]:
                self._runs.champion(Path(bundle), [Path(picture) for picture in pictures])
            case ["close", summary, outcome, known]:
                self._runs.close(summary, outcome, known)
            case _:
                self._say(f"A note of another version of this program is left out: {note}")

    def _is_away(self, error: StorageError) -> None:
        with self._change:
            if self._failure is None:
                self._say(f"{error} The search goes on; its record waits in {self._file}.")
            self._failure = error
        time.sleep(self._retry_s)
