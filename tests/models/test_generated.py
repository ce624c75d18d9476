"""From tokens to text, stops and calls: whatever the cut, the whole is the same."""

from __future__ import annotations

import itertools
import json

from hypothesis import given
from hypothesis import strategies as st

from madang.models.providers.generated import Detokenizer, StopScanner, ToolText


def pieces_of(text: str, cuts: list[int]) -> list[str]:
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[a:b] for a, b in itertools.pairwise(places)]


_cuts = st.lists(st.integers(0, 1000), max_size=12)


@given(st.text(max_size=60), st.lists(st.integers(1, 4), min_size=1, max_size=30))
def test_bytes_as_tokens_give_the_text_and_never_half_a_character(text: str, sizes: list[int]) -> None:
    text = text.replace("\ufffd", "?")
    ids = list(text.encode())
    detokenizer = Detokenizer(lambda part: bytes(part).decode("utf-8", "replace"))
    told, at, step = "", 0, 0
    while at < len(ids):
        size = sizes[step % len(sizes)]
        told += detokenizer.add(ids[at:at + size])
        assert text.startswith(told)
        at, step = at + size, step + 1
    assert told + detokenizer.rest() == text


def test_a_character_that_never_ends_is_told_at_the_end() -> None:
    detokenizer = Detokenizer(lambda part: bytes(part).decode("utf-8", "replace"))
    assert detokenizer.add(list(b"a")) == "a"
    assert detokenizer.add([0xED]) == ""
    assert detokenizer.rest() == "\ufffd"


@given(st.text("abc", max_size=40), st.lists(st.text("abc", min_size=1, max_size=4), max_size=3), _cuts)
def test_a_stop_ends_the_text_wherever_it_is_cut(text: str, stops: list[str], cuts: list[int]) -> None:
    scanner, told, ended_at = StopScanner(stops), "", 0
    for piece in pieces_of(text, cuts):
        told += scanner.add(piece)
        ended_at += len(piece)
        if scanner.stopped:
            break
    told += scanner.rest()
    read = text[:ended_at]
    places = [read.find(stop) for stop in stops if stop in read]
    assert scanner.stopped == bool(places)
    assert told == (read[:min(places)] if places else text)


@given(_cuts, st.sampled_from([
    'Let me see.<tool_call>\n{"name": "find", "arguments": {"q": "연차 {1}"}}\n</tool_call>\n<tool_call>{"name": "find", "arguments": {}}</tool_call>',
    '[TOOL_CALLS][{"name": "find", "arguments": {"q": "연차 {1}"}}, {"name": "find", "arguments": {}}]',
    '<|python_tag|>{"name": "find", "parameters": {"q": "연차 {1}"}}; {"name": "find", "parameters": {}}',
    ' [{"function": {"name": "find", "arguments": "{\\"q\\": \\"연차 {1}\\"}"}}, {"name": "find"}]']))
def test_calls_in_the_forms_of_several_models(cuts: list[int], text: str) -> None:
    tools, told = ToolText(["find"]), ""
    for piece in pieces_of(text, cuts):
        told += tools.add(piece)
    rest, calls = tools.rest()
    assert (told + rest).strip() == ("Let me see." if text.startswith("Let") else "")
    assert [(call.index, call.name, json.loads(call.arguments)) for call in calls] == [
        (0, "find", {"q": "연차 {1}"}), (1, "find", {})]
    assert len({call.id for call in calls}) == 2


@given(_cuts, st.sampled_from(["plain text", '{"answer": 1}', "a <tool_call> that is none", '[1, 2]', "<tool_call>{broken",
                               '{"name": "unknown", "arguments": {}}', "", "  ", "ends with <tool_"]))
def test_what_is_no_call_is_text(cuts: list[int], text: str) -> None:
    tools, told = ToolText(["find"]), ""
    for piece in pieces_of(text, cuts):
        told += tools.add(piece)
    rest, calls = tools.rest()
    assert told + rest == text
    assert calls == ()
