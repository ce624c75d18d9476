"""OpenAI's protocol over the models and collections of a workspace, at `/v1`."""

from __future__ import annotations

import time
from collections.abc import Mapping

from madang.base.errors import MadangError, MissingDependency, NotFound, ServiceError
from madang.models import aliases
from madang.serve.access import NotAllowed
from madang.serve.errors import status_of
from madang.serve.http import Handler, Reply, Request, as_json
from madang.serve.openai_chat import Chat
from madang.serve.openai_embeddings import Embeddings
from madang.serve.routes import Routes
from madang.serve.work import Work
from madang.wire import openai_answers
from madang.wire.openai_fields import Wrong
from madang.workspace import Workspace

_PREFIX = "/v1"
_MODELS = "/models/"
_KINDS = {"rate_limit": 429, "model": 404, "timeout": 504}


class OpenAI:
    """The dialect. Models answer to whoever has a key; what is stored asks for a scope that allows it."""

    def __init__(self, workspace: Workspace, work: Work) -> None:
        self._workspace = workspace
        self._started = int(time.time())
        self._routes = Routes()
        self._routes.add("GET", "/models", self._models)
        for part in (Chat(workspace, work), Embeddings(workspace, work)):
            part.add_to(self._routes)

    def find(self, method: str, path: str) -> tuple[Handler, Mapping[str, str]] | None:
        if not path.startswith(_PREFIX + "/"):
            return None
        path = path[len(_PREFIX):]
        if path.startswith(_MODELS) and method == "GET":      # a model's name may hold slashes
            return self._model, {"name": path[len(_MODELS):].replace("%2F", "/")}
        found = self._routes.find(method, path)
        return found or (self._unknown, {"methods": ", ".join(self._routes.methods(path))})

    def key(self, headers: Mapping[bytes, bytes]) -> str:
        kind, _, key = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        return key.strip() if kind.lower() == "bearer" else ""

    def refused(self, error: MadangError, headers: Mapping[bytes, bytes]) -> Reply:
        status, code, param = _told(error)
        reply = as_json(openai_answers.error(status, str(error), code=code, param=param), status)
        if status >= 500:      # what could be tried again was, on our side; the official clients heed this
            reply = Reply(reply.body, status, headers=((b"x-should-retry", b"false"),))
        return reply

    def _unknown(self, request: Request) -> Reply:
        methods = request.parts["methods"]
        if methods:
            message = f"Not allowed to {request.method} on {request.path} (HINT: it takes {methods})."
            return as_json(openai_answers.error(405, message, code="method_not_supported"), 405)
        message = f"Invalid URL ({request.method} {request.path})"
        return as_json(openai_answers.error(404, message, code="unknown_url"), 404)

    def _names(self) -> dict[str, str]:
        """Every name that can be asked for, and whose model answers."""
        settings = self._workspace.settings
        real = {settings.models.chat, settings.models.embed, *settings.aliases.values()}
        names = dict.fromkeys(sorted(name for name in real if name))
        for name in aliases.names(settings):
            names.setdefault(name)
        return {name: _owner(self._workspace.models.alias(name).name) for name in names}

    def _models(self, request: Request) -> Reply:
        return as_json(openai_answers.listing([openai_answers.model(name, self._started, owner)
                                               for name, owner in self._names().items()]))

    def _model(self, request: Request) -> Reply:
        name = request.parts["name"]
        return as_json(openai_answers.model(name, self._started, _owner(self._workspace.models.alias(name).name)))


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
    if isinstance(error, NotFound) and " model " in f" {error.message} ":
        return status, "model_not_found", "model"
    return status, "" if status < 500 else error.code, ""
