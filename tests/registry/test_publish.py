"""What is published for a web server: all that a reader needs, and nothing about who made it."""

from __future__ import annotations

import getpass
import json
import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from registry import bundle, maintenance, signing
from registry.bundle import Bundle
from registry.folder_shelf import FolderShelf
from registry.http_shelf import HttpShelf
from registry.pointer import Entry
from registry.publish import DOUBTS, doubt_about, publish
from tests import exams
from tests.exams import drawn_bundle, flip
from tests.registry.test_signing import new_key
from tests.web_server import Site, serving
from zoo.cli import main
from zoo.errors import BundleError, ConfigError, SignatureError, StorageError, UnknownDetectorError

NC = "MVTec AD, CC BY-NC-SA 4.0 (assumed from the name)"


def licensed(folder: Path, licence: str | None, *, texture: str = "grid", seed: int = 0) -> Path:
    drawn = bundle.load(drawn_bundle(folder, texture=texture, seed=seed))
    data = {"licence": licence} if licence else {}
    bundle.save(replace(drawn, data=data), folder)
    return folder


@pytest.fixture
def own(tmp_path: Path) -> FolderShelf:
    """A shelf with two versions of `grid` and one of `wood (2)`, of free data."""
    shelf = FolderShelf(tmp_path / "own")
    for version in (1, 2):
        folder = licensed(tmp_path / f"grid{version}", "CC0 1.0", seed=version)
        exams.publish(shelf, folder, texture="grid", version=version)
    folder = licensed(tmp_path / "wood", "CC BY 4.0", texture="wood (2)", seed=3)
    exams.publish(shelf, folder, texture="wood (2)", version=1)
    return shelf


