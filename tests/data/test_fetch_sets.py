"""The list of data sets: what is in ours, and what is refused in any."""

from __future__ import annotations

from pathlib import Path

import pytest

from zoo.data.fetch.arrange import ARRANGEMENTS
from zoo.data.fetch.sets import BUNDLED, DataSet, chosen, load, named
from zoo.data.textures import MVTEC_TEXTURES
from zoo.errors import ConfigError

ONE_LINE = (
    'cloth: {title: My cloth, licence: CC0 1.0, page: "https://example.org/", citation: none, '
    'textures: [cloth], archives: {all: {url: "https://example.org/cloth.zip"}}}\n'
)


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "own.yaml"
    path.write_text(text)
    return path


def test_ours_names_what_the_mission_needs_with_licence_citation_and_address() -> None:
    sets = load()
    assert next(iter(sets)) == "mvtec-ad"
    assert {"mvtec-ad-2", "nanotwice", "magnetic-tile", "kolektor", "kolektor-2"} < set(sets)
    assert set(sets["mvtec-ad"].textures) == set(MVTEC_TEXTURES)
    assert len(sets["mvtec-ad"].names) == 15
    for each in sets.values():
        assert each.page.startswith("http")
        assert len(each.citation) > 60
        for archive in each.archives.values():
            assert archive.sha256 is None or archive.bytes
    urls = [url for each in sets.values() for one in each.archives.values() for url in one.url]
    assert len(urls) == len(set(urls)) > 20
    assert [url for url in urls if not url.startswith("https://")] == [
        "http://web.mi.imati.cnr.it/ettore/NanoTWICE/dfg05er_Data.zip"
    ]
    hashes = [a.sha256 for each in sets.values() for a in each.archives.values() if a.sha256]
    assert len(hashes) == len(set(hashes))
    assert {each.arrange for each in sets.values()} == set(ARRANGEMENTS)


def test_one_line_adds_a_set_and_its_example_is_one(tmp_path: Path) -> None:
    sets = load(written(tmp_path, ONE_LINE))
    assert sets["cloth"].archives["all"].url == ("https://example.org/cloth.zip",)
    assert "mvtec-ad" in sets
    comment = BUNDLED.read_text().split("One line adds a set:")[1].split("#   ")[1].splitlines()[0]
    example = comment.replace("sha256: ...", f"sha256: {'a' * 64}")
    assert load(written(tmp_path, example))["cloth"].archives["all"].bytes == 1_000_000


def with_field(field: str, value: str) -> str:
    return ONE_LINE.replace("title: My cloth", f"{field}: {value}, title: My cloth")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "has no data sets"),
        ("- a", "has no data sets"),
        ("cloth: [", "is no YAML"),
        ("\x00", "is no YAML"),
        (ONE_LINE + ONE_LINE, "'cloth' is given twice"),
        (ONE_LINE.replace("title: My cloth, ", ""), "'cloth', title: Field required"),
        (with_field("titel", "x"), "'cloth', titel: Extra inputs are not permitted"),
        (ONE_LINE.replace("CC0 1.0", "1.0"), "'cloth', licence: Input should be a valid string"),
        (ONE_LINE.replace("CC0 1.0", '"two\\nlines"'), "'cloth', licence: String should match"),
        (with_field("arrange", "sideways"), "'sideways' is none of as-is, mvtec-ad-2"),
        (ONE_LINE.replace("https://example.org/cloth.zip", "ftp://a/b"), "is no address"),
        (ONE_LINE.replace("all: {", "silk: {"), "names that it does not"),
        (ONE_LINE.replace("[cloth]", "[cloth, all]"), "given twice, or is 'all'"),
        (ONE_LINE.replace("[cloth]", "[cloth, cloth]"), "given twice"),
        (ONE_LINE.replace("[cloth]", '["../cloth"]'), "'../cloth' cannot name a texture"),
        (ONE_LINE.replace("[cloth]", "[]"), "textures: Tuple should have at least 1"),
        (
            ONE_LINE.replace("[cloth]", "[cloth, silk]").replace("all: {", "cloth: {"),
            "not every name has an archive",
        ),
        (ONE_LINE.replace("}}}", ', sha256: "12"}}}'), "sha256: String should match"),
        (ONE_LINE.replace("}}}", ", bytes: -1}}}"), "bytes: Input should be greater than 0"),
        (ONE_LINE.replace("}}}", ", bytes: yes}}}"), "bytes: Input should be a valid integer"),
    ],
)
def test_a_list_that_is_wrong_is_refused_with_the_set_and_the_field(
    text: str, why: str, tmp_path: Path
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError, match=why) as refused:
        load(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_list_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml cannot be read"):
        load(tmp_path / "none.yaml")


def test_near_names_are_offered() -> None:
    sets = load()
    with pytest.raises(ConfigError, match="Did you mean 'kolektor'"):
        named(sets, "kolector")
    with pytest.raises(ConfigError, match="MVTec AD has no 'gird'; .* Did you mean 'grid'"):
        chosen(sets["mvtec-ad"], ["gird"])


def test_what_is_fetched_is_what_is_named_or_the_textures_or_all() -> None:
    mvtec = load()["mvtec-ad"]
    assert chosen(mvtec, []) == mvtec.textures
    assert chosen(mvtec, ["wood", "grid", "wood"]) == ("wood", "grid")
    assert chosen(mvtec, ["all"]) == mvtec.names


def sized(**archives: tuple[str | None, int | None]) -> DataSet:
    return DataSet.model_validate(
        {
            "title": "t",
            "licence": "CC0",
            "page": "https://example.org",
            "citation": "c",
            "textures": ["a", "b"],
            "others": ["c"],
            "archives": {
                name: {"url": f"https://example.org/{name}.zip", "sha256": sha256, "bytes": size}
                for name, (sha256, size) in archives.items()
            },
        }
    )


def test_the_smallest_archives_are_taken_whose_hash_is_known() -> None:
    one, two = "1" * 64, "2" * 64
    own = sized(a=(one, 10), b=(two, 20), all=("3" * 64, 100))
    assert own.sources(["a"], unverified=False) == {"a": ("a",)}
    assert own.sources(["a", "b"], unverified=False) == {"a": ("a",), "b": ("b",)}
    assert own.sources(["a", "c"], unverified=False) == {"all": ("a", "c")}
    assert own.sources(["a", "b", "c"], unverified=False) == {"all": ("a", "b", "c")}
    assert (own.size(["a", "b"]), own.size(["c"])) == (30, 100)
    partly = sized(a=(None, None), b=(two, 20), all=("3" * 64, 100))
    assert partly.sources(["a"], unverified=False) == {"all": ("a",)}
    assert partly.sources(["a"], unverified=True) == {"a": ("a",)}
    assert sized(all=(None, None)).size(["a"]) is None
