"""`zoo export`: write a detector as one ONNX file."""

from __future__ import annotations

import argparse
from pathlib import Path

from zoo.cli import options
from zoo.cli.output import answer, say
from zoo.errors import ConfigError

HELP = "write a detector with its preprocessing as one ONNX file, and check the file's scores"
EXAMPLE = "zoo export wood --to onnx --check planks/*.png"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    options.add_detector(parser)
    parser.add_argument("--to", choices=("onnx",), required=True, help="the format")
    parser.add_argument(
        "--out",
        type=options.no_picture,
        metavar="FILE",
        help="the file to write (default: TEXTURE.onnx)",
    )
    parser.add_argument(
        "--check",
        type=Path,
        nargs="+",
        default=[],
        metavar="IMAGE",
        help="images to compare on (default: random noise)",
    )
    parser.add_argument(
        "--bits",
        type=int,
        choices=(8, 16),
        default=8,
        help="bits per channel of the images that the file takes (default: 8)",
    )
    options.add_json(parser)


def run(args: argparse.Namespace) -> None:
    """Write the file if its scores equal those of the detector.

    Raises:
        ConfigError: They differ by more than is allowed.
        StorageError: The file cannot be written.
    """
    import zoo
    from registry.names import file_name
    from zoo.data.images import read_image
    from zoo.detectors import export
    from zoo.files import storage_error, write_whole

    made = zoo.load(args.name).bundle
    pictures = [read_image(path) for path in args.check] or export.drawn(made, bits=args.bits)
    say("Tracing the detector; this may take a minute or two.")
    model = export.to_onnx(made, bits=args.bits)
    found = export.compare(made, model, pictures, bits=args.bits)
    out = args.out or Path(f"{file_name(made.texture)}.onnx")
    if not found.difference <= export.MOST_DIFFERENCE:
        raise ConfigError(
            f"ONNX Runtime's scores of '{args.name}' differ by up to {found.difference:.2g} from "
            f"the detector's, where {export.MOST_DIFFERENCE:g} is allowed. Nothing was written; "
            "use zoo.load for this detector."
        )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(out, model)
    except OSError as error:
        raise storage_error(f"Cannot write {out}", error) from error
    say(f"Compared on {found.images} {'of your images' if args.check else 'images of noise'}.")
    values = {"model": str(out), "megabytes": round(len(model) / 1e6, 2)} | vars(found)
    answer(values, as_json=args.json)
