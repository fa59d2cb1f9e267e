"""`zoo search --category all`: one search for each of MVTec's textures, all at once."""

from __future__ import annotations

import argparse

from zoo.cli.output import answer, put, put_json, say
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
    with cluster(args.address):
        # Of an option that is given twice, the last one counts.
        options = [*args.argv, f"--pace={pace}s", f"--address={address()}"]
        ended = all_textures.search(names, options, say=say)
    if args.json:
        put_json({name: dict(each.answer) for name, each in ended.items()})
    else:
        for name, each in ended.items():
            answer({"texture": name, **each.answer}, as_json=False)
            put()
    if failed := [name for name, each in ended.items() if each.code]:
        raise SearchError(
            f"{len(failed)} of {len(names)} searches failed: {', '.join(failed)}. The reasons are "
            "above; continue one with `zoo search --category NAME --resume`."
        )
