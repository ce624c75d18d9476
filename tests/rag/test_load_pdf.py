"""PDF: text, pages, and boxes that a viewer can draw."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from madang.base.errors import Unreadable
from madang.rag.load import Document, pdf
from tests.rag import samples
from tests.rag.samples import Line, lines

PATH = Path("a.pdf")


def read(*pages: Sequence[Line], title: str = "") -> Document:
    return pdf.read(samples.pdf(pages, title=title), PATH)


def test_paragraphs_headings_lists_and_pages() -> None:
    document = read(
        [*lines("Handbook", size=24), *lines("Vacation", top=730, size=16),
         *lines("Every employee has", "fifteen days.", "", "Unused days carry over.", "- a", "- b and", "its rest",
                top=700)],
        [],
        lines("Sick leave", size=16) + lines("Call by nine.", top=740),
        title="The handbook")
    vacation = "Handbook > Vacation"
    assert samples.outline(document) == [
        ("heading", "Handbook", "Handbook"), ("heading", vacation, "Vacation"),
        ("paragraph", vacation, "Every employee has\nfifteen days."),
        ("paragraph", vacation, "Unused days carry over."), ("list", vacation, "- a"),
        ("list", vacation, "- b and\nits rest"),
        ("heading", "Handbook > Sick leave", "Sick leave"), ("paragraph", "Handbook > Sick leave", "Call by nine."),
    ]
    samples.assert_whole(document)
    assert document.title == "The handbook"
    third = document.text.index("Sick leave")
    assert document.pages == (0, third, third)


def test_korean_articles() -> None:
    document = read(lines("제1장 휴가", "제15조(연차) 직원은 매년 15일의 연차를", "사용할 수 있다. 😀", "제16조(병가) 60일이다."))
    article = "제1장 휴가 > 제15조(연차)"
    assert samples.outline(document) == [
        ("heading", "제1장 휴가", "제1장 휴가"), ("heading", article, "제15조(연차)"),
        ("paragraph", article, "직원은 매년 15일의 연차를\n사용할 수 있다. 😀"),
        ("heading", "제1장 휴가 > 제16조(병가)", "제16조(병가)"), ("paragraph", "제1장 휴가 > 제16조(병가)", "60일이다."),
    ]


def test_divided_words_are_joined() -> None:
    document = read(lines("Fifteen days of va-", "cation are a well-", "known and well-known re-", "co-", "very.", "It ends-"))
    assert document.text == "Fifteen days of vacation\nare a well-known\nand well-known recovery.\nIt ends-"
    box = document.blocks[0].boxes[2]
    assert (box.y1 - box.y0) > 28  # the joined word stood on three lines


def test_running_headers_are_no_headings() -> None:
    document = read(*([*lines(f"Chapter 2: Leave {page}"), *lines("Some text.", top=700)] for page in (7, 8)),
                    *([*lines(f"Chapter {number}"), *lines("Some text.", top=700)] for number in (3, 4)))
    assert [block.heading for block in document.blocks if block.kind == "heading"] == ["Chapter 3", "Chapter 4"]


@pytest.mark.parametrize(("title", "kept"), [
    ("휴가 규정 2024", "휴가 규정 2024"), ("Microsoft Word - plan", ""), ("draft_v2.hwp", ""), ("Untitled", ""), ("", ""),
])
def test_titles_that_a_program_left_behind_are_none(title: str, kept: str) -> None:
    assert read(lines("text"), title=title).title == kept


TEXT = st.text(st.sampled_from("abcXYZ 가나다연차😀.-1"), min_size=1, max_size=20)
PLACED = st.builds(Line, TEXT, y=st.floats(-50, 900), x=st.floats(-50, 700), size=st.sampled_from([8, 11, 20]))
BOXES = st.sampled_from([samples.A4, (0, 0, 200, 300), (50, 60, 600, 700)])


@settings(max_examples=60)
@given(st.lists(st.lists(PLACED, max_size=6), min_size=1, max_size=3), BOXES, st.sampled_from([0, 90, 180]))
def test_boxes_lie_on_their_pages(pages: list[list[Line]], box: tuple[float, ...], rotate: int) -> None:
    try:
        document = pdf.read(samples.pdf(pages, box=box, rotate=rotate), PATH)
    except Unreadable:
        return  # nothing of it was on a page
    samples.assert_whole(document)
    assert len(document.pages) == len(pages)
    assert list(document.pages) == sorted(document.pages)
    for block in document.blocks:
        assert len(block.boxes) == document.text.count("\n", block.start, block.end) + 1
        for number, x0, y0, x1, y1 in block.boxes:
            assert box[0] <= x0 <= x1 <= box[2]
            assert box[1] <= y0 <= y1 <= box[3]
            start = document.pages[number - 1]
            assert start <= block.start
            assert number == len(pages) or block.end <= document.pages[number]


def test_a_box_surrounds_its_line() -> None:
    document = read([Line("Upper line", 700, 100, 20), Line("남은 연차", 300, 200)])
    upper, lower = (block.boxes[0] for block in document.blocks)
    assert upper.x0 == pytest.approx(100, abs=3)
    assert upper.y0 < 700 < 714 < upper.y1 < 730
    assert lower.x0 == pytest.approx(200, abs=3)
    assert lower.x1 == pytest.approx(200 + 4.5 * 11, abs=8)
    assert lower.y0 <= 300 < 305 < lower.y1 < 315


def test_threads_take_turns() -> None:
    files = [samples.pdf([lines(f"file {number}", f"page {page}") for page in range(4)]) for number in range(12)]
    with ThreadPoolExecutor(4) as pool:
        documents = list(pool.map(lambda data: pdf.read(data, PATH), files))
    assert [document.text.split("\n")[0] for document in documents] == [f"file {number}" for number in range(12)]


@settings(max_examples=60)
@given(st.integers(0, 3000), st.binary(min_size=1, max_size=30))
def test_damaged_files_are_read_or_refused(position: int, noise: bytes) -> None:
    data = samples.pdf([lines(*samples.KOREAN), lines(*samples.ENGLISH)])
    damaged = data[:position] + noise + data[position + len(noise):]
    with contextlib.suppress(Unreadable):
        samples.assert_whole(pdf.read(damaged, PATH))
