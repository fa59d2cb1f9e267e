"""`zoo sign`: sign a detector of the shelf."""

from __future__ import annotations

import argparse
from pathlib import Path

from zoo.cli import options
from zoo.cli.output import answer
from zoo.errors import ConfigError

HELP = "sign a detector of the shelf with your key, for those who trust only what is signed"
EXAMPLE = "zoo sign wood --key key.pem"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    options.add_detector(parser)
    parser.add_argument(
        "--key",
        type=Path,
        metavar="FILE",
        help="an Ed25519 private key in PEM (default: ZOO_SIGNING_KEY)",
    )
    options.add_json(parser)


def run(args: argparse.Namespace) -> None:
    """Check every byte of a bundle on the shelf, then store its signature beside it.

    Raises:
        ConfigError: There is no key.
        UnknownDetectorError: The shelf has no detector of that name.
        BundleError: The bundle is damaged.
    """
    from registry import signing
    from registry.names import named_version, parsed
    from registry.shelf import Objects, open_shelf, pointer_of
    from zoo.home import shelf_address, signing_key

    key = args.key or signing_key()
    if key is None:
        raise ConfigError("There is no key to sign with: name one with --key or ZOO_SIGNING_KEY.")
    texture, reference = parsed(args.name)
    shelf = open_shelf()
    assert isinstance(shelf, Objects)
    pointer = pointer_of(shelf, texture)
    version = named_version(pointer, reference, where=shelf_address())
    digest = pointer.versions[version]
    shelf.check(digest)
    signature = signing.sign(texture, digest, key)
    shelf.change(texture, lambda old: old.with_signature(digest, signature))
    answer({"signed": f"{texture}:{version}", "digest": digest}, as_json=args.json)
