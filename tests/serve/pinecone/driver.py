"""Every call of the data and the control plane that a pinecone client has, in that client's own spelling.

`driver.py` runs in an environment with one version of the client, against the server named by PINECONE_CONTROLLER_HOST,
and fails at the first answer that is not as expected. It knows no more of the server than a stranger's program would.
"""

from __future__ import annotations

import asyncio
import os
import sys
import uuid
import warnings
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

import driver_records  # beside this file
import pinecone

warnings.simplefilter("ignore")       # deprecations are the client's own affair
try:
    VERSION = int(version("pinecone").partition(".")[0])
except PackageNotFoundError:
    VERSION = int(version("pinecone-client").partition(".")[0])
MODEL = os.environ.get("DRIVER_MODEL", "bundled/static")
A, B, C = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.6, 0.8, 0.0]
called: list[str] = []


def check(what: str, seen: Any, wanted: Any) -> None:
    """Note the call, and stop where its answer is another one."""
    called.append(what)
    if seen != wanted:
        raise SystemExit(f"pinecone {VERSION}: {what}: {seen!r}, not {wanted!r}")


def near(one: Any, other: Any) -> bool:
    return len(one) == len(other) and all(abs(a - b) < 1e-5 for a, b in zip(one, other, strict=True))


def refused(what: str, status: int, call: Any) -> None:
    """The client raises its own error, with the status."""
    try:
        call()
    except Exception as error:
        seen = getattr(error, "status", None) or getattr(error, "status_code", None)
        check(f"{what} is refused", seen in (status, None if status == 400 else status), True)     # None: by the client
        check(f"{what} is refused in words", len(str(error)) > 10, True)
    else:
        raise SystemExit(f"pinecone {VERSION}: {what} was not refused")


def names(listing: Any) -> list[str]:
    return list(listing.names()) if hasattr(listing, "names") else [index.name for index in listing]


def ids(pages: Any) -> list[str]:
    """The ids of a listing, whose pages are lists of ids, of entries, or entries themselves, by version."""
    found: list[str] = []
    for page in pages:
        entries = page if isinstance(page, list) else getattr(page, "vectors", [page])
        found += [entry if isinstance(entry, str) else entry.id for entry in entries]
    return found


def spec() -> Any:
    return pinecone.ServerlessSpec(cloud="aws", region="us-east-1")


# --- the control plane ---


def control_plane(pc: Any, name: str) -> None:
    dense, sparse, model = f"{name}-d", f"{name}-s", f"{name}-m"
    more = {"tags": {"env": "dev", "team": "a"}, "deletion_protection": "enabled"} if VERSION >= 7 else {}
    pc.create_index(name=dense, dimension=3, metric="dotproduct", spec=spec(), **more)
    described = pc.describe_index(dense)
    check("create_index", (described.name, described.dimension, described.metric), (dense, 3, "dotproduct"))
    check("describe_index: status", (described.status.ready, described.status.state), (True, "Ready"))
    check("describe_index: spec", (described.spec.serverless.cloud, described.spec.serverless.region), ("aws", "us-east-1"))
    check("describe_index: host", described.host.endswith(f"/i/{dense}"), True)
    check("list_indexes", dense in names(pc.list_indexes()), True)
    refused("describe_index of what is not there", 404, lambda: pc.describe_index(f"{name}-nope"))
    refused("create_index twice", 409, lambda: pc.create_index(name=dense, dimension=3, spec=spec()))
    refused("create_index of a name beyond the rules", 400, lambda: pc.create_index(name=f"{name}_x", dimension=3, spec=spec()))
    if VERSION >= 7:
        check("describe_index: tags", dict(described.tags.to_dict()), {"env": "dev", "team": "a"})
        check("has_index", (pc.has_index(dense), pc.has_index(f"{name}-nope")), (True, False))
        check("describe_index: protected", described.deletion_protection, "enabled")
        refused("delete_index of a protected one", 403, lambda: pc.delete_index(dense))
        pc.configure_index(dense, deletion_protection="disabled", tags={"env": "", "new": "1"})
        described = pc.describe_index(dense)
        check("configure_index", (dict(described.tags.to_dict()), described.deletion_protection),
              ({"team": "a", "new": "1"}, "disabled"))
        pc.create_index(name=sparse, vector_type="sparse", metric="dotproduct", spec=spec())
        described = pc.describe_index(sparse)
        check("create_index, sparse", (described.vector_type, described.metric), ("sparse", "dotproduct"))
        made = pc.create_index_for_model(name=model, cloud="aws", region="us-east-1",
                                         embed={"model": MODEL, "field_map": {"text": "chunk"}})
        check("create_index_for_model", (made.embed.model, dict(made.embed.field_map)), (MODEL, {"text": "chunk"}))
        pc.delete_index(model)
        made = pc.create_index(name=model, dimension=2, spec=pinecone.PodSpec(environment="us-east1-gcp", pod_type="p1.x1"))
        check("create_index of pods", made.spec.pod.environment, "us-east1-gcp")
        pc.configure_index(model, replicas=2)
        check("configure_index of pods", pc.describe_index(model).spec.pod.replicas, 2)
        pc.delete_index(model, timeout=-1)
        of_its_own(pc, model)
    if VERSION >= 10:
        pc.indexes.create(name=model, schema={"fields": {"v": {"type": "dense_vector", "dimension": 3, "metric": "cosine"}}},
                          deployment={"deployment_type": "managed", "cloud": "gcp", "region": "europe-west4"})
        described = pc.indexes.describe(model)
        check("indexes.create", (described.schema.fields["v"].dimension, described.deployment.cloud), (3, "gcp"))
        check("indexes.list", model in [index.name for index in pc.indexes.list()], True)
        check("indexes.exists", pc.indexes.exists(model), True)
        pc.indexes.configure(model, tags={"a": "b"})
        pc.indexes.delete(model)
        check("indexes.delete", pc.indexes.exists(model), False)


