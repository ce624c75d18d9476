"""DOCX: the body in its order, headings in any language, and archives that mean harm."""

from __future__ import annotations

import contextlib
import io
import zipfile
from pathlib import Path
from typing import Any

import docx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from madang.base.errors import Unreadable
from madang.rag.load import docx as loader
from tests.rag import samples

PATH = Path("a.docx")


def read(document: Any) -> loader.Document:
    found = loader.read(samples.saved(document), PATH)
    samples.assert_whole(found)
    return found


def test_the_body_in_its_order() -> None:
    document = docx.Document()
    document.core_properties.title = "안내서"
    document.add_paragraph("Handbook", style="Title")
    document.add_heading("휴가", 1)
    document.add_paragraph("연차는 15일이다.").add_run(" 더 있다.").bold = True
    document.add_paragraph("first", style="List Bullet")
    document.add_paragraph("second", style="List Number")
    table = document.add_table(2, 3)
    for cell, text in zip((cell for row in table.rows for cell in row.cells),
                          ("Name", "Days", "Note", "A", "", "x\ny"), strict=True):
        cell.text = text
    document.add_heading("Carry-over", 2)
    document.add_paragraph("line one\nline two")
    document.add_paragraph("   ")
    document.add_paragraph("제3조(이월) 3월까지다.")
    frame = document.add_table(1, 1).rows[0].cells[0]
    frame.text = "framed"
    frame.add_paragraph("text")
    assert samples.outline(read(document)) == [
        ("heading", "Handbook", "Handbook"),
        ("heading", "휴가", "휴가"),
        ("paragraph", "휴가", "연차는 15일이다. 더 있다."),
        ("list", "휴가", "- first"), ("list", "휴가", "- second"),
        ("table", "휴가", "Name | Days | Note\nA |  | x y"),
        ("heading", "휴가 > Carry-over", "Carry-over"),
        ("paragraph", "휴가 > Carry-over", "line one\nline two"),
        ("heading", "제3조(이월)", "제3조(이월)"), ("paragraph", "제3조(이월)", "3월까지다."),
        ("paragraph", "제3조(이월)", "framed"), ("paragraph", "제3조(이월)", "text"),
    ]
    assert read(document).title == "안내서"


@pytest.mark.parametrize(("name", "level"), [
    ("제목 1", 1), ("개요 2", 2), ("Überschrift 3", 3), ("見出し 2", 2), ("heading 9", 6), ("HEADING 1", 1), ("제목 이름", 0),
])
def test_headings_whose_style_has_another_name(name: str, level: int) -> None:
    document = docx.Document()
    style = document.styles.add_style("x", docx.enum.style.WD_STYLE_TYPE.PARAGRAPH)
    style.element.find(docx.oxml.ns.qn("w:name")).set(docx.oxml.ns.qn("w:val"), name)
    child = document.styles.add_style("y", docx.enum.style.WD_STYLE_TYPE.PARAGRAPH)
    child.base_style = style
    for each in (style, child):
        document.add_paragraph("text", style=each)
    assert [block.level for block in read(document).blocks] == [level, level]


@pytest.mark.parametrize(("in_style", "in_paragraph", "level"), [(1, None, 2), (None, 0, 1), (1, 9, 0), (9, 3, 4),
                                                               (9, None, 0)])
def test_headings_by_outline_level(in_style: int | None, in_paragraph: int | None, level: int) -> None:
    document = docx.Document()
    style = document.styles.add_style("x", docx.enum.style.WD_STYLE_TYPE.PARAGRAPH)
    paragraph = document.add_paragraph("text", style=style)
    for owner, value in ((style.element, in_style), (paragraph._p, in_paragraph)):
        if value is not None:
            owner.get_or_add_pPr().append(samples.element(f'<w:outlineLvl w:val="{value}"/>'))
    assert [block.level for block in read(document).blocks] == [level]


