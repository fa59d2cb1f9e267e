"""Archives of strangers: what is unpacked, and what is refused without a trace elsewhere."""

from __future__ import annotations

import gzip
import io
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest

from tests.cli.commands import full_disk
from tests.data.archives import tar, zipped
from zoo.data.fetch.unpack import Limits, Unpacker, _Counted
from zoo.errors import DataError, StorageError

FILES = {"top/a.png": b"a" * 1000, "top/b/c.png": b"c" * 2000, "top/b/empty.txt": b""}
Shown = list[tuple[str, int, int | None]]


def everything(path: PurePosixPath) -> PurePosixPath:
    return path


def unpack(
    archive: Path,
    to: Path,
    *,
    limits: Limits | None = None,
    shown: Shown | None = None,
    skip: tuple[str, ...] = (),
) -> int:
    seen: Shown = [] if shown is None else shown
    unpacker = Unpacker(
        progress=lambda what, done, size: seen.append((what, done, size)),
        limits=limits or Limits(),
    )
    return unpacker.unpack(archive, to, everything, skip=skip)


def there(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz", "zip"])
def test_each_kind_of_archive_is_unpacked_and_can_be_written_to(mode: str, tmp_path: Path) -> None:
    path = tmp_path / "archive"  # the kind is read from the content
    archive = zipped(path, FILES) if mode == "zip" else tar(path, FILES, mode)
    shown: Shown = []
    assert unpack(archive, tmp_path / "to", shown=shown) == 3
    assert there(tmp_path / "to") == FILES
    assert all(path.stat().st_mode & stat.S_IWUSR for path in (tmp_path / "to").rglob("*"))
    assert shown[-1][0] == "unpacking archive"
    assert max(done for _, done, _ in shown) <= archive.stat().st_size == shown[0][2]


def test_only_what_has_a_place_is_written_and_junk_is_not(tmp_path: Path) -> None:
    junk = {"__MACOSX/top/._a.png": b"x", "top/.DS_Store": b"x", "top/._a.png": b"x"}
    archive = zipped(tmp_path / "a.zip", FILES | junk | {"top/1 (copy).png": b"x"})
    assert unpack(archive, tmp_path / "to", skip=("* (copy).png",)) == 3
    assert there(tmp_path / "to") == FILES
    unpacker = Unpacker(progress=lambda *_: None)
    placed = unpacker.unpack(
        archive, tmp_path / "some", lambda path: path if path.name == "a.png" else None
    )
    assert placed == 1
    assert list(there(tmp_path / "some")) == ["top/a.png"]


NAMES = [
    "../escape.png",
    "top/../../escape.png",
    "/tmp/escape.png",
    "top\\..\\..\\escape.png",
    "C:/escape.png",
    "top/esc\x1b[2Jape.png",
    "a/" * 40 + "escape.png",
    "e" * 300 + ".png",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_a_name_that_leads_out_of_the_folder_is_refused(
    name: str, kind: str, tmp_path: Path
) -> None:
    files = {"top/a.png": b"a", name: b"escaped"}
    make: Callable[..., Path] = tar if kind == "tar" else zipped
    archive = make(tmp_path / "archive", files)
    with pytest.raises(DataError, match="has a file of the name|is damaged") as refused:
        unpack(archive, tmp_path / "deep" / "to")
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.rglob("*escape*"))
    assert not Path("/tmp/escape.png").exists()


def test_a_slash_before_a_name_in_a_tar_is_refused_too(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as opened:
        info = tarfile.TarInfo("x")
        info.name, info.size = str(tmp_path / "escape.png"), 1
        opened.addfile(info, io.BytesIO(b"x"))
    with pytest.raises(DataError, match="has a file of the name"):
        unpack(path, tmp_path / "to")
    assert not (tmp_path / "escape.png").exists()


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE]
)
@pytest.mark.parametrize("target", ["/etc", "..", "a.png"])
def test_links_and_devices_in_a_tar_are_refused(kind: bytes, target: str, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as opened:
        link = tarfile.TarInfo("top/out")
        link.type, link.linkname = kind, target
        opened.addfile(link)
        inside = tarfile.TarInfo("top/out/escape.png")
        inside.size = 1
        opened.addfile(inside, io.BytesIO(b"x"))
    with pytest.raises(DataError, match="a link or a device 'top/out'"):
        unpack(path, tmp_path / "to")
    assert not (tmp_path / "to").exists()


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as opened:
        link = zipfile.ZipInfo("top/out")
        link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        opened.writestr(link, "/etc")
    with pytest.raises(DataError, match="a link or a device 'top/out'"):
        unpack(path, tmp_path / "to")


def test_an_encrypted_zip_says_what_to_do(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", FILES)
    content = bytearray(path.read_bytes())
    for sign, place in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        at = content.find(sign)
        content[at + place] |= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"{path} is encrypted. Unpack it with its password"):
        unpack(path, tmp_path / "to")


@pytest.mark.parametrize("mode", ["w:gz", "w:xz", "zip"])
def test_a_bomb_is_stopped_at_its_limit(mode: str, tmp_path: Path) -> None:
    path, zeros = tmp_path / "bomb", {"a.png": b"", "b.png": bytes(40_000_000)}
    archive = zipped(path, zeros) if mode == "zip" else tar(path, zeros, mode)
    assert archive.stat().st_size < 100_000
    with pytest.raises(DataError, match="unpacks to more than 10 MB"):
        unpack(archive, tmp_path / "to", limits=Limits(floor=10**7))
    assert sum(map(len, there(tmp_path / "to").values())) <= 10**7


def test_a_zip_that_lies_about_its_sizes_is_stopped_by_what_comes(tmp_path: Path) -> None:
    path = zipped(tmp_path / "bomb.zip", {f"{n}.png": bytes(8_000_000) for n in range(8)})
    content = path.read_bytes().replace((8_000_000).to_bytes(4, "little"), bytes([1, 0, 0, 0]))
    path.write_bytes(content)
    with pytest.raises(DataError, match="is damaged|unpacks to more"):
        unpack(path, tmp_path / "to", limits=Limits(floor=10**7))


def test_a_bomb_among_what_is_left_out_is_refused_too(tmp_path: Path) -> None:
    archive = tar(tmp_path / "a.tar.gz", {"b.png": bytes(40_000_000)}, "w:gz")
    unpacker = Unpacker(progress=lambda *_: None, limits=Limits(floor=10**7))
    with pytest.raises(DataError, match="unpacks to more than 10 MB"):
        unpacker.unpack(archive, tmp_path / "to", lambda path: None)


def test_what_is_written_is_counted_whatever_was_stated(tmp_path: Path) -> None:
    archive = tar(tmp_path / "a.tar", FILES, "w")
    counted = _Counted(limits=Limits(floor=10**7, ratio=1), archive=archive)
    counted.chunk(10**7)
    with pytest.raises(DataError, match="unpacks to more than 10 MB"):
        counted.chunk(1)


def test_a_bomb_behind_the_end_of_a_tar_is_stopped(tmp_path: Path) -> None:
    plain = tar(tmp_path / "a.tar", FILES, "w").read_bytes()
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(plain + bytes(40_000_000)))
    with pytest.raises(DataError, match="goes on behind its end"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "to")


