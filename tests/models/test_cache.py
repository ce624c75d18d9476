"""What is kept of models' answers, against a dict; and what a replay refuses."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from madang.base.errors import Corrupt, InvalidInput, NotFound
from madang.base.messages import ChatOptions, Delta, Image, Logprob, Message, ToolCallPiece, Usage
from madang.base.settings import Cache, Service, Settings
from madang.models.cache import Request, ResponseCache, canonical
from madang.models.cached import cached
from madang.models.protocol import ChatModel, Drawing, DrawOptions, Embedder
from madang.models.resolve import Models
from tests.models.fakes import WordHashEmbedder
from tests.models.service_stub import ASK, ServiceStub, answer, embeddings, text_of

Open = Callable[..., ResponseCache]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Opens the file of the test in a mode."""
    made: list[ResponseCache] = []

    def open_(mode: Any = "on", **settings: Any) -> ResponseCache:
        made.append(ResponseCache(tmp_path / "cache.db", mode, **settings))
        return made[-1]

    yield open_
    for cache in made:
        cache.close()


def asked(text: str, model: str = "m") -> Request:
    return Request("chat", model, text, text)


class CountingChat:
    """Answers in pieces and counts how often."""

    name = "test/chat"

    def __init__(self, *pieces: Delta) -> None:
        self.pieces = pieces or (Delta("a"), Delta("b", model="m-1"), Delta(finish_reason="stop", usage=Usage(3, 2)))
        self.calls = 0

    def chat(self, messages: Sequence[Message], options: ChatOptions | None = None) -> Iterator[Delta]:
        self.calls += 1
        yield from self.pieces


# --- keys ---

_plain = st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
                      | st.text(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
                      max_leaves=8)


@given(_plain, _plain)
def test_keys_are_equal_exactly_for_equal_requests(a: Any, b: Any) -> None:
    same = repr(canonical(a)) == repr(canonical(b)) or _sorted(canonical(a)) == _sorted(canonical(b))
    assert (Request("r", "m", a, "").key == Request("r", "m", b, "").key) == same


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return "dict", [(key, _sorted(value[key])) for key in sorted(value)]
    if isinstance(value, list):
        return "list", [_sorted(each) for each in value]
    return type(value).__name__, repr(value)


def test_every_option_and_every_part_of_a_message_tells_requests_apart() -> None:
    one = Message("user", "look", parts=(Image("image/png", b"1"),))
    variants: list[Any] = [
        [[one], ChatOptions()], [[replace(one, parts=(Image("image/png", b"2"),))], ChatOptions()],
        [[replace(one, role="system")], ChatOptions()], [[one], ChatOptions(seed=1)], [[one], ChatOptions(stop=("x",))],
        [[one], ChatOptions(extra={"user": "a"})], [[one, one], ChatOptions()]]
    assert len({Request("chat", "m", each, "").key for each in variants}) == len(variants)
    assert Request("chat", "m", ChatOptions(temperature=0), "").key == Request("chat", "m", ChatOptions(temperature=0.0), "").key
    assert Request("chat", "m", 1, "").key != Request("chat", "n", 1, "").key != Request("draw", "n", 1, "").key


def test_what_has_no_canonical_form_is_refused() -> None:
    with pytest.raises(InvalidInput, match="cannot be kept"):
        _ = Request("chat", "m", object(), "").key


# --- the file ---

@given(st.lists(st.tuples(st.sampled_from(["put", "get"]), st.integers(0, 9), st.binary(max_size=400)), max_size=40))
def test_least_recently_used_go_first_and_the_bound_holds(steps: list[tuple[str, int, bytes]]) -> None:
    import tempfile

    ticks = iter(range(1_000_000))
    with tempfile.TemporaryDirectory() as folder:
        cache = ResponseCache(Path(folder) / "c.db", "on", 1500, clock_ns=lambda: next(ticks))
        twin: dict[int, bytes] = {}          # in the order of use
        for step, number, value in steps:
            if step == "put":
                cache.put([(asked(str(number)), value)])
                twin.pop(number, None)
                twin[number] = value
                if _twin_size(twin) > 1500:
                    while _twin_size(twin) > 1350:
                        twin.pop(next(iter(twin)))
            else:
                assert cache.get([asked(str(number))]) == [twin.get(number)]
                if number in twin:
                    twin[number] = twin.pop(number)
            assert cache.size() == (len(twin), _twin_size(twin))
        cache.close()


