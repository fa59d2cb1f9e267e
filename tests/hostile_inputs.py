"""Hostile inputs, kind by kind: each is taken for what it is or refused in one line, nothing lost.

`tests/test_hostile_inputs.py` tries some of each kind, `python -m benchmarks.fuzz` thousands under
a watch of time and memory. An input is an example of `Kind.inputs`, and `Kind.attempt` fails by any
exception that is not a refusal.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import yaml
from hypothesis import strategies as st

from registry import bundle
from registry.bundle import CARD, WEIGHTS
from registry.pointer import Entry, Pointer, pointer_from_json
from registry.runs.buffer import FILE, BufferedRuns
from registry.runs.search_runs import SearchRuns
from registry.runs.store import open_store
from registry.shelf import open_shelf
from search_spaces import BUNDLED, Space, load_file
from tests import hostile_pictures
from tests.exams import publish
from tests.forged import (
    ANYTHING,
    VALUES,
    afresh,
    in_part,
    in_tail,
    mutated,
    with_card,
    with_value,
)
from tests.mlflow_runs import new_store
from tests.stored.placed import STORED
from zoo.cli import main
from zoo.data.images import as_pixels
from zoo.detectors import Detector
from zoo.errors import BadImageError, BundleError, SpaceError, StorageError, ZooError
from zoo.evaluation import audit_log
from zoo.training import field_names

PICTURE = np.random.default_rng(0).integers(0, 255, (48, 56), np.uint8)
LONGEST = 5000  # letters of a message
PATIENCE_S = 0.5  # for MLflow
DRIFTED = 1  # exit code of `zoo drift`


class World:
    """A home with one detector on its shelf, and good bundles to be spoilt.

    Attributes:
        root: The folder of all.
        plain: A bundle of a plain detector, the one on the shelf.
        fused: A bundle of a fused one.
        digest: That of the detector on the shelf.
    """

    def __init__(self, root: Path) -> None:
        """Make all in an empty folder."""
        self.root = root
        self.plain, self.fused = (self._stored(name) for name in ("3", "3-fused"))
        self.home = root / "home"
        shelf = open_shelf(str(self.home / "shelf"))
        self.digest = publish(shelf, self.plain, texture="weave", version=1)
        self.pointer = self.home / "shelf" / "textures" / "weave.json"

    @cached_property
    def uri(self) -> str:
        """The address of an MLflow store."""
        return new_store(self.root / "mlflow.db")

    def _stored(self, name: str) -> Path:
        folder = self.root / name
        folder.mkdir(parents=True)
        for file in bundle.FILES:
            shutil.copy(STORED / "formats" / name / file, folder)
        return folder


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of input.

    Attributes:
        inputs: What is drawn.
        attempt: Gives one to what reads it, and returns whether it was taken; else it was refused.
        share: Inputs of this kind in tests, as a share of those of the others.
        ends: What `attempt` returns among some inputs; of some kinds none can be taken.
    """

    inputs: st.SearchStrategy[Any]
    attempt: Callable[[World, Any], bool]
    share: float = 1.0
    ends: frozenset[bool] = frozenset({True, False})


@contextlib.contextmanager
def unharmed(*places: Path) -> Iterator[None]:
    """Fail if the block changes, makes or removes a file in one of these folders."""
    before = {path: path.read_bytes() for place in places for path in _files(place)}
    yield
    after = {path: path.read_bytes() for place in places for path in _files(place)}
    assert after.keys() == before.keys(), f"{sorted(after.keys() ^ before.keys())}"
    changed = [path for path, content in before.items() if after[path] != content]
    assert not changed, f"changed: {changed}"


@contextlib.contextmanager
def in_one_line(*kinds: type[ZooError]) -> Iterator[list[str]]:
    """Let the block be refused by an error of these kinds; yield a list that gets its message."""
    refused: list[str] = []
    try:
        yield refused
    except kinds as error:
        refused.append(str(error))
    assert not any("\n" in line or len(line) > LONGEST for line in refused), refused


def _files(place: Path) -> list[Path]:
    found = place.rglob("*") if place.is_dir() else [place]
    return [each for each in found if each.is_file() and each.name != ".lock"]


