"""Folders as the authors of data sets make them, and the layouts that they become."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.archives import mask, picture
from zoo.data.fetch.arrange import as_is, magnetic_tile, mvtec_ad_2
from zoo.data.layouts import arranged, check_test, layout_of
from zoo.errors import DataError


def put(root: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def test_mvtec_ad_2_becomes_mvtec_ad_and_loses_no_picture(tmp_path: Path) -> None:
    files = {f"train/good/{n:03}_regular.png": picture(n) for n in range(5)}
    files |= {f"validation/good/{n:03}_regular.png": picture(20 + n) for n in range(2)}
    files |= {f"test_public/good/{n:03}_regular.png": picture(30 + n) for n in range(2)}
    files |= {f"test_public/bad/{n:03}_overexposed.png": picture(40 + n) for n in range(3)}
    files |= {f"test_public/ground_truth/bad/{n:03}_overexposed_mask.png": mask() for n in range(3)}
    files |= {"test_private/000_mixed.png": picture(50), "test_private_mixed/000.png": picture(51)}
    put(tmp_path, files)
    mvtec_ad_2(tmp_path)
    assert layout_of(tmp_path) == "mvtec"
    found = arranged(tmp_path, "mvtec")
    check_test(found)
    assert len(found.good) == 7
    assert {path.name for path in found.good} >= {"000_regular.png", "validation_000_regular.png"}
    kinds = [each.kind for each in found.test]
    assert (kinds.count("good"), kinds.count("bad")) == (2, 3)
    assert all(each.mask and each.mask.is_file() for each in found.test if each.kind == "bad")
    pictures = list(tmp_path.rglob("*.png"))
    assert len(pictures) == len(files)
    assert not (tmp_path / "validation").exists()
    assert not (tmp_path / "test_public").exists()
    assert (tmp_path / "test_private" / "000_mixed.png").is_file()


def test_magnetic_tiles_become_mvtec_ad_with_whole_tiles_held_out(tmp_path: Path) -> None:
    root, files = "Magnetic-tile-defect-datasets.-abc", {}
    for tile in range(10):
        for exposure in range(3):
            name = f"exp{exposure + 1}_num_{5000 * tile + 40 * exposure}"
            files[f"{root}/MT_Free/Imgs/{name}.jpg"] = picture(tile, "jpg")
            files[f"{root}/MT_Free/Imgs/{name}.png"] = mask(black=True)
    for kind in ("Crack", "Uneven"):
        files[f"{root}/MT_{kind}/Imgs/exp1_num_7.jpg"] = picture(90, "jpg")
        files[f"{root}/MT_{kind}/Imgs/exp1_num_7.png"] = mask()
    files |= {f"{root}/README.md": b"cite us", f"{root}/dataset.jpg": picture(99, "jpg")}
    put(tmp_path, files)
    magnetic_tile(tmp_path)
    assert layout_of(tmp_path) == "mvtec"
    found = arranged(tmp_path, "mvtec")
    check_test(found)
    held = [each.path.name for each in found.test if each.kind == "good"]
    assert (len(found.good), len(held)) == (24, 6)

    def tiles(names: list[str]) -> set[int]:
        return {int(name.split("_num_")[1].split(".")[0]) // 5000 for name in names}

    assert tiles(held) == {4, 9}
    assert not tiles(held) & tiles([path.name for path in found.good])
    defects = {each.kind: each.mask for each in found.test if each.kind != "good"}
    assert set(defects) == {"crack", "uneven"}
    assert all(path and path.name == "exp1_num_7_mask.png" for path in defects.values())
    kept = {path.name for path in tmp_path.iterdir()}
    assert kept == {"train", "test", "ground_truth", "README.md"}


def test_magnetic_tiles_without_good_ones_are_refused(tmp_path: Path) -> None:
    put(tmp_path, {"elsewhere/a.jpg": picture(0, "jpg")})
    with pytest.raises(DataError, match="no folder MT_Free of good tiles; it has elsewhere"):
        magnetic_tile(tmp_path)


def test_a_known_layout_stays_as_it_is(tmp_path: Path) -> None:
    put(tmp_path, {"Normal/a.png": picture()})
    as_is(tmp_path)
    assert (tmp_path / "Normal" / "a.png").is_file()
