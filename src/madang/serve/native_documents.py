"""Our own routes about documents: ingest what is uploaded, search it, ask it."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict
from pathlib import Path as FilePath
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Path, Request
from fastapi.responses import Response

from madang.base.errors import InvalidInput, MadangError
from madang.serve import events, uploads
from madang.serve import native_parts as parts
from madang.serve.access import Identity
from madang.serve.errors import told
from madang.serve.http import Bodies
from madang.serve.jobs import Cancelled, Job, Jobs
from madang.serve.native_parts import Route, Served, Who, reply

UPLOADS = ("/api/ingest", "/api/images/ingest")       # bodies that are read as they come
_WATCH_S = 0.1
_Name = Annotated[str, Path(min_length=1, max_length=63)]
_Job = Annotated[str, Path(min_length=1, max_length=40)]
_log = logging.getLogger("madang.serve")
_FORM = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": {
    "type": "object", "required": ["files"], "properties": {
        "files": {"type": "array", "items": {"type": "string", "format": "binary"}},
        "collection": {"type": "string", "default": "docs"},
        "embedder": {"type": "string", "description": "For a new collection; default from the settings."}}}}}}}


def documents(served: Served, jobs: Jobs, uploaded: Bodies) -> APIRouter:
    """Ingest and sources."""
    router = APIRouter(prefix="/api", route_class=Route, tags=["documents"])
    workspace, work = served.workspace, served.work

    @router.post("/ingest", status_code=202, openapi_extra=_FORM)
    async def ingest(request: Request, who: Who) -> Response:
        """Ingest uploaded files. Tells the ingest's id at once, or its events where the caller accepts
        text/event-stream."""
        jobs.check_room()
        job = await started(request, who, served, jobs, uploaded)
        if "text/event-stream" in request.headers.get("accept", ""):
            return events.streamed(watched(job))
        return reply(job.shown(), 202)

    @router.get("/ingest/{job}")
    async def ingest_state(job: _Job, who: Who) -> dict[str, Any]:
        return jobs.of(job, who).shown()

    @router.get("/ingest/{job}/events")
    async def ingest_events(job: _Job, who: Who) -> Response:
        """Progress as server-sent events: `progress` again and again, then `done`, `failed` or `cancelled`."""
        return events.streamed(watched(jobs.of(job, who)))

    @router.delete("/ingest/{job}", status_code=202)
    async def cancel_ingest(job: _Job, who: Who) -> dict[str, Any]:
        """What was committed before stays."""
        found = jobs.of(job, who)
        found.cancelled.set()
        return found.shown()

    @router.get("/collections/{name}/sources")
    async def list_sources(name: _Name, who: Who) -> dict[str, Any]:
        who.require("read", "", name)
        found = await work.long(lambda: workspace.collection(name).sources())
        return {"sources": [asdict(each) for each in found.values()]}

    @router.post("/collections/{name}/sources/delete")
    async def delete_sources(name: _Name, wanted: parts.Uris, who: Who) -> dict[str, int]:
        """Remove documents and their records, in one transaction."""
        who.require("write", "", name)
        served.limits.batch(len(wanted.uris), "uris")
        return {"deleted": await work.write(lambda: workspace.collection(name).remove_sources(wanted.uris))}

    return router


def questions(served: Served) -> APIRouter:
    """Search and ask."""
    router = APIRouter(prefix="/api", route_class=Route, tags=["questions"])
    workspace, work = served.workspace, served.work

    @router.post("/search")
    async def search(wanted: parts.Search, who: Who) -> dict[str, Any]:
        """The passages that match best, by meaning and words."""
        who.require("read", "", wanted.collection)
        served.limits.top_k(wanted.top_k)
        found = await work.long(lambda: workspace.search(
            wanted.query, wanted.collection, top_k=wanted.top_k, mode=wanted.mode, filter=wanted.filter))
        return reply({"passages": [asdict(passage) for passage in found]})  # type: ignore[return-value]

    @router.post("/ask")
    async def ask(wanted: parts.Ask, request: Request, who: Who) -> Response:
        """An answer with citations that were read back."""
        who.require("read", "", wanted.collection)
        if wanted.stream or "text/event-stream" in request.headers.get("accept", ""):
            return _asked(wanted, served)
        return reply((await work.long(lambda: workspace.ask(
            wanted.question, wanted.collection, top_k=wanted.top_k, model=wanted.model,
            filter=wanted.filter))).to_dict())

    return router


def _asked(wanted: parts.Ask, served: Served) -> Response:
    """The answer as it is written, then whole with its citations."""
    feed = events.Feed()

    def on_text(text: str) -> None:
        if not feed.put("text", {"text": text}):
            raise Cancelled("nobody reads the answer any more.")

    def run() -> None:
        try:
            answer = served.workspace.ask(wanted.question, wanted.collection, top_k=wanted.top_k, model=wanted.model,
                                          filter=wanted.filter, on_text=on_text)
            feed.put("answer", answer.to_dict())
        except Cancelled:
            pass
        except MadangError as error:
            feed.put("error", {"error": told(served.cleaned(error))})
        except Exception as error:   # a defect: written down, and told without what it may reveal
            _log.exception("ask failed")
            feed.put("error", {"error": {"code": "error", "message": f"the server failed ({type(error).__name__}).",
                                         "remedy": None}})
        finally:
            feed.end()

    served.work.long(run)
    return events.streamed(feed.events())


async def started(request: Request, who: Identity, served: Served, jobs: Jobs, uploaded: Bodies, *,
                  pictures: bool = False) -> Job:
    """An ingest of what a form sends: documents, or pictures with captions perhaps."""
    known = ["collection", "model", "captions"] if pictures else ["collection", "embedder"]
    directory = jobs.directory()
    try:
        form = await uploads.receive(request.headers.get("content-type", ""), uploaded.pieces(
            dict(request.scope["headers"]), request.receive), directory, served.limits.settings.max_batch)
        unknown = sorted(set(form.fields) - set(known))
        if unknown or not form.files:
            raise InvalidInput(f"the form has a field {unknown[0]!r:.80}." if unknown else "the form has no file.",
                               remedy=f"It takes files, {', '.join(known)}.")
        collection = form.fields.get("collection", "images" if pictures else "docs")
        who.require("write", "", collection)
        if collection not in served.workspace.collections():
            who.require("admin", "", collection)     # it will be made
        model = form.fields.get("model" if pictures else "embedder") or None
        captions = _captions(form.fields.get("captions", ""), form.files) if pictures else None
        return jobs.start(collection, who.name, directory, form.files, model, captions)
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise


def _captions(text: str, files: Mapping[str, FilePath]) -> dict[FilePath, str]:
    """Of the files of a form, from a JSON object of names and captions. Raises `InvalidInput`."""
    try:
        found = orjson.loads(text) if text.strip() else {}
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"captions: not JSON ({error}).") from None
    if not isinstance(found, dict) or not all(isinstance(each, str) for each in found.values()):
        raise InvalidInput("captions: a JSON object of file names and texts is expected.")
    named = {uploads.clean_name(name): caption for name, caption in found.items()}
    unknown = sorted(set(named) - set(files))
    if unknown:
        raise InvalidInput(f"captions: no file is called {unknown[0]!r:.80}.")
    return {files[name]: caption for name, caption in named.items()}


async def watched(job: Job) -> AsyncIterator[bytes]:
    seen, quiet = -1, 0.0
    yield events.event("started", {"id": job.id})
    while True:
        version, over = job.version, job.over
        if version != seen:
            seen, quiet = version, 0.0
            yield events.event(job.status if over else "progress", job.shown())
        if over:
            return
        await asyncio.sleep(_WATCH_S)
        quiet += _WATCH_S
        if quiet >= 15:
            quiet = 0.0
            yield events.KEEP_ALIVE
