"""Sentences of prose, Korean, Japanese, and of documents with layout; spans of any text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from madang.text.sentences import split

# "|" marks where a sentence ends.
PROSE = [
    "It costs $3.50.| She paid.| Version 3.11.7 is out.",
    "Dr. Smith met Mrs. Jones vs. Prof. Lee, i.e. three people, e.g. at St. Mary.| They left.",
    "J. R. R. Tolkien wrote it.| The U.S. Army came from the U.S.| The end.",
    "Apples, pears, etc. are fruit.| We sell apples, pears, etc.| Come in.",
    "He works at Apple Inc. in Cupertino.| He left Apple Inc.| The rest stayed.",
    "We met at 5 p.m. on Monday.| It was 5 p.m.| Then we left.",
    "See Fig. 3 and pp. 12 to 14, vol. 2.| No. 5 is best.| Is it?| No.| It is not.",
    "\"Stop!\" he said.| \"Why?\"| She ran.| (It was late.)| \"Go.\"| Yes!",
    "What?!| Really…| Well... maybe.| Yahoo! is a company.",
    "Use asyncio.run.| asyncio.gather returns a list.| Plan B.| The next.",
    "One.[1]| Two [2].| Three. [3]| Four [4, 5].| Five.",
    "In 1999.| The year 2000 came.| It has 3 parts.| 4 remain",
    "Emphasis *here.*| **There.**| `Code.`| End",
    "연차는 15일입니다.| 이월할 수 있나요?| 네.| 아니요, 안 됩니다!",
    "오늘은 쉰다.|내일은 일한다.|그래요?|네.",
    "2024. 3. 5. 시행한다.| 3.5배 늘었다.| 약 1.2퍼센트이다.",
    "\"가자.\"라고 말했다.| 음... 그게 뭐더라?| 모르겠어요...| 네.",
    "asyncio.gather는 결과를 돌려준다.| Task는 다르다.",
    "行こう。|「はい。」と言った。|次！？|本当",
    "年假有十五天。|可以结转吗？|可以！",
]

# One sentence per "¶", the rest is as it stands.
LAYOUT = [
    "A paragraph that is hard\nwrapped over\nlines.¶ And a second\nsentence.\n\n¶Another paragraph",
    "No stop at the end\n\n¶Next",
    "# A heading. With a stop\n¶Text that\ngoes on",
    "# 1. Introduction\n¶Text",
    "Title\n¶=====\n¶Text\ngoes on",
    "Intro:\n¶- one\n  continues\n¶- two.¶ With a second sentence\n¶* three",
    "Steps\n¶1. First step\n¶2) Second step\n¶(3) Third\n¶a) Fourth",
    "| a | b |\n¶|---|---|\n¶| 1. | 2 |\n¶Text",
    "> Quoted\n> prose",
    "Run it:\n\n¶```python\n¶x = 1. + y\n¶print(x). Foo\n\n¶z\n¶```\n¶Then read\non",
    "def f(x):\n¶    return x + 1\n\n¶print(f(2))\n¶import os\n¶x = 3\n¶This is prose that\ngoes on.",
    "Prose first\n¶    indented.code here\n¶back to prose",
    "int main() {\n¶  go(1);\n¶}",
    "신청은 10일 전까지 한다\n¶승인은 팀장이 합니다\n¶문의는 어디에 하나요\n¶없음\n¶끝",
    "직원이 신청할 때마다\n부서장보다 먼저 알리고\n필요\n하면 쉰다",
    "비가 오니까\n집에 갑니까\n¶네",
    "제1조 (목적)\n¶이 규정은 목적을\n정한다.\n¶제2조 (정의) 다음과 같다.\n¶① 첫째",
    "① 첫째\n¶② 둘째\n¶가. 셋째\n¶나) 넷째",
    "Windows\r\nlines.\r\n\r\n¶Next\x0c¶page\u2029¶end",
]


def sentences(text: str) -> list[str]:
    return [text[start:end] for start, end in split(text)]


@pytest.mark.parametrize("marked", PROSE)
def test_prose(marked: str) -> None:
    assert sentences(marked.replace("|", "")) == [part.strip() for part in marked.split("|")]


@pytest.mark.parametrize("marked", LAYOUT)
def test_layout(marked: str) -> None:
    assert sentences(marked.replace("¶", "")) == [part.strip() for part in marked.split("¶")]


def test_quotations() -> None:
    assert sentences("> Quoted prose that\n> is wrapped. More.\n>\n> - item\n> - item") == [
        "> Quoted prose that\n> is wrapped.", "More.", ">\n> - item", "> - item"]


def test_nothing() -> None:
    assert split("") == []
    assert split(" \n\t\u3000\n") == []
    assert split("x") == [(0, 1)]


likely = st.lists(st.sampled_from([
    "a", "Word", "etc", "Dr", "U.S", "5", "다", "합니다", "요", "漢", ".", "..", "?", "!", "…", "。", "」", "\"",
    ")", "[1]", " ", "  ", "\t", "\n", "\n\n", "\r\n", "    ", "- ", "1. ", "# ", "> ", "|", "```", "~~~",
    "===", "{", "x = 1", "\x0c", "\u2028", "\x1c", "\u3000", "\ud800", "\U0001f600",
]), max_size=25).map("".join)
anything = st.text(st.characters(exclude_categories=()))


@given(anything | likely)
def test_spans(text: str) -> None:
    previous = 0
    for start, end in split(text):
        assert previous <= start < end <= len(text)
        assert text[start:end] == text[start:end].strip()
        assert text[previous:start].strip() == ""
        previous = end
    assert text[previous:].strip() == ""


@given(likely, likely)
def test_paragraphs_do_not_know_each_other(first: str, second: str) -> None:
    first, second = (text.replace("`", "").replace("~", "") for text in (first, second))
    gap = len(first) + 2
    assert split(first + "\n\n" + second) == split(first) + [(s + gap, e + gap) for s, e in split(second)]


@pytest.mark.parametrize("unit", [".", ".x", ".)", ". ", "!", "。", "- ", "a. ", "[1", ".[", ">", ">\n", "\n",
                                  "```\n", "{", "=", "\"", " ", "\n ", "가", "다.", "A."])
def test_no_text_takes_forever(unit: str) -> None:
    spans = split(unit * 200_000 + "x")  # anything quadratic would run into the time limit of the tests
    assert spans[-1][1] == 200_000 * len(unit) + 1
