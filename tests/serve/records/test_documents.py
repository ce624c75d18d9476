"""Documents of 2026-07 over HTTP."""

from __future__ import annotations

import math
from typing import Any

import httpx
import numpy as np
import pytest

from madang.models.providers.bundled import BundledProvider
from madang.workspace import Workspace
from tests.serve.records.conftest import Make, answered, refusal

TEXT = {"type": "string", "full_text_search": {}}
SCHEMA = {"v": {"type": "dense_vector", "dimension": 3, "metric": "cosine"}, "s": {"type": "sparse_vector"},
          "title": TEXT, "body": TEXT, "lang": {"type": "string", "filterable": True}}
DOCUMENTS = [
    {"_id": "d1", "title": "Black holes", "body": "A black hole bends light and holds entropy.", "v": [1, 0, 0],
     "s": {"indices": [1, 5], "values": [1.0, 2.0]}, "year": 2020, "lang": "en"},
    {"_id": "d2", "title": "Rivers", "body": "The river floods; black water holds mud.", "v": [0, 1, 0],
     "s": {"indices": [5], "values": [0.5]}, "year": 2021, "lang": "en"},
    {"_id": "d3", "title": "연차 규정", "body": "연차는 일 년에 25일입니다.", "v": [0, 0, 1], "year": 2022, "lang": "ko"},
    {"_id": "d4", "title": "Holes", "body": "A hole in the road was repaired.", "v": [0.9, 0.1, 0], "year": 2023,
     "tags": ["a", "b"]}]


@pytest.fixture
def http(http: httpx.Client, documents: Make) -> httpx.Client:
    documents(SCHEMA)
    assert answered(post(http, "upsert", documents=DOCUMENTS)) == {"upserted_count": 4}
    return http


def post(http: httpx.Client, verb: str, index: str = "doc", namespace: str = "ns", **body: Any) -> httpx.Response:
    return http.post(f"/i/{index}/namespaces/{namespace}/documents/{verb}", json=body)


def found(http: httpx.Client, clause: dict[str, Any] | list[dict[str, Any]], index: str = "doc", **more: Any) -> list[str]:
    clauses = clause if isinstance(clause, list) else [clause]
    answer = answered(post(http, "search", index, **{"score_by": clauses, "top_k": 10, **more}))
    scores = [each["_score"] for each in answer["matches"]]
    assert scores == sorted(scores, reverse=True)
    return [each["_id"] for each in answer["matches"]]


def words(query: str, *fields: str) -> dict[str, Any]:
    return {"type": "text", "query": query, "fields": list(fields or ("title", "body"))}


def lucene(query: str) -> dict[str, Any]:
    return {"type": "query_string", "query": query}


def test_vectors(http: httpx.Client) -> None:
    dense = {"type": "dense_vector", "field": "v", "values": [1, 0.05, 0]}
    assert found(http, dense)[:3] == ["d1", "d4", "d2"]
    answer = answered(post(http, "search", score_by=[dense], top_k=1, include_fields=["title", "year"]))
    assert answer["matches"] == [{"_id": "d1", "_score": pytest.approx(1 / math.hypot(1, 0.05), abs=1e-3),
                                  "title": "Black holes", "year": 2020.0}]
    assert (answer["namespace"], answer["usage"]) == ("ns", {"read_units": 1})
    bare = answered(post(http, "search", score_by=[dense], top_k=1))["matches"][0]
    assert set(bare) == {"_id", "_score"}
    sparse = {"type": "sparse_vector", "field": "s", "sparse_values": {"indices": [5, 9], "values": [1.0, 7.0]}}
    assert found(http, sparse) == ["d1", "d2"]
    assert found(http, dense, filter={"year": {"$gte": 2021}})[0] == "d4"


def test_every_field_comes_back(http: httpx.Client) -> None:
    dense = {"type": "dense_vector", "field": "v", "values": [1, 0, 0]}
    match = answered(post(http, "search", score_by=[dense], top_k=1, include_fields=["*"]))["matches"][0]
    assert match == {**DOCUMENTS[0], "year": 2020.0, "_score": pytest.approx(1.0, abs=1e-3)}
    fetched = answered(post(http, "fetch", ids=["d4", "nobody"]))
    assert fetched["documents"] == {"d4": {**DOCUMENTS[3], "year": 2023.0, "v": pytest.approx([0.9, 0.1, 0])}}
    assert answered(post(http, "fetch", ids=["d3"], include_fields=["title"]))["documents"] == {
        "d3": {"_id": "d3", "title": "연차 규정"}}


