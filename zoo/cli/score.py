"""`zoo score`: score images with a detector of the shelf."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from zoo.cli import options
from zoo.cli.output import overlay_names, say
from zoo.errors import BadImageError, one_line

HELP = "score images: print one JSON line for each, and write heat maps"
EXAMPLE = "zoo score wood plank1.png plank2.png --out maps"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    options.add_detector(parser)
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="image files")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="write each image and its map here, side by side"
    )
    options.add_device(parser)


def run(args: argparse.Namespace) -> None:
    """Score images, those after an unreadable one included.

    Raises:
        BadImageError: Some images could not be scored; the others were.
    """
    import zoo
    from zoo.data.images import read_image
    from zoo.report import overlays

    detector = zoo.load(args.name, device=args.device)
    failed, names = 0, overlay_names(args.images)
    for path in args.images:
        try:
            pixels = read_image(path)
            score = detector.score(pixels)
        except BadImageError as error:
            failed += 1
            say(f"zoo: {one_line(error)}")
            continue
        line = {
            "image": str(path),
            "score": round(score.score, 6),
            "threshold": score.threshold,
            "p_value": score.p_value,
            "is_anomalous": score.is_anomalous,
            "anomalous_pixels": int(score.mask.sum()),
        }
        if args.out:
            picture = overlays.picture_and_map(pixels, score)
            line["overlay"] = str(overlays.save(picture, args.out / names[path]))
        print(json.dumps(line), flush=True)
    if failed:
        raise BadImageError(
            f"{failed} of {len(args.images)} images could not be scored; the others were. "
            "Replace them, then score them again."
        )