def ran(world: World, *command: str, codes: tuple[int, ...] = (0,)) -> bool:
    """Run a command that changes nothing: it answers, or refuses in one line with exit code 2."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    at_home = {"ZOO_HOME": str(world.home), "MLFLOW_TRACKING_URI": "", "ZOO_SHELF": ""}
    with (
        unharmed(world.home / "shelf"),
        mock.patch.dict(os.environ, at_home),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main(command)
        except SystemExit as ended:
            code = int(ended.code or 0)
    lines = err.getvalue().splitlines()
    assert all(line.isprintable() for line in (*lines, *out.getvalue().splitlines()))
    if code in codes:
        return True
    assert code == 2, (code, lines)
    *progress, line = lines
    assert line.startswith("zoo"), lines
    assert not any(each.startswith(("zoo", "Traceback")) for each in progress), lines
    return False


# ---------------------------------------------------------------------------------------- bundles

PLACES = (
    "format", "texture", "method", "config", "config.patch", "config.depth", "config.width",
    "config.discriminator_depth", "config.latent_channels", "config.discriminator_norm",
    "config.output_stride", "config.segmenter", "config.views", "preprocessing",
    "preprocessing.mode", "preprocessing.scale", "preprocessing.low", "calibration",
    "calibration.rule", "calibration.mean", "calibration.covariance", "calibration.rule.weights",
    "calibration.rule.mean_filter", "calibration.rule.top_fraction",
    "calibration.rule.aggregation", "threshold", "threshold.value", "threshold.rule",
    "threshold.scores", "threshold.statistics", "metrics", "data", "data.fit", "made_by",
    "parts", "fusion", "nothing.of.ours",
)  # fmt: skip
OF_FUSED = (
    "parts", "fusion", "fusion.tails", "fusion.map_weights", "fusion.score_weights",
    "fusion.top_fraction", "threshold.map_value", "threshold", "method", "config", "format",
)  # fmt: skip
OF_PARTS = ("method", "parts", "fusion", "threshold", "calibration")
NUMBERS = st.floats(-1e12, 1e12) | st.floats(-1e3, 1e3) | st.integers(-3, 3)
SIZES = NUMBERS.map(abs)
Change = Callable[[Path], None]


def card_of(name: str) -> dict[str, Any]:
    """Return the card of a stored bundle without its hashes."""
    card: dict[str, Any] = json.loads((STORED / "formats" / name / CARD).read_bytes())
    del card["card_sha256"], card["weights_sha256"]
    return card


PLAIN, FUSED = card_of("3"), card_of("3-fused")


CARDS: st.SearchStrategy[Change] = st.builds(with_value, st.sampled_from(PLACES), VALUES) | mutated(
    PLAIN
).map(with_card)
FUSED_CARDS: st.SearchStrategy[Change] = (
    st.builds(with_value, st.sampled_from(OF_FUSED), VALUES)
    | st.builds(in_part, st.integers(0, len(FUSED["parts"]) - 1), st.sampled_from(OF_PARTS), VALUES)
    | st.builds(in_tail, knots=VALUES, heights=VALUES)
    | st.builds(
        in_tail,
        knots=st.lists(NUMBERS, min_size=3, max_size=3).map(sorted),
        heights=st.lists(SIZES, min_size=3, max_size=3).map(sorted),
    )
    | st.builds(
        with_value,
        st.sampled_from(["fusion.map_weights", "fusion.score_weights"]),
        st.lists(SIZES, min_size=3, max_size=3),
    )
    | st.builds(with_value, st.just("fusion.top_fraction"), st.floats(0, 1))
    | st.builds(with_value, st.just("threshold.map_value"), NUMBERS)
    | st.builds(with_value, st.just("threshold.share_of_peak"), NUMBERS)
    | mutated(FUSED).map(with_card)
)


def spoilt(sound: Path, change: Change) -> Path:
    """Return a copy of a bundle with a change; none if there is no such place in it."""
    folder = afresh(sound, f"{sound.name} spoilt")
    with contextlib.suppress(KeyError, TypeError):  # a place inside what is none
        change(folder)
    return folder


def scores(folder: Path) -> bool:
    """Load a bundle and score with it: whatever it holds, the map is one, or it is refused."""
    with unharmed(folder), in_one_line(BundleError, BadImageError) as refused:
        found = Detector(bundle.load(folder)).score(PICTURE)
    if refused:
        return False
    assert found.map.shape == PICTURE.shape
    assert np.isfinite(found.map).all()
    assert np.isfinite(found.score)
    return True


def shown(world: World, given: tuple[Change, bool]) -> bool:
    """Publish a bundle with a changed card, and show it."""
    change, as_json = given
    shelf = world.home / "shelf"
    before = world.pointer.read_bytes()
    try:
        digest = publish(
            open_shelf(str(shelf)), spoilt(world.plain, change), texture="weave", version=2
        )
    except BundleError:
        return False
    try:
        return ran(world, "show", "weave", *(["--json"] if as_json else []))
    finally:
        world.pointer.write_bytes(before)
        if digest != world.digest:
            shutil.rmtree(shelf / "objects" / digest)


def with_byte(world: World, given: tuple[int, int, bool]) -> bool:
    """Load a bundle of which one byte is another; it must be refused."""
    at, bits, weights = given
    folder = afresh(world.plain, "flipped")
    path = folder / (WEIGHTS if weights else CARD)
    content = bytearray(path.read_bytes())
    content[at % len(content)] ^= bits
    path.write_bytes(content)
    with unharmed(folder), in_one_line(BundleError) as refused:
        bundle.load(folder)
    assert refused, f"byte {at} of {path.name} by {bits} was not noticed"
    return False


# ---------------------------------------------------------------------------- pointers, histories

HISTORY = Pointer(
    texture="weave",
    aliases={"champion": 1, "previous": 2},
    versions={1: "1" * 64, 2: "2" * 64},
    history=(
        Entry(act="promoted", version=2, digest="2" * 64, reason="the first", run="a" * 32,
              figures={"val_pixel_ap": 0.5, "win_share": 0.9}, who="me@here", when=1.7e9),
        Entry(act="promoted", version=1, digest="1" * 64, reason="better", run=None,
              figures={"val_pixel_ap": 0.625}, who="me@here", when=1.71e9),
        Entry(act="removed", version=3, reason="a test", who="you@there", when=1.72e9),
    ),
    signatures={"1" * 64: ("c2lnbmVk",)},
)  # fmt: skip
POINTERS = st.binary(max_size=200) | (ANYTHING | mutated(json.loads(HISTORY.to_json()))).map(
    json.dumps
).map(str.encode)
READERS = (
    ("names",), ("names", "--json"), ("history", "weave"), ("history", "weave", "--json"),
    ("show", "weave"), ("show", "weave:2"), ("rollback", "weave:3"), ("shelf", "verify"),
    ("shelf", "gc", "--dry-run"), ("shelf", "remove", "weave:1"),
)  # fmt: skip


def pointed(world: World, given: tuple[bytes, tuple[str, ...]]) -> bool:
    """Put a pointer on the shelf, and run a command that reads it."""
    content, command = given
    before = world.pointer.read_bytes()
    world.pointer.write_bytes(content)
    try:
        taken = ran(world, *command)
    finally:
        world.pointer.write_bytes(before)
    try:
        assert isinstance(pointer_from_json(content, where="x"), Pointer)
    except BundleError:
        return False
    return taken


# ------------------------------------------------------------------------------------- JSON lines

SCORED = {
    "image": "a.png", "score": 0.75, "is_anomalous": False, "time": "2026-11-24T12:00:00+00:00",
    "detector": "weave:1", "statistics": {"brightness": 0.5, "contrast": 0.1, "sharpness": -1.0},
    "regions": [{"top": 1, "left": 2, "contour": [[1, 2], [3, 4]]}],
}  # fmt: skip
TESTED = SCORED | {
    "kind": "hole", "defective": True, "defective_pixels": 12, "pixel_ap": 0.5, "pixel_f1": None,
    "seconds": 0.1, "regions_found": 1,
}  # fmt: skip
RECORD = [
    ["started", "a", {"patch": 48, "norm": "batch"}],
    ["reported", "a", 1, {"val_pixel_ap": 0.125}, {"steps": 1, "node": "here"}],
    ["ended", "a", "finished", "/nowhere/bundle", {"steps": 1}],
    ["started", "b", {}],
    ["close", {"val_pixel_ap": 0.125}, "finished", ["a", "b"]],
]
RAW = st.binary(max_size=40)


def lines_of(*documents: Any) -> st.SearchStrategy[bytes]:
    """Draw lines of JSON of which some are changed, some raw, and which may be cut at the end."""
    line = st.sampled_from(documents) | st.sampled_from(documents).flatmap(mutated) | ANYTHING
    one = line.map(json.dumps).map(str.encode) | RAW
    several = st.lists(one, min_size=1, max_size=5).map(lambda lines: b"\n".join(lines) + b"\n")
    return st.tuples(several, st.integers(0, 30)).map(lambda each: each[0][: -each[1] or None])


def drifted(world: World, given: tuple[bytes, bool]) -> bool:
    """Give lines to `zoo drift`."""
    content, as_json = given
    path = world.root / "scores.jsonl"
    path.write_bytes(content)
    with unharmed(path):
        more = ["--json"] if as_json else []
        return ran(world, "drift", "weave", "--scores", str(path), *more, codes=(0, DRIFTED))


def summed_up(world: World, content: bytes) -> bool:
    """Sum up the log of an audit."""
    path = world.root / "log.jsonl"
    path.write_bytes(content)
    with unharmed(path):
        said = audit_log.nearest(path)
    assert all(isinstance(line, str) for line in said)
    return not any("cannot be summed up" in line for line in said)


def delivered(world: World, content: bytes) -> bool:
    """Give the record of an interrupted search to the search that goes on."""
    folder = world.root / "search"
    folder.mkdir(exist_ok=True)
    (folder / FILE).write_bytes(content)
    runs = SearchRuns(open_store(world.uri), search="hostile", texture="weave", params={})
    whole = content[: content.rfind(b"\n") + 1]

    def kept() -> bytes:
        return (folder / FILE).read_bytes() if (folder / FILE).exists() else b""

    with in_one_line(StorageError) as refused:
        log = BufferedRuns(runs, folder, say=lambda line: None, retry_s=PATIENCE_S)
    if refused:
        assert kept() == whole
        return False
    with in_one_line(StorageError) as refused:  # MLflow may not take an entry
        log.drain(timeout_s=PATIENCE_S)
    assert log._thread.is_alive(), "what passes entries on has ended"
    with log._change:  # what was refused may have been taken since, on a busy machine
        assert kept() == (whole if log._waiting else b"")
    return not refused


# -------------------------------------------------------------------------- spaces, names, others

SPACES = [yaml.safe_load((BUNDLED / f"{name}.yaml").read_text()) for name in ("grid", "default")]
FIELDS = field_names()


def laughing(depth: int) -> str:
    """Return a list of lists of lists, each ten times as long as the one inside of it."""
    made = f"[{', '.join('x' * 10)}]"
    for name in "abcdefghijkl"[:depth]:
        made = f"[&{name} {made}, {', '.join([f'*{name}'] * 9)}]"
    return made


YAML = (
    st.text(max_size=200)
    | st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=6), ANYTHING).map(json.dumps)
    | st.dictionaries(
        st.sampled_from(FIELDS),
        st.dictionaries(
            st.sampled_from(["choice", "integer", "uniform", "log_uniform", "x"]), VALUES
        ),
    ).map(json.dumps)
    | st.sampled_from(SPACES).flatmap(mutated).map(json.dumps)
    | st.builds(
        str.replace,
        st.sampled_from(
            [
                "patch: XX",
                "x: XX",
                "patch: {choice: XX}",
                "patch: {XX: 1}",
                "? XX\n: 1",
                "XX",
                "patch: {integer: [1, XX]}",
                "patch: {uniform: XX}",
                "patch: {a: XX, b: 1}",
            ]
        ),
        st.just("XX"),
        st.integers(0, 12).map(laughing),
    )
)


def read_space(world: World, content: str) -> bool:
    """Read a search space."""
    path = world.root / "space.yaml"
    path.write_text(content, "utf-8", errors="surrogatepass")
    with unharmed(path), in_one_line(SpaceError) as refused:
        assert isinstance(load_file(path, known=FIELDS), Space)
    return not refused


ODD = st.sampled_from(
    ["@", ":", "/", "..", "../", "%2e", "%", "\\", "\0", "\n", "\x1b[2J", "*", "[", "?", "~", " ",
     "-", "--", "weave", "champion", "1", "@sha256:", "1" * 64, "\u202e", "\udcff", "\u0301", "²",
     "木", "x" * 300, "{", "}", "$(id)"]
)  # fmt: skip
NAMES = st.lists(ODD | st.text(max_size=3), max_size=6).map("".join)
NAMING = (
    ("show",), ("history",), ("names",), ("score",), ("rollback",), ("shelf", "remove"), ("drift",),
)  # fmt: skip


def named(world: World, given: tuple[str, tuple[str, ...]]) -> bool:
    """Give a name to a command."""
    name, command = given
    more = {"score": ["a.png"], "drift": ["--scores", "a.jsonl"]}.get(command[0], [])
    with unharmed(world.home / "shelf"):
        return ran(world, *command, name, *more)


PEM = b"""-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=
-----END PUBLIC KEY-----
"""


def trusted(world: World, content: bytes) -> bool:
    """Trust the keys of a file, none of which has signed the detector."""
    path = world.root / "keys.pem"
    path.write_bytes(content)
    with unharmed(path), mock.patch.dict(os.environ, {"ZOO_TRUSTED_KEYS": str(path)}):
        assert not ran(world, "show", "weave")
    return False


def spliced(content: bytes) -> st.SearchStrategy[bytes]:
    """Draw a file with some bytes changed, and cut."""
    change = st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255))
    return st.tuples(st.lists(change, max_size=6), st.integers(0, 2 * len(content))).map(
        lambda given: hostile_pictures.damaged(content, *given)
    )


def pictured(world: World, given: Any) -> bool:
    """Read a picture, from a file's bytes or an array."""
    with in_one_line(BadImageError) as refused:
        found = as_pixels(given)
    if refused:
        return False
    assert found.dtype in (np.uint8, np.uint16)
    assert found.ndim == 3
    assert found.shape[2] in (1, 3)
    return True


