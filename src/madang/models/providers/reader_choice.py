"""Choosing one of several names that a text offers, as group chats ask for the next speaker."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from madang.base.messages import Message

_ASKED = re.compile(
    r"(?:\b(?:select|choose|pick|answer with|reply with|return|respond with|one of)\b[^\[\]\n]{0,120}"
    r"\[([^\[\]\n]{1,4000})\])"
    r"|(?:\[([^\[\]\n]{1,4000})\][^\[\]\n]{0,40}(?:선택|고르|골라|하나를))", re.IGNORECASE)
_MOST_NAMES, _MOST_CHARS = 200, 80


@dataclass(frozen=True, slots=True)
class Offer:
    """Names to choose from; what is known of each ("" for nothing); what was said, oldest first, and by whom."""

    names: list[str]
    about: list[str]
    said: list[tuple[str, str]]


def offer(messages: Sequence[Message]) -> Offer | None:
    """What the last message asks to choose from, if it does: "select ... from ['a', 'b']"."""
    asking = [message for message in messages if message.role in ("system", "user")][-1:]
    found = [*_ASKED.finditer(asking[0].content)] if asking and asking[0] is messages[-1] else []
    if not found:
        return None
    names = [name.strip().strip("'\"“”‘’`") for name in (found[-1][1] or found[-1][2]).split(",")]
    names = [name for name in dict.fromkeys(names) if name]
    if not 1 <= len(names) <= _MOST_NAMES or any(len(name) > _MOST_CHARS for name in names):
        return None
    about = dict.fromkeys(names, "")
    said: list[tuple[str, str]] = []
    for message in messages[:-1]:
        if message.role == "system":
            _take(message.content, about, [])
        elif message.content:
            said.append((message.name or message.role, message.content))
    _take(messages[-1].content, about, said)
    return Offer(names, [about[name] for name in names], said)


def _take(text: str, about: dict[str, str], said: list[tuple[str, str]]) -> None:
    """What a text tells of the names, and what was said: lines as "name: ...", who that is before what they said."""
    for line in map(str.strip, text.splitlines()):
        name, colon, rest = line.partition(":")
        name = name.strip("*- ")
        if name in about and colon and not about[name] and not said:
            about[name] = rest.strip()            # the first time: who that is, as long as nobody has spoken
        elif name in about and colon:
            said.append((name, rest.strip()))
        elif said and line and not _ASKED.search(line):
            said[-1] = (said[-1][0], f"{said[-1][1]}\n{line}")
        elif colon and not said and name in ("user", "user_proxy", "human", "사용자"):
            said.append((name, rest.strip()))


def choose(found: Offer, rank: Callable[[str, Sequence[str]], Sequence[float]]) -> str:
    """One of the names: who is addressed in what was said last; else whose description fits it; else who is next.

    Nobody is chosen twice in a row while there are others. `rank` says how well descriptions fit a text, 0 for not.
    """
    last, text = found.said[-1] if found.said else ("", "")
    others = [name for name in found.names if name != last] or found.names
    addressed = [name for name in others if re.search(rf"(?<!\w)@?{re.escape(name)}(?!\w)", text)]
    if addressed:
        return min(addressed, key=lambda name: text.index(name))
    about = [found.about[found.names.index(name)] or name for name in others]
    scores = rank(text, [f"{name} {each}" for name, each in zip(others, about, strict=True)]) if text else []
    if len(scores) and max(scores) > 0:
        return others[max(range(len(others)), key=lambda place: scores[place])]
    return found.names[(found.names.index(last) + 1) % len(found.names)] if last in found.names else others[0]
