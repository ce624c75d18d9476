"""`/v1/images/generations`, and the pictures it made for as long as they are kept."""

from __future__ import annotations

import base64
import time
from functools import partial
from http import HTTPStatus
from typing import Any

from madang.base.errors import NotFound, Unsupported
from madang.models.protocol import Drawing, DrawOptions
from madang.serve.http import Reply, Request, as_json
from madang.serve.openai_names import meant
from madang.serve.pictures import Pictures
from madang.serve.routes import Routes
from madang.serve.work import Work
from madang.wire.openai_fields import Fields, Wrong
from madang.workspace import Workspace

_MOST_PICTURES, _MOST_PROMPT = 10, 32_000


class Images:
    """Descriptions to pictures, by the configured model that draws."""

    def __init__(self, workspace: Workspace, work: Work) -> None:
        self._workspace, self._work = workspace, work
        self._kept = Pictures(workspace.path / "pictures")

    def add_to(self, routes: Routes) -> None:
        """Take the paths; the second is where the addresses lead that the first gives."""
        routes.add("POST", "/images/generations", self._draw)
        routes.add("GET", "/images/files/{name}", self._picture)

    async def _draw(self, request: Request) -> Reply:
        fields = Fields(request.json())
        prompt = fields.text("prompt", most=_MOST_PROMPT)
        if not prompt.strip():
            raise fields.wrong("prompt", "a description")
        asked = fields.text("model", "dall-e-2")
        coded = fields.choice("response_format", ("url", "b64_json"),
                              "b64_json" if asked.startswith("gpt-image") else "url") == "b64_json"
        if fields.flag("stream"):
            raise Wrong("pictures are not streamed.", param="stream", code="invalid_value", remedy="Leave it out.")
        options = DrawOptions(
            fields.whole("n", 1, _MOST_PICTURES) or 1, fields.text("size", "", most=20),
            fields.text("quality", "", most=20), fields.text("style", "", most=20),
            fields.text("background", "", most=20), fields.text("output_format", "", most=20))
        name = meant(self._workspace, asked, "draw")
        if not name:
            raise Unsupported(f"no model here makes pictures, so {asked!r:.80} cannot.",
                              remedy='Name one in madang.toml: [models] draw = "SERVICE/MODEL", and its service under '
                                     "[services.SERVICE].")
        drawn = await self._work.long(partial(self._drawn, name, prompt, options))
        data = [await self._told(drawing, coded, request.base_url) for drawing in drawn]
        return as_json({"created": int(time.time()), "data": data, "model": name})

    def _drawn(self, name: str, prompt: str, options: DrawOptions) -> list[Drawing]:
        return self._workspace.models.image_generator(name).draw(prompt, options)

    async def _told(self, drawing: Drawing, coded: bool, base_url: str) -> dict[str, Any]:
        said = {"revised_prompt": drawing.prompt} if drawing.prompt else {}
        if coded:
            return {"b64_json": base64.b64encode(drawing.data).decode(), **said}
        name = await self._work.long(partial(self._kept.keep, drawing.data, drawing.media_type))
        return {"url": f"{base_url}/v1/images/files/{name}", **said}

    async def _picture(self, request: Request) -> Reply:
        """A picture by its name, which cannot be guessed; where the server has keys, one is needed here, too."""
        found = await self._work.long(partial(self._kept.read, request.parts["name"]))
        if found is None:
            raise NotFound("there is no such picture; the oldest are removed.")
        data, media_type = found
        return Reply(data, HTTPStatus.OK, media_type.encode(), ((b"cache-control", b"private, max-age=86400"),
                                                               (b"x-content-type-options", b"nosniff")))

