"""`zoo serve`: answer for the detectors of the shelf over HTTP."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from zoo.cli import _serve_options
from zoo.cli.output import put, say
from zoo.errors import ConfigError

if TYPE_CHECKING:
    from zoo.serve.settings import Settings

HELP = "serve the detectors of the shelf over HTTP: a page, JSON, heat maps, metrics"
EXAMPLE = "zoo serve wood grid --port 8080 --journal"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    _serve_options.add(parser)


def run(args: argparse.Namespace) -> None:
    """Serve until SIGTERM or Ctrl-C; or make a key.

    Raises:
        ZooError: It cannot start, with the reason.
    """
    from zoo.home import service_keys

    file = args.keys or service_keys()
    if args.new_key is not None:
        from zoo.serve.keys import new_key

        key = new_key(file, args.new_key)
        say(f"The key of {args.new_key}; it is shown this once. {file} has its digest only.")
        put(key)
        return
    from zoo.serve import app, server

    if args.private_key and not args.certificate:
        raise ConfigError("--private-key is the key of a certificate. Give --certificate too.")
    settings = _serve_options.settings(args, file if args.keys or file.exists() else None)
    server.check_exposed(args.host, settings)
    if args.certificate:
        server.check_certificate(args.certificate, args.private_key)
    server.log_to_stderr()
    with server.listen(args.host, args.port) as listening:
        built = app.build(settings)
        _say_where(args, settings, listening.getsockname()[1])
        running = server.server_of(
            built, certificate=args.certificate, private_key=args.private_key
        )
        running.run(sockets=[listening])


def _say_where(args: argparse.Namespace, settings: Settings, port: int) -> None:
    from zoo.https import is_loopback

    host = f"[{args.host}]" if ":" in args.host else args.host
    say(f"Serving at http{'s' if args.certificate else ''}://{host}:{port}/ until Ctrl-C.")
    if settings.keys and not args.certificate and not is_loopback(args.host):
        say(
            "Keys and pictures cross the network unencrypted. Give --certificate, or put a proxy "
            "with HTTPS before the service."
        )
