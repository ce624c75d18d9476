"""The benchmark of stores: its judge against brute force, and the harness with our own contender on a few records."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import store
from benchmarks.datasets import Dataset
from benchmarks.store_data import Fields, Truth, chunks, identity, row_of
from benchmarks.store_process import Failed, Process, python_of
from benchmarks.store_report import show, told

N, DIM = 900, 16      # so many that "part" below 5 matches some


def _unit(seed: int, n: int) -> Any:
    vectors = np.random.default_rng(seed).standard_normal((n, DIM), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def data() -> Dataset:
    return Dataset("small", "cosine", _unit(0, N), _unit(1, 30), _unit(2, 30))


def _options(tmp_path: Path, **others: Any) -> argparse.Namespace:
    options = store.parsed(["--only", "madang", "--rounds", "2", "--budget", "0.01", "--folder", str(tmp_path)])
    return argparse.Namespace(**{**vars(options), **others})


def _nearest(base: Any, query: Any, allowed: Any, k: int = 10) -> list[int]:
    return sorted(np.flatnonzero(allowed).tolist(), key=lambda row: -float(base[row] @ query))[:k]


@pytest.mark.parametrize("share", [1.0, 0.3, 0.005])
def test_the_judge_agrees_with_brute_force(share: float) -> None:
    base, queries = _unit(3, N), _unit(4, 20)
    allowed = np.random.default_rng(5).random(N) < share
    truth = Truth(base, queries, allowed)
    right = [_nearest(base, query, allowed) for query in queries]
    assert truth.recall(right) == 1.0
    assert truth.strays(right) == 0
    half = [rows[:len(rows) // 2] for rows in right]
    assert truth.recall(half) == pytest.approx(len(half[0]) / len(right[0]))
    assert truth.recall([[rows[0]] * 10 for rows in right]) == pytest.approx(1 / len(right[0]))     # repeated
    if share < 1:
        forbidden = np.flatnonzero(~allowed)[:10].tolist()
        assert truth.recall([forbidden] * 20) == 0.0
        assert truth.strays([forbidden] * 20) == 200
    assert truth.recall([[*rows[10:], -1] for rows in right]) == 0.0


def test_ties_harm_nobody() -> None:
    base = np.repeat(np.eye(2, DIM, dtype=np.float32), 20, axis=0)
    truth = Truth(base, base[:1])
    assert truth.recall([list(range(10))]) == truth.recall([list(range(10, 20))]) == 1.0
    assert truth.recall([list(range(20, 30))]) == 0.0


def test_nothing_allowed_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to find"):
        Truth(_unit(0, 5), _unit(1, 2), np.zeros(5, dtype=bool))


def test_chunks_hold_every_record_once_with_its_own_fields(tmp_path: Path) -> None:
    base, fields = _unit(0, 23), Fields(23)
    np.save(tmp_path / "base.npy", base)
    rows, sources = list(range(22, -1, -1)), [row % 7 for row in range(23)]
    made = list(chunks(tmp_path / "base.npy", fields, rows, sources, size=10))
    assert [len(chunk.ids) for chunk in made] == [10, 10, 3]
    assert [row_of(name) for chunk in made for name in chunk.ids] == rows
    assert np.array_equal(np.concatenate([chunk.values for chunk in made]), base[sources])
    assert [one["part"] for chunk in made for one in chunk.metadata] == fields.part[rows].tolist()
    assert all(1 <= len(one["tags"]) <= 2 for chunk in made for one in chunk.metadata)
    assert row_of(identity(7)) == 7


def test_madang_goes_through_every_part(data: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = store.measure(_options(tmp_path), data)
    mine = found["contenders"]["madang"]
    assert mine["failed"] == {}
    assert mine["insert"]["records"] == N
    assert mine["insert"]["disk_bytes"] > N * DIM * 4
    assert mine["insert"]["peak_bytes"] >= mine["insert"]["baseline_bytes"] > 0
    assert mine["open"]["with_imports_s"] > mine["open"]["wall_s"] > 0
    assert list(mine["query"]) == [*store.WAYS, "peak_bytes"]
    for way in store.WAYS:
        assert mine["query"][way]["recall"] >= 0.98
        assert mine["query"][way]["strays"] == 0
        assert len(mine["query"][way]["rounds"]) == 2
    assert mine["delete"]["records"] == N // 10
    assert mine["churn"]["left"] == N // 2
    for changed in (mine["delete"], mine["churn"]["churned"], mine["churn"]["fresh"]):
        assert changed["recall"] >= 0.98
        assert changed["strays"] == 0
    json.dumps(found)
    show(found)
    assert "recall" in told(found)["madang"]
    assert "madang" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []       # the stores are gone


def test_ratios_are_to_the_best_peer_that_reaches_the_recall() -> None:
    def of(ours: bool, rates: list[float], reached: bool) -> dict[str, Any]:
        rounds = [{"wall_per_s": rate, "cpu_per_s": rate * 2, "p50_ms": 1.0, "p95_ms": 1.0} for rate in rates]
        single = {"setting": 1, "reached": reached, "recall": 0.99, "strays": 0, "judged": 10, "rounds": rounds}
        return {"ours": ours, "failed": {}, "query": {"single": single}}

    found = {"madang": of(True, [100.0, 300.0], True), "quick": of(False, [900.0, 900.0], False),
             "chroma": of(False, [50.0, 100.0], True), "slow": of(False, [10.0, 10.0], True)}
    ratio = store.summary(found)["ratios"]["single"]
    assert ratio["best_peer"] == "chroma"
    assert ratio["wall"] == pytest.approx([2.25, 2.5, 2.75])
    assert ratio["cpu"] == pytest.approx([2.25, 2.5, 2.75])


def test_a_contender_that_takes_too_long_is_reported(data: Dataset, tmp_path: Path) -> None:
    found = store.measure(_options(tmp_path, limit_s=0.001), data)
    assert "stopped after 0.001 s" in found["contenders"]["madang"]["failed"]["insert"]
    assert "query" not in found["contenders"]["madang"]
    assert "stopped after" in told(found)["madang"]


def test_a_contender_that_fails_says_why(tmp_path: Path) -> None:
    for name in ("base", "tune", "report"):
        np.save(tmp_path / f"{name}.npy", _unit(0, 20))
    madang = store.CONTENDERS[0]
    with Process("madang", python_of(madang), tmp_path / "store", tmp_path, 60) as process:
        with pytest.raises(Failed, match=r"open: NotFound: .*there is no workspace"):
            process.ask("open")
        assert process.ask("create") == {}      # one failure does not end the process
        process.child.kill()
        with pytest.raises(Failed, match="the process ended with -9"):
            process.ask("load")
    with pytest.raises(Failed, match=r"make \.venv-bench-store/installed"):
        Process("chroma", tmp_path / "no-python", tmp_path, tmp_path, 60)
