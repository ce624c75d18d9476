"""Writes that other processes of this machine send, since this one has the lock: `workspace/through.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Body
from fastapi.responses import Response

from madang.base.errors import InvalidInput
from madang.base.records import Record, Source
from madang.index.specs import index_of
from madang.serve.native_parts import Route, Served, Who, reply
from madang.workspace import Workspace
from madang.workspace.through import PATH

_WRITES = ("upsert", "update", "delete", "remove_sources", "reanalyze", "set_attributes")


def through(served: Served) -> APIRouter:
    """One route, not described: it is for Madang itself, of the same version."""
    router = APIRouter(route_class=Route, include_in_schema=False)

    @router.post(PATH)
    async def write(wanted: Annotated[dict[str, Any], Body()], who: Who) -> Response:
        who.require("admin")
        return reply({"result": await served.work.write(_call(served.workspace, wanted))})

    return router


def _call(workspace: Workspace, wanted: Mapping[str, Any]) -> Callable[[], Any]:
    try:
        operation, name, arguments = wanted["operation"], wanted["collection"], dict(wanted["arguments"])
        if operation == "create":
            arguments["index"] = index_of(arguments["index"], arguments["dim"], arguments["metric"])
            return lambda: workspace.store.create(**arguments).name
        if operation == "drop":
            return lambda: workspace.drop_collection(name)
        if operation == "replace_sources":
            batch = [(_source(source), [Record(**record) for record in records])
                     for source, records in arguments.pop("batch")]
            return lambda: workspace.collection(name).replace_sources(batch, **arguments)
        if operation in _WRITES:
            return lambda: getattr(workspace.collection(name), operation)(**arguments)
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput(f"the write is none of this version's ({type(error).__name__}).",
                           remedy="Use one version of Madang for a workspace.") from None
    raise InvalidInput(f"the write {operation!r:.40} is none of this version's.",
                       remedy="Use one version of Madang for a workspace.")


def _source(told: Mapping[str, Any]) -> Source:
    return Source(**{**told, "pages": tuple(told["pages"])})
