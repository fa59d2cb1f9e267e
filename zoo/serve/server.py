"""Runs the application under uvicorn: one process, until SIGTERM or Ctrl-C, and no request lost."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

from zoo.errors import ConfigError, visible, without_secrets
from zoo.https import is_loopback
from zoo.serve.connections import MOST_HEADER, Connection
from zoo.serve.settings import Settings

if TYPE_CHECKING:
    from fastapi import FastAPI

    from zoo.serve.service import Service

FAREWELL_S = 0.5  # after the end was asked for, for requests that are on their way
KEEP_ALIVE_S = 30  # of a connection without a request
COMPUTE_S = 60  # to finish a picture at the end
BACKLOG = 512


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that is bound to an address; port 0 is a free one.

    Raises:
        ConfigError: The address is not of this machine, or the port is taken or forbidden.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise ConfigError(
            f"'{host}' is no address of this machine: {error}. Give another with --host."
        ) from error
    family, kind, protocol, _, address = found[0]
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(BACKLOG)
    except OSError as error:
        made.close()
        told = {
            errno.EADDRINUSE: "another program has it; give another with --port, or end that one",
            errno.EACCES: "this user may not take it; give one above 1023 with --port",
            errno.EADDRNOTAVAIL: "that is no address of this machine; give another with --host",
        }
        why = told.get(error.errno or 0, f"{error.strerror or error}; give another")
        raise ConfigError(f"Cannot listen at port {port} of {host}: {why}.") from error
    return made


def check_exposed(host: str, settings: Settings) -> None:
    """Refuse to serve to other machines without keys.

    Raises:
        ConfigError: It would.
    """
    if settings.keys is None and not is_loopback(host):
        raise ConfigError(
            f"At {host} other machines can reach the service, and it has no keys. Make one with "
            "`zoo serve --new-key LABEL`, or serve at 127.0.0.1."
        )


def check_certificate(certificate: Path, private_key: Path | None) -> None:
    """Refuse a certificate that no connection can be made with.

    Raises:
        ConfigError: The files are missing or damaged, or do not belong together.
    """
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
            certificate, private_key, password=lambda: ""
        )
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{certificate} cannot be used as the certificate: {error}. Give a PEM file of the "
            "certificate and one of its private key, without a password."
        ) from error


def server_of(
    app: FastAPI, *, certificate: Path | None = None, private_key: Path | None = None
) -> uvicorn.Server:
    """Return a server of an application; `run(sockets=[...])` serves until SIGTERM or Ctrl-C.

    It finishes what was accepted, and then lets the signal end the program as it would have.

    Args:
        app: As `zoo.serve.app.build` returns it.
        certificate: For HTTPS, a PEM file.
        private_key: Of the certificate.
    """
    service: Service = app.state.service
    settings = service.settings
    config = uvicorn.Config(
        app,
        loop="asyncio",  # the same whether or not uvloop is installed
        http=Connection,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # a client could say to be any other
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=round(settings.body_s + settings.wait_s + COMPUTE_S),
        h11_max_incomplete_event_size=MOST_HEADER,
        ssl_certfile=certificate,
        ssl_keyfile=private_key,
    )
    return _Server(config, service)


class _Server(uvicorn.Server):
    """A server that says farewell before it ends."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no new connections, answer what is on its way, then end.

        uvicorn closes connections without a request at once. One may have been sent at that moment,
        and would be lost; so they are closed after the answers to what still comes.
        """
        self._service.is_stopping = True
        logging.getLogger("zoo.serve").info("Finishing what was accepted")
        for server in self.servers:
            server.close()
        await asyncio.sleep(FAREWELL_S)
        await super().shutdown(sockets)


class _Lines(logging.Formatter):
    """One line for each record, and the traceback of a fault of ours after it."""

    def format(self, record: logging.LogRecord) -> str:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        level = "" if record.levelno <= logging.INFO else f" {record.levelname.lower()}:"
        line = f"{when}{level} {visible(without_secrets(record.getMessage()))}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def log_to_stderr() -> None:
    """Write the log of the service to stderr, and of uvicorn what is a fault."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines())
    for name, level in (("zoo.serve", logging.INFO), ("uvicorn", logging.ERROR)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