def test_many_small_files_are_stopped_at_their_limit(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", {f"{n}.png": b"" for n in range(50)})
    with pytest.raises(DataError, match="has more than 40 files"):
        unpack(archive, tmp_path / "to", limits=Limits(files=40))


@pytest.mark.parametrize("names", [("a.png", "a.png"), ("top/A.png", "top/a.png")])
def test_a_file_that_is_there_twice_is_refused(names: tuple[str, str], tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as opened:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = 1
            opened.addfile(info, io.BytesIO(b"x"))
    with pytest.raises(DataError, match="has the file .* twice"):
        unpack(path, tmp_path / "to")


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz", "zip"])
@pytest.mark.parametrize("how", ["cut", "flipped"])
def test_a_damaged_archive_is_one_line(mode: str, how: str, tmp_path: Path) -> None:
    path = tmp_path / "archive"
    noise = {f"{n}.png": bytes((n * k * k) % 251 for k in range(5000)) for n in range(20)}
    archive = zipped(path, noise) if mode == "zip" else tar(path, noise, mode)
    content = bytearray(archive.read_bytes())
    middle = len(content) // 2
    if how == "cut":
        del content[middle:]
    elif mode == "w":
        content[: 512 * 3] = bytes(range(256)) * 6
    else:
        content[middle : middle + 50] = bytes(50)
    archive.write_bytes(content)
    with pytest.raises(DataError, match="Take another copy|another copy of it") as refused:
        unpack(archive, tmp_path / "to")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"<html>", b"PK", b"7z\xbc\xaf\x27\x1c" + bytes(900)])
def test_what_is_no_archive_is_named_by_its_beginning(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(content)
    with pytest.raises(DataError, match="is no TAR and no ZIP; it begins with"):
        unpack(path, tmp_path / "to")


def test_a_full_disk_is_told_from_a_damaged_archive(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", {"a.png": bytes(100_000)})
    with full_disk(50_000), pytest.raises(StorageError, match="Cannot unpack a.png"):
        unpack(archive, tmp_path / "to")


def test_the_room_that_a_zip_needs_is_known(tmp_path: Path) -> None:
    unpacker = Unpacker(progress=lambda *_: None)
    assert unpacker.needed(zipped(tmp_path / "a.zip", FILES)) == 3000
    archive = tar(tmp_path / "a.tar", FILES, "w")
    assert unpacker.needed(archive) >= archive.stat().st_size
