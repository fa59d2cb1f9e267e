"""The answers of `zoo search` and `zoo promote` in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zoo.cli.output import put_json, sections
from zoo.words import duration, outcomes


def show(title: str, values: Mapping[str, Any], *, as_json: bool = False) -> None:
    """Print what a search or a promotion has found, and its audit if there was one.

    Args:
        title: What the answer is about.
        values: The answer.
        as_json: Print it as one JSON object.
    """
    if as_json:
        put_json(values)
    else:
        sections(_parts(title, values))


def show_several(answers: Mapping[str, Mapping[str, Any]]) -> None:
    """Print the answers of several searches, by texture."""
    failed = [("Failed", "the reason is above.")]
    each = (_parts(name, found) if found else [(name, failed)] for name, found in answers.items())
    sections([part for parts in each for part in parts])


def _parts(title: str, values: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    from zoo.detectors import card_words

    lines = [
        ("Detector", str(values.get("detector", ""))),
        ("Painted defects", _painted(values)),
        ("Best trial", str(values.get("trial", ""))),
        ("Trials", _trials(values)),
        ("Other seeds", _confirmed(values)),
        ("Took", duration(values["seconds"]) if "seconds" in values else ""),
        ("Promoted", _promoted(values)),
        ("Report", str(values.get("report", ""))),
    ]
    parts = [(title, [(label, text) for label, text in lines if text])]
    if audit := card_words.audit(values):
        parts.append(("On test pictures with real defects", list(audit)))
    return parts


def _painted(values: Mapping[str, Any]) -> str:
    known = {
        "": values.get("val_pixel_ap"),
        " by the best trial alone": values.get("val_pixel_ap_trial"),
        " by what learns nothing": values.get("val_pixel_ap_untrained"),
    }
    said = [f"{value:.3f}{whose}" for whose, value in known.items() if value is not None]
    return f"{', '.join(said)} (average precision of pixels; 1 is best)" if said else ""


def _trials(values: Mapping[str, Any]) -> str:
    counts = {
        name.removeprefix("trials_"): value
        for name, value in values.items()
        if name.startswith("trials_")
    }
    return outcomes(counts.items()) or ("none" if counts else "")


def _confirmed(values: Mapping[str, Any]) -> str:
    if "confirmed_seeds" not in values:
        return ""
    mean, spread = values["confirmed_val_pixel_ap"], values["confirmed_spread"]
    return f"{mean:.3f}, with a spread of {spread:.3f} over {values['confirmed_seeds']:.0f} seeds"


def _promoted(values: Mapping[str, Any]) -> str:
    if "promoted" not in values:
        return ""
    return f"{'yes' if values['promoted'] else 'no'}. {values.get('reason', '')}".rstrip()
