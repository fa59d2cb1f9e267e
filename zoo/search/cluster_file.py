"""Checks whether a cluster file is ready for `ray up`, offline: no cloud is asked."""

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

from zoo.errors import ConfigError, one_line
from zoo.files import TEXT, read_regular

PLACEHOLDER = re.compile(r"(?:ami-)?YOUR-[A-Z]+")
# A placeholder at the top of the file with its meaning, which may take several lines.
_NAMED = re.compile(rf"^#   ({PLACEHOLDER.pattern})\s+(\S.*(?:\n#    +\S.*)*)$", re.MULTILINE)
_IMAGE = re.compile(r":(?P<ray>\d+\.\d+\.\d+)-py(?P<major>\d)(?P<minor>\d+)\b")
_PIN = re.compile(r"^ray==(\S+)", re.MULTILINE)
CONSTRAINTS = "constraints.txt"


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that must be corrected.

    Attributes:
        lines: Numbers of the lines, from 1; empty if no line of the file is the cause.
        text: What is wrong, and what to do.
    """

    lines: tuple[int, ...]
    text: str


def check(path: Path) -> list[Problem]:
    """Return everything that must be corrected in a cluster file, in the order of its lines.

    Args:
        path: The file. The nodes install with the `constraints.txt` in its folder.

    Raises:
        ConfigError: The file cannot be read, or is no YAML.
    """
    try:
        text = read_regular(path, most=TEXT).decode("utf-8")
        content = yaml.safe_load(text)
    except OSError as error:
        raise ConfigError(
            f"The cluster file {path} cannot be read ({error.strerror}). Take the project's "
            "ray_cluster.yaml and fill it in."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {one_line(error)}. Correct it.") from error
    if not isinstance(content, dict):
        raise ConfigError(
            f"{path} holds {type(content).__name__} and no cluster. Take the project's "
            "ray_cluster.yaml and fill it in."
        )
    found = [*_unfilled(text), *_against_schema(content), *_versions(content, text, path.parent)]
    found += _missing(content, text, path.parent)
    return sorted(found, key=lambda problem: problem.lines)


def _unfilled(text: str) -> Iterator[Problem]:
    """List the placeholders that are left, each with its meaning from the top of the file."""
    meaning = {name: " ".join(re.split(r"[\s#]+", words)) for name, words in _NAMED.findall(text)}
    code = "\n".join("" if _is_comment(line) else line for line in text.splitlines())
    for name in dict.fromkeys(PLACEHOLDER.findall(code)):
        explained = f": {meaning[name]}" if name in meaning else ""
        yield Problem(lines=_lines_with(name, text), text=f"{name} is not filled in{explained}")


def _against_schema(content: dict[str, Any]) -> Iterator[Problem]:
    logging.getLogger("ray.autoscaler").setLevel(logging.ERROR)  # it logs each default
    try:
        validate_config(prepare_config(content))
    except jsonschema.ValidationError as error:
        where = ".".join(map(str, error.absolute_path)) or "the file"
        yield Problem(lines=(), text=f"Ray's schema refuses {where}: {error.message}")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        # Ray fills in its defaults before it checks that the sections are there.
        yield Problem(lines=(), text=f"Ray cannot read it: {type(error).__name__} {error}")


def _versions(content: Mapping[str, Any], text: str, beside: Path) -> Iterator[Problem]:
    """Compare Ray and Python of each Docker image with those of this environment."""
    here = (ray.__version__, f"{sys.version_info.major}.{sys.version_info.minor}")
    docker = _section(content, "docker")
    keys = ("image", "head_image", "worker_image")
    images = {key: str(docker[key]) for key in keys if docker.get(key)}
    for key, image in images.items():
        lines = _lines_with(image, text)
        tag = _IMAGE.search(image)
        if tag is None:
            yield Problem(
                lines=lines,
                text=f"docker.{key} is {image}, which does not name its Ray and Python; take "
                f"rayproject/ray:{here[0]}-py{here[1].replace('.', '')}-gpu or -cpu",
            )
        elif (found := (tag["ray"], f"{tag['major']}.{tag['minor']}")) != here:
            yield Problem(
                lines=lines,
                text=f"docker.{key} has Ray {found[0]} with Python {found[1]}; here are Ray "
                f"{here[0]} and Python {here[1]}, and Ray needs the same: change one of them",
            )
    constraints = beside / CONSTRAINTS
    pinned = _PIN.search(constraints.read_text("utf-8")) if constraints.is_file() else None
    if pinned and pinned[1] != here[0]:
        yield Problem(
            lines=(),
            text=f"{CONSTRAINTS} has ray=={pinned[1]}, this environment Ray {here[0]}: install "
            "one of them everywhere",
        )


def _missing(content: Mapping[str, Any], text: str, beside: Path) -> Iterator[Problem]:
    """List the files that `file_mounts` copies to every node, and that do not exist here."""
    for source in _section(content, "file_mounts").values():
        if not (beside / Path(str(source)).expanduser()).exists():
            token = "auth_token" in str(source)
            yield Problem(
                lines=_lines_with(str(source), text),
                text=f"file_mounts has {source}, which is not here"
                + ("; make it with `ray get-auth-token --generate`" if token else ""),
            )


def _section(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = content.get(name)
    return section if isinstance(section, Mapping) else {}  # `_against_schema` reports others


def _lines_with(word: str, text: str) -> tuple[int, ...]:
    lines = enumerate(text.splitlines(), start=1)
    return tuple(n for n, line in lines if word in line and not _is_comment(line))


def _is_comment(line: str) -> bool:
    return line.lstrip().startswith("#")