def files(folder: Path) -> dict[str, int]:
    """Return when each file was written, by its path."""
    return {
        path.relative_to(folder).as_posix(): path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_reader_finds_the_index_the_pointers_and_the_bundles(
    own: FolderShelf, tmp_path: Path
) -> None:
    to = tmp_path / "public"
    done = publish(own, to)
    digests = {each for pointer in own.pointers().values() for each in pointer.versions.values()}
    assert len(digests) == 3
    expected = {"index.json", "textures/grid.json", "textures/wood %282%29.json"}
    expected |= {f"objects/{digest}/{file}" for digest in digests for file in bundle.FILES}
    assert set(files(to)) == expected == set(done.written)
    assert done.textures == {"grid": ("CC0 1.0",), "wood (2)": ("CC BY 4.0",)}
    index = json.loads((to / "index.json").read_bytes())
    assert index["format"] == 1
    assert list(index["textures"]) == ["grid", "wood (2)"]
    with serving(Site(root=to)) as address:
        shelf = HttpShelf(address, tmp_path / "cache")
        assert shelf.textures() == ["grid", "wood (2)"]
        assert bundle.digest(shelf.fetch("wood (2)")) in digests
        assert [each.problem for each in maintenance.verify(shelf)] == ["", "", ""]


def test_nothing_says_who_made_a_detector_or_where(
    tiny_bundle: Bundle, own: FolderShelf, tmp_path: Path
) -> None:
    bundle.save(replace(tiny_bundle, data=tiny_bundle.data | {"licence": "CC0"}), tmp_path / "b")
    exams.publish(own, tmp_path / "b", texture="weave", version=1)
    entry = Entry(act="promoted", version=2, run="a1b2c3", who="anna@plant-7")
    reason = f"as anna@plant-7 and {entry.who} said"
    own.change(
        "weave",
        lambda old: old.with_version(
            old.versions[1], "champion", replace(entry, reason=reason, figures={"test_ap": 0.5})
        ),
    )
    publish(own, tmp_path / "public")
    private = {f"{getpass.getuser()}@", socket.gethostname(), "anna", "plant-7", "a1b2c3"}
    private |= {str(tmp_path), os.getcwd()}
    texts = [path for path in (tmp_path / "public").rglob("*") if path.suffix == ".json"]
    assert len(texts) == 8
    for path in texts:
        content = path.read_text()
        assert not [each for each in private if each in content], path
    [*_, last] = FolderShelf(tmp_path / "public").pointer("weave").history
    assert last.reason == "as the publisher and the publisher said"
    assert (last.who, last.run, last.figures) == ("", None, {"test_ap": 0.5})


def test_a_second_run_writes_only_what_changed(own: FolderShelf, tmp_path: Path) -> None:
    to = tmp_path / "public"
    publish(own, to)
    before = files(to)
    done = publish(own, to)
    assert (done.written, done.removed, done.same) == ((), (), 9)
    assert files(to) == before
    own.change("grid", lambda old: old.rolled_back(""))
    assert publish(own, to).written == ("textures/grid.json",)
    now = files(to)
    assert {name for name in now if now[name] != before[name]} == {"textures/grid.json"}


def test_what_was_removed_goes_and_what_is_not_ours_stays(own: FolderShelf, tmp_path: Path) -> None:
    to = tmp_path / "public"
    publish(own, to)
    first = own.pointer("grid").versions[1]
    (to / "CNAME").write_text("zoo.example.org")
    (to / "textures" / "notes.txt").write_text("mine")
    (to / "objects" / "readme").write_text("mine")
    own.change("grid", lambda old: old.without(1, "its data had to go"))
    done = publish(own, to, only=["grid"])
    assert f"objects/{first}" in done.removed
    assert "textures/wood %282%29.json" in done.removed
    second = own.pointer("grid").versions[2]
    kept = {"CNAME", "textures/notes.txt", "objects/readme", "index.json", "textures/grid.json"}
    assert set(files(to)) == kept | {f"objects/{second}/{file}" for file in bundle.FILES}
    assert first in (to / "textures" / "grid.json").read_text()  # the history names what was


def test_what_a_killed_run_left_half_written_goes(own: FolderShelf, tmp_path: Path) -> None:
    to = tmp_path / "public"
    publish(own, to)
    digest = own.pointer("grid").versions[1]
    halves = [to / ".index.json.77.part", to / "textures" / ".grid.json.77.part"]
    halves.append(to / "objects" / digest / ".weights.safetensors.77.part")
    for path in halves:
        path.write_text("half")
    (to / "objects" / digest / bundle.CARD).write_text("half")
    done = publish(own, to)
    assert len(done.removed) == 3
    assert not [path for path in halves if path.exists()]
    assert bundle.digest(to / "objects" / digest) == digest


@pytest.mark.parametrize(
    ("licence", "doubt", "why"),
    [
        (NC, "non-commercial", r"may not be used commercially"),
        ("research use only, cite", "non-commercial", r"may not be used commercially"),
        ("ACME, all rights reserved", "unknown", "not known to allow"),
        ("CC BY-ND 4.0", "unknown", "not known to allow"),
        (None, "unknown", "not known to allow"),
    ],
)
def test_a_licence_that_may_not_allow_it_is_refused_until_it_is_allowed(
    licence: str | None, doubt: str, why: str, own: FolderShelf, tmp_path: Path
) -> None:
    folder = licensed(tmp_path / "silk", licence, texture="silk", seed=9)
    exams.publish(own, folder, texture="silk", version=1)
    to = tmp_path / "public"
    with pytest.raises(
        ConfigError, match=rf"nothing was written: 'silk' \(licence: .*{why}"
    ) as refused:
        publish(own, to)
    assert f"--allow {doubt}" in str(refused.value)
    assert "'grid'" not in str(refused.value)
    assert not to.exists()
    other = next(each for each in DOUBTS if each != doubt)
    with pytest.raises(ConfigError):
        publish(own, to, allow=[other])
    assert "silk" not in publish(own, to, only=["grid"]).textures
    [allowed] = [each for each in DOUBTS if each == doubt]
    assert "silk" in publish(own, to, allow=[allowed]).textures


def test_the_licence_of_each_part_of_a_fused_detector_counts(
    own: FolderShelf, tmp_path: Path
) -> None:
    part = bundle.load(licensed(tmp_path / "part", NC))
    fused = replace(
        part,
        method="fusion",
        config={},
        preprocessing={},
        calibration={},
        weights={},
        data={"licence": "CC0"},
        parts=(part,),
        fusion={"weights": [1]},
    )
    bundle.save(fused, tmp_path / "fused")
    exams.publish(own, tmp_path / "fused", texture="fused", version=1)
    with pytest.raises(ConfigError, match=r"'fused' \(licence: MVTec AD"):
        publish(own, tmp_path / "public")


def test_licences_are_told_apart() -> None:
    free = ["CC0", "CC-BY 4.0", "CC BY-SA 4.0", "Public domain", "MIT License", "Apache-2.0"]
    assert {doubt_about(each) for each in free} == {None}
    closed = ["CC BY-NC-SA 4.0", "cc by-nc", "for non-commercial use", "Non Commercial"]
    assert {doubt_about(each) for each in closed} == {"non-commercial"}
    others = ["unknown", "ours", "permitted", "CC BY-NoDerivatives", "summit"]
    assert {doubt_about(each) for each in others} == {"unknown"}


@pytest.mark.parametrize("taken", ["a shelf", "an index", "a file"])
def test_a_folder_with_other_things_under_our_names_is_left_alone(
    taken: str, own: FolderShelf, tmp_path: Path
) -> None:
    to = tmp_path / "own" if taken == "a shelf" else tmp_path / "public"
    to.mkdir(exist_ok=True)
    if taken == "an index":
        (to / "index.json").write_text('{"mine": 1}')
    if taken == "a file":
        (to / "objects").write_text("mine")
    before = files(to)
    with pytest.raises(ConfigError, match="Give --to another folder"):
        publish(own, to)
    assert files(to) == before


def test_an_empty_shelf_removes_nothing_that_was_published(
    own: FolderShelf, tmp_path: Path
) -> None:
    publish(own, tmp_path / "public")
    before = files(tmp_path / "public")
    with pytest.raises(ConfigError, match="the shelf has no detector. Check ZOO_SHELF"):
        publish(FolderShelf(tmp_path / "elsewhere"), tmp_path / "public")
    assert files(tmp_path / "public") == before
    with pytest.raises(UnknownDetectorError, match="Did you mean 'grid'"):
        publish(own, tmp_path / "public", only=["gird"])


def test_a_damaged_bundle_stops_it_before_anything_is_written(
    own: FolderShelf, tmp_path: Path
) -> None:
    digest = own.pointer("grid").versions[1]
    flip(tmp_path / "own" / "objects" / digest / bundle.WEIGHTS)
    with pytest.raises(BundleError, match=digest):
        publish(own, tmp_path / "public")
    assert not (tmp_path / "public").exists()


def test_a_write_that_fails_half_way_leaves_what_was_published_complete(
    own: FolderShelf, tmp_path: Path
) -> None:
    to = tmp_path / "public"
    publish(own, to, only=["grid"])
    (to / "textures" / "wood %282%29.json").mkdir()
    with pytest.raises(StorageError, match=f"Cannot publish to {to}"):
        publish(own, to)
    with serving(Site(root=to)) as address:
        shelf = HttpShelf(address, tmp_path / "cache")
        assert shelf.textures() == ["grid"]
        assert [each.problem for each in maintenance.verify(shelf)] == ["", ""]


def test_signatures_stay_valid(
    own: FolderShelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, public = new_key(tmp_path / "keys")
    digest = own.pointer("grid").versions[2]
    signature = signing.sign("grid", digest, key)
    own.change("grid", lambda old: old.with_signature(digest, signature))
    publish(own, tmp_path / "public")
    monkeypatch.setenv("ZOO_TRUSTED_KEYS", str(public))
    with serving(Site(root=tmp_path / "public")) as address:
        shelf = HttpShelf(address, tmp_path / "cache")
        assert bundle.digest(shelf.fetch("grid")) == digest
        with pytest.raises(SignatureError, match="it has none"):
            shelf.fetch("grid:1")
    with pytest.raises(SignatureError):  # who trusts keys does not publish what they did not sign
        publish(own, tmp_path / "other")


def test_the_command_says_what_it_did_and_what_it_would_do(
    own: FolderShelf,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("ZOO_SHELF", str(tmp_path / "own"))
    to = tmp_path / "public"
    main(["shelf", "publish", "--to", str(to), "--only", "grid", "--dry-run"])
    said = capsys.readouterr()
    assert "write index.json" in said.err
    assert not to.exists()
    main(["shelf", "publish", "--to", str(to)])
    said = capsys.readouterr()
    assert said.out.splitlines() == ["grid  CC0 1.0", "wood (2)  CC BY 4.0"]
    assert f"In {to}, 9 files written, 0 removed, 0 as they were." in said.err
    with pytest.raises(SystemExit):
        main(["shelf", "publish"])
    assert "as `zoo shelf publish --to DIR`" in capsys.readouterr().err
