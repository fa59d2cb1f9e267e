"""Exports a detector as one ONNX file, for machines without torch.

torch traces the functions that `Detector.score` calls, with variable sides of the picture. ONNX
Runtime must then give the same scores as `Detector.score`.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from registry.bundle import Bundle
from zoo import methods
from zoo.data.images import LUMA
from zoo.data.preprocessing import scaled
from zoo.detectors.card import Card, Pipeline, part_names, read
from zoo.detectors.detector import Detector
from zoo.detectors.ready import Weights, built
from zoo.detectors.score import calibrated
from zoo.errors import BadImageError, ConfigError
from zoo.scoring.aggregation import anomaly_map
from zoo.scoring.fusion import added, log_tail
from zoo.scoring.maps import enlarge, image_score

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
OPSET = 18  # the first with an antialiased Resize, and still read by older runtimes
MOST_DIFFERENCE = 1e-4  # between `Detector.score` and the file, where the threshold is 1

Bits = Literal[8, 16]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """An ONNX file compared with the detector that it was made from.

    Attributes:
        images: Number of pictures that both scored.
        difference: Largest difference of a pixel of a map or of a score; the threshold is 1.
        torch_s: Median seconds an image of `Detector.score`.
        onnx_s: Median seconds an image of ONNX Runtime, with as many threads.
    """

    images: int
    difference: float
    torch_s: float
    onnx_s: float


def to_onnx(bundle: Bundle, *, bits: Bits = 8) -> bytes:
    """Return a detector as an ONNX model: preprocessing, networks, scoring and threshold.

    The input `image` is "h w c", unsigned integers, one or three channels; no side may be shorter
    than `smallest_side` of the metadata. The outputs are those of `Score`: `map` "h w", `score`,
    `is_anomalous`, and `p_value` if the detector has one. The whole image is computed at once.

    Args:
        bundle: The bundle of the detector.
        bits: Bits of a channel of a pixel: 8 or 16.

    Raises:
        ConfigError: The method has no form for images of all sizes, or a package is missing.
    """
    _check_packages()
    card = read(bundle)
    _check_methods(bundle, card)
    from onnx_ir.passes.common import DeduplicateInitializersPass

    graph = _Graph(bundle, bits).eval()
    scales = [each.preprocessing.scale for each in _used(card).values()]
    height, width = (_padded_side(turn * _smallest(card), scales) for turn in (2, 3))
    example = torch.zeros(height, width, 3, dtype=graph.kind)
    sides = {"colour": {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}}
    with _quietly():
        traced = torch.export.export(graph, (example,), dynamic_shapes=sides)
        program = torch.onnx.export(
            traced,
            input_names=["colour"],
            output_names=graph.outputs,
            opset_version=OPSET,
            custom_translation_table={round: _round},
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    # The traced program has a copy of the weights for each view of the image.
    DeduplicateInitializersPass(size_limit=2**31)(program.model)
    return _finished(program.model_proto, bundle)


def session_of(model: bytes) -> Any:
    """Open an ONNX model in ONNX Runtime, with as many threads as torch has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def compare(
    bundle: Bundle,
    model: bytes,
    pictures: Sequence[Shaped[np.ndarray, "_ _ _"]],
    *,
    bits: Bits = 8,
) -> Comparison:
    """Score pictures with a detector and with its ONNX model under ONNX Runtime.

    Args:
        bundle: The bundle that the model was made from.
        model: The result of `to_onnx`.
        pictures: "h w c", uint8 or uint16, at least one.
        bits: Bits of a channel that the model takes.

    Raises:
        BadImageError: A picture is too small, or has 16 bits where the model takes 8.
    """
    detector, least = Detector(bundle), _smallest(read(bundle))
    session = session_of(model)
    differences, torch_s, onnx_s = [], [], []
    for pixels in (_fitting(bundle, each, bits, least) for each in pictures):
        began = time.perf_counter()
        ours = detector.score(pixels)
        scored = time.perf_counter()
        anomaly, score = session.run(["map", "score"], {"image": pixels})
        onnx_s.append(time.perf_counter() - scored)
        torch_s.append(scored - began)
        differences += [np.abs(anomaly - ours.map).max(), abs(float(score) - ours.score)]
    return Comparison(
        images=len(pictures),
        difference=float(np.max(differences)),
        torch_s=float(np.median(torch_s)),
        onnx_s=float(np.median(onnx_s)),
    )