def _twin_size(twin: dict[int, bytes]) -> int:
    return sum(len(value) + len(str(asked(str(number)))) + 200 for number, value in twin.items())


def test_an_answer_larger_than_the_bound_is_not_kept(opened: Open) -> None:
    cache = opened(max_bytes=1000)
    cache.put([(asked("a"), b"x"), (asked("b"), b"x" * 1000)])
    assert cache.get([asked("a"), asked("b")]) == [b"x", None]


def test_a_full_recording_says_so_and_keeps_what_it_had(opened: Open) -> None:
    cache = opened("record", max_bytes=1000)
    cache.put([(asked("a"), b"x" * 500)])
    with pytest.raises(InvalidInput, match=r"would hold more than 1,000 bytes.*max_mb"):
        cache.put([(asked("b"), b"x" * 500)])
    assert cache.get([asked("a"), asked("b")]) == [b"x" * 500, None]


def test_threads_and_processes_share_a_file(opened: Open, tmp_path: Path) -> None:
    script = f"""
import sys, threading
from madang.models.cache import Request, ResponseCache
cache = ResponseCache({str(tmp_path / "cache.db")!r})
def work(thread):
    for n in range(20):
        text = f"{{sys.argv[1]}}/{{thread}}/{{n}}"
        cache.put([(Request("chat", "m", text, text), text.encode())])
threads = [threading.Thread(target=work, args=(t,)) for t in range(3)]
[t.start() for t in threads]; [t.join() for t in threads]
"""
    runs = [subprocess.Popen([sys.executable, "-c", script, str(number)]) for number in range(3)]
    assert [run.wait(120) for run in runs] == [0, 0, 0]
    names = [f"{p}/{t}/{n}" for p in range(3) for t in range(3) for n in range(20)]
    cache = opened()
    assert cache.get([asked(name) for name in names]) == [name.encode() for name in names]
    assert cache.size()[0] == 180


