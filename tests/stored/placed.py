"""Puts the homes that older versions stored where a test wants them.

What is stored holds absolute paths of where it was made, `/tmp/zoo-stored/<name>`: MLflow's places
of artifacts, and in Ray's state of a search the folder that new trials are to be kept in. Both are
rewritten here, so that nothing is read from or written to that place.
"""

from __future__ import annotations

import pickletools
import sqlite3
import struct
import tarfile
from contextlib import closing
from pathlib import Path

STORED = Path(__file__).parent
MADE_AT = "/tmp/zoo-stored"
# Columns of mlflow.db that hold a path.
PATHS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("tags", "value"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def place(name: str, folder: Path, *, version: str = "0.1") -> Path:
    """Unpack a stored home into a folder, its own paths changed to where it is now.

    Args:
        name: `home` or `interrupted`.
        folder: Where to; the home is a folder of that name in it.
        version: What stored it.

    Returns:
        The home, for `ZOO_HOME`.
    """
    with tarfile.open(STORED / version / f"{name}.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    home = folder.resolve() / name
    old, new = f"{MADE_AT}/{name}", str(home)
    with closing(sqlite3.connect(home / "mlflow.db")) as database, database:
        for table, column in PATHS:
            database.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (old, new))
    for state in home.glob("searches/*/search_gen_state-*.json"):  # a pickle, whatever its name
        state.write_bytes(with_paths(state.read_bytes(), old, new))
    return home


def with_paths(pickled: bytes, old: str, new: str) -> bytes:
    """Return a pickle with the beginning of every text that begins with `old` replaced.

    Nothing is unpickled, so the names of classes stay those that the older version wrote.
    """
    opcodes = list(pickletools.genops(pickled))
    starts = [start or 0 for _, _, start in opcodes]
    made = bytearray()
    for (opcode, value, _), start, end in zip(
        opcodes, starts, [*starts[1:], len(pickled)], strict=True
    ):
        if opcode.name == "FRAME":  # says how many bytes follow, and may be left out
            continue
        if "UNICODE" in opcode.name and isinstance(value, str) and value.startswith(old):
            text = value.replace(old, new, 1).encode()
            made += b"X" + struct.pack("<I", len(text)) + text  # BINUNICODE
        else:
            made += pickled[start:end]
    return bytes(made)
