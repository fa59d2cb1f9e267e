"""The command line, as a user meets it: answers, pictures, and one line for each mistake."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import resource
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import zoo
from registry.runs import Outcome, SearchRuns, open_store, tracking_uri
from tests import textures_drawn
from tests.exams import flip
from zoo import bundle, recipe, textures
from zoo.cli import main, parser

ROOT = Path(__file__).parent.parent
ZOO = Path(sys.executable).parent / "zoo"
SETTINGS = textures_drawn.TINY | {"megapixels": 0.1, "reports": 1, "output_stride": 2}
TRAIN = ["train", "--preset", "thesis", "--threads", "1"]
FORCE = ["--force", "--because", "a second of training is below local statistics"]
TRAIN += [part for name, value in SETTINGS.items() for part in ("--set", f"{name}={value}")]


@dataclass(frozen=True, kw_only=True)
class Shop:
    """A home with one promoted detector, which tests must only read.

    Attributes:
        home: The home.
        data: The folder that holds `weave`.
        made: Where `zoo train` put the detector.
        trained: What `zoo train` answered.
        promoted: What `zoo promote` answered.
    """

    home: Path
    data: Path
    made: Path
    trained: dict[str, Any]
    promoted: dict[str, Any]

    @property
    def images(self) -> list[Path]:
        """All test images, good ones first."""
        return sorted((self.data / "weave" / "test").rglob("*.png"))


def move_in(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `home` be the user's, and nothing else of the environment count."""
    for name in ("ZOO_SHELF", "MLFLOW_TRACKING_URI", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ZOO_HOME", str(home))


@pytest.fixture(scope="session")
def stocked(drawn_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """`zoo train` and `zoo promote` on the drawn texture."""
    root, data = tmp_path_factory.mktemp("shop"), drawn_folder.parent
    answers = []
    of_weave = ["--category", "weave", "--data", str(data)]
    for command in (
        [*TRAIN, *of_weave, "--out", str(root / "made"), "--json"],
        ["promote", str(root / "made"), "--data", str(data), "--json", *FORCE],
    ):
        printed = io.StringIO()
        with pytest.MonkeyPatch.context() as monkeypatch, contextlib.redirect_stdout(printed):
            move_in(root / "home", monkeypatch)
            main(command)
        answers.append(json.loads(printed.getvalue()))
    return Shop(
        home=root / "home",
        data=data,
        made=root / "made",
        trained=answers[0],
        promoted=answers[1],
    )


@pytest.fixture
def shop(stocked: Shop, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """The shop, with its home as the user's."""
    move_in(stocked.home, monkeypatch)
    return stocked


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home that does not exist yet."""
    move_in(tmp_path / "home", monkeypatch)
    return tmp_path / "home"


@pytest.fixture
def weave(drawn_folder: Path, tmp_path: Path) -> Path:
    """A copy of the drawn texture, to be spoilt."""
    return Path(shutil.copytree(drawn_folder, tmp_path / "data" / "weave"))


def refused(capsys: pytest.CaptureFixture[str], *command: str | Path) -> str:
    """Run a command that must be refused, and return the one line that says why."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_:
        main([str(part) for part in command])
    assert exit_.value.code == 2
    *progress, line = capsys.readouterr().err.splitlines()
    assert line.startswith("zoo")
    assert not any(each.startswith(("zoo", "Traceback")) for each in progress)
    return line


def searched(capsys: pytest.CaptureFixture[str], data: Path, *more: str | Path) -> str:
    """Run a search that must be refused, and return why."""
    return refused(capsys, "search", "--category", "weave", "--data", data, *more)


# ------------------------------------------------------------------------------------------- help


def commands() -> dict[str, argparse.ArgumentParser]:
    """Return the parser of the whole command and of every subcommand."""
    top = parser()
    [group] = [each for each in top._actions if isinstance(each, argparse._SubParsersAction)]
    return {"zoo": top, **group.choices}


def test_there_are_the_commands_that_the_readme_tells_of() -> None:
    known = ["zoo", "demo", "search", "train", "score", "names", "show", "export"]
    known += ["history", "rollback", "runs", "promote", "shelf", "bench", "audit", "cluster"]
    assert list(commands()) == known


@pytest.mark.parametrize("name", list(commands()))
def test_every_help_ends_with_an_example_that_the_command_takes(name: str) -> None:
    _, _, examples = commands()[name].format_help().rpartition("\n\nexample:\n")
    lines = [shlex.split(line) for line in examples.splitlines()]
    assert lines
    for line in lines:
        assert line[0] == "zoo"
        assert name in ("zoo", line[1])
        assert parser().parse_args(line[1:]).run.__name__ == line[1]


def test_the_page_of_the_command_line_is_what_the_help_says_now() -> None:
    made = subprocess.run(
        [sys.executable, ROOT / "docs" / "make_cli.py"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"COLUMNS": "40"},
    ).stdout
    assert made == (ROOT / "docs" / "cli.md").read_text("utf-8"), "run `make docs`"
    assert made.count("\n## `zoo ") == len(commands()) - 1


# ----------------------------------------------------------------------------------- wrong commands


def test_an_unknown_command_is_refused_with_those_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = refused(capsys, "serch")
    assert "'serch'" in line
    assert "search" in line.replace("serch", "")
    assert line.endswith("See `zoo --help`.")


@pytest.mark.parametrize("time", ["5x", "m", "0", "-3m", "1h30"])
def test_what_is_no_time_is_refused_with_what_is(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, time: str
) -> None:
    line = searched(capsys, tmp_path, f"--time-budget={time}")
    assert f"'{time}' is no time; write 90s, 20m or 2h" in line


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("1.5m", 90), ("20m", 1200), ("2h", 7200)]
)
def test_a_time_is_read_by_its_unit(text: str, seconds: float) -> None:
    command = ["search", "--category", "a", "--data", "d", "--time-budget", text]
    assert parser().parse_args(command).time_budget == seconds


def test_one_seed_has_no_spread(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "a spread takes 2 seeds or more" in searched(capsys, tmp_path, "--confirm", "1")


@pytest.mark.parametrize("option", ["--trials", "--threads", "--reports"])
def test_a_number_that_must_be_above_0_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, option: str
) -> None:
    line = searched(capsys, tmp_path, option, "0")
    assert f"{option}: '0' is no whole number above 0" in line


def test_a_misspelt_setting_is_refused_with_the_near_name(
    capsys: pytest.CaptureFixture[str], weave: Path, tmp_path: Path
) -> None:
    of_weave = ["--category", "weave", f"--data={weave.parent}", f"--out={tmp_path}/out"]
    line = refused(capsys, "train", *of_weave, "--set", "widht=16")
    assert "no setting 'widht'. Did you mean 'width'?" in line
    assert "not 'width'" in refused(capsys, "train", *of_weave, "--set", "width")
    assert "width takes a whole number, such as 32, not 'wide'" in refused(
        capsys, "train", *of_weave, "--set", "width=wide"
    )
    assert not (tmp_path / "out").exists()


# --------------------------------------------------------------------------------------- bad input


def test_an_empty_folder_is_refused_and_nothing_is_made(
    capsys: pytest.CaptureFixture[str], home: Path, tmp_path: Path
) -> None:
    (tmp_path / "data" / "weave" / "train" / "good").mkdir(parents=True)
    line = searched(capsys, tmp_path / "data")
    assert "No picture of good 'weave'" in line
    assert str(tmp_path / "data" / "weave") in line
    assert not home.exists()


def test_a_corrupt_picture_among_good_ones_is_named_and_nothing_is_made(
    capsys: pytest.CaptureFixture[str], home: Path, weave: Path
) -> None:
    path = weave / "train" / "good" / "003.png"
    path.write_bytes(path.read_bytes()[:200])
    line = searched(capsys, weave.parent)
    assert "003.png" in line
    assert not home.exists()


def test_after_a_search_on_a_corrupt_picture_the_champion_is_what_it_was(
    capsys: pytest.CaptureFixture[str], shop: Shop, weave: Path
) -> None:
    (weave / "train" / "good" / "003.png").write_bytes(b"no picture")
    before = bundle.digest(zoo_folder(shop, "weave"))
    searches = sorted(shop.home.glob("searches/*"))
    assert "003.png" in searched(capsys, weave.parent)
    assert bundle.digest(zoo_folder(shop, "weave")) == before
    assert sorted(shop.home.glob("searches/*")) == searches


def zoo_folder(shop: Shop, name: str) -> Path:
    from registry.shelf import FolderShelf

    return FolderShelf(shop.home / "shelf").fetch(name)


def test_pictures_smaller_than_a_patch_are_refused_with_both_sizes(
    capsys: pytest.CaptureFixture[str], home: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    for number in range(14):
        picture = textures_drawn.draw(20, 90, rng)
        textures_drawn.write(tmp_path / "data" / "weave" / f"{number}.png", picture)
    line = searched(capsys, tmp_path / "data")
    assert "has a side of 20 pixels; space 'default' needs 48" in line
    of_weave = ["--category", "weave", f"--data={tmp_path}/data", f"--out={tmp_path}/out"]
    line = refused(capsys, *TRAIN, *of_weave, "--set", "patch=32")
    assert "has 20x90 pixels; a patch of 32 at scale 1.0 needs 32x32" in line
    assert not (tmp_path / "out").exists()
    assert not home.exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("widht: 16\n", ["'widht'", "width"]),
        ("learning_rate: {log_uniform: [1.0e-2, 1.0e-4]}\n", ["learning_rate", "0.01", "0.0001"]),
        ("width: {choice: []}\n", ["width"]),
        ("width: [1\n", ["YAML"]),
    ],
)
def test_a_wrong_space_file_is_refused_with_file_and_field(
    capsys: pytest.CaptureFixture[str],
    home: Path,
    weave: Path,
    tmp_path: Path,
    text: str,
    said: list[str],
) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    line = searched(capsys, weave.parent, "--space", tmp_path / "mine.yaml")
    assert all(each in line for each in ["mine.yaml", *said]), line
    assert not home.exists()


