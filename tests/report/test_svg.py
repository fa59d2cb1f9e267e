"""Figures as markup: the same bytes each time, text as text, nothing from outside."""

from __future__ import annotations

import re

from markupsafe import Markup

from tests.report.html_read import Read
from zoo.errors import visible
from zoo.report import charts
from zoo.report.charts import Level, Line
from zoo.report.svg import ACCENT, BAD, canvas, markup

HOSTILE = '$\\frac{<script>alert("x")</script>} & \x1b[2J\u202e'


def drawn(name: str = "one", label: str = "a line") -> Markup:
    with canvas() as (figure, axes):
        axes.plot([0, 1, 2], [0.0, 0.5, 0.3], color=ACCENT, label=label)
        axes.plot([0, 1, 2], [0.2, 0.5, 0.3], "o", color=BAD)
        axes.set(xlabel=label)
        axes.legend()
        return markup(figure, name, says=label)


def test_a_figure_has_the_same_bytes_each_time() -> None:
    assert drawn() == drawn()


def test_it_has_nothing_of_the_web_and_no_colour_of_its_own() -> None:
    text = drawn()
    assert "http" not in text
    assert "<metadata" not in text
    assert "<style" not in text
    assert "var(--accent)" in text
    assert "var(--bad)" in text
    assert not re.search("#[0-9a-f]{6}", text), "in dark colours it would stay light"


def test_two_figures_of_a_page_share_no_id_and_refer_to_their_own() -> None:
    def ids(name: str) -> set[str]:
        found = Read(f"<body>{drawn(name)}</body>").elements
        return {each.attributes["id"] for each in found if "id" in each.attributes}

    one, two = ids("one"), ids("two")
    assert one
    assert not one & two
    text = drawn("one")
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', text))
    assert used
    assert used <= one


def test_a_hostile_label_stays_text_and_turns_nothing_around() -> None:
    shown = visible(HOSTILE)
    assert shown != HOSTILE
    read = Read(f"<body>{drawn(label=HOSTILE)}</body>")
    assert not read.all("script")
    assert any(shown in element.text for element in read.all("text"))
    [title] = read.all("title")
    assert title.text == shown


def test_letters_that_the_font_lacks_are_left_to_the_browser() -> None:
    assert "煉瓦" in drawn(label="煉瓦")  # a warning is an error here


def test_the_bars_of_a_chart_are_in_the_given_order_with_their_values() -> None:
    chart = charts.bars({"first": 0.25, "second": -0.5}, "b", label="shares", percent=True)
    texts = [element.text for element in Read(f"<body>{chart}</body>").all("text")]
    assert texts.index("first") < texts.index("second")
    assert {"25%", "-50%"} <= set(texts)
    [title] = Read(f"<body>{chart}</body>").all("title")
    assert title.text == "Bar chart, shares: first 25%; second -50%."


def test_a_histogram_says_its_limits_in_words() -> None:
    levels = [Level(name="look again", value=0.8), Level(name="defective", value=1.0)]
    chart = charts.histogram([0.5, 0.6, 0.7], levels, [("good", "good", [0.5])])
    [title] = Read(f"<body>{chart}</body>").all("title")
    assert title.text == (
        "Histogram of the scores of 3 good pictures, from 0.50 to 0.70. Limits: look again 0.80; "
        "defective 1.00."
    )


def test_a_histogram_of_equal_scores_is_drawn() -> None:
    assert "<svg" in charts.histogram([1.0, 1.0], [Level(name="defective", value=1.0)], [])


def test_a_chart_of_a_thousand_trials_stays_small() -> None:
    lines = [Line(name="", x=[1.0, 2.0, 3.0], y=[0.1, 0.2, 0.3]) for _ in range(1000)]
    assert len(charts.curves(lines)) < 400_000
    assert "of 120 trials" in charts.curves(lines)


def test_a_long_name_does_not_outgrow_its_chart() -> None:
    chart = charts.bars({"n" * 500: 1.0}, "b", label="x")
    assert "n" * 100 not in chart
