"""The `zoo` command, one function a subcommand: parse, call, print.

The answer goes to stdout, progress to stderr. Heavy rooms are imported inside the command that
needs them, so that `zoo --help` needs none.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import (
    BadImageError,
    BundleError,
    ConfigError,
    SearchError,
    StorageError,
    UnknownDetectorError,
    ZooError,
)

if TYPE_CHECKING:
    from registry.outbox import Outbox
    from registry.promote import Registry
    from search_spaces import Space
    from zoo.bundle import Bundle
    from zoo.confirm import Confirmed
    from zoo.listener import Plan
    from zoo.recipe import Materials
    from zoo.search import Found
    from zoo.textures import Texture

MAPS_SHOWN = 8  # example maps kept with a search: a page to look at
ALL = "all"
PATIENCE_AT_A_BAD_END_S = 10.0  # with MLflow, where somebody wants to know what went wrong


def _line(error: ZooError) -> str:
    """Write an error as one line; some quote a library that has more to say."""
    return " ".join(str(error).splitlines())


def say(line: str) -> None:
    """Tell the person who waits; stdout is for answers."""
    print(line, file=sys.stderr, flush=True)


def demo(args: argparse.Namespace) -> None:
    """Make the demo data set."""
    from zoo import demo as demo_room

    names = demo_room.TEXTURES if args.texture == "all" else (args.texture,)
    for name in names:
        print(demo_room.make(args.out, texture=name, seed=args.seed))


def search(args: argparse.Namespace) -> None:
    """Search, promote the winner, and say where it is."""
    if args.category == ALL:
        _search_all(args)
        return
    from registry import outbox, shelf
    from registry import promote as promote_room
    from registry import runs as runs_room
    from zoo import confirm as confirm_room
    from zoo import search as search_room

    home, texture = shelf.home(), _texture(args)
    if not args.no_promote:
        promote_room.check_test(texture)  # now: the audit reads it only at the end
    materials = _materials(texture)
    storage = home / "searches"
    space = _space(args, materials)
    plan = _resumed(args, materials, storage) if args.resume else _plan(args, materials, storage)
    if args.space is None:
        space, note = search_room.paced(space, plan.pace_s)
        if note:
            say(note)
    record = runs_room.SearchRuns(
        runs_room.open_store(runs_room.tracking_uri()),
        search=plan.name,
        texture=plan.texture,
        params=_facts(plan, materials, space),
    )
    log = outbox.Outbox(record, storage / plan.name, say=say)
    with _closing(log):
        with search_room.cluster(args.address):
            found = search_room.run(materials, space, plan, storage=storage, log=log, say=say)
            sure = None
            if args.confirm and not found.interrupted:
                sure = confirm_room.confirm(
                    found.kept, materials, plan, seeds=args.confirm, say=say
                )
        folder, summary = _conclude(args, materials, found, log, sure=sure)
    trial = sure.trial if sure else found.best_trial
    result = {"detector": str(folder), "trial": trial, **summary}
    if found.interrupted or args.no_promote:
        how = "Interrupted; what was found is kept." if found.interrupted else "Not promoted."
        say(
            f"{how} Best: {folder}. Promote it with `zoo promote {folder} --data {args.data}`"
            + (", or go on with the same command and --resume." if found.interrupted else ".")
        )
    else:
        try:
            result |= _promoted(folder, args, run_id=record.run_id)
        except StorageError as error:
            raise StorageError(
                f"{error} What was found is kept; when that is mended, promote it with "
                f"`zoo promote {folder} --data {args.data}`."
            ) from error
    _answer(result, args.json)


def _search_all(args: argparse.Namespace) -> None:
    """Search for all textures of MVTec at once, on one Ray."""
    from zoo import search as search_room
    from zoo import side_by_side

    names = side_by_side.textures_in(args.data)
    pace = args.pace or args.time_budget / len(names)
    given = {
        "--data": args.data,
        "--licence": args.licence,
        "--time-budget": f"{args.time_budget}s",
        "--pace": f"{pace}s",
        "--trials": args.trials,
        "--space": args.space,
        "--threads": args.threads,
        "--gpus-per-trial": args.gpus_per_trial,
        "--storage": args.storage,
        "--reports": args.reports,
        "--false-alarm-rate": args.false_alarm_rate,
        "--seed": args.seed,
        "--confirm": args.confirm,
    }
    options = [f"{name}={value}" for name, value in given.items() if value is not None]
    flags = {"--resume": args.resume, "--no-promote": args.no_promote}
    options += [name for name, wanted in flags.items() if wanted]
    say(f"Searching for {', '.join(names)} at once: all workers for whoever has a trial to run.")
    with search_room.cluster(args.address):
        options.append(f"--address={search_room.address()}")
        ended = side_by_side.search(names, options, say=say)
    if args.json:
        print(json.dumps({name: dict(each.answer) for name, each in ended.items()}))
    else:
        for name, each in ended.items():
            _answer({"texture": name, **each.answer}, as_json=False)
            print()
    if failed := [name for name, each in ended.items() if each.code]:
        raise SearchError(
            f"{len(failed)} of {len(names)} searches failed: {', '.join(failed)}. The reasons are "
            "above; go on with one by `zoo search --category NAME --resume`."
        )


@contextmanager
def _closing(log: Outbox) -> Iterator[None]:
    """Leave no run of a search running, however it ends."""
    try:
        yield
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt)
        try:
            log.close(
                {}, "interrupted" if stopped else "failed", patience_s=PATIENCE_AT_A_BAD_END_S
            )
        except StorageError as lost:
            say(f"zoo: {_line(lost)}")
        raise


def _conclude(
    args: argparse.Namespace,
    materials: Materials,
    found: Found,
    log: Outbox,
    *,
    sure: Confirmed | None,
) -> tuple[Path, dict[str, float]]:
    """Finish the best detector, and close the record with it and the figures of the search."""
    from zoo import bundle, recipe

    folder = found.best.parents[2] / "best"
    draft = sure.best if sure else bundle.load(found.best)
    best = recipe.finish(draft, materials, false_alarm_rate=args.false_alarm_rate)
    bundle.save(best, folder)
    log.champion(folder, _example_maps(best, materials, folder.parent / "maps"))
    counts = {f"trials_{name}": float(n) for name, n in found.outcomes.items()}
    value, least = draft.metrics["val_pixel_ap"], best.metrics["val_pixel_ap_floor"]
    summary = {
        "val_pixel_ap": value,
        "val_pixel_ap_floor": least,
        "seconds": found.seconds,
        **counts,
    }
    if sure:
        summary |= {
            "confirmed_val_pixel_ap": sure.mean,
            "confirmed_spread": sure.spread,
            "confirmed_seeds": float(len(sure.values)),
        }
    if value <= least:
        say(f"Local statistics, which learn nothing, do as well ({least:.3f}): search for longer.")
    log.close(summary, "interrupted" if found.interrupted else "finished", found.trials)
    return folder, summary


def train(args: argparse.Namespace) -> None:
    """Train one detector, without a search."""
    import torch

    from zoo import bundle, recipe

    materials = _materials(_texture(args))
    values = dict(map(_setting, args.set))
    preset = args.preset == "thesis"
    settings = recipe.with_values(recipe.thesis(), values) if preset else recipe.settings(values)
    if args.threads:
        torch.set_num_threads(args.threads)
    drafts: list[recipe.Draft] = []

    def report(draft: recipe.Draft) -> None:
        drafts[:] = [draft]
        losses = [f"{k} {v:.3g}" for k, v in draft.metrics.items() if k.startswith("train_")]
        ap = draft.metrics["val_pixel_ap"]
        say(f"report {draft.report}: val_pixel_ap {ap:.3f} | {', '.join(losses)}")

    recipe.make(materials, settings, seed=args.seed, device=args.device, report=report)
    made = recipe.finish(drafts[0].bundle, materials, false_alarm_rate=args.false_alarm_rate)
    bundle.save(made, args.out)
    say(f"Promote it with `zoo promote {args.out} --data {args.data}`.")
    _answer({"detector": str(args.out), **made.metrics}, args.json)


def score(args: argparse.Namespace) -> None:
    """Score images; print a JSON line for each, and write overlays where asked."""
    import zoo
    from zoo import report
    from zoo.textures import read_image

    detector = zoo.load(args.name, device=args.device)
    failed, overlays = [], _overlays(args.images)
    for path in args.images:
        try:
            pixels = read_image(path)
            found = detector.score(pixels)
        except BadImageError as error:
            failed.append(path)
            say(f"zoo: {_line(error)}")
            continue
        line = {
            "image": str(path),
            "score": round(found.score, 6),
            "threshold": found.threshold,
            "p_value": found.p_value,
            "is_anomalous": found.is_anomalous,
            "anomalous_pixels": int(found.mask.sum()),
        }
        if args.out:
            place = args.out / overlays[path]
            line["overlay"] = str(report.save(report.side_by_side(pixels, found), place))
        print(json.dumps(line), flush=True)
    if failed:
        raise BadImageError(
            f"{len(failed)} of {len(args.images)} images could not be scored; the others were. "
            "Replace them, then score them again."
        )


def names(args: argparse.Namespace) -> None:
    """List the detectors on the shelf."""
    import zoo

    found = zoo.names(args.pattern)
    if args.json:
        print(json.dumps(found))
        return
    for name in found:
        print(name)
    if not found:
        say("No detector yet. Make one with `zoo search --category NAME --data DIR`.")


def show(args: argparse.Namespace) -> None:
    """Show a detector's card."""
    import zoo

    card = zoo.show(args.name)
    if args.json:
        print(json.dumps(card))
        return
    metrics = {
        f"{split} metrics": ", ".join(f"{name} {value:.3f}" for name, value in figures.items())
        for split, figures in card.pop("metrics").items()
    }
    parts = {
        name: ", ".join(f"{key} {each}" for key, each in value.items())
        if isinstance(value, dict)
        else value
        for name, value in card.items()
    }
    _answer(metrics | parts, as_json=False)


