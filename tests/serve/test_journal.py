"""The journal: what is written stays, whatever happens beside it, and becomes a data folder."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import struct
import subprocess
import sys
import threading
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from jaxtyping import Bool
from PIL import Image
from pydantic import ValidationError

from tests import textures_drawn
from tests.cli.commands import full_disk, move_in, refused
from tests.processes import same_imports
from zoo.cli import main
from zoo.data import textures
from zoo.data.layouts import arranged
from zoo.data.masks import read_mask
from zoo.errors import ConfigError, DataError, RefusedError, StorageError
from zoo.serve.journal import Box, Journal, Mark, Said
from zoo.serve.journal_export import export

HEIGHT, WIDTH = textures_drawn.HEIGHT, textures_drawn.WIDTH
SAID = Said(verdict="good", score=0.61)


def picture(seed: int, kind: str = "png") -> bytes:
    pixels = textures_drawn.draw(HEIGHT, WIDTH, np.random.default_rng(seed))
    disk = io.BytesIO()
    Image.fromarray(pixels[..., 0]).save(disk, kind)
    return disk.getvalue()


def mark(content: bytes, answer: str = "good", **more: Any) -> Mark:
    fields = {
        "picture": hashlib.sha256(content).hexdigest(),
        "file": "piece 7.png",
        "height": HEIGHT,
        "width": WIDTH,
        "detector": "weave",
        "version": 3,
        "digest": "ab" * 32,
        "said": SAID,
        "answer": answer,
    }
    return Mark.model_validate(fields | more)


def brushed(region: Bool[np.ndarray, "h w"]) -> str:
    """Return a mask as a browser makes it: colour, white on nothing."""
    pixels = np.zeros((*region.shape, 4), np.uint8)
    pixels[region] = 255
    disk = io.BytesIO()
    Image.fromarray(pixels).save(disk, "png")
    return base64.b64encode(disk.getvalue()).decode()


def twice_a_header(region: Bool[np.ndarray, "h w"]) -> str:
    """Return a mask with a second header, which states a size of a gigapixel."""
    content = base64.b64decode(brushed(region))
    body = b"IHDR" + struct.pack(">II", 30_000, 30_000) + content[24:29]
    second = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return base64.b64encode(content[:33] + second + content[33:]).decode()


def stroke() -> Bool[np.ndarray, "h w"]:
    region = np.zeros((HEIGHT, WIDTH), np.bool_)
    region[10:14, 20:50] = True
    return region


def region_of(given: Mark) -> Bool[np.ndarray, "h w"]:
    found = given.region()
    assert found is not None
    return found


def lines_of(root: Path, texture: str = "weave") -> Path:
    return root / texture / "marks.jsonl"


def test_a_mark_is_read_as_it_was_written(tmp_path: Path) -> None:
    said = Said(verdict="look again", score=0.93, threshold=0.9, p_value=0.07)
    box = Box(top=3, left=4, height=5, width=6)
    given = mark(picture(0), "defect", said=said, boxes=(box,), mask=brushed(stroke()))
    written = Journal(tmp_path).write("weave", given)
    (line,) = Journal(tmp_path).read("weave").lines
    assert line == written
    assert (line.said, line.boxes, line.answer, line.version) == (said, (box,), "defect", 3)
    expected = stroke()
    expected[3:8, 4:10] = True
    assert np.array_equal(region_of(line), expected)
    assert abs(line.time.timestamp() - lines_of(tmp_path).stat().st_mtime) < 60


def test_each_line_is_one_object_of_json_for_other_programs(tmp_path: Path) -> None:
    given = mark(picture(0), file="a\nb\u2028c\x1b[2J é.png")
    Journal(tmp_path).write("weave", given)
    content = lines_of(tmp_path).read_bytes()
    assert content.count(b"\n") == 1
    found = json.loads(content)
    assert found["file"] == given.file
    assert found["said"]["verdict"] == "good"
    assert found["time"].startswith("20")
    assert "mask" not in found


def test_the_mask_of_a_brush_takes_little_room(tmp_path: Path) -> None:
    region = np.zeros((3000, 4000), np.bool_)
    region[100:130, 200:1800] = True
    sent = brushed(region)
    given = mark(picture(0), "defect", height=3000, width=4000, mask=sent)
    Journal(tmp_path).write("weave", given)
    (line,) = Journal(tmp_path).read("weave").lines
    assert np.array_equal(region_of(line), region)
    assert lines_of(tmp_path).stat().st_size < min(5000, len(sent))


@pytest.mark.parametrize(
    ("texture", "folder"), [("wood (2)", "wood %282%29"), ("../x", "%2E.%2Fx"), ("é/", "é%2F")]
)
def test_the_name_of_a_texture_is_no_path(tmp_path: Path, texture: str, folder: str) -> None:
    journal = Journal(tmp_path / "journal")
    journal.write(texture, mark(picture(0)))
    assert lines_of(tmp_path / "journal", folder).is_file()
    assert journal.textures() == [texture]
    assert [each.name for each in tmp_path.iterdir()] == ["journal"]


@pytest.mark.parametrize("left", [b'{"picture": "0a', b"\xff\xfe", b'{"answer": "good"}', b"[]"])
def test_what_a_crash_left_of_a_line_loses_nothing_else(tmp_path: Path, left: bytes) -> None:
    journal = Journal(tmp_path)
    journal.write("weave", mark(picture(0)))
    with lines_of(tmp_path).open("ab") as file:
        file.write(left)
    assert len(journal.read("weave").lines) == 1
    assert journal.read("weave").damaged == 1
    journal.write("weave", mark(picture(1), "defect"))
    read = journal.read("weave")
    assert [line.answer for line in read.lines] == ["good", "defect"]
    assert read.damaged == 1


def test_a_line_that_lacks_only_its_end_counts(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.write("weave", mark(picture(0)))
    path = lines_of(tmp_path)
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    journal.write("weave", mark(picture(1), "defect"))
    assert [line.answer for line in journal.read("weave").lines] == ["good", "defect"]
    assert journal.read("weave").damaged == 0


WRITER = """
import sys
from pathlib import Path
from zoo.serve.journal import Journal, Mark
given = Mark.model_validate_json(sys.argv[2])
for turn in range(25):
    Journal(Path(sys.argv[1])).write("weave", given.model_copy(update={"version": turn + 1}))
