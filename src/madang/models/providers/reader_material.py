"""What a conversation gives a reader: the question, the text to read, and what tools told."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from madang.base.messages import Location, Message, Passage

_LABELLED = re.compile(r"^[ \t>*#]*(?:user )?(?:query|question|q|질문|물음|문의)[ \t]*[:：]\**[ \t]*(\S[^\n]*)",
                       re.IGNORECASE | re.MULTILINE)
_LABEL_END = re.compile(r"^[ \t>*#]*(?:answer|response|a|답변|답)\s*[:：]?\**\s*$", re.IGNORECASE | re.MULTILINE)
_BLANK = re.compile(r"\n[ \t]*\n|\n[-=*_]{3,}[ \t]*(?:\n|$)|^[-=*_]{3,}[ \t]*\n")
# Sentences that tell a model what to do; they are no evidence of anything.
_INSTRUCTION = re.compile(
    r"^(?:you are (?:a|an|the)\b|context information is below|given the (?:context|following)|"
    r"use the (?:following|given)|"
    r"answer (?:the|in|using|only)|based on the|if you (?:don'?t|do not) know|please (?:answer|respond)|"
    r"당신은|다음 (?:문맥|내용|글)|주어진|아래 (?:문맥|내용|글))", re.IGNORECASE)
_MOST_CHARS, _MOST_PASSAGES, _MOST_EARLIER = 400_000, 1_000, 4_000


@dataclass(frozen=True, slots=True)
class Result:
    """What a tool told."""

    tool: str
    text: str


@dataclass(frozen=True, slots=True)
class Material:
    """`request` is all of what was asked last, `question` the question in it."""

    request: str
    question: str
    passages: list[Passage]
    results: list[Result]          # of the calls since it was asked
    earlier: str                   # what was asked before


def gather(messages: Sequence[Message]) -> Material:
    """Read a conversation: the last message of a user asks; texts around the question, and tools' results, answer."""
    users = [place for place, message in enumerate(messages) if message.role == "user" and message.content.strip()]
    asking = users[-1] if users else -1
    request = messages[asking].content[:_MOST_CHARS].strip() if users else ""
    question, rest = split(request)
    names = {call.id: call.name for message in messages for call in message.tool_calls}
    results = [Result(names.get(message.tool_call_id, message.name), message.content)
               for message in messages[asking + 1:] if message.role == "tool"]
    texts = [rest]
    texts += [message.content for place, message in enumerate(messages)
              if place != asking and message.role in ("system", "user", "tool")]
    earlier = "\n".join(messages[place].content[:_MOST_EARLIER] for place in users[:-1][-3:])
    return Material(request, question, passages(texts), results, earlier)


def split(request: str) -> tuple[str, str]:
    """The question, and the rest: what stands under a label ("Query: ..."), else the last paragraph of several that
    asks, else the first that does, else the last."""
    labelled = [*_LABELLED.finditer(request)]
    if labelled:
        match = labelled[-1]
        rest = request[:match.start()] + "\n\n" + request[match.end():]
        return match[1].strip(), _LABEL_END.sub("", rest)
    parts = [part.strip() for part in re.split(r"\n[ \t]*\n", request) if part.strip()]
    if len(parts) == 1:
        lines = [line for line in request.splitlines() if line.strip()]
        parts = lines if len(lines) > 1 else parts
    if len(parts) < 2:
        return request, ""
    asks = [place for place, part in enumerate(parts) if part.rstrip("\"'”’)").endswith(("?", "？"))]
    place = asks[-1] if asks and asks[-1] == len(parts) - 1 else asks[0] if asks else len(parts) - 1
    return parts[place], "\n\n".join(part for number, part in enumerate(parts) if number != place)


def passages(texts: Sequence[str]) -> list[Passage]:
    """Paragraphs of the texts, without those that only tell a model what to do."""
    found: list[Passage] = []
    left = _MOST_CHARS
    for text in texts:
        for part in _BLANK.split(text[:left]):
            said = part.strip()
            if said and not (_INSTRUCTION.match(said) and len(said) < 600) and len(found) < _MOST_PASSAGES:
                found.append(Passage(str(len(found)), said, 0.0, "conversation", 0, len(said), Location(1)))
        left -= min(left, len(text))
    return found
