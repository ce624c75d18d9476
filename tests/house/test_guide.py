"""The guide is documentation and test corpus at once: both languages say the same, links lead somewhere, and the
question sets quote what is really there."""

from __future__ import annotations

import json
import pydoc
import re
import tomllib
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from madang.base import settings

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "guide"
DATA = ROOT / "tests" / "data"
LANGUAGES = ("en", "ko")
PAGES = sorted(path.name for path in (GUIDE / "en").glob("*.md"))

# A noun that questions ask for, and a longer word of the guide that merely begins like it.
CONFOUNDERS = {
    "검색": "검색어", "저장": "저장소", "이름": "이름공간", "확장": "확장자", "모델": "모델명", "색인": "색인어",
    "설정": "설정값", "명령": "명령줄", "인용": "인용문", "파일": "파일명", "서비스": "서비스명", "필터": "필터식",
    "백업": "백업본", "오류": "오류문", "질문": "질문자", "언어": "언어모델", "요약": "요약문",
}
PARTICLES = ("인가요", "이라면", "에서는", "으로는", "이면", "라면", "까지", "에서", "으로", "부터", "에는", "에도",
             "하고", "은", "는", "이", "가", "을", "를", "과", "와", "의", "에", "도", "만", "로", "쯤")
_FENCE = re.compile(r"^(```+)(\w*)\n(.*?)^\1$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^(#{1,6}) (.+)$", re.MULTILINE)
_LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")


@cache
def page(language: str, name: str) -> str:
    return (GUIDE / language / name).read_text(encoding="utf-8")


def prose(language: str, name: str) -> str:
    return _FENCE.sub("", page(language, name))


def blocks(language: str, name: str, kind: str) -> list[str]:
    return [body for _, found, body in _FENCE.findall(page(language, name)) if found == kind]


@cache
def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


def section(text: str, quote: str) -> str:
    """The section that a quote stands in, its headings above included."""
    at = text.index(quote)
    path: list[str] = []
    start, end = 0, len(text)
    for heading in _HEADING.finditer(_FENCE.sub(lambda found: " " * len(found[0]), text)):
        if heading.start() > at:
            end = heading.start()
            break
        level = len(heading[1])
        path = [*path[:level - 1], heading[2]]
        start = heading.start()
    return "\n".join(path) + text[start:end]


# The guide

def test_both_languages_have_the_same_pages() -> None:
    assert sorted(path.name for path in (GUIDE / "ko").iterdir()) == PAGES
    assert "index.md" in PAGES


@pytest.mark.parametrize("name", PAGES)
def test_both_languages_have_the_same_headings_and_blocks(name: str) -> None:
    levels = [Counter(len(found[1]) for found in _HEADING.finditer(prose(language, name))) for language in LANGUAGES]
    assert levels[0] == levels[1]
    assert levels[0][1] == 1
    fences = [[kind for _, kind, _ in _FENCE.findall(page(language, name))] for language in LANGUAGES]
    assert fences[0] == fences[1]
    assert blocks("en", name, "toml") == blocks("ko", name, "toml")
    tables = [sum(line.startswith("|") for line in prose(language, name).splitlines()) for language in LANGUAGES]
    assert tables[0] == tables[1]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", PAGES)
def test_relative_links_resolve(language: str, name: str) -> None:
    for target in _LINK.findall(prose(language, name)):
        if not target.startswith(("http:", "https:")):
            assert (GUIDE / language / target.partition("#")[0]).is_file(), target


@pytest.mark.parametrize("language", LANGUAGES)
def test_index_leads_to_every_page(language: str) -> None:
    assert set(_LINK.findall(prose(language, "index.md"))) >= set(PAGES) - {"index.md"}


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", PAGES)
def test_code_blocks_are_well_formed(language: str, name: str) -> None:
    assert page(language, name).count("```") % 2 == 0
    for source in blocks(language, name, "python"):
        compile(source, f"{language}/{name}", "exec")
    for source in blocks(language, name, "toml"):
        tomllib.loads(source)
    for source in blocks(language, name, "console"):
        assert all(line.startswith("$ ") for line in source.splitlines())


