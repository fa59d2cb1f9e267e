"""The forms of all answers, for OpenAPI and for programs that read them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field


class Refusal(BaseModel):
    """What every request is answered with that is not granted."""

    error: str = Field(description="A short code for programs, such as `bad_image`")
    message: str = Field(description="A sentence: what was asked, what was found, what to do")


class Region(BaseModel):
    """Connected pixels above the threshold of pixels."""

    top: int = Field(description="First row, in pixels")
    left: int = Field(description="First column")
    height: int
    width: int
    area: int = Field(description="Number of pixels")
    peak: float = Field(description="Largest value of the map in it; 1 is the threshold")
    mean: float
    centroid: tuple[float, float] = Field(description="Row and column")
    contour: list[tuple[int, int]] = Field(description="Row and column of the outline's corners")


class Thresholds(BaseModel):
    """The operating point of the answer, in units in which the detector's own threshold is 1."""

    picture: float = Field(description="A score above it is defective")
    look_again: float = Field(description="A score above it, up to `picture`, needs a second look")
    pixel: float = Field(description="A pixel above it is anomalous")
    share_of_peak: float = Field(
        default=0.0,  # of a service that is older
        description="An anomalous pixel has this share of the highest value near it",
    )
    smallest_region: int = Field(description="Pixels; smaller regions are left out")
    false_alarm_rate: float = Field(description="Expected share of good pictures above `picture`")
    false_alarm_interval: tuple[float, float] | None = Field(
        description="Where the true share lies, with 95 % confidence"
    )
    rule: str = Field(description="`conformal` (by rank, for scores of any kind) or `normal`")


class Scored(BaseModel):
    """The answer to a picture."""

    request_id: str
    name: str = Field(description="The name that was asked for")
    texture: str
    version: int
    digest: str = Field(description="SHA-256 of the detector's bundle")
    picture: str = Field(description="SHA-256 of the bytes that were sent")
    verdict: Literal["good", "look again", "defective"]
    is_anomalous: bool
    score: float = Field(description="1 is the detector's own threshold; higher is worse")
    thresholds: Thresholds
    p_value: float | None = Field(
        description="Share of good pictures that score as high; null with too few of them"
    )
    anomalous_pixels: int
    anomalous_share: float
    regions: list[Region] = Field(description="That of the highest peak first; at most 1,000")
    statistics: dict[str, float] = Field(description="Light, detail and colour of the picture")
    warnings: list[str] = Field(description="Why the score may be wrong, a sentence each")
    height: int
    width: int
    seconds: float = Field(description="To decode and score the picture, without waiting")
    map: str | None = Field(
        default=None,
        description="Base64; with `map=true` a grey PNG of 8 bits in which 128 is the threshold, "
        "with `map=float32` a file of NumPy",
    )


class Named(BaseModel):
    """A name that can be asked for."""

    name: str
    texture: str
    version: int
    digest: str
    loaded: bool = Field(description="Whether it is in memory; else the first picture waits for it")
    aliases: dict[str, int] = Field(description="The version that each alias stands for")


class Names(BaseModel):
    """All names that can be asked for; `TEXTURE:VERSION` and `TEXTURE@ALIAS` are others."""

    detectors: list[Named]


class Words(BaseModel):
    """A part of a card in words."""

    title: str
    lines: list[tuple[str, str]] = Field(description="A label, and a sentence or a value")


class Card(BaseModel):
    """The card of a detector."""

    name: str
    texture: str
    version: int
    digest: str
    words: list[Words]
    card: dict[str, Any] = Field(description="As `zoo show --json` prints it, but who published it")


class Change(BaseModel):
    """One change of what the names of a texture stand for."""

    act: Literal["promoted", "forced", "refused", "rolled_back", "removed"]
    version: int
    digest: str
    when: float = Field(description="Seconds since 1970")
    reason: str
    figures: dict[str, float | None]


class History(BaseModel):
    """The changes, the oldest first."""

    texture: str
    history: list[Change]


class Health(BaseModel):
    """That the service is well."""

    status: Literal["alive", "ready"]
