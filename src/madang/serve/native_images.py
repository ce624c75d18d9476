"""Our own routes about pictures: ingest what is uploaded, search it, look at it."""

from __future__ import annotations

import base64
import binascii
from dataclasses import asdict
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response

from madang.base.errors import InvalidInput
from madang.multimodal.search import CutOff, ImageHit, ImageQuestion
from madang.serve import events
from madang.serve import native_parts as parts
from madang.serve.http import Bodies
from madang.serve.jobs import Jobs
from madang.serve.native_documents import started, watched
from madang.serve.native_parts import Route, Served, Who, reply

_Name = Annotated[str, Path(min_length=1, max_length=63)]
_FORM = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": {
    "type": "object", "required": ["files"], "properties": {
        "files": {"type": "array", "items": {"type": "string", "format": "binary"}},
        "collection": {"type": "string", "default": "images"},
        "model": {"type": "string", "description": "For a new collection; default from the settings."},
        "captions": {"type": "string", "description": "A JSON object of file names and captions."}}}}}}}


def images(served: Served, jobs: Jobs, uploaded: Bodies) -> APIRouter:
    """Collections of pictures."""
    router = APIRouter(prefix="/api/images", route_class=Route, tags=["pictures"])
    workspace, work = served.workspace, served.work

    @router.post("/ingest", status_code=202, openapi_extra=_FORM)
    async def ingest_images(request: Request, who: Who) -> Response:
        """Ingest uploaded pictures and videos. Tells the ingest's id at once (see /api/ingest/{job}), or its events
        where the caller accepts text/event-stream."""
        jobs.check_room()
        job = await started(request, who, served, jobs, uploaded, pictures=True)
        if "text/event-stream" in request.headers.get("accept", ""):
            return events.streamed(watched(job))
        return reply(job.shown(), 202)

    @router.post("/search", response_model=parts.FoundImages)
    async def search_images(wanted: parts.ImageSearch, who: Who) -> Any:
        """The pictures that fit words, a picture, or both."""
        who.require("read", "", wanted.collection)
        served.limits.top_k(wanted.top_k)

        def find() -> list[ImageHit]:
            picture = None if wanted.image is None else decoded(wanted.image)
            return workspace.search_images(wanted.text, wanted.collection, picture=picture, weight=wanted.weight,
                                           top_k=wanted.top_k, filter=wanted.filter, duplicates=wanted.duplicates)

        found = await work.long(find)
        at = f"/api/images/{quote(wanted.collection, safe='')}/thumbnail?id="
        return reply({"pictures": [asdict(hit) | {"thumbnail": f"{at}{quote(hit.id, safe='')}"} for hit in found]})

    @router.post("/calibrate", response_model=CutOff)
    async def calibrate_images(wanted: parts.Calibrate, who: Who) -> Any:
        """Find the score from which on pictures are relevant, and keep it for searches."""
        who.require("write", "", wanted.collection)
        questions = None
        if wanted.questions is not None:
            served.limits.batch(len(wanted.questions), "questions")
            questions = [ImageQuestion(each.text, frozenset(each.relevant)) for each in wanted.questions]
        return reply(asdict(await work.long(lambda: workspace.calibrate_images(wanted.collection, questions))))

    @router.get("/{name}/thumbnail", response_class=Response,
                responses={200: {"content": {"image/jpeg": {}}, "description": "A small JPEG"}})
    async def thumbnail(name: _Name, id: Annotated[str, Query(min_length=1, max_length=512)],  # noqa: A002
                        who: Who) -> Response:
        who.require("read", "", name)
        data = await work.long(lambda: workspace.pictures.thumbnail(name, id))
        return Response(data, media_type="image/jpeg", headers={"cache-control": "private, max-age=3600"})

    return router


def decoded(text: str) -> bytes:
    """The bytes of a picture in base64, or in a data URL. Raises `InvalidInput`."""
    if text.startswith("data:"):
        head, comma, text = text.partition(",")
        if not comma or not head.endswith(";base64"):
            raise InvalidInput("image: the data URL is not in base64.")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidInput(f"image: not base64 ({error}).",
                           remedy="Send the picture's file in base64; addresses are not fetched here.") from None