def export(args: argparse.Namespace) -> None:
    """Write a detector as one file, once it has shown that it says the same."""
    import zoo
    from zoo import export as room
    from zoo.bundle import storage_error, write_whole
    from zoo.textures import read_image

    made = zoo.load(args.name).bundle
    pictures = [read_image(path) for path in args.check] or room.drawn(made, bits=args.bits)
    say("Tracing the detector; this may take a minute or two.")
    model = room.to_onnx(made, bits=args.bits)
    found = room.compare(made, model, pictures, bits=args.bits)
    out = args.out or Path(f"{made.texture}.onnx")
    if not found.difference <= room.MOST_DIFFERENCE:
        raise ConfigError(
            f"ONNX Runtime's scores of '{args.name}' differ by up to {found.difference:.2g} from "
            f"the detector's, where {room.MOST_DIFFERENCE:g} is allowed. Nothing was written; "
            "use zoo.load for this detector."
        )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(out, model)
    except OSError as error:
        raise storage_error(f"Cannot write {out}", error) from error
    say(f"Compared on {found.images} {'of your pictures' if args.check else 'drawn pictures'}.")
    answer = {"model": str(out), "megabytes": round(len(model) / 1e6, 2)} | vars(found)
    _answer(answer, args.json)


def runs(args: argparse.Namespace) -> None:
    """List the searches on record, and what they took."""
    import time
    from dataclasses import asdict

    from registry import runs as room

    found = room.searches(room.open_store(room.tracking_uri()), args.category)
    if args.json:
        print(json.dumps([asdict(each) for each in found]))
        return
    rows = [("SEARCH", "BEGAN", "STATE", *map(str.upper, room.STATUS), "RUNNING", "BEST", "HOURS")]
    for each in found:
        began = time.strftime("%Y-%m-%d %H:%M", time.localtime(each.began))
        counts = [f"{each.totals[f'trials_{name}']:.0f}" for name in room.STATUS]
        best = "-" if each.best is None else f"{each.best:.3f}"
        hours = [f"{each.totals[f'{kind}_seconds'] / 3600:.2f} {kind}" for kind in ("cpu", "gpu")]
        spent = ", ".join(hours if each.totals["gpu_seconds"] else hours[:1])
        rows.append((each.name, began, each.state, *counts, str(each.running), best, spent))
    if found:
        _table(rows)
    else:
        say("No search yet. Begin one with `zoo search --category NAME --data DIR`.")