KINDS: Mapping[str, Kind] = {
    "cards of bundles": Kind(
        inputs=CARDS, attempt=lambda world, change: scores(spoilt(world.plain, change))
    ),
    "cards of fused bundles": Kind(
        inputs=FUSED_CARDS, attempt=lambda world, change: scores(spoilt(world.fused, change))
    ),
    "bundles with another byte": Kind(
        inputs=st.tuples(st.integers(0), st.integers(1, 255), st.booleans()),
        attempt=with_byte,
        ends=frozenset({False}),
    ),
    "cards that are shown": Kind(
        inputs=st.tuples(CARDS, st.booleans()), attempt=shown, share=0.25
    ),
    "pointers and histories": Kind(
        inputs=st.tuples(POINTERS, st.sampled_from(READERS)), attempt=pointed, share=0.5
    ),
    "lines of scores": Kind(
        inputs=st.tuples(lines_of(SCORED), st.booleans()), attempt=drifted, share=0.5
    ),
    "logs of audits": Kind(inputs=lines_of(TESTED), attempt=summed_up),
    "records of searches": Kind(inputs=lines_of(*RECORD), attempt=delivered, share=0.2),
    "search spaces": Kind(inputs=YAML, attempt=read_space),
    "names": Kind(
        inputs=st.tuples(NAMES, st.sampled_from(NAMING)), attempt=named, share=0.5
    ),
    "trusted keys": Kind(
        inputs=spliced(PEM), attempt=trusted, share=0.25, ends=frozenset({False})
    ),
    "files of pictures": Kind(inputs=hostile_pictures.FILES, attempt=pictured),
    "arrays": Kind(inputs=hostile_pictures.ARRAYS, attempt=pictured),
}  # fmt: skip
