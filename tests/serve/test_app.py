"""The routes of the service: answers as the detector gives them, and refusals in one form."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from tests.serve.services import HERE, client_of, pictures, settings, shelf_with
from zoo.data.images import as_pixels
from zoo.detectors import Detector, good_scores
from zoo.report import overlays
from zoo.scoring.thresholds import Rates, fit_threshold
from zoo.serve import answers
from zoo.serve.guard import HEADERS
from zoo.serve.routes import finite

if TYPE_CHECKING:
    from registry.bundle import Bundle

SCORE = "/v1/detectors/weave/score"
CAFE = "caf\u00e9 (2)"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Bundle) -> Path:
    """A shelf with two textures of the one detector."""
    root = tmp_path_factory.mktemp("served")
    shelf_with(root, [tiny_bundle])
    shelf_with(root, [tiny_bundle], texture=CAFE)
    return root


@pytest.fixture(scope="module")
def client(root: Path) -> Iterator[TestClient]:
    """A client of the service of that shelf."""
    with client_of(settings(root, most_bytes=200_000, most_megapixels=0.1)) as client:
        yield client


@pytest.fixture(scope="module")
def detector(tiny_bundle: Bundle) -> Detector:
    return Detector(tiny_bundle)


def test_a_picture_is_answered_as_the_detector_scores_it(
    client: TestClient, detector: Detector
) -> None:
    verdicts = set()
    for content in pictures(6):
        reply = client.post(SCORE, content=content)
        assert reply.status_code == 200, reply.text
        answer, score = reply.json(), detector.score(content)
        verdicts.add(answer["verdict"])
        own = score.as_json()
        assert answer["thresholds"]["picture"] == own.pop("threshold") == 1
        assert {name: answer[name] for name in own} == finite(own)
        assert (answer["height"], answer["width"]) == score.map.shape == (64, 72)
        assert answer["anomalous_share"] == pytest.approx(score.mask.mean())
        assert answer["request_id"] == reply.headers["x-request-id"]
        stated = answers.Scored.model_validate(answer)
        assert stated.model_dump(mode="json", exclude_unset=True) == answer, "all is documented"
    assert verdicts == {"good", "defective"}


def test_the_map_in_grey_is_128_and_more_where_a_pixel_is_anomalous(
    client: TestClient, detector: Detector
) -> None:
    content = pictures(2)[1]
    score = detector.score(content)
    packed = base64.b64decode(client.post(f"{SCORE}?map=true", content=content).json()["map"])
    with Image.open(io.BytesIO(packed)) as image:
        grey = np.asarray(image)
    assert image.mode == "L"
    assert ((grey >= 128) == (score.map >= 1)).all()
    assert 0 < (grey >= 128).mean() < 0.5
    assert (grey == overlays.grey(score)).all()


def test_the_map_in_numbers_is_that_of_the_detector(client: TestClient, detector: Detector) -> None:
    content = pictures(2)[1]
    expected = detector.score(content).map
    answer = client.post(f"{SCORE}?map=float32", content=content).json()
    found = np.load(io.BytesIO(base64.b64decode(answer["map"])))
    assert found.dtype == np.float32
    assert (found == expected).all()
    reply = client.post(SCORE, content=content, headers={"Accept": "application/x-npy"})
    assert reply.headers["content-type"] == "application/x-npy"
    assert (np.load(io.BytesIO(reply.content)) == expected).all()
    assert reply.headers["x-zoo-verdict"] == answer["verdict"]
    assert float(reply.headers["x-zoo-score"]) == answer["score"]
    assert reply.headers["x-zoo-digest"] == answer["digest"]


def test_the_overlay_is_that_of_the_command_line(client: TestClient, detector: Detector) -> None:
    content = pictures(2)[1]
    reply = client.post(SCORE, content=content, headers={"Accept": "image/png"})
    assert reply.headers["content-type"] == "image/png"
    drawn = overlays.overlay(as_pixels(content), detector.score(content))
    with Image.open(io.BytesIO(reply.content)) as image:
        assert (np.asarray(image) == drawn).all()


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        ("*/*", "application/json"),
        ("text/html, application/json;q=0.9, image/png;q=0.5", "application/json"),
        ("application/json;q=0.2, image/png", "image/png"),
        ("image/*", "image/png"),
        ("image/png;q=0, application/x-npy;q=0.1", "application/x-npy"),
    ],
)
def test_a_client_gets_the_form_that_it_likes_best(
    client: TestClient, accept: str, media: str
) -> None:
    reply = client.post(SCORE, content=pictures(1)[0], headers={"Accept": accept})
    assert (reply.status_code, reply.headers["content-type"]) == (200, media)


def test_another_rate_moves_the_threshold_and_the_verdict_and_nothing_else(
    client: TestClient, tiny_bundle: Bundle
) -> None:
    good = good_scores(tiny_bundle)
    assert good is not None
    moved, verdicts = 0, []
    for content in pictures(6):
        usual = client.post(SCORE, content=content).json()
        for rate in (0.01, 0.5):
            answer = client.post(f"{SCORE}?rate={rate}", content=content).json()
            expected = fit_threshold(
                good.scores, Rates(false_alarms=rate), groups=list(good.groups)
            )
            limits = answer["thresholds"]
            assert limits["picture"] == pytest.approx(expected.value)
            assert limits["false_alarm_rate"] == rate
            assert limits["rule"] == expected.rule
            low, high = limits["false_alarm_interval"]
            assert low <= rate <= high
            assert (answer["verdict"] == "defective") == (answer["score"] > limits["picture"])
            assert answer["is_anomalous"] == (answer["verdict"] == "defective")
            same = ("score", "regions", "p_value", "anomalous_pixels", "digest")
            assert {name: answer[name] for name in same} == {name: usual[name] for name in same}
            moved += answer["verdict"] != usual["verdict"]
            verdicts.append((rate, answer["verdict"]))
    assert sum(verdict != "good" for rate, verdict in verdicts if rate == 0.5) >= 3
    assert sum(verdict == "good" for rate, verdict in verdicts if rate == 0.01) >= 3


@pytest.mark.parametrize("name", ["weave", "weave@champion", "weave:1", "weave%3A1", "weave%401"])
def test_a_detector_has_the_names_that_load_takes(client: TestClient, name: str) -> None:
    reply = client.post(f"/v1/detectors/{name}/score", content=pictures(1)[0])
    if name == "weave%401":
        assert reply.status_code == 404
        assert "it has weave@champion, weave:1" in reply.json()["message"]
    else:
        assert reply.json()["version"] == 1


def test_a_name_with_signs_is_encoded_and_its_digest_pins_it(client: TestClient) -> None:
    names = client.get("/v1/detectors").json()["detectors"]
    assert answers.Names.model_validate({"detectors": names})
    assert [each["name"] for each in names] == [CAFE, "weave"]
    for each in names:
        assert each["loaded"] is True
        assert each["aliases"] == {"champion": 1}
        pinned = f"/v1/detectors/{each['texture']}@sha256:{each['digest']}/score"
        answer = client.post(pinned, content=pictures(1)[0]).json()
        assert (answer["texture"], answer["digest"]) == (each["texture"], each["digest"])


def test_card_and_history_tell_what_was_done_and_not_by_whom(client: TestClient) -> None:
    shown = client.get("/v1/detectors/weave").json()
    stated = answers.Card.model_validate(shown)
    assert stated.card["threshold"]["false_alarm_rate"] == 0.05
    assert stated.card["lineage"]["act"] == "promoted"
    assert stated.card["lineage"]["aliases"] == ["champion"]
    assert ("Material", "weave") in stated.words[0].lines
    told = client.get("/v1/detectors/weave/history").json()
    assert [entry.act for entry in answers.History.model_validate(told).history] == ["promoted"]
    for each in (shown["card"]["lineage"], *told["history"]):
        assert not {"who", "run"} & set(each)


def png(height: int, width: int) -> bytes:
    disk = io.BytesIO()
    Image.new("L", (width, height)).save(disk, "png")
    return disk.getvalue()


REFUSED: dict[str, tuple[dict[str, Any], int, str, str]] = {
    "no route": ({"url": "/v2/x"}, 404, "not_found", "There is nothing at '/v2/x'"),
    "a path": (
        {"url": "/v1/detectors/..%2F..%2Fetc%2Fpasswd/score"},
        404,
        "not_found",
        "There is nothing at '/v1/detectors/../../etc/passwd/score'",
    ),
    "another method": ({"method": "PUT"}, 405, "wrong_method", "does not take PUT"),
    "no detector": (
        {"url": "/v1/detectors/weav/score"},
        404,
        "unknown_detector",
        "No detector 'weav' here; there are caf\u00e9 (2), weave. Did you mean 'weave'?",
    ),
    "a huge name": (
        {"url": f"/v1/detectors/{'w' * 3000}/score"},
        404,
        "unknown_detector",
        "it has 3000 letters",
    ),
    "a long address": ({"url": f"/{'w' * 5000}"}, 414, "long_address", "has 5001 bytes"),
    "no picture": ({"content": b"text"}, 422, "bad_image", "These 4 bytes cannot be read"),
    "nothing": ({"content": b""}, 422, "bad_image", "it is empty"),
    "too many bytes": ({"content": bytes(200_001)}, 413, "too_large", "at most 200000 bytes"),
    "too many pixels": (
        {"content": png(400, 300)},
        413,
        "too_many_pixels",
        "has 400x300 pixels, and at most 0.1 megapixels",
    ),
    "too small": ({"content": png(8, 9)}, 422, "bad_image", "The image has 8x9 pixels"),
    "a form": ({"files": {"picture": b"x"}}, 415, "form", "curl --data-binary @picture.png"),
    "a packed body": (
        {"headers": {"Content-Encoding": "gzip"}},
        415,
        "packed_body",
        "A packed body is not read",
    ),
    "no such form": ({"headers": {"Accept": "text/html"}}, 406, "no_such_form", "'text/html'"),
    "no rate": ({"url": f"{SCORE}?rate=2"}, 422, "bad_request", "query rate: Input should be less"),
    "no map": ({"url": f"{SCORE}?map=jpeg"}, 422, "bad_request", "query map: Input should be"),
    "no such parameter": (
        {"url": f"{SCORE}?rates=0.1"},
        422,
        "bad_request",
        "none of that name; there are map, rate. Did you mean 'rate'?",
    ),
    "a parameter twice": ({"url": f"{SCORE}?rate=.1&rate=.2"}, 422, "bad_request", "there twice"),
    "almost this host": (
        {"headers": {"Host": "127.0.0.1.evil.example:80"}},
        421,
        "wrong_host",
        "'127.0.0.1.evil.example:80'",
    ),
    "another host": ({"headers": {"Host": "evil.example"}}, 421, "wrong_host", "'evil.example'"),
    "another site": (
        {"headers": {"Origin": "http://evil.example"}},
        403,
        "other_site",
        "A page of another site",
    ),
    "another site, by its browser": (
        {"headers": {"Sec-Fetch-Site": "cross-site"}},
        403,
        "other_site",
        "A page of another site",
    ),
    "a page without a site": ({"headers": {"Origin": "null"}}, 403, "other_site", "another site"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_told_in_one_sentence_and_the_next_is_answered(
    client: TestClient, name: str
) -> None:
    asked, status, code, words = REFUSED[name]
    body = {} if "files" in asked else {"content": pictures(1)[0]}
    reply = client.request(**({"method": "POST", "url": SCORE} | body | asked))
    assert reply.status_code == status, reply.text
    refusal = answers.Refusal.model_validate(reply.json())
    assert set(reply.json()) == {"error", "message"}
    assert refusal.error == code
    assert words in refusal.message
    assert "\n" not in refusal.message
    assert len(refusal.message) <= 500
    assert client.post(SCORE, content=pictures(1)[0]).status_code == 200


@pytest.mark.parametrize("host", ["localhost:80", "LOCALHOST", "127.0.0.2:80", "[::1]:80"])
def test_every_name_of_this_machine_is_answered(client: TestClient, host: str) -> None:
    assert client.get("/v1/detectors", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [{"Origin": HERE}, {"Sec-Fetch-Site": "same-origin"}, {"Host": "localhost:8080"}],
    ids=str,
)
def test_the_page_of_the_service_itself_may_send(
    client: TestClient, headers: dict[str, str]
) -> None:
    assert client.post(SCORE, content=pictures(1)[0], headers=headers).status_code == 200


def test_every_answer_has_the_headers_that_keep_a_browser_safe(client: TestClient) -> None:
    replies = [client.get(url) for url in ("/livez", "/nothing", "/v1/detectors", "/metrics")]
    replies.append(client.post(SCORE, content=b"x"))
    replies.append(client.get("/livez", headers={"Host": "evil.example"}))
    for reply in replies:
        for name, value in HEADERS.items():
            assert reply.headers[name.decode()] == value.decode(), reply.url
        assert "unsafe" not in reply.headers["content-security-policy"]


def test_a_fault_of_ours_is_a_sentence_and_its_traceback_is_in_the_log(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with client_of(settings(root)) as client:

        async def fault() -> None:
            raise RuntimeError("a secret of ours")

        app: Any = client.app
        app.add_api_route("/fault", fault)
        reply = client.get("/fault", headers={"X-Request-ID": "mine-1"})
    assert reply.status_code == 500
    assert reply.json()["error"] == "internal"
    assert "secret" not in reply.text
    assert "The request mine-1 failed" in caplog.text
    assert "RuntimeError: a secret of ours" in caplog.text


def test_every_route_is_described_with_what_it_answers(client: TestClient) -> None:
    described = client.get("/openapi.json").json()
    paths = described["paths"]
    assert {"/v1/detectors/{name}/score", "/v1/detectors", "/livez", "/readyz", "/metrics"} < set(
        paths
    )
    for path, methods in paths.items():
        for method, route in methods.items():
            assert route["summary"], path
            assert "200" in route["responses"] or "201" in route["responses"], (path, method)
    score = paths["/v1/detectors/{name}/score"]["post"]
    assert set(score["responses"]["200"]["content"]) == {
        "application/json",
        "image/png",
        "application/x-npy",
    }
    assert "image/tiff" in score["requestBody"]["content"]
    refused = {status for _, status, code, _ in REFUSED.values() if code not in BEFORE_ROUTES}
    assert {str(status) for status in refused} <= set(score["responses"])
    names = set(described["components"]["schemas"])
    assert {"Scored", "Region", "Thresholds", "Refusal", "Card", "History"} <= names


BEFORE_ROUTES = {"not_found", "wrong_method", "long_address", "wrong_host", "other_site"}


@pytest.mark.parametrize("url", ["/docs", "/redoc"])
def test_no_page_loads_anything_from_elsewhere(client: TestClient, url: str) -> None:
    assert client.get(url).status_code == 404


def test_what_is_counted_can_be_read(root: Path) -> None:
    with client_of(settings(root)) as client:
        verdicts = [client.post(SCORE, content=each).json()["verdict"] for each in pictures(4)]
        client.post(SCORE, content=b"x")
        text = client.get("/metrics").text
    for verdict in set(verdicts):
        line = f'zoo_pictures_total{{detector="weave",verdict="{verdict}",version="1"}}'
        assert f"{line} {float(verdicts.count(verdict))}" in text
    assert 'zoo_refused_total{code="bad_image"} 1.0' in text
    assert 'zoo_score_count{detector="weave"} 4.0' in text
    assert "zoo_ready 1.0" in text
    assert "process_resident_memory_bytes" in text


def test_it_is_ready_when_a_detector_has_scored(tmp_path: Path, tiny_bundle: Bundle) -> None:
    from zoo.serve.app import build

    app = build(settings(tmp_path / "empty-of-users"))
    client = TestClient(app, base_url=HERE)  # it has not been started
    assert client.get("/livez").json() == {"status": "alive"}
    reply = client.get("/readyz")
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
    assert reply.json() == {"error": "not_ready", "message": "The detectors are being loaded."}
    app.state.service.close()


def test_a_broken_detector_among_others_is_told_and_the_others_answer(
    tmp_path: Path, tiny_bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    shelf_with(tmp_path, [tiny_bundle])
    broken = replace(tiny_bundle, method="unknown_method")
    shelf_with(tmp_path, [broken], texture="broken")
    with client_of(settings(tmp_path)) as client:
        reply = client.post("/v1/detectors/broken/score", content=pictures(1)[0])
        assert (reply.status_code, reply.json()["error"]) == (503, "not_loaded")
        assert int(reply.headers["retry-after"]) >= 1
        assert client.post(SCORE, content=pictures(1)[0]).status_code == 200
    assert "'broken' cannot be loaded" in caplog.text
    assert "made by method 'unknown_method'" in caplog.text
