"""Sentences, with their places: one scan over stops and line ends, in pure Python.

Rules in the manner of Grefenstette & Tapanainen, "What is a word, what is a sentence?" (1994): a stop ends a
sentence unless an abbreviation, an initial, a number or a following lower-case word says otherwise. Documents
are more than prose, so layout counts too: blank lines, headings, list items, table rows and lines of code end
a sentence, the line ends of wrapped prose do not.
"""

from __future__ import annotations

import re

from madang.text.languages import HANGUL

_LINE_END = "\n\r\x0b\x0c\x85\u2028\u2029"
# What may follow a stop and still belong to the sentence: closing quotes, brackets, emphasis, citation marks.
_CLOSERS = (r"""(?:["'”’»)\]}」』）】》〉*_`]"""
            r"""|[ \t]*\[\d{1,3}(?:[,;–-][ ]?\d{1,3})*\](?=[\s.!?]|\Z))*+""")
# A run of stops is tried once, from its beginning: a line of dots must not cost the square of its length.
_BOUNDARY = re.compile(
    rf"(?P<line>[{_LINE_END}]\s*)"
    rf"|(?<![.!?…‥])(?P<stop>[.!?…‥]++)(?P<closers>{_CLOSERS})(?=\s|\Z|(?P<tight>[{HANGUL}]))"
    rf"|[。！？｡]+(?P<wide>{_CLOSERS})")
_NEXT_WORD = re.compile(r"\s*(\w*)")
_OPENERS = "([{<\"'“‘«*_`"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Abbreviations by what follows: what they introduce; a number, or else they are words; more of a name.
_INTRODUCING = _words("""
    dr mr mrs ms prof rev hon gen col lt sgt capt cmdr gov sen pres messrs mme mlle st mt ft e.g i.e eg ie cf
    vs v viz ca approx resp incl esp cit op ibid fig figs eq eqs ref refs z.b d.h bzw
""")
_BEFORE_NUMBER = _words("""
    no nos nr p pp vol vols ch chap sec sect tab art para pt bd ver ed
    jan feb mar apr jun jul aug sep sept oct nov dec
""")
_NAMES = _words("inc ltd co corp llc plc bros dept est assn univ ave blvd rd ph.d m.d b.a m.a b.sc m.sc")
_INITIALS = re.compile(r"[A-Z](?:\.[A-Z])*")
# Capitalized after an initial or a name, these begin a sentence rather than continue the name.
_STARTERS = _words("""
    a after all although an and another are as at because before both but by can do does each every few for
    from he her here his how however i if in is it its many more most my no not now of on one or our she since
    so some such that the their then there these they this those thus to two under until we what when where
    which while who why with yes you your
""")
_ENUMERATOR = re.compile(r"\d{1,3}|[A-Za-z]|[ivx]{1,5}|[IVX]{1,5}|[가나다라마바사아자차카타파하]")
_LINE_HEAD = re.compile(r"[ \t]*(?:[#>*+•-]+[ \t]+)*[(\[]?")
_DATE = re.compile(r"\d\.\s?\d{1,2}\Z")

# A line that begins like this, after its indentation, begins something new: bullets; 1. (2) a) iv.; Korean
# lists and regulations; Markdown's headings, quotations, tables, code, rules and underlines.
_ITEM = re.compile(rf"""
    [-*+•·▪◦‣⁃○●■□◆▶※–][ \t]
  | [(\[]?(?:\d{{1,3}}|[A-Za-z]|[ivx]{{2,5}})[.)\]][ \t]
  | [①-⑳] | [(\[]?[가나다라마바사아자차카타파하][.)\]][ \t]
  | 제\d+[조장절항] | \#{{1,6}}[ \t] | > | \| | ```|~~~ | ([=\-*_~])\1{{2,}}[ \t]*(?:[{_LINE_END}]|\Z)
""", re.VERBOSE)
# A line that looks like this stands alone: what of the above is no beginning of a paragraph.
_ALONE = re.compile(r"""
    [ \t]*(?: \#{1,6}[ \t] | \| | ```|~~~ | ([=\-*_~])\1{2,}[ \t]*\Z
           | 제\d+[조장절](?:의\d+)?[ ]*\([^)]*\)[ ]*\Z )
""", re.VERBOSE)
_FENCE = re.compile(r"[ \t]*(?:~~~|```(?!.*```))")
_UNDIVIDED = re.compile(r"[ \t]*(?:#{1,6}[ \t]|\|)")  # headings and table rows, whatever stops they hold
_QUOTED = re.compile(r">[> \t]*")
# Prompts, decorators, comments, directives; compound statements; imports; assignments; calls; braces.
_CODE = re.compile(r"""
    [ \t]*(?: >>> | [$][ ] | @\w | // | /[*] | \#include | \#!
      | (?:async[ ]|await[ ])?(?:def|class|if|elif|else|for|while|try|except|with|function)\b.*[:({][ ]*\Z
      | import[ ][\w.]+\Z | from[ ][\w.]+[ ]import[ ] | return\b[^.]*\Z
      | (?:const[ ]|let[ ]|var[ ])?[\w.\[\]]+[ ]?[-+*/|:]?=[ ]?\S | [\w.]+\([^()]*\)\Z )
  | .*[;{}][ ]*\Z
""", re.VERBOSE)
_CODE_INDENT = 4
_RIEUL, _BIEUP = 8, 17  # the final consonants ㄹ and ㅂ, counted as Unicode does
_NOUNS_IN_YO = frozenset("필주수중개동소강")  # 필요, 주요, 수요, ...: a need is no sentence


