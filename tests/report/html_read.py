"""A report read back: its texts, elements and addresses, by Python's own parser of HTML."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "img", "br", "link", "input", "hr"}


@dataclass
class Element:
    """One element with its attributes and the text in it."""

    tag: str
    attributes: dict[str, str]
    text: str = ""


@dataclass
class Read(HTMLParser):
    """A page, parsed.

    Attributes:
        elements: All elements, in the order in which they begin.
        unclosed: Tags that were closed wrongly.
    """

    page: str
    elements: list[Element] = field(default_factory=list)
    unclosed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._open: list[Element] = []
        self._texts: list[str] = []
        self.feed(self.page)
        self.close()
        self.unclosed += [element.tag for element in self._open]

    def __hash__(self) -> int:
        return id(self)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open[-1].tag != tag:
            self.unclosed.append(tag)
            return
        self._open.pop()

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data
        if any(element.tag == "body" for element in self._open):
            self._texts.append(data)

    def all(self, tag: str) -> list[Element]:
        return [element for element in self.elements if element.tag == tag]

    def words(self) -> str:
        """Return the text of the page, with one blank between words."""
        return " ".join(" ".join(self._texts).split())

    def table(self, first: str) -> list[list[str]]:
        """Return the rows of the table whose first column has this heading."""
        tables: list[list[list[str]]] = []
        for element in self.elements:
            if element.tag == "table":
                tables.append([])
            elif element.tag == "tr":
                tables[-1].append([])
            elif element.tag in ("td", "th"):
                tables[-1][-1].append(" ".join(element.text.split()))
        [found] = [table for table in tables if table[0][0] == first]
        return found


def assert_self_contained(page: str) -> Read:
    """Assert that a page is whole, runs nothing, refers to nothing outside, and can be heard."""
    read = Read(page)
    assert read.unclosed == []
    tags = {element.tag for element in read.elements}
    assert not tags & {
        "script",
        "link",
        "iframe",
        "object",
        "embed",
        "base",
        "form",
        "foreignobject",
    }
    for element in read.elements:
        for name, value in element.attributes.items():
            assert not name.startswith("on"), (element.tag, name)
            assert "http:" not in value
            assert "https:" not in value
            if name in ("src", "href", "data", "action", "srcset"):
                assert value.startswith(("data:image/jpeg;base64,", "data:image/png;base64,", "#"))
    assert "url(" not in page.replace("url(#", "")
    assert "@import" not in page
    ids = [element.attributes["id"] for element in read.elements if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    for picture in read.all("img"):
        assert picture.attributes["alt"].strip()
    for chart in read.all("svg"):
        assert chart.attributes["role"] == "img"
        assert chart.attributes["aria-labelledby"] in ids
    assert all("scope" in heading.attributes for heading in read.all("th"))
    assert [element.text for element in read.all("h1")], "a page has one title"
    return read