def test_words_in_fields(http: httpx.Client) -> None:
    assert found(http, words("black hole")) == ["d1", "d4", "d2"]
    assert found(http, words("black hole", "title")) == ["d1", "d4"]       # hole in d4's title, nothing in d2's
    assert found(http, words("river", "body")) == ["d2"]
    assert found(http, words("flooding")) == ["d2"]                        # inflected
    assert found(http, words("연차가 며칠인가요")) == ["d3"]
    assert set(found(http, [words("entropy"), words("mud")])) == {"d1", "d2"}
    assert found(http, words("nowhere")) == []
    assert found(http, words("black"), top_k=1) == ["d1"]


def test_scores_are_bm25_of_each_field_added_up(http: httpx.Client) -> None:
    def scores(*clauses: dict[str, Any]) -> dict[str, float]:
        answer = answered(post(http, "search", score_by=list(clauses), top_k=10))
        return {each["_id"]: each["_score"] for each in answer["matches"]}

    both, title, body = scores(words("hole")), scores(words("hole", "title")), scores(words("hole", "body"))
    assert both == {name: pytest.approx(title.get(name, 0) + body.get(name, 0)) for name in {*title, *body}}
    assert scores(words("hole"), words("hole")) == both                    # repeated is scored once
    assert scores(words("hole"), lucene("hole")) != {}
    assert scores(words("hole", "title"), words("hole", "title", "title")) == title
    boosted = scores(lucene("title:hole^3"))
    assert boosted == {name: pytest.approx(3 * score) for name, score in title.items()}


def test_one_field_is_scored_as_the_store_does(documents: Make, http: httpx.Client) -> None:
    documents({"body": TEXT}, "one")
    answered(post(http, "upsert", "one", documents=[{"_id": each["_id"], "body": each["body"]} for each in DOCUMENTS]))
    fast, slow = ({each["_id"]: each["_score"] for each in answered(
        post(http, "search", "one", score_by=[clause], top_k=9))["matches"]}
        for clause in (words("black hole", "body"), lucene("black hole")))
    assert fast.keys() == {"d1", "d2", "d4"}
    assert slow == pytest.approx(fast, rel=0.1)       # average lengths: of all, and of those found


@pytest.mark.parametrize(("query", "ids"), [
    ("black AND hole", {"d1"}), ("black hole", {"d1", "d2", "d4"}), ("hole NOT black", {"d4"}), ("+river -mud", set()),
    ('"black hole"', {"d1"}), ('body:"black water"', {"d2"}), ("title:(river OR 연차)", {"d2", "d3"}),
    ("title:hole AND body:road", {"d4"}), ("(black OR road) AND hole", {"d1", "d4"}), ("25일", {"d3"}),
])
def test_query_strings(http: httpx.Client, query: str, ids: set[str]) -> None:
    assert set(found(http, lucene(query))) == ids


def test_filters_on_words(http: httpx.Client) -> None:
    dense = {"type": "dense_vector", "field": "v", "values": [1, 0.05, 0]}
    sparse = {"type": "sparse_vector", "field": "s", "sparse_values": {"indices": [5], "values": [1.0]}}
    assert found(http, dense, filter={"body": {"$match_any": "hole river"}}) == ["d1", "d4", "d2"]
    assert found(http, dense, filter={"body": {"$match_all": "holes black"}}) == ["d1"]
    assert found(http, dense, filter={"body": {"$match_phrase": "black holes"}}) == ["d1"]
    assert found(http, sparse, filter={"body": {"$match_all": "river mud"}}) == ["d2"]
    both = {"$and": [{"body": {"$match_any": "hole"}}, {"year": {"$gt": 2020}}]}
    assert found(http, dense, filter=both) == ["d4"]
    assert found(http, words("hole"), filter=both) == ["d4"]
    assert found(http, words("hole"), filter={"lang": "en"}) == ["d1"]
    fetched = answered(post(http, "fetch", filter=both, include_fields=["year"]))["documents"]
    assert fetched == {"d4": {"_id": "d4", "year": 2023.0}}
    scores = answered(post(http, "search", score_by=[dense], top_k=9, filter={"body": {"$match_any": "hole"}}))
    plain = answered(post(http, "search", score_by=[dense], top_k=9))
    of = {each["_id"]: each["_score"] for each in plain["matches"]}
    assert all(each["_score"] == pytest.approx(of[each["_id"]], abs=1e-3) for each in scores["matches"])


def test_fetching_by_filter_goes_page_by_page(http: httpx.Client) -> None:
    seen: list[str] = []
    token: dict[str, str] = {}
    for expected in (2, 1):
        page = answered(post(http, "fetch", filter={"year": {"$gte": 2021}}, limit=2, **token))
        assert len(page["documents"]) == expected
        seen += page["documents"]
        token = {"pagination_token": page["pagination"]["next"]} if "pagination" in page else {}
    assert (seen, token) == (["d2", "d3", "d4"], {})


