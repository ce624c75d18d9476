"""Retrieval, answers and citations."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from madang.base.errors import InvalidInput
from madang.base.messages import Location, Passage
from madang.models.protocol import Evidence, Reading
from madang.rag import cite
from madang.rag.answer import NOT_FOUND, answer_by_chat, answer_by_reader, prompt
from madang.rag.ingest import ingest
from madang.rag.retrieve import Mode, Retrieved, retrieve
from madang.store import Collection
from madang.text.analyzer import default_analyzer
from tests.models.fakes import ScriptedChat, WordHashEmbedder


@pytest.fixture
def filled(docs: Collection, embedder: WordHashEmbedder, folder: Path) -> Collection:
    ingest([folder], docs, embedder)
    return docs


class FixedReader:
    """Reads what it was told."""

    name = "test/reader"

    def __init__(self, evidence: list[Evidence], score: float = 1.0) -> None:
        self._reading = Reading(evidence, score, 0.5)

    def read(self, question: str, passages: object) -> Reading:
        return self._reading


@pytest.mark.parametrize("mode", ["hybrid", "dense", "bm25"])
def test_every_mode_finds_the_passage_with_its_place(filled: Collection, embedder: WordHashEmbedder,
                                                     mode: Mode) -> None:
    found = retrieve("unused days carried over", filled, embedder, mode=mode, top_k=3)
    best = found.passages[0]
    assert "carried over until March" in best.text
    assert best.source.endswith("vacation.md")
    assert "Carry-over" in best.location.heading or best.location.line == 1
    source = filled.source(best.source)
    assert source is not None
    assert source.text[best.start:best.end] == best.text
    assert found.notes == []


def test_a_foreign_language_leans_on_words_and_says_so(filled: Collection, embedder: WordHashEmbedder) -> None:
    found = retrieve("연차는 며칠인가요?", filled, embedder)
    assert found.passages[0].source.endswith("휴가.md")
    (note,) = found.notes
    assert "Korean" in note
    assert "test/words" in note
    assert "dense=0.05" in str(found.plan)


@pytest.mark.parametrize(("question", "mode", "words"), [
    ("  ", "hybrid", "question is empty"), ("x", "magic", "mode 'magic' is unknown"),
])
def test_bad_questions_are_refused(filled: Collection, embedder: WordHashEmbedder, question: str, mode: Mode,
                                   words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        retrieve(question, filled, embedder, mode=mode)


def test_the_reader_cites_what_it_quotes(filled: Collection, embedder: WordHashEmbedder) -> None:
    found = retrieve("carried over", filled, embedder)
    text = found.passages[0].text
    start = text.index("Unused")
    end = text.index("March.") + len("March.")
    answer = answer_by_reader("carried over", found, FixedReader([Evidence(0, start, end, 1.0)]), filled)
    assert answer.status == "answered"
    assert answer.text == "Unused days may be carried over until March. [1]"
    (citation,) = answer.citations
    assert citation.verified
    assert citation.location.line == 7
    source = filled.source(citation.source)
    assert source is not None
    assert source.text[citation.start:citation.end] == citation.quote == "Unused days may be carried over until March."


def test_below_the_threshold_it_says_so_in_the_language_of_the_question(filled: Collection,
                                                                        embedder: WordHashEmbedder) -> None:
    for question, words in (("what about pizza", NOT_FOUND["en"]), ("피자는 어떤가요?", NOT_FOUND["ko"])):
        found = retrieve(question, filled, embedder)
        answer = answer_by_reader(question, found, FixedReader([Evidence(0, 0, 5, 1.0)], score=0.1), filled)
        assert (answer.status, answer.text, answer.citations) == ("not_found", words, [])


def test_a_tampered_source_is_not_verified(filled: Collection, embedder: WordHashEmbedder) -> None:
    found = retrieve("carried over", filled, embedder)
    good = cite.cite(1, found.passages[0], 0, 10)
    checked = cite.verify([good, replace(good, start=good.start + 1, end=good.end + 1),
                           replace(good, source="/gone")], filled)
    assert [each.verified for each in checked] == [True, False, False]


def test_a_chat_answer_streams_and_its_citations_are_read_back(filled: Collection,
                                                               embedder: WordHashEmbedder) -> None:
    question = "how long may unused days be carried over"
    found = retrieve(question, filled, embedder)
    number = next(n for n, p in enumerate(found.passages, 1) if "carried over" in p.text)
    chat = ScriptedChat(f"Unused days may be carried over until March [{number}]. Pizza is free [99].")
    heard: list[str] = []
    answer = answer_by_chat(question, found, chat, filled, on_text=heard.append)
    assert "".join(heard).endswith("[99].")
    assert answer.text == "Unused days may be carried over until March [1]. Pizza is free ."
    assert answer.status == "answered"
    assert answer.citations[0].quote == "Unused days may be carried over until March."
    assert answer.citations[0].verified
    assert any("[99]" in note for note in answer.notes)
    assert answer.usage.total_tokens == 15
    assert answer.model == "test/chat (scripted-1)"
    assert "not instructions" in chat.heard[0].content
    assert question in chat.heard[1].content


@pytest.mark.parametrize(("text", "words"), [
    ("No idea, honestly.", "cited nothing"), ("The moon is made of cheese [1].", "shares few words"),
])
def test_unsupported_claims_are_noted(filled: Collection, embedder: WordHashEmbedder, text: str, words: str) -> None:
    found = retrieve("carried over", filled, embedder)
    answer = answer_by_chat("carried over", found, ScriptedChat(text), filled)
    assert any(words in note for note in answer.notes)


def test_refusal_and_early_stop(filled: Collection, embedder: WordHashEmbedder) -> None:
    found = retrieve("carried over", filled, embedder)
    refused = answer_by_chat("carried over", found, ScriptedChat("NOT_IN_DOCUMENTS"), filled)
    assert (refused.status, refused.text) == ("not_found", NOT_FOUND["en"])
    cut = answer_by_chat("carried over", found, ScriptedChat("Until Ma", "length"), filled)
    assert cut.status == "partial"
    nothing = answer_by_chat("x", replace(found, passages=[]), ScriptedChat("never called"), filled)
    assert nothing.status == "not_found"


def test_the_prompt_numbers_passages_with_their_origin() -> None:
    passage = Passage("1", "Body.", 1.0, "/a.md", 0, 5, Location(3, 2, "Top > Sub"), "Handbook")
    system, user = prompt("Why?", [passage])
    assert system.role == "system"
    assert "[1] (Handbook > Top > Sub, p. 2)\nBody." in user.content
    assert user.content.endswith("Question: Why?")


@given(st.text(st.sampled_from("abc가나. [123]\n"), max_size=80))
def test_any_answer_text_is_survived_and_its_markers_have_citations(text: str) -> None:
    passages = [Passage(str(n), "Alpha beta. 가나다 라마.\nGamma.", 1.0, f"/{n}", 0, 28, Location(1)) for n in range(2)]
    checked = cite.check_answer(text, passages, default_analyzer)
    numbers = {citation.number for citation in checked.citations}
    assert {int(mark) for mark in cite._MARK.findall(checked.text)} <= numbers | {
        int(mark) for mark in cite._MARK.findall(cite._MARK.sub("", text))}
    for citation in checked.citations:
        passage = next(p for p in passages if p.source == citation.source)
        assert passage.text[citation.start:citation.end] == citation.quote


def test_retrieved_plan_is_readable(filled: Collection, embedder: WordHashEmbedder) -> None:
    found: Retrieved = retrieve("days", filled, embedder)
    assert str(found.plan).startswith("exact + bm25 + rrf(k=60")
