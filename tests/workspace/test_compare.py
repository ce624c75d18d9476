"""Models compared on questions: the numbers by hand, failures counted, intervals and tests where they can be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import madang
from madang.base.errors import InvalidInput, NotFound, ServiceError
from madang.base.messages import Usage
from madang.base.settings import Service, Settings
from madang.models.resolve import Models
from madang.workspace.compare import Item, _likeness, compare, items_of
from tests.models.service_stub import BUSY, ServiceStub, answer

CAPITALS = [Item("capital of Korea?", "Seoul"), Item("capital of France?", "Paris"), Item("capital of Italy?", "Rome"),
            Item("and of nowhere?")]
SETTINGS = Settings(services={"dear": Service("http://127.0.0.1:9/v1", price_in=2.0, price_out=10.0), "free": Service("http://127.0.0.1:9/v1")})


def right(question: str, model: str) -> tuple[str, Usage]:
    said = {item.question: item.expected for item in CAPITALS}[question]
    return (said or "I do not know", Usage(1000, 100)) if model == "dear/m" else (f"Maybe {said[:1]}", Usage(10, 1))


def test_quality_tokens_and_cost_by_hand() -> None:
    done: list[tuple[int, int]] = []
    found = compare(CAPITALS, ["dear/m", "free/m"], Models(SETTINGS), SETTINGS, ask=right, progress=lambda a, b: done.append((a, b)))
    dear, free = found.models
    assert (dear.quality["containment"].mean, dear.quality["overlap"].mean, dear.quality["containment"].n) == (1.0, 1.0, 3)
    assert free.quality["containment"].mean == 0.0
    assert dear.usage == Usage(4000, 400)
    assert dear.cost == pytest.approx((4000 * 2 + 400 * 10) / 1e6)
    assert (dear.priced, free.priced, free.cost) == (True, False, 0.0)
    assert found.tests["free/m"].difference == -1.0
    assert found.tests["free/m"].n == 3
    assert done == [(number, 8) for number in range(1, 9)]
    assert dear.p50_ms is not None
    assert dear.p95_ms is not None
    assert 0 <= dear.p50_ms <= dear.p95_ms


def test_failures_are_counted_and_not_averaged() -> None:
    def sometimes(question: str, model: str) -> tuple[str, Usage]:
        if model == "free/m" and "France" in question:
            raise ServiceError("down.", kind="timeout")
        return right(question, "dear/m")

    found = compare(CAPITALS, ["dear/m", "free/m"], Models(SETTINGS), SETTINGS, ask=sometimes)
    assert found.models[1].failed == {"timeout": 1}
    assert found.models[1].quality["containment"].n == 2
    assert found.tests["free/m"].n == 2
    assert found.models[1].usage == Usage(3000, 300)


def test_embedders_find_their_passage_or_do_not() -> None:
    items = [Item("where is the bicycle", "The bicycle is kept in the cellar."), Item("how many vacation days", "There are 15 vacation days."),
             Item("who makes the coffee", "The coffee is made by the machine.")]
    found = compare(items, ["bundled/minilm", "bundled/static"], Models(Settings()), Settings(), role="embed")
    assert found.metric == "reciprocal_rank"
    assert found.models[0].quality["found_first"].mean == 1.0
    assert found.models[0].usage.total_tokens > 20
    assert [reply.text for reply in found.models[0].replies] == [item.expected for item in items]
    with pytest.raises(InvalidInput, match="needs the passage"):
        compare(CAPITALS, ["bundled/minilm"], Models(Settings()), Settings(), role="embed")


def test_one_passage_for_all_cannot_be_missed_and_equal_ones_share_a_rank() -> None:
    same = [Item("a", "x y"), Item("b", "x y")]
    assert compare(same, ["bundled/static"], Models(Settings()), Settings(), role="embed").models[0].quality["reciprocal_rank"].mean == 1.0
    twins = [Item("cat", "cat"), Item("cat", "Cat")]        # one token for both spellings, so equally near
    found = compare(twins, ["bundled/static"], Models(Settings()), Settings(), role="embed").models[0].quality
    assert found["reciprocal_rank"].mean == pytest.approx(1 / 1.5)


@given(st.lists(st.sampled_from(["seoul", "paris", "연차는", "15일", "rome"]), min_size=1, max_size=6),
       st.lists(st.sampled_from(["seoul", "paris", "연차는", "15일", "rome"]), max_size=6))
def test_likeness_is_a_share(expected: list[str], text: list[str]) -> None:
    found = _likeness(" ".join(expected), " ".join(text))
    assert all(0 <= value <= 1 + 1e-9 for value in found.values())
    assert (found["containment"] == pytest.approx(1)) == (set(expected) <= set(text))
    assert (found["overlap"] == 0) == (not set(expected) & set(text))
    assert _likeness(" ".join(expected), " ".join(expected))["overlap"] == pytest.approx(1)


def test_files_of_questions(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text('How many?\n\n{"question": "몇 일?", "expected": "15일"}\n{"question": "x", "passage": "y"}\n', encoding="utf-8")
    assert items_of(path) == [Item("How many?"), Item("몇 일?", "15일"), Item("x", "y")]
    for line, words in (('{"question": 1}', r"q.jsonl:1 needs"), ("{oops", r"q.jsonl:1 is not JSON"), ('{"question": "a", "wanted": 1}', "unknown key 'wanted'"),
                        ("", "no questions")):
        path.write_text(line)
        with pytest.raises(InvalidInput, match=words):
            items_of(path)
    with pytest.raises(NotFound, match="no file"):
        items_of(tmp_path / "none")


def test_a_model_twice_or_none_is_refused() -> None:
    for names in ([], ["a/b", "a/b"]):
        with pytest.raises(InvalidInput, match="each once"):
            compare(CAPITALS, names, Models(Settings()), Settings())


@pytest.fixture
def stub() -> Iterator[ServiceStub]:
    with ServiceStub() as server:
        yield server


def test_a_service_against_the_reader_on_a_collection(stub: ServiceStub, tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# Boiler\n\nThe boiler is serviced every October.\n")
    (tmp_path / "ws").mkdir()
    (tmp_path / "ws" / "madang.toml").write_text(f'[services.local]\nbase_url = "{stub.url}"\nretries = 0\nprice_out = 3.0\n')
    stub.chat(answer("In October [1]."), BUSY)
    with madang.open(tmp_path / "ws") as ws:
        ws.ingest(tmp_path / "a.md")
        found = ws.compare_models([{"question": "When is the boiler serviced?", "expected": "October"},
                                   {"question": "When is the boiler serviced?", "expected": "October"}],
                                  ["bundled/reader", "local/m"], collection="docs")
    reader, service = found.models
    assert reader.quality["containment"].mean == 1.0
    assert service.failed == {"server": 1}
    assert service.quality["containment"].n == 1
    assert service.cost > 0
    text = json.dumps(found.to_dict(), allow_nan=False)          # an interval of one value has no ends
    assert json.loads(text)["models"][1]["quality"]["containment"]["low"] is None