def split(text: str) -> list[tuple[int, int]]:
    """The sentences of a text as (start, end), so that `text[start:end]` is the sentence.

    Spans ascend, do not overlap, begin and end with a character that is not white space, and together cover
    every such character. A heading, list item, table row or line of code is a sentence of its own.
    """
    spans: list[tuple[int, int]] = []
    # Where the sentence and the line begin: the first one with the indentation of the first line that has text.
    start = line = len(text[:len(text) - len(text.lstrip())].rstrip(" \t"))
    fenced = _FENCE.match(text, line) is not None
    undivided = _UNDIVIDED.match(text, line) is not None
    for found in _BOUNDARY.finditer(text, start):
        space = found["line"]
        if space is not None:
            cut, end = fenced or _line_ends(text, line, found.start(), found.end(), space), found.start()
            line = found.end() - (len(space) - len(space.rstrip(" \t")))
            fenced ^= _FENCE.match(text, line) is not None
            undivided = _UNDIVIDED.match(text, line) is not None
        else:
            cut = not fenced and not undivided and _stop_ends(text, start, line, found)
            end = found.end()
        if cut:
            _append(spans, text, start, end)
            start = end
    _append(spans, text, start, len(text))
    return spans


def _append(spans: list[tuple[int, int]], text: str, start: int, end: int) -> None:
    sentence = text[start:end]
    body = sentence.lstrip()
    if body:
        start += len(sentence) - len(body)
        spans.append((start, start + len(body.rstrip())))


def _stop_ends(text: str, start: int, line: int, found: re.Match[str]) -> bool:
    """Whether the stop that was found ends the sentence that begins at `start`."""
    stop, at, end = found["stop"], found.start(), found.end()
    if stop is None:  # 。 and the like: 「行こう。」と言った goes on
        return not found["wide"] or text[end:end + 1].strip() == ""
    if found["tight"]:  # a space forgotten after 합니다.
        return not found["closers"] and ("." not in stop or _korean_ends(text[max(start, at - 4):at]))
    following = _NEXT_WORD.match(text, end)
    after = following[1] if following else ""
    lower = after[:1].islower()
    if "!" in stop or "?" in stop or found["closers"]:
        return not lower
    if stop != ".":  # an ellipsis
        before = text[max(start, at - 4):at]
        return _korean_ends(before) if before and "가" <= before[-1] <= "힣" else not lower
    head = text[max(start, at - 24):at]
    word = head.split()[-1].lstrip(_OPENERS) if head.strip() and not head[-1].isspace() else ""
    if _ENUMERATOR.fullmatch(word) and at - line < 40 and _LINE_HEAD.fullmatch(text, line, at - len(word)):
        return False
    return _word_ends(word, after, head, lower)


def _word_ends(word: str, after: str, head: str, lower: bool) -> bool:
    """Whether a word with a full stop ends a sentence, by the word and by the word after it."""
    key = word.casefold()
    if key in _INTRODUCING:
        return False
    if key in _BEFORE_NUMBER:
        return not lower and not after[:1].isdigit()
    if word.isdigit():
        return not (lower or after[:1].isdigit() or (_DATE.search(head) and "가" <= after[:1] <= "힣"))
    if key in _NAMES or _INITIALS.fullmatch(word):
        return (after.casefold() in _STARTERS and not lower) or not after.isascii()
    # Sentences may begin with an identifier in lower case; other abbreviations (etc., p.m.) are short.
    return not lower or len(word) > 4


def _line_ends(text: str, line: int, end: int, following: int, space: str) -> bool:
    """Whether the line `text[line:end]` ends a sentence. `following` is where the next line's text begins."""
    if len((space + ".").splitlines()) > 2 or "\x0c" in space or "\u2029" in space:
        return True  # a blank line, a new page
    current = text[line:end]
    quoted = _QUOTED.match(text, following)
    if quoted and current.lstrip().startswith(">"):  # wrapped prose inside a quotation
        following = quoted.end()
        if not current.strip("> \t"):
            return False
        if not text[following:following + 1].strip():
            return True
    if _ITEM.match(text, following):
        return True
    if _ALONE.match(current) or _korean_ends(current[-8:].rstrip()):
        return True
    indent = len(current) - len(current.lstrip(" \t"))
    deeper = len(space) - len(space.rstrip(" \t")) - indent
    if abs(deeper) >= _CODE_INDENT and not _ITEM.match(text, line + indent):
        return True
    after = text[following:following + 200]
    return _CODE.match(current) is not None or _CODE.match(after.splitlines()[0] if after else "") is not None


def _korean_ends(before: str) -> bool:
    """Whether a line that ends with these characters is a complete Korean sentence without its stop.

    다 needs a final consonant before it, or 니, 이, 하, 되: 한다 and 있다 end sentences, 마다 does not.
    """
    if len(before) < 2 or not "가" <= before[-2] <= "힣":
        return False
    last, final = before[-1], (ord(before[-2]) - ord("가")) % 28
    if last == "다":
        return final > 0 or before[-2] in "니이하되"
    if last == "요":
        return before[-2] not in _NOUNS_IN_YO
    if last == "까":  # 합니까, 할까; but 하니까 goes on
        bieup = (ord(before[-3:-2] or "가") - ord("가")) % 28 == _BIEUP
        return final == _RIEUL or (before[-2] == "니" and bieup)
    return last == "죠" or (last == "음" and before[-2] in "있없않했됐")
