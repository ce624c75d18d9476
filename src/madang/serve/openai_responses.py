"""`/v1/responses`: answers that are kept for a while, so that the next request need not repeat the conversation."""

from __future__ import annotations

import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from madang.base.errors import MadangError, NotFound
from madang.base.messages import Delta, Message
from madang.serve.http import Reply, Request, as_json, unless_gone
from madang.serve.openai_chat import EVENTS, NO_CACHE, begun
from madang.serve.openai_names import meant
from madang.serve.openai_pictures import PicturesOf
from madang.serve.routes import Routes
from madang.serve.streaming import FromThread, merged
from madang.serve.work import Work
from madang.wire import openai_answers
from madang.wire.openai_fields import Fields, Wrong
from madang.wire.openai_responses import ResponseRequest, Telling, decode_items, decode_response_request, size
from madang.workspace import Workspace

_MOST_KEPT, _MOST_BYTES = 1_000, 64 << 20


@dataclass(frozen=True, slots=True)
class _Kept:
    """A response, the items that were asked, and the whole conversation so far without instructions."""

    response: dict[str, Any]
    items: list[dict[str, Any]]
    messages: list[Message]
    size_bytes: int


class Kept:
    """The last responses, in memory: at most so many, and so many bytes. Each belongs to the key that asked for it."""

    def __init__(self, most: int = _MOST_KEPT, most_bytes: int = _MOST_BYTES) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._lock = threading.Lock()
        self._found: OrderedDict[tuple[str, str], _Kept] = OrderedDict()
        self._bytes = 0

    def put(self, owner: str, kept: _Kept) -> None:
        """Keep it, and let the oldest go."""
        with self._lock:
            self._found[owner, kept.response["id"]] = kept
            self._bytes += kept.size_bytes
            while len(self._found) > 1 and (len(self._found) > self._most or self._bytes > self._most_bytes):
                self._bytes -= self._found.popitem(last=False)[1].size_bytes

    def get(self, owner: str, id_: str) -> _Kept | None:
        """One that is still there."""
        with self._lock:
            return self._found.get((owner, id_))

    def remove(self, owner: str, id_: str) -> bool:
        """Whether it was there."""
        with self._lock:
            found = self._found.pop((owner, id_), None)
            self._bytes -= found.size_bytes if found else 0
        return found is not None


class Responses:
    """Create, read, delete."""

    def __init__(self, workspace: Workspace, work: Work, pictures: PicturesOf) -> None:
        self._workspace, self._work, self._pictures = workspace, work, pictures
        self._kept = Kept()

    def add_to(self, routes: Routes) -> None:
        """Take the paths."""
        routes.add("POST", "/responses", self._create)
        routes.add("GET", "/responses/{id}", self._get)
        routes.add("DELETE", "/responses/{id}", self._delete)
        routes.add("GET", "/responses/{id}/input_items", self._items)

    async def _create(self, request: Request) -> Reply:
        asked = decode_response_request(request.json())
        name = meant(self._workspace, asked.model, "chat")
        messages = await self._pictures.fetched([*self._before(request, asked), *asked.messages])
        if not messages:
            raise Wrong("'input' holds nothing to answer.", param="input", code="empty_array")
        told = [Message("system", asked.instructions), *messages] if asked.instructions else messages
        telling = Telling(f"resp_{uuid.uuid4().hex}", int(time.time()), name, asked.echo, _new_id)
        start = partial(self._answer, name, told, asked)
        keep = partial(self._keep, request.identity.name, asked, messages)
        if asked.stream:
            pieces = await begun(merged([FromThread(self._work, start)]))
            return Reply(_events(telling, pieces, keep), type=EVENTS, headers=NO_CACHE)
        await unless_gone(_tell_all(telling, self._work, start), request.receive)
        keep(telling.response)
        return as_json(telling.response)

    def _answer(self, name: str, messages: list[Message], asked: ResponseRequest) -> Iterator[Delta]:
        return self._workspace.models.chat_model(name).chat(messages, asked.options)

    def _before(self, request: Request, asked: ResponseRequest) -> list[Message]:
        if not asked.previous_id:
            return []
        found = self._kept.get(request.identity.name, asked.previous_id)
        if found is None:
            raise Wrong(f"Previous response with id {asked.previous_id!r:.80} not found.", param="previous_response_id",
                        code="previous_response_not_found",
                        remedy=f"The last {_MOST_KEPT:,} are kept until the server stops; send the conversation "
                               "as input.")
        return found.messages

    def _keep(self, owner: str, asked: ResponseRequest, messages: list[Message], response: dict[str, Any]) -> None:
        if asked.store and response["status"] != "failed":
            answer = decode_items(response["output"], "output")
            size_bytes = size(response) + size(asked.items)
            self._kept.put(owner, _Kept(response, asked.items, [*messages, *answer], size_bytes))

    def _found(self, request: Request) -> _Kept:
        found = self._kept.get(request.identity.name, request.parts["id"])
        if found is None:
            raise _gone(request.parts["id"])
        return found

    def _get(self, request: Request) -> Reply:
        return as_json(self._found(request).response)

    def _delete(self, request: Request) -> Reply:
        if not self._kept.remove(request.identity.name, request.parts["id"]):
            raise _gone(request.parts["id"])
        return as_json({"id": request.parts["id"], "object": "response", "deleted": True})

    def _items(self, request: Request) -> Reply:
        items = self._found(request).items
        numbered = [{"id": f"in_{number}", **item} for number, item in enumerate(items)]
        parameters = Fields({key: values[-1] for key, values in request.parameters().items()})
        if parameters.choice("order", ("asc", "desc"), "desc") == "desc":
            numbered.reverse()
        return as_json(openai_answers.listing(numbered, more=False))


def _gone(id_: str) -> NotFound:
    return NotFound(f"Response with id {id_!r:.80} not found.")


def _new_id(kind: str) -> str:
    return f"{kind}_{uuid.uuid4().hex}"


async def _tell_all(telling: Telling, work: Work, start: Callable[[], Iterator[Delta]]) -> None:
    list(telling.begin())
    async with FromThread(work, start) as pieces:
        async for delta in pieces:
            list(telling.of(delta))
    list(telling.end(int(time.time())))


async def _events(telling: Telling, pieces: AsyncGenerator[tuple[int, Delta], None],
                  keep: partial[None]) -> AsyncIterator[bytes]:
    try:
        yield b"".join(telling.begin())
        async for _, delta in pieces:
            told = b"".join(telling.of(delta))
            if told:
                yield told
        last = b"".join(telling.end(int(time.time())))
        keep(telling.response)
        yield last
    except Exception as error:
        message = str(error) if isinstance(error, MadangError) else f"the server failed ({type(error).__name__})."
        yield b"".join(telling.fail(message))
    finally:
        await pieces.aclose()
