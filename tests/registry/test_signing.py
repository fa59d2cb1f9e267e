"""Signatures: what is signed by a trusted key is loaded, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import zoo
from registry import bundle, maintenance, signing
from registry.bundle import Bundle
from registry.folder_shelf import FolderShelf
from registry.pointer import pointer_from_json
from registry.s3_shelf import S3Shelf
from tests.exams import drawn_bundle, flip, publish
from zoo.errors import BundleError, ConfigError, SignatureError

PEM, PKCS8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
SPKI = serialization.PublicFormat.SubjectPublicKeyInfo
PLAIN = serialization.NoEncryption()


def new_key(folder: Path, name: str = "key") -> tuple[Path, Path]:
    """Write a key, and return the files of its private and its public half."""
    folder.mkdir(parents=True, exist_ok=True)
    key = Ed25519PrivateKey.generate()
    private, public = folder / f"{name}.key", folder / f"{name}.pem"
    private.write_bytes(key.private_bytes(PEM, PKCS8, PLAIN))
    public.write_bytes(key.public_key().public_bytes(PEM, SPKI))
    return private, public


def sign(shelf: FolderShelf | S3Shelf, texture: str, digest: str, key: Path) -> None:
    signature = signing.sign(texture, digest, key)
    shelf.change(texture, lambda old: old.with_signature(digest, signature))


@pytest.fixture
def digest(shelf: FolderShelf) -> str:
    return shelf.pointer("weave").versions[1]


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A private key whose public half is trusted."""
    private, public = new_key(tmp_path / "keys")
    monkeypatch.setenv("ZOO_TRUSTED_KEYS", str(public))
    return private


def load(tmp_path: Path) -> None:
    zoo.load("weave", shelf=str(tmp_path / "shelf"))


def test_without_trusted_keys_an_unsigned_detector_is_loaded(
    shelf: FolderShelf, tmp_path: Path
) -> None:
    load(tmp_path)


def test_a_signed_detector_is_loaded_by_every_name(
    shelf: FolderShelf, digest: str, key: Path, tmp_path: Path
) -> None:
    sign(shelf, "weave", digest, key)
    for name in ("weave", "weave:1", "weave@champion", f"weave@sha256:{digest}"):
        assert zoo.load(name, shelf=str(tmp_path / "shelf")).digest == digest
    assert zoo.show("weave", shelf=str(tmp_path / "shelf"))["digest"] == digest


def test_an_unsigned_detector_is_refused_by_everything_that_reads_a_shelf(
    shelf: FolderShelf, digest: str, key: Path, tmp_path: Path
) -> None:
    place = str(tmp_path / "shelf")
    readers: list[Callable[[], object]] = [
        lambda: zoo.load("weave", shelf=place),
        lambda: zoo.show("weave", shelf=place),
        lambda: shelf.fetch("weave:1"),
    ]
    for read in readers:
        with pytest.raises(
            SignatureError,
            match=rf"'weave' of digest {digest} should have a signature .*key.pem .*it has none\. "
            rf".*`zoo sign weave@sha256:{digest}`",
        ):
            read()
    [checked] = maintenance.verify(shelf)
    assert "it has none" in checked.problem


def test_a_detector_does_not_follow_to_a_champion_that_is_not_signed(
    shelf: FolderShelf, tiny_bundle: Bundle, digest: str, key: Path, tmp_path: Path
) -> None:
    sign(shelf, "weave", digest, key)
    detector = zoo.load("weave", shelf=str(tmp_path / "shelf"))
    bundle.save(bundle.with_metrics(tiny_bundle, {"test_image_auroc": 0.5}), tmp_path / "newer")
    publish(shelf, tmp_path / "newer", texture="weave", version=2)
    with pytest.raises(SignatureError, match="'weave'"):
        detector.refresh()
    assert detector.digest == digest


def test_a_changed_byte_of_a_signed_detector_is_refused(
    shelf: FolderShelf, digest: str, key: Path, tmp_path: Path
) -> None:
    sign(shelf, "weave", digest, key)
    flip(tmp_path / "shelf" / "objects" / digest / bundle.WEIGHTS)
    with pytest.raises(BundleError, match=bundle.WEIGHTS):
        load(tmp_path)


