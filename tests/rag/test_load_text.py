"""Plain text: every character is covered, and drawn structure is found."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from madang.base.errors import Unreadable
from madang.rag.load import text
from madang.rag.load.decode import decode
from tests.rag import samples

# Text with much of what the scanners look at.
LINES = st.sampled_from([
    "", " ", "NAME", "제1장 총칙", "제2조(목적) 이 규칙은", "   제3조", "====", "----", "Title", "  body of it", "- item",
    "1. item", "① 항목", "f(x)", "     |  f(x)", "     |      body", " |", "Chapter 3", "A sentence. Another one.",
    "문장이다. 다른 문장이다.", "= Title", "\x0c", "\u2028", "a,b,c", "'''", '"""', "#!x",
])
TEXTS = st.one_of(st.text(max_size=300), st.lists(LINES, max_size=20).map("\n".join))


@given(TEXTS, st.sampled_from(sorted({*text.PROSE, *text.TABLES, *text.LINES})))
@example("NAME\n    a\n\nUSE\n    b\n     |  c\n     |\n\n |\n", ".txt")
def test_blocks_cover_any_text(source: str, suffix: str) -> None:
    document = text.parse(source, suffix)
    assert document.text == source
    samples.assert_whole(document)


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=200),
       st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]))
def test_what_was_encoded_is_decoded(source: str, encoding: str) -> None:
    if encoding == "utf-8":
        source = source.removeprefix("\ufeff")  # a byte order mark is a mark also where nobody needs one
    assert decode(source.encode(encoding), Path("a.txt")) == source


@given(st.binary(max_size=400))
def test_any_bytes_are_text_or_refused_in_one_line(data: bytes) -> None:
    message = ""
    try:
        source = decode(data, Path("a.txt"))
    except Unreadable as error:
        source, message = "", str(error)
    assert "\n" not in message
    assert "\0" not in source
    assert "\r" not in source


def test_underlined_headings_rank_by_their_first_appearance() -> None:
    document = text.parse("Title\n=====\n\nintro\n\nPart\n----\nbody\n\n====\nMore\n====\n\nPart 2\n------\n", ".rst")
    assert samples.outline(document) == [
        ("heading", "Title", "Title\n====="), ("paragraph", "Title", "intro"),
        ("heading", "Title > Part", "Part\n----"), ("paragraph", "Title > Part", "body"),
        ("heading", "Title > Part > More", "====\nMore\n===="),
        ("heading", "Title > Part 2", "Part 2\n------"),
    ]
    assert [block.level for block in document.blocks if block.kind == "heading"] == [1, 2, 3, 2]
    assert document.title == "Title"


def test_articles_of_a_korean_regulation() -> None:
    document = text.parse("취업 규칙\n\n제1장 총칙\n제1조(목적) 이 규칙의 목적이다.\n"
                          "제2조 (범위)\n① 모두에게 적용한다.\n② 제1조에 따르되\n제1조 제2항은 뺀다.\n\n   제2장 휴가\n"
                          "제3조의2(연차) 15일이다.\n")
    assert samples.outline(document) == [
        ("paragraph", "", "취업 규칙"),
        ("heading", "제1장 총칙", "제1장 총칙"),
        ("heading", "제1장 총칙 > 제1조(목적)", "제1조(목적)"),
        ("paragraph", "제1장 총칙 > 제1조(목적)", "이 규칙의 목적이다."),
        ("heading", "제1장 총칙 > 제2조 (범위)", "제2조 (범위)"),
        ("list", "제1장 총칙 > 제2조 (범위)", "① 모두에게 적용한다."),
        ("list", "제1장 총칙 > 제2조 (범위)", "② 제1조에 따르되\n제1조 제2항은 뺀다."),
        ("heading", "제2장 휴가", "제2장 휴가"),
        ("heading", "제2장 휴가 > 제3조의2(연차)", "제3조의2(연차)"),
        ("paragraph", "제2장 휴가 > 제3조의2(연차)", "15일이다."),
    ]


MANUAL = """\
Help on module shapes:

NAME
    shapes - things with area

CLASSES
    class Circle(builtins.object)
     |  A round thing.
     |
     |  area(self)
     |      Its area.
     |
     |      Exactly.

FUNCTIONS
    unit()
        A circle of radius one.

        Made anew each time.

    version()
        The version.
"""


def test_manual_pages_name_what_they_define() -> None:
    document = text.parse(MANUAL)
    found = [(kind, heading, body.split("\n")[0].strip(" |")) for kind, heading, body in samples.outline(document)]
    assert found == [
        ("paragraph", "", "Help on module shapes:"),
        ("heading", "NAME", "NAME"),
        ("paragraph", "NAME", "shapes - things with area"),
        ("heading", "CLASSES", "CLASSES"),
        ("definition", "CLASSES > class Circle(builtins.object)", "class Circle(builtins.object)"),
        ("definition", "CLASSES > class Circle(builtins.object) > area(self)", "area(self)"),
        ("paragraph", "CLASSES > class Circle(builtins.object) > area(self)", "Exactly."),
        ("heading", "FUNCTIONS", "FUNCTIONS"),
        ("definition", "FUNCTIONS > unit()", "unit()"),
        ("paragraph", "FUNCTIONS > unit()", "Made anew each time."),
        ("definition", "FUNCTIONS > version()", "version()"),
    ]
    assert document.title == ""


@pytest.mark.parametrize(("source", "suffix", "headings"), [
    ("Chapter 1\n\nIt was.\n\nCHAPTER II\n\nMore.", ".txt", ["Chapter 1", "CHAPTER II"]),
    ("Chapter 1 was long, and so on.\n\nSection 2 of it.", ".txt", []),
    ("THE END\n\nof it", ".txt", ["THE END"]),
    ("NOTE: well.\n\nOK\n\nAB12\n\nABC\nbody", ".txt", ["AB12"]),
    ("= Guide\n\n== Part\n\ntext", ".adoc", ["Guide", "Guide > Part"]),
    ("= Guide\n\n== Part\n\ntext", ".txt", []),
    ("A table\n==  ==\nx   y\n==  ==\n", ".rst", []),
    ("text\nmore text\n=====\n", ".rst", []),
])
def test_headings_of_prose(source: str, suffix: str, headings: list[str]) -> None:
    document = text.parse(source, suffix)
    assert [block.heading for block in document.blocks if block.kind == "heading"] == headings


def test_lists_become_items() -> None:
    document = text.parse("Bring:\n- a pen\n  or two\n- paper\n 1. white\n\n② 둘째")
    assert [(kind, body) for kind, _, body in samples.outline(document)] == [
        ("paragraph", "Bring:"), ("list", "- a pen\n  or two"), ("list", "- paper"), ("list", "1. white"),
        ("list", "② 둘째")]


def test_data_files() -> None:
    assert [(kind, body) for kind, _, body in samples.outline(text.parse("a,b\n1,2\n\n3,4\n", ".csv"))] == [
        ("table", "a,b\n1,2\n\n3,4")]
    assert [(kind, body) for kind, _, body in samples.outline(text.parse("\n  a: 1\n  b: 2\n\nc: 3\n", ".yaml"))] == [
        ("code", "  a: 1\n  b: 2"), ("code", "c: 3")]