def test_listing(http: httpx.Client) -> None:
    page = answered(post(http, "list", limit=3))
    assert [each["_id"] for each in page["documents"]] == ["d1", "d2", "d3"]
    rest = answered(post(http, "list", limit=3, pagination_token=page["pagination"]["next"]))
    assert rest["documents"] == [{"_id": "d4"}]
    assert "pagination" not in rest
    assert answered(post(http, "list", prefix="x"))["documents"] == []


def test_updates(http: httpx.Client) -> None:
    assert answered(post(http, "update", documents=[
        {"_id": "d1", "title": "White dwarfs", "_remove_fields": ["year"]}, {"_id": "nobody", "x": 1}])) == {}
    changed = answered(post(http, "fetch", ids=["d1"]))["documents"]["d1"]
    assert changed == {key: value for key, value in DOCUMENTS[0].items() if key != "year"} | {"title": "White dwarfs"}
    assert found(http, words("dwarf")) == ["d1"]
    assert answered(post(http, "fetch", ids=["nobody"]))["documents"] == {}
    assert answered(post(http, "update", filter={"year": {"$gte": 2022}}, set_fields={"old": False},
                         remove_fields=["tags"])) == {"matched_records": 2}
    assert answered(post(http, "fetch", filter={"old": False}))["documents"].keys() == {"d3", "d4"}
    assert "tags" not in answered(post(http, "fetch", ids=["d4"]))["documents"]["d4"]


def test_deletes(http: httpx.Client) -> None:
    assert answered(post(http, "delete", ids=["d1", "nobody"])) == {}
    assert answered(post(http, "delete", filter={"year": {"$gte": 2022}})) == {"matched_records": 2}
    assert [each["_id"] for each in answered(post(http, "list"))["documents"]] == ["d2"]
    assert answered(post(http, "delete", delete_all=True)) == {}
    assert answered(post(http, "list"))["documents"] == []


def test_text_that_is_embedded(documents: Make, http: httpx.Client) -> None:
    made = documents({"body": {"type": "string", "embed": {"model": "multilingual-e5-large"}, "sparse_embed": {}}}, "em")
    texts = {"car": "The garage repairs cars.", "river": "The river floods the valley."}
    answer = answered(post(http, "upsert", "em", documents=[{"_id": i, "body": t} for i, t in texts.items()]))
    assert answer["upserted_count"] == 2
    assert answer["usage"]["embed_total_tokens"] > 10
    assert found(http, {"type": "embed", "field": "body", "query": "fixing an automobile"}, "em")[0] == "car"
    assert found(http, {"type": "sparse_embed", "field": "body", "query": "valleys"}, "em") == ["river"]
    assert found(http, words("garage", "body"), "em") == ["car"]           # stored text is searched by words, too
    assert answered(post(http, "fetch", "em", ids=["car"]))["documents"]["car"] == {"_id": "car", "body": texts["car"]}
    before = made.fetch(["car"], "ns")["car"].values
    assert "usage" not in answered(post(http, "update", "em", documents=[{"_id": "car", "note": "x"}]))
    after = made.fetch(["car"], "ns")["car"]
    assert np.array_equal(before, after.values)
    assert answered(post(http, "update", "em", documents=[{"_id": "car", "body": "Snow."}]))["usage"]
    assert np.allclose(made.fetch(["car"], "ns")["car"].values[:384],
                       BundledProvider().embedder("minilm").embed(["Snow."])[0], atol=1e-3)


def test_text_that_is_not_kept(documents: Make, http: httpx.Client) -> None:
    documents({"body": {"type": "string", "embed": {}, "store_text": False}}, "un")
    answered(post(http, "upsert", "un", documents=[{"_id": "a", "body": "Cars.", "year": 1}, {"_id": "b", "body": "Snow."}]))
    assert answered(post(http, "update", "un", documents=[{"_id": "a", "year": 2}])) == {}
    assert answered(post(http, "fetch", "un", ids=["a"]))["documents"]["a"] == {"_id": "a", "year": 2.0}
    assert found(http, {"type": "embed", "field": "body", "query": "automobile"}, "un")[0] == "a"
    assert answered(post(http, "update", "un", documents=[{"_id": "a", "body": "A snowy hill."}]))["usage"]
    scores = answered(post(http, "search", "un", score_by=[{"type": "embed", "field": "body", "query": "A snowy hill."}],
                           top_k=1))["matches"]
    assert scores == [{"_id": "a", "_score": pytest.approx(1.0, abs=1e-3)}]
    assert "not stored" in refusal(post(http, "fetch", "un", ids=["a"], include_fields=["body"]))
    assert "searched by words" in refusal(post(http, "search", "un", score_by=[words("x", "body")], top_k=1))


