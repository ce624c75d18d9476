"""`madang index lab` as a person and as a program use it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import madang as library
from madang.cli.main import entry

SMALL = ("--m", "4,8", "--ef-construction", "20", "--ef-search", "10,40", "--queries", "20", "--index", "hnsw,flat",
         "--sizes", "500")


class Result:
    """What a command printed and returned."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Result]


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `madang index lab` in an empty directory."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Result:
        code = entry(["index", "lab", *arguments])
        out, err = capsys.readouterr()
        return Result(code, out, err)

    return run


@pytest.fixture
def mine(tmp_path: Path) -> np.ndarray[Any, Any]:
    """A collection of 60 vectors in two namespaces."""
    vectors = np.random.default_rng(0).standard_normal((60, 6)).astype(np.float32)
    with library.open(tmp_path / "courtyard") as ws:
        target = ws.create_collection("mine", 6, "dot")
        for start, namespace in ((0, ""), (30, "other")):
            target.upsert([{"id": f"r{i}", "values": vectors[i]} for i in range(start, start + 30)], namespace)
    return vectors


def test_a_study_ends_in_a_recommendation(lab: Run) -> None:
    result = lab(*SMALL, "--out", "study")
    assert (result.code, result.err) == (0, "")
    lines = result.out.rstrip().splitlines()
    assert lines[-1].strip().startswith("index=madang.")
    assert lines[-2].strip().startswith("recall@10 ")
    assert lines[-3].startswith("recommended: ")
    assert lines[-4] == "goal: recall >= 0.95, least memory"
    assert {path.name for path in Path("study").iterdir()} == {"results.csv", "report.html", ".lock"}
    assert "5 points" in result.out


def test_the_same_command_goes_on(lab: Run) -> None:
    first = lab(*SMALL, "--json").json
    again = lab(*SMALL, "--json").json
    assert (first["resumed"], again["resumed"]) == (0, 5)
    assert again["points"] == first["points"]
    assert again["recommendation"] == first["recommendation"]
    assert Path(first["report"]).parent == Path("index-lab") / f"clustered-{first['data']['fingerprint'][:8]}"


def test_all_shows_what_others_beat(lab: Run) -> None:
    few, every = lab(*SMALL, "--out", "study"), lab(*SMALL, "--out", "study", "--all")

    def shown(result: Result) -> int:
        return sum(line[3:].startswith(("hnsw", "flat")) for line in result.out.splitlines())

    assert shown(every) == 5
    document = lab(*SMALL, "--out", "study", "--json").json
    best = document["recommendation"]["point"]
    good = [point for point in document["points"] if point.pop("pareto") or point == best]
    assert shown(few) == len(good)
    assert ("are not shown (--all)" in few.out) == (len(good) < 5)


def test_a_collection_is_measured_with_its_own_metric(lab: Run, mine: np.ndarray[Any, Any]) -> None:
    document = lab("-c", "mine", "--index", "flat", "--json").json
    (point,) = document["points"]
    assert (point["size"], point["queries"], point["dim"], point["metric"]) == (48, 12, 6, "dot")
    assert (point["data"], point["recall"]) == ("mine", 1.0)
    assert "held out" in document["data"]["queries"]
    assert lab("-c", "mine", "--index", "flat", "--metric", "cosine", "--json").json["data"]["metric"] == "cosine"


def test_queries_of_a_file_are_asked_of_all_vectors(lab: Run, mine: np.ndarray[Any, Any]) -> None:
    np.save("asked.npy", mine[:7] + 0.1)
    document = lab("-c", "mine", "--index", "flat", "--queries-file", "asked.npy", "--json").json
    assert (document["points"][0]["size"], document["points"][0]["queries"]) == (60, 7)
    assert document["data"]["queries"] == "7 given ones"


def test_more_vectors_than_the_built_in_set_has_are_made(lab: Run) -> None:
    document = lab("--data", "uniform", "--index", "flat", "--sizes", "100,20001", "--queries", "2", "--json").json
    assert [point["size"] for point in document["points"]] == [100, 20001]


def test_a_goal_out_of_reach_is_a_failure_that_names_the_closest(lab: Run) -> None:
    result = lab(*SMALL, "--goal", "memory <= 1 KB, fastest")
    assert result.code == 1
    assert "not reached: memory <= 1 kb" in result.out
    assert result.out.rstrip().splitlines()[-3].startswith("closest: ")
    document = lab(*SMALL, "--goal", "memory <= 1 KB, fastest", "--json").json
    assert document["recommendation"]["reached"] is False


@pytest.mark.parametrize(("arguments", "words"), [
    (("--m", "8;16"), "--m '8;16' is no list of whole numbers. Write numbers with commas between"),
    (("--sizes", "some"), "--sizes 'some' is no list of whole numbers. Write numbers or \"all\""),
    (("--m", ""), "m is empty"),
    (("--index", "tree"), "index 'tree' is unknown"),
    (("--quantization", "pq"), "quantization 'pq' is unknown"),
    (("--data", "mnist"), "data 'mnist' is unknown"),
    (("--metric", "l7"), "metric 'l7' is unknown"),
    (("--goal", "best"), "goal part 'best' is not understood"),
    (("--k", "0"), "k must be from 1"),
    (("--queries", "0"), "queries must be at least 2, got 0"),
    (("--queries-file", "x.npy"), "--queries-file needs vectors of your own"),
    (("-c", "mine", "--data", "uniform"), "--collection mine and --data uniform are both given"),
    (("-c", "nope"), "no collection is called 'nope'"),
    (("-c", "mine", "--queries-file", "x.npy"), "queries file x.npy cannot be read"),
    (("-c", "mine", "-w", "elsewhere"), "there is no workspace at"),
    (("-c", "mine", "--sizes", "100"), "sizes contains 100, but there are 48 vectors"),
])
def test_bad_input_is_one_clear_line(lab: Run, mine: np.ndarray[Any, Any], arguments: tuple[str, ...],
                                     words: str) -> None:
    result = lab(*arguments)
    assert (result.code, result.err.count("\n")) == (1, 1)
    assert words in result.err
    assert words in lab(*arguments, "--json").json["error"]["message"]


def test_another_data_set_in_the_directory_is_refused(lab: Run, mine: np.ndarray[Any, Any]) -> None:
    assert lab("-c", "mine", "--index", "flat", "--out", "study").code == 0
    result = lab("--data", "uniform", "--index", "flat", "--out", "study")
    assert result.code == 1
    assert "holds a study of other data: mine" in result.err