def drawn(bundle: Bundle, *, bits: Bits = 8) -> list[Shaped[np.ndarray, "_ _ _"]]:
    """Return pictures of noise, of several sizes, for a comparison without real pictures."""
    card = read(bundle)
    rng, smallest = np.random.default_rng(0), _smallest(card)
    top, kind = 2**bits, np.uint8 if bits == 8 else np.uint16
    sides = [(smallest, smallest), (3 * smallest + 1, 2 * smallest + 3), (512, 640), (480, 301)]
    channels = 3 if card.mode == "RGB" else 1
    return [
        rng.integers(0, top, (max(height, smallest), max(width, smallest), channels), kind)
        for height, width in sides
    ]


class _Graph(nn.Module):
    """`Detector.score` with tensors as input and output, so that torch can trace it."""

    def __init__(self, bundle: Bundle, bits: Bits) -> None:
        super().__init__()
        self.ready = built(bundle, torch.device("cpu"))
        self.most = int(2**bits - 1)
        self.kind = torch.uint8 if bits == 8 else torch.uint16
        good = self.ready.card.limits.good_scores
        self.outputs = ["map", "score", "is_anomalous"] + ["p_value"] * bool(good)

    def forward(self, colour: Shaped[Tensor, "h w 3"]) -> tuple[Tensor, ...]:
        """Score one image."""
        card, limits = self.ready.card, self.ready.card.limits
        anomaly, scored = self._maps(colour, card.map_weights, card.score_weights)
        score = image_score(scored, card.top_fraction)
        found = calibrated(score, limits.picture)
        outputs = calibrated(anomaly, limits.pixel), found, found > 1
        if not limits.good_scores:
            return outputs
        weights = score.new_tensor(limits.good_weights)
        as_high = (weights * (score.new_tensor(limits.good_scores) >= score)).sum()
        return (*outputs, (1 + as_high) / (1 + weights.sum()))

    def _maps(self, colour: Shaped[Tensor, "h w 3"], *sums: Weights) -> list[Tensor]:
        """Return the maps with these weights, as `Ready.maps` does."""
        height, width = colour.shape[:2]
        unit, card = self._unit(colour).permute(2, 0, 1), self.ready.card
        values: list[Tensor | None] = []
        for at, (each, losses) in enumerate(zip(card.pipelines, self.ready.losses, strict=True)):
            if losses is None:
                values.append(None)
                continue
            x = scaled(unit, each.preprocessing)
            found = enlarge(anomaly_map(losses(x[None])[0], each.calibration), height, width)
            values.append(log_tail(found, card.fusion.tails[at]) if card.fusion else found)
        return [added(values, weights) for weights in sums]

    def _unit(self, colour: Shaped[Tensor, "h w 3"]) -> Float[Tensor, "h w k"]:
        """Convert pixels to the mode of the detector, from 0 to 1, as `to_mode` and `unit` do."""
        if self.ready.card.mode == "RGB":
            return colour.float() / self.most
        # Whole numbers below 2 ** 24 or 2 ** 53, which float32 or float64 hold exactly.
        whole = colour.float() if self.most == 255 else colour.double()
        red, green, blue = (w * each for w, each in zip(LUMA, whole.unbind(-1), strict=True))
        luma = ((red + green + blue + 0x8000) / 65536).floor()
        return (luma.float() / self.most)[:, :, None]


