"""Is a cluster file ready for `ray up`? Asked offline: no cloud is called, nothing is started."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import ray
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from zoo.errors import ConfigError

PLACEHOLDER = re.compile(r"(?:ami-)?YOUR-[A-Z]+")
# A name at the top of the file and what it stands for, which may go on in further lines.
_NAMED = re.compile(rf"^#   ({PLACEHOLDER.pattern})\s+(\S.*(?:\n#    +\S.*)*)$", re.MULTILINE)
_IMAGE = re.compile(r":(?P<ray>\d+\.\d+\.\d+)-py(?P<major>\d)(?P<minor>\d+)\b")
_PIN = re.compile(r"^ray==(\S+)", re.MULTILINE)
CONSTRAINTS = "constraints.txt"


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing to be put right.

    Attributes:
        lines: Where, from 1; empty if it is no line of the file.
        text: What is wrong, and what to do.
    """

    lines: tuple[int, ...]
    text: str


def check(path: Path) -> list[Problem]:
    """Return all that is to be put right in a cluster file, in the order of its lines.

    Args:
        path: The file; a `constraints.txt` beside it is what its nodes install with.

    Raises:
        ConfigError: It is not there, or not YAML.
    """
    try:
        text = path.read_text("utf-8")
        content = yaml.safe_load(text)
    except OSError as error:
        raise ConfigError(
            f"There is no cluster file {path} to read ({error.strerror}). Take the project's "
            "ray_cluster.yaml and fill it in."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        said = " ".join(str(error).split())
        raise ConfigError(f"{path} is not YAML: {said}. Mend it.") from error
    if not isinstance(content, dict):
        raise ConfigError(
            f"{path} holds no cluster but {type(content).__name__}. Take the project's "
            "ray_cluster.yaml and fill it in."
        )
    found = [*_unfilled(text), *_against_schema(content), *_versions(content, text, path.parent)]
    found += _missing(content, text, path.parent)
    return sorted(found, key=lambda problem: problem.lines)


def _unfilled(text: str) -> Iterator[Problem]:
    """Name the placeholders that are left, each with what the top of the file says of it."""
    meaning = {name: " ".join(re.split(r"[\s#]+", said)) for name, said in _NAMED.findall(text)}
    code = "\n".join("" if _is_comment(line) else line for line in text.splitlines())
    for name in dict.fromkeys(PLACEHOLDER.findall(code)):
        said = f": {meaning[name]}" if name in meaning else ""
        yield Problem(lines=_lines_with(name, text), text=f"{name} is not filled in{said}")


def _against_schema(content: dict[str, Any]) -> Iterator[Problem]:
    logging.getLogger("ray.autoscaler").setLevel(logging.ERROR)  # it tells what it fills in
    try:
        validate_config(prepare_config(content))
    except jsonschema.ValidationError as error:
        where = ".".join(map(str, error.absolute_path)) or "the file"
        yield Problem(lines=(), text=f"Ray's schema refuses {where}: {error.message}")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        # Ray fills in its defaults before it looks whether the parts are there.
        yield Problem(lines=(), text=f"Ray cannot read it: {type(error).__name__} {error}")


def _versions(content: Mapping[str, Any], text: str, beside: Path) -> Iterator[Problem]:
    """Compare the Ray and Python of every image with those of this environment."""
    mine = (ray.__version__, f"{sys.version_info.major}.{sys.version_info.minor}")
    docker = _part(content, "docker")
    keys = ("image", "head_image", "worker_image")
    images = {key: str(docker[key]) for key in keys if docker.get(key)}
    for key, image in images.items():
        lines = _lines_with(image, text)
        tag = _IMAGE.search(image)
        if tag is None:
            yield Problem(
                lines=lines,
                text=f"docker.{key} is {image}, which does not say its Ray and Python; take "
                f"rayproject/ray:{mine[0]}-py{mine[1].replace('.', '')}-gpu or -cpu",
            )
        elif (theirs := (tag["ray"], f"{tag['major']}.{tag['minor']}")) != mine:
            yield Problem(
                lines=lines,
                text=f"docker.{key} has Ray {theirs[0]} with Python {theirs[1]}; here are Ray "
                f"{mine[0]} and Python {mine[1]}, and Ray takes no others: change one of them",
            )
    constraints = beside / CONSTRAINTS
    pinned = _PIN.search(constraints.read_text("utf-8")) if constraints.is_file() else None
    if pinned and pinned[1] != mine[0]:
        yield Problem(
            lines=(),
            text=f"{CONSTRAINTS} has ray=={pinned[1]}, this environment Ray {mine[0]}: install "
            "one of them everywhere",
        )


def _missing(content: Mapping[str, Any], text: str, beside: Path) -> Iterator[Problem]:
    """Name the files that every node is to get, and that are not here."""
    for source in _part(content, "file_mounts").values():
        if not (beside / Path(str(source)).expanduser()).exists():
            token = "auth_token" in str(source)
            yield Problem(
                lines=_lines_with(str(source), text),
                text=f"file_mounts takes {source}, which is not here"
                + ("; make it with `ray get-auth-token --generate`" if token else ""),
            )


def _part(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = content.get(name)
    return part if isinstance(part, Mapping) else {}  # the schema says what is wrong


def _lines_with(part: str, text: str) -> tuple[int, ...]:
    lines = enumerate(text.splitlines(), start=1)
    return tuple(n for n, line in lines if part in line and not _is_comment(line))


def _is_comment(line: str) -> bool:
    return line.lstrip().startswith("#")