def test_a_signature_by_another_key_is_refused_until_that_key_is_trusted_too(
    shelf: FolderShelf, digest: str, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, public = new_key(tmp_path / "others")
    sign(shelf, "weave", digest, other)
    with pytest.raises(SignatureError, match="it has 1 by others"):
        load(tmp_path)
    both = tmp_path / "both"
    both.mkdir()
    for at, path in enumerate((tmp_path / "keys" / "key.pem", public)):
        (both / f"{at}.pem").write_bytes(path.read_bytes())
    monkeypatch.setenv("ZOO_TRUSTED_KEYS", str(both))
    load(tmp_path)
    joined = tmp_path / "joined.pem"
    joined.write_bytes(b"".join(path.read_bytes() for path in sorted(both.iterdir())))
    monkeypatch.setenv("ZOO_TRUSTED_KEYS", str(joined))
    load(tmp_path)


@pytest.mark.parametrize("of", ["another bundle", "another texture", "nothing"])
def test_a_signature_of_something_else_is_refused(
    shelf: FolderShelf, digest: str, key: Path, tmp_path: Path, of: str
) -> None:
    other = bundle.digest(drawn_bundle(tmp_path / "other"))
    signature = {
        "another bundle": signing.sign("weave", other, key),
        "another texture": signing.sign("grid", digest, key),
        "nothing": "no base64!",
    }[of]
    shelf.change("weave", lambda old: old.with_signature(digest, signature))
    with pytest.raises(SignatureError, match="it has 1 by others"):
        load(tmp_path)


def broken_keys(folder: Path) -> dict[str, bytes]:
    private, public = new_key(folder / "source")
    rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    locked = serialization.load_pem_private_key(private.read_bytes(), None).private_bytes(
        PEM, PKCS8, serialization.BestAvailableEncryption(b"secret")
    )
    return {
        "empty": b"",
        "no PEM": b"\x00\xff key",
        "damaged": public.read_bytes().replace(b"MCow", b"MCox"),
        "an RSA key": rsa_key.public_key().public_bytes(PEM, SPKI),
        "a private RSA key": rsa_key.private_bytes(PEM, PKCS8, PLAIN),
        "with a password": locked,
    }


CASES = ("empty", "no PEM", "damaged", "an RSA key", "a private RSA key", "with a password")


@pytest.mark.parametrize("case", CASES)
def test_a_file_that_holds_no_such_key_is_refused_in_one_line(
    shelf: FolderShelf, digest: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    path = tmp_path / "bad.pem"
    path.write_bytes(broken_keys(tmp_path)[case])
    with pytest.raises(ConfigError, match=r"bad\.pem should have an Ed25519 private key.*openssl"):
        signing.sign("weave", digest, path)
    monkeypatch.setenv("ZOO_TRUSTED_KEYS", str(path))
    with pytest.raises(ConfigError, match=r"bad\.pem should have an Ed25519 public key.*openssl"):
        load(tmp_path)


def test_trusted_keys_that_are_not_there_trust_nothing(
    shelf: FolderShelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "none").mkdir()
    for place, why in (("missing", "No such file"), ("none", r"there is no \*\.pem file")):
        monkeypatch.setenv("ZOO_TRUSTED_KEYS", str(tmp_path / place))
        with pytest.raises(ConfigError, match=why):
            load(tmp_path)


def test_a_signature_stays_through_a_rollback_a_second_signature_and_the_stored_form(
    shelf: FolderShelf, digest: str, key: Path, tmp_path: Path
) -> None:
    sign(shelf, "weave", digest, key)
    sign(shelf, "weave", digest, new_key(tmp_path / "others")[0])
    sign(shelf, "weave", digest, key)
    assert len(shelf.pointer("weave").signatures[digest]) == 2
    pointer = shelf.pointer("weave")
    assert pointer_from_json(pointer.to_json(), where="here") == pointer
    publish(shelf, drawn_bundle(tmp_path / "b"), texture="weave", version=2)
    shelf.change("weave", lambda old: old.rolled_back(""))
    load(tmp_path)


def test_signatures_are_kept_and_checked_in_s3_too(
    bucket: str, digest: str, key: Path, tmp_path: Path
) -> None:
    shelf = S3Shelf(f"s3://{bucket}", tmp_path / "cache")
    publish(shelf, tmp_path / "made", texture="weave", version=1)
    names = ("weave", f"weave@sha256:{digest}")
    for name in names:
        with pytest.raises(SignatureError, match="it has none"):
            shelf.fetch(name)
    sign(S3Shelf(f"s3://{bucket}", tmp_path / "elsewhere"), "weave", digest, key)
    for name in reversed(names):  # the cached pointer has no signature yet
        assert bundle.digest(shelf.fetch(name)) == digest
