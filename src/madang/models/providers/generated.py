"""From the tokens of a language model to what a chat answers: text, stops, and calls of tools. Knows no torch."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from madang.base.messages import ToolCallPiece

_UNFINISHED = "\ufffd"       # bytes that are no character yet
# How models announce a call of a tool: Hermes and Qwen, Mistral, Llama 3.
_OPENINGS = ("<tool_call>", "[TOOL_CALLS]", "<|python_tag|>")


class Detokenizer:
    """Token ids, one by one, to text that never changes afterwards.

    Only the last tokens are decoded each time, beside those before them, since what a token says may depend on its
    neighbours (a space before a word, the bytes of a character).
    """

    def __init__(self, decode: Callable[[list[int]], str]) -> None:
        self._decode = decode
        self._ids: list[int] = []
        self._start = self._told = 0

    def add(self, ids: Sequence[int]) -> str:
        """The text that is certain now and was not before."""
        self._ids += ids
        before = self._decode(self._ids[self._start:self._told])
        now = self._decode(self._ids[self._start:])
        if len(now) <= len(before) or now.endswith(_UNFINISHED):
            return ""
        self._start, self._told = self._told, len(self._ids)
        return now[len(before):]

    def rest(self) -> str:
        """What is left at the end, finished or not."""
        before = self._decode(self._ids[self._start:self._told])
        self._told = len(self._ids)
        return self._decode(self._ids[self._start:])[len(before):]


class StopScanner:
    """Text, piece by piece, up to the first of the strings that shall end it, which are left out."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [stop for stop in stops if stop]
        self._held = ""
        self.stopped = False

    def add(self, text: str) -> str:
        """What can be told; what may begin a stop is held back."""
        if self.stopped:
            return ""
        self._held += text
        found = [at for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            self.stopped = True
            told, self._held = self._held[:min(found)], ""
            return told
        keep = max((length for stop in self._stops for length in range(1, len(stop))
                    if self._held.endswith(stop[:length])), default=0)
        told = self._held[:len(self._held) - keep]
        self._held = self._held[len(told):]
        return told

    def rest(self) -> str:
        """What was held back and began no stop."""
        told, self._held = self._held, ""
        return told


class ToolText:
    """Text, piece by piece, until a call of a tool begins; the calls come at the end."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = set(names)
        self._held, self._calling = "", False
        self._begun = False                 # something was told already

    def add(self, text: str) -> str:
        """What is text for sure."""
        self._held += text
        if self._calling:
            return ""
        at = min((found for opening in _OPENINGS if (found := self._held.find(opening)) >= 0), default=-1)
        if not self._begun and self._held.lstrip()[:1] in ("{", "["):      # a call without an announcement, maybe
            at = 0
        if at >= 0:
            self._calling = True
            told, self._held = self._held[:at], self._held[at:]
        else:
            keep = max((length for opening in _OPENINGS for length in range(1, len(opening))
                        if self._held.endswith(opening[:length])), default=0)
            if not self._begun and not self._held.strip():
                keep = len(self._held)
            told = self._held[:len(self._held) - keep]
            self._held = self._held[len(told):]
        self._begun = self._begun or bool(told)
        return told

    def rest(self) -> tuple[str, tuple[ToolCallPiece, ...]]:
        """(text, calls): what was held back is either."""
        held, self._held = self._held, ""
        calls = [call for call in _calls(held) if call[0] in self._names] if self._calling else []
        if not calls:
            return held, ()
        return "", tuple(ToolCallPiece(number, f"call_{number}", name, json.dumps(arguments, ensure_ascii=False))
                         for number, (name, arguments) in enumerate(calls))


def _calls(text: str) -> list[tuple[str, Any]]:
    """(name, arguments) of each JSON object in the text that looks like a call."""
    found: list[tuple[str, Any]] = []
    decoder, at = json.JSONDecoder(), 0
    while (start := re.compile(r"[\[{]").search(text, at)) is not None:
        try:
            value, at = decoder.raw_decode(text, start.start())
        except (ValueError, RecursionError):
            at = start.end()
            continue
        for each in value if isinstance(value, list) else [value]:
            call = _call(each)
            if call is not None:
                found.append(call)
    return found


def _call(value: Any) -> tuple[str, Any] | None:
    if not isinstance(value, dict):
        return None
    inner = value.get("function", value)
    if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
        return None
    arguments = inner.get("arguments", inner.get("parameters", {}))
    if isinstance(arguments, str):          # JSON within JSON
        try:
            arguments = json.loads(arguments)
        except ValueError:
            return None
    return inner["name"], arguments