def promote(args: argparse.Namespace) -> None:
    """Put a detector through the gate."""
    from zoo import bundle

    if args.force and not args.because:
        raise ConfigError(
            "--force takes --because: whoever loads the detector later will want to know why it is "
            'there. Add --because "...".'
        )
    if args.because and not args.force:
        raise ConfigError("--because says why the gate is overruled: add --force, or leave it out.")
    args.category = bundle.load(args.bundle).texture
    result = _promoted(args.bundle, args, because=args.because)
    _answer(result, args.json)
    if not result["promoted"]:
        sys.exit(2)


def rollback(args: argparse.Namespace) -> None:
    """Bring back the champion before this one."""
    from registry import promote as promote_room
    from registry.pointer import CHAMPION

    pointer = promote_room.roll_back(
        args.name, registry=_registry(), because=args.because or "", say=say
    )
    _answer({"texture": args.name, "champion": pointer.aliases[CHAMPION]}, args.json)


def history(args: argparse.Namespace) -> None:
    """Show what was promoted, refused, rolled back and removed."""
    import time
    from dataclasses import asdict

    from registry.shelf import open_shelf, pointer_of

    pointer = pointer_of(open_shelf(), args.name)
    if args.json:
        print(json.dumps([asdict(entry) for entry in pointer.history]))
        return
    rows = [("WHEN", "WHAT", "VERSION", "WHO", "VAL AP", "RUN", "REASON")]
    for entry in pointer.history:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.when))
        merit = entry.figures.get("val_pixel_ap")
        rows.append(
            (
                when,
                entry.act.replace("_", " "),
                str(entry.version),
                entry.who,
                "-" if merit is None else f"{merit:.3f}",
                (entry.run or "-")[:8],
                entry.reason,
            )
        )
    _table(rows)


