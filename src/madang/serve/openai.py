"""OpenAI's protocol over the models and collections of a workspace, at `/v1`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from urllib.parse import unquote

from madang.base.errors import MadangError, MissingDependency, ServiceError, Unsupported
from madang.serve.access import NotAllowed
from madang.serve.errors import status_of
from madang.serve.fetching import Fetcher
from madang.serve.http import Handler, Reply, Request, as_json
from madang.serve.openai_chat import Chat
from madang.serve.openai_embeddings import Embeddings
from madang.serve.openai_images import Images
from madang.serve.openai_names import UnknownModel, names
from madang.serve.openai_pictures import PicturesOf
from madang.serve.openai_responses import Responses
from madang.serve.openai_shelf import Shelf
from madang.serve.openai_stores import Stores
from madang.serve.routes import Routes
from madang.serve.work import Work
from madang.wire import openai_answers
from madang.wire.openai_fields import Wrong
from madang.workspace import Workspace

_PREFIX = "/v1"
_MODELS = "/models/"
_MOST_SEGMENTS = 8
_KINDS = {"rate_limit": 429, "model": 404, "timeout": 504}


class OpenAI:
    """The dialect. Models answer to whoever has a key; what is stored asks for a scope that allows it."""

    def __init__(self, workspace: Workspace, work: Work, fetcher: Fetcher) -> None:
        self._workspace = workspace
        self._started = int(time.time())
        self._routes = Routes()
        self._routes.add("GET", "/models", self._models)
        pictures, self._shelf = PicturesOf(work, fetcher), Shelf(workspace)
        for part in (Chat(workspace, work, pictures), Embeddings(workspace, work), Images(workspace, work),
                     Responses(workspace, work, pictures), Stores(self._shelf, work)):
            part.add_to(self._routes)

    def close(self) -> None:
        """Finish the files that are being read."""
        self._shelf.close()

    def find(self, method: str, path: str) -> tuple[Handler, Mapping[str, str]] | None:
        if not path.startswith(_PREFIX + "/"):
            return None
        path = path[len(_PREFIX):]
        found = self._routes.find(method, path)
        if found is not None:
            return found
        if path.startswith(_MODELS) and method == "GET":      # a model's name may hold slashes
            segments = _by_segment(path[len(_MODELS):])
            return None if segments is None else (self._model, segments)
        if self._routes.methods(path):
            return self._not_so, _by_segment(path) or {}
        segments = _by_segment(path)
        return None if segments is None else (self._unknown, segments)

    def key(self, headers: Mapping[bytes, bytes]) -> str:
        kind, _, key = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        return key.strip() if kind.lower() == "bearer" else ""

    def refused(self, error: MadangError, headers: Mapping[bytes, bytes]) -> Reply:
        status, code, param = _told(error)
        reply = as_json(openai_answers.error(status, str(error), code=code, param=param), status)
        if isinstance(error, ServiceError | Unsupported | MissingDependency) and status >= 500:
            # What could be tried again was, on our side; the official clients heed this.
            reply = Reply(reply.body, status, headers=((b"x-should-retry", b"false"),))
        return reply

    def _unknown(self, request: Request) -> Reply:
        message = f"Invalid URL ({request.method} {request.path})"
        return as_json(openai_answers.error(404, message, code="unknown_url"), 404)

    def _not_so(self, request: Request) -> Reply:
        methods = ", ".join(self._routes.methods(request.path[len(_PREFIX):]))
        message = f"Not allowed to {request.method} on {request.path} (HINT: it takes {methods})."
        return as_json(openai_answers.error(405, message, code="method_not_supported"), 405)

    def _models(self, request: Request) -> Reply:
        return as_json(openai_answers.listing([openai_answers.model(name, self._started, _owner(answers))
                                               for name, answers in names(self._workspace).items()]))

    def _model(self, request: Request) -> Reply:
        name = "/".join(request.parts.values())
        answers = names(self._workspace).get(name, name)
        if not self._workspace.models.offers(answers):
            raise UnknownModel(f"The model {name!r:.120} does not exist.")
        return as_json(openai_answers.model(name, self._started, _owner(answers)))


def _by_segment(path: str) -> dict[str, str] | None:
    """The segments of a path that is no route, named, so that numbers and logs need not tell each such path apart;
    None for one with too many."""
    segments = [unquote(segment) for segment in path.split("/") if segment]
    if len(segments) > _MOST_SEGMENTS:
        return None
    return {f"part{place}": segment for place, segment in enumerate(segments)}


def _owner(name: str) -> str:
    return name.partition("/")[0] or "nobody"


def _told(error: MadangError) -> tuple[int, str, str]:
    """Status, code and param."""
    if isinstance(error, Wrong):
        return 400, error.told_code, error.param
    if isinstance(error, NotAllowed):
        return (403, "insufficient_permissions", "") if error.known else (401, "invalid_api_key", "")
    if isinstance(error, MissingDependency):
        return 501, error.code, ""
    if isinstance(error, ServiceError):
        status = _KINDS.get(error.kind, 502)
        if error.kind == "protocol" and error.status in (400, 413, 422):    # the service refused what the caller asked
            status = error.status
        return status, "model_not_found" if error.kind == "model" else "", "model" if error.kind == "model" else ""
    status = status_of(error)
    if isinstance(error, UnknownModel):
        return status, "model_not_found", "model"
    return status, "" if status < 500 else error.code, ""
