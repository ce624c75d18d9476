"""What a pinecone client has for text: inference, records, documents; in the spelling that its versions share.

`run(pc, name, check)` is called by a driver in an environment with one version of the client: `pc` is the client, `name` a
prefix for indexes, `check(what, seen, wanted)` fails where the two differ.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import pinecone

Check = Callable[[str, Any, Any], None]
TEXTS = {"apple": "An apple is a sweet fruit that grows on trees.", "phone": "Apple Inc. makes telephones and computers.",
         "river": "The river floods the valley every spring.", "car": "The garage repairs cars and motorcycles."}
MODEL, RERANKER = "multilingual-e5-large", "bge-reranker-v2-m3"


def run(pc: Any, name: str, check: Check) -> None:
    """Everything the installed version has."""
    major = int(version("pinecone").partition(".")[0])
    inference(pc, check)
    records(pc, f"{name}-r", check)
    asyncio.run(asynchronous(f"{name}-b", major, check))
    if major >= 10:
        documents(pc, f"{name}-t", check)
        embedded_documents(pc, f"{name}-e", check)
        texts_only(pc, f"{name}-o", check)


def inference(pc: Any, check: Check) -> None:
    """Embedding, reranking, models."""
    found = pc.inference.embed(model=MODEL, inputs=list(TEXTS.values()),
                               parameters={"input_type": "passage", "truncate": "END"})
    check("embed: how many", (len(found.data), found.vector_type), (4, "dense"))
    check("embed: width", {len(each.values if hasattr(each, "vector_type") else each["values"])
                           for each in found.data}, {1024})
    check("embed: usage", found.usage.total_tokens > 20, True)
    sparse = pc.inference.embed(model="pinecone-sparse-english-v0", inputs=["cats chase cats"],
                                parameters={"input_type": "passage", "return_tokens": True})
    check("embed: sparse", (len(sparse.data[0].sparse_indices), sorted(sparse.data[0].sparse_tokens)),
          (2, ["cat", "chase"]))
    ranked = pc.inference.rerank(model=RERANKER, query="Who repairs cars?", documents=list(TEXTS.values()), top_n=2,
                                 return_documents=True)
    check("rerank", (len(ranked.data), ranked.data[0].index, ranked.data[0].document["text"]), (2, 3, TEXTS["car"]))
    by_field = pc.inference.rerank(model=RERANKER, query="floods", rank_fields=["body"], return_documents=False,
                                   documents=[{"body": text} for text in TEXTS.values()])
    check("rerank by a field", (by_field.data[0].index, by_field.usage.rerank_units), (2, 1))
    models = {each.model: each for each in pc.inference.list_models()}
    check("list_models", (MODEL in models, models[RERANKER].type), (True, "rerank"))
    check("list_models by type", {each.type for each in pc.inference.list_models(type="rerank")}, {"rerank"})
    named = "model" if int(version("pinecone").partition(".")[0]) >= 9 else "model_name"
    check("get_model", pc.inference.get_model(**{named: MODEL}).default_dimension, 1024)


def records(pc: Any, name: str, check: Check) -> None:
    """An index that embeds: upsert_records and search."""
    pc.create_index_for_model(name=name, cloud="aws", region="us-east-1",
                              embed={"model": MODEL, "field_map": {"text": "chunk_text"}})
    index = pc.Index(host=pc.describe_index(name).host)
    rows = [{"_id": identity, "chunk_text": text, "size": len(text)} for identity, text in TEXTS.items()]
    index.upsert_records(namespace="ns", records=rows[:2])
    index.upsert_records(namespace="ns", records=[{"id": row.pop("_id"), **row} for row in rows[2:]])
    check("upsert_records", index.describe_index_stats().namespaces["ns"].vector_count, 4)
    query = {"inputs": {"text": "fixing an automobile"}, "top_k": 3}
    found = index.search(namespace="ns", query=query)
    check("search", (len(found.result.hits), _id(found.result.hits[0])), (3, "car"))
    check("search: usage", (found.usage.read_units, found.usage.embed_total_tokens > 0), (1, True))
    fields = found.result.hits[0].fields
    check("search: fields", (fields["chunk_text"], fields["size"]), (TEXTS["car"], float(len(TEXTS["car"]))))
    few = index.search_records(namespace="ns", query={**query, "filter": {"size": {"$lt": 42}}}, fields=["size"])
    check("search_records with filter and fields", [(_id(hit), sorted(hit.fields)) for hit in few.result.hits],
          [(each, ["size"]) for each in ("car", "river", "phone") if len(TEXTS[each]) < 42])
    ranked = index.search(namespace="ns", query={**query, "top_k": 4},
                          rerank={"model": RERANKER, "rank_fields": ["chunk_text"], "top_n": 1,
                                  "query": "Who makes telephones?"})
    check("search with rerank", ([_id(hit) for hit in ranked.result.hits], ranked.usage.rerank_units), (["phone"], 1))
    by_id = index.search(namespace="ns", query={"id": "river", "top_k": 1})
    check("search by id", [_id(hit) for hit in by_id.result.hits], ["river"])
    check("fetch of a record", index.fetch(ids=["car"], namespace="ns").vectors["car"].metadata["chunk_text"],
          TEXTS["car"])
    try:
        index.upsert_records(namespace="ns", records=[{"_id": "x", "other": "field"}])
    except Exception as error:
        check("upsert_records without text is refused in words", "chunk_text" in str(error), True)
    else:
        check("upsert_records without text is refused", False, True)
    pc.delete_index(name)


def _id(hit: Any) -> str:
    """Versions name it differently."""
    try:
        return str(hit["_id"])
    except (KeyError, TypeError):
        return str(hit.id)


async def asynchronous(name: str, major: int, check: Check) -> None:
    """The same without waiting; documents from version 10 on."""
    async with pinecone.PineconeAsyncio() if major < 10 else pinecone.AsyncPinecone() as pc:
        found = await pc.inference.embed(model=MODEL, inputs=["x"], parameters={"input_type": "query"})
        check("asyncio: embed", len(found.data), 1)
        ranked = await pc.inference.rerank(model=RERANKER, query="cars", documents=list(TEXTS.values()), top_n=1)
        check("asyncio: rerank", ranked.data[0].index, 3)
        await pc.create_index_for_model(name=name, cloud="aws", region="us-east-1",
                                        embed={"model": MODEL, "field_map": {"text": "chunk_text"}})
        async with pc.IndexAsyncio(host=(await pc.describe_index(name)).host) as index:
            await index.upsert_records(namespace="ns", records=[
                {"_id": identity, "chunk_text": text} for identity, text in TEXTS.items()])
            hits = (await index.search(namespace="ns", query={"inputs": {"text": "an automobile"}, "top_k": 1})).result.hits
            check("asyncio: search", [_id(hit) for hit in hits], ["car"])
        await pc.delete_index(name)
        if major >= 10:
            await pc.indexes.create(name=name, schema={"fields": {"body": {"type": "string", "full_text_search": {}}}})
            async with pc.IndexAsyncio(host=(await pc.indexes.describe(name)).host) as index:
                await index.documents.upsert(namespace="ns", documents=[{"_id": "a", "body": TEXTS["river"]}])
                listed = [each.id async for each in index.documents.list(namespace="ns")]
                check("asyncio: documents", listed, ["a"])
            await pc.indexes.delete(name)


def texts_only(pc: Any, name: str, check: Check) -> None:
    """A schema without any vector."""
    pc.indexes.create(name=name, schema={"fields": {"body": {"type": "string", "full_text_search": {}}}})
    docs = pc.index(name).documents
    docs.upsert(namespace="__default__", documents=[{"_id": i, "body": text} for i, text in TEXTS.items()])
    found = docs.search(namespace="__default__", top_k=5, include_fields=["*"],
                        score_by=[{"type": "text", "query": "flooding rivers", "fields": ["body"]}])
    check("documents of text only", [each.to_dict().get("body") for each in found.matches], [TEXTS["river"]])
    check("documents.search: namespace", found.namespace, "__default__")
    pc.indexes.delete(name)


def documents(pc: Any, name: str, check: Check) -> None:
    """An index with a schema: documents of version 10."""
    text = {"type": "string", "full_text_search": {}}
    pc.indexes.create(name=name, schema={"fields": {"v": {"type": "dense_vector", "dimension": 3, "metric": "cosine"},
                                                    "s": {"type": "sparse_vector"}, "title": text, "body": text}})
    docs, space = pc.index(name).documents, "ns"
    rows = [{"_id": "a", "title": "Black holes", "body": "A black hole bends light.", "v": [1.0, 0.0, 0.0], "year": 2020,
             "s": {"indices": [1, 5], "values": [1.0, 2.0]}},
            {"_id": "b", "title": "Rivers", "body": "The river floods; black water.", "v": [0.0, 1.0, 0.0], "year": 2021},
            {"_id": "c", "title": "연차 규정", "body": "연차는 일 년에 25일입니다.", "v": [0.0, 0.0, 1.0], "year": 2022}]
    check("documents.upsert", docs.upsert(namespace=space, documents=rows).upserted_count, 3)

    def ids(*clauses: dict[str, Any], **more: Any) -> list[str]:
        return [each.id for each in docs.search(namespace=space, score_by=list(clauses), top_k=3, **more).matches]

    check("documents.search by vector", ids({"type": "dense_vector", "field": "v", "values": [0.9, 0.1, 0.0]})[0], "a")
    check("documents.search by sparse vector", ids({"type": "sparse_vector", "field": "s", "sparse_values": {
        "indices": [5], "values": [1.0]}}), ["a"])
    check("documents.search by words", ids({"type": "text", "query": "black holes", "fields": ["title", "body"]}), ["a", "b"])
    check("documents.search by Korean words", ids({"type": "text", "query": "연차가 며칠인가요", "fields": ["body"]}), ["c"])
    check("documents.search by a query string", ids({"type": "query_string", "query": "body:black NOT title:holes"}), ["b"])
    check("documents.search with filters", ids({"type": "dense_vector", "field": "v", "values": [1.0, 0.0, 0.0]},
                                               filter={"$and": [{"year": {"$gte": 2021}},
                                                                {"body": {"$match_phrase": "black water"}}]}), ["b"])
    best = docs.search(namespace=space, top_k=1, include_fields=["title"],
                       score_by=[{"type": "text", "query": "river", "fields": ["title"]}]).matches[0]
    check("documents.search: fields", (best.title, best.get("body"), best.score > 0), ("Rivers", None, True))
    fetched = docs.fetch(namespace=space, ids=["a", "nobody"]).documents
    check("documents.fetch", (list(fetched), fetched["a"].to_dict()), (["a"], {**rows[0], "year": 2020.0}))
    check("documents.fetch by filter", sorted(docs.fetch(namespace=space, filter={"year": {"$lt": 2022}}).documents),
          ["a", "b"])
    check("documents.list", [each.id for each in docs.list(namespace=space)], ["a", "b", "c"])
    docs.update(namespace=space, documents=[{"_id": "b", "title": "Streams", "_remove_fields": ["year"]}])
    patched = docs.fetch(namespace=space, ids=["b"]).documents["b"]
    check("documents.update", (patched.title, patched.get("year"), patched.body), ("Streams", None, rows[1]["body"]))
    check("documents.update by filter", docs.update(namespace=space, filter={"year": {"$gte": 2020}},
                                                    set_fields={"old": True}).matched_records, 2)
    check("documents.delete by filter", docs.delete(namespace=space, filter={"old": True}).matched_records, 2)
    check("documents.delete", docs.delete(namespace=space, ids=["b"]).matched_records, None)
    check("documents.list of nothing", list(docs.list(namespace=space)), [])
    pc.indexes.delete(name)


def embedded_documents(pc: Any, name: str, check: Check) -> None:
    """A schema whose text is embedded."""
    pc.indexes.create(name=name, schema={"fields": {"body": {"type": "string", "embed": {}, "sparse_embed": {}}}})
    docs = pc.index(name).documents
    made = docs.upsert(namespace="ns", documents=[{"_id": identity, "body": text} for identity, text in TEXTS.items()])
    check("documents.upsert of text to embed", (made.upserted_count, made.usage.embed_total_tokens > 20), (4, True))
    found = docs.search(namespace="ns", top_k=1, score_by=[{"type": "embed", "field": "body", "query": "an automobile"}])
    check("documents.search of embedded text", ([each.id for each in found.matches], found.usage.embed_total_tokens > 0),
          (["car"], True))
    found = docs.search(namespace="ns", top_k=1, score_by=[{"type": "sparse_embed", "field": "body", "query": "valleys"}])
    check("documents.search of sparsely embedded text", [each.id for each in found.matches], ["river"])
    pc.indexes.delete(name)