def test_a_category_without_a_detector_is_refused_with_the_near_name(
    capsys: pytest.CaptureFixture[str], shop: Shop
) -> None:
    for command in (["show", "waeve"], ["score", "waeve", shop.images[0]]):
        line = refused(capsys, *command)
        assert line.startswith("zoo: No detector 'waeve' on the shelf")
        assert line.endswith("it has weave. Did you mean 'weave'?")


def test_a_bundle_with_one_flipped_byte_is_not_used(
    capsys: pytest.CaptureFixture[str], stocked: Shop, home: Path
) -> None:
    shutil.copytree(stocked.home / "shelf", home / "shelf")
    [weights] = (home / "shelf").rglob(bundle.WEIGHTS)
    flip(weights)
    for command in (["show", "weave"], ["score", "weave", stocked.images[0]]):
        line = refused(capsys, *command)
        assert bundle.WEIGHTS in line
        assert str(weights.parent) in line


def test_a_mask_of_another_size_fails_the_audit_and_the_champion_stays(
    capsys: pytest.CaptureFixture[str], stocked: Shop, home: Path, weave: Path, tmp_path: Path
) -> None:
    made = bundle.load(stocked.made)
    blind = {name: torch.zeros_like(weight) for name, weight in made.weights.items()}
    bundle.save(replace(made, weights=blind), tmp_path / "blind")
    materials = recipe.gather(textures.find(weave.parent, "weave"))
    bundle.save(recipe.floor(materials, scale=1.0), tmp_path / "better")
    main(["promote", str(tmp_path / "blind"), "--data", str(weave.parent), *FORCE])
    before = bundle.digest(home_champion(home))

    Image.new("L", (40, 30)).save(weave / "ground_truth" / "hole" / "001_mask.png")
    line = refused(capsys, "promote", tmp_path / "better", "--data", weave.parent)
    assert "001_mask.png" in line
    assert "30x40" in line
    assert "64x72" in line
    assert bundle.digest(home_champion(home)) == before