def _fitting(
    bundle: Bundle, pixels: Shaped[np.ndarray, "h w c"], bits: Bits, least: int
) -> Shaped[np.ndarray, "h w c"]:
    height, width = pixels.shape[:2]
    if min(height, width) < least:
        raise BadImageError(
            f"The picture has {height}x{width} pixels; the model of '{bundle.texture}' needs "
            f"{least} or more on each side. Compare on larger pictures."
        )
    if pixels.dtype == np.uint16 and bits == 8:
        raise BadImageError(
            "The picture has 16 bits a channel, and the model is made for 8. Export with --bits 16."
        )
    return pixels if bits == 8 else np.uint16(257 if pixels.dtype == np.uint8 else 1) * pixels


def _used(card: Card) -> dict[int, Pipeline]:
    """Return the pipelines that the map or the score depends on, by their place."""
    return {at: each for at, each in enumerate(card.pipelines) if card.used[at]}


def _smallest(card: Card) -> int:
    """Return the smallest side of an image that the model takes, in pixels."""
    least = []
    for each in _used(card).values():
        side = each.method.export_side
        assert side is not None  # `to_onnx` has refused other methods
        least.append(each.smallest(max(side, each.calibration.rule.mean_filter)))
    return int(max(least))


def _padded_side(least: int, scales: Sequence[float]) -> int:
    """Return a side of an image, so that at each scale every padding is traced.

    A scaled side is padded to a multiple of a power of two, so it should be odd. With the scales
    1 and 0.5 it cannot be odd at both; then it is divisible by 2 and not by 4 at one of them.
    """

    def twos(side: int) -> list[int]:
        return sorted(
            (round(side * scale) & -round(side * scale) for scale in scales), reverse=True
        )

    return min(range(least, 2 * least + 64), key=twos)


def _round(value: Any, digits: None = None) -> Any:
    """Translate Python's `round` of a size to ONNX; both round halves to even."""
    from onnxscript import INT64
    from onnxscript import opset18 as op

    return op.Cast(op.Round(value), to=INT64.dtype)


def _finished(model: Any, bundle: Bundle) -> bytes:
    """Make the model accept grey and colour, name its sides, and add the metadata."""
    from onnx import TensorProto, checker, helper

    (colour,) = model.graph.input
    kind = colour.type.tensor_type.elem_type
    model.graph.input.pop()
    model.graph.input.append(helper.make_tensor_value_info("image", kind, ["h", "w", "c"]))
    three = helper.make_tensor("three", TensorProto.INT64, [3], [1, 1, 3])
    model.graph.initializer.append(three)
    model.graph.node.insert(0, helper.make_node("Expand", ["image", "three"], [colour.name]))
    del model.graph.value_info[:]
    for dim, name in zip(model.graph.output[0].type.tensor_type.shape.dim, "hw", strict=True):
        dim.dim_param = name
    helper.set_model_props(
        model,
        {
            "texture": bundle.texture,
            "method": bundle.method,
            "false_alarm_rate": str(bundle.threshold["false_alarm_rate"]),
            "smallest_side": str(_smallest(read(bundle))),
            "licence": str(bundle.data.get("licence")),
            "fingerprint": str(bundle.data.get("fingerprint")),
        },
    )
    checker.check_model(model)
    return bytes(model.SerializeToString())


def _check_packages() -> None:
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"A detector is exported by {', '.join(PACKAGES)}; {' and '.join(missing)} is not "
            "installed. Run `pip install 'texture-zoo[onnx]'`."
        )


def _check_methods(bundle: Bundle, card: Card) -> None:
    unable = [at for at, each in _used(card).items() if each.method.export_side is None]
    if not unable:
        return
    able = [name for name in methods.names() if methods.named(name)().export_side]
    if card.fusion is None:
        raise ConfigError(
            f"The detector '{bundle.texture}' is made by method '{bundle.method}', which has no "
            f"form for images of all sizes. Export one that is made by {', '.join(able)}."
        )
    names = part_names(bundle)
    raise ConfigError(
        f"The detector '{bundle.texture}' has the part{'s' * (len(unable) > 1)} "
        f"{' and '.join(repr(names[at]) for at in unable)}, whose method has no form for images of "
        f"all sizes. Export one whose parts are made by {', '.join(able)}."
    )


@contextmanager
def _quietly() -> Iterator[None]:
    """Hide the warnings and log lines of the torch exporter."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
