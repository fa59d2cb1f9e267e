"""`zoo serve`: answer for the detectors of the shelf over HTTP."""

from __future__ import annotations

import argparse

from zoo.cli import options
from zoo.cli.output import say

HELP = "serve the detectors of the shelf over HTTP"
EXAMPLE = "zoo serve wood grid --port 8080"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="answer for these names only (default: every name of the shelf)",
    )
    parser.add_argument("--port", type=int, default=8080, help="port (default: 8080)")
    options.add_device(parser)


def run(args: argparse.Namespace) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    import uvicorn

    from zoo.serve import app, settings

    built = app.build(settings.Settings(names=tuple(args.names), device=args.device))
    say(f"http://127.0.0.1:{args.port}/")
    uvicorn.run(built, host="127.0.0.1", port=args.port, log_level="warning")
