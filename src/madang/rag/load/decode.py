"""From bytes to text, strictly: UTF-8, or what a byte order mark says. No encoding is guessed silently."""

from __future__ import annotations

import codecs
import re
import shlex
from pathlib import Path

from madang.base.errors import Unreadable

# The longer marks come first: UTF-16's little-endian mark begins UTF-32's.
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be"),
          (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
# Controls that no text holds: all but backspace, tab, newline, vertical tab, form feed, return and escape.
_CONTROLS = bytes(set(range(0x20)) - {0x08, 0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x1B} | {0x7F})
_CONTROL_SHARE = 0.02

# Encodings that files usually have when not UTF-8, with the letters that a right guess brings out. Japanese
# comes first: read as CP949 it gives Hangul (of rare kinds), while nothing else gives kana.
_CANDIDATES = (("SHIFT_JIS", "cp932", re.compile("[ぁ-ヿ]")), ("EUC-JP", "euc_jp", re.compile("[ぁ-ヿ]")),
               ("CP949", "cp949", re.compile("[가-힣]")),
               ("GB18030", "gb18030", re.compile("[一-鿿，。、！？：；（）“”]")),
               ("WINDOWS-1252", "cp1252", re.compile("[À-ÖØ-öø-ÿ€‘’“”–—…°§]")))
_WANTED_SHARE = {"CP949": 0.8, "SHIFT_JIS": 0.3, "EUC-JP": 0.3, "GB18030": 0.8, "WINDOWS-1252": 0.8}
_FOREIGN = re.compile(r"[^\x00-\x7f]")
_SAMPLE_BYTES = 1 << 16


def shown(path: Path) -> str:
    """A path for a one-line message; one with control characters or undecodable bytes is escaped."""
    text = str(path)
    return text if text.isprintable() else ascii(text)


def marked(data: bytes) -> tuple[str, int] | None:
    """The encoding that a byte order mark names, and the length of the mark."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return encoding, len(mark)
    return None


def decode(data: bytes, path: Path) -> str:
    """The text of a file, newlines as \\n.

    Raises:
        Unreadable: it looks binary, or is in another encoding; the message names the byte and how to convert.
    """
    mark = marked(data)
    encoding, skip = mark or ("utf-8", 0)
    if mark is None or encoding == "utf-8":
        _refuse_binary(data, path)
    try:
        text = data[skip:].decode(encoding)
    except UnicodeDecodeError as error:
        raise not_decodable(data, path, encoding, error.start + skip) from None
    if "\0" in text:
        raise _binary(path)
    return normalize_newlines(text)


def normalize_newlines(text: str) -> str:
    """Universal newlines, as `open` in text mode reads them."""
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def not_decodable(data: bytes, path: Path, encoding: str, offset: int) -> Unreadable:
    """What is wrong at the byte `offset`; names the encoding, if it can be recognised, and how to convert."""
    name = shown(path)
    guess = _recognise(data[:_SAMPLE_BYTES]) if encoding == "utf-8" else None
    value = f"0x{data[offset]:02x}" if offset < len(data) else "the end"
    if guess is None:
        return Unreadable(f"{name} is not valid {encoding.upper()}: byte {value} at offset {offset:,}.",
                          remedy=_conversion(path, "ENCODING"))
    return Unreadable(f"{name} is not valid UTF-8: byte {value} at offset {offset:,}; it looks like {guess}.",
                      remedy=_conversion(path, guess))


def _conversion(path: Path, encoding: str) -> str:
    source = shown(path)
    target = str(Path(source).with_suffix(f".utf8{path.suffix}"))
    return f"Convert it with: iconv -f {encoding} -t UTF-8 {shlex.quote(source)} > {shlex.quote(target)}"


def _refuse_binary(data: bytes, path: Path) -> None:
    if b"\0" in data:
        even, odd = data[:_SAMPLE_BYTES:2], data[1:_SAMPLE_BYTES:2]
        for letters, zeros, name in ((even, odd, "UTF-16LE"), (odd, even, "UTF-16BE")):
            if zeros.count(0) > 0.4 * len(zeros) and letters.count(0) == 0:
                raise Unreadable(f"{shown(path)} looks like {name} without a byte order mark.",
                                 remedy=_conversion(path, name))
        raise _binary(path)
    if len(data) - len(data.translate(None, _CONTROLS)) > _CONTROL_SHARE * len(data) + 2:
        raise _binary(path)


def _binary(path: Path) -> Unreadable:
    return Unreadable(f"{shown(path)} looks binary, not like text.",
                      remedy="Give it the suffix of what it is, or leave it out.")


def _recognise(sample: bytes) -> str | None:
    """The encoding whose decoding looks like writing, or None; None too for UTF-8 with some damage."""
    unicode = sample.decode("utf-8", "replace")
    if unicode.count("\ufffd") < 0.1 * len(_FOREIGN.findall(unicode)):
        return None
    for name, codec, wanted in _CANDIDATES:
        try:  # the sample may end inside a character: only the decoder's complaint about earlier bytes counts
            text = codecs.getincrementaldecoder(codec)("strict").decode(sample)
        except UnicodeDecodeError:
            continue
        foreign = len(_FOREIGN.findall(text))
        if foreign and len(wanted.findall(text)) >= _WANTED_SHARE[name] * foreign:
            return name
    return None
