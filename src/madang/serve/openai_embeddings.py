"""`/v1/embeddings`."""

from __future__ import annotations

import base64
from functools import partial

import numpy as np

from madang.serve.http import Reply, Request, as_json
from madang.serve.openai_names import meant
from madang.serve.openai_tokens import as_text
from madang.serve.routes import Routes
from madang.serve.work import Work
from madang.wire import openai_answers
from madang.wire.openai_fields import Fields, Wrong
from madang.wire.openai_messages import texts_or_tokens
from madang.workspace import Workspace

_MOST_INPUTS, _MOST_DIMENSIONS = 2048, 20_000


class Embeddings:
    """Texts to vectors, of the width that the name asked for has."""

    def __init__(self, workspace: Workspace, work: Work) -> None:
        self._workspace, self._work = workspace, work

    def add_to(self, routes: Routes) -> None:
        """Take the path."""
        routes.add("POST", "/embeddings", self._embed)

    async def _embed(self, request: Request) -> Reply:
        fields = Fields(request.json())
        model = fields.text("model")
        coded = fields.choice("encoding_format", ("float", "base64"), "float") == "base64"
        dimensions = fields.whole("dimensions", 1, _MOST_DIMENSIONS)
        given = texts_or_tokens(fields, "input", most=_MOST_INPUTS)
        texts = [as_text(each, "input") for each in given]
        if not all(texts):
            raise Wrong("'input' cannot hold an empty string.", param="input", code="invalid_value")
        meant(self._workspace, model, "embed")     # an unknown name is refused before a thread is taken
        return await self._work.long(partial(self._answer, model, dimensions, texts, coded))

    def _answer(self, model: str, dimensions: int | None, texts: list[str], coded: bool) -> Reply:
        """In a thread also the writing: two thousand vectors are megabytes."""
        embedder = self._workspace.models.embedder_as(model, dimensions)
        vectors = np.ascontiguousarray(embedder.embed(texts, "document"), dtype="<f4")
        rows = [base64.b64encode(row.tobytes()).decode() for row in vectors] if coded else list(vectors)
        return as_json(openai_answers.embeddings(embedder.name, rows))
