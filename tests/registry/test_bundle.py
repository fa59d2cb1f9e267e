"""A bundle comes back as it was saved, or not at all."""

from __future__ import annotations

import ast
import errno
import hashlib
import json
import os
import pickletools
import re
import resource
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Collection, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save as save_tensors

import registry
import zoo
from registry import bundle
from registry.bundle import Bundle
from tests.exams import flip
from zoo.errors import BundleError, StorageError
from zoo.files import storage_error

SMALL = Bundle(
    texture="weave",
    method="drawn",
    config={"patch": 16, "norm": "batch"},
    preprocessing={"mode": "L", "scale": 0.5},
    calibration={"mean": [0.1, 1e-7], "rule": {"weights": []}},
    threshold={"value": 3.25, "false_alarm_rate": 0.01},
    metrics={"val_pixel_ap": 1 / 3},
    data={"fit": ["ab", "cd"], "licence": "Größe, CC0"},
    made_by={"seed": 3},
    weights={
        "a": np.linspace(-1, 1, 15, dtype=np.float32).reshape(3, 5),
        "steps": np.array(7),
        "last": np.random.default_rng(0).normal(size=(2, 4, 3, 3)).astype(np.float32),
    },
)
PART = replace(
    SMALL,
    method="painted",
    preprocessing={"mode": "L"},
    weights={"a/b": np.eye(3), "one": np.ones(1)},
)
FUSED = replace(
    SMALL,
    method=bundle.FUSION,
    config={},
    preprocessing={},
    calibration={},
    weights={},
    parts=(SMALL, PART, replace(SMALL, weights={})),
    fusion={"map_weights": [1.0, 0.0, 0.5], "tails": []},
)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    bundle.save(SMALL, tmp_path / "b")
    return tmp_path / "b"


def assert_same(one: Bundle, other: Bundle) -> None:
    for field in fields(Bundle):
        if field.name not in ("weights", "parts"):
            assert getattr(one, field.name) == getattr(other, field.name)
    assert len(one.parts) == len(other.parts)
    for part, again in zip(one.parts, other.parts, strict=True):
        assert_same(part, again)
    assert one.weights.keys() == other.weights.keys()
    for name, array in one.weights.items():
        assert other.weights[name].dtype == array.dtype
        assert other.weights[name].shape == array.shape
        assert (other.weights[name] == array).all()


def sign(folder: Path, changes: Mapping[str, Any], *, without: Collection[str] = ()) -> None:
    """Change a card and make its own hash fit."""
    card = json.loads((folder / bundle.CARD).read_text()) | changes
    for name in ("card_sha256", *without):
        card.pop(name)
    text = json.dumps(card, indent=1, sort_keys=True).encode()
    card["card_sha256"] = hashlib.sha256(text).hexdigest()
    (folder / bundle.CARD).write_bytes(json.dumps(card, indent=1, sort_keys=True).encode())


# ------------------------------------------------------------------------------------- round trips


def test_a_bundle_comes_back_as_it_was_saved(saved: Path) -> None:
    assert_same(SMALL, bundle.load(saved))


def test_a_real_detector_comes_back_as_it_was_saved(tiny_bundle: Bundle, tmp_path: Path) -> None:
    bundle.save(tiny_bundle, tmp_path / "b")
    back = bundle.load(tmp_path / "b")
    assert len(back.weights) > 20
    blank: dict[str, Any] = {"calibration": {}, "threshold": {}}
    assert_same(replace(back, **blank), replace(tiny_bundle, **blank))
    for name in blank:  # a card has lists for tuples
        assert getattr(back, name) == json.loads(json.dumps(getattr(tiny_bundle, name)))


def test_weights_in_another_memory_layout_come_back_the_same(tmp_path: Path) -> None:
    weights = {"w": np.asfortranarray(SMALL.weights["last"])}
    assert not weights["w"].flags.c_contiguous
    bundle.save(replace(SMALL, weights=weights), tmp_path)
    assert (bundle.load(tmp_path).weights["w"] == weights["w"]).all()