def test_revisions_links_controls_and_text_boxes() -> None:
    run = "<w:r><w:t>{}</w:t></w:r>"
    box = "<w:txbxContent><w:p><w:r><w:t>once</w:t></w:r></w:p></w:txbxContent>"
    document = docx.Document()
    for xml in (
        f"<w:p><w:ins>{run.format('inserted')}</w:ins><w:del><w:r><w:delText>deleted</w:delText></w:r></w:del>"
        f"<w:moveFrom>{run.format('moved away')}</w:moveFrom></w:p>",
        f"<w:p><w:hyperlink>{run.format('link')}</w:hyperlink><w:r><w:tab/><w:t>after</w:t></w:r>"
        "<w:r><w:instrText>PAGE</w:instrText></w:r></w:p>",
        f"<w:sdt><w:sdtContent><w:p>{run.format('control')}</w:p></w:sdtContent></w:sdt>",
        f"<w:p>{run.format('anchor')}<w:r><w:pict><w:txbxContent><w:p>{run.format('boxed')}</w:p></w:txbxContent>"
        "</w:pict></w:r></w:p>",
        '<w:p><w:r><mc:AlternateContent xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006">'
        f"<mc:Choice>{box}</mc:Choice><mc:Fallback>{box}</mc:Fallback></mc:AlternateContent></w:r></w:p>",
    ):
        document.element.body.insert(-1, samples.element(xml))
    assert read(document).text == "inserted\n\nlink after\n\ncontrol\n\nanchor\n\nboxed\n\nonce"


def test_entities_are_not_expanded(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("SECRET")
    xml = (f'<!DOCTYPE d [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "{"&a;" * 10}"><!ENTITY x SYSTEM "file://{secret}">]>'
           '<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body><w:p><w:r>'
           "<w:t>kept &b;&x;</w:t></w:r></w:p></w:body></w:document>")
    data = samples.repacked(samples.word(lambda document: None), "word/document.xml", xml.encode())
    assert loader.read(data, PATH).text == "kept"


@pytest.mark.parametrize(("name", "size"), [("word/document.xml", loader.MAX_XML_BYTES + 1),
                                            ("word/media/a.bin", loader.MAX_EXPANDED_BYTES + 1)])
def test_archives_that_unpack_to_too_much(name: str, size: int) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("[Content_Types].xml", "")
        archive.writestr(name, "")
        archive.filelist[1].file_size = size  # only claimed: unpacking it would fill the memory
    with pytest.raises(Unreadable, match=r"^a\.docx unpacks to [\d,]+ bytes, more than a text needs\. Open it in"):
        loader.read(out.getvalue(), PATH)


def _archive(entries: dict[str, str]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return out.getvalue()


GOOD = samples.word(lambda document: document.add_paragraph("text"))


@pytest.mark.parametrize(("data", "why"), [
    (_archive({"a.txt": "x"}), r"a ZIP archive of something else"),
    (_archive({"[Content_Types].xml": "<a"}), r"\w+ while parsing"),
    (_archive({"[Content_Types].xml": "<Types xmlns='http://schemas.openxmlformats.org/package/2006/content-types'/>"}),
     r"\w+ while parsing"),
    (samples.repacked(GOOD, "word/document.xml", b""), r"\w+ while parsing"),
    (samples.repacked(GOOD, "word/document.xml", b"<w:document><w:body>"), r"\w+ while parsing"),
    (GOOD[:len(GOOD) // 2], "not a ZIP archive"),
])
def test_malformed_files_are_refused_in_one_line(data: bytes, why: str) -> None:
    with pytest.raises(Unreadable, match=rf"^a\.docx is damaged or no DOCX \({why}\)\. Open it in .* again\.$"):
        loader.read(data, PATH)


@settings(max_examples=60)
@given(st.integers(0, len(GOOD)), st.binary(min_size=1, max_size=30))
def test_damaged_files_are_read_or_refused(position: int, noise: bytes) -> None:
    with contextlib.suppress(Unreadable):
        samples.assert_whole(loader.read(GOOD[:position] + noise + GOOD[position + len(noise):], PATH))
