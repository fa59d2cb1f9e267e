"""Options that several commands share, the types of their values, and what they refer to."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.cli import _rates
from zoo.cli.output import say
from zoo.errors import ConfigError

if TYPE_CHECKING:
    from zoo.data.textures import Texture
    from zoo.training import TrainingData

SECONDS = {"s": 1, "m": 60, "h": 3600, None: 1}

# ---------------------------------------------------------------------------------------- options


def add_data(parser: argparse.ArgumentParser, *, category: str = "the texture's name") -> None:
    """Add `--category`, `--data` and `--licence`, which `find_texture` reads."""
    parser.add_argument("--category", required=True, metavar="NAME", help=category)
    add_data_folder(parser)


def add_data_folder(parser: argparse.ArgumentParser) -> None:
    """Add `--data` and `--licence`, for a command that knows the texture's name."""
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="DIR",
        help="a data set in the layout of MVTec or NanoTWICE, a folder of good images, or a folder "
        "that contains one of these under the texture's name",
    )
    parser.add_argument("--licence", help="licence of the data, for the detector's card")


def add_detector(parser: argparse.ArgumentParser) -> None:
    """Add the name of a detector on the shelf."""
    parser.add_argument("name", help="a detector: TEXTURE, TEXTURE@ALIAS or TEXTURE:VERSION")


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add `--device`."""
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: cpu)")


def add_settings(parser: argparse.ArgumentParser, *, metavar: str = "FIELD=VALUE") -> None:
    """Add `--set`, whose values `setting` reads."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar=metavar,
        help="change one field of the configuration; may be repeated",
    )


def add_training(parser: argparse.ArgumentParser) -> None:
    """Add `--false-alarms`, `--look-again` and `--seed`."""
    _rates.add_rates(parser, default=0.05)
    parser.add_argument("--seed", type=int, default=0, help="random seed (default: 0)")


def add_reason(parser: argparse.ArgumentParser) -> None:
    """Add `--because`."""
    parser.add_argument("--because", metavar="WHY", help="the reason; the history keeps it")


def add_json(parser: argparse.ArgumentParser, *, prints: str = "one JSON object") -> None:
    """Add `--json`."""
    parser.add_argument("--json", action="store_true", help=f"print {prints}")


# --------------------------------------------------------------------------------- types of values


def seconds(text: str) -> float:
    """Read a time such as `90s`, `20m` or `2h`; a number alone is in seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|h)?", text)
    if not match or float(match[1]) <= 0:
        raise argparse.ArgumentTypeError(f"'{text}' is no time; write 90s, 20m or 2h")
    return float(match[1]) * SECONDS[match[2]]


def positive(text: str) -> int:
    """Read a whole number above 0."""
    if not re.fullmatch("[0-9]{1,9}", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number above 0")
    return int(text)


def no_picture(text: str) -> Path:
    """Read the name of a file to write, which must not be that of a picture."""
    from zoo.data.images import SUFFIXES

    if Path(text).suffix.lower() in SUFFIXES:
        raise argparse.ArgumentTypeError(f"'{text}' is the name of a picture; it would be replaced")
    return Path(text)


def several(text: str) -> int:
    """Read a number of seeds that have a spread: 2 or more."""
    number = positive(text)
    if number < 2:
        raise argparse.ArgumentTypeError("a spread takes 2 seeds or more")
    return number


def setting(text: str) -> tuple[str, Any]:
    """Read `FIELD=VALUE`; a value that is no JSON is a string.

    Raises:
        ConfigError: There is no `=`.
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--set takes FIELD=VALUE, not '{text}'. Write width=16, for example.")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


# -------------------------------------------------------------------------- what options refer to


def find_texture(args: argparse.Namespace, *, name: str | None = None) -> Texture:
    """Find the texture that `--category` (or `name`) and `--data` refer to."""
    from zoo.data import textures

    return textures.find(args.data, name or args.category, licence=args.licence)


def gather_data(texture: Texture) -> TrainingData:
    """Read and split the good pictures of a texture, and say what was found."""
    from zoo.training import gather

    data = gather(texture)
    say(f"Texture '{texture.name}', {texture.mode}, {texture.layout} layout, {texture.licence}.")
    say(data.splits.note)
    say(f"Camera: {data.optics}.")
    for note in data.notes:
        say(note)
    return data