def of_its_own(pc: Any, name: str) -> None:
    """The same calls in the spelling of a namespace: `pc.db.index` in 7 and 8, `pc.indexes` since."""
    control = pc.db.index if VERSION < 9 else pc.indexes
    if VERSION < 10:
        control.create(name=name, dimension=3, spec=spec())
        control.configure(name=name, tags={"x": "y"})
        tags = control.describe(name=name).tags
        check("control: describe", dict(tags.to_dict() if hasattr(tags, "to_dict") else tags), {"x": "y"})
        check("control: exists", control.has(name=name) if VERSION < 9 else control.exists(name), True)
        check("control: list", name in names(control.list()), True)
        control.delete(name=name)
    check("list_collections", list(pc.list_collections().names()), [])
    check("list_backups", list(pc.list_backups()), [])
    refused("describe_collection", 404, lambda: pc.describe_collection("nope"))
    refused("create_collection", 501, lambda: pc.create_collection("nope", name))


# --- the data plane ---


def data_plane(index: Any) -> None:
    sparse = {"indices": [1, 5], "values": [0.5, 2.0]}
    check("upsert of tuples", index.upsert(vectors=[("a", A, {"k": "v", "n": 1, "on": True, "l": ["x", "y"]}), ("b", B)],
                                           namespace="ns").upserted_count, 2)
    check("upsert of dicts", index.upsert(vectors=[{"id": "c", "values": C, "sparse_values": sparse,
                                                    "metadata": {"k": "w", "n": 2.5}}], namespace="ns").upserted_count, 1)
    check("upsert in batches", index.upsert(vectors=[(f"d{n:03}", [0.0, 0.0, n + 1.0]) for n in range(250)], batch_size=100,
                                            show_progress=False).upserted_count, 250)
    vectors = [pinecone.Vector(id="e", values=A, metadata={"k": "e"})] if hasattr(pinecone, "Vector") else [("e", A, {"k": "e"})]
    check("upsert of Vector", index.upsert(vectors=vectors, namespace="ns").upserted_count, 1)

    if find_spec("pandas") is not None:
        import pandas as pd

        frame = pd.DataFrame({"id": ["f1", "f2"], "values": [A, B], "metadata": [{"k": "f"}, {"k": "f"}]})
        check("upsert_from_dataframe", index.upsert_from_dataframe(frame, namespace="frame", show_progress=False).upserted_count, 2)
        index.delete(ids=["f1", "f2"], namespace="frame")

    queried(index.query(vector=A, top_k=3, namespace="ns", filter={"k": {"$in": ["v", "w"]}}, include_metadata=True,
                        include_values=True))
    found = index.query(id="b", top_k=1, namespace="ns")
    check("query by id", [match.id for match in found.matches], ["b"])
    check("query of what is not there", index.query(vector=A, top_k=3, namespace="nowhere").matches, [])
    hybrid = index.query(vector=A, sparse_vector={"indices": [5], "values": [3.0]}, top_k=2, namespace="ns")
    check("query, dense and sparse", [match.id for match in hybrid.matches], ["c", "a"])
    check("query, dense and sparse: scores", near([match.score for match in hybrid.matches], [0.6 + 6.0, 1.0]), True)
    refused("query of a wrong dimension", 400, lambda: index.query(vector=[1.0], top_k=1))
    refused("a filter that is none", 400, lambda: index.query(vector=A, top_k=1, filter={"k": {"$like": "x"}}))

    fetched = index.fetch(ids=["a", "c", "nope"], namespace="ns").vectors
    check("fetch", sorted(fetched), ["a", "c"])
    check("fetch: metadata", dict(fetched["a"].metadata), {"k": "v", "n": 1.0, "on": True, "l": ["x", "y"]})
    check("fetch: numbers are doubles", type(fetched["a"].metadata["n"]), float)
    check("fetch: values", (near(fetched["c"].values, C), list(fetched["c"].sparse_values.indices)), (True, [1, 5]))

    index.update(id="a", values=B, set_metadata={"k": "new"}, namespace="ns")
    index.update(id="b", sparse_values=sparse, namespace="ns")
    index.update(id="nobody", values=B, namespace="ns")
    fetched = index.fetch(ids=["a", "b", "nobody"], namespace="ns").vectors
    check("update", (list(fetched["a"].values), fetched["a"].metadata["k"], fetched["a"].metadata["n"]), (B, "new", 1.0))
    check("update of sparse values", list(fetched["b"].sparse_values.values), [0.5, 2.0])
    check("update of what is not there", sorted(fetched), ["a", "b"])

    listed = ids(index.list(prefix="d0")) if VERSION >= 7 else ids(index.list(prefix="d0", namespace=""))
    check("list", listed, [f"d{n:03}" for n in range(100)])
    page = index.list_paginated(prefix="d", limit=60)
    check("list_paginated", (len(page.vectors), bool(page.pagination.next)), (60, True))
    second = index.list_paginated(prefix="d", limit=60, pagination_token=page.pagination.next)
    check("list_paginated: the next page", second.vectors[0].id, "d060")

    stats = index.describe_index_stats()
    check("describe_index_stats", (stats.dimension, stats.total_vector_count, stats.namespaces["ns"].vector_count),
          (3, 254, 4))
    check("describe_index_stats: the default", stats.namespaces["__default__"].vector_count, 250)
    check("describe_index_stats with a filter", index.describe_index_stats(filter={"k": "w"}).total_vector_count, 1)
    newer_data_plane(index)

    index.delete(ids=["a", "nope"], namespace="ns")
    index.delete(filter={"k": {"$eq": "w"}}, namespace="ns")
    check("delete", sorted(index.fetch(ids=["a", "b", "c", "e"], namespace="ns").vectors), ["b", "e"])
    index.delete(delete_all=True, namespace="ns")
    check("delete of all", "ns" in index.describe_index_stats().namespaces, False)


