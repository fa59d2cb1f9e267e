"""The four equal forms of the discriminator, z, and the receptive fields of the networks."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from zoo.errors import ConfigError
from zoo.methods import pieces
from zoo.methods.fcbigan.config import LATENT_PLANES, NetworkConfig, receptive_field
from zoo.methods.fcbigan.networks import Networks, Segmenter, whole_cells
from zoo.methods.fcbigan.scorer import fcbigan_losses
from zoo.methods.fcbigan.training import new_networks

NORMS = ("none", "batch")
HEIGHT, WIDTH = 24, 32


def drawn(*shape: int, seed: int = 7) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def built(seed: int = 0, **values: Any) -> Networks:
    """Build tiny networks with random batch norm statistics, in evaluation mode."""
    shape = {"patch": 16, "depth": 2, "discriminator_depth": 2, "width": 4, "latent_channels": 3}
    found = new_networks(NetworkConfig(**{**shape, **values}), channels=1, seed=seed)
    generator = torch.Generator().manual_seed(seed + 1)
    for name, values_of in itertools.chain(found.named_parameters(), found.named_buffers()):
        if name.endswith("bias") or name.endswith("running_mean"):
            values_of.detach().normal_(generator=generator)
        if name.endswith("running_var"):
            values_of.uniform_(0.5, 2, generator=generator)
    return found.eval()


@pytest.fixture(params=NORMS)
def gan(request: pytest.FixtureRequest) -> Networks:
    return built(discriminator_norm=request.param)


@pytest.fixture
def pair(gan: Networks) -> Tensor:
    """A random image with random latent cells, enlarged, of 24 by 32 pixels."""
    x = drawn(1, 1, HEIGHT, WIDTH)
    with torch.no_grad():
        return gan.discriminator.pair(x, drawn(1, 3, HEIGHT // 4, WIDTH // 4, seed=8))


# ----------------------------------------------------------------------- four forms of one output


@torch.no_grad()
def test_the_dense_discriminator_is_shift_and_stitch(gan: Networks, pair: Tensor) -> None:
    windows, stride = gan.discriminator.windows, 2**gan.config.discriminator_depth
    dense = windows(pair, 1)
    stitched = torch.full_like(dense, torch.nan)
    for top, left in itertools.product(range(stride), repeat=2):
        stitched[:, top::stride, left::stride] = windows(pair[..., top:, left:])
    assert dense.shape == (1, HEIGHT - 9, WIDTH - 9)
    assert dense.std() > 0.1
    assert float((dense - stitched).abs().max()) < 1e-5


@torch.no_grad()
def test_the_dense_discriminator_scores_patch_by_patch(gan: Networks, pair: Tensor) -> None:
    windows, side = gan.discriminator.windows, gan.discriminator.windows.side
    dense = windows(pair, 1)
    places = list(itertools.product(range(HEIGHT - side + 1), range(WIDTH - side + 1)))
    cuts = torch.cat([pair[..., top : top + side, left : left + side] for top, left in places])
    alone = windows(cuts)
    assert alone.shape == (len(places), 1, 1)
    assert float((dense.flatten() - alone.flatten()).abs().max()) < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("stride", [2, 4])
def test_a_partial_output_stride_agrees_at_its_grid_points(
    gan: Networks, pair: Tensor, stride: int
) -> None:
    dense = gan.discriminator.windows(pair, 1)[:, ::stride, ::stride]
    sparse = gan.discriminator.windows(pair, stride)
    assert sparse.shape == dense.shape
    assert float((dense - sparse).abs().max()) < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("depth", [1, 3])
def test_dense_and_strided_agree_at_other_depths(depth: int) -> None:
    gan = built(patch=32, discriminator_depth=depth)
    pair = gan.discriminator.pair(drawn(1, 1, 32, 44), drawn(1, 3, 8, 11))
    dense = gan.discriminator.windows(pair, 1)[:, :: 2**depth, :: 2**depth]
    assert float((dense - gan.discriminator.windows(pair)).abs().max()) < 1e-5


@torch.no_grad()
def test_the_trained_form_judges_windows_from_the_top_left_corner_on(
    gan: Networks, pair: Tensor
) -> None:
    x, z = drawn(1, 1, HEIGHT, WIDTH), drawn(1, 3, HEIGHT // 4, WIDTH // 4, seed=8)
    every = gan.discriminator.windows(pair, 1)
    torch.testing.assert_close(gan.discriminator(x, z), every[:, ::4, ::4])


@torch.no_grad()
def test_a_verdict_of_the_image_is_that_of_the_window_around_its_pixel(
    gan: Networks, pair: Tensor
) -> None:
    everywhere = gan.discriminator.windows.everywhere(pair)
    inner, half = gan.discriminator.windows(pair, 1), gan.discriminator.windows.side // 2
    assert everywhere.shape == (1, HEIGHT, WIDTH)
    middle = everywhere[:, half : half + inner.shape[1], half : half + inner.shape[2]]
    assert float((middle - inner).abs().max()) < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_a_pixel_at_the_edge_has_the_verdict_of_the_nearest_whole_window(
    gan: Networks, pair: Tensor, stride: int
) -> None:
    windows = gan.discriminator.windows
    everywhere = windows.everywhere(pair, output_stride=stride)
    judged, half = windows(pair, 1), windows.side // 2
    corner = everywhere[:, : half + 1, : half + 1]
    assert bool((corner == corner[:, -1:, -1:]).all())
    torch.testing.assert_close(everywhere[:, 0, 0], judged[:, 0, 0])
    if stride == 1:
        torch.testing.assert_close(everywhere[:, -1, -1], judged[:, -1, -1])
        torch.testing.assert_close(everywhere[:, 0, half : half + judged.shape[2]], judged[:, 0, :])


@torch.no_grad()
@pytest.mark.parametrize("stride", [2, 4])
def test_interpolated_verdicts_are_exact_at_their_grid_points(
    gan: Networks, pair: Tensor, stride: int
) -> None:
    dense = gan.discriminator.windows.everywhere(pair)
    coarse = gan.discriminator.windows.everywhere(pair, output_stride=stride)
    assert coarse.shape == dense.shape
    half = gan.discriminator.windows.side // 2
    rows, columns = (slice(half, side - half + 1, stride) for side in (HEIGHT, WIDTH))
    assert float((dense - coarse)[:, rows, columns].abs().max()) < 1e-5
    assert float((dense - coarse).abs().max()) > 1e-3


@torch.no_grad()
@pytest.mark.parametrize(("height", "width"), [(16, 20), (17, 23), (21, 18)])
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_every_pixel_of_any_image_gets_its_losses(height: int, width: int, stride: int) -> None:
    x = drawn(2, 1, height, width)
    losses = fcbigan_losses(built(segmenter=True, segmenter_depth=3), x, output_stride=stride)
    assert losses.shape == (2, 3, height, width)
    assert losses.isfinite().all()


@pytest.mark.parametrize("depth", [1, 3, 4])
@pytest.mark.parametrize("discriminator_depth", [2, 4])
@pytest.mark.parametrize("segmenter_depth", [2, 4])
@pytest.mark.parametrize(("stride", "views"), [(1, 1), (4, 4)])
def test_a_large_image_in_pieces_has_the_losses_of_the_whole(
    monkeypatch: pytest.MonkeyPatch,
    depth: int,
    discriminator_depth: int,
    segmenter_depth: int,
    stride: int,
    views: int,
) -> None:
    depths = {"discriminator_depth": discriminator_depth, "segmenter_depth": segmenter_depth}
    gan = built(depth=depth, segmenter=True, patch=64, **depths)
    x = drawn(1, 1, 219, 350)
    whole = fcbigan_losses(gan, x, output_stride=stride, views=views)
    monkeypatch.setattr(pieces, "SIDE", 64)
    cut = fcbigan_losses(gan, x, output_stride=stride, views=views)
    assert float((cut - whole).abs().max()) < 1e-4


def test_pieces_that_do_not_overlap_enough_would_show(monkeypatch: pytest.MonkeyPatch) -> None:
    gan, x = built(segmenter=True, patch=64, segmenter_depth=4), drawn(1, 1, 219, 350)
    whole = fcbigan_losses(gan, x, output_stride=4)
    monkeypatch.setattr(pieces, "SIDE", 64)
    monkeypatch.setattr(Networks, "seam", lambda self, stride: (16, 16))
    cut = fcbigan_losses(gan, x, output_stride=4)
    assert float((cut - whole).abs().max()) > 1e-2


@torch.no_grad()
def test_verdicts_fit_where_cells_are_finer_than_the_output_stride() -> None:
    discriminator = built(depth=1, discriminator_depth=2).discriminator
    pair = discriminator.pair(drawn(1, 1, 18, 22), drawn(1, 3, 9, 11))
    assert discriminator.windows.everywhere(pair, output_stride=4).shape == (1, 18, 22)


# -------------------------------------------------------------------------------- z, held per cell


def test_a_pixel_of_the_planes_of_z_hangs_on_its_own_cell_only(gan: Networks) -> None:
    z, cell = drawn(1, 3, 4, 5).requires_grad_(), gan.cell
    planes = gan.discriminator.enlarge(z)
    assert planes.shape == (1, LATENT_PLANES, 4 * cell, 5 * cell)
    pixels = [(0, 0), (cell - 1, cell), (7, 11), (4 * cell - 1, 5 * cell - 1)]
    for top, left in pixels:
        slopes = torch.autograd.grad(planes[..., top, left].sum(), z, retain_graph=True)[0]
        touched = slopes.abs().sum(dim=(0, 1)).nonzero().tolist()
        assert touched == [[top // cell, left // cell]]


@torch.no_grad()
def test_a_window_on_a_cell_border_sees_what_its_own_cells_enlarge_to(gan: Networks) -> None:
    x, z, cell = drawn(1, 1, 24, 32), drawn(1, 3, 6, 8), gan.cell
    side = -(-gan.discriminator.windows.side // cell) * cell
    dense = gan.discriminator.windows(gan.discriminator.pair(x, z), 1)
    places = [
        (row, column)
        for row in range((24 - side) // cell + 1)
        for column in range((32 - side) // cell + 1)
    ]
    assert len(places) > 6
    for row, column in places:
        top, left = row * cell, column * cell
        cut_x = x[..., top : top + side, left : left + side]
        cut_z = z[..., row : row + side // cell, column : column + side // cell]
        alone = gan.discriminator(cut_x, cut_z)[:, 0, 0]
        assert float((alone - dense[:, top, left]).abs().max()) < 1e-5


@torch.no_grad()
def test_a_window_inside_a_cell_differs_from_cells_enlarged_from_its_own_corner() -> None:
    gan = built()
    x, z = drawn(1, 1, 24, 32), drawn(1, 3, 6, 8)
    dense = gan.discriminator.windows(gan.discriminator.pair(x, z), 1)
    alone = gan.discriminator(x[..., 1:13, 2:14], z[..., :3, :3])[:, 0, 0]
    assert float((alone - dense[:, 1, 2]).abs().max()) > 1e-3


# ------------------------------------------------------------------------------- receptive fields


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("output_stride", [1, 2])
def test_a_verdict_sees_exactly_its_window(depth: int, output_stride: int) -> None:
    gan = built(patch=64, discriminator_depth=depth)
    side, windows = receptive_field(depth), gan.discriminator.windows
    assert windows.side == side
    pair = drawn(1, 1 + LATENT_PLANES, 56, 60).requires_grad_()
    verdicts = windows(pair, output_stride)
    slopes = torch.autograd.grad(verdicts[0, 2, 3], pair)[0].abs().sum(dim=(0, 1))
    seen = slopes.nonzero()
    first, last = seen.amin(dim=0), seen.amax(dim=0)
    assert first.tolist() == [2 * output_stride, 3 * output_stride]
    assert (last - first + 1).tolist() == [side, side]
    assert len(seen) == side**2


@torch.no_grad()
def test_a_cell_of_the_encoder_is_2_to_the_depth_pixels() -> None:
    for depth in (1, 2, 3):
        gan = built(patch=16, depth=depth)
        assert gan.encoder(drawn(2, 1, 16, 40)).shape == (2, 3, 16 >> depth, 40 >> depth)


@torch.no_grad()
def test_the_generator_draws_images_between_minus_1_and_1() -> None:
    gan = built()
    images = gan.generator(1000 * drawn(2, 3, 5, 7))
    assert images.shape == (2, 1, 20, 28)
    assert float(images.abs().max()) <= 1
    assert float(images.min()) < -0.5
    assert float(images.max()) > 0.5


def segmenter(**values: Any) -> Segmenter:
    found = built(segmenter=True, segmenter_depth=values.pop("segmenter_depth", 3), **values)
    assert found.segmenter is not None
    return found.segmenter


def test_a_segmenter_is_there_when_it_is_asked_for() -> None:
    assert built().segmenter is None
    assert segmenter()(drawn(2, 1, 24, 32)).shape == (2, 6, 8)


@pytest.mark.parametrize(("depth", "least"), [(2, 16), (3, 32), (4, 64)])
def test_a_deeper_segmenter_sees_farther(depth: int, least: int) -> None:
    x = drawn(1, 1, 256, 256).requires_grad_()
    logits = segmenter(patch=32, segmenter_depth=depth)(x)
    slopes = torch.autograd.grad(logits[0, 32, 32], x)[0][0, 0].abs()
    rows = slopes.sum(dim=1).nonzero()
    assert int(rows.max() - rows.min()) >= least
    assert slopes[128:132, 128:132].sum() > 0


def test_what_a_segmenter_learns_from_is_the_defective_share_of_each_square() -> None:
    masks = torch.zeros(1, 8, 8, dtype=torch.bool)
    masks[0, :2, :4] = True  # half of the first square
    masks[0, 4:, 4:] = True  # all of the last
    assert Segmenter.targets(masks).tolist() == [[[0.5, 0.0], [0.0, 1.0]]]


@torch.no_grad()
@pytest.mark.parametrize(("height", "width"), [(24, 32), (25, 39), (17, 16)])
def test_the_segmenters_logits_cover_an_image_of_any_size(height: int, width: int) -> None:
    network, x = segmenter(), drawn(1, 1, height, width)
    logits = network.everywhere(x)
    assert logits.shape == (1, height, width)
    if (height, width) == (24, 32):  # the sum over each square is that of its logit
        squares = functional.avg_pool2d(logits[:, None], 4).flatten()
        both = torch.stack([squares, network(x).flatten()])
        assert float(torch.corrcoef(both)[0, 1]) > 0.9


# ---------------------------------------------------------------------------------------- the edge


@pytest.mark.parametrize("cell", [1, 3, 8, 9, 30])
def test_a_mirror_of_any_width_goes_on_as_numpy_reflects(cell: int) -> None:
    x = drawn(2, 3, 5, 6)
    ends = ((0, 0), (0, 0), (0, -5 % cell), (0, -6 % cell))
    expected = np.pad(x.numpy(), ends, mode="reflect")
    np.testing.assert_array_equal(whole_cells(x, cell), expected)


def test_an_image_of_odd_sides_is_mirrored_below_and_to_the_right() -> None:
    x = drawn(1, 1, 17, 22)
    whole = whole_cells(x, built().cell)
    assert whole.shape == (1, 1, 20, 24)
    assert whole[..., :17, :22].equal(x)
    assert whole[..., 17, :22].equal(x[..., 15, :])
    assert whole[..., :17, 23].equal(x[..., :, 19])


# --------------------------------------------------------------------------------- configurations


def test_the_default_configuration_builds_networks_for_its_patches() -> None:
    config = NetworkConfig()
    assert (config.patch, receptive_field(config.discriminator_depth)) == (48, 46)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"depth": 0}, "depth must be 1 to 6, not 0"),
        ({"discriminator_depth": 7}, "discriminator_depth must be 1 to 6, not 7"),
        ({"width": 0}, "width must be 1 to 1024, not 0"),
        ({"latent_channels": 5000}, "latent_channels must be 1 to 4096, not 5000"),
        ({"patch": 50}, r"2 \*\* depth = 16, and at least two of them; it is 50. Use 48"),
        ({"patch": 16}, r"2 \*\* depth = 16, and at least two of them; it is 16. Use 32"),
        ({"segmenter_depth": 1}, "segmenter_depth must be 2 to 7, not 1"),
        (
            {"segmenter": True, "segmenter_depth": 5},
            r"segmenter_depth = 32, .*; it is 48",
        ),
        ({"patch": 32}, "patch 32 is smaller than the 46 pixels .* discriminator_depth 4 sees"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused_with_its_value(
    values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        NetworkConfig(**values)


def test_an_unknown_norm_is_refused_with_the_known_ones() -> None:
    config = NetworkConfig()
    object.__setattr__(config, "discriminator_norm", "layer")  # typed code cannot pass it
    with pytest.raises(ConfigError, match="must be none or batch, not layer"):
        config.__post_init__()


@pytest.mark.parametrize("norm", NORMS)
def test_the_same_seed_draws_the_same_weights_and_another_others(norm: str) -> None:
    def weights(seed: int) -> dict[str, Tensor]:
        config = NetworkConfig(patch=48, width=4, discriminator_norm=norm)  # type: ignore[arg-type]
        return new_networks(config, channels=1, seed=seed).state_dict()

    first, again, other = weights(1), weights(1), weights(2)
    assert len(first) > 20
    assert all(first[name].equal(again[name]) for name in first)
    drawn_names = [name for name in first if first[name].ndim == 4]
    assert drawn_names
    assert not any(first[name].equal(other[name]) for name in drawn_names)