def shelf(args: argparse.Namespace) -> None:
    """Look after the shelf."""
    from registry import keeping
    from registry.shelf import open_shelf

    place = open_shelf()
    if args.action == "verify":
        checked = list(keeping.verify(place))
        for each in checked:
            name = each.texture if each.version is None else f"{each.texture}:{each.version}"
            print(name, each.digest or "pointer", each.problem or "ok")
        if bad := sum(bool(each.problem) for each in checked):
            raise BundleError(
                f"{bad} of {len(checked)} versions or pointers are damaged, as listed. Promote "
                "them again, or remove versions with `zoo shelf remove`."
            )
    elif args.action == "gc":
        gone = keeping.collect(place, grace_s=args.older_than, dry=args.dry_run)
        for digest in gone:
            print(digest)
        say(f"{len(gone)} objects {'would go' if args.dry_run else 'are gone'}.")
    else:
        texture, _, version = (args.name or "").partition(":")
        if not version.isdigit():
            raise ConfigError(
                f"Say which version to remove, as `zoo shelf remove grid:3`, not '{args.name}'."
            )
        because = args.because or "no reason was given"
        place.change(texture, lambda old: old.without(int(version), because))
        say(f"{args.name} is no version any more. `zoo shelf gc` removes its bundle after a day.")


def bench(args: argparse.Namespace) -> None:
    """Fit systems side by side, measure them on the test images, and leave a table."""
    import os
    import time
    from dataclasses import asdict

    from registry import bench as room
    from registry import shelf

    texture, names = _texture(args), room.names_of(args.methods)
    if args.methods == "all":
        say(f"`all` leaves out `{room.THESIS}`, which takes hours; name it to have it.")
    plan = room.Plan(
        data=args.data,
        category=args.category,
        systems=room.systems(
            names,
            map(_setting, args.set),
            scale=args.scale,
            refitted=_refitted(args) if "fcbigan" in names else None,
        ),
        seeds=tuple(range(args.seed, args.seed + args.seeds)),
        threads=args.threads or os.cpu_count() or 1,
    )
    named = f"{texture.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    out = args.out or shelf.home() / "bench" / named
    rows = room.run(plan, texture, out=out, say=say)
    say(f"The tables and the plot are in {out}.")
    if args.json:
        print(json.dumps({"bench": str(out), "rows": [asdict(row) for row in rows]}))
    else:
        print((out / room.PAGE).read_text("utf-8"), end="")
    if not any(row.mean for row in rows):
        raise ConfigError(f"None of {', '.join(names)} could be fitted; the reasons are above.")


def audit(args: argparse.Namespace) -> None:
    """Measure every trial of an ended search on the test images."""
    from dataclasses import asdict

    from registry import hindsight, shelf

    texture = _texture(args)
    folder = hindsight.find_search(shelf.home() / "searches", texture, args.search)
    found = hindsight.audit_search(folder, texture, say=say)
    say(f"A line for each trial is in {folder / hindsight.TABLE}, a plot beside it.")
    _answer(asdict(found), args.json)


def cluster(args: argparse.Namespace) -> None:
    """Look whether a cluster file is ready for `ray up`."""
    from zoo import cluster_file

    problems = cluster_file.check(args.file)
    for problem in problems:
        where = ", ".join(map(str, problem.lines))
        print(f"{args.file}{f':{where}' if where else ''}: {problem.text}")
    if problems:
        raise ConfigError(f"Not ready for `ray up`: put right in {args.file} what is listed above.")
    print(f"{args.file} is ready: ray up {args.file}")


