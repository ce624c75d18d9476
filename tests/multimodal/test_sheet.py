"""Contact sheets: pictures at their places, and pages that need nothing else and believe nothing."""

from __future__ import annotations

import base64
import io
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from madang.multimodal import sheet
from madang.multimodal.sheet import Cell, Row, fitted, page, png

COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255), (0, 255, 255)]
plain = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=40)


def flat(colour: tuple[int, int, int], width: int = 30, height: int = 30) -> Image.Image:
    return Image.new("RGB", (width, height), colour)


def decoded(data: bytes) -> NDArray[np.uint8]:
    assert data.startswith(b"\x89PNG")
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.mode == "RGB"
        return np.asarray(picture)


def box(sheet: NDArray[np.uint8], colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of all that has a colour; it must be filled."""
    rows, columns = np.nonzero((sheet == np.array(colour)).all(2))
    left, top, right, bottom = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    assert len(rows) == (right - left) * (bottom - top)
    return int(left), int(top), int(right), int(bottom)


class Seen(HTMLParser):
    """Everything on a page: tags with attributes, and the text in each kind of tag."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.texts.setdefault(tag, []).append("")
        self._open = tag

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts[self._open][-1] += data


@pytest.mark.parametrize("side", [16, 64, 128])
@pytest.mark.parametrize("title", ["", "What was learned"])
def test_pictures_are_at_their_places(side: int, title: str) -> None:
    rows = [Row("first", [Cell(flat(colour), "text") for colour in COLOURS[:4]]),
            Row("second", [Cell(flat(colour)) for colour in COLOURS[4:]])]
    found = decoded(png(rows, side=side, title=title))
    assert found.shape[1] >= 4 * side
    assert found.shape[0] >= 2 * side
    first, second = ([box(found, colour) for colour in part] for part in (COLOURS[:4], COLOURS[4:]))
    assert all((right - left, bottom - top) == (side, side) for left, top, right, bottom in first + second)
    for row in (first, second):
        assert len({top for _, top, _, _ in row}) == 1
        assert all(one[2] < other[0] for one, other in pairwise(row))
    assert first[0][3] < second[0][1]
    assert first[0][0] == second[0][0] > 0
    assert max(right for _, _, right, _ in first) < found.shape[1]


def test_titles_and_texts_are_drawn_near_their_pictures() -> None:
    def sheet_of(title: str = "", row: str = "", text: str = "") -> NDArray[np.int64]:
        return decoded(png([Row(row, [Cell(flat(COLOURS[0]), text)])], side=64, title=title)).astype(np.int64)

    blank = sheet_of()
    left, top, right, bottom = box(blank.astype(np.uint8), COLOURS[0])
    for told, above in ((sheet_of(row="what was asked"), True), (sheet_of(text="answer"), False)):
        rows, columns = np.nonzero((told != blank).any(2))
        assert (rows.max() < top) if above else (rows.min() >= bottom and columns.max() < right + 2)
        assert columns.min() >= left - 2
    assert sheet_of(title="What").shape[0] > blank.shape[0]


@pytest.mark.parametrize("rows", [[], [Row("nothing was found", [])], [Row("", []), Row("", [Cell(flat(COLOURS[0]))])]])
def test_empty_rows(rows: list[Row]) -> None:
    assert min(decoded(png(rows)).shape[:2]) > 0
    seen = Seen(page(rows))
    assert seen.texts.get("h2", []) == [row.title for row in rows]
    assert len(seen.texts.get("img", [])) == sum(len(row.cells) for row in rows)


@pytest.mark.parametrize(("width", "height"), [(30, 30), (300, 100), (100, 300), (1, 500), (500, 1), (64, 63)])
def test_fitted_keeps_proportions_in_the_middle(width: int, height: int) -> None:
    found = np.asarray(fitted(flat(COLOURS[2], width, height), 64))
    assert found.shape == (64, 64, 3)
    left, top, right, bottom = box(found, COLOURS[2])
    assert max(right - left, bottom - top) == 64
    assert abs((right - left) - max(1, 64 * width / max(width, height))) <= 0.5
    assert abs((bottom - top) - max(1, 64 * height / max(width, height))) <= 0.5
    assert abs(left - (64 - right)) <= 1
    assert abs(top - (64 - bottom)) <= 1


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA", "CMYK"])
def test_pictures_of_other_modes(mode: str) -> None:
    rows = [Row("one", [Cell(Image.new(mode, (9, 5)))])]
    assert decoded(png(rows)).shape[2] == 3
    assert "data:image/png;base64," in page(rows)


@given(plain, plain, plain)
def test_a_page_shows_texts_as_they_are(title: str, row: str, text: str) -> None:
    seen = Seen(page([Row(row, [Cell(flat(COLOURS[0], 2, 2), text)])], side=4, title=title))
    assert [seen.texts[tag] for tag in ("title", "h1", "h2", "figcaption")] == [[title], [title], [row], [text]]
    assert [attributes["alt"] for tag, attributes in seen.tags if tag == "img"] == [text]


@pytest.mark.parametrize("evil", [
    "<script>alert(1)</script>", '" onerror="alert(1)', "' onload='x", "</title><img src=http://x/>", "</style><b>",
    "<!-- ", "&lt;b&gt;", "]]>", '"><svg/onload=alert(1)>',
])
def test_a_page_believes_nothing_and_needs_nothing(evil: str) -> None:
    text = page([Row(evil, [Cell(flat(COLOURS[0]), evil), Cell(flat(COLOURS[1]), "b")]), Row(evil, [])], title=evil)
    seen = Seen(text)
    assert [tag for tag, _ in seen.tags] == [
        "html", "meta", "meta", "title", "style", "h1", "section", "h2", "div",
        "figure", "img", "figcaption", "figure", "img", "figcaption", "section", "h2", "div"]
    assert seen.texts["title"] == seen.texts["h1"] == [evil]
    for tag, attributes in seen.tags:
        assert set(attributes) <= {"html": {"lang"}, "meta": {"charset", "name", "content"}, "img": {"alt", "src"}}.get(tag, set())
        assert (attributes.get("src") or "data:image/png;base64,").startswith("data:image/png;base64,")
    (style,) = seen.texts["style"]
    assert "url(" not in style
    assert "@import" not in style


def test_a_page_has_the_pictures_in_it() -> None:
    pictures = [flat(colour, 40, 20) for colour in COLOURS]
    seen = Seen(page([Row("one", [Cell(each) for each in pictures])], side=32))
    sources = [attributes["src"] or "" for tag, attributes in seen.tags if tag == "img"]
    assert len(sources) == len(pictures)
    for source, picture in zip(sources, pictures, strict=True):
        found = decoded(base64.b64decode(source.partition(",")[2], validate=True))
        np.testing.assert_array_equal(found, np.asarray(fitted(picture, 32)))


@given(plain, st.integers(20, 300))
def test_a_text_is_cut_where_it_does_not_fit(text: str, width: int) -> None:
    found, font = sheet._fitting(text, width, 11), sheet._font(11)
    if font.getlength(text) <= width:
        assert found == text
    else:
        assert font.getlength(found) <= width
        assert found.endswith("…")
        assert text.startswith(found[:-1])
        longer = text[:len(found)]
        assert font.getlength(f"{longer}…") > width or len(longer) == len(text)


def test_a_long_text_is_not_measured_again_for_every_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sheet with the whole text of a page under a picture must not take a minute."""
    class Font:
        measured = 0

        def getlength(self, text: str) -> float:
            self.measured += len(text)
            return 5.0 * len(text)

    font = Font()
    monkeypatch.setattr(sheet, "_font", lambda size: font)
    assert sheet._fitting("x" * 10_000, 100, 11) == "x" * 19 + "…"
    assert font.measured < 50 * 10_000


def test_boxes_are_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [sheet.Row("밤의 바다", [])]
    monkeypatch.setattr(sheet, "_korean_font", lambda: None)
    assert sheet.lacks_letters(rows)
    assert not sheet.lacks_letters([sheet.Row("the sea at night", [])])
    monkeypatch.setattr(sheet, "_korean_font", lambda: "some.ttf")
    assert not sheet.lacks_letters(rows)
