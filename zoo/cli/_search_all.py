"""`zoo search --category all`: one search for each texture of a folder, all at once."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from zoo.cli import _answers
from zoo.cli._block import Block
from zoo.cli._search_progress import JSON, chosen
from zoo.cli._search_state import State, of_several
from zoo.cli.output import put_json, say
from zoo.errors import SearchError


def run(args: argparse.Namespace) -> None:
    """Search for all textures on one Ray, and print the answer of each search.

    Raises:
        SearchError: One or more of the searches failed.
    """
    from zoo.search import all_textures
    from zoo.search.cluster import address, cluster

    names = all_textures.textures_in(args.data)
    pace = args.pace or args.time_budget / len(names)
    say(f"Searching for {', '.join(names)} at once; they share all workers.")
    if objects := all_textures.objects_in(args.data):
        say(f"Left out, as no textures: {', '.join(objects)}. Name one with --category.")
    way = chosen(args.progress)
    inner = "lines" if way == "lines" else "json"
    with cluster(args.address):
        # Of an option that is given twice, the last one counts.
        options = [*args.argv, f"--pace={pace}s", f"--address={address()}", f"--progress={inner}"]
        with _shown(names, live=way == "live") as show:
            ended = all_textures.search(names, options, say=show)
    if args.json:
        put_json({name: dict(each.answer) for name, each in ended.items()})
    else:
        _answers.show_several({name: each.answer for name, each in ended.items()})
    if failed := [name for name, each in ended.items() if each.code]:
        raise SearchError(
            f"{len(failed)} of {len(names)} searches failed: {', '.join(failed)}. The reasons are "
            "above; continue one with `zoo search --category NAME --resume`."
        )


@contextmanager
def _shown(names: Sequence[str], *, live: bool) -> Iterator[Callable[[str, str], None]]:
    """Yield what receives the lines of the searches: in a block, or one after the other."""
    if not live:
        yield _say
        return
    states = {name: State(name=name, began=time.time()) for name in names}
    with Block(sys.stderr, partial(of_several, states)) as block:
        yield partial(_show, states, block)


def _show(states: dict[str, State], block: Block, name: str, line: str) -> None:
    """Put what a search says of itself into the block, and other lines above it."""
    if not line:
        states[name].doing = "has ended"
    elif (found := _state_in(line)) is None:
        _say(name, line)
    else:
        states[name].update(found)
    block.draw(soon=True)


def _state_in(line: str) -> dict[str, Any] | None:
    """Return the state of a search that a line holds; None if it is another line."""
    if not line.startswith("{"):
        return None
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return dict(found[JSON]) if isinstance(found, dict) and JSON in found else None


def _say(name: str, line: str) -> None:
    """Write a line of a search to stderr."""
    if state := _state_in(line):
        say(json.dumps({"texture": name, JSON: state}))
    elif line:
        say(f"{name}: {line}")
