"""Inference, records and documents on the wire: what is encoded is decoded to itself, and nothing breaks the reader."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from madang.wire import lucene, pinecone_documents, pinecone_inference, pinecone_records
from madang.wire.lucene import Group, Words
from madang.wire.pinecone import Malformed
from madang.wire.pinecone_inference import EmbedRequest, RerankRequest
from madang.wire.pinecone_records import MatchTerms, RecordHit, Rerank, Search, Spent, TextRecord

WORD = st.text(min_size=1, max_size=12)
ID = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=20)
NUMBER = st.floats(allow_nan=False, allow_infinity=False)
VALUE = st.one_of(WORD, NUMBER, st.booleans(), st.lists(WORD, max_size=3))
FIELDS = st.dictionaries(WORD.filter(lambda name: name not in ("_id", "id")), VALUE, max_size=4)
WHERE = st.dictionaries(WORD, VALUE, min_size=1, max_size=2)
SPARSE = st.dictionaries(st.integers(0, 2**32 - 1), NUMBER, min_size=1, max_size=5).map(
    lambda pairs: (list(pairs), list(pairs.values())))
JSON = st.recursive(st.none() | st.booleans() | st.integers() | NUMBER | st.text(max_size=8),
                    lambda part: st.lists(part, max_size=4) | st.dictionaries(st.text(max_size=8), part, max_size=4),
                    max_leaves=12)
RERANK = st.builds(Rerank, WORD, st.lists(WORD, min_size=1, max_size=3), st.none() | st.integers(1, 10_000), WORD)
OTHERS: dict[str, Any] = {"filter": st.none() | WHERE, "fields": st.none() | st.lists(WORD.filter("*".__ne__), max_size=3),
                          "rerank": st.none() | RERANK}
TERMS = st.builds(MatchTerms, st.lists(WORD, min_size=1, max_size=3), st.sampled_from(["all", "any"]))
K = st.integers(1, 10_000)
SEARCH = st.one_of(
    st.builds(Search, K, text=WORD, match_terms=st.none() | TERMS, **OTHERS), st.builds(Search, K, id=ID, **OTHERS),
    st.builds(Search, K, vector=st.lists(NUMBER, min_size=1, max_size=4), sparse=st.none() | SPARSE, **OTHERS),
    st.builds(Search, K, sparse=SPARSE, **OTHERS))


@given(st.lists(st.builds(TextRecord, ID, FIELDS), min_size=1, max_size=5))
def test_records(records: list[TextRecord]) -> None:
    assert pinecone_records.decode_records(pinecone_records.encode_records(records)) == records


@given(SEARCH)
def test_searches(search: Search) -> None:
    assert pinecone_records.decode_search(json.loads(json.dumps(pinecone_records.encode_search(search)))) == search


@given(st.lists(st.builds(RecordHit, ID, NUMBER, FIELDS), max_size=4),
       st.builds(Spent, st.none() | st.integers(0), st.none() | st.integers(0)))
def test_hits(hits: list[RecordHit], spent: Spent) -> None:
    answer = json.loads(json.dumps(pinecone_records.encode_hits(hits, spent)))
    assert pinecone_records.decode_hits(answer) == (hits, spent)


@given(st.builds(EmbedRequest, WORD, st.lists(st.text(max_size=9), min_size=1, max_size=96),
                 st.sampled_from(["query", "passage"]), st.sampled_from(["END", "START", "NONE"]),
                 st.none() | st.integers(1, 4096), st.booleans()))
def test_embedding(request: EmbedRequest) -> None:
    assert pinecone_inference.decode_embed(pinecone_inference.encode_embed(request)) == request


@given(st.builds(RerankRequest, WORD, WORD, st.lists(FIELDS.map(lambda fields: {**fields, "text": "x"}), min_size=1,
                                                     max_size=4), st.integers(1, 10_000), st.just(["text"]),
                 st.booleans()))
def test_reranking(request: RerankRequest) -> None:
    assert pinecone_inference.decode_rerank(pinecone_inference.encode_rerank(request)) == request


@given(ID)
def test_tokens(identity: str) -> None:
    assert pinecone_documents.decode_token(pinecone_documents.encode_token(identity)) == identity


@pytest.mark.parametrize("decode", [
    pinecone_records.decode_search, pinecone_records.decode_hits, pinecone_inference.decode_embed,
    pinecone_inference.decode_rerank, pinecone_documents.decode_schema, pinecone_documents.decode_documents,
    pinecone_documents.decode_search, pinecone_documents.decode_fetch, pinecone_documents.decode_delete,
    pinecone_documents.decode_listing, pinecone_documents.decode_update])
@given(data=st.data())
def test_nothing_but_malformed_is_raised(decode: Any, data: st.DataObject) -> None:
    keys = ["query", "rerank", "fields", "model", "inputs", "parameters", "documents", "score_by", "top_k", "filter", "ids",
            "limit", "prefix", "pagination_token", "set_fields", "remove_fields", "include_fields", "result", "usage"]
    body = data.draw(JSON | st.dictionaries(st.sampled_from(keys), JSON, max_size=6))
    with suppress(Malformed):
        decode(body)


@given(st.binary(max_size=60))
def test_any_bytes_are_records_or_malformed(body: bytes) -> None:
    with suppress(Malformed):
        pinecone_records.decode_records(body)


# --- query strings ---


TREES = st.recursive(
    st.builds(Words, st.text("abAB가", min_size=1, max_size=4), st.none() | st.tuples(st.sampled_from(["t", "b"])),
              st.sampled_from([1.0, 2.0, 0.5]), st.booleans()),
    lambda part: st.lists(st.tuples(st.sampled_from(["may", "must", "never"]), part), min_size=2, max_size=3,
                          unique_by=lambda pair: repr(pair[1])).filter(
        lambda parts: any(mark != "never" for mark, _ in parts)).map(
        lambda parts: Group(*(tuple(tree for mark, tree in parts if mark == wanted)
                              for wanted in ("may", "must", "never")))), max_leaves=6)


def written(tree: lucene.Tree) -> str:
    if isinstance(tree, Words):
        text = f'"{tree.text}"' if tree.phrase else tree.text
        return f"{tree.fields[0] + ':' if tree.fields else ''}{text}{'' if tree.boost == 1 else f'^{tree.boost:g}'}"
    return "(" + " ".join([*map(written, tree.may), *("+" + written(part) for part in tree.must),
                           *("-" + written(part) for part in tree.never)]) + ")"


@given(TREES)
def test_query_strings(tree: lucene.Tree) -> None:
    assert lucene.parse(written(tree)) == tree


@given(st.text("ab\"()^:+-!*\\ ANDORT", max_size=20))
def test_any_query_string_is_a_tree_or_malformed(text: str) -> None:
    with suppress(Malformed):
        assert lucene.words_of(lucene.parse(text))


@pytest.mark.parametrize(("text", "tree"), [
    ("a", Words("a")), ("a b", Group((Words("a"), Words("b")))), ("a AND b", Group(must=(Words("a"), Words("b")))),
    ("a OR b AND c", Group((Words("a"),), (Words("b"), Words("c")))), ("a NOT b", Group((Words("a"),), (), (Words("b"),))),
    ("t:(a b^2)^3", Group((Words("a", ("t",), 3.0), Words("b", ("t",), 6.0)))), (r"a\:b", Words("a:b")),
    ('t:"a b"', Words("a b", ("t",), phrase=True)), ("state-of a+b", Group((Words("state-of"), Words("a+b")))),
    ("ANDROID", Words("ANDROID")), ("a a", Words("a")),
])
def test_how_a_query_string_is_read(text: str, tree: lucene.Tree) -> None:
    assert lucene.parse(text) == tree


@pytest.mark.parametrize("text", ["", "NOT a", "-a", "AND a", "a AND", "a OR OR b", "(a", "a)", "()", '"a', "a*", "a~", "a?",
                                  "[a TO b]", "/a/", "t:", "t:u:a", "a^0", "^2", "a" * 5000, "(" * 40 + "a" + ")" * 40])
def test_what_is_not_read(text: str) -> None:
    with pytest.raises(Malformed):
        lucene.parse(text)