def queried(found: Any) -> None:
    check("query", [match.id for match in found.matches], ["a", "c"])
    check("query: scores", near([match.score for match in found.matches], [1.0, 0.6]), True)
    check("query: values", near(found.matches[1].values, C), True)
    check("query: metadata", dict(found.matches[0].metadata), {"k": "v", "n": 1.0, "on": True, "l": ["x", "y"]})
    check("query: namespace", found.namespace, "ns")


def newer_data_plane(index: Any) -> None:
    """What came after client 3."""
    if VERSION >= 7:
        found = index.query_namespaces(vector=A, namespaces=["ns", ""], metric="dotproduct", top_k=2)
        check("query_namespaces", [match.id for match in found.matches][:1], ["e"])
        check("list_imports", list(index.list_imports()), [])
        if VERSION < 9:
            later = [index.query(vector=A, top_k=1, namespace="ns", async_req=True) for _ in range(4)]
            check("query in threads", [each.get(30).matches[0].id for each in later], ["e"] * 4)
            check("upsert in threads", index.upsert(vectors=[("e", A, {"k": "e"})], namespace="ns", async_req=True).get(30).upserted_count, 1)
            check("namespace.describe", int(index.namespace.describe(namespace="ns").record_count), 4)
        described = index.describe_namespace(namespace="ns")
        check("describe_namespace", (described.name, int(described.record_count)), ("ns", 4))
        listed = [entry.name for page in index.list_namespaces() for entry in getattr(page, "namespaces", None) or [page]]
        check("list_namespaces", listed, ["__default__", "ns"])
        check("list_namespaces_paginated", index.list_namespaces_paginated(limit=1).namespaces[0].name, "__default__")
        refused("describe_namespace of what is not there", 404, lambda: index.describe_namespace(namespace="nowhere"))
    if VERSION >= 8:
        made = index.create_namespace(name="made")
        check("create_namespace", (made.name, int(made.record_count)), ("made", 0))
        check("fetch_by_metadata", sorted(index.fetch_by_metadata(filter={"k": {"$in": ["new", "w", "e"]}},
                                                                  namespace="ns").vectors), ["a", "c", "e"])
        first = index.fetch_by_metadata(filter={"k": {"$exists": True}}, namespace="ns", limit=2)
        after = index.fetch_by_metadata(filter={"k": {"$exists": True}}, namespace="ns", limit=2,
                                        pagination_token=first.pagination.next)
        check("fetch_by_metadata, two pages", sorted([*first.vectors, *after.vectors]), ["a", "c", "e"])
        index.update(filter={"k": "e"}, set_metadata={"by": "filter"}, namespace="ns")
        check("update by filter", index.fetch(ids=["e"], namespace="ns").vectors["e"].metadata["by"], "filter")
        tried = index.update(filter={"k": {"$in": ["w", "e"]}}, set_metadata={"by": "nobody"}, namespace="ns", dry_run=True)
        check("update by filter, tried only", tried.matched_records, 2)
        check("update, tried only", "by" in index.fetch(ids=["c"], namespace="ns").vectors["c"].metadata, False)
        index.delete_namespace(namespace="made")
        refused("delete_namespace twice", 404, lambda: index.delete_namespace(namespace="made"))


