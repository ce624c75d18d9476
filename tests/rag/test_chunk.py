"""Chunks: complete, disjoint, bounded, and cut where a reader would cut."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from madang.base.errors import InvalidInput
from madang.rag.chunk import Chunk, chunk, embedding_text
from madang.rag.load import Block, Box, Document, code, html, markdown, text
from tests.rag import samples

MAX_CHARS = st.sampled_from([100, 101, 150, 800])

WORDS = st.sampled_from(["a", "word", "longer-words", "연차는", "15일이다.", "한다.", "Dr.", "end.", "e\u0301", "👩‍👩‍👧", "🇰🇷",
                         "가" * 130, "x" * 130, "\u0301" * 120, "ᄒ" * 3 + "ᅡ" + "ᆫ" * 2])
GAPS = st.sampled_from([" ", " ", " ", "\n", "\n\n", "\n# ", "\n- ", "\n## H\n", "\n```\n", "\n    ", "\n| a | b |\n|--|--|\n| ",
                        "\nNAME\n    ", "\ndef f():\n    ", "\u3000", "\x0c", " " * 120])
ARBITRARY = st.one_of(st.text(max_size=600),
                      st.lists(st.tuples(WORDS, GAPS), max_size=80).map(
                          lambda pairs: "".join(word + gap for word, gap in pairs)))
PARSERS: dict[str, Callable[[str], Document]] = {
    "text": text.parse, "csv": lambda source: text.parse(source, ".csv"),
    "log": lambda source: text.parse(source, ".log"), "markdown": markdown.parse, "html": html.parse,
    "python": code.parse, "c": lambda source: code.parse(source, ".c"),
}


def assert_sound(document: Document, chunks: list[Chunk], max_chars: int) -> None:
    """Ascending, disjoint, complete, bounded, never blank; lines and pages are right."""
    position = 0
    for piece in chunks:
        assert position <= piece.start < piece.end <= len(document.text)
        assert piece.end - piece.start <= max_chars
        assert not document.text[position:piece.start].strip(), "between two chunks"
        body = document.text[piece.start:piece.end]
        assert body.strip()
        assert piece.line == document.text.count("\n", 0, piece.start) + 1
        whole = embedding_text(piece, document)
        assert whole.endswith(body)
        assert len(whole) <= len(body) + 400
        position = piece.end
    assert not document.text[position:].strip(), "after the last chunk"


@given(ARBITRARY, st.sampled_from(sorted(PARSERS)), MAX_CHARS)
@example("A heading\n=====\n\n" + "x" * 95, "text", 100)
@example(" " * 300 + "x", "csv", 100)
@example("    " * 60 + "x = 1", "log", 100)
def test_any_document_is_cut_soundly(source: str, kind: str, max_chars: int) -> None:
    document = PARSERS[kind](source)
    chunks = chunk(document, max_chars=max_chars)
    assert_sound(document, chunks, max_chars)
    assert chunks == chunk(document, max_chars=max_chars)


@given(ARBITRARY, st.sampled_from(["text", "markdown", "python"]), MAX_CHARS)
def test_only_tiny_sections_share_a_chunk(source: str, kind: str, max_chars: int) -> None:
    document = PARSERS[kind](source)
    section, sections = -1, []
    for block in document.blocks:
        section += block.level > 0 or section < 0
        sections.append((block, section))
    for piece in chunk(document, max_chars=max_chars):
        bodies = {number for block, number in sections
                  if block.kind != "heading" and block.start < piece.end and piece.start < block.end}
        assert len(bodies) <= 1 or piece.end - piece.start <= max_chars // 4


@given(ARBITRARY, MAX_CHARS)
def test_blocks_that_fit_are_whole_unless_they_fill_up_a_chunk(source: str, max_chars: int) -> None:
    document = markdown.parse(source)
    borders = {piece.start: None for piece in chunk(document, max_chars=max_chars)}
    for before, block in pairwise(document.blocks):
        if block.kind in {"code", "table"} and before.kind != "heading" and block.end - block.start <= max_chars:
            assert not any(block.start < border < block.end for border in borders)


def paragraphs(*sizes: int) -> str:
    """Paragraphs of so many characters, each one sentence."""
    return "\n\n".join("w" * (size - 1) + "." for size in sizes)


def bodies(document: Document, max_chars: int = 100) -> list[str]:
    return [document.text[piece.start:piece.end] for piece in chunk(document, max_chars=max_chars)]


def test_whole_blocks_are_packed() -> None:
    assert [len(body) for body in bodies(text.parse(paragraphs(40, 40, 40, 60, 90)))] == [82, 40, 60, 90]


def test_a_block_that_fits_alone_is_cut_only_for_a_heading() -> None:
    sentences = "Ten chars. " * 8
    alone = bodies(markdown.parse(f"{paragraphs(30)}\n\n{sentences}"))
    under = bodies(markdown.parse(f"# A heading of thirty characters\n\n{sentences}"))
    assert alone == [paragraphs(30), sentences.strip()]
    assert under[0] == "# A heading of thirty characters\n\n" + "Ten chars. " * 5 + "Ten chars."


def test_long_paragraphs_end_with_a_sentence() -> None:
    source = "One sentence of words here. Another one follows it. " * 6 + "문장 하나가 끝났다. 다른 문장이 이어진다. " * 6
    found = bodies(text.parse(source), 120)
    assert len(found) > 3
    assert all(body.endswith(".") for body in found)
    assert " ".join(found) == source.strip()


def test_code_is_cut_at_lines_and_keeps_its_indentation() -> None:
    lines = [f"    call_number({number})" for number in range(30)]
    document = code.parse("def f():\n" + "\n".join(lines), ".py", "m")
    found = bodies(document)
    assert "\n".join(found) == document.text
    assert all(body.startswith("    call") for body in found[1:])


def test_a_line_that_is_too_long_is_cut_inside() -> None:
    found = bodies(text.parse("short\n" + "a b" * 60 + "\nshort", ".log"))
    assert [body.count("\n") for body in found] == [0, 0, 1]


def test_tables_are_cut_at_rows_and_name_their_columns() -> None:
    document = text.parse("name,days\n" + "\n".join(f"person {number},{number}" for number in range(40)), ".csv")
    first, *others = chunk(document, max_chars=100)
    assert first.columns == ""
    for piece in others:
        assert piece.columns == "name,days"
        assert embedding_text(piece, document).startswith("name,days\nperson ")
        assert document.text[piece.start - 1] == "\n"


def test_a_heading_goes_with_its_first_body() -> None:
    document = markdown.parse("# Title\n\n## Part\n\n" + paragraphs(60) + "\n\n## Next\n\n" + paragraphs(98, 30))
    found = bodies(document)
    assert found[0] == "# Title\n\n## Part\n\n" + paragraphs(60)
    assert found[1].startswith("## Next\n\nwww")
    assert [piece.heading for piece in chunk(document, max_chars=100)][:2] == ["Title > Part", "Title > Next"]


def test_tiny_sections_share_a_chunk_up_to_a_quarter() -> None:
    source = "# FAQ\n\n" + "".join(f"## Q{number}\n\nAnswer {number}.\n\n" for number in range(9))
    document = markdown.parse(source + "# Other\n\nend\n")
    chunks = chunk(document, max_chars=200)
    assert bodies(document, 200)[0] == "# FAQ\n\n## Q0\n\nAnswer 0.\n\n## Q1\n\nAnswer 1."
    assert [piece.heading for piece in chunks] == ["FAQ", "FAQ", "FAQ", "FAQ", "FAQ > Q8", "Other"]
    assert all(piece.end - piece.start <= 50 for piece in chunks)


def test_the_last_chunk_of_a_section_is_no_remnant() -> None:
    source = "This is a sentence of words. " * 8 + "End."
    sizes = [len(body) for body in bodies(text.parse(source), 232)]
    assert len(sizes) == 2
    assert max(sizes) < 150


def test_code_that_fits_is_not_cut_to_fill_a_chunk() -> None:
    fence = "```\n" + "line\n" * 17 + "```"
    assert bodies(markdown.parse(f"Like this:\n\n{fence}\n")) == ["Like this:", fence]


def test_definitions_of_a_manual_share_chunks_and_keep_their_names() -> None:
    functions = "".join(f"    f{number}(x)\n        Does {number}.\n\n" for number in range(12))
    long = "    walk(top)\n        First.\n\n" + "".join(f"        Paragraph {n} of it.\n\n" for n in range(12))
    document = text.parse(f"NAME\n    m - a module\n\nFUNCTIONS\n{functions}{long}")
    chunks = chunk(document, max_chars=200)
    assert "FUNCTIONS > walk(top)" in {piece.heading for piece in chunks}
    shared = [piece.end - piece.start for piece in chunks if piece.heading == "FUNCTIONS"]
    assert 3 <= len(shared) <= 4
    assert max(shared) < 150  # from half of a chunk on, a new definition starts a new one


GRAPHEMES = ["e\u0301", "👩\u200d👩\u200d👧", "❤\ufe0f", "👍🏽", "🇰🇷", "각", "한", "ก็", "1\ufe0f\u20e3"]


@given(st.lists(st.sampled_from(GRAPHEMES), min_size=60, max_size=150), st.sampled_from([100, 103, 104]))
def test_graphemes_stay_whole(graphemes: list[str], max_chars: int) -> None:
    document = text.parse("".join(graphemes))
    borders = {0}
    for grapheme in graphemes:
        borders.add(max(borders) + len(grapheme))
    for piece in chunk(document, max_chars=max_chars):
        assert piece.start in borders
        assert piece.end in borders


def test_one_grapheme_longer_than_a_chunk_is_cut_all_the_same() -> None:
    source = "e" + "\u0301" * 500
    found = bodies(text.parse(source))
    assert "".join(found) == source
    assert all(unicodedata.combining(body[-1]) for body in found)


def test_pages_and_boxes() -> None:
    source = "first\nline two\n\nsecond page"
    boxes = tuple(Box(page, 0.0, float(page), 10.0, 20.0) for page in (1, 2, 3))
    document = Document(source, [Block(0, 14, "paragraph", 0, "", boxes[:2]),
                                 Block(16, 27, "paragraph", 1, "S", boxes[2:])], "application/pdf", "", (0, 16, 16))
    both = chunk(document)
    assert [(piece.page, piece.boxes) for piece in both] == [(1, boxes)]
    long = Document("x. " * 50 + "\n" + "y. " * 50, [Block(0, 300, "paragraph", 0, "", boxes[:2])], "application/pdf",
                    "", (0,))
    pieces = chunk(long, max_chars=160)
    assert [piece.boxes for piece in pieces] == [boxes[:1], boxes[1:2]]


@pytest.mark.parametrize("max_chars", [99, 0, -1, True, 100.0, "800", None])
def test_max_chars_is_checked(max_chars: object) -> None:
    with pytest.raises(InvalidInput, match=r"^max_chars is .*\. Give a whole number from 100\.$"):
        chunk(text.parse("text"), max_chars=max_chars)  # type: ignore[arg-type]


def test_an_empty_document_has_no_chunks() -> None:
    assert chunk(text.parse("")) == []
    assert chunk(text.parse(" \n\t")) == []


@pytest.mark.parametrize(("title", "heading", "body", "context"), [
    ("Handbook", "Vacation > Carry-over", "Unused days.", "Handbook > Vacation > Carry-over"),
    ("Handbook", "Handbook > Carry-over", "Unused days.", "Handbook > Carry-over"),
    ("Handbook", "Handbook > Carry-over", "## Carry-over\n\nUnused days.", "Handbook"),
    ("Handbook", "Handbook", "# Handbook\n\nUnused days.", ""),
    ("", "", "Unused days.", ""),
    ("", "휴가 규정", "연차는 15일이다.", "휴가 규정"),
])
def test_what_is_embedded_knows_its_section(title: str, heading: str, body: str, context: str) -> None:
    document = Document(body, [Block(0, len(body), "paragraph", 0, heading)], "text/plain", title)
    piece = Chunk(0, len(body), heading, 1)
    assert embedding_text(piece, document) == (f"{context}\n{body}" if context else body)


def test_a_long_path_keeps_its_end() -> None:
    piece = Chunk(0, 4, " > ".join(f"section number {number}" for number in range(30)), 1)
    whole = embedding_text(piece, Document("body", [], "text/plain", "title"))
    assert whole.startswith("…")
    assert whole.endswith(" > section number 29\nbody")
    assert len(whole) <= 204


def test_samples_in_both_languages() -> None:
    for title, *sentences in (samples.KOREAN, samples.ENGLISH):
        document = markdown.parse(f"# {title}\n\n{' '.join(sentences)}\n")
        (piece,) = chunk(document)
        assert piece.heading == document.title == title
        assert embedding_text(piece, document) == document.text.strip()