def parser() -> argparse.ArgumentParser:
    """Build the command's parser; docs/cli.md is made from it."""
    top = _Parser(
        prog="zoo",
        description="Find, keep and use anomaly detectors for textures.",
        epilog="example:\n  zoo demo --out demo-data\n"
        "  zoo search --category brick --data demo-data --time-budget 5m\n"
        "  zoo score brick demo-data/brick/test/*/*.png --out maps",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")
    using = (_score, _names, _show, _export, _history, _rollback)
    making = (_demo, _search, _train, *using, _runs, _promote)
    for build in (*making, _shelf, _bench, _audit, _cluster):
        build(commands)
    return top


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command; a user's mistake is one line on stderr and exit code 2."""
    args = parser().parse_args(argv)
    try:
        args.run(args)
    except ZooError as error:
        say(f"zoo: {_line(error)}")
        sys.exit(2)
    except BrokenPipeError:
        sys.exit(0)
    except KeyboardInterrupt:
        say("zoo: interrupted")
        sys.exit(130)


class _Parser(argparse.ArgumentParser):
    """argparse, but an error is one line, as everywhere else."""

    def error(self, message: str) -> Any:
        say(f"{self.prog}: {message}. See `{self.prog} --help`.")
        sys.exit(2)


Commands = Any  # argparse's own type for a group of subcommands is private


def _command(
    commands: Commands, run: Callable[[argparse.Namespace], None], help_: str, example: str
) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = commands.add_parser(
        run.__name__,
        help=help_,
        description=help_[0].upper() + help_[1:] + ".",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.set_defaults(run=run)
    return made


def _demo(commands: Commands) -> None:
    it = _command(
        commands,
        demo,
        "make a small data set from CC0 photographs of brick, grass and gravel",
        "zoo demo --out demo-data --texture brick",
    )
    it.add_argument("--out", type=Path, default=Path("demo-data"), metavar="DIR")
    it.add_argument("--texture", choices=("brick", "grass", "gravel", "all"), default="all")
    it.add_argument("--seed", type=int, default=0)


def _search(commands: Commands) -> None:
    it = _command(
        commands,
        search,
        "tune FCBiGAN for a texture with Ray Tune and Optuna, and promote the winner",
        "zoo search --category wood --data mvtec --time-budget 40m",
    )
    _add_data(
        it, category="the texture's name; `all` searches for MVTec's five at once, on one queue"
    )
    it.add_argument(
        "--time-budget", type=_seconds, default=1200.0, metavar="TIME", help="30m, 2h (20m)"
    )
    it.add_argument(
        "--pace",
        type=_seconds,
        metavar="TIME",
        help="train each trial as long as suits a search of this time (the time budget; with "
        "`--category all` its share of one texture)",
    )
    it.add_argument("--trials", type=_positive, default=200, help="at most so many (200)")
    it.add_argument("--space", type=Path, metavar="FILE", help="a search space of your own")
    it.add_argument("--threads", type=_positive, default=1, help="cores of each trial (1)")
    it.add_argument(
        "--gpus-per-trial", type=float, metavar="SHARE", help="(0.5 where there are GPUs)"
    )
    it.add_argument("--reports", type=_positive, default=8, help="reports of a full trial (8)")
    it.add_argument(
        "--storage",
        metavar="URL",
        help="where Ray keeps trials under way: s3://BUCKET/PREFIX, or a folder that all nodes of "
        "a cluster share; ZOO_STORAGE works too (the home)",
    )
    it.add_argument("--address", help="of a Ray cluster, or `auto`; RAY_ADDRESS works too")
    it.add_argument("--resume", action="store_true", help="go on with this texture's last search")
    it.add_argument(
        "--confirm",
        type=_several,
        metavar="K",
        help="train the three best configurations again with K other seeds, and take the one whose "
        "mean less its spread is highest; K times three further trials",
    )
    it.add_argument("--no-promote", action="store_true", help="keep the winner off the shelf")
    _add_common(it)


def _train(commands: Commands) -> None:
    it = _command(
        commands,
        train,
        "train one detector with settings you name, without a search",
        "zoo train --category wood --data mvtec --preset thesis --out wood-thesis",
    )
    _add_data(it)
    it.add_argument("--preset", choices=("thesis",), help="start from the thesis' settings")
    it.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="set one field"
    )
    it.add_argument("--out", type=Path, required=True, metavar="DIR", help="the bundle's folder")
    it.add_argument("--device", default="cpu")
    it.add_argument("--threads", type=int, default=0, help="torch's (all cores)")
    _add_common(it)


def _score(commands: Commands) -> None:
    it = _command(
        commands,
        score,
        "score images: one JSON line each, and heat maps",
        "zoo score wood plank1.png plank2.png --out maps",
    )
    it.add_argument("name", help="a texture, texture@alias or texture:version")
    it.add_argument("images", type=Path, nargs="+", metavar="IMAGE")
    it.add_argument("--out", type=Path, metavar="DIR", help="write overlays here")
    it.add_argument("--device", default="cpu")


def _names(commands: Commands) -> None:
    it = _command(commands, names, "list the detectors on the shelf", "zoo names 'c*'")
    it.add_argument("pattern", nargs="?", default="*", help="a wildcard")
    it.add_argument("--json", action="store_true")


def _show(commands: Commands) -> None:
    it = _command(commands, show, "show a detector's card", "zoo show wood@challenger")
    it.add_argument("name", help="a texture, texture@alias or texture:version")
    it.add_argument("--json", action="store_true")


def _export(commands: Commands) -> None:
    it = _command(
        commands,
        export,
        "write a detector as one ONNX file, preprocessing and threshold inside, and compare it "
        "with the detector under ONNX Runtime",
        "zoo export wood --to onnx --check planks/*.png",
    )
    it.add_argument("name", help="a texture, texture@alias or texture:version")
    it.add_argument("--to", choices=("onnx",), required=True)
    it.add_argument("--out", type=Path, metavar="FILE", help="where to (TEXTURE.onnx)")
    it.add_argument(
        "--check",
        type=Path,
        nargs="+",
        default=[],
        metavar="IMAGE",
        help="pictures to compare on (noise is drawn)",
    )
    it.add_argument(
        "--bits", type=int, choices=(8, 16), default=8, help="of a pixel's channel, 8 by default"
    )
    it.add_argument("--json", action="store_true")


def _runs(commands: Commands) -> None:
    it = _command(
        commands,
        runs,
        "list the searches on record: trials by outcome, the best so far, hours on devices",
        "zoo runs --category wood",
    )
    it.add_argument("--category", metavar="NAME", help="the searches of one texture only")
    it.add_argument("--json", action="store_true", help="print one JSON list")


def _promote(commands: Commands) -> None:
    it = _command(
        commands,
        promote,
        "put a detector through the gate; the winner is audited and published",
        "zoo promote wood-thesis --data mvtec",
    )
    it.add_argument("bundle", type=Path, metavar="BUNDLE", help="a bundle's folder")
    it.add_argument("--data", type=Path, required=True, metavar="DIR")
    it.add_argument("--licence", help="of the data")
    it.add_argument(
        "--force", action="store_true", help="make it champion whatever the gate says; --because"
    )
    it.add_argument("--because", metavar="WHY", help="kept in the history of the texture")
    it.add_argument("--json", action="store_true")


def _rollback(commands: Commands) -> None:
    it = _command(
        commands,
        rollback,
        "bring back the champion before this one, at once; a second time undoes it",
        'zoo rollback wood --because "too many false alarms on the night shift"',
    )
    it.add_argument("name", help="a texture")
    it.add_argument("--because", metavar="WHY", help="kept in the history of the texture")
    it.add_argument("--json", action="store_true")


def _history(commands: Commands) -> None:
    it = _command(
        commands,
        history,
        "show what was promoted, refused, rolled back and removed: when, by whom and why",
        "zoo history wood",
    )
    it.add_argument("name", help="a texture")
    it.add_argument("--json", action="store_true")


def _shelf(commands: Commands) -> None:
    it = _command(
        commands,
        shelf,
        "look after the shelf: `verify` hashes every byte again, `remove` takes a version away, "
        "`gc` removes the bundles that no version needs",
        "zoo shelf verify",
    )
    it.add_argument("action", choices=("verify", "gc", "remove"))
    it.add_argument("name", nargs="?", metavar="NAME:VERSION", help="what to remove")
    it.add_argument("--because", metavar="WHY", help="of a removal, kept in the history")
    it.add_argument(
        "--older-than",
        type=_seconds,
        default=24 * 3600.0,
        metavar="TIME",
        help="gc leaves what was written or removed later than so long ago (24h)",
    )
    it.add_argument("--dry-run", action="store_true", help="gc only says what would go")


def _bench(commands: Commands) -> None:
    it = _command(
        commands,
        bench,
        "fit systems side by side with several seeds and measure them on the test images",
        "zoo bench --category grid --data mvtec --methods all --seeds 3 --scale 0.5",
    )
    _add_data(it)
    it.add_argument(
        "--methods",
        default="all",
        metavar="NAMES",
        help="separated by commas: fcbigan (the champion's configuration), thesis, or baselines; "
        "all of them but thesis (all)",
    )
    it.add_argument("--seeds", type=_positive, default=3, metavar="K", help="fits of each (3)")
    it.add_argument("--seed", type=int, default=1, help="the first of the seeds (1)")
    it.add_argument(
        "--scale", type=float, default=0.5, help="of the baselines; FCBiGAN has its own (0.5)"
    )
    it.add_argument(
        "--bundle", type=Path, metavar="DIR", help="whose configuration fcbigan takes instead"
    )
    it.add_argument(
        "--set", action="append", default=[], metavar="METHOD.FIELD=VALUE", help="set one field"
    )
    it.add_argument("--threads", type=_positive, metavar="N", help="of each fit (all cores)")
    it.add_argument("--out", type=Path, metavar="DIR", help="for the tables and the plot")
    it.add_argument("--json", action="store_true", help="print one JSON object")


def _audit(commands: Commands) -> None:
    it = _command(
        commands,
        audit,
        "measure every trial of an ended search on the test images, to see how good its choice was",
        "zoo audit --category grid --data mvtec",
    )
    _add_data(it)
    it.add_argument("--search", metavar="NAME", help="a folder of searches/ (the newest)")
    it.add_argument("--json", action="store_true", help="print one JSON object")


def _cluster(commands: Commands) -> None:
    it = _command(
        commands,
        cluster,
        "look offline whether a cluster file is ready for `ray up`: placeholders, schema, versions",
        "zoo cluster check ray_cluster.yaml",
    )
    it.add_argument("action", choices=("check",))
    it.add_argument("file", type=Path, metavar="FILE")


def _add_data(it: argparse.ArgumentParser, *, category: str = "the texture's name") -> None:
    it.add_argument("--category", required=True, metavar="NAME", help=category)
    it.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="DIR",
        help="MVTec layout, NanoTWICE, or a folder of good images; or a folder that holds NAME",
    )
    it.add_argument("--licence", help="of the data, for the card")