def metrics(pc: Any, name: str) -> None:
    for metric, scores in (("cosine", [1.0, 0.6, 0.0]), ("euclidean", [0.0, 0.8, 2.0])):
        made = f"{name}-{metric}"
        pc.create_index(name=made, dimension=3, metric=metric, spec=spec())
        index = pc.Index(made)
        index.upsert(vectors=[("a", A), ("b", B), ("c", C)])
        matches = index.query(vector=A, top_k=3).matches
        check(f"query, {metric}", [match.id for match in matches], ["a", "c", "b"])
        check(f"query, {metric}: scores", near([match.score for match in matches], scores), True)
        refused(f"sparse values, {metric}", 400, lambda index=index: index.upsert(vectors=[
            {"id": "s", "values": A, "sparse_values": {"indices": [1], "values": [1.0]}}]))
        pc.delete_index(made)
        check(f"delete_index, {metric}", made in names(pc.list_indexes()), False)


def sparse_index(index: Any) -> None:
    check("upsert, sparse", index.upsert(vectors=[
        {"id": "s1", "sparse_values": {"indices": [1, 7], "values": [1.0, 2.0]}, "metadata": {"k": 1}},
        {"id": "s2", "sparse_values": {"indices": [7], "values": [0.5]}}], namespace="sp").upserted_count, 2)
    found = index.query(sparse_vector={"indices": [7], "values": [2.0]}, top_k=5, namespace="sp", include_values=True)
    check("query, sparse", [(match.id, match.score) for match in found.matches], [("s1", 4.0), ("s2", 1.0)])
    check("query, sparse: values", (list(found.matches[0].values or []), list(found.matches[0].sparse_values.indices)),
          ([], [1, 7]))
    fetched = index.fetch(ids=["s1"], namespace="sp").vectors["s1"]
    check("fetch, sparse", (list(fetched.values or []), list(fetched.sparse_values.values)), ([], [1.0, 2.0]))
    check("describe_index_stats, sparse", index.describe_index_stats().total_vector_count, 2)


