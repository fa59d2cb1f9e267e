"""The routes of the page without a browser: what they answer, and what they refuse."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from registry.bundle import Bundle
from registry.folder_shelf import FolderShelf
from tests import textures_drawn
from tests.serve.serving import file_of, stock
from zoo.detectors import Detector, good_scores
from zoo.serve.app import build
from zoo.serve.journal import Journal
from zoo.serve.page import FILES
from zoo.serve.settings import Settings

HEIGHT, WIDTH = textures_drawn.HEIGHT, textures_drawn.WIDTH
HOLE = file_of(textures_drawn.draw_hole(HEIGHT, WIDTH, np.random.default_rng(0))[0])
PICTURE = hashlib.sha256(HOLE).hexdigest()


@pytest.fixture(scope="module")
def shelf(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("routes")
    stock(root / "shelf", tiny_bundle)
    return str(root / "shelf")


@pytest.fixture
def client(shelf: str, tmp_path: Path) -> Iterator[TestClient]:
    """A client of a service that keeps answers with their pictures."""
    yield from client_of(Settings(shelf=shelf, journal=tmp_path / "journal", keep="marked"))


def client_of(settings: Settings) -> Iterator[TestClient]:
    with TestClient(build(settings), base_url="http://localhost") as client:
        yield client


def mark(**changes: Any) -> dict[str, Any]:
    return {
        "picture": PICTURE,
        "file": "piece.png",
        "height": HEIGHT,
        "width": WIDTH,
        "detector": "weave",
        "said": {"verdict": "defective", "score": 2},
        "answer": "defect",
        "boxes": [{"top": 1, "left": 2, "height": 3, "width": 4}],
    } | changes


def refused(answer: Any, status: int) -> str:
    """Return the sentence of a refusal of this status."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert set(body) == {"error", "message"}
    assert "\n" not in body["message"]
    return str(body["message"])


@pytest.mark.parametrize("name", ["weave", "yarn"])
def test_the_row_of_thresholds_begins_at_the_rate_of_the_card(
    client: TestClient, shelf: str, name: str
) -> None:
    served = client.get(f"/v1/detectors/{name}/scores").json()
    row = {each["threshold"]: each["false_alarms"] for each in served["thresholds"]}
    assert row[1.0] == pytest.approx(1000 * served["false_alarm_rate"], abs=0.1)
    assert list(row) == sorted(row)
    assert list(row.values()) == sorted(row.values(), reverse=True)
    assert len(row) > 150
    assert max(row) < 2  # a map of 8 bits has no higher values
    detector = Detector(bundle_of(shelf, name))
    good = good_scores(detector.bundle)
    assert good is not None
    assert sum(served["histogram"]["counts"]) == len(good.scores) == served["pictures"]
    fresh = textures_drawn.draw(HEIGHT, WIDTH, np.random.default_rng(7))
    score = detector.score(fresh).score
    if name == "yarn":  # its scores are those of such pictures
        assert min(abs(each - score) for each in good.scores) < 1e-6
        assert row[max(row)] == pytest.approx(1000 / 40)
        assert served["rule"] == "conformal"


def bundle_of(shelf: str, name: str) -> Bundle:
    from registry import bundle

    return bundle.load(FolderShelf(Path(shelf)).fetch(name))


def test_a_detector_without_scores_has_no_histogram(tiny_bundle: Bundle, tmp_path: Path) -> None:
    from dataclasses import replace

    known = {
        name: each
        for name, each in tiny_bundle.threshold.items()
        if name not in ("scores", "groups")
    }
    stock_one(tmp_path / "shelf", replace(tiny_bundle, threshold=known))
    for client in client_of(Settings(shelf=str(tmp_path / "shelf"))):
        served = client.get("/v1/detectors/weave/scores").json()
        assert served["histogram"] is served["thresholds"] is None
        assert served["false_alarm_rate"] == known["false_alarm_rate"]
        refused(client.get("/v1/detectors/wood/scores"), 404)


def stock_one(shelf: Path, made: Bundle) -> None:
    from registry import bundle
    from tests.exams import publish

    bundle.save(made, shelf.parent / "made")
    publish(FolderShelf(shelf), shelf.parent / "made", texture=made.texture, version=1)


@pytest.mark.parametrize("kind", ["tiff", "jpeg2000", "png"])
def test_a_preview_has_the_pixels_of_the_picture_in_8_bits(client: TestClient, kind: str) -> None:
    pixels = textures_drawn.draw(HEIGHT, WIDTH, np.random.default_rng(1))
    deep = pixels.astype(np.uint16) * 257
    for given in (file_of(pixels, kind), file_of(deep, "tiff"), file_of(deep)):
        answer = client.post("/v1/preview", content=given)
        assert answer.headers["content-type"] == "image/png"
        shown = np.asarray(Image.open(io.BytesIO(answer.content)))
        assert np.array_equal(shown, pixels[..., 0])


def test_the_preview_of_a_colour_picture_has_its_colours(client: TestClient) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    answer = client.post("/v1/preview", content=file_of(pixels, "tiff"))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(answer.content))), pixels)


def test_a_preview_is_bounded_as_scoring_is(shelf: str) -> None:
    tight = Settings(shelf=shelf, most_megapixels=0.001, most_bytes=5000)
    for client in client_of(tight):
        assert "megapixels" in refused(client.post("/v1/preview", content=HOLE), 413)
        assert "5000 bytes" in refused(client.post("/v1/preview", content=b"x" * 5001), 413)
        assert "no picture" in refused(client.post("/v1/preview", content=b"hello"), 422)


