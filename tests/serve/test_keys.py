"""Keys of the service: who has none is refused before the body, and a key can be taken away."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.processes import until
from tests.serve.services import client_of, pictures, settings, shelf_with
from zoo.errors import ConfigError, StorageError
from zoo.serve.keys import Keys, new_key

if TYPE_CHECKING:
    from registry.bundle import Bundle

SCORE = "/v1/detectors/weave/score"


def test_a_key_is_known_by_its_digest_and_the_file_has_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "home" / "keys"
    one, two = new_key(file, "line 3"), new_key(file, "camera@hall-2")
    keys = Keys(file)
    assert (keys.owner(one), keys.owner(two)) == ("line 3", "camera@hall-2")
    for wrong in ("", one[:-1], one + "x", one.upper(), "\udc80"):
        assert keys.owner(wrong) is None
    text = file.read_text()
    assert one not in text
    assert len(re.findall("[0-9a-f]{64}", text)) == 2
    assert file.stat().st_mode & 0o777 == 0o600
    assert len(one) > 40


def test_the_same_label_twice_and_no_label_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    new_key(file, "line 3")
    with pytest.raises(ConfigError, match="has a key of 'line 3'"):
        new_key(file, "line 3")
    for label in ("", " x", "a\nb", "#", "x" * 61):
        with pytest.raises(ConfigError, match="is no label of a key"):
            new_key(file, label)
    assert list(Keys(file)._known.values()) == ["line 3"]


@pytest.mark.parametrize("text", ["", "# nobody\n", "\n\n"])
def test_a_file_without_a_key_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "keys").write_text(text)
    with pytest.raises(ConfigError, match="has no key. Make one with `zoo serve --new-key"):
        Keys(tmp_path / "keys")


@pytest.mark.parametrize("line", ["secret", "0" * 63 + "  x", "0" * 64 + " x", "G" * 64 + "  x"])
def test_a_line_that_is_no_digest_is_refused_with_its_number(tmp_path: Path, line: str) -> None:
    (tmp_path / "keys").write_text(f"# of today\n{line}\n")
    with pytest.raises(ConfigError, match="Line 2 of .* is no key") as refused:
        Keys(tmp_path / "keys")
    assert line not in str(refused.value), "somebody may have written the key itself"


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="Cannot read the keys"):
        Keys(tmp_path / "none")


def test_with_keys_every_route_but_health_and_page_asks_for_one(
    tmp_path: Path, tiny_bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "zoo.serve")
    shelf_with(tmp_path, [tiny_bundle])
    key = new_key(tmp_path / "keys", "line 3")
    other = new_key(tmp_path / "keys", "line 4")
    content = pictures(1)[0]
    with client_of(settings(tmp_path, keys=tmp_path / "keys", refresh_s=0.1)) as client:
        for url in ("/livez", "/readyz", "/"):
            assert client.get(url).status_code == 200
        described = client.get("/openapi.json", headers={"X-API-Key": key}).json()
        protected = [url for url in described["paths"] if url not in ("/livez", "/readyz", "/")]
        assert len(protected) >= 5
        for url in (*protected, "/openapi.json", "/nothing"):
            reply = client.get(url.replace("{name}", "weave"))
            assert reply.status_code == 401, url
            assert reply.json()["error"] == "no_key"
            assert reply.headers["www-authenticate"] == "Bearer"
        for headers in ({"Authorization": f"Bearer {key}"}, {"X-API-Key": key}):
            assert client.post(SCORE, content=content, headers=headers).status_code == 200
            there = headers | {"Host": "inspection.example"}
            assert client.post(SCORE, content=content, headers=there).status_code == 200
        for headers in ({"Authorization": f"Basic {key}"}, {"X-API-Key": f"{key}x"}, {}):
            assert client.post(SCORE, content=content, headers=headers).status_code == 401
        foreign = {"X-API-Key": key, "Origin": "http://evil.example"}
        assert client.post(SCORE, content=content, headers=foreign).status_code == 403
        schemes = described["components"]["securitySchemes"]
        assert {each["type"] for each in schemes.values()} == {"http", "apiKey"}
        assert described["paths"]["/livez"]["get"]["security"] == []

        lines = (tmp_path / "keys").read_text().splitlines(keepends=True)
        (tmp_path / "keys").write_text("".join(each for each in lines if "line 3" not in each))
        gone = {"X-API-Key": key}
        until(
            lambda: client.post(SCORE, content=content, headers=gone).status_code == 401,
            what="a key that was taken away is still accepted",
        )
        assert client.post(SCORE, content=content, headers={"X-API-Key": other}).status_code == 200
        (tmp_path / "keys").write_text("")
        until(
            lambda: (
                client.post(SCORE, content=content, headers={"X-API-Key": other}).status_code == 401
            ),
            what="without any key left, the service is open",
        )
    assert "key=line 3" in caplog.text
    assert "The keys are now those of: line 4" in caplog.text
    assert key not in caplog.text
    assert other not in caplog.text