def _add_common(it: argparse.ArgumentParser) -> None:
    it.add_argument(
        "--false-alarm-rate",
        type=float,
        default=0.05,
        metavar="RATE",
        help="share of good images allowed above the threshold (0.05)",
    )
    it.add_argument("--seed", type=int, default=0)
    it.add_argument("--json", action="store_true", help="print one JSON object")


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|h)?", text)
    if not match or float(match[1]) <= 0:
        raise argparse.ArgumentTypeError(f"'{text}' is no time; write 90s, 20m or 2h")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600, None: 1}[match[2]]


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number above 0")
    return int(text)


def _several(text: str) -> int:
    number = _positive(text)
    if number < 2:
        raise argparse.ArgumentTypeError("a spread takes 2 seeds or more")
    return number


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--set takes FIELD=VALUE, not '{text}'. Write width=16, for example.")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def _texture(args: argparse.Namespace) -> Texture:
    from zoo import textures

    return textures.find(args.data, args.category, licence=args.licence)


def _refitted(args: argparse.Namespace) -> Bundle | None:
    """Return the bundle whose configuration is fitted anew, the champion if none is named."""
    from registry.shelf import open_shelf
    from zoo import bundle

    if args.bundle:
        return bundle.load(args.bundle)
    try:
        return bundle.load(open_shelf().fetch(args.category))
    except UnknownDetectorError:
        return None
    except BundleError as error:  # the other systems need no champion
        say(f"zoo: {_line(error)}")
        return None