def test_weights_are_the_bytes_that_torch_saves(saved: Path) -> None:
    kinds = {"bool": np.array([True, False]), "half": np.ones(3, np.float16), "none": np.empty(0)}
    weights = SMALL.weights | kinds
    bundle.save(replace(SMALL, weights=weights), saved)
    tensors = {name: torch.from_numpy(array) for name, array in weights.items()}
    assert (saved / bundle.WEIGHTS).read_bytes() == save_tensors(tensors)


def test_torch_takes_loaded_weights_without_a_copy_or_a_warning(saved: Path) -> None:
    weights = bundle.load(saved).weights
    tensors = {name: torch.from_numpy(array) for name, array in weights.items()}
    tensors["a"] += 1
    assert (weights["a"] == SMALL.weights["a"] + 1).all()
    assert tensors["steps"].shape == ()


def test_weights_of_a_type_that_numpy_does_not_have_are_refused(saved: Path) -> None:
    blob = save_tensors({"w": torch.ones(3, dtype=torch.bfloat16)})
    (saved / bundle.WEIGHTS).write_bytes(blob)
    sign(saved, {"weights_sha256": hashlib.sha256(blob).hexdigest()})
    with pytest.raises(BundleError, match=r"weights of type 'BF16', which NumPy does not have"):
        bundle.load(saved)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused_by_name(saved: Path, value: float) -> None:
    weights = SMALL.weights | {"last": np.array([0.0, value])}
    bundle.save(replace(SMALL, weights=weights), saved)
    with pytest.raises(BundleError, match="cannot be used: last is not what it should be"):
        bundle.load(saved)


def test_a_bundle_of_format_1_is_read_as_one_of_today() -> None:
    folder = Path(__file__).parents[1] / "stored" / "formats" / "1"
    card = json.loads((folder / bundle.CARD).read_text())
    found = bundle.load(folder)
    asked = found.made_by["settings"]
    assert not {"training", "views"} & found.made_by.keys()
    assert asked == card["made_by"]["training"] | card["config"] | {"views": 4}
    assert asked["learning_rate"] == 0.002
    assert asked["patch"] == 16
    floor = card["metrics"].pop("val_pixel_ap_floor")
    assert found.metrics == card["metrics"] | {"val_pixel_ap_baseline": floor}
    assert found.config == card["config"]
    assert len(found.weights) > 20


@pytest.mark.parametrize("number", [1, 2])
def test_a_bundle_of_an_older_format_that_was_not_trained_keeps_its_card(
    number: int, saved: Path
) -> None:
    sign(saved, {"format": number}, without=("parts", "fusion"))
    assert_same(SMALL, bundle.load(saved))


@pytest.mark.parametrize("number", [1, 2])
def test_a_bundle_of_a_format_before_parts_has_none(number: int, saved: Path) -> None:
    sign(saved, {"format": number, "parts": []}, without=("fusion",))
    with pytest.raises(BundleError, match="cannot be opened: .*'parts'"):
        bundle.load(saved)


def test_a_bundle_of_format_2_is_read_as_one_that_is_not_fused(tmp_path: Path) -> None:
    found = bundle.load(Path(__file__).parents[1] / "stored" / "formats" / "2")
    assert (found.parts, found.fusion) == ((), {})
    bundle.save(found, tmp_path)
    assert json.loads((tmp_path / bundle.CARD).read_text())["parts"] == []
    assert_same(found, bundle.load(tmp_path))


def test_a_bundle_of_format_1_is_saved_in_the_format_of_today(tmp_path: Path) -> None:
    old = bundle.load(Path(__file__).parents[1] / "stored" / "formats" / "1")
    bundle.save(old, tmp_path)
    assert json.loads((tmp_path / bundle.CARD).read_text())["format"] == bundle.FORMAT
    assert_same(old, bundle.load(tmp_path))


