"""`/v1/chat/completions` and `/v1/completions`."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from madang.base.errors import MadangError
from madang.base.messages import ChatOptions, Delta, Message
from madang.serve.http import Reply, Request, as_json, unless_gone
from madang.serve.openai_names import meant
from madang.serve.openai_pictures import PicturesOf
from madang.serve.openai_tokens import as_text
from madang.serve.routes import Routes
from madang.serve.streaming import FromThread, merged
from madang.serve.work import Work
from madang.wire import openai_answers
from madang.wire.openai_answers import Chunks, Whole
from madang.wire.openai_messages import ChatRequest, TextRequest, decode_chat_request, decode_text_request
from madang.workspace import Workspace

EVENTS = b"text/event-stream; charset=utf-8"
NO_CACHE = ((b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no"))


class Chat:
    """The two ways to complete."""

    def __init__(self, workspace: Workspace, work: Work, pictures: PicturesOf) -> None:
        self._workspace, self._work, self._pictures = workspace, work, pictures

    def add_to(self, routes: Routes) -> None:
        """Take the paths."""
        routes.add("POST", "/chat/completions", self._chat)
        routes.add("POST", "/completions", self._complete)

    async def _chat(self, request: Request) -> Reply:
        asked = decode_chat_request(request.json())
        name = meant(self._workspace, asked.model, "chat")
        messages = await self._pictures.fetched(asked.messages)
        starts = [partial(self._answer, name, messages, each_own(asked.options, number))
                  for number in range(asked.count)]
        id_, created = f"chatcmpl-{uuid.uuid4().hex}", int(time.time())
        if not asked.stream:
            answers = await unless_gone(collected(self._work, starts), request.receive)
            return as_json(openai_answers.completion(id_, created, name, answers, functions=asked.functions))
        chunks = Chunks(id_, created, name, include_usage=asked.include_usage, functions=asked.functions)
        return await self._streamed(starts, partial(_chat_events, chunks, asked))

    async def _complete(self, request: Request) -> Reply:
        asked = decode_text_request(request.json())
        name = meant(self._workspace, asked.model, "chat")
        prompts = [as_text(prompt, "prompt") for prompt in asked.prompts for _ in range(asked.count)]
        starts = [partial(self._answer, name, [Message("user", prompt)], each_own(asked.options, number))
                  for number, prompt in enumerate(prompts)]
        id_, created, echoes = f"cmpl-{uuid.uuid4().hex}", int(time.time()), prompts if asked.echo else None
        if not asked.stream:
            answers = await unless_gone(collected(self._work, starts), request.receive)
            return as_json(openai_answers.text_completion(id_, created, name, answers, echoes))
        return await self._streamed(starts, partial(_text_events, asked, id_, created, name, echoes))

    def _answer(self, name: str, messages: list[Message], options: ChatOptions) -> Iterator[Delta]:
        return self._workspace.models.chat_model(name).chat(messages, options)

    async def _streamed(self, starts: Sequence[Callable[[], Iterator[Delta]]],
                        tell: Callable[[AsyncGenerator[tuple[int, Delta], None], int], AsyncIterator[bytes]]) -> Reply:
        """The status waits for the first piece: what fails before it is told as an error and not within a stream."""
        pieces = await begun(merged(await started(self._work, starts)))
        return Reply(tell(pieces, len(starts)), type=EVENTS, headers=NO_CACHE)


def each_own(options: ChatOptions, number: int) -> ChatOptions:
    """Options of the answer `number`: with a seed, each has another, or all would say the same."""
    return options if options.seed is None or not number else replace(options, seed=options.seed + number)


async def collected(work: Work, starts: Sequence[Callable[[], Iterator[Delta]]]) -> list[Whole]:
    """All answers whole; cancelled, it stops those that make them."""
    answers = [Whole() for _ in starts]
    pieces = merged(await started(work, starts))
    try:
        async for number, delta in pieces:
            answers[number].add(delta)
    finally:
        await pieces.aclose()
    return answers


async def started(work: Work, starts: Sequence[Callable[[], Iterator[Delta]]]) -> list[FromThread[Delta]]:
    """All of them, or none where the threads are too busy for one."""
    streams: list[FromThread[Delta]] = []
    try:
        streams.extend(FromThread(work, start) for start in starts)
    except BaseException:
        for stream in streams:
            await stream.aclose()
        raise
    return streams


async def begun(pieces: AsyncGenerator[tuple[int, Delta], None]) -> AsyncGenerator[tuple[int, Delta], None]:
    """The same pieces, of which the first is there. Raises what kept it from coming."""
    try:
        first = await anext(pieces, None)
    except BaseException:
        await pieces.aclose()
        raise

    async def again() -> AsyncGenerator[tuple[int, Delta], None]:
        try:
            if first is not None:
                yield first
            async for piece in pieces:
                yield piece
        finally:
            await pieces.aclose()

    return again()


def failed(error: Exception) -> bytes:
    """The event that says that a stream ends before its answer does."""
    message = str(error) if isinstance(error, MadangError) else f"the server failed ({type(error).__name__})."
    return openai_answers.event(openai_answers.error(500, message, code=getattr(error, "code", "error")))


async def _chat_events(chunks: Chunks, asked: ChatRequest, pieces: AsyncGenerator[tuple[int, Delta], None],
                       count: int) -> AsyncIterator[bytes]:
    answers = [Whole() for _ in range(count)]
    try:
        yield b"".join(chunks.opening(number) for number in range(count))
        async for number, delta in pieces:
            answers[number].add(delta)
            told = chunks.of(number, delta)
            if told:
                yield told
        yield b"".join(chunks.closing(number, answer) for number, answer in enumerate(answers)) + chunks.end(answers)
    except Exception as error:
        yield failed(error)
    finally:
        await pieces.aclose()


async def _text_events(asked: TextRequest, id_: str, created: int, name: str, echoes: list[str] | None,
                       pieces: AsyncGenerator[tuple[int, Delta], None], count: int) -> AsyncIterator[bytes]:
    answers = [Whole() for _ in range(count)]
    chunk = partial(openai_answers.text_chunk, id_, created, name)
    try:
        for number, echo in enumerate(echoes or ()):
            yield chunk(number, echo)
        async for number, delta in pieces:
            answers[number].add(delta)
            if delta.text:
                yield chunk(number, delta.text)
        yield b"".join(chunk(number, "", answer.finish) for number, answer in enumerate(answers)) + openai_answers.DONE
    except Exception as error:
        yield failed(error)
    finally:
        await pieces.aclose()