@pytest.mark.parametrize(("verb", "body", "said"), [
    ("upsert", {"documents": []}, "1 to 1,000"), ("upsert", {}, "documents"),
    ("upsert", {"documents": [{"title": "x"}]}, "documents[0]._id"),
    ("upsert", {"documents": [{"_id": "a", "v": [1, 0, 0]}] * 2}, "there twice"),
    ("upsert", {"documents": [{"_id": "a", "year": 1}]}, "none of the fields that are searched"),
    ("upsert", {"documents": [{"_id": "a", "title": "x"}]}, "lacks field 'v'"),
    ("upsert", {"documents": [{"_id": "a", "v": [1, 0]}]}, "dimension 2"),
    ("upsert", {"documents": [{"_id": "a", "v": "x"}]}, "v is no list"),
    ("upsert", {"documents": [{"_id": "a", "v": [0, 0, 0]}]}, "no direction"),
    ("upsert", {"documents": [{"_id": "a", "v": [1, 0, 0], "title": 3}]}, "'title' must be text"),
    ("upsert", {"documents": [{"_id": "a", "v": [1, 0, 0], "s": {"indices": [1], "values": []}}]}, "1 indices"),
    ("upsert", {"documents": [{"_id": "a", "v": [1, 0, 0], "n": None}]}, "n"),
    ("search", {"score_by": [], "top_k": 1}, "1 to 100"), ("search", {"score_by": [{"type": "x"}], "top_k": 1}, "type"),
    ("search", {"score_by": [words("x")], "top_k": 0}, "top_k"),
    ("search", {"score_by": [words("x"), {"type": "dense_vector", "field": "v", "values": [1, 0, 0]}], "top_k": 1},
     "stand alone"),
    ("search", {"score_by": [{**words("x"), "boost": 2}], "top_k": 1}, "no 'boost'"),
    ("search", {"score_by": [words("x", "year")], "top_k": 1}, "'year' is no field that is searched"),
    ("search", {"score_by": [lucene("title:(a")], "top_k": 1}, "ends too early"),
    ("search", {"score_by": [lucene("hol*")], "top_k": 1}, "'*' at character 3"),
    ("search", {"score_by": [{"type": "dense_vector", "field": "title", "values": [1, 0, 0]}], "top_k": 1}, "It has 'v'"),
    ("search", {"score_by": [{"type": "dense_vector", "field": "v", "values": [1]}], "top_k": 1}, "dimension"),
    ("search", {"score_by": [{"type": "embed", "field": "title", "query": "x"}], "top_k": 1}, "no field of type embed"),
    ("search", {"score_by": [words("x")], "top_k": 1, "filter": {"title": {"$eq": "x"}}}, "takes $match_phrase"),
    ("search", {"score_by": [words("x")], "top_k": 1, "filter": {"year": {"$match_all": "x"}}}, "'year' is not one"),
    ("search", {"score_by": [words("x")], "top_k": 1, "filter": {"$or": [{"title": {"$match_any": "x"}}, {"a": 1}]}},
     "within $or"),
    ("search", {"score_by": [words("x")], "top_k": 1, "filter": {"a": {"$no": 1}}}, "$no"),
    ("search", {"score_by": [words("x")], "top_k": 1, "include_fields": "title"}, "include_fields"),
    ("fetch", {}, "either ids or filter"), ("fetch", {"ids": ["a"], "filter": {"a": 1}}, "either ids or filter"),
    ("fetch", {"filter": {"a": 1}, "pagination_token": "?"}, "pagination_token"), ("fetch", {"filter": {}}, "condition"),
    ("list", {"limit": 101}, "limit"), ("delete", {}, "exactly one"), ("delete", {"ids": ["a"], "delete_all": True}, "one"),
    ("delete", {"filter": {"title": {"$match_any": "x"}}}, "not served here"), ("delete", {"filter": {"$and": [{}]}}, "one of"),
    ("update", {}, "either documents"), ("update", {"filter": {"a": 1}}, "set_fields or remove_fields"),
    ("update", {"documents": [{"_id": "d1", "x": 1, "_remove_fields": ["x"]}]}, "set and removed"),
    ("update", {"documents": [{"_id": "d1", "_remove_fields": ["v"]}]}, "lacks field 'v'"),
])
def test_what_is_wrong_is_named(http: httpx.Client, verb: str, body: Any, said: str) -> None:
    assert said in refusal(post(http, verb, **body))
    assert len(answered(post(http, "list"))["documents"]) == 4


def test_an_index_of_another_kind(workspace: Workspace, http: httpx.Client) -> None:
    workspace.create_collection("plain", 3)
    assert "no schema" in refusal(post(http, "list", "plain"))
    assert "was not found" in refusal(post(http, "list", "nope"), 404)