def test_the_digest_is_that_of_the_content_wherever_it_is_saved(
    saved: Path, tmp_path: Path
) -> None:
    digest = bundle.save(SMALL, tmp_path / "again")
    assert digest == bundle.digest(saved) == bundle.digest(tmp_path / "again")
    assert len(digest) == 64
    weights = {**SMALL.weights, "a": SMALL.weights["a"] + 1e-6}
    others = (
        replace(SMALL, weights=weights),
        replace(SMALL, threshold={"value": 3.26}),
        bundle.with_metrics(SMALL, {"test_pixel_ap": 0.5}),
    )
    for number, other in enumerate(others):
        assert bundle.save(other, tmp_path / str(number)) != digest


def test_saving_again_replaces_the_older_bundle(saved: Path) -> None:
    newer = replace(SMALL, threshold={"value": 9.0}, weights={"w": np.ones(2)})
    bundle.save(newer, saved)
    assert_same(newer, bundle.load(saved))
    assert len(list(saved.iterdir())) == 2


def test_a_folder_holds_two_files_and_neither_can_run(saved: Path) -> None:
    files = sorted(saved.iterdir())
    assert [file.name for file in files] == [bundle.CARD, bundle.WEIGHTS]
    for file in files:
        assert not zipfile.is_zipfile(file)
        with pytest.raises(ValueError, match=r"opcode|exhausted|expected"):
            list(pickletools.genops(file.read_bytes()))
    assert json.loads((saved / bundle.CARD).read_text())["format"] == bundle.FORMAT


def test_nothing_in_the_project_pickles() -> None:
    roots = [Path(str(package.__file__)).parent for package in (zoo, registry)]
    files = [path for root in roots for path in root.rglob("*.py")]
    assert len(files) > 15
    banned = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            named = [alias.name for alias in getattr(node, "names", []) if hasattr(alias, "asname")]
            module = getattr(node, "module", None)
            if module == "pickle" and named == ["UnpicklingError"]:
                continue  # what `torch.load` raises of a file that holds more than tensors
            if path.name == "painters.py" and named == ["pickle"]:
                continue  # hands pictures to processes of its own; nothing of it is stored
            assert not banned & {*named, module if isinstance(module, str) else ""}, path


# ------------------------------------------------------------------------------------------ damage


def test_any_flipped_byte_of_the_weights_is_refused(saved: Path) -> None:
    size = (saved / bundle.WEIGHTS).stat().st_size
    places = range(0, size, 7)
    assert len(places) > 50
    for at in places:
        flip(saved / bundle.WEIGHTS, at)
        with pytest.raises(BundleError, match=f"{bundle.WEIGHTS} is damaged"):
            bundle.load(saved)
        flip(saved / bundle.WEIGHTS, at)
    assert_same(SMALL, bundle.load(saved))


@pytest.mark.parametrize("bits", [0b1, 0b10000])
def test_a_bit_flipped_anywhere_in_the_card_is_refused(saved: Path, bits: int) -> None:
    card = saved / bundle.CARD
    whole = card.read_bytes()
    assert len(whole) > 400
    for at in range(len(whole)):
        changed = bytearray(whole)
        changed[at] ^= bits
        card.write_bytes(changed)
        with pytest.raises(BundleError):
            bundle.load(saved)
    card.write_bytes(whole)
    assert_same(SMALL, bundle.load(saved))


@pytest.mark.parametrize(
    ("honest", "forged"),
    [(b'"value": 3.25', b'"value": 9.25'), (b'"weave"', b'"weaxe"'), (b'"ab"', b'"aB"')],
)
def test_a_changed_value_in_the_card_is_refused(saved: Path, honest: bytes, forged: bytes) -> None:
    card = saved / bundle.CARD
    assert card.read_bytes().count(honest) == 1
    card.write_bytes(card.read_bytes().replace(honest, forged))
    for read in (bundle.load, bundle.digest):
        with pytest.raises(BundleError, match=f"{bundle.CARD} is damaged: its own SHA-256"):
            read(saved)


@pytest.mark.parametrize("name", [bundle.WEIGHTS, bundle.CARD])
@pytest.mark.parametrize("left", [0, 1, 100])
def test_a_file_cut_short_is_refused(saved: Path, name: str, left: int) -> None:
    (saved / name).write_bytes((saved / name).read_bytes()[:left])
    with pytest.raises(BundleError, match=f"{name} is damaged"):
        bundle.load(saved)


