"""Words, identifiers, other scripts, signatures; and that no string, thread or full cache changes a term."""

from __future__ import annotations

import subprocess
import sys
import time
import unicodedata
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from madang.base.errors import Conflict
from madang.index.lexical import Lexical
from madang.text.analyzer import Analyzer, analyzer_for, default_analyzer
from madang.text.korean import Analysis, Bigrams, Kiwi, has_kiwi

BIGRAM = Analyzer(Bigrams())
ANALYZERS = [BIGRAM, Analyzer(Kiwi())] if has_kiwi() else [BIGRAM]

anything = st.text(st.characters(exclude_categories=()))
# Strings that are likelier to meet a rule.
pieces = st.lists(st.sampled_from([
    "read_text", "os.path.join", "HTTPServer", "PDFs", "don’t", "1,000", "3.14", "v1.2", "연차는", "API를",
    "한국", "\u1112\u1161\u11ab", "漢字", "かな", "ไทย", "é", "e\u0301", "\u0301", "½", "ﷺ", "ＡＢ", "İ", "ß",
    "\ud800", "\U0001f600", ".", ",", "'", "_", "-", " ", "\n", "ㅋㅋ", "a" * 70, "가" * 140,
]), max_size=8).map("".join)


@pytest.mark.parametrize(("text", "terms"), [
    ("Running runs", {"run": 2.0}),
    ("The libraries’ users", {"the": 1.0, "librari": 1.0, "user": 1.0}),
    ("don't DON’T", {"don't": 2.0}),
    ("read_text", {"read_text": 1.0, "read": 0.5, "text": 0.5}),
    ("__init__ _private", {"init": 1.0, "privat": 1.0}),
    ("os.path.join", {"os.path.join": 1.0, "os": 0.5, "path": 0.5, "join": 0.5}),
    ("End of it.Next", {"end": 1.0, "of": 1.0, "it.next": 1.0, "it": 0.5, "next": 0.5}),
    ("ReadText", {"readtext": 1.0, "read": 0.5, "text": 0.5}),
    ("HTTPServer", {"httpserver": 1.0, "http": 0.5, "server": 0.5}),
    ("GitHub github", {"github": 2.0, "git": 0.5, "hub": 0.5}),
    ("PDFs PDF", {"pdf": 2.0}),
    ("asyncio.TaskGroup",
     {"asyncio.taskgroup": 1.0, "asyncio": 0.5, "taskgroup": 0.5, "task": 0.25, "group": 0.25}),
    ("1,000 3.14 2024", {"1000": 1.0, "3.14": 1.0, "2024": 1.0}),
    ("Straße STRASSE", {"strass": 2.0}),
    ("café cafe\u0301 CAFÉ", {"café": 3.0}),
    ("हिन्दी", {"हिन्दी": 1.0}),
    ("ＡＢＣ ½", {"abc": 1.0, "1": 1.0, "2": 1.0}),
    ("漢字", {"2:漢字": 1.0, "漢": 0.3, "字": 0.3}),
    ("かな", {"2:かな": 1.0}),
    ("猫", {"猫": 1.0}),
    ("", {}),
    (" \n.,;!? -- \U0001f600 \ud800", {}),
])
def test_terms(analyzer: Analyzer, text: str, terms: dict[str, float]) -> None:
    assert analyzer.query_terms(text) == pytest.approx(terms)


def test_mixed_words(analyzer: Analyzer) -> None:
    assert analyzer.query_terms("API를")["api"] == 1.0
    assert analyzer.query_terms("asyncio.gather는")["asyncio.gather"] == 1.0
    assert analyzer.query_terms("끝났다.다음")  # a space was forgotten: two words
    assert "s:끝났다.다음" not in analyzer.query_terms("끝났다.다음")
    assert unicodedata.normalize("NFD", "연차는") != "연차는"
    assert analyzer.query_terms(unicodedata.normalize("NFD", "연차는")) == analyzer.query_terms("연차는")


def test_huge_words_are_cut(analyzer: Analyzer) -> None:
    for text in ("a" * 10_000, "aB" * 10_000, "a_" * 10_000, "1" * 10_000, "가" * 3_000, "é" * 1_000):
        assert max(map(len, analyzer.query_terms(text))) <= 64


def test_an_identifier_finds_itself_first(bigram: Analyzer) -> None:
    texts = ["Read the text, then another text.", "Call read_text to begin.", "A text to read.", "write_text"]
    analyzed = bigram.index_terms(texts)
    vocabulary = {term: i for i, term in enumerate(sorted({term for terms in analyzed for term in terms}))}
    index = Lexical()
    index.add(np.arange(len(texts)), np.cumsum([0, *map(len, analyzed)]),
              np.array([vocabulary[term] for terms in analyzed for term in terms]),
              np.array([weight for terms in analyzed for weight in terms.values()]))

    def search(question: str) -> list[int]:
        terms = {vocabulary[t]: w for t, w in bigram.query_terms(question).items() if t in vocabulary}
        return [int(row) for row in index.search([*terms], [*terms.values()], 10)[0]]

    assert search("read_text")[0] == 1
    assert 1 in search("read text")
    assert search("read text")[0] in (0, 2)