def test_a_process_that_is_killed_leaves_every_answer_that_it_kept(opened: Open, tmp_path: Path) -> None:
    script = f"""
import os
from madang.models.cache import Request, ResponseCache
cache = ResponseCache({str(tmp_path / "cache.db")!r}, "record")
for n in range(50):
    cache.put([(Request("chat", "m", str(n), str(n)), str(n).encode())])
    print(n, flush=True)
    if n == 37: os.kill(os.getpid(), 9)
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert run.returncode == -9
    told = [int(line) for line in run.stdout.split()]
    assert told[-1] == 37
    replay = opened("replay")
    assert replay.get([asked(str(n)) for n in told]) == [str(n).encode() for n in told]


def test_a_file_that_is_no_cache(opened: Open, tmp_path: Path) -> None:
    (tmp_path / "cache.db").write_bytes(b"something else" * 400)
    for mode in ("on", "replay"):
        with pytest.raises(Corrupt, match=r"is damaged.*Remove the file"):
            opened(mode)


def test_a_cache_of_a_later_version_is_left_alone(opened: Open, tmp_path: Path) -> None:
    opened().close()
    db = sqlite3.connect(tmp_path / "cache.db")
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(Corrupt, match="format 99"):
        opened()


def test_a_damaged_answer_is_asked_for_again_but_refused_in_replay(opened: Open, tmp_path: Path) -> None:
    first = opened()
    first.put([(asked("a"), b"right")])
    first.close()
    db = sqlite3.connect(tmp_path / "cache.db")
    db.execute("UPDATE entries SET value = x'00'")
    db.commit()
    db.close()
    assert opened().get([asked("a")]) == [None]
    with pytest.raises(Corrupt, match="not what was written"):
        opened("replay").get([asked("a")])


def test_a_replay_changes_nothing(opened: Open, tmp_path: Path) -> None:
    first = opened("record")
    first.put([(asked("a"), b"1")])
    first.close()
    before = (tmp_path / "cache.db").read_bytes()
    replay = opened("replay")
    replay.put([(asked("b"), b"2")])
    assert replay.get([asked("a"), asked("b")]) == [b"1", None]
    assert [path.name for path in tmp_path.iterdir()] == ["cache.db"]
    assert (tmp_path / "cache.db").read_bytes() == before


def test_a_closed_cache_says_so(opened: Open) -> None:
    cache = opened()
    cache.close()
    with pytest.raises(InvalidInput, match="is closed"):
        cache.get([asked("a")])


# --- roles ---

def test_a_chat_is_replayed_piece_by_piece(opened: Open) -> None:
    model = CountingChat(
        Delta("안", logprobs=(Logprob("안", -0.5, (("안", -0.5), ("앗", -1.5))),)),
        Delta(tool_calls=(ToolCallPiece(0, "c1", "f", '{"a"'),)), Delta(refusal="no"),
        Delta(finish_reason="stop", usage=Usage(3, 2), model="m-1"))
    chat: ChatModel = cached("chat_model", model, opened())
    assert isinstance(chat, ChatModel)
    first, second = list(chat.chat(ASK)), list(chat.chat(ASK))
    assert first == second == list(model.pieces)
    assert model.calls == 1
    list(chat.chat([Message("user", "another")]))
    assert model.calls == 2
    replayed: Any = chat.chat(ASK)
    next(replayed)
    replayed.close()
    assert list(replayed) == []


def test_half_an_answer_is_not_kept(opened: Open) -> None:
    model = CountingChat()
    chat = cached("chat_model", model, opened())
    stream = chat.chat(ASK)
    next(stream)
    stream.close()
    assert text_of(chat.chat(ASK)) == "ab"
    assert model.calls == 2


@pytest.mark.parametrize(("temperature", "sampled", "calls"), [(0.0, False, 1), (0.7, False, 2), (None, False, 2), (0.7, True, 1)])
def test_chance_is_kept_only_if_that_is_wanted(opened: Open, temperature: float | None, sampled: bool, calls: int) -> None:
    model = CountingChat()
    chat = cached("chat_model", model, opened(), sampled=sampled)
    for _ in range(2):
        list(chat.chat(ASK, ChatOptions(temperature=temperature)))
    assert model.calls == calls


def test_recording_asks_again_and_replay_never_does(opened: Open) -> None:
    model = CountingChat()
    recording = opened("record")
    for _ in range(2):
        list(cached("chat_model", model, recording).chat(ASK, ChatOptions(temperature=1.0)))
    assert model.calls == 2
    recording.close()
    replayed = cached("chat_model", model, opened("replay"))
    assert text_of(replayed.chat(ASK, ChatOptions(temperature=1.0))) == "ab"
    with pytest.raises(NotFound, match=r"no answer to chat test/chat: 'something new' \(1 others of this model.*mode = \"record\""):
        replayed.chat([Message("user", "something new")])
    assert model.calls == 2


def test_texts_are_kept_one_by_one(opened: Open) -> None:
    model = WordHashEmbedder()
    embedder: Embedder = cached("embedder", model, opened())
    assert isinstance(embedder, Embedder)
    done: list[int] = []
    first = embedder.embed(["a b", "c", "a b"], progress=done.append)
    assert model.embedded == ["a b", "c"]
    second = embedder.embed(["c", "new", "a b"], progress=done.append)
    assert model.embedded == ["a b", "c", "new"]
    np.testing.assert_array_equal(second[[2, 0]], first[:2])
    np.testing.assert_array_equal(second, WordHashEmbedder().embed(["c", "new", "a b"]))
    assert sum(done) == 6
    assert embedder.embed([]).shape == (0, model.dim)
    assert embedder.signature == model.signature


def test_a_query_is_another_request_than_a_document(opened: Open) -> None:
    asked_: list[str] = []
    embedder = cached("embedder", WordHashEmbedder(asked_.extend), opened())
    embedder.embed(["a"], "document")
    embedder.embed(["a"], "query")
    assert asked_ == ["a", "a"]


def test_pictures_and_scores_come_back_as_they_were(opened: Open) -> None:
    class Draws:
        name, calls = "test/draw", 0

        def draw(self, prompt: str, options: DrawOptions | None = None) -> list[Drawing]:
            self.calls += 1
            return [Drawing(bytes(range(256)), "image/jpeg", "changed")]

    class Ranks:
        name, calls = "test/rank", 0

        def rerank(self, query: str, documents: Sequence[str]) -> NDArray[np.float64]:
            self.calls += 1
            return np.linspace(0, 1 / 3, len(documents))

    cache, draws, ranks = opened(), Draws(), Ranks()
    for _ in range(2):
        assert cached("image_generator", draws, cache).draw("x") == [Drawing(bytes(range(256)), "image/jpeg", "changed")]
        np.testing.assert_array_equal(cached("reranker", ranks, cache).rerank("q", ["a", "b"]), [0, 1 / 3])
    assert (draws.calls, ranks.calls) == (1, 1)


# --- from the settings ---

def models(url: str, tmp_path: Path, mode: str) -> Models:
    return Models(Settings(services={"local": Service(url)}, cache=Cache(mode=mode)), tmp_path)


def test_a_suite_that_replays_needs_no_service(tmp_path: Path) -> None:
    with ServiceStub() as stub:
        stub.chat(answer("15 ", "days"))
        stub.script("/v1/embeddings", embeddings([[1.0, 0.0]]))
        recording = models(stub.url, tmp_path, "record")
        said = list(recording.chat_model("local/m").chat(ASK))
        vectors = recording.embedder("local/e").embed(["a"])
        recording.embedder("local/e").embed([])      # asks for the dimensions
        recording.close()
        url = stub.url
    replaying = models(url, tmp_path, "replay")
    assert list(replaying.chat_model("local/m").chat(ASK)) == said
    np.testing.assert_array_equal(replaying.embedder("local/e").embed(["a"]), vectors)
    assert replaying.embedder("local/e").dim == 2
    with pytest.raises(NotFound, match="embed local/e at http"):
        replaying.embedder("local/e").embed(["never heard of"])
    replaying.close()
    with pytest.raises(NotFound, match=r"local/m at http://127.0.0.1:1/v1"):       # the same name elsewhere
        models("http://127.0.0.1:1/v1", tmp_path, "replay").chat_model("local/m").chat(ASK)


def test_without_a_recording_a_replay_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"no recording at .*MADANG_CACHE_MODE=record"):
        models("http://127.0.0.1:9/v1", tmp_path, "replay").chat_model("local/m")


def test_what_is_bundled_is_not_kept(tmp_path: Path) -> None:
    found = models("http://127.0.0.1:9/v1", tmp_path, "on")
    assert found.embedder("bundled/static").embed(["a"]).shape == (1, 256)
    assert not (tmp_path / "cache.db").exists()


def test_many_threads_get_their_own_answers(opened: Open) -> None:
    cache = opened()
    wrong: list[str] = []

    def work(number: int) -> None:
        for n in range(25):
            cache.put([(asked(f"{number}/{n}"), str(n).encode())])
            if cache.get([asked(f"{number}/{n}")]) != [str(n).encode()]:
                wrong.append(f"{number}/{n}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
