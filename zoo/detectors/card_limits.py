"""What a user of a detector must know before trusting it, from its card, in words."""

from __future__ import annotations

from collections.abc import Iterator

from zoo.detectors.card_fields import Fields
from zoo.words import counted, percent

FEW = 19  # good pictures that a rate of 5 % by rank needs
WIDE = 0.2  # of the interval of the false-alarm rate


def limits(card: Fields) -> Iterator[tuple[str, str]]:
    """Yield a label and a sentence for each known limit."""
    yield from _decision(card.inner("lineage"))
    yield from _tested(card)
    yield from _pictures(card)
    yield from _threshold(card.inner("threshold"))
    if not card.inner("statistics").names():
        yield "No warnings", "It does not notice other light, focus or material."
    data = card.inner("data")
    if (data.text("licence") or "unknown") == "unknown":
        yield "Licence", "The licence of its pictures is unknown."
    if data.flag("non_commercial"):
        yield "Licence", "Its pictures may not be used commercially."
    if card.inner("lineage").flag("signed") is False:
        yield "Signature", "Nobody has signed it."


def _decision(lineage: Fields) -> Iterator[tuple[str, str]]:
    act = lineage.text("act")
    if act == "forced":
        yield "Forced", "The comparison refused it; a person made it champion all the same."
    elif act == "refused":
        yield "Refused", "The comparison refused it: it is no champion."
    elif act == "promoted" and " But: " in (reason := lineage.text("reason") or ""):
        yield "Doubts", reason.partition(" But: ")[2]
    if lineage.names() and lineage.whole("version") is not None and not lineage.texts("aliases"):
        yield "Replaced", "Another version is the champion now."


def _tested(card: Fields) -> Iterator[tuple[str, str]]:
    metrics = card.inner("metrics")
    found, painted = metrics.inner("test").numbers(), metrics.inner("val").numbers()
    if not found:
        yield "Not audited", "It was never tried on test pictures, or its limits changed since."
    defective = round(found.get("images", 0.0) - found.get("good_images", 0.0))
    rate = found.get("detection_rate")
    if defective > 0 and rate is not None and rate < 0.5:
        number = round(rate * defective)
        yield "Misses defects", f"It found {number or 'none'} of {defective} real defects."
    ends = card.inner("threshold").interval("false_alarm_interval")
    alarms = found.get("false_alarm_rate")
    if ends and alarms is not None and alarms > ends[1]:
        yield "False alarms", f"The audit saw {percent(alarms)}, more than is stated."
    own, other = painted.get("pixel_ap"), painted.get("pixel_ap_baseline")
    if own is not None and other is not None and other > own:
        yield "No gain by training", f"{own:.2f} on painted defects, {other:.2f} without."


def _pictures(card: Fields) -> Iterator[tuple[str, str]]:
    known = card.inner("threshold")
    images, alone = known.whole("images"), known.whole("independent")
    number = images if alone is None else alone
    if number is not None and number < FEW:
        what = "good picture" if alone is None else "independent good picture"
        yield "Few pictures", f"Its threshold was set on {counted(number, what)}."


def _threshold(known: Fields) -> Iterator[tuple[str, str]]:
    if (ends := known.interval("false_alarm_interval")) and ends[1] > WIDE:
        yield "False alarms are uncertain", f"Up to {percent(ends[1])} of good pictures."
    if known.text("rule") == "normal":
        yield "No p-value", "There are too few good pictures to say how unusual a picture is."
    if known.text("set_on") == "calibration and val":
        yield (
            "Calibrated in part on val",
            "Some of the pictures that set the threshold also chose the detector.",
        )
    if known.names() and not known.flag("varied"):
        yield "Not varied", "Its threshold was set without changes of light, focus and noise."