def _materials(texture: Texture) -> Materials:
    from zoo import recipe

    materials = recipe.gather(texture)
    say(f"Texture '{texture.name}', {texture.mode}, {texture.layout} layout, {texture.licence}.")
    say(materials.splits.note)
    return materials


def _plan(args: argparse.Namespace, materials: Materials, storage: Path) -> Plan:
    import os
    import time

    from zoo.listener import HUNG_AFTER_S, Plan
    from zoo.search import new_name, place_of

    trials_at = args.storage or os.environ.get("ZOO_STORAGE") or None
    if trials_at:
        place_of(trials_at)
    return Plan(
        name=new_name(storage, f"{materials.texture}-{time.strftime('%Y%m%d-%H%M%S')}"),
        texture=materials.texture,
        fingerprint=materials.fingerprint,
        seed=args.seed,
        trials=args.trials,
        time_budget_s=args.time_budget,
        threads=args.threads,
        gpus_per_trial=args.gpus_per_trial,
        reports=args.reports,
        pace_s=args.pace or args.time_budget,
        hung_after_s=max(HUNG_AFTER_S, args.time_budget / 4),  # trials grow with the budget
        storage=trials_at,
    )


def _resumed(args: argparse.Namespace, materials: Materials, storage: Path) -> Plan:
    """Take the last plan, with the time now given: its budget counts anew."""
    from dataclasses import replace

    from zoo.errors import SearchError
    from zoo.search import last_plan

    plan = last_plan(storage, materials.texture)
    if plan.fingerprint != materials.fingerprint:
        raise SearchError(
            f"The search {plan.name} was begun on other pictures ({plan.fingerprint[:19]}...) than "
            f"{args.data} holds now ({materials.fingerprint[:19]}...). Start a new one without "
            "--resume."
        )
    return replace(plan, time_budget_s=args.time_budget)