@pytest.mark.parametrize("language", LANGUAGES)
def test_settings_table_lists_every_key_with_default_and_variable(language: str) -> None:
    table = page(language, "models.md")
    found = settings.Settings()
    sections = {**{name: getattr(found, name) for name in settings.SECTIONS}, "services.NAME": settings.Service()}
    rows_found = re.findall(r"^\| `\[([^\]]+)\]` \| `(\w+)` \| (\S+) \| `(\w+)` \|$", table, re.MULTILINE)
    expected = []
    for name, values in sections.items():
        for key in values.__dataclass_fields__:
            default = getattr(values, key)
            shown = {"en": "empty", "ko": "없음"}[language] if default in ("", ()) else (
                f"`{default}`" if isinstance(default, str) else str(default))
            expected.append((name, key, shown, settings.variable(name, key)))
    assert rows_found == expected


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_filter_operator_is_listed(language: str) -> None:
    from madang.store.filters import OPERATORS  # here: the other tests need no index kernel

    listed = re.findall(r"^\| `(\$\w+)` \|", page(language, "collections.md"), re.MULTILINE)
    assert sorted(listed) == sorted([*OPERATORS, "$and", "$or"])


# The question sets

@pytest.mark.parametrize(("name", "least"), [
    ("korean_qa.jsonl", 80), ("english_qa.jsonl", 60), ("pydoc_qa.jsonl", 60), ("korean_unanswerable.jsonl", 30),
    ("english_unanswerable.jsonl", 80)])
def test_questions_are_many_and_unique(name: str, least: int) -> None:
    questions = [row["question"] for row in rows(name)]
    assert len(questions) >= least
    assert len(set(questions)) == len(questions)
    assert all(question.strip() == question != "" for question in questions)


def test_fields() -> None:
    expected = {
        "korean_qa.jsonl": {"question", "file", "quote", "kind"},
        "english_qa.jsonl": {"question", "file", "quote"},
        "pydoc_qa.jsonl": {"question", "module", "quote"},
        "korean_unanswerable.jsonl": {"question"},
        "english_unanswerable.jsonl": {"question"},
    }
    for name, fields in expected.items():
        assert all(set(row) == fields for row in rows(name)), name


@pytest.mark.parametrize(("language", "name"), [("ko", "korean_qa.jsonl"), ("en", "english_qa.jsonl")])
def test_guide_quotes_occur_exactly_once(language: str, name: str) -> None:
    whole = "\n".join(page(language, each) for each in PAGES)
    for row in rows(name):
        assert page(language, row["file"]).count(row["quote"]) == 1, row
        assert whole.count(row["quote"]) == 1, row
        assert 15 <= len(row["quote"]) <= 130, row
        assert row["question"] not in whole, row


def test_every_page_is_asked_about() -> None:
    for name in ("korean_qa.jsonl", "english_qa.jsonl"):
        assert {row["file"] for row in rows(name)} == set(PAGES)


def test_kinds_of_korean_questions() -> None:
    kinds = Counter(row["kind"] for row in rows("korean_qa.jsonl"))
    assert set(kinds) == {"particle", "confounder", "paraphrase", "plain"}
    assert kinds["particle"] >= 25
    assert kinds["confounder"] >= 15


def test_particle_questions_use_another_form_of_a_noun() -> None:
    for row in rows("korean_qa.jsonl"):
        if row["kind"] == "particle":
            there = re.findall("[가-힣]+", row["quote"])
            assert any(word not in there and _same_noun(word, other)
                       for word in re.findall("[가-힣]+", row["question"]) for other in there), row


def _same_noun(word: str, other: str) -> bool:
    """Whether both are one noun of at least two syllables with (different) particles."""
    endings = ("", *PARTICLES)
    stems = {word.removesuffix(ending) for ending in endings}
    return any(len(other.removesuffix(ending)) > 1 and other.removesuffix(ending) in stems
               for ending in endings)


def test_confounder_questions_ask_for_a_prefix_of_other_words() -> None:
    whole = "\n".join(page("ko", name) for name in PAGES)
    for row in rows("korean_qa.jsonl"):
        if row["kind"] == "confounder":
            where = section(page("ko", row["file"]), row["quote"])
            assert any(noun in row["question"] and longer not in row["question"] and longer in whole
                       and noun in where.replace(longer, "") for noun, longer in CONFOUNDERS.items()), row


def test_pydoc_quotes_occur() -> None:
    asked = rows("pydoc_qa.jsonl")
    texts = {module: pydoc.plain(pydoc.render_doc(module)) for module in sorted({row["module"] for row in asked})}
    missing = [row for row in asked if row["quote"] not in texts[row["module"]]]
    assert not missing


def test_no_question_is_both_answerable_and_not() -> None:
    answerable = {row["question"] for name in ("korean_qa.jsonl", "english_qa.jsonl", "pydoc_qa.jsonl")
                  for row in rows(name)}
    assert not answerable & {row["question"] for name in ("korean_unanswerable.jsonl", "english_unanswerable.jsonl")
                             for row in rows(name)}