# --- asyncio ---


async def asynchronous(name: str) -> None:
    client = pinecone.PineconeAsyncio() if VERSION < 10 else pinecone.AsyncPinecone()
    async with client as pc:
        await pc.create_index(name=name, dimension=3, metric="cosine", spec=spec())
        described = await pc.describe_index(name)
        check("asyncio: describe_index", described.name, name)
        check("asyncio: list_indexes", name in names(await pc.list_indexes()), True)
        await pc.configure_index(name, tags={"a": "b"})
        async with pc.IndexAsyncio(host=described.host) as index:
            check("asyncio: upsert", (await index.upsert(vectors=[("a", A, {"k": "v"}), ("b", B)])).upserted_count, 2)
            found = await index.query(vector=A, top_k=1, filter={"k": "v"}, include_metadata=True)
            check("asyncio: query", [(match.id, dict(match.metadata)) for match in found.matches], [("a", {"k": "v"})])
            check("asyncio: fetch", sorted((await index.fetch(ids=["a", "b"])).vectors), ["a", "b"])
            await index.update(id="a", set_metadata={"k": "w"})
            check("asyncio: update", (await index.fetch(ids=["a"])).vectors["a"].metadata["k"], "w")
            listed = []
            async for page in index.list():
                listed += ids([page])
            check("asyncio: list", listed, ["a", "b"])
            page = await index.list_paginated(limit=1)
            check("asyncio: list_paginated", [entry.id for entry in page.vectors], ["a"])
            check("asyncio: stats", (await index.describe_index_stats()).total_vector_count, 2)
            described = await index.describe_namespace(namespace="__default__")
            check("asyncio: describe_namespace", int(described.record_count), 2)
            spaces = [entry.name async for page in index.list_namespaces() for entry in getattr(page, "namespaces", None) or [page]]
            check("asyncio: list_namespaces", spaces, ["__default__"])
            both = await index.query_namespaces(vector=A, namespaces=["", "nowhere"], metric="cosine", top_k=1)
            check("asyncio: query_namespaces", [match.id for match in both.matches], ["a"])
            await asynchronously_newer(index)
            await index.delete(ids=["a"])
            check("asyncio: delete", sorted((await index.fetch(ids=["a", "b"])).vectors), ["b"])
        await pc.delete_index(name)
        check("asyncio: has_index", await pc.has_index(name), False)


async def asynchronously_newer(index: Any) -> None:
    if VERSION >= 8:
        check("asyncio: create_namespace", (await index.create_namespace(name="made")).name, "made")
        await index.delete_namespace(namespace="made")
        found = await index.fetch_by_metadata(filter={"k": "w"})
        check("asyncio: fetch_by_metadata", sorted(found.vectors), ["a"])
        tried = await index.update(filter={"k": "w"}, set_metadata={"x": "y"}, dry_run=True)
        check("asyncio: update by filter", tried.matched_records, 1)


def main() -> None:
    pc = pinecone.Pinecone(**({"api_key": "any", "host": os.environ["PINECONE_CONTROLLER_HOST"]} if VERSION < 7 else {}))
    name = f"driver-{uuid.uuid4().hex[:8]}"
    control_plane(pc, name)
    data_plane(pc.Index(f"{name}-d"))
    data_plane(pc.Index(host=pc.describe_index(f"{name}-d").host))
    metrics(pc, name)
    if VERSION >= 7:
        sparse_index(pc.Index(f"{name}-s"))
        pc.delete_index(f"{name}-s")
        asyncio.run(asynchronous(f"{name}-a"))
        driver_records.run(pc, name, check)
    pc.delete_index(f"{name}-d")
    check("delete_index", names(pc.list_indexes()), [])
    print(f"pinecone {VERSION}: {len(called)} checks passed")


if __name__ == "__main__":
    sys.exit(main())