def test_a_test_image_without_its_mask_is_told_before_a_search_begins(
    capsys: pytest.CaptureFixture[str], home: Path, weave: Path
) -> None:
    (weave / "ground_truth" / "hole" / "001_mask.png").unlink()
    line = refused(capsys, "search", "--category", "weave", "--data", weave.parent)
    assert "001_mask.png" in line
    assert not home.exists() or not list(home.iterdir())


def home_champion(home: Path) -> Path:
    from registry.shelf import FolderShelf

    return FolderShelf(home / "shelf").fetch("weave")


# --------------------------------------------------------------------------------- disks that fail


def test_a_home_that_cannot_be_made_is_refused_with_the_place(
    capsys: pytest.CaptureFixture[str],
    stocked: Shop,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "file").write_text("in the way")
    move_in(tmp_path / "file" / "home", monkeypatch)
    lines = [
        refused(capsys, "promote", stocked.made, "--data", stocked.data),
        searched(capsys, stocked.data),
        refused(capsys, "score", "weave", stocked.images[0]),
    ]
    assert all(str(tmp_path / "file" / "home") in line for line in lines), lines


def test_a_picture_that_cannot_be_written_is_refused_with_the_place(
    capsys: pytest.CaptureFixture[str], shop: Shop, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    line = refused(capsys, "score", "weave", shop.images[0], "--out", tmp_path / "file" / "maps")
    assert str(tmp_path / "file") in line


def limited(size: int, home: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command for which no file may grow beyond so many bytes: a full disk, to a writer."""
    return subprocess.run(
        [ZOO, *command],
        env=os.environ | {"ZOO_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
    )


def test_a_full_disk_is_one_line_and_leaves_no_half_bundle(stocked: Shop, tmp_path: Path) -> None:
    out, home = tmp_path / "out", tmp_path / "home"
    of_weave = ["--category", "weave", f"--data={stocked.data}", f"--out={out}"]
    ended = limited(2048, home, *TRAIN, *of_weave)
    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("zoo: Cannot write the bundle of 'weave': ")
    assert not list(out.rglob("*"))


def test_a_disk_that_fills_up_while_promoting_leaves_the_shelf_as_it_was(
    stocked: Shop, home: Path
) -> None:
    ended = limited(2048, home, "promote", stocked.made, "--data", stocked.data)
    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("zoo: Cannot ")
    assert zoo.names() == []


# ------------------------------------------------------------------------------------------ answers


def test_training_with_the_preset_says_where_the_detector_is_and_how_to_promote_it(
    shop: Shop,
) -> None:
    assert shop.trained["detector"] == str(shop.made)
    assert 0 < shop.trained["val_pixel_ap"] <= 1
    made = bundle.load(shop.made)
    assert made.config["width"] == 4
    assert made.made_by["training"]["megapixels"] == 0.1
    assert made.made_by["training"]["defect_rounds"] == 0, "the thesis' own training"


def test_promoting_answers_with_the_verdict_and_the_audit(shop: Shop) -> None:
    assert shop.promoted["promoted"] is True
    assert shop.promoted["reason"].startswith("Forced, because a second of training")
    assert "is below that of local statistics" in shop.promoted["reason"]
    assert shop.promoted["test_images"] == 6
    assert 0 <= shop.promoted["test_pixel_ap"] <= 1


def test_promoting_the_champion_again_is_refused_with_the_reason(
    capsys: pytest.CaptureFixture[str], shop: Shop
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["promote", str(shop.made), "--data", str(shop.data), "--json"])
    assert exit_.value.code == 2
    answer = json.loads(capsys.readouterr().out)
    assert answer["promoted"] is False
    assert "already the champion of 'weave'" in answer["reason"]


def test_every_image_is_a_json_line_with_an_overlay_of_its_own(
    capsys: pytest.CaptureFixture[str], shop: Shop, tmp_path: Path
) -> None:
    main(["score", "weave", *map(str, shop.images), "--out", str(tmp_path / "maps")])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["image"] for line in lines] == [str(path) for path in shop.images]
    assert len(lines) == 6
    detector = zoo.load("weave")
    for line in lines:
        score = detector.score(line["image"])
        assert line["score"] == pytest.approx(score.score, abs=1e-5)
        assert line["threshold"] == pytest.approx(score.threshold, abs=1e-5)
        assert line["is_anomalous"] == score.is_anomalous == (score.score > score.threshold)
        assert line["anomalous_pixels"] == score.mask.sum()
    overlays = [Path(line["overlay"]) for line in lines]
    assert sorted((tmp_path / "maps").iterdir()) == sorted(overlays)
    assert len(set(overlays)) == 6, "images of one name in two folders overwrite each other"
    for overlay in overlays:
        with Image.open(overlay) as picture:
            assert picture.size == (4 * (72 + 4 + 72), 4 * 64), "both enlarged to 256 pixels"


def test_scoring_goes_on_past_an_unreadable_image_and_says_so_at_the_end(
    capsys: pytest.CaptureFixture[str], shop: Shop, tmp_path: Path
) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    images = [shop.images[0], tmp_path / "bad.png", tmp_path / "absent.png", shop.images[1]]
    with pytest.raises(SystemExit) as exit_:
        main(["score", "weave", *map(str, images)])
    assert exit_.value.code == 2
    ended = capsys.readouterr()
    scored = [json.loads(line)["image"] for line in ended.out.splitlines()]
    assert scored == [str(images[0]), str(images[3])]
    said = ended.err.splitlines()
    assert "bad.png" in said[0]
    assert "absent.png" in said[1]
    assert said[2].startswith("zoo: 2 of 4 images could not be scored; the others were.")


@pytest.mark.parametrize(("pattern", "found"), [("w*", ["weave"]), ("c*", []), ("*", ["weave"])])
def test_names_are_listed_by_wildcard(
    capsys: pytest.CaptureFixture[str], shop: Shop, pattern: str, found: list[str]
) -> None:
    main(["names", pattern])
    assert capsys.readouterr().out.splitlines() == found
    main(["names", pattern, "--json"])
    assert json.loads(capsys.readouterr().out) == found


def test_an_empty_shelf_has_no_names_and_says_how_to_make_one(
    capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    main(["names"])
    ended = capsys.readouterr()
    assert ended.out == ""
    assert "zoo search --category" in ended.err
    assert not home.exists()


def test_a_card_shows_where_a_detector_comes_from_and_how_good_it_is(
    capsys: pytest.CaptureFixture[str], shop: Shop
) -> None:
    main(["show", "weave", "--json"])
    card = json.loads(capsys.readouterr().out)
    assert card["texture"] == "weave"
    assert card["metrics"]["test"]["pixel_ap"] == shop.promoted["test_pixel_ap"]
    assert card["data"]["fingerprint"].startswith("sha256:")
    assert card["threshold"]["set_on"] == "calibration"
    assert "scores" not in card["threshold"]
    assert card["made_by"]["texture_zoo"]
    assert card["lineage"]["version"] == 1
    assert card["lineage"]["aliases"] == ["champion"]
    assert card["lineage"]["act"] == "forced"
    assert card["lineage"]["reason"] == shop.promoted["reason"]
    assert card["digest"] == zoo_folder(shop, "weave").name
    assert card["seconds_per_image"] > 0
    assert card == json.loads(json.dumps(zoo.show("weave@champion")))
    main(["show", "weave:1"])
    shown = capsys.readouterr().out
    assert "texture " in shown
    assert "test metrics" in shown


def test_a_history_has_a_line_for_each_change(
    capsys: pytest.CaptureFixture[str], shop: Shop
) -> None:
    main(["history", "weave", "--json"])
    [line] = json.loads(capsys.readouterr().out)
    assert (line["act"], line["version"]) == ("forced", 1)
    assert line["figures"]["test_pixel_ap"] == shop.promoted["test_pixel_ap"]
    main(["history", "weave"])
    head, row = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["WHEN", "WHAT", "VERSION"]
    assert "forced  1" in row
    assert line["who"] in row
    assert "Did you mean 'weave'" in refused(capsys, "history", "waeve")


def test_a_rollback_without_a_champion_before_is_refused(
    capsys: pytest.CaptureFixture[str], shop: Shop
) -> None:
    assert "no champion before this one" in refused(capsys, "rollback", "weave")


def test_force_and_its_reason_come_together(capsys: pytest.CaptureFixture[str], shop: Shop) -> None:
    promote = ("promote", shop.made, "--data", shop.data)
    assert "--force takes --because" in refused(capsys, *promote, "--force")
    assert "add --force, or leave it out" in refused(capsys, *promote, "--because", "x")


@pytest.fixture
def pipe() -> Iterator[int]:
    """The writing end of a pipe that nobody reads."""
    read, write = os.pipe()
    os.close(read)
    yield write
    os.close(write)


def test_a_reader_that_has_left_is_no_error(shop: Shop, pipe: int) -> None:
    ended = subprocess.run(
        [ZOO, "score", "weave", *shop.images],
        stdout=pipe,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_searches_are_listed_with_the_trials_by_outcome_and_the_hours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    move_in(tmp_path, monkeypatch)
    main(["runs"])
    assert capsys.readouterr() == (
        "",
        "No search yet. Begin one with `zoo search --category NAME --data DIR`.\n",
    )
    record = SearchRuns(open_store(tracking_uri()), search="weave-1", texture="weave", params={})
    outcomes: Mapping[str, Outcome] = {"a": "finished", "b": "stopped_early", "c": "stopped_early"}
    for trial, outcome in outcomes.items():
        record.started(trial, {})
        record.reported(trial, 1, {"val_pixel_ap": 0.5}, {})
        record.ended(trial, outcome, None, {"cpu_seconds": 1200.0, "gpu_seconds": 600.0})
    main(["runs"])
    header, line = capsys.readouterr().out.splitlines()
    assert header.split() == [
        *("SEARCH", "BEGAN", "STATE", "FINISHED", "STOPPED_EARLY", "FAILED", "INTERRUPTED"),
        *("RUNNING", "BEST", "HOURS"),
    ]
    assert line.split()[:1] == ["weave-1"]
    assert " ".join(line.split()[3:]) == "running 1 2 0 0 0 0.500 1.00 cpu, 0.50 gpu"
    assert header.index("BEST") == line.index("0.500")
    main(["runs", "--category", "weave", "--json"])
    [found] = json.loads(capsys.readouterr().out)
    assert (found["name"], found["best"], found["totals"]["steps"]) == ("weave-1", 0.5, 0)
    main(["runs", "--category", "wood", "--json"])
    assert json.loads(capsys.readouterr().out) == []