@pytest.mark.parametrize("name", [bundle.WEIGHTS, bundle.CARD])
def test_a_missing_file_is_named(saved: Path, name: str) -> None:
    (saved / name).unlink()
    for read in (bundle.load, bundle.digest):
        with pytest.raises(BundleError, match=f"{saved} is no bundle: {name} is missing"):
            read(saved)


def test_a_folder_that_is_not_there_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="nowhere is no bundle"):
        bundle.load(tmp_path / "nowhere")


def test_weights_of_another_bundle_are_refused(saved: Path, tmp_path: Path) -> None:
    bundle.save(replace(SMALL, weights={"a": np.zeros((3, 5))}), tmp_path / "other")
    shutil.copy(tmp_path / "other" / bundle.WEIGHTS, saved / bundle.WEIGHTS)
    with pytest.raises(BundleError, match="its SHA-256 should be"):
        bundle.load(saved)


@pytest.mark.parametrize("format_number", [0, bundle.FORMAT + 1, True, [1], "1", None])
def test_another_format_is_refused_with_both_numbers(saved: Path, format_number: int) -> None:
    card = json.loads((saved / bundle.CARD).read_text())
    (saved / bundle.CARD).write_text(json.dumps(card | {"format": format_number}))
    message = f"has format {format_number}; this version reads 1 to {bundle.FORMAT}. Update"
    with pytest.raises(BundleError, match=re.escape(message)):
        bundle.load(saved)


@pytest.mark.parametrize("content", ["[]", "3", "null", "{}", '"text"', "\x00"])
def test_a_card_that_is_none_is_refused(saved: Path, content: str) -> None:
    (saved / bundle.CARD).write_text(content)
    with pytest.raises(BundleError, match=str(saved)):
        bundle.load(saved)


# --------------------------------------------------------------------------------- writing in vain


def full_disk(folder: Path, name: str) -> None:
    """Let the file that is written beside `name` lie on a disk that is full."""
    (folder / f".{name}.{os.getpid()}.part").symlink_to("/dev/full")


def test_a_write_that_ends_half_way_leaves_the_older_bundle(saved: Path) -> None:
    """First the system refuses to write on, then it kills the process in the middle."""
    code = (
        "import sys, resource, signal; from pathlib import Path\n"
        "from registry import bundle; from zoo import errors\n"
        "old = bundle.load(Path(sys.argv[1]))\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, (100, {resource.RLIM_INFINITY}))\n"
        "try: bundle.save(old, Path(sys.argv[1]))\n"
        "except errors.StorageError as error: print(error, flush=True)\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_DFL)\n"
        "bundle.save(old, Path(sys.argv[1]))\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(saved)], capture_output=True, text=True)
    assert "Cannot write the bundle of 'weave'" in ended.stdout
    assert "raise it (ulimit -f)" in ended.stdout
    assert ended.returncode == -signal.SIGXFSZ
    assert_same(SMALL, bundle.load(saved))


def test_a_file_in_the_way_of_the_folder_is_reported(tmp_path: Path) -> None:
    (tmp_path / "b").write_text("in the way")
    with pytest.raises(StorageError, match="Cannot write the bundle of 'weave'"):
        bundle.save(SMALL, tmp_path / "b")
    with pytest.raises(StorageError, match="a file is in the way of a folder"):
        bundle.save(SMALL, tmp_path / "b" / "c")


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EROFS, "read-only; set ZOO_HOME"),
        (errno.EACCES, "permission denied; let this user read and write it, or set ZOO_HOME"),
        (errno.EPERM, "permission denied; let this user read and write it, or set ZOO_HOME"),
        (errno.EIO, "the disk fails"),
        (errno.EBUSY, os.strerror(errno.EBUSY)),
    ],
)
def test_each_reason_why_nothing_can_be_written_has_its_advice(number: int, advice: str) -> None:
    error = OSError(number, os.strerror(number), "/some/place")
    said = str(storage_error("Cannot write it", error))
    assert said.startswith("Cannot write it: /some/place: ")
    assert advice in said


