"""`bundled/reader` as a chat model: it quotes, calls tools, fills schemas and chooses names, by rules and small models.

It is no language model and does not pretend to be one: an answer is a sentence that stands in the conversation, a
tool's result, a call whose arguments the request says, or JSON filled from it. Where it has none of these it says what
it is and what to configure.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from madang.base.errors import InvalidInput, MissingDependency
from madang.base.messages import AnswerFormat, ChatOptions, Delta, Message, Tool, ToolCallPiece, Usage
from madang.models.protocol import ChatModel, Embedder
from madang.models.providers import reader_choice
from madang.models.providers.extractive import ExtractiveReader
from madang.models.providers.reader_fill import fill
from madang.models.providers.reader_fit import fits
from madang.models.providers.reader_material import Material, Result, gather
from madang.text import languages

_WORDS_A_PIECE = 5
_MOST_CHARS = 2_000            # of a request or a description by which tools and names are chosen
_SHORT_RESULT = 1_000          # characters of a tool's result that are told whole; of a longer one what answers
_DONE = re.compile(r"(?i:reply|respond|answer|say|output|return)\s(?:with\s)?[\"'“`]?([A-Z]{4,20})[\"'”`]?\s"
                   r"(?:when|once|after|if)\b")
_SURE = 0.15                   # above the least score: a tool is so likely meant that asking for what is missing helps
_ANSWER_NAMES = ("answer", "response", "reply", "summary", "result", "output", "text", "explanation")
_TEXTS = {
    "nothing": {
        "en": "I am {name}, the small reader that comes with Madang. I quote sentences of the conversation, pass on "
              "what tools tell and call tools that are offered; I do not write. {why} Put the text that answers into "
              "the conversation, or configure a chat model: [models] chat = \"SERVICE/MODEL\" in madang.toml.",
        "ko": "저는 마당에 들어 있는 작은 독해 모델 {name}입니다. 대화에 있는 문장을 인용하고, 도구가 알려 준 것을 "
              "전하고, 주어진 도구를 부를 뿐 글을 쓰지는 않습니다. {why} 답이 들어 있는 글을 대화에 넣거나, "
              "madang.toml에 [models] chat = \"SERVICE/MODEL\"로 대화 모델을 설정하세요."},
    "no_answer": {"en": "Nothing here answers this.", "ko": "여기에는 이 물음에 답하는 것이 없습니다."},
    "blind": {"en": "I cannot see pictures.", "ko": "저는 그림을 볼 수 없습니다."},
    "missing": {"en": "To call {tool} I need: {missing}. The request does not say it.",
                "ko": "{tool}을(를) 부르려면 다음이 필요합니다: {missing}. 요청에 없습니다."},
    "unfilled": {"en": "The JSON asked for needs what the text does not say: {missing}.",
                 "ko": "요청한 JSON에 필요한 것이 글에 없습니다: {missing}."},
    "told": {"en": "{tool}: {text}", "ko": "{tool}: {text}"},
}


@dataclass(frozen=True, slots=True)
class _Said:
    """`found`: it is an answer, and not the news that there is none."""

    text: str
    found: bool


class ReaderChat:
    """A `ChatModel`. `embedders` say which tool fits a request, in the languages they know. `see` gives the model that
    answers about pictures, or raises `MadangError` where there is none."""

    name = "bundled/reader"

    def __init__(self, reader: ExtractiveReader, embedders: Sequence[Embedder],
                 see: Callable[[], ChatModel] | None = None) -> None:
        self._reader, self._embedders, self._see = reader, embedders, see

    def chat(self, messages: Sequence[Message], options: ChatOptions | None = None) -> Iterator[Delta]:
        """See `ChatModel.chat`. Sampling options make no difference; `stop` and `max_tokens` (here words) hold.

        Raises:
            InvalidInput: no messages.
        """
        if not messages:
            raise InvalidInput("messages must hold at least one message.")
        return self._answer(messages, options or ChatOptions())

    def _answer(self, messages: Sequence[Message], options: ChatOptions) -> Iterator[Delta]:
        offered = reader_choice.offer(messages)
        if offered is not None:
            yield from self._told(reader_choice.choose(offered, self._rank), options)
            return
        material = gather(messages)
        if options.tools and options.tool_choice != "none" and (
                not material.results or options.tool_choice in ("required", "named")):
            called = self._call(material, options)
            if isinstance(called, ToolCallPiece):
                yield Delta(tool_calls=(called,))
                yield Delta(finish_reason="tool_calls", usage=Usage())
                return
            if called:
                yield from self._told(called, options)
                return
        if options.answer_format is not None:
            yield from self._formatted(messages, material, options.answer_format, options)
            return
        said = self._say(messages, material)
        done = _DONE.search("\n".join(each.content for each in messages if each.role == "system"))
        text = f"{said.text}\n\n{done[1]}" if done and said.found else said.text
        yield from self._told(text, options)

    # --- tools ---

    def _call(self, material: Material, options: ChatOptions) -> ToolCallPiece | str | None:
        """A call; or what is missing for one that fits or must be; None where no tool fits."""
        tools = [tool for tool in options.tools if options.tool_choice != "named" or tool.name == options.tool_name]
        scores, least = fits(material.request[:_MOST_CHARS], [_described(tool) for tool in tools], self._reader,
                             self._embedders)
        must = options.tool_choice in ("required", "named")
        order = sorted(range(len(tools)), key=lambda place: -scores[place])
        fitting = [place for place in order if must or scores[place] >= least]
        lacking: list[str] = []
        for place in fitting:
            found = _arguments(tools[place], material)
            if isinstance(found, Mapping):
                return ToolCallPiece(0, f"call_{uuid.uuid4().hex[:24]}", tools[place].name,
                                     json.dumps(found, ensure_ascii=False))
            if must or scores[place] >= least + _SURE:
                lacking = lacking or [tools[place].name, ", ".join(found)]
            if not must:
                break
        return _text("missing", material.request, tool=lacking[0], missing=lacking[1]) if lacking else None

    def _rank(self, text: str, descriptions: Sequence[str]) -> list[float]:
        scores, least = fits(text[-_MOST_CHARS:], [each[:_MOST_CHARS] for each in descriptions], self._reader,
                             self._embedders)
        return [float(score) if score >= least / 2 else 0.0 for score in scores]

    # --- words ---

    def _say(self, messages: Sequence[Message], material: Material) -> _Said:
        if material.results:
            return _Said(self._of_results(material), True)
        quoted = self._quote(material)
        if quoted:
            return _Said(quoted, True)
        seen = any(message.images for message in messages if message.role == "user")
        described = self._described(messages) if seen else ""
        if described:
            return _Said(described, True)
        why = _text("blind" if seen else "no_answer", material.request)
        return _Said(_text("nothing", material.request, name=self.name, why=why), False)

    def _described(self, messages: Sequence[Message]) -> str:
        """What the model that sees answers to the last message with a picture; "" where there is no such model."""
        asked = next(message for message in reversed(messages) if message.images)
        try:
            return "" if self._see is None else "".join(delta.text for delta in self._see().chat([asked])).strip()
        except MissingDependency:
            return ""

    def _of_results(self, material: Material) -> str:
        """What tools told: short ones whole, of long ones the sentences that answer."""
        told = []
        for result in material.results:
            text = result.text.strip()
            if len(text) > _SHORT_RESULT:
                text = self._quote(gather([Message("user", material.question), Message("system", text)])) or (
                    text[:_SHORT_RESULT].rstrip() + " …")
            told.append(result if text == result.text else Result(result.tool, text))
        if len(told) == 1:
            return told[0].text or _text("told", material.request, tool=told[0].tool, text="-")
        return "\n".join(_text("told", material.request, tool=each.tool, text=each.text) for each in told)

    def _quote(self, material: Material) -> str:
        """The sentences of the conversation that answer; "" for none."""
        if not material.passages or not material.question:
            return ""
        reading = self._reader.read(material.question, material.passages)
        if not reading.answered:
            return ""
        quotes = (material.passages[each.passage].text[each.start:each.end] for each in reading.evidence)
        return " ".join(re.sub(r"\s+", " ", quote).strip() for quote in quotes)

    # --- JSON ---

    def _formatted(self, messages: Sequence[Message], material: Material, wanted: AnswerFormat,
                   options: ChatOptions) -> Iterator[Delta]:
        said = self._say(messages, material)
        if not wanted.schema:       # any object
            found: Mapping[str, Any] = {"answer": said.text} if said.found else {"answer": None, "note": said.text}
            yield from self._told(json.dumps(found, ensure_ascii=False), options)
            return
        known = dict.fromkeys(_ANSWER_NAMES, said.text) if said.found else {}
        text = "\n".join([material.request, *(result.text for result in material.results)])
        filled = fill(wanted.schema, text, known)
        if filled.missing:
            why = _text("unfilled", material.request, missing=", ".join(filled.missing))
            yield Delta(refusal=_text("nothing", material.request, name=self.name, why=why))
            yield Delta(finish_reason="stop", usage=Usage())
            return
        yield from self._told(json.dumps(filled.value, ensure_ascii=False), options)

    def _told(self, text: str, options: ChatOptions) -> Iterator[Delta]:
        """A text in pieces, as far as `stop` and `max_tokens` let it."""
        end = min((place for stop in options.stop if (place := text.find(stop)) >= 0), default=len(text))
        pieces = re.findall(r"\s*\S+", text[:end])
        cut = options.max_tokens is not None and len(pieces) > options.max_tokens
        pieces = pieces[:options.max_tokens] if cut else pieces
        for start in range(0, len(pieces), _WORDS_A_PIECE):
            yield Delta("".join(pieces[start:start + _WORDS_A_PIECE]))
        yield Delta(finish_reason="length" if cut else "stop", usage=Usage())


def _described(tool: Tool) -> str:
    words = re.sub(r"[_\-.]+|(?<=[a-z])(?=[A-Z])", " ", tool.name)
    return f"{words}. {tool.description[:_MOST_CHARS]}"


def _arguments(tool: Tool, material: Material) -> Mapping[str, Any] | list[str]:
    """The arguments, or the names of those that are missing; what was asked before helps out."""
    schema = {"type": "object", **tool.parameters}
    told: Iterator[str] = iter([material.request, f"{material.request}\n{material.earlier}"])
    missing: list[str] = []
    for filled in map(partial(fill, schema), told):
        if not filled.missing:
            value: Mapping[str, Any] = filled.value
            return value
        missing = filled.missing
    return missing


def _text(key: str, request: str, **parts: str) -> str:
    """A text of ours in the language of the request."""
    found = _TEXTS[key]
    return found.get(languages.detect(request), found["en"]).format(**parts)
