"""`zoo fetch`: from an archive on a server, or on the disk, to folders that the zoo reads."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
import yaml

from registry.publish import doubt_about
from tests.cli.commands import refused
from tests.data.archives import Files, mask, of_mvtec, picture, sha256, tar, zipped
from tests.processes import same_imports, until
from tests.web_server import Site, send
from zoo.cli import main
from zoo.data import layouts, textures
from zoo.data.fetch import DataSet, Fetcher, Wish, load
from zoo.data.layouts import textures_in
from zoo.search import all_textures

Run = Callable[..., list[str]]
CLOTHS = ("linen", "silk")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    (tmp_path / "site").mkdir()
    return Site(root=tmp_path / "site")


@pytest.fixture
def sets(site: Site, address: str, tmp_path: Path) -> Path:
    """A list with a set of two cloths and an object, in archives as MVTec makes them."""
    archives = {name: tar(site.root / f"{name}.tar.xz", of_mvtec(name)) for name in CLOTHS}
    whole = of_mvtec(*CLOTHS, "button", below="cloths_1.0/")
    archives["all"] = tar(site.root / "cloths.tar.xz", whole | {"cloths_1.0/readme.txt": b"read"})
    return listed(
        tmp_path,
        cloths={
            "title": "Cloths 1",
            "licence": "Cloths 1, CC BY 4.0",
            "terms": "Name us.",
            "page": "https://example.org/cloths",
            "citation": "Weaver: Cloths. 2020.",
            "textures": list(CLOTHS),
            "others": ["button"],
            "archives": {
                name: {
                    "url": f"{address}/{path.name}",
                    "sha256": sha256(path),
                    "bytes": path.stat().st_size,
                }
                for name, path in archives.items()
            },
        },
    )


def listed(tmp_path: Path, **sets: dict[str, object]) -> Path:
    path = tmp_path / "sets.yaml"
    path.write_text(yaml.safe_dump(sets))
    return path


def single(tmp_path: Path, url: str, **more: object) -> Path:
    body: dict[str, object] = {
        "title": "Set",
        "licence": "CC0 1.0",
        "page": "https://example.org/set",
        "citation": "Nobody.",
        "textures": ["cloth"],
    }
    archive = {name: more.pop(name) for name in ("sha256", "bytes") if name in more}
    return listed(tmp_path, one=body | more | {"archives": {"all": {"url": url} | archive}})


def fetching(sets: Path, tmp_path: Path, *, key: str = "cloths") -> list[str | Path]:
    """Return a command line, to which more can be added."""
    return ["fetch", key, "--sets", sets, "--data", tmp_path / "data", "--accept-licence"]


@pytest.fixture
def run(sets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str | Path) -> list[str]:
        main(["fetch", "--sets", str(sets), "--data", str(tmp_path / "data"), *map(str, arguments)])
        return capsys.readouterr().out.splitlines()

    return run


def test_the_textures_of_a_set_are_fetched_and_read(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    assert run("cloths", "--accept-licence") == [str(data / name) for name in CLOTHS]
    assert sorted(path.name for path in data.iterdir()) == list(CLOTHS)
    assert textures_in(data) == list(CLOTHS)
    for name in CLOTHS:
        texture = textures.find(data, name)
        assert (texture.layout, len(texture.pictures)) == ("mvtec", 12)
        assert texture.licence == "Cloths 1, CC BY 4.0"
        assert "Weaver: Cloths" in (data / name / "CITATION.txt").read_text()
        assert (data / name / "license.txt").is_file()
    main(["data", "check", str(data), "--json"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["texture"], line["good"], line["masks"]) for line in lines] == [
        ("linen", 12, 1),
        ("silk", 12, 1),
    ]
    assert all_textures.textures_in(data) == list(CLOTHS)


def test_without_the_flag_the_licence_is_shown_and_nothing_is_asked_for(
    sets: Path, site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["fetch", "cloths", "--sets", str(sets), "--data", str(tmp_path / "data")])
    assert ended.value.code == 2
    *shown, last = capsys.readouterr().err.splitlines()
    assert "Licence: Cloths 1, CC BY 4.0" in shown
    assert "Please cite: Weaver: Cloths. 2020." in shown
    assert "--accept-licence" in last
    assert site.asked == []
    assert not (tmp_path / "data").exists()


def test_only_what_is_named_is_fetched_and_a_second_run_fetches_the_rest(
    run: Run, site: Site, tmp_path: Path
) -> None:
    run("cloths", "--accept-licence", "--only", "silk")
    assert site.paths == ["/silk.tar.xz"]
    (tmp_path / "data" / "silk" / "mine.txt").write_text("mine")
    assert run("cloths", "--accept-licence") == [str(tmp_path / "data" / "linen")]
    assert site.paths == ["/silk.tar.xz", "/linen.tar.xz"]
    assert (tmp_path / "data" / "silk" / "mine.txt").read_text() == "mine"
    assert run("cloths", "--accept-licence") == []


def test_all_of_a_set_comes_in_its_one_archive_and_its_objects_are_no_textures(
    run: Run, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sets: Path
) -> None:
    run("cloths", "--accept-licence", "--only", "all")
    assert site.paths == ["/cloths.tar.xz"]
    assert textures_in(tmp_path / "data") == ["button", *CLOTHS]
    known = load(sets)
    monkeypatch.setattr("zoo.data.fetch.load", lambda: known)
    assert all_textures.textures_in(tmp_path / "data") == list(CLOTHS)
    assert all_textures.objects_in(tmp_path / "data") == ["button"]


def test_the_list_shows_name_size_licence_and_citation(
    sets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["fetch", "--sets", str(sets)])
    shown = capsys.readouterr().out
    for part in (
        "cloths",
        "with button",
        "CC BY 4.0",
        "Weaver: Cloths. 2020.",
        "mvtec-ad",
        "2,273 MB",
    ):
        assert part in shown
    main(["fetch", "--sets", str(sets), "--json"])
    [found] = [each for each in json.loads(capsys.readouterr().out) if each["name"] == "cloths"]
    assert found["bytes"] > 0
    assert found["archives"]["silk"]["url"][0].endswith("silk.tar.xz")


def test_an_archive_that_was_downloaded_by_hand_is_known_by_its_hash(
    run: Run, site: Site, tmp_path: Path
) -> None:
    own = tmp_path / "downloads" / "renamed.bin"
    own.parent.mkdir()
    own.write_bytes((site.root / "linen.tar.xz").read_bytes())
    made = run("cloths", "--accept-licence", "--archive", own)
    assert made == [str(tmp_path / "data" / "linen")]
    assert site.asked == []
    assert own.is_file()
    whole = site.root / "cloths.tar.xz"
    assert run("cloths", "--accept-licence", "--archive", whole) == [
        str(tmp_path / "data" / "silk")
    ]


def test_an_archive_of_another_hash_is_refused_until_it_is_stated_or_accepted(
    run: Run, sets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tar(tmp_path / "own.tar", of_mvtec("silk"), "w")
    command = fetching(sets, tmp_path)
    line = refused(capsys, *command, "--archive", own)
    assert sha256(own) in line
    assert "--sha256" in line
    assert "--unverified" in line
    assert refused(capsys, *command, "--archive", own, "--sha256", "0" * 64)
    assert not list((tmp_path / "data").glob("*"))
    made = run("cloths", "--accept-licence", "--archive", own, "--sha256", sha256(own))
    assert made == [str(tmp_path / "data" / "silk")]
    other = tar(tmp_path / "other.tar", of_mvtec("linen"), "w")
    main([*map(str, command), "--archive", str(other), "--unverified", "--only", "linen"])
    assert f"is taken unverified. Its SHA-256 is {sha256(other)}" in capsys.readouterr().err


def test_what_the_archive_should_hold_and_does_not_is_named(
    sets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tar(tmp_path / "own.tar", of_mvtec("silk"), "w")
    empty = tar(tmp_path / "empty.tar", {"silk/readme.txt": b"no picture"}, "w")
    command = fetching(sets, tmp_path)
    command.append("--unverified")
    line = refused(capsys, *command, "--archive", own, "--only", "linen,silk")
    assert "own.tar has no linen" in line
    line = refused(capsys, *command, "--archive", empty)
    assert "no good pictures of 'silk' were found in it, but readme.txt" in line
    assert "There is no file" in refused(capsys, *command, "--archive", tmp_path / "none.zip")
    assert "not both" in refused(capsys, *command, "--archive", own, "--url", "https://a.b/c")
    assert not list((tmp_path / "data").glob("*"))


def test_another_address_is_used_and_must_have_the_same_file(
    run: Run,
    sets: Path,
    site: Site,
    tmp_path: Path,
    address: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (site.root / "silk.tar.xz").rename(site.root / "moved.tar.xz")
    command = fetching(sets, tmp_path)
    line = refused(capsys, *command, "--only", "silk")
    assert "there is nothing" in line
    assert "see https://example.org/cloths, and give another one with --url" in line
    line = refused(capsys, *command, "--url", f"{address}/moved.tar.xz")
    assert "--url and --sha256 are of one archive" in line
    tar(site.root / "false.tar.xz", of_mvtec("silk", "linen"))
    line = refused(capsys, *command, "--only", "silk", "--url", f"{address}/false.tar.xz")
    assert "gave another file than the one known" in line
    made = run("cloths", "--accept-licence", "--only", "silk", "--url", f"{address}/moved.tar.xz")
    assert made == [str(tmp_path / "data" / "silk")]


def test_a_set_without_a_hash_needs_a_flag_and_is_said_aloud(
    tmp_path: Path, site: Site, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = zipped(site.root / "set.zip", of_mvtec("any", below="deep/"))
    sets = single(tmp_path, f"{address}/set.zip")
    command = fetching(sets, tmp_path, key="one")
    line = refused(capsys, *command)
    assert "SHA-256 of" in line
    assert "is not known" in line
    assert "--unverified" in line
    assert site.asked == []
    main([*map(str, command), "--unverified", "--keep-archives"])
    said = capsys.readouterr()
    assert "WARNING: the SHA-256 of one-all.zip is not known" in said.err
    assert f"Its SHA-256 is {sha256(archive)}" in said.err
    assert len(textures.find(tmp_path / "data", "cloth").pictures) == 12
    assert (tmp_path / "data" / ".fetch" / "one-all.zip").is_file()


def test_plain_http_is_asked_where_the_hash_is_known(
    sets: Path, tmp_path: Path, site: Site, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", address)  # hands out the file under any name of a host
    wish = Wish(
        key="cloths",
        dataset=load(sets)["cloths"],
        to=tmp_path / "data",
        only=("silk",),
        accepted=True,
        url="http://example.org/silk.tar.xz",
    )
    fetcher = Fetcher(say=lambda line: None, progress=lambda what, done, size: None)
    assert fetcher.fetch(wish) == [tmp_path / "data" / "silk"]
    assert site.paths == ["http://example.org/silk.tar.xz"]


def test_plain_http_without_a_hash_is_not_asked_at_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = single(tmp_path, "http://example.org/set.zip")
    command = fetching(sets, tmp_path, key="one")
    for flags in ((), ("--unverified",)):
        line = refused(capsys, *command, *flags)
        assert "known at plain HTTP only" in line
        assert "--archive FILE --unverified" in line
    assert "is no SHA-256" in refused(capsys, *command, "--sha256", "12")


KOLEKTOR: Files = {
    f"KolektorSDD/kos{part:02}/Part{n}{end}": content
    for part in range(3)
    for n in range(3)
    for end, content in (
        (".jpg", picture(10 * part + n, "jpg")),
        ("_label.bmp", mask(black=n > 0, suffix="bmp")),
    )
}
KOLEKTOR_2: Files = {
    f"{side}/{10_000 + n}{end}": content
    for side, first in (("train", 0), ("test", 50))
    for n in range(first, first + 5)
    for end, content in ((".png", picture(n)), ("_GT.png", mask(black=n % 5 > 0)))
} | {"train/10001 (copy).png": picture(1), "train/10001_GT (copy).png": mask(black=True)}
NANOTWICE: Files = (
    {f"Normal/ITIA{n}.tif": picture(n, "tiff") for n in range(5)}
    | {f"Anomalous/images/ITIA{n}.tif": picture(n, "tiff") for n in range(10, 13)}
    | {f"Anomalous/gt/ITIA{n}_gt.png": mask() for n in range(10, 13)}
)


@pytest.mark.parametrize(
    ("key", "files", "expected"),
    [
        ("kolektor", KOLEKTOR, ("kolektor", 6, 3)),
        ("kolektor-2", KOLEKTOR_2, ("kolektor", 4, 5)),
        ("nanotwice", NANOTWICE, ("nanotwice", 5, 3)),
    ],
)
def test_the_layout_of_each_of_our_sets_is_read(
    key: str, files: Files, expected: tuple[str, int, int], tmp_path: Path
) -> None:
    dataset = load()[key]
    fetched(dataset, zipped(tmp_path / "set.zip", files), tmp_path / "data")
    [folder] = (path for path in (tmp_path / "data").iterdir() if path.name != ".fetch")
    texture = textures.find(tmp_path / "data", folder.name)
    found = layouts.arranged(folder, texture.layout)
    assert (texture.layout, len(found.good), len(found.test)) == expected
    assert texture.licence == dataset.licence
    assert doubt_about(texture.licence) == "non-commercial"


@pytest.mark.parametrize(
    ("key", "licence", "doubt"),
    [
        ("mvtec-ad", "MVTec AD, CC BY-NC-SA 4.0", "non-commercial"),
        ("mvtec-ad-2", "MVTec AD 2, CC BY-NC-SA 4.0", "non-commercial"),
    ],
)
def test_the_card_of_a_detector_says_the_licence_of_its_set(
    key: str, licence: str, doubt: str, tmp_path: Path
) -> None:
    dataset = load()[key]
    name = dataset.textures[0]
    files = of_mvtec(name)
    if key == "mvtec-ad-2":
        files = {
            path.replace("/test/good/", "/test_public/good/")
            .replace("/test/cut/", "/test_public/bad/")
            .replace("/ground_truth/cut/", "/test_public/ground_truth/bad/"): content
            for path, content in files.items()
        }
    archive = tar(tmp_path / "set.tar.gz", files, "w:gz")
    fetched(dataset, archive, tmp_path / "data")
    texture = textures.find(tmp_path / "data", name)
    assert texture.licence == licence
    assert doubt_about(texture.licence) == doubt
    test = layouts.arranged(texture.root, texture.layout).test
    assert [each.mask is not None for each in test] == [True, False]


def fetched(dataset: DataSet, archive: Path, to: Path) -> None:
    wish = Wish(
        key="any",
        dataset=dataset,
        to=to,
        only=(dataset.textures[0],),
        accepted=True,
        archives=(archive,),
        unverified=True,
    )
    Fetcher(say=lambda line: None, progress=lambda what, done, size: None).fetch(wish)


def test_a_folder_is_whole_or_not_there(
    sets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = tar(tmp_path / "evil.tar", of_mvtec("silk") | {"silk/../../escape.png": b"x"}, "w")
    command = fetching(sets, tmp_path)
    line = refused(capsys, *command, "--unverified", "--archive", evil)
    assert "could be written elsewhere" in line
    assert not [path for path in tmp_path.rglob("*") if "escape" in path.name]
    assert not list((tmp_path / "data").glob("*"))
    mixed = of_mvtec("silk") | {"silk/test/cut/0.png": picture(), "silk/test/cut/0.jpg": picture()}
    unclear = tar(tmp_path / "unclear.tar", mixed, "w")
    assert "ambiguous" in refused(capsys, *command, "--unverified", "--archive", unclear)
    assert not list((tmp_path / "data").glob("*"))


def test_a_disk_without_room_is_told_before_anything_is_asked_for(
    sets: Path,
    site: Site,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("zoo.data.fetch.fetching.LEAST_FREE", 2**60)
    command = fetching(sets, tmp_path)
    line = refused(capsys, *command)
    assert "Cloths 1 needs about 0.0 GB on the disk of" in line
    assert "GB are free. Free some space" in line
    assert site.asked == []


def test_two_runs_for_one_folder_do_not_meet(
    sets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from filelock import FileLock

    (tmp_path / "data" / ".fetch").mkdir(parents=True)
    command = fetching(sets, tmp_path)
    with FileLock(tmp_path / "data" / ".fetch" / "lock"):
        assert "Another `zoo fetch` is writing to" in refused(capsys, *command)


def test_ctrl_c_loses_nothing_and_the_same_command_goes_on(
    sets: Path, site: Site, tmp_path: Path
) -> None:
    content, ended = (site.root / "silk.tar.xz").read_bytes(), threading.Event()

    def slow(request: BaseHTTPRequestHandler) -> bool:
        if "Range" in request.headers:
            return False
        half = content[: len(content) // 2]
        send(request, 200, half, {"Content-Length": str(len(content)), "ETag": tag})
        ended.wait(60)
        return True

    modified = (site.root / "silk.tar.xz").stat().st_mtime_ns
    tag = f'"{modified:x}-{len(content):x}"'
    site.reply = slow
    command = [sys.executable, "-m", "zoo.cli", "fetch", "cloths", "--accept-licence"]
    command += ["--sets", str(sets), "--data", str(tmp_path / "data"), "--only", "silk"]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=dict(**same_imports(), PATH="")
    ) as process:
        part = tmp_path / "data" / ".fetch" / "cloths-silk.tar.xz.part"
        until(lambda: part.is_file() and part.stat().st_size > 0, what="it does not begin")
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    ended.set()
    assert process.returncode == 130, said
    assert "What was downloaded is kept; the same command goes on with it." in said
    assert part.stat().st_size == len(content) // 2
    site.reply = lambda request: False
    again = subprocess.run(
        command, capture_output=True, text=True, env=dict(**same_imports(), PATH=""), check=True
    )
    assert again.stdout.splitlines() == [str(tmp_path / "data" / "silk")]
    assert site.asked[-1][1] == f"bytes={len(content) // 2}-"
    assert not (tmp_path / "data" / ".fetch").exists()
