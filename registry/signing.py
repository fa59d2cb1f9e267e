"""Signatures of published detectors: who says that a bundle is the one to use.

A signature is by an Ed25519 key, over the name of the texture and the digest of the bundle, which
covers every byte of it. Pointers hold the signatures. Where `ZOO_TRUSTED_KEYS` is set, a shelf
gives out only what one of these keys has signed.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from registry.names import normal
from registry.pointer import Pointer
from zoo.errors import ConfigError, SignatureError
from zoo.files import TEXT, read_regular
from zoo.home import trusted_keys

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

PEM = re.compile(rb"-----BEGIN ([A-Z ]+)-----.+?-----END \1-----", re.DOTALL)


def sign(texture: str, digest: str, key: Path) -> str:
    """Return the signature of a bundle as it is published under the name of a texture.

    Args:
        texture: The name.
        digest: Of the bundle.
        key: A PEM file with an Ed25519 private key without a password.

    Raises:
        ConfigError: The file has no such key, or `cryptography` is not installed.
    """
    return base64.b64encode(_private(key).sign(_message(texture, digest))).decode()


def check(texture: str, digest: str, pointer: Pointer) -> None:
    """Refuse a bundle that no trusted key has signed; without `ZOO_TRUSTED_KEYS`, refuse none.

    Raises:
        SignatureError: It has no signature by a trusted key.
        ConfigError: The trusted keys cannot be read.
    """
    signatures, where = pointer.signatures.get(digest, ()), trusted_keys()
    if where is None or _is_signed(texture, digest, signatures, _public(where)):
        return
    found = f"{len(signatures)} by others" if signatures else "none"
    raise SignatureError(
        f"The detector '{texture}' of digest {digest} should have a signature by a key of {where} "
        f"(ZOO_TRUSTED_KEYS); it has {found}. Ask who published it to run `zoo sign "
        f"{texture}@sha256:{digest}`."
    )


def is_trusted(texture: str, digest: str, pointer: Pointer) -> bool:
    """Return whether `check` would pass."""
    try:
        check(texture, digest, pointer)
    except SignatureError:
        return False
    return True


def _message(texture: str, digest: str) -> bytes:
    return f"texture-zoo detector\n{normal(texture)}\n{digest}\n".encode()


def _is_signed(
    texture: str, digest: str, signatures: Sequence[str], keys: Sequence[Ed25519PublicKey]
) -> bool:
    from cryptography.exceptions import InvalidSignature

    for signature in signatures:
        for key in keys:
            try:
                key.verify(base64.b64decode(signature, validate=True), _message(texture, digest))
            except (InvalidSignature, binascii.Error, ValueError):
                continue
            return True
    return False


def _private(path: Path) -> Ed25519PrivateKey:
    _needs_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(read_regular(path, most=TEXT), password=None)
    except (OSError, TypeError, ValueError, UnsupportedAlgorithm) as error:
        raise _no_key(path, "private", error) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise _no_key(path, "private", "its key is of another kind")
    return key


def _public(where: Path) -> list[Ed25519PublicKey]:
    """Return the keys of a PEM file, which may have several, or of all PEM files of a folder."""
    _needs_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    found = []
    for path in sorted(where.glob("*.pem")) if where.is_dir() else [where]:
        try:
            blocks = [match[0] for match in PEM.finditer(read_regular(path, most=TEXT))]
            keys = [load_pem_public_key(block) for block in blocks]
        except (OSError, ValueError, UnsupportedAlgorithm) as error:
            raise _no_key(path, "public", error) from error
        own = [key for key in keys if isinstance(key, Ed25519PublicKey)]
        if not keys or len(own) < len(keys):
            raise _no_key(path, "public", f"{len(own)} of its {len(keys)} PEM blocks are such keys")
        found += own
    if not found:
        raise _no_key(where, "public", "there is no *.pem file")
    return found


def _needs_cryptography() -> None:
    try:
        import cryptography  # noqa: F401  whether it is there
    except ImportError as error:
        raise ConfigError(
            "Signatures need the package cryptography: `pip install 'texture-zoo[signing]'`."
        ) from error


def _no_key(path: Path, kind: str, why: object) -> ConfigError:
    make = "`openssl genpkey -algorithm ed25519 -out key.pem`"
    if kind == "public":
        make = "`openssl pkey -in key.pem -pubout -out key.pub.pem`"
    return ConfigError(
        f"{path} should have an Ed25519 {kind} key in PEM, without a password: {why}. "
        f"Make one with {make}."
    )
