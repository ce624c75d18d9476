"""Builders of sample files: PDF by hand (Korean through a ToUnicode map), DOCX through python-docx."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import docx
from docx.oxml import parse_xml
from docx.oxml.ns import nsdecls

from madang.rag.load import Document

A4 = (0, 0, 595, 842)

# A heading and two sentences of its section.
KOREAN = ("연차 휴가 규정", "직원은 매년 15일의 연차를 쓸 수 있다.", "남은 연차는 3월까지 이월된다.")
ENGLISH = ("Vacation policy", "Every employee has fifteen days.", "Unused days carry over until March.")


@dataclass(frozen=True)
class Line:
    """One line of a PDF page: `text` at (x, y) in points from the bottom-left corner."""

    text: str
    y: float
    x: float = 72
    size: float = 11


def lines(*texts: str, top: float = 770, size: float = 11, pitch: float = 14, x: float = 72) -> list[Line]:
    """Lines one below the other; an empty string leaves a gap."""
    return [Line(text, top - number * pitch, x, size) for number, text in enumerate(texts) if text]


def pdf(pages: Sequence[Iterable[Line]], *, title: str = "", encrypted: bool = False, rotate: int = 0,
        box: Sequence[float] = A4) -> bytes:
    """A PDF file: Latin lines in Helvetica, others in a CID font whose ToUnicode map spells them."""
    drawn = [list(page) for page in pages]
    glyphs = sorted({char for page in drawn for line in page for char in line.text})
    codes = {char: number + 1 for number, char in enumerate(glyphs)}
    objects: list[bytes] = [b"", b"", *_fonts(codes)]
    media = " ".join(str(side) for side in box)
    kids = []
    for page in drawn:
        objects.append(_stream("\n".join(_show(line, codes) for line in page).encode("latin-1")))
        objects.append(f"<< /Type /Page /Parent 2 0 R /MediaBox [{media}] /Rotate {rotate} "
                       f"/Contents {len(objects)} 0 R /Resources << /Font << /F1 3 0 R /F2 4 0 R >> >> "
                       ">>".encode())
        kids.append(f"{len(objects)} 0 R")
    objects[0] = b"<< /Type /Catalog /Pages 2 0 R >>"
    objects[1] = f"<< /Type /Pages /Count {len(kids)} /Kids [{' '.join(kids)}] >>".encode()
    trailer = ""
    if title:
        objects.append(f"<< /Title <FEFF{title.encode('utf-16-be').hex()}> >>".encode())
        trailer += f" /Info {len(objects)} 0 R"
    if encrypted:  # no password fits these random keys, which is all that a reader without one notices
        objects.append(f"<< /Filter /Standard /V 1 /R 2 /P -4 /O <{'5a' * 32}> /U <{'a5' * 32}> >>".encode())
        trailer += f" /Encrypt {len(objects)} 0 R /ID [<{'00' * 16}> <{'00' * 16}>]"
    return _assemble(objects, trailer)


def _show(line: Line, codes: dict[str, int]) -> str:
    if line.text.isascii():
        font = "F1"
        shown = "(" + line.text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)") + ")"
    else:
        font, shown = "F2", "<" + "".join(f"{codes[char]:04x}" for char in line.text) + ">"
    return f"BT /{font} {line.size} Tf 1 0 0 1 {line.x} {line.y} Tm {shown} Tj ET"


def _fonts(codes: dict[str, int]) -> list[bytes]:
    pairs = [f"<{code:04x}> <{char.encode('utf-16-be').hex()}>" for char, code in codes.items()]
    groups = [pairs[first:first + 100] for first in range(0, len(pairs), 100)]
    mapping = "\n".join(f"{len(group)} beginbfchar\n" + "\n".join(group) + "\nendbfchar" for group in groups)
    cmap = ("/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapName /S def /CMapType 2 def\n"
            "1 begincodespacerange <0000> <FFFF> endcodespacerange\n" + mapping + "\nendcmap end end")
    return [
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
        b"<< /Type /Font /Subtype /Type0 /BaseFont /Batang /Encoding /Identity-H "
        b"/DescendantFonts [5 0 R] /ToUnicode 6 0 R >>",
        b"<< /Type /Font /Subtype /CIDFontType2 /BaseFont /Batang /DW 1000 /FontDescriptor 7 0 R "
        b"/CIDSystemInfo << /Registry (Adobe) /Ordering (Identity) /Supplement 0 >> >>",
        _stream(cmap.encode()),
        b"<< /Type /FontDescriptor /FontName /Batang /Flags 4 /FontBBox [0 -200 1000 900] /Ascent 880 "
        b"/Descent -120 /CapHeight 880 /ItalicAngle 0 /StemV 80 >>",
    ]


def _stream(content: bytes) -> bytes:
    return b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content)


def _assemble(objects: Sequence[bytes], trailer: str) -> bytes:
    out, offsets = bytearray(b"%PDF-1.7\n"), []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    out += f"trailer << /Size {len(objects) + 1} /Root 1 0 R{trailer} >>\nstartxref\n{start}\n".encode()
    return bytes(out + b"%%EOF\n")


def word(write: Callable[[Any], None]) -> bytes:
    """A DOCX file that `write` fills, given python-docx's document."""
    document = docx.Document()
    write(document)
    return saved(document)


def saved(document: Any) -> bytes:
    buffer = io.BytesIO()
    document.save(buffer)
    return buffer.getvalue()


def element(xml: str) -> Any:
    """WordprocessingML as an element; the w: of its names is declared here."""
    return parse_xml(re.sub(r"^<([\w:]+)", rf"<\1 {nsdecls('w')}", xml))


def repacked(data: bytes, name: str, content: bytes) -> bytes:
    """A ZIP archive with one entry replaced or added."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.namelist():
            if entry != name:
                new.writestr(entry, old.read(entry))
        new.writestr(name, content)
    return out.getvalue()


def assert_whole(document: Document) -> None:
    """Blocks are ascending, disjoint, not blank, and cover every character but white space."""
    position = 0
    for block in document.blocks:
        assert position <= block.start < block.end <= len(document.text)
        assert not document.text[position:block.start].strip(), "between two blocks"
        assert document.text[block.start:block.end].strip()
        assert 0 <= block.level <= 6
        if block.kind == "heading":
            assert block.level > 0
        position = block.end
    assert not document.text[position:].strip(), "after the last block"


def outline(document: Document) -> list[tuple[str, str, str]]:
    """(kind, heading, text) of every block."""
    return [(block.kind, block.heading, document.text[block.start:block.end]) for block in document.blocks]