def test_a_detector_is_the_same_before_and_after_its_audit() -> None:
    other = SMALL.weights | {"a": SMALL.weights["a"] + 1e-6}
    assert bundle.same_detector(SMALL, bundle.with_metrics(SMALL, {"test_pixel_ap": 0.5}))
    assert not bundle.same_detector(SMALL, replace(SMALL, weights=other))
    assert not bundle.same_detector(SMALL, replace(SMALL, weights={"a": other["a"]}))
    assert not bundle.same_detector(SMALL, replace(SMALL, threshold={"value": 9.0}))


def test_figures_are_added_to_a_card_without_touching_the_others() -> None:
    found = bundle.with_metrics(SMALL, {"test_pixel_ap": 0.25})
    assert found.metrics == {"val_pixel_ap": 1 / 3, "test_pixel_ap": 0.25}
    assert SMALL.metrics == {"val_pixel_ap": 1 / 3}


@pytest.mark.parametrize("bit", range(8))
def test_any_flipped_bit_of_the_card_is_refused(tmp_path: Path, bit: int) -> None:
    threshold = {"value": 0.1 + 0.2, "false_alarm_rate": 0.01}  # 17 digits, the last without weight
    bundle.save(replace(SMALL, threshold=threshold), tmp_path)
    card = tmp_path / bundle.CARD
    whole = card.read_bytes()
    assert b"0.30000000000000004" in whole
    for at in range(len(whole)):
        changed = bytearray(whole)
        changed[at] ^= 1 << bit
        card.write_bytes(changed)
        with pytest.raises(BundleError):
            bundle.load(tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("name", [bundle.WEIGHTS, bundle.CARD])
def test_a_full_disk_is_reported_and_the_older_bundle_stays(saved: Path, name: str) -> None:
    full_disk(saved, name)
    with pytest.raises(StorageError, match="bundle of 'weave': the disk is full; free some"):
        bundle.save(replace(SMALL, weights={"w": np.ones(2)}), saved)
    assert_same(SMALL, bundle.load(saved))
    assert len(list(saved.iterdir())) == 2


def test_a_file_is_no_bundle(saved: Path) -> None:
    with pytest.raises(BundleError, match="is no bundle"):
        bundle.load(saved / bundle.CARD)


# ------------------------------------------------------------------------------------------- fused


@pytest.fixture
def saved_fused(tmp_path: Path) -> Path:
    bundle.save(FUSED, tmp_path / "f")
    return tmp_path / "f"


def test_a_fused_bundle_comes_back_as_it_was_saved(saved_fused: Path) -> None:
    back = bundle.load(saved_fused)
    assert [len(part.weights) for part in back.parts] == [3, 2, 0]
    assert_same(FUSED, back)
    assert bundle.same_detector(FUSED, back)
    assert sorted(file.name for file in saved_fused.iterdir()) == [bundle.CARD, bundle.WEIGHTS]
    assert sorted(bundle.all_weights(back)) == ["0/a", "0/last", "0/steps", "1/a/b", "1/one"]


def test_a_plain_bundle_is_saved_as_before_but_for_two_empty_fields(saved: Path) -> None:
    card = json.loads((saved / bundle.CARD).read_text())
    assert {name: card[name] for name in ("parts", "fusion")} == {"parts": [], "fusion": {}}
    blob = save_tensors({name: torch.from_numpy(array) for name, array in SMALL.weights.items()})
    assert (saved / bundle.WEIGHTS).read_bytes() == blob


def test_the_digest_covers_the_parts(saved_fused: Path, tmp_path: Path) -> None:
    changes: tuple[dict[str, Any], ...] = (
        {"weights": SMALL.weights | {"steps": np.array(8)}},
        {"threshold": {"value": 3.26}},
        {"metrics": {}},
    )
    digests = {bundle.digest(saved_fused)}
    for number, change in enumerate(changes):
        other = replace(FUSED, parts=(replace(SMALL, **change), *FUSED.parts[1:]))
        digests.add(bundle.save(other, tmp_path / str(number)))
    assert len(digests) == 4


def test_a_fused_detector_is_the_same_before_and_after_its_audit() -> None:
    audited = bundle.with_metrics(FUSED, {"test_pixel_ap": 0.5})
    assert audited.parts == FUSED.parts
    assert bundle.same_detector(FUSED, audited)
    known = replace(FUSED, parts=(bundle.with_metrics(SMALL, {"x": 1.0}), *FUSED.parts[1:]))
    assert bundle.same_detector(FUSED, known)
    others = (
        replace(FUSED, parts=FUSED.parts[:2]),
        replace(FUSED, parts=(PART, SMALL, FUSED.parts[2])),
        replace(FUSED, parts=(replace(SMALL, threshold={"value": 9.0}), *FUSED.parts[1:])),
        replace(FUSED, parts=(replace(SMALL, weights=PART.weights), *FUSED.parts[1:])),
        replace(FUSED, fusion={"map_weights": [1.0, 1.0, 0.5], "tails": []}),
    )
    for other in others:
        assert not bundle.same_detector(FUSED, other)


def test_weights_of_a_part_that_are_not_finite_are_refused_by_name(tmp_path: Path) -> None:
    broken = replace(PART, weights={"one": np.array([np.inf])})
    bundle.save(replace(FUSED, parts=(SMALL, broken)), tmp_path)
    with pytest.raises(BundleError, match="cannot be used: 1/one is not what it should be"):
        bundle.load(tmp_path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"parts": ()}, "method 'fusion', 0 parts and a fusion"),
        ({"fusion": {}}, "method 'fusion', 3 parts and no fusion"),
        ({"method": "drawn"}, "method 'drawn', 3 parts and a fusion"),
        ({"config": {"patch": 16}}, "has a configuration, .* of its own"),
        ({"weights": PART.weights}, "weights of its own"),
        ({"parts": (SMALL, FUSED)}, "has 2 parts; .* none of them may be fused itself"),
        ({"parts": (SMALL,) * 33}, "has 33 parts; it may have 32"),
    ],
)
def test_what_is_fused_by_half_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(BundleError, match=f"'weave' .*{said}"):
        replace(FUSED, **changes)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ("ab", "parts"),
        ([3], "parts.0"),
        ([{}], "parts.0"),
        ([{"parts": [], "fusion": {}}], "parts.0.texture, parts.0.method, parts.0.config"),
        ([{"parts": [{}], "fusion": {}}], "parts.0"),
        ([{"parts": [], "fusion": {}}] * 33, "parts"),
    ],
)
def test_parts_that_are_no_cards_are_refused_by_their_place(
    parts: Any, said: str, saved_fused: Path
) -> None:
    sign(saved_fused, {"parts": parts})
    with pytest.raises(BundleError, match=f"cannot be used: {said} is not what it should be"):
        bundle.load(saved_fused)


@pytest.mark.parametrize("name", ["3/a", "a", "/a", "00/a", "-1/a", "0"])
def test_an_array_of_no_part_is_refused_by_name(name: str, saved_fused: Path) -> None:
    blob = save_tensors({"0/a": torch.ones(2), name: torch.ones(2)})
    (saved_fused / bundle.WEIGHTS).write_bytes(blob)
    sign(saved_fused, {"weights_sha256": hashlib.sha256(blob).hexdigest()})
    with pytest.raises(BundleError, match=f"its array '{name}' belongs to none of its 3 parts"):
        bundle.load(saved_fused)


@pytest.mark.parametrize("bit", [0, 3])
def test_any_flipped_bit_of_a_fused_card_is_refused(saved_fused: Path, bit: int) -> None:
    card = saved_fused / bundle.CARD
    whole = card.read_bytes()
    assert len(whole) > 1200
    for at in range(0, len(whole), 3):
        changed = bytearray(whole)
        changed[at] ^= 1 << bit
        card.write_bytes(changed)
        with pytest.raises(BundleError):
            bundle.load(saved_fused)