def _space(args: argparse.Namespace, materials: Materials) -> Space:
    """Read the space, and leave out what the pictures are too small for."""
    import search_spaces
    from zoo import recipe
    from zoo.search import fitting

    known = recipe.field_names()
    space = (
        search_spaces.load_file(args.space, known=known)
        if args.space
        else search_spaces.load(args.category, known=known)
    )
    space, note = fitting(space, recipe.smallest_side(materials), widen=args.space is None)
    if note:
        say(note)
    return space


def _facts(plan: Plan, materials: Materials, space: Space) -> dict[str, float | int | str]:
    from dataclasses import asdict

    return {
        **asdict(plan),
        "space": space.name,
        "licence": materials.licence,
        "fit": len(materials.splits.fit),
        "val": len(materials.splits.val),
        "calibration": len(materials.splits.calibration),
        "validation_windows": len(materials.validation),
    }


def _example_maps(best: Bundle, materials: Materials, folder: Path) -> list[Path]:
    """Write maps of some validation windows, one for each of the first families, and a sheet."""
    from zoo import defects, report
    from zoo.detector import Detector

    detector = Detector(best)
    windows = {window.family: window for window in materials.validation}
    rows = [
        report.side_by_side(window.image, detector.score(window.image), window.mask)
        for window in list(windows.values())[:MAPS_SHOWN]
    ]
    sheet = folder / "synthetic_defects.png"
    folder.mkdir(parents=True, exist_ok=True)
    defects.sheet(materials.splits.val, seed=materials.validation_seed).save(sheet)
    return [report.save(report.stacked(rows), folder / "maps_on_val.png"), sheet]


def _promoted(
    folder: Path, args: argparse.Namespace, *, run_id: str | None = None, because: str | None = None
) -> dict[str, Any]:
    """Put a detector through the gate, and return the verdict as an answer."""
    from registry import promote as promote_room

    verdict = promote_room.promote(
        folder,
        _texture(args),
        registry=_registry(),
        run_id=run_id,
        because=because,
        say=say,
    )
    say(f"{'Promoted' if verdict.promoted else 'Not promoted'}: {verdict.reason}")
    return {"promoted": verdict.promoted, "reason": verdict.reason, **verdict.metrics}


def _registry() -> Registry:
    from registry.promote import Registry
    from registry.runs import tracking_uri
    from registry.shelf import open_shelf

    return Registry(shelf=open_shelf(), tracking_uri=tracking_uri())


def _overlays(images: Sequence[Path]) -> dict[Path, str]:
    """Name overlays after their images; all with their folder where names alone would collide."""
    if len({image.name for image in images}) == len(images):
        return {image: f"{image.stem}.png" for image in images}
    return {image: f"{image.resolve().parent.name}_{image.stem}.png" for image in images}


def _table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        print("  ".join(cells).rstrip())


def _answer(values: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(values))
        return
    width = max(map(len, values))
    for name, value in values.items():
        shown = value
        if isinstance(value, float):
            shown = f"{value:.4f}" if abs(value) >= 1e-3 or not value else f"{value:.1e}"
        print(f"{name:<{width}}  {shown}")


if __name__ == "__main__":
    main()
