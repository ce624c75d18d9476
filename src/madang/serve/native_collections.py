"""Our own routes about collections: what they are, their records, their snapshots."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from fastapi.responses import Response

from madang.base.errors import InvalidInput
from madang.index.specs import class_of
from madang.serve import native_parts as parts
from madang.serve.native_parts import Described, Listed, Namespace, Route, Served, Stats, Who, reply
from madang.store import Collection

_Name = Annotated[str, Path(min_length=1, max_length=63)]
_Snapshot = Annotated[str, Path(min_length=1, max_length=63)]


def collections(served: Served) -> APIRouter:
    """Collections."""
    router = APIRouter(prefix="/api", route_class=Route, tags=["collections"])
    workspace, work = served.workspace, served.work

    @router.get("/collections", response_model=Listed)
    async def list_collections(who: Who) -> Response:
        def listed() -> list[dict[str, Any]]:
            return [_described(workspace.collection(name)) for name in workspace.collections() if who.reaches(name)]

        return reply({"collections": await work.long(listed)})

    @router.post("/collections", response_model=Described, status_code=201)
    async def create_collection(wanted: parts.NewCollection, who: Who) -> Response:
        who.require("admin", collection=wanted.name)
        served.limits.dim(wanted.dim)
        index = _index(wanted.index)
        made = await work.write(lambda: workspace.create_collection(wanted.name, wanted.dim, wanted.metric, index))
        return reply(_described(made), 201)

    @router.get("/collections/{name}", response_model=Described)
    async def describe_collection(name: _Name, who: Who) -> Response:
        who.at(name)
        return reply(await work.long(lambda: _described(workspace.collection(name))))

    @router.delete("/collections/{name}", status_code=204)
    async def drop_collection(name: _Name, who: Who) -> Response:
        who.require("admin", collection=name)
        await work.write(lambda: workspace.drop_collection(name))
        return Response(status_code=204)

    @router.get("/collections/{name}/stats", response_model=Stats)
    async def collection_stats(name: _Name, who: Who) -> Response:
        who.require("read", collection=name)
        return reply(asdict(await work.long(lambda: workspace.collection(name).stats())))

    @router.post("/collections/{name}/audit")
    async def audit_collection(name: _Name, wanted: parts.Audit, who: Who) -> dict[str, Any]:
        """Recall against exact search by filter selectivity, what cannot be reached, damaged files."""
        who.require("read", collection=name)
        found = await work.long(lambda: workspace.collection(name).audit(
            k=wanted.top_k, ef_search=wanted.ef_search, samples=wanted.samples))
        return reply(asdict(found))  # type: ignore[return-value]

    return router


def snapshots(served: Served) -> APIRouter:
    """Snapshots of a collection."""
    router = APIRouter(prefix="/api", route_class=Route, tags=["collections"])
    workspace, work = served.workspace, served.work

    @router.get("/collections/{name}/snapshots")
    async def list_snapshots(name: _Name, who: Who) -> dict[str, Any]:
        who.require("read", collection=name)
        found = await work.long(lambda: workspace.collection(name).snapshots())
        return reply({"snapshots": [asdict(each) for each in found]})  # type: ignore[return-value]

    @router.post("/collections/{name}/snapshots", status_code=201)
    async def create_snapshot(name: _Name, wanted: parts.NewSnapshot, who: Who) -> dict[str, Any]:
        who.require("admin", collection=name)
        made = await work.long(lambda: workspace.collection(name).snapshot(wanted.name))
        return reply(asdict(made), 201)  # type: ignore[return-value]

    @router.post("/collections/{name}/snapshots/{snapshot}/restore", response_model=Described)
    async def restore_snapshot(name: _Name, snapshot: _Snapshot, who: Who) -> Response:
        """Replace what the collection holds by the snapshot, which is verified first."""
        who.require("admin", collection=name)
        return reply(_described(await work.write(lambda: workspace.restore_snapshot(name, snapshot))))

    @router.delete("/collections/{name}/snapshots/{snapshot}", status_code=204)
    async def delete_snapshot(name: _Name, snapshot: _Snapshot, who: Who) -> Response:
        who.require("admin", collection=name)
        await work.long(lambda: workspace.collection(name).delete_snapshot(snapshot))
        return Response(status_code=204)

    return router


def records(served: Served) -> APIRouter:
    """Records of a collection."""
    router = APIRouter(prefix="/api", route_class=Route, tags=["records"])
    workspace, work = served.workspace, served.work

    @router.post("/collections/{name}/records/upsert")
    async def upsert_records(name: _Name, wanted: parts.Upsert, who: Who) -> dict[str, int]:
        """Insert or replace records by id; all of them are safe on disk when this answers."""
        who.require("write", wanted.namespace, name)
        served.limits.batch(len(wanted.records), "records")
        given = [record.model_dump() for record in wanted.records]
        return {"upserted": await work.write(lambda: workspace.collection(name).upsert(given, wanted.namespace))}

    @router.post("/collections/{name}/records/query", response_model=parts.Found)
    async def query_records(name: _Name, wanted: parts.Query, who: Who) -> Response:
        who.require("read", wanted.namespace, name)
        served.limits.top_k(wanted.top_k)
        asked = wanted.model_dump()
        found = await work.long(lambda: workspace.collection(name).query(**asked))
        return reply({"matches": [asdict(match) for match in found.matches], "namespace": found.namespace,
                      "plan": str(found.plan)})

    @router.post("/collections/{name}/records/fetch")
    async def fetch_records(name: _Name, wanted: parts.Fetch, who: Who) -> dict[str, dict[str, Any]]:
        """Records by id; unknown ids are left out."""
        who.require("read", wanted.namespace, name)
        served.limits.batch(len(wanted.ids), "ids")
        found = await work.long(lambda: workspace.collection(name).fetch(wanted.ids, wanted.namespace))
        return reply({"records": {key: asdict(record) for key, record in found.items()}})  # type: ignore[return-value]

    @router.post("/collections/{name}/records/update", status_code=204)
    async def update_record(name: _Name, wanted: parts.Update, who: Who) -> Response:
        """Replace the vector and/or merge metadata keys of one record."""
        who.require("write", wanted.namespace, name)
        changes = wanted.model_dump()
        await work.write(lambda: workspace.collection(name).update(**changes))
        return Response(status_code=204)

    @router.post("/collections/{name}/records/delete")
    async def delete_records(name: _Name, wanted: parts.Delete, who: Who) -> dict[str, int]:
        who.require("write", wanted.namespace, name)
        served.limits.batch(len(wanted.ids or ()), "ids")
        gone = wanted.model_dump()
        return {"deleted": await work.write(lambda: workspace.collection(name).delete(**gone))}

    @router.get("/collections/{name}/records")
    async def list_records(name: _Name, who: Who, prefix: Annotated[str, Query(max_length=512)] = "",
                           limit: Annotated[int, Query(ge=1, le=10_000)] = 100,
                           cursor: Annotated[str | None, Query(max_length=512)] = None,
                           namespace: Namespace = "") -> dict[str, Any]:
        """Ids in order, a page at a time; pass `cursor` to get the next."""
        who.require("read", namespace, name)
        page = await work.long(lambda: workspace.collection(name).list_ids(prefix, limit, cursor, namespace))
        return asdict(page)

    return router


def _described(collection: Collection) -> dict[str, Any]:
    return {"name": collection.name, "dim": collection.dim, "metric": collection.metric, "index": collection.index,
            "embedder": collection.embedder}


def _index(wanted: parts.Index) -> Any:
    given = wanted.model_dump(exclude={"kind"}, exclude_none=True)
    try:
        return class_of({"kind": wanted.kind})(**given)
    except TypeError:
        raise InvalidInput(f"index kind {wanted.kind!r} does not take all of {', '.join(sorted(given))}.",
                           remedy="m, ef_construction and ef_search are of hnsw and nsw; nlist and nprobe of ivf."
                           ) from None
