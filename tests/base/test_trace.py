"""Spans: how they nest, what they measure, who hears of them; none of it depends on how long things take."""

from __future__ import annotations

import contextvars
import threading

import pytest

from madang.base.trace import Span, listening, span


def test_spans_nest_and_share_a_trace() -> None:
    with span("ask", question="?") as root:
        with span("retrieve") as retrieve, span("embed") as embed:
            pass
        with span("chat") as chat:
            pass
    assert root.attributes == {"question": "?"}
    assert (root.parent, retrieve.parent, embed.parent, chat.parent) == (None, root, retrieve, root)
    assert root.children == [retrieve, chat]
    assert retrieve.children == [embed]
    assert len({s.trace_id for s in (root, retrieve, embed, chat)}) == 1


def test_every_root_is_a_trace_of_its_own() -> None:
    ids = set()
    for _ in range(100):
        with span("ask") as root:
            ids.add(root.trace_id)
    assert len(ids) == 100
    assert all(len(trace_id) == 32 for trace_id in ids)


def test_a_span_lasts_at_least_as_long_as_its_children() -> None:
    with span("ask") as root:
        for _ in range(3):
            with span("step"):
                sum(range(1000))
        assert root.seconds == 0.0   # only known at its end
    assert root.seconds >= sum(child.seconds for child in root.children) > 0


def test_timings_add_up_children_of_one_name() -> None:
    root = Span("ask", "t", seconds=0.5, children=[
        Span("embed", "t", seconds=0.1), Span("chat", "t", seconds=0.25), Span("embed", "t", seconds=0.05)])
    assert root.timings_ms() == pytest.approx({"embed": 150.0, "chat": 250.0, "total": 500.0})
    assert list(root.timings_ms()) == ["embed", "chat", "total"]


def test_timings_of_a_span_that_still_runs_are_those_of_its_children() -> None:
    root = Span("ask", "t", children=[Span("embed", "t", seconds=0.1), Span("chat", "t", seconds=0.2)])
    assert root.timings_ms()["total"] == 300.0


def test_an_exception_passes_and_leaves_the_spans_closed() -> None:
    heard: list[Span] = []
    with listening(heard.append):
        with pytest.raises(ValueError, match="no"), span("ask") as root, span("chat") as chat:
            raise ValueError("no")
        with span("next") as following:
            pass
    assert heard == [root, following]
    assert chat.seconds > 0
    assert following.parent is None
    assert following.trace_id != root.trace_id


def test_listeners_hear_finished_roots_and_only_while_they_listen() -> None:
    first: list[str] = []
    second: list[str] = []
    with listening(lambda s: first.append(s.name)):
        with span("a"), span("child"):
            assert first == []
        with listening(lambda s: second.append(s.name)), span("b"):
            pass
    with span("c"):
        pass
    assert (first, second) == (["a", "b"], ["b"])


def test_a_listener_may_leave_while_it_is_told() -> None:
    heard: list[str] = []
    outer = listening(lambda s: heard.append("outer"))

    def leave(_: Span) -> None:
        heard.append("leaving")
        outer.__exit__(None, None, None)

    with listening(leave):
        outer.__enter__()
        with span("a"):
            pass
        with span("b"):
            pass
    assert heard == ["leaving", "outer", "leaving"]


def test_threads_do_not_mix_their_spans() -> None:
    both_inside = threading.Barrier(2, timeout=10)
    roots: dict[str, Span] = {}

    def work(name: str) -> None:
        with span(name) as root:
            roots[name] = root
            both_inside.wait()
            with span(f"{name}'s child"):
                both_inside.wait()

    heard: list[Span] = []
    with listening(heard.append), span("main") as main:
        threads = [threading.Thread(target=work, args=(name,)) for name in ("one", "two")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert {s.name for s in heard} == {"one", "two", "main"}
    assert [child.name for child in roots["one"].children] == ["one's child"]
    assert [child.name for child in roots["two"].children] == ["two's child"]
    assert main.children == []
    assert len({main.trace_id, roots["one"].trace_id, roots["two"].trace_id}) == 3


def test_a_thread_that_is_given_the_context_continues_the_trace() -> None:
    def work() -> None:
        with span("in the pool"):
            pass

    with span("ask") as root:
        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(work,))
        thread.start()
        thread.join()
    assert [child.name for child in root.children] == ["in the pool"]
    assert root.children[0].trace_id == root.trace_id
