"""Compares systems: fits each with several seeds, and measures all on the same test pictures.

A system is a method with its configuration. Each fit runs in its own process, one after the other:
its peak memory can then be measured, and a crash costs one fit only. The tables are written again
after every fit. They are not used to choose anything, and the fitted detectors are not kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from registry.bundle import Bundle
from zoo import methods
from zoo.data.testset import has_test
from zoo.data.textures import Texture
from zoo.errors import BundleError, ConfigError, DataError, did_you_mean, one_line
from zoo.evaluation.audit import check
from zoo.evaluation.benchmark_fit import (
    BenchmarkConfig,
    Fit,
    Job,
    System,
    failed,
    fit_in_a_process,
    summarised,
)
from zoo.evaluation.benchmark_table import PAGE, Row, summary, write
from zoo.training import Settings, preset, settings_of, with_values

__all__ = ["PAGE", "BenchmarkConfig", "Row", "names_of", "run", "systems"]


def names_of(asked: str) -> tuple[str, ...]:
    """Return the names in a comma-separated list; `all` is all methods, without presets.

    Raises:
        ConfigError: A name is unknown.
    """
    if asked == "all":
        return tuple(methods.names())
    known = (*methods.names(), *methods.PRESETS)
    names = tuple(dict.fromkeys(name.strip() for name in asked.split(",")))
    for name in names:
        if name not in known:
            raise ConfigError(
                f"There is no method '{name}'; there are {', '.join(known)}, and `all`."
                f"{did_you_mean(name, known)}"
            )
    return names


def systems(
    names: Sequence[str],
    values: Iterable[tuple[str, Any]],
    *,
    scale: float,
    champion: Bundle | None,
) -> tuple[System, ...]:
    """Build all systems, so that a wrong value is refused before the first fit.

    Args:
        names: What `names_of` returned.
        values: Fields to set, as ("METHOD.FIELD", value).
        scale: The scale of the methods that run with their default configuration.
        champion: The bundle whose configuration is used for a method that needs a search; None
            if there is none.

    Raises:
        ConfigError: A field is unknown or a value out of its range.
    """
    wanted: dict[str, dict[str, Any]] = {name: {} for name in names}
    for path, value in values:
        name, dot, field = path.partition(".")
        if not dot or name not in wanted:
            raise ConfigError(
                f"--set takes METHOD.FIELD=VALUE here, with a method of this benchmark, not "
                f"'{path}'. It has {', '.join(names)}.{did_you_mean(name, names)}"
            )
        wanted[name][field] = value
    return tuple(_system(name, wanted[name], scale, champion) for name in names)


def _system(name: str, values: Mapping[str, Any], scale: float, champion: Bundle | None) -> System:
    if name in methods.PRESETS:
        return System(name=name, settings=with_values(preset(name), values), last=True)
    cls = methods.named(name)
    try:
        base = _searched(name, champion) if cls.searched else Settings(method=cls(), scale=scale)
    except BundleError as error:
        return System(name=name, settings=None, reason=str(error))
    return System(name=name, settings=with_values(base, values))


def _searched(name: str, champion: Bundle | None) -> Settings:
    """Return the configuration that a search found for a method."""
    if champion is None or champion.method != name:
        raise BundleError(
            f"There is no champion of method '{name}' with a configuration to fit again. "
            "Make one with `zoo search`, or name a bundle with --bundle."
        )
    return settings_of(champion)


def run(
    config: BenchmarkConfig, texture: Texture, *, out: Path, say: Callable[[str], None]
) -> list[Row]:
    """Fit and measure every system with every seed, and write the tables and the plot to `out`.

    Everything is written again after each fit, so that an interruption loses one fit only.

    Args:
        config: The systems, the seeds and the data.
        texture: The good pictures, as `textures.find` read them.
        out: Folder for the results; it must not hold a benchmark already.
        say: Receives a line before and after each fit.

    Raises:
        ConfigError: The folder holds another benchmark.
        DataError: There are no test images, or an image or a mask is damaged.
        StorageError: The folder cannot be written.
    """
    if not has_test(texture):
        raise DataError(
            f"There are no test images of '{texture.name}' in {texture.root}, so nothing can be "
            "compared. Give a data set with test/<kind> and ground_truth/<kind>."
        )
    if (out / PAGE).exists():
        raise ConfigError(f"{out} holds a benchmark already. Name another folder with --out.")
    check(texture)
    done: list[Fit] = []
    for system in config.systems:
        if system.reason:
            say(f"{system.name}: failed: {one_line(system.reason)}")
            done.append(failed(system, None, system.reason))
            write(done, config, texture, out)
            continue
        for seed in config.seeds:
            say(f"{texture.name}: {system.name}, seed {seed}, scale {system.scale} ...")
            job = Job(config=config, system=system, seed=seed, fingerprint=texture.fingerprint)
            done.append(fit_in_a_process(job))
            say(f"{texture.name}: {system.name}, seed {seed}: {summarised(done[-1])}")
            write(done, config, texture, out)
    return summary(done, texture)
