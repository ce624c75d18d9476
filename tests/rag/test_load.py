"""Dispatch, and what is said about files that cannot be read."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from madang.base.errors import InvalidInput, NotFound, Unreadable
from madang.rag.load import SUFFIXES, is_supported, load
from tests.rag import samples

KOREAN = "\n\n".join(samples.KOREAN)
UTF8_BOM = b"\xef\xbb\xbf"


def write(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def _word() -> bytes:
    def fill(document: object) -> None:
        document.add_heading(samples.KOREAN[0], 1)  # type: ignore[attr-defined]
        for text in samples.KOREAN[1:]:
            document.add_paragraph(text)  # type: ignore[attr-defined]

    return samples.word(fill)


SAMPLES: dict[str, Callable[[], bytes]] = {
    "a.txt": lambda: KOREAN.encode(),
    "a.TXT": lambda: KOREAN.encode("utf-16"),
    "README": lambda: KOREAN.encode("utf-8-sig"),
    "a.md": lambda: f"# {KOREAN}".encode(),
    "a.Html": lambda: f"<h1>{samples.KOREAN[0]}</h1><p>{'</p><p>'.join(samples.KOREAN[1:])}</p>".encode(),
    "a.pdf": lambda: samples.pdf([samples.lines(samples.KOREAN[0], size=20),
                                  samples.lines(*samples.KOREAN[1:], pitch=40)]),
    "a.docx": _word,
    "a.py": lambda: f'"""{KOREAN}"""\n'.encode(),
    "a.go": lambda: f"// {samples.KOREAN[0]}\n// {samples.KOREAN[1]}\n// {samples.KOREAN[2]}\n".encode(),
    "a.csv": lambda: "\n".join(samples.KOREAN).encode(),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_korean_text_comes_through_every_loader(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, name, SAMPLES[name]())
    assert is_supported(path)
    document = load(path)
    samples.assert_whole(document)
    position = 0
    for sentence in samples.KOREAN:
        position = document.text.index(sentence, position)
    assert load(path, max_bytes=path.stat().st_size) == document


@pytest.mark.parametrize("suffix", [".txt", ".md", ".py", ".go", ".csv", ".log", ".rst"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_text_is_the_file_itself(tmp_path: Path, suffix: str, encoding: str) -> None:
    path = write(tmp_path, f"a{suffix}", "첫 줄\r\n둘째\r셋째 \u2028 끝\n\n".encode(encoding))
    assert load(path).text == path.read_text(encoding)


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.py", "a.rs", "a.json", "a.csv", "a.html", "LICENSE"])
@pytest.mark.parametrize("data", [b"", b" \n\t\n", UTF8_BOM])
def test_an_empty_text_file_has_no_blocks(tmp_path: Path, name: str, data: bytes) -> None:
    document = load(write(tmp_path, name, data))
    assert document.blocks == []
    assert document.text.strip() == ""


def ole(mark: str) -> bytes:
    return b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600) + mark.encode("utf-16-le")


CONVERT = "Convert it with: iconv -f"
AGAIN = "Copy or export the file again."
SAVE = "Open it in a word processor and save it as DOCX again."
QPDF = "Remove its password, e.g.: qpdf --decrypt --password=... in.pdf out.pdf"
BINARY = "looks binary, not like text. Give it the suffix of what it is, or leave it out."

# file name, content, message without the folder
BAD: list[tuple[str, bytes, str]] = [
    ("a.txt", "휴가 규정을 안내합니다".encode("cp949"),
     f"a.txt is not valid UTF-8: byte 0xc8 at offset 0; it looks like CP949. {CONVERT} CP949 -t UTF-8 "
     "a.txt > a.utf8.txt"),
    ("it's.md", "ok 똠방각하".encode("cp949"),
     f"it's.md is not valid UTF-8: byte 0x8c at offset 3; it looks like CP949. {CONVERT} CP949 -t UTF-8 "
     "'it'\"'\"'s.md' > 'it'\"'\"'s.utf8.md'"),
    ("a.txt", "これはテストの文章です".encode("cp932"),
     f"a.txt is not valid UTF-8: byte 0x82 at offset 0; it looks like SHIFT_JIS. {CONVERT} SHIFT_JIS -t UTF-8 "
     "a.txt > a.utf8.txt"),
    ("a.txt", "这是一个测试文件，请阅读".encode("gb18030"),
     f"a.txt is not valid UTF-8: byte 0xd5 at offset 0; it looks like GB18030. {CONVERT} GB18030 -t UTF-8 "
     "a.txt > a.utf8.txt"),
    ("a.txt", "déjà vu, très bien".encode("cp1252"),
     f"a.txt is not valid UTF-8: byte 0xe9 at offset 1; it looks like WINDOWS-1252. {CONVERT} WINDOWS-1252 "
     "-t UTF-8 a.txt > a.utf8.txt"),
    ("a.py", "# 한글 주석이 많은 파일\n".encode() + b"\xff\n",
     f"a.py is not valid UTF-8: byte 0xff at offset 33. {CONVERT} ENCODING -t UTF-8 a.py > a.utf8.py"),
    ("a.txt", b"\xff\xfea\x00b\x00c",
     f"a.txt is not valid UTF-16-LE: byte 0x63 at offset 6. {CONVERT} ENCODING -t UTF-8 a.txt > a.utf8.txt"),
    ("a.txt", "plain text".encode("utf-16-le"),
     f"a.txt looks like UTF-16LE without a byte order mark. {CONVERT} UTF-16LE -t UTF-8 a.txt > a.utf8.txt"),
    ("a.txt", "plain text".encode("utf-16-be"),
     f"a.txt looks like UTF-16BE without a byte order mark. {CONVERT} UTF-16BE -t UTF-8 a.txt > a.utf8.txt"),
    ("a.txt", bytes(range(256)) * 4, f"a.txt {BINARY}"),
    ("a.md", b"text with \x01\x02\x03\x04\x05\x06 controls", f"a.md {BINARY}"),
    ("a.csv", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", f"a.csv {BINARY}"),
    ("a.html", "<p>휴가 규정을 안내합니다".encode("cp949"),
     f"a.html is not valid UTF-8: byte 0xc8 at offset 3; it looks like CP949. {CONVERT} CP949 -t UTF-8 "
     "a.html > a.utf8.html"),
    ("a.html", "<meta charset=utf-8><p>휴가 규정을 안내합니다".encode("cp949"),
     "a.html says that its encoding is utf-8, but its bytes are not. "
     "Correct its charset, or convert it to UTF-8."),
    ("a.html", b"<meta charset=klingon><p>a",
     "a.html names an unknown encoding, 'klingon'. Correct its charset, or convert it to UTF-8."),
    ("a.pdf", b"", f"a.pdf is empty (0 bytes), not a PDF. {AGAIN}"),
    ("a.pdf", b"%PDF-1.7 and then nothing",
     f"a.pdf is damaged or no PDF: pdfium cannot parse it. {AGAIN}"),
    ("a.pdf", b"<html>not found</html>", f"a.pdf is damaged or no PDF: pdfium cannot parse it. {AGAIN}"),
    ("a.pdf", samples.pdf([samples.lines("secret")], encrypted=True), f"a.pdf is encrypted. {QPDF}"),
    ("a.pdf", samples.pdf([[], []]), "a.pdf has no text layer (2 pages; scanned?). "
     "Run OCR first, e.g.: ocrmypdf in.pdf out.pdf"),
    ("a.docx", b"", f"a.docx is empty (0 bytes), not a DOCX. {AGAIN}"),
    ("a.docx", b"hello", f"a.docx is damaged or no DOCX (not a ZIP archive). {SAVE}"),
    ("a.docx", ole("EncryptedPackage"), "a.docx is protected by a password. "
     "Open it in a word processor and save it without one."),
    ("a.docx", ole("WordDocument"), "a.docx is in the old binary Word format. "
     "Convert it with: soffice --convert-to docx FILE"),
    ("a.hwp", b"HWP", "a.hwp is not supported: its suffix .hwp has no loader. "
     "Save it as PDF or DOCX in Hancom Office."),
    ("a.xlsx", b"PK", "a.xlsx is not supported: its suffix .xlsx has no loader. Export its sheets as CSV."),
    ("a.PNG", b"PNG", "a.PNG is not supported: its suffix .png has no loader. "
     "Supported: .txt .md .html .pdf .docx .csv .json .py and other source code."),
    ("data", b"text", "data is not supported: it has no suffix. "
     "Supported: .txt .md .html .pdf .docx .csv .json .py and other source code."),
    ("a\nb.bin", b"", r"'a\nb.bin' is not supported: its suffix .bin has no loader. "
     "Supported: .txt .md .html .pdf .docx .csv .json .py and other source code."),
]


@pytest.mark.parametrize(("name", "data", "message"), BAD)
def test_what_cannot_be_read_is_explained_in_one_line(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, data: bytes, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, name, data)
    with pytest.raises(Unreadable) as caught:
        load(Path(name))
    assert str(caught.value) == message
    assert "\n" not in message


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as caught:
        load(tmp_path / "no.txt")
    assert str(caught.value) == f"{tmp_path / 'no.txt'} does not exist. Check the path."


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    folder, pipe = tmp_path / "a.txt", tmp_path / "b.txt"
    folder.mkdir()
    os.mkfifo(pipe)  # reading it would wait for ever
    with pytest.raises(Unreadable, match=r"a\.txt is a folder\. Name a file\.$"):
        load(folder)
    with pytest.raises(Unreadable, match=r"b\.txt is no regular file\. Name a file\.$"):
        load(pipe)


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = write(tmp_path, "a.txt", b"secret")
    path.chmod(0)
    user = os.geteuid()
    if user == 0:  # root may read everything: be somebody else meanwhile
        os.seteuid(65534)
    try:
        with pytest.raises(Unreadable, match=r"may not be read: permission denied\. Ask its owner, or: chmod"):
            load(path)
    finally:
        os.seteuid(user)


@pytest.mark.parametrize(("name", "reason"), [("a\0.txt", "embedded null byte"), ("n" * 300 + ".txt", "too long")])
def test_a_path_that_the_system_refuses(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(Unreadable, match=reason):
        load(tmp_path / name)


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    path = write(tmp_path, "a.txt", b"x" * 2000)
    with pytest.raises(Unreadable) as caught:
        load(path, max_bytes=1999)
    assert str(caught.value) == (f"{path} has 2,000 bytes, more than max_bytes=1,999. "
                                 "Raise the limit, or split the file.")
    assert load(path, max_bytes=2000).text == "x" * 2000


@pytest.mark.parametrize("limit", [0, -1, 1.5, True, "1"])
def test_max_bytes_is_checked(tmp_path: Path, limit: object) -> None:
    with pytest.raises(InvalidInput, match=r"^max_bytes is .*\. Give a positive number of bytes, or None\.$"):
        load(tmp_path, max_bytes=limit)  # type: ignore[arg-type]


def test_is_supported_looks_at_the_name_alone() -> None:
    assert {".txt", ".md", ".html", ".pdf", ".docx", ".py", ".rs", ".csv"} <= SUFFIXES
    assert all(is_supported(Path(f"/nowhere/a{suffix.upper()}")) for suffix in SUFFIXES)
    assert is_supported(Path("LICENSE"))
    assert not any(is_supported(Path(name)) for name in ("a.png", "a", ".txt", "txt", "a.txt.gz", ""))


def test_heavy_libraries_wait_until_they_are_needed() -> None:
    program = ("import sys, madang.rag.load; "
               "print({'docx', 'pypdfium2', 'selectolax', 'markdown_it', 'lxml'} & set(sys.modules))")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