"""


def test_writers_in_many_threads_and_processes_lose_no_line(tmp_path: Path) -> None:
    given = [mark(picture(seed), file=f"{seed}.png") for seed in range(5)]
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    processes = [
        subprocess.Popen([*command, each.model_dump_json()], env=os.environ | same_imports())
        for each in given[:2]
    ]

    def write(each: Mark) -> None:
        for turn in range(25):
            Journal(tmp_path).write("weave", each.model_copy(update={"version": turn + 1}))

    threads = [threading.Thread(target=write, args=(each,)) for each in given[2:]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.wait(120) for process in processes] == [0, 0]
    read = Journal(tmp_path).read("weave")
    assert read.damaged == 0
    for each in given:
        versions = [line.version for line in read.lines if line.picture == each.picture]
        assert versions == list(range(1, 26))


def test_a_writer_waits_for_the_one_before_and_says_so_if_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "journal"
    Journal(root).write("weave", mark(picture(0)))
    with FileLock(root / ".lock"):
        second = threading.Thread(target=Journal(root).write, args=("weave", mark(picture(1))))
        second.start()
        second.join(0.5)
        assert second.is_alive()
        assert len(Journal(root).read("weave").lines) == 1  # readers do not wait
        monkeypatch.setattr("zoo.serve.journal.LOCK_S", 0.1)
        with pytest.raises(StorageError, match="another process has held .*lock for 0 seconds"):
            Journal(root).write("weave", mark(picture(2)))
    second.join(30)
    assert len(Journal(root).read("weave").lines) == 2


def test_a_full_disk_leaves_the_journal_as_it_was(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.write("weave", mark(picture(0)))
    before = lines_of(tmp_path).read_bytes()
    with full_disk(len(before) + 100), pytest.raises(StorageError, match="the limit set for files"):
        journal.write("weave", mark(picture(1)))
    assert lines_of(tmp_path).read_bytes() == before
    journal.write("weave", mark(picture(1)))
    assert len(journal.read("weave").lines) == 2


def test_a_journal_that_is_full_refuses_a_line_and_removes_none(tmp_path: Path) -> None:
    journal = Journal(tmp_path, most_bytes=2000)
    size = len(journal.write("weave", mark(picture(0))).model_dump_json(exclude_none=True)) + 1
    for seed in range(1, 2000 // size):
        journal.write("weave", mark(picture(seed)))
    with pytest.raises(RefusedError, match="The journal is full: its lines have all of the 0 MB"):
        journal.write("weave", mark(picture(99)))
    kept = journal.read("weave").lines
    assert len(kept) == 2000 // size > 3
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.jsonl")) <= 2000
    with pytest.raises(RefusedError, match="The journal is full"):
        journal.write("another", mark(picture(0)))
    assert journal.read("weave").lines == kept


def test_the_oldest_pictures_make_room_for_new_ones_and_for_lines(tmp_path: Path) -> None:
    contents = [picture(seed) for seed in range(4)]
    size = max(map(len, contents))
    journal = Journal(tmp_path, most_bytes=3 * size + 4 * 600)
    removed = []
    for age, content in enumerate(contents):
        journal.write("weave" if age % 2 else "wood", mark(content))
        texture = "weave" if age % 2 else "wood"
        removed.append(journal.keep(texture, content))
        kept = journal.picture(texture, hashlib.sha256(content).hexdigest())
        assert kept is not None
        assert kept.read_bytes() == content
        os.utime(kept, (age, age))
    assert removed == [0, 0, 0, 1]
    assert journal.picture("wood", hashlib.sha256(contents[0]).hexdigest()) is None
    assert len(journal.read("wood").lines) == 2  # the line about it stays
    for _ in range(12):
        journal.write("weave", mark(contents[3]))
    left = [
        journal.picture("weave" if age % 2 else "wood", hashlib.sha256(each).hexdigest())
        for age, each in enumerate(contents)
    ]
    assert left[1] is None
    assert left[3] is not None
    assert len(journal.read("weave").lines) == 14
    assert sum(p.stat().st_size for p in tmp_path.rglob("*.*") if p.is_file()) <= 3 * size + 2400


def test_a_picture_is_kept_once_and_only_if_it_is_marked(tmp_path: Path) -> None:
    journal, content = Journal(tmp_path), picture(0)
    with pytest.raises(ConfigError, match="No mark of 'weave' is about this picture"):
        journal.keep("weave", content)
    journal.write("weave", mark(content))
    with pytest.raises(ConfigError, match="No mark of 'weave' is about this picture"):
        journal.keep("weave", content + b" ")
    assert [journal.keep("weave", content) for _ in range(2)] == [0, 0]
    assert len(list((tmp_path / "weave" / "pictures").iterdir())) == 1
    small = Journal(tmp_path, most_bytes=1000)
    small.write("weave", mark(picture(1)))
    with pytest.raises(ConfigError, match="there is no room for it beside the lines of a journal"):
        small.keep("weave", picture(1))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"boxes": (Box(top=60, left=0, height=5, width=5),)}, "A box ends at row 65, column 5"),
        ({"mask": "AAAA"}, "The mask is no PNG in base64"),
        ({"mask": "%%%"}, "The mask is no PNG in base64"),
        ({"mask": twice_a_header(stroke())}, "The mask "),
        ({"mask": brushed(stroke()[:-1])}, "The mask has 63x72 pixels, and the picture 64x72"),
    ],
)
def test_a_region_that_does_not_fit_is_refused(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason):
        Journal(tmp_path).write("weave", mark(picture(0), "defect", **change))
    assert not list(tmp_path.iterdir())


def test_a_long_picture_of_a_line_scan_camera_has_a_region(tmp_path: Path) -> None:
    box = Box(top=3, left=39_000, height=5, width=1000)
    Journal(tmp_path).write(
        "weave", mark(picture(0), "defect", height=9, width=40_000, boxes=(box,))
    )
    [line] = Journal(tmp_path).read("weave").lines
    region = line.region()
    assert region is not None
    assert (region.shape, int(region.sum())) == ((9, 40_000), 5000)


@pytest.mark.parametrize(
    "change",
    [
        {"picture": "../../etc/passwd"},
        {"picture": "AB" * 32},
        {"answer": "maybe"},
        {"height": 0},
        {"width": 2**28 + 1},
        {"height": 2**14, "width": 2**14 + 1},
        {"version": True},
        {"digest": "x"},
        {"file": "x" * 256},
        {"boxes": (Box(top=0, left=0, height=1, width=1),) * 201},
        {"said": {"verdict": "good", "score": float("nan")}},
    ],
)
def test_values_that_no_mark_has_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        mark(picture(0), **change)


# ----------------------------------------------------------------------------------------- export


@pytest.fixture
def answered(tmp_path: Path) -> Journal:
    """A journal of 14 good pictures, three defects, one taken back, and one that was not kept."""
    journal = Journal(tmp_path / "home" / "journal")
    for seed in range(14):
        journal.write("weave", mark(picture(seed)))
        journal.keep("weave", picture(seed))
    box = Box(top=3, left=4, height=5, width=6)
    changes: list[dict[str, Any]] = [{"boxes": (box,)}, {"mask": brushed(stroke())}, {}]
    for seed, change in zip((20, 21, 22), changes, strict=True):
        content = picture(seed, "jpeg" if seed == 21 else "png")
        journal.write("weave", mark(content))  # a first answer, which the next one replaces
        journal.write("weave", mark(content, "defect", **change))
        journal.keep("weave", content)
    journal.write("weave", mark(picture(30)))
    journal.keep("weave", picture(30))
    journal.write("weave", mark(picture(30), "withdrawn"))
    journal.write("weave", mark(picture(31)))
    return journal


def test_an_export_is_a_data_folder_whose_defects_are_no_test_pictures(
    answered: Journal, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (found,) = export(answered, tmp_path / "out")
    assert (found.good, found.defects, found.masks) == (14, 3, 2)
    assert (found.missing, found.unreadable) == (1, 0)
    main(["data", "check", str(tmp_path / "out"), "--json"])
    understood = json.loads(capsys.readouterr().out)
    assert (understood["texture"], understood["layout"]) == ("weave", "mvtec")
    assert (understood["good"], understood["test"]) == (14, "none")
    assert understood["unused"] == "5 in defective/"
    texture = textures.find(tmp_path / "out", "weave")
    assert arranged(texture.root, texture.layout).test == ()


def test_the_exported_defects_have_the_layout_of_defects_with_masks(
    answered: Journal, tmp_path: Path
) -> None:
    export(answered, tmp_path / "out")
    root = tmp_path / "out" / "weave"
    (root / "train" / "good").rename(root / "good")  # only a person makes test pictures of them
    (root / "train").rmdir()
    test = arranged(root, "flat").test
    assert [each.kind for each in test] == ["defective"] * 3
    by_stem = {each.path.stem: each.mask for each in test}
    box = np.zeros((HEIGHT, WIDTH), np.bool_)
    box[3:8, 4:10] = True
    for content, region in ((picture(20), box), (picture(21, "jpeg"), stroke())):
        mask = by_stem[hashlib.sha256(content).hexdigest()[:16]]
        assert mask is not None
        assert np.array_equal(read_mask(mask), region)
    names = {each.path.name: each.path.read_bytes() for each in test}
    assert names[f"{hashlib.sha256(picture(21, 'jpeg')).hexdigest()[:16]}.jpg"] == picture(
        21, "jpeg"
    )


def test_defects_alone_are_not_taken_for_good_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = Journal(tmp_path / "journal")
    journal.write("weave", mark(picture(0), "defect"))
    journal.keep("weave", picture(0))
    main(["journal", "export", str(tmp_path / "out"), "--journal", str(tmp_path / "journal")])
    assert "No picture was called good" in capsys.readouterr().err
    assert "No picture of good" in refused(capsys, "data", "check", tmp_path / "out")
    weave = refused(capsys, "data", "check", tmp_path / "out" / "weave")
    assert "No picture of good 'weave'" in weave


@pytest.mark.parametrize("kind", ["ppm", "gif"])
def test_a_format_without_a_suffix_of_ours_is_exported_as_png(tmp_path: Path, kind: str) -> None:
    content = picture(0, kind)
    journal = Journal(tmp_path / "journal")
    journal.write("weave", mark(content))
    journal.keep("weave", content)
    export(journal, tmp_path / "out")
    (path,) = (tmp_path / "out" / "weave" / "train" / "good").iterdir()
    assert path.suffix == ".png"
    expected = textures_drawn.draw(HEIGHT, WIDTH, np.random.default_rng(0))[..., 0]
    assert np.array_equal(np.asarray(Image.open(path)), expected)


def test_what_is_no_picture_or_of_another_size_is_counted_and_left_out(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    for content, height in ((b"no picture", HEIGHT), (picture(1), HEIGHT + 1), (picture(2), 64)):
        journal.write("weave", mark(content, height=height))
        journal.keep("weave", content)
    (found,) = export(journal, tmp_path / "out")
    assert (found.good, found.unreadable) == (1, 2)


def test_an_export_replaces_nothing(answered: Journal, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is there already, and nothing of it is replaced"):
        export(answered, out)
    (out / "mine.txt").rename(tmp_path / "mine.txt")
    export(answered, out)  # an empty folder will do
    with pytest.raises(ConfigError, match="is there already"):
        export(answered, out)
    with pytest.raises(DataError, match="no marks of 'wood'; it has marks of weave"):
        export(answered, tmp_path / "other", textures=["wood"])
    left = {each.name for each in tmp_path.iterdir()}
    assert left == {"home", "out", "mine.txt"}


def test_without_kept_pictures_there_is_nothing_to_export(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    with pytest.raises(DataError, match="The journal has no marks. Start `zoo serve --journal"):
        export(journal, tmp_path / "out")
    journal.write("weave", mark(picture(0)))
    with pytest.raises(DataError, match="has 1 answers, and no picture of them was kept"):
        export(journal, tmp_path / "out")
    assert [each.name for each in tmp_path.iterdir()] == ["journal"]


# ---------------------------------------------------------------------------------------- command


def test_the_command_lists_and_exports_what_was_answered(
    answered: Journal,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    move_in(tmp_path / "home", monkeypatch)
    answered.write("weave", mark(picture(0), file="x\x1b[2J.png"))
    with lines_of(tmp_path / "home" / "journal").open("ab") as file:
        file.write(b'{"pic')
    main(["journal"])
    ended = capsys.readouterr()
    head, *rows = ended.out.splitlines()
    assert head.split()[:3] == ["when", "texture", "file"]
    assert len(rows) == len(answered.read("weave").lines) == 24
    assert "x\\x1b[2J.png" in rows[-1]
    assert any("defect" in row and "1 box" in row and "kept" in row for row in rows)
    assert any("defect" in row and "brush" in row for row in rows)
    assert "1 damaged lines of 'weave' are passed over." in ended.err
    main(["journal", "--json", "--texture", "weave"])
    listed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["answer"] for each in listed] == [
        line.answer for line in answered.read("weave").lines
    ]
    assert listed[0]["texture"] == "weave"
    main(["journal", "export", str(tmp_path / "out"), "--json"])
    (exported,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (exported["good"], exported["defects"], exported["masks"]) == (14, 3, 2)
    assert exported["folder"] == str(tmp_path / "out" / "weave")


def test_a_command_that_cannot_be_done_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    move_in(tmp_path / "home", monkeypatch)
    assert "zoo journal export DIR" in refused(capsys, "journal", "export")
    assert "a list has no folder" in refused(capsys, "journal", "list", "x")
    assert "The journal has no marks" in refused(capsys, "journal", "export", tmp_path / "out")
    main(["journal"])
    assert "No answer yet" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
