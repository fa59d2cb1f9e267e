"""The page in a browser: each feature, by pointer and by keyboard, and what it must never do."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    FilePayload,
    Page,
    Request,
    Route,
    expect,
    sync_playwright,
)
from scipy.ndimage import maximum_filter

from registry import bundle
from registry.bundle import Bundle
from registry.folder_shelf import FolderShelf
from tests import textures_drawn
from tests.exams import publish
from tests.serve.serving import FLAGS, browser_path, file_of, running, stock
from zoo.detectors import Detector
from zoo.report import overlays
from zoo.scoring.regions import find_regions
from zoo.serve.app import build
from zoo.serve.journal import Journal, Line
from zoo.serve.keys import new_key
from zoo.serve.settings import Settings

pytestmark = pytest.mark.browser

HEIGHT, WIDTH = textures_drawn.HEIGHT, textures_drawn.WIDTH
DESKTOP, PHONE = {"width": 1200, "height": 1000}, {"width": 360, "height": 740}
EVIL = "<img src=x onerror=alert(1)>.png"
expect.set_options(timeout=20_000)  # ms
# What a browser writes for each answer that is no success; tests that are refused expect it.
REFUSED = "Failed to load resource"


@dataclass(frozen=True, kw_only=True)
class Plant:
    """Services for all tests of this module, and pictures with what the detector says of them.

    Attributes:
        address: Of the service with a journal and without keys.
        guarded: Of the one with keys and without a journal.
        key: Of that one.
        detector: `weave`.
        good: A good picture, upright, 64x72 pixels.
        hole: One with a hole.
        journal: The folder of the journal.
        shelf: That of the shelf.
        browser: Chromium.
    """

    address: str
    guarded: str
    key: str
    detector: Detector
    good: np.ndarray
    hole: np.ndarray
    journal: Path
    shelf: Path
    browser: Browser

    def lines(self) -> tuple[Line, ...]:
        """Return what the journal has of `weave`."""
        return Journal(self.journal).read("weave").lines

    def publish(self, made: Bundle, *, version: int) -> None:
        """Publish a detector as the champion of its texture."""
        folder = self.shelf.parent / f"made-{made.texture}-{version}"
        bundle.save(made, folder)
        publish(FolderShelf(self.shelf), folder, texture=made.texture, version=version)


@pytest.fixture(scope="module")
def plant(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    root = tmp_path_factory.mktemp("plant")
    stock(root / "shelf", tiny_bundle)
    key, shelf, journal = new_key(root / "keys", "inspector"), str(root / "shelf"), root / "journal"
    rng = np.random.default_rng(11)
    with ExitStack() as stack:
        started = stack.enter_context(sync_playwright())
        browser = started.chromium.launch(executable_path=browser_path(), args=list(FLAGS))
        stack.callback(browser.close)
        own = build(Settings(shelf=shelf, journal=journal, keep="marked", refresh_s=0.3))
        guarded = build(Settings(shelf=shelf, keys=root / "keys", names=("weave",)))
        yield Plant(
            address=stack.enter_context(running(own)),
            guarded=stack.enter_context(running(guarded)),
            key=key,
            detector=Detector(tiny_bundle),
            good=textures_drawn.draw(HEIGHT, WIDTH, rng),
            hole=textures_drawn.draw_hole(HEIGHT, WIDTH, rng)[0],
            journal=journal,
            shelf=root / "shelf",
            browser=browser,
        )


@dataclass
class Seen:
    """What a page did that is not seen on it.

    Attributes:
        requests: The addresses of all requests.
        faults: Errors and warnings of the console, and exceptions.
        allowed: What one of these may begin with.
    """

    requests: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    allowed: tuple[str, ...] = ()

    def watch(self, page: Page) -> None:
        """Note all from now on."""

        def said(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning"):
                self.faults.append(message.text)

        def asked(request: Request) -> None:
            self.requests.append(request.url)

        page.on("console", said)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("request", asked)


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def page(plant: Plant, seen: Seen) -> Iterator[Page]:
    """A page of the service with a journal; at its end nothing may have gone wrong unseen."""
    context = plant.browser.new_context(viewport=DESKTOP)  # type: ignore[arg-type]
    context.set_default_timeout(20_000)
    opened = context.new_page()
    seen.watch(opened)
    opened.goto(plant.address)
    expect(opened.locator("#detector")).to_be_enabled()
    yield opened
    context.close()
    assert [each for each in seen.faults if not each.startswith(seen.allowed or ("\0",))] == []
    local = (plant.address, plant.guarded, "blob:http://127.0.0.1")
    assert len(seen.requests) > 3
    assert [url for url in seen.requests if not url.startswith(local)] == []


def payload(name: str, content: np.ndarray | bytes) -> FilePayload:
    """Return a file as Playwright takes it."""
    whole = content if isinstance(content, bytes) else file_of(content)
    return FilePayload(name=name, mimeType="application/octet-stream", buffer=whole)


def give(page: Page, *files: tuple[str, np.ndarray | bytes]) -> None:
    """Choose files, and wait until all have been scored or refused."""
    page.set_input_files("#files", [payload(name, each) for name, each in files])
    expect(page.locator("#summary")).not_to_have_text(re.compile("to come"))


def ready(page: Page) -> None:
    """Wait until the picture that is chosen is drawn."""
    expect(page.locator("#work")).to_have_attribute("aria-busy", "false")


def drawn(page: Page) -> np.ndarray:
    """Return the pixels of the canvas, "h w 4", when it has been drawn."""
    ready(page)
    found: str = page.evaluate(
        """() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() =>
        done(document.getElementById("canvas").toDataURL("image/png")))))"""
    )
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(found.partition(",")[2]))))


def coloured(pixels: np.ndarray) -> np.ndarray:
    """Return a picture with a blue cast."""
    return np.concatenate([pixels // 2, pixels // 2, pixels], axis=2)


def differing(one: np.ndarray, other: np.ndarray) -> int:
    """Return the number of values that differ."""
    assert one.shape == other.shape
    assert one.size > 1000
    return int((one != other).sum())


def tool(page: Page, name: str) -> None:
    """Choose what the pointer does, when there is a picture."""
    ready(page)
    page.locator("#tools span", has_text=name).click()


def answered(page: Page, name: str, word: str) -> None:
    """Say what a picture is by a button, and wait for the answer of the server."""
    page.get_by_role("button", name=name).click()
    expect(page.locator("#answered")).to_contain_text(word)


def at(page: Page, row: float, column: float) -> tuple[float, float]:
    """Return where a place of the picture is on the screen, at the zoom that fits."""
    box = page.locator("#canvas").bounding_box()
    assert box is not None
    scale = min(box["width"] / WIDTH, box["height"] / HEIGHT)
    left = box["x"] + (box["width"] - WIDTH * scale) / 2
    top = box["y"] + (box["height"] - HEIGHT * scale) / 2
    return left + column * scale, top + row * scale


def drag(page: Page, *places: tuple[float, float]) -> None:
    """Drag from the first place of the picture over the others."""
    first, *others = (at(page, *place) for place in places)
    page.mouse.move(*first)
    page.mouse.down()
    for place in others:
        page.mouse.move(*place, steps=4)
    page.mouse.up()


# ---------------------------------------------------------------------------------------- verdicts


def test_a_picture_is_answered_by_a_word_a_score_a_map_and_regions(
    page: Page, plant: Plant
) -> None:
    give(page, ("piece.png", plant.hole))
    expected = plant.detector.score(plant.hole)
    assert expected.is_anomalous
    expect(page.locator("#verdict")).to_have_text("Defective")
    expect(page.locator("#why")).to_contain_text(f"Score {expected.score:.2f}, above the threshold")
    expect(page.locator("#banner")).to_have_attribute("data-verdict", "defective")
    expect(page.locator("#verdict-icon")).to_have_attribute("href", "#icon-defective")
    rows = page.locator("#regions tbody tr")
    expect(rows).to_have_count(len(expected.regions))
    first = expected.regions[0]
    for text in (f"{first.peak:.2f}", f"{first.area} px", f"{first.top}, {first.left}"):
        expect(rows.first).to_contain_text(text)
    assert page.evaluate("document.activeElement.id") != "result"


def test_the_heat_map_the_outline_and_the_boxes_can_be_seen_and_hidden(
    page: Page, plant: Plant
) -> None:
    give(page, ("piece.png", plant.hole))
    whole = drawn(page)
    page.locator("#show-boxes").uncheck()
    without_boxes = drawn(page)
    assert differing(whole, without_boxes) > 100
    page.locator("#show-outline").uncheck()
    without_outline = drawn(page)
    assert differing(without_boxes, without_outline) > 100
    page.locator("#opacity").fill("0")
    bare = drawn(page)
    assert differing(without_outline, bare) > 1000
    expect(page.locator("#opacity-out")).to_have_text("0 %")
    assert np.array_equal(bare[..., 0], bare[..., 2])  # the picture alone is grey
    assert 30 in bare[..., 0]  # of the hole
    page.keyboard.press("h")
    assert np.array_equal(drawn(page), without_outline)


def test_the_map_lies_over_the_place_of_the_defect(page: Page, plant: Plant) -> None:
    give(page, ("piece.png", plant.hole))
    for name in ("#show-boxes", "#show-outline"):
        page.locator(name).uncheck()
    page.locator("#opacity").fill("100")
    found = drawn(page)
    box, place = page.locator("#canvas").bounding_box(), plant.detector.score(plant.hole).regions[0]
    assert box is not None
    x, y = at(page, *place.centroid)
    inside = found[round(y - box["y"]), round(x - box["x"])]
    x, y = at(page, 60 if place.centroid[0] < 32 else 3, 68 if place.centroid[1] < 36 else 3)
    outside = found[round(y - box["y"]), round(x - box["x"])]
    assert int(inside[0]) - int(inside[2]) > 60  # orange to red
    assert abs(int(outside[0]) - int(outside[2])) < 25  # nearly grey


def test_many_pictures_are_queued_and_listed_with_their_verdicts(page: Page, plant: Plant) -> None:
    rng = np.random.default_rng(3)
    pictures = [
        textures_drawn.draw_hole(HEIGHT, WIDTH, rng)[0]
        if turn % 3 == 0
        else textures_drawn.draw(HEIGHT, WIDTH, rng)
        for turn in range(12)
    ]
    give(page, *((f"{turn}.png", each) for turn, each in enumerate(pictures)))
    scores = plant.detector.score(pictures)
    chips = page.locator("#list .chip")
    for turn, score in enumerate(scores):
        expect(chips.nth(turn)).to_contain_text(
            {"good": "Good", "defective": "Defective"}[score.verdict] + f"{score.score:.2f}"
        )
    bad = sum(each.is_anomalous for each in scores)
    assert 0 < bad < 12
    expect(page.locator("#summary")).to_have_text(f"12 pictures: {bad} defective, {12 - bad} good.")
    page.get_by_role("button", name="5.png").click()
    expect(page.locator("#name")).to_have_text("5.png")
    page.keyboard.press("k")
    expect(page.locator("#name")).to_have_text("4.png")
    page.keyboard.press("j")
    page.keyboard.press("j")
    expect(page.locator("#name")).to_have_text("6.png")
    page.get_by_role("button", name="Clear").click()
    expect(page.locator("#list li")).to_have_count(0)
    expect(page.locator("body")).to_have_class(re.compile("empty"))


def test_pictures_can_be_dropped_on_the_page(page: Page, plant: Plant) -> None:
    transfer = page.evaluate_handle(
        """(bytes) => { const transfer = new DataTransfer();
        transfer.items.add(new File([new Uint8Array(bytes)], "dropped.png"));
        return transfer; }""",
        list(file_of(plant.hole)),
    )
    page.dispatch_event("body", "dragenter", {"dataTransfer": transfer})
    expect(page.locator("body")).to_have_class(re.compile("over"))
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})
    expect(page.locator("#verdict")).to_have_text("Defective")
    expect(page.locator("#name")).to_have_text("dropped.png")
    expect(page.locator("body")).not_to_have_class(re.compile("over"))


def test_warnings_about_the_picture_are_shown(page: Page, plant: Plant) -> None:
    give(page, ("colour.png", file_of(coloured(plant.good))))
    expect(page.locator("#warnings li")).to_have_count(1)
    expect(page.locator("#warnings li")).to_contain_text("Colour is not looked at")
    give(page, ("grey.png", plant.good))
    expect(page.locator("#name")).to_have_text("grey.png")
    expect(page.locator("#warnings")).to_be_hidden()


@pytest.mark.parametrize("kind", ["tiff", "png of 16 bits", "jpeg2000"])
def test_a_picture_that_browsers_do_not_draw_is_drawn_by_the_server(
    page: Page, plant: Plant, seen: Seen, kind: str
) -> None:
    give(page, ("8.png", plant.hole))
    expected = drawn(page)
    page.get_by_role("button", name="Clear").click()
    assert not any(url.endswith("preview") for url in seen.requests)
    deep = plant.hole.astype(np.uint16) * 257
    content = {
        "tiff": lambda: file_of(plant.hole, "tiff"),
        "png of 16 bits": lambda: file_of(deep),
        "jpeg2000": lambda: file_of(plant.hole, "jpeg2000"),
    }[kind]()
    give(page, ("deep", content))
    expect(page.locator("#verdict")).to_have_text("Defective")
    assert differing(drawn(page), expected) < 0.01 * expected.size
    assert any(url.endswith("preview") for url in seen.requests)


# --------------------------------------------------------------------------------------- threshold


def test_moving_the_threshold_changes_verdict_mask_and_false_alarms_at_once(
    page: Page, plant: Plant, seen: Seen
) -> None:
    give(page, ("good.png", plant.good), ("bad.png", plant.hole))
    expect(page.locator("#verdict")).to_have_text("Good")
    expect(page.locator("#no-regions")).to_be_visible()
    expect(page.locator("#alarms-number")).to_have_text("50")  # the rate of the card
    before, asked = drawn(page), len(seen.requests)
    slider = page.locator("#threshold")
    expect(slider).to_have_attribute("aria-valuetext", re.compile(r"^1\.00: 50 false alarms"))
    slider.focus()
    page.keyboard.press("Home")
    expect(page.locator("#verdict")).to_have_text("Defective")
    expect(page.locator("#why")).to_contain_text("above your threshold of")
    expect(page.locator("#summary")).to_have_text("2 pictures: 2 defective.")
    expect(page.locator("#regions tbody tr").first).to_be_visible()
    assert differing(drawn(page), before) > 1000
    assert int(page.locator("#alarms-number").inner_text().replace(",", "")) > 500
    page.keyboard.press("End")
    expect(page.locator("#verdict")).to_have_text("Good")
    few = page.locator("#alarms-number").inner_text()
    assert float(few.strip("< ")) < 50
    page.get_by_role("button", name="Back to the detector").click()
    expect(page.locator("#alarms-number")).to_have_text("50")
    assert np.array_equal(drawn(page), before)
    assert len(seen.requests) == asked  # all of it without the server


def test_outlines_follow_the_peak_at_any_threshold(page: Page, plant: Plant) -> None:
    worsted = replace(plant.detector.bundle, texture="worsted")
    worsted = replace(
        worsted, threshold=worsted.threshold | {"share_of_peak": 0.9, "smallest_region": 1}
    )
    show_new(page, plant, worsted)
    give(page, ("worsted.png", plant.hole))
    expect(page.locator("#verdict")).to_have_text("Defective")
    page.locator("#threshold").fill("0")
    served = page.evaluate("fetch('v1/detectors/worsted/scores').then((answer) => answer.json())")
    shown = overlays.grey(Detector(worsted).score(plant.hole)).astype(np.float32)
    above = shown >= 128 * served["thresholds"][0]["threshold"]
    near = maximum_filter(shown, size=17, mode="nearest")
    regions = find_regions(shown, above, outlined=above & (shown >= 0.9 * near))
    expected = sorted(each.area for each in regions)
    areas = page.locator("#regions tbody tr td:nth-child(3)").all_inner_texts()
    assert sorted(int(text.removesuffix(" px").replace(",", "")) for text in areas) == expected
    assert sum(expected) < above.sum()


def test_a_defective_picture_without_a_place_says_that_there_is_none(
    page: Page, plant: Plant
) -> None:
    known = plant.detector.bundle
    limits = known.threshold | {"map_value": 1e9}
    show_new(page, plant, replace(known, texture="woven", threshold=limits))
    give(page, ("good.png", plant.good), ("bad.png", plant.hole))
    expect(page.locator("#no-regions")).to_have_text("Nothing is above the threshold of pixels.")
    page.get_by_role("button", name="bad.png").click()
    expect(page.locator("#verdict")).to_have_text("Defective")
    expect(page.locator("#no-regions")).to_contain_text("and no single place does")


def test_the_slider_waits_for_the_scores_of_its_detector(page: Page) -> None:
    held: list[Route] = []
    page.route("**/weave/scores", lambda route: held.append(route))
    with page.expect_request("**/weave/scores"):
        page.reload()
    expect(page.locator("#detector")).to_be_enabled()
    expect(page.locator("#threshold")).to_be_disabled()
    held[0].continue_()
    expect(page.locator("#threshold")).to_be_enabled()


def test_the_row_of_the_slider_is_that_of_the_server(page: Page, plant: Plant) -> None:
    served = page.evaluate("fetch('v1/detectors/weave/scores').then((answer) => answer.json())")
    row = served["thresholds"]
    slider = page.locator("#threshold")
    for place in (3, len(row) // 2, len(row) - 2):
        slider.fill(str(place))
        each = row[place]
        assert (slider.get_attribute("aria-valuetext") or "").startswith(
            f"{each['threshold']:.2f}: "
        )
        shown = page.locator("#alarms-number").inner_text().replace(",", "")
        assert float(shown.strip("< ")) == pytest.approx(each["false_alarms"], abs=0.51)
    bars = page.locator("#histogram .bin")
    expect(bars).to_have_count(sum(count > 0 for count in served["histogram"]["counts"]))


def test_another_detector_has_its_own_card_scores_and_band(page: Page, plant: Plant) -> None:
    expect(page.locator("#card")).to_contain_text("weave")
    page.locator("#detector").select_option("yarn")
    expect(page.locator("#card")).to_contain_text("yarn")
    expect(page.locator("#threshold-note")).to_contain_text("By rank among 39 scores")
    rng = np.random.default_rng(7)  # those that the band was set on
    give(page, *((f"{turn}.png", textures_drawn.draw(HEIGHT, WIDTH, rng)) for turn in range(12)))
    expect(page.locator("#summary")).to_contain_text("to look at again")
    page.locator("#list button", has_text="Look again").first.click()
    expect(page.locator("#banner")).to_have_attribute("data-verdict", "look again")
    expect(page.locator("#why")).to_contain_text(re.compile("Of 100 good pictures, about [0-9]+"))
    page.locator("#detector").select_option("weave")
    expect(page.locator("#why")).to_contain_text("By yarn, version 1.")


def test_a_new_champion_is_followed_and_old_answers_say_whose_they_are(
    page: Page, plant: Plant
) -> None:
    wool = replace(plant.detector.bundle, texture="wool")
    show_new(page, plant, wool)
    give(page, ("before.png", plant.hole))
    page.locator("#threshold").fill("3")
    higher = wool.threshold | {"value": 1.2 * wool.threshold["value"]}
    plant.publish(replace(wool, threshold=higher), version=2)
    version_of(page, "wool", 2)
    give(page, ("after.png", plant.hole))
    expect(page.locator("#version")).to_have_text("version 2")
    expect(page.locator("#threshold-reset")).to_be_hidden()
    expect(page.locator("#why")).not_to_contain_text("By wool")
    page.get_by_role("button", name="before.png").click()
    expect(page.locator("#why")).to_contain_text("By wool, version 1.")
    page.get_by_role("button", name="Score again").click()
    expect(page.locator("#why")).to_contain_text("above the threshold of 1")
    expect(page.locator("#why")).not_to_contain_text("By wool")


def show_new(page: Page, plant: Plant, made: Bundle) -> None:
    """Publish the first version of a detector, and show it on the page."""
    plant.publish(made, version=1)
    version_of(page, made.texture, 1)
    page.reload()
    page.locator("#detector").select_option(made.texture)
    expect(page.locator("#version")).to_have_text("version 1")


def version_of(page: Page, name: str, version: int) -> None:
    """Wait until the service has a version of a detector."""
    end = time.monotonic() + 30
    while True:
        known = page.evaluate("fetch('v1/detectors').then((answer) => answer.json())")
        if (name, version) in {(each["name"], each["version"]) for each in known["detectors"]}:
            return
        assert time.monotonic() < end
        page.wait_for_timeout(100)


def test_the_card_is_in_words(page: Page, plant: Plant) -> None:
    served = page.evaluate("fetch('v1/detectors/weave').then((answer) => answer.json())")
    assert len(served["words"]) > 3
    expect(page.locator("#card summary")).to_have_text([each["title"] for each in served["words"]])
    page.get_by_text(served["words"][2]["title"]).click()
    expect(page.get_by_text(served["words"][2]["lines"][0][1]).first).to_be_visible()


# ----------------------------------------------------------------------------------------- answers


def test_a_box_by_the_pointer_goes_into_the_journal_with_the_picture(
    page: Page, plant: Plant
) -> None:
    content = file_of(plant.hole)
    give(page, ("box.png", content))
    tool(page, "Box")
    drag(page, (10.2, 20.3), (30.4, 50.6))
    expect(page.locator("#drawn")).to_have_text("1 mark")
    answered(page, "This is a defect", "In the journal: a defect, with 1 box. The picture is kept")
    line = plant.lines()[-1]
    (box,) = line.boxes
    assert (box.top, box.left, box.height, box.width) == (10, 20, 21, 31)
    score = plant.detector.score(plant.hole)
    assert line.picture == hashlib.sha256(content).hexdigest()
    assert (line.file, line.detector, line.version) == ("box.png", "weave", 1)
    assert (line.answer, line.height, line.width, line.mask) == ("defect", HEIGHT, WIDTH, None)
    assert line.said.verdict == "defective"
    assert line.said.score == pytest.approx(score.score, abs=1e-5)
    kept = Journal(plant.journal).picture("weave", line.picture)
    assert kept is not None
    assert kept.read_bytes() == content
    expect(page.get_by_role("button", name="This is a defect")).to_have_attribute(
        "aria-pressed", "true"
    )


def test_a_brush_paints_and_an_eraser_removes(page: Page, plant: Plant) -> None:
    give(page, ("brush.png", plant.hole))
    tool(page, "Brush")
    page.locator("#brush").fill("20")
    expect(page.locator("#brush-out")).to_have_text("7 px")
    drag(page, (20, 12), (20, 60))
    answered(page, "This is a defect", "with what you painted")
    region = plant.lines()[-1].region()
    assert region is not None
    rows, columns = np.nonzero(region)
    assert (rows.min(), rows.max()) == pytest.approx((17, 22), abs=1)
    assert (columns.min(), columns.max()) == pytest.approx((9, 63), abs=2)
    tool(page, "Erase")
    drag(page, (10, 36), (30, 36))
    expect(page.locator("#answered")).to_contain_text("The marks have changed")
    answered(page, "This is a defect", "with what you painted")
    erased = plant.lines()[-1].region()
    assert erased is not None
    assert not erased[:, 36].any()
    assert erased[:, 20].any()
    assert erased[:, 55].any()
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("#drawn")).to_have_text("1 mark")
    page.get_by_role("button", name="Remove marks").click()
    expect(page.locator("#drawn")).to_have_text("No marks")


def test_a_good_answer_has_no_region_and_can_be_taken_back(page: Page, plant: Plant) -> None:
    give(page, ("fine.png", plant.good))
    page.locator("#threshold").fill("0")
    answered(page, "This is good", "In the journal: good.")
    line = plant.lines()[-1]
    assert (line.answer, line.boxes, line.mask) == ("good", (), None)
    assert line.said.verdict == "defective"  # as the person saw it, by the threshold of the page
    assert line.said.threshold < 1
    expect(page.locator("#list button").first).to_have_attribute(
        "aria-description", "answered: good"
    )
    answered(page, "Take back", "Your answer is taken back.")
    assert plant.lines()[-1].answer == "withdrawn"
    assert line.picture not in Journal(plant.journal).read("weave").last()
    expect(page.get_by_role("button", name="Take back")).to_be_hidden()


def test_the_detectors_regions_can_be_marked(page: Page, plant: Plant) -> None:
    give(page, ("regions.png", plant.hole))
    ready(page)
    page.get_by_role("button", name="Mark the detector").click()
    answered(page, "This is a defect", "In the journal: a defect")
    expected = [
        (each.top, each.left, each.height, each.width)
        for each in plant.detector.score(plant.hole).regions
    ]
    boxes = plant.lines()[-1].boxes
    assert [(each.top, each.left, each.height, each.width) for each in boxes] == expected


# ---------------------------------------------------------------------------------------- keyboard


def test_the_keyboard_alone_suffices(page: Page, plant: Plant) -> None:
    page.bring_to_front()  # a page behind another gets no keys
    with page.expect_file_chooser(timeout=60_000) as chosen:
        page.locator("body").press("o")
    chosen.value.set_files([payload("keys.png", plant.hole)])
    expect(page.locator("#verdict")).to_have_text("Defective")
    ready(page)
    page.keyboard.press("b")
    page.keyboard.press("c")
    expect(page.locator("#canvas")).to_be_focused()
    for key in ("Space", *["Shift+ArrowRight"] * 5, *["Shift+ArrowDown"] * 3, "Space"):
        page.keyboard.press(key)
    expect(page.locator("#drawn")).to_have_text("1 mark")
    page.keyboard.press("Space")
    page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("Escape")  # a box that was begun
    page.keyboard.press("d")
    expect(page.locator("#answered")).to_contain_text("a defect, with 1 box")
    (box,) = plant.lines()[-1].boxes
    assert (box.top, box.left, box.height, box.width) == (HEIGHT // 2, WIDTH // 2, 3, 5)
    page.keyboard.press("z")
    expect(page.locator("#drawn")).to_have_text("No marks")
    page.keyboard.press("p")
    for key in ("Space", "ArrowRight", "ArrowRight", "Space"):
        page.keyboard.press(key)
    expect(page.locator("#drawn")).to_have_text("1 mark")
    page.keyboard.press("t")
    expect(page.locator("#threshold")).to_be_focused()
    page.keyboard.press("g")
    expect(page.locator("#answered")).to_contain_text("In the journal: good.")


def test_every_control_is_reached_by_tab_and_shows_it(page: Page, plant: Plant) -> None:
    give(page, ("piece.png", plant.hole))
    page.evaluate("document.activeElement.blur()")
    reached = []
    for _ in range(60):
        page.keyboard.press("Tab")
        ring = page.evaluate(
            """() => { const at = document.activeElement;
            const shown = at.type === "radio" ? at.nextElementSibling : at;
            const style = getComputedStyle(shown);
            return [at === document.body ? "BODY" : at.id || at.value || at.textContent.trim(),
                    style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2]; }"""
        )
        if ring[0] == "BODY":  # between the last control and the first; Chromium may begin anywhere
            continue
        if ring[0] in reached:
            break
        reached.append(ring[0])
        assert ring[1], ring[0]
    wanted = "detector open-help choose clear move zoom-out zoom-fit zoom-in canvas opacity"
    wanted += " show-outline show-boxes say-good say-defect take-regions threshold"
    assert [name for name in wanted.split() if name not in reached] == []


def test_the_keys_are_listed_and_can_be_switched_off(page: Page, plant: Plant) -> None:
    give(page, ("a.png", plant.hole), ("b.png", plant.good))
    page.keyboard.press("?")
    listed = page.locator("#help")
    expect(listed).to_be_visible()
    keys = set(listed.locator("kbd").all_inner_texts())
    assert {"O", "J", "K", "H", "R", "T", "C", "B", "P", "E", "G", "D", "Z", "?"} <= keys
    page.get_by_label("Single keys do something").uncheck()
    page.keyboard.press("Escape")
    expect(listed).to_be_hidden()
    page.keyboard.press("j")
    expect(page.locator("#name")).to_have_text("a.png")


def test_the_picture_can_be_enlarged_and_moved(page: Page, plant: Plant) -> None:
    give(page, ("piece.png", plant.hole))
    fit = drawn(page)
    page.get_by_role("button", name="Zoom to region 1").click()
    near = drawn(page)
    assert differing(near, fit) > 1000
    page.keyboard.press("c")
    page.keyboard.press("ArrowRight")
    moved = drawn(page)
    assert differing(moved, near) > 1000
    drag(page, (30, 20), (30, 30))
    assert differing(drawn(page), moved) > 1000
    page.get_by_role("button", name="Fit").click()
    page.evaluate("document.activeElement.blur()")
    assert np.array_equal(drawn(page), fit)


# ------------------------------------------------------------------------------------------ faults


def test_what_the_server_refuses_is_one_sentence_and_names_are_text(
    page: Page, plant: Plant, seen: Seen
) -> None:
    seen.allowed = (REFUSED,)
    give(page, (EVIL, b"no picture"), ("next.png", plant.hole))
    page.get_by_role("button", name="onerror").click()
    expect(page.locator("#verdict")).to_have_text("Not scored")
    expect(page.locator("#why")).to_contain_text("cannot be read as a picture")
    expect(page.locator("#name")).to_have_text(EVIL)
    expect(page.locator("#list .file").first).to_have_text(EVIL)
    assert page.locator("img").count() == 0
    assert page.locator("#work").is_hidden()
    expect(page.locator("#list .chip").nth(1)).to_contain_text("Defective")
    expect(page.locator("#summary")).to_have_text("2 pictures: 1 defective, 1 not scored.")


def test_a_busy_server_is_asked_again(page: Page, plant: Plant, seen: Seen) -> None:
    seen.allowed = (REFUSED,)
    refused: list[str] = []

    def busy_once(route: Any) -> None:
        if refused:
            route.continue_()
            return
        refused.append(route.request.url)
        answer = json.dumps({"error": "busy", "message": "Busy."})
        route.fulfill(status=429, body=answer, headers={"Retry-After": "1"})

    page.route("**/score?map=true", busy_once)
    give(page, ("piece.png", plant.hole))
    expect(page.locator("#verdict")).to_have_text("Defective")
    assert len(refused) == 1


def test_a_server_that_is_gone_is_told_of_in_one_sentence(
    page: Page, plant: Plant, seen: Seen
) -> None:
    seen.allowed = (REFUSED,)
    give(page, ("piece.png", plant.hole))
    page.context.set_offline(True)
    give(page, ("lost.png", plant.good))
    expect(page.locator("#why")).to_contain_text("The server does not answer.")
    page.get_by_role("button", name="piece.png").click()
    expect(page.locator("#verdict")).to_have_text("Defective")
    page.get_by_role("button", name="This is good").click()
    expect(page.locator("#answered")).to_contain_text("The server does not answer.")
    expect(page.get_by_role("button", name="This is good")).to_have_attribute(
        "aria-pressed", "false"
    )


def test_a_key_is_asked_for_used_and_kept_in_the_tab_only(
    page: Page, plant: Plant, seen: Seen
) -> None:
    seen.allowed = (REFUSED,)
    page.goto(plant.guarded)
    expect(page.locator("#key-form")).to_be_visible()
    expect(page.locator("#key")).to_be_focused()
    page.keyboard.type("wrong")
    page.keyboard.press("Enter")
    expect(page.locator("#key-error")).to_contain_text("A key is needed")
    page.locator("#key").fill(plant.key)
    page.get_by_role("button", name="Use this key").click()
    expect(page.locator("#detector")).to_be_enabled()
    expect(page.locator("#key-form")).to_be_hidden()
    give(page, ("piece.png", plant.hole))
    expect(page.locator("#verdict")).to_have_text("Defective")
    for name in ("This is good", "This is a defect"):  # this one keeps no journal
        expect(page.get_by_role("button", name=name)).to_be_hidden()
    expect(page.locator("#tools span", has_text="Box")).to_be_hidden()
    where = page.evaluate(
        "[Object.values(sessionStorage), Object.keys(localStorage), document.cookie]"
    )
    assert where == [[plant.key], [], ""]
    assert not any(plant.key in url for url in seen.requests)
    page.reload()
    expect(page.locator("#detector")).to_be_enabled()
    expect(page.locator("#key-form")).to_be_hidden()


# ------------------------------------------------------------------------------------------- looks


def test_a_window_of_another_size_shows_the_picture_at_once(page: Page, plant: Plant) -> None:
    give(page, ("hole.png", plant.hole))
    drawn(page)
    page.evaluate(  # told after the page's own observer, before anything is painted
        """() => { window.opaque = []; const canvas = document.getElementById("canvas");
        const copy = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
        new ResizeObserver(() => {
            copy.clearRect(0, 0, 1, 1);
            copy.drawImage(canvas, -canvas.width / 2, -canvas.height / 2);
            window.opaque.push(copy.getImageData(0, 0, 1, 1).data[3]);
        }).observe(document.querySelector("main")); }"""
    )
    for width in (1100, 1000, 900):
        page.set_viewport_size({"width": width, "height": 1000})
        drawn(page)
    opaque = page.evaluate("window.opaque")
    assert len(opaque) > 2
    assert set(opaque) == {255}


def test_nothing_scrolls_sideways_on_a_phone(page: Page, plant: Plant) -> None:
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    sizes = "[document.documentElement.scrollWidth, document.body.scrollWidth, innerWidth]"
    assert page.evaluate(sizes) == [360, 360, 360]
    give(page, (f"{'a-very-long-name' * 9}.png", plant.hole), ("b.png", plant.good))
    tool(page, "Brush")
    answered(page, "This is a defect", "In the journal")
    assert page.evaluate(sizes) == [360, 360, 360]
    for each in page.locator("#card summary").all():
        each.click()
    assert page.evaluate(sizes) == [360, 360, 360]
    top = page.locator("#banner").bounding_box()
    assert top is not None
    assert top["y"] < PHONE["height"]  # the verdict is seen without scrolling
    small = page.evaluate(
        """() => [...document.querySelectorAll("button, select, .segments span")]
        .filter((each) => each.offsetParent && each.getBoundingClientRect().height < 24)
        .map((each) => each.id || each.textContent)"""
    )
    assert small == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_axe_finds_no_serious_fault(
    page: Page, plant: Plant, scheme: Any, size: dict[str, int]
) -> None:
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    page.set_viewport_size(size)  # type: ignore[arg-type]
    faults = serious(page) if size is PHONE else []
    colour = file_of(coloured(plant.hole))
    give(page, ("a.png", plant.hole), ("b.png", plant.good), ("c.png", colour))
    tool(page, "Brush")
    page.locator("#threshold").fill("3")
    for each in page.locator("#card summary").all()[1:]:
        each.click()
    page.get_by_role("button", name="c.png").click()
    answered(page, "This is a defect", "In the journal")
    expect(page.locator("#warnings")).to_be_visible()
    faults += serious(page)
    if size is DESKTOP:
        page.keyboard.press("?")
        faults += serious(page)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    shade = sum(map(int, re.findall(r"\d+", ground)[:3]))
    assert shade < 200 if scheme == "dark" else shade > 600
    assert faults == []


def serious(page: Page) -> list[str]:
    """Return the serious and critical findings of axe-core, which must have looked at something."""
    found = Axe().run(page).response
    assert len(found["passes"]) > 15
    return [
        f"{each['id']}: {node['target']} {node.get('failureSummary', '')}"
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]


def test_nothing_moves_for_those_who_do_not_want_it(page: Page, plant: Plant) -> None:
    moves = "getComputedStyle(document.getElementById('choose')).transitionDuration"
    page.emulate_media(reduced_motion="no-preference")
    assert page.evaluate(moves) != "0s"
    page.emulate_media(reduced_motion="reduce")
    assert page.evaluate(moves) == "0s"


def test_the_page_has_no_script_or_style_of_its_own_and_a_policy_that_forbids_it(
    page: Page, plant: Plant
) -> None:
    answer = page.request.get(plant.address)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    html = answer.text()
    assert "<script" in html
    assert re.findall(r"<style|style=|\son\w+=|https?://(?!127)", html) == []
    for name in ("page.js", "page.css", "icon.svg"):
        served = page.request.get(f"{plant.address}static/{name}")
        assert served.ok
        assert (
            re.findall(
                r"https?://(?!www.w3.org)|innerHTML|insertAdjacentHTML|eval\(", served.text()
            )
            == []
        )