@pytest.mark.parametrize("under_test", ANALYZERS, ids=lambda a: a.signature.rsplit("|")[-1][:9])
@given(text=anything | pieces, other=anything | pieces)
@settings(deadline=None)
def test_any_text(under_test: Analyzer, text: str, other: str) -> None:
    terms = under_test.query_terms(text)
    for term, weight in terms.items():
        assert 0 < len(term) <= 64
        assert not any(character.isspace() for character in term)
        assert weight > 0
        assert ":" not in term or term[:2] in ("s:", "2:")
    assert under_test.index_terms([text, other, text]) == [terms, under_test.query_terms(other), terms]
    assert under_test.query_terms(text + " " + text) == pytest.approx({t: 2 * w for t, w in terms.items()})
    tokens = under_test.tokens(text)
    assert bool(tokens) == bool(terms)
    assert all(0 <= token.start < token.end <= len(text) for token in tokens)
    assert [token.start for token in tokens] == sorted(token.start for token in tokens)
    assert {token.term for token in tokens} <= set(terms)


def test_token_places(analyzer: Analyzer) -> None:
    text = "Call _read_text(path.txt) for 3 PDFs"
    assert [(token.term, text[token.start:token.end]) for token in analyzer.tokens(text)] == [
        ("call", "Call"), ("read", "read"), ("text", "text"), ("path", "path"), ("txt", "txt"),
        ("for", "for"), ("3", "3"), ("pdf", "PDFs")]


def test_a_full_cache_changes_nothing(bigram: Analyzer) -> None:
    small = Analyzer(Bigrams(), cache_size=5)
    texts = [f"word{i % 7} Term{i} 연차{i}는 {'漢' * (i % 80)} {'x' * 300}" for i in range(60)]
    assert small.index_terms(texts) == bigram.index_terms(texts)
    for text in texts:
        assert small.query_terms(text) == bigram.query_terms(text)
        assert small.tokens(text) == bigram.tokens(text)


def test_threads(analyzer: Analyzer) -> None:
    shared = Analyzer(analyzer._korean, cache_size=50)
    texts = [f"running{i % 13} libraries{i} 연차{'가나다라마'[i % 5]}는 값{i}을" for i in range(400)]
    expected = [analyzer.query_terms(text) for text in texts]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(shared.query_terms, texts)) == expected
        assert list(pool.map(lambda i: shared.index_terms(texts[i:i + 9]), range(0, 400, 9))) == [
            expected[i:i + 9] for i in range(0, 400, 9)]


def test_one_thread_at_a_time_analyzes() -> None:
    class Watchful(Bigrams):
        def __init__(self) -> None:
            self.busy = 0
            self.most = 0

        def analyze(self, words: Sequence[str]) -> list[Analysis]:
            self.busy += 1
            self.most = max(self.most, self.busy)
            time.sleep(0.002)
            self.busy -= 1
            return super().analyze(words)

    korean = Watchful()
    shared = Analyzer(korean)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(shared.query_terms, (f"연차{i}" for i in range(40))))
    assert korean.most == 1


def test_signatures(kiwi: Analyzer, bigram: Analyzer) -> None:
    assert kiwi.signature == default_analyzer().signature
    assert kiwi.signature.startswith("madang-analyzer:1|en:porter2-")
    assert "|ko:kiwi-" in kiwi.signature
    assert bigram.signature.endswith("|ko:bigram")
    assert analyzer_for(kiwi.signature) is default_analyzer()
    assert analyzer_for(bigram.signature).signature == bigram.signature
    assert analyzer_for(bigram.signature).query_terms("연차는") == bigram.query_terms("연차는")


@pytest.mark.parametrize("signature", ["madang-analyzer:0|en:porter2-1.0|ko:bigram", "nonsense", ""])
def test_other_versions_are_refused(signature: str) -> None:
    with pytest.raises(Conflict, match="madang collection reanalyze handbook"):
        analyzer_for(signature, "handbook")
    with pytest.raises(Conflict, match="madang collection reanalyze NAME"):
        analyzer_for(signature)


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_without_kiwi() -> None:
    # A None in sys.modules is how Python spells "cannot be imported".
    assert run("""
import sys
sys.modules["kiwipiepy"] = None
from madang.base.errors import MissingDependency
from madang.text.analyzer import analyzer_for, default_analyzer
assert default_analyzer().signature.endswith("|ko:bigram")
assert default_analyzer().query_terms("연차는")
assert analyzer_for(default_analyzer().signature) is default_analyzer()
try:
    analyzer_for("madang-analyzer:1|en:porter2-3.0.1|ko:kiwi-0.24.1+model-0.24.0")
except MissingDependency as error:
    print(error.extra)
""") == "ko\n"


@pytest.mark.usefixtures("kiwi")
def test_kiwi_is_loaded_when_hangul_occurs() -> None:
    assert run("""
import sys
from madang.text.analyzer import default_analyzer
default_analyzer().query_terms("vacation 漢字")
print("kiwipiepy" in sys.modules)
default_analyzer().query_terms("연차")
print("kiwipiepy" in sys.modules)
""") == "False\nTrue\n"
