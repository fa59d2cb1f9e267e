"""The options of `zoo serve`, and the settings of the service that they make."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.cli import options

if TYPE_CHECKING:
    from zoo.serve.settings import Settings

MEGA = 10**6


def add(parser: argparse.ArgumentParser) -> None:
    """Add all options."""
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="detectors, as for `zoo score` (default: all of the shelf, their champions at once)",
    )
    where = parser.add_argument_group("where")
    where.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen at; one that other machines can reach needs keys "
        "(default: 127.0.0.1)",
    )
    where.add_argument("--port", type=_port, default=8080, help="port; 0 is a free one (8080)")
    where.add_argument("--certificate", type=Path, metavar="PEM", help="serve HTTPS with it")
    where.add_argument("--private-key", type=Path, metavar="PEM", help="of the certificate")
    keys = parser.add_argument_group("keys")
    keys.add_argument(
        "--keys",
        type=Path,
        metavar="FILE",
        help="digests of the keys that are accepted (default: service-keys under the home, if it "
        "is there)",
    )
    keys.add_argument(
        "--new-key",
        metavar="LABEL",
        help="make a key for whom the label says, add its digest to the file, print the key, end",
    )
    limits = parser.add_argument_group("limits")
    limits.add_argument("--max-mb", type=options.positive, default=32, help="of a file (32)")
    limits.add_argument(
        "--max-megapixels", type=options.positive, default=50, help="of a picture (50)"
    )
    limits.add_argument(
        "--at-once",
        type=options.positive,
        metavar="N",
        help="pictures that are scored at the same time (default: one for each core)",
    )
    limits.add_argument(
        "--wait",
        type=options.seconds,
        default=10.0,
        metavar="TIME",
        help="how long a picture waits for its turn before the answer is 429 (10s)",
    )
    limits.add_argument(
        "--refresh",
        type=options.seconds,
        default=10.0,
        metavar="TIME",
        help="how often new champions are looked for (10s)",
    )
    journal = parser.add_argument_group("journal")
    journal.add_argument(
        "--journal", action="store_true", help="keep what inspectors answer, under the home"
    )
    journal.add_argument(
        "--keep-pictures", action="store_true", help="keep the pictures they marked as well"
    )
    journal.add_argument(
        "--journal-mb", type=options.positive, default=1000, help="size of the journal (1000)"
    )
    options.add_device(parser)


def settings(args: argparse.Namespace, keys: Path | None) -> Settings:
    """Return the settings of the service.

    Args:
        args: With the options.
        keys: File of the digests of keys; None asks for none.

    Raises:
        ConfigError: A value is out of its range.
    """
    from zoo.home import most_megapixels
    from zoo.serve.journal import usual_root
    from zoo.serve.settings import Settings

    return Settings(
        names=tuple(args.names),
        device=args.device,
        most_bytes=args.max_mb * MEGA,
        most_megapixels=min(float(args.max_megapixels), most_megapixels()),
        at_once=args.at_once,
        wait_s=args.wait,
        refresh_s=args.refresh,
        keys=keys,
        journal=usual_root() if args.journal else None,
        keep="marked" if args.keep_pictures else "none",
        most_journal_bytes=args.journal_mb * MEGA,
    )


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"'{text}' is no port from 0 to 65535")
    return int(text)
