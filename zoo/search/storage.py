"""Where a search keeps its configuration, its trials and its detectors."""

from __future__ import annotations

import itertools
import json
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pyarrow.fs import FileSelector, FileSystem, copy_files
from pyarrow.lib import ArrowException
from pydantic import TypeAdapter

from registry.trials import SEARCH_CONFIG
from zoo.errors import ConfigError, SearchError, StorageError, one_line
from zoo.files import read_object, storage_error, write_whole
from zoo.search.callback import DISK_FULL, detector_of
from zoo.search.config import SearchConfig
from zoo.search.trial import BUNDLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ray.train import Checkpoint

# Beginnings of the names of the files in which Ray saves the state of a search.
STATE_FILES = ("experiment_state", "searcher-state", "search_gen_state", "callback-states")


def place_of(storage: str | Path) -> tuple[FileSystem, str]:
    """Return the file system of an address or a whole path, and the path in it.

    Raises:
        ConfigError: It is neither an address of a known kind nor a whole path, or has credentials.
        StorageError: S3 does not answer when asked for the region of the bucket.
    """
    if "@" in urlsplit(str(storage)).netloc:
        raise ConfigError(
            f"'{storage}' has credentials in it, which a search would write to its files and to "
            "MLflow. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and write s3://BUCKET/PREFIX."
        )
    try:
        place: tuple[FileSystem, str] = FileSystem.from_uri(storage)
    except OSError as error:
        raise StorageError(
            f"Cannot reach {storage}: {error}. Check the network, the credentials and the bucket, "
            "then run the same command again."
        ) from error
    except ArrowException as error:
        raise ConfigError(
            f"'{storage}' is no place for trials: write s3://BUCKET/PREFIX, or the whole path of a "
            "folder that all nodes share."
        ) from error
    return place


def has_begun(config: SearchConfig, storage: Path) -> bool:
    """Return whether Ray has saved a whole state of this search, with all of its files."""
    filesystem, path = place_of(config.storage or storage)
    selector = FileSelector(f"{path}/{config.name}", allow_not_found=True)
    names = [
        file.base_name
        for file in filesystem.get_file_info(selector)
        if file.extension in ("json", "pkl")
    ]
    return all(any(name.startswith(f"{start}-") for name in names) for start in STATE_FILES)


def local_detector(checkpoint: Checkpoint, folder: Path) -> Path | None:
    """Return the path of a checkpoint's detector, after copying it there if Ray has it elsewhere.

    Ray keeps the rest of the checkpoint, which a resumed search needs. All detectors of a search
    are in its folder afterwards. The result is None if the checkpoint is gone: a better one has
    replaced it, and Ray was killed before it had saved that.
    """
    target = detector_of(checkpoint, folder)
    if not target.is_dir():
        part = target.with_name(f"{BUNDLE}.part")
        part.mkdir(parents=True, exist_ok=True)
        source = f"{checkpoint.path}/{BUNDLE}"
        try:
            copy_files(source, str(part), source_filesystem=checkpoint.filesystem)
        except FileNotFoundError:
            return None
        part.rename(target)
    return target


def stopped_error(config: SearchConfig, storage: Path, reason: str) -> StorageError:
    """Return the error of a search that its disk or S3 has stopped, with what to do."""
    where = config.storage or storage
    full = f"the disk that holds {where} is full. Free some space"
    refused = f"{where} cannot be read or written: {reason.rstrip('.')}. When that is mended"
    return StorageError(
        f"The search {config.name} was stopped: {full if DISK_FULL in reason else refused}, then "
        "go on with the same command and --resume."
    )


@contextmanager
def storage_errors(config: SearchConfig, storage: Path) -> Iterator[None]:
    """Translate the errors of a disk or of S3.

    Raises:
        StorageError: In place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise stopped_error(config, storage, str(error)) from error


def new_name(storage: Path, wanted: str) -> str:
    """Return the name, with a number if it is taken, and make the folder of that name.

    The folder reserves the name: two searches may start in the same second.

    Raises:
        StorageError: The folder cannot be made.
    """
    for number in itertools.count(1):
        name = wanted if number == 1 else f"{wanted}-{number}"
        try:
            (storage / name).mkdir(parents=True)
            return name
        except FileExistsError as error:
            if not (storage / name).is_dir():  # a file is in the way of `storage` itself
                raise storage_error(f"Cannot begin a search in {storage}", error) from error
        except OSError as error:
            raise storage_error(f"Cannot begin a search in {storage}", error) from error
    raise AssertionError("itertools.count does not end")


def write_config(config: SearchConfig, folder: Path) -> None:
    """Save the configuration of a search in its folder.

    Raises:
        StorageError: It cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / SEARCH_CONFIG, json.dumps(asdict(config), indent=1).encode())
    except OSError as error:
        raise storage_error(f"Cannot begin the search {config.name}", error) from error


def last_config(storage: Path, texture: str) -> SearchConfig:
    """Return the configuration of the newest search of a texture.

    Raises:
        SearchError: There is none, or its file is damaged.
    """
    known = {field.name for field in fields(SearchConfig)}
    saved = {path: read_object(path) for path in sorted(storage.glob(f"*/{SEARCH_CONFIG}"))}
    of_texture = [path for path, config in saved.items() if config.get("texture") == texture]
    if not of_texture:
        others = sorted(
            {str(config["texture"]) for config in saved.values() if "texture" in config}
        )
        raise SearchError(
            f"There is no search of '{texture}' under {storage} to resume; "
            f"{'there are searches of ' + ', '.join(others) if others else 'there is none at all'}"
            ". Start one without --resume."
        )
    path = of_texture[-1]
    try:
        values = {key: value for key, value in saved[path].items() if key in known}
        return TypeAdapter(SearchConfig).validate_python(values)
    except ValueError as error:
        raise SearchError(
            f"{path} is damaged: {one_line(error)}. Start a new search of '{texture}' without "
            "--resume."
        ) from error
