"""Plots are written as PNG files."""

from __future__ import annotations

from pathlib import Path

import pytest

from zoo.data.images import has_colour, read_image
from zoo.errors import StorageError
from zoo.report.plots import Panel, Scatter, draw_bars, draw_scatter

PANEL = Panel(title="auroc", values={"a": [0.7, 0.9], "failed": []}, published={"a": 0.8})
SCATTER = Scatter(title="t", labels=("val", "test"), x=[1.0, 2.0], y=[2.0, 1.0], marked={"best": 1})


def test_bars_and_points_are_drawn_into_new_folders(tmp_path: Path) -> None:
    paths = [draw_bars([PANEL] * count, tmp_path / f"{count}" / "a.png") for count in (1, 2)]
    one, two = (read_image(path) for path in paths)
    assert one.shape[0] == two.shape[0]
    assert one.shape[1] < two.shape[1]
    points = read_image(draw_scatter(SCATTER, tmp_path / "new" / "b.png"))
    assert has_colour(points)


def test_a_plot_that_cannot_be_written_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "way").write_text("")
    with pytest.raises(StorageError, match=r"Cannot write the plot a\.png: .*in the way"):
        draw_bars([PANEL], tmp_path / "way" / "new" / "a.png")