def test_an_answer_and_its_picture_go_into_the_journal(client: TestClient, tmp_path: Path) -> None:
    kept = client.post("/v1/detectors/weave/marks", json=mark())
    assert kept.status_code == 201
    assert kept.json()["send_picture"] is True
    put = client.put(f"/v1/detectors/weave/marks/{PICTURE}", content=HOLE)
    assert (put.status_code, put.json()) == (201, {"removed": 0})
    journal = Journal(tmp_path / "journal")
    (line,) = journal.read("weave").lines
    assert (line.answer, line.picture, line.boxes[0].width) == ("defect", PICTURE, 4)
    assert kept.json()["time"] == line.time.isoformat()
    path = journal.picture("weave", PICTURE)
    assert path is not None
    assert path.read_bytes() == HOLE


def test_aliases_and_versions_share_the_journal_of_their_texture(
    client: TestClient, tmp_path: Path
) -> None:
    for name in ("weave", "weave:1", "weave@champion"):
        answer = client.post(f"/v1/detectors/{name}/marks", json=mark(detector=name))
        assert answer.status_code == 201, answer.text
    lines = Journal(tmp_path / "journal").read("weave").lines
    assert [line.detector for line in lines] == ["weave", "weave:1", "weave@champion"]


@pytest.mark.parametrize(
    ("name", "change", "status", "reason"),
    [
        ("wood", {"detector": "wood"}, 404, "No detector 'wood' here"),
        (
            "weave",
            {"detector": "yarn"},
            422,
            "The mark is of the detector 'yarn', not of 'weave'",
        ),
        ("weave", {"answer": "maybe"}, 422, "answer: Input should be 'good'"),
        ("weave", {"picture": "../x"}, 422, "picture: String should match"),
        (
            "weave",
            {"said": {"verdict": "good", "score": "nan"}},
            422,
            "score: Input should be a valid",
        ),
        (
            "weave",
            {"boxes": [{"top": 62, "left": 0, "height": 9, "width": 1}]},
            422,
            "A box ends at row 71",
        ),
        ("weave", {"mask": "AAAA"}, 422, "The mask is no PNG in base64"),
        ("weave", {"height": 16000, "width": 16000}, 422, "at most 50 megapixels here"),
    ],
)
def test_a_mark_that_is_none_is_refused_in_one_sentence(
    client: TestClient, tmp_path: Path, name: str, change: dict[str, Any], status: int, reason: str
) -> None:
    answer = client.post(f"/v1/detectors/{name}/marks", json=mark(**change))
    assert reason in refused(answer, status)
    assert not (tmp_path / "journal").exists()


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff\xfe", b'{"picture": NaN}'])
def test_a_body_that_is_no_mark_is_refused(client: TestClient, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    refused(client.post("/v1/detectors/weave/marks", content=body, headers=headers), 422)


def test_a_picture_that_nobody_marked_is_not_kept(client: TestClient, tmp_path: Path) -> None:
    path = f"/v1/detectors/weave/marks/{PICTURE}"
    assert "No mark of 'weave'" in refused(client.put(path, content=HOLE), 422)
    client.post("/v1/detectors/weave/marks", json=mark())
    assert "does not have the SHA-256" in refused(client.put(path, content=HOLE + b"x"), 422)
    other = "/v1/detectors/yarn/marks/" + PICTURE
    assert "No mark of 'yarn'" in refused(client.put(other, content=HOLE), 422)
    assert not list((tmp_path / "journal").rglob("*.png"))


def test_without_a_journal_or_pictures_it_says_how_to_have_them(shelf: str, tmp_path: Path) -> None:
    path = f"/v1/detectors/weave/marks/{PICTURE}"
    for client in client_of(Settings(shelf=shelf)):
        assert client.get("/v1/journal").json() == {"on": False, "keep": "none"}
        none = refused(client.post("/v1/detectors/weave/marks", json=mark()), 409)
        assert "zoo serve --journal" in none
        assert "zoo serve --journal" in refused(client.put(path, content=HOLE), 409)
    for client in client_of(Settings(shelf=shelf, journal=tmp_path / "journal")):
        assert client.get("/v1/journal").json() == {"on": True, "keep": "none"}
        kept = client.post("/v1/detectors/weave/marks", json=mark())
        assert kept.json()["send_picture"] is False
        assert "--keep-pictures" in refused(client.put(path, content=HOLE), 409)


def test_a_full_journal_says_so_and_keeps_what_it_has(shelf: str, tmp_path: Path) -> None:
    tight = Settings(
        shelf=shelf, journal=tmp_path / "journal", keep="marked", most_journal_bytes=900
    )
    for client in client_of(tight):
        assert client.post("/v1/detectors/weave/marks", json=mark()).status_code == 201
        put = client.put(f"/v1/detectors/weave/marks/{PICTURE}", content=HOLE)
        assert "The mark is kept without it" in refused(put, 422)
        while (answer := client.post("/v1/detectors/weave/marks", json=mark())).status_code == 201:
            pass
        message = refused(answer, 507)
        assert "none is removed" in message
        assert str(tmp_path) not in message
    assert 1 <= len(Journal(tmp_path / "journal").read("weave").lines) < 5


def test_the_files_of_the_page_are_served_and_nothing_beside_them(client: TestClient) -> None:
    assert client.get("/").content == (FILES / "index.html").read_bytes()
    assert client.head("/").status_code == 200
    for path in FILES.iterdir():
        assert client.get(f"/static/{path.name}").content == path.read_bytes()
    for beside in ("page.py", "../page.py", "%2e%2e/page.py", "..%2fjournal.py", ""):
        refused(client.get(f"/static/{beside}"), 404)
