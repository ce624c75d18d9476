"""Collections against chromadb, lancedb, milvus-lite, qdrant-client's local mode, txtai and sqlite-vec.

    make .venv-bench-store/installed                                   # the peers, once
    .venv/bin/python benchmarks/store.py [--dataset docs|million] [--rows N] [--target 0.98] [--rounds N] [--budget S]
        [--part insert|open|query|churn|delete]... [--only NAME,...] [--limit-s S] [--folder DIR] [--json] [--append]

Records have an id, a vector, a year, a language, a part (0 to 999) and one or two tags. Each contender runs in
processes of its own, one for each of these:

insert   everything, in calls of 5,000; then one query; then until the index is finished. Memory, and disk once closed
open     a new process, from opening the store to its first answer; files may still be in the machine's cache
query    the smallest setting whose recall@10 on one set of queries reaches the target (else the best), for all records
         and for filters that leave 10 % and 0.5 %; recall on another set; then queries a second, one a call, with one
         client and with eight threads
churn    half deleted, then 30 % updated three times; beside a new load of what is left
delete   10 % by id, 1,000 a call

While queries are timed the processes take turns, round by round in rotated order, so that a busy machine disturbs them
alike. Ratios are formed within a round; values are medians over the rounds with quartiles. Wall and CPU time (of all
threads) are both taken: a neighbour on the core runs up the first only, and waiting shows in the first only. To hold
everybody to one core, start it with `taskset -c 0`. A contender that fails, or that works for longer than --limit-s in
one process, is reported with what it did until then.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from rich.console import Console
from rich.progress import Progress

from benchmarks.ann import tune
from benchmarks.datasets import FOLDER, NAMES, Dataset, load
from benchmarks.results import Row, append
from benchmarks.store_contender import Contender
from benchmarks.store_data import Fields, Truth
from benchmarks.store_peers import CONTENDERS
from benchmarks.store_process import Failed, Process, python_of
from benchmarks.store_report import show, summary, told

PARTS = ("insert", "open", "query", "churn", "delete")
WAYS: dict[str, tuple[int | None, int]] = {         # name: what "part" must be smaller than, client threads
    "single": (None, 1), "eight": (None, 8), "filter 10%": (100, 1), "filter 0.5%": (5, 1)}
CLIENTS = 8
SAMPLE, SAMPLE_S = 200, 2.0     # queries at least, and seconds but for them, to judge a setting by
DATASETS = tuple(name for name in ("docs", "million") if name in NAMES)


class Trial:
    """A contender as the tuning of benchmarks/ann.py wants it: it keeps what was tried."""

    def __init__(self, process: Process, truth: Truth, below: int | None, ladders: list[list[Any]]) -> None:
        self.process, self.truth, self.below, self.ladders = process, truth, below, ladders
        self.queries = truth.queries
        self.tried: list[tuple[Any, float, float]] = []     # setting, recall, queries per CPU second

    def set(self, setting: Any) -> None:
        """The next search takes this one."""
        self.setting = setting

    def batch(self, queries: Any, k: int) -> dict[str, Any]:
        """As many of the queries as there is time for."""
        return self.process.ask("search", part="tune", setting=self.setting, below=self.below, most_s=SAMPLE_S,
                                least=SAMPLE, once=True)

    def recall(self, found: dict[str, Any]) -> float:
        """Of what `batch` found."""
        self.tried.append((self.setting, self.truth.recall(found["rows"]), found["cpu_per_s"]))
        return self.tried[-1][1]

    def cheapest(self, target: float) -> tuple[Any, bool]:
        """The fastest setting that reaches the target, else the one of the best recall; and whether it does."""
        settings, _ = tune(self, self, target)      # type: ignore[arg-type]
        able = [one for one in self.tried if one[0] in settings]
        best = max(able, key=lambda one: one[2]) if able else max(self.tried, key=lambda one: one[1])
        return best[0], bool(able)


class Contest:
    """All contenders on one dataset. `found`: for each contender what was measured, and what failed by part."""

    def __init__(self, data: Dataset, folder: Path, options: argparse.Namespace, progress: Progress) -> None:
        self.folder, self.options, self.progress = folder, options, progress
        self.base, self.tune, self.report = (part / np.linalg.norm(part, axis=1, keepdims=True)
                                             for part in (data.base, data.tune, data.report))
        for name in ("base", "tune", "report"):
            np.save(folder / f"{name}.npy", np.ascontiguousarray(getattr(self, name), np.float32))
        self.fields = Fields(len(self.base))
        self.truths: dict[tuple[str, int | None], Truth] = {}
        self.kinds = [kind for kind in CONTENDERS if not options.only or kind.name in options.only]
        self.found: dict[str, dict[str, Any]] = {kind.name: {"ours": kind.ours, "durable": kind.durable, "failed": {}}
                                                 for kind in self.kinds}

    def run(self) -> None:
        """Part by part; whoever fails to load takes no part in the rest."""
        for part in ("insert", *(part for part in PARTS[1:] if part in self.options.part)):
            kinds = [kind for kind in self.kinds if "insert" not in self.found[kind.name]["failed"]]
            if part == "query":
                self.query(kinds)
                continue
            work: Callable[[type[Contender]], None] = getattr(self, part)
            task = self.progress.add_task("", total=len(kinds))
            for kind in kinds:
                self.progress.update(task, description=f"{part}: {kind.name}")
                with self.failing(kind, part):
                    work(kind)
                self.progress.advance(task)

    @contextmanager
    def failing(self, kind: type[Contender], part: str) -> Iterator[None]:
        """A failure is written down, and ends this part for this contender only."""
        try:
            yield
        except Failed as failure:
            self.found[kind.name]["failed"].setdefault(part, str(failure))
            self.progress.console.print(f"failed: {kind.name}, {part}: {failure}", markup=False, highlight=False)

    @contextmanager
    def process(self, kind: type[Contender], store: str = "", *, create: bool = False) -> Iterator[Process]:
        """One with the store open, closed in the end; killed if something fails."""
        with Process(kind.name, python_of(kind), self.folder / f"{kind.name}{store}", self.folder,
                     self.options.limit_s) as process:
            process.ask("create" if create else "open")
            yield process
            process.ask("close")

    def size(self, kind: type[Contender], store: str = "") -> int:
        """Bytes of a closed store."""
        return sum(file.stat().st_size for file in (self.folder / f"{kind.name}{store}").rglob("*") if file.is_file())

    def truth(self, part: str, below: int | None) -> Truth:
        """Exact answers of the whole set, made once."""
        if (part, below) not in self.truths:
            allowed = None if below is None else self.fields.part < below
            self.truths[part, below] = Truth(self.base, getattr(self, part), allowed)
        return self.truths[part, below]

    # Parts

    def insert(self, kind: type[Contender]) -> None:
        """Everything into a new store."""
        mine = self.found[kind.name]
        with Process(kind.name, python_of(kind), self.folder / kind.name, self.folder, self.options.limit_s) as process:
            mine["versions"], baseline = process.begun["versions"], process.begun["now_bytes"]
            process.ask("create")
            done = process.ask("load")
            closed = process.ask("close")
        mine["insert"] = {**done, "close": closed, "baseline_bytes": baseline, "peak_bytes": closed["peak_bytes"],
                          "peak_anon_bytes": closed["peak_anon_bytes"], "disk_bytes": self.size(kind)}

    def open(self, kind: type[Contender]) -> None:
        """Medians over so many new processes as there are rounds."""
        opened = []
        for _ in range(self.options.rounds):
            with Process(kind.name, python_of(kind), self.folder / kind.name, self.folder,
                         self.options.limit_s) as process:
                opened.append(process.ask("open"))
                memory = process.ask("close")
        self.found[kind.name]["open"] = {**{name: statistics.median(one[name] for one in opened) for name in opened[0]},
                                         "peak_bytes": memory["peak_bytes"]}

    def query(self, kinds: list[type[Contender]]) -> None:
        """Tune each, then time all in turns."""
        running: list[tuple[type[Contender], Process]] = []
        task = self.progress.add_task("", total=len(kinds) + self.options.rounds)
        try:
            for kind in kinds:
                self.progress.update(task, description=f"tuning {kind.name}")
                process = None
                with self.failing(kind, "query"):
                    process = Process(kind.name, python_of(kind), self.folder / kind.name, self.folder,
                                      self.options.limit_s)
                    running.append((kind, process))
                    process.ask("open")
                    self.found[kind.name]["query"] = {}
                    for way in WAYS:
                        if kind.threads or way != "eight":
                            self.found[kind.name]["query"][way] = self.tuned(kind, process, way)
                self.progress.advance(task)
            for number in range(self.options.rounds):
                self.progress.update(task, description=f"round {number + 1}")
                first = number % max(1, len(running))
                for kind, process in running[first:] + running[:first]:
                    self.round(kind, process)
                self.progress.advance(task)
            for kind, process in running:
                if "query" in self.found[kind.name]["failed"]:
                    continue
                with self.failing(kind, "query"):
                    self.found[kind.name].setdefault("query", {})["peak_bytes"] = process.ask("close")["peak_bytes"]
        finally:
            for _, process in running:
                process.end()

    def tuned(self, kind: type[Contender], process: Process, way: str) -> dict[str, Any]:
        """The setting for one way to search, and its recall on the reported queries."""
        below, clients = WAYS[way]
        if clients > 1:     # the setting of one client serves eight
            return {**self.found[kind.name]["query"]["single"], "rounds": []}
        contender = kind(self.folder, self.base.shape[1], len(self.base))
        trial = Trial(process, self.truth("tune", below), below,
                      contender.ladders if below is None else contender.filtered or contender.ladders)
        setting, reached = trial.cheapest(self.options.target)
        told = process.ask("search", part="report", setting=setting, below=below, most_s=SAMPLE_S,
                            least=SAMPLE, once=True)
        truth = self.truth("report", below)
        return {"setting": setting, "reached": reached, "recall": truth.recall(told["rows"]),
                "strays": truth.strays(told["rows"]), "judged": told["count"], "rounds": []}

    def round(self, kind: type[Contender], process: Process) -> None:
        """Time each way once."""
        if "query" in self.found[kind.name]["failed"]:
            return
        with self.failing(kind, "query"):
            for way, mine in self.found[kind.name]["query"].items():
                below, clients = WAYS[way]
                timed = process.ask("search", part="report", setting=mine["setting"], below=below, clients=clients,
                                    most_s=self.options.budget)
                del timed["rows"]
                mine["rounds"].append(timed)

    def settled(self, kind: type[Contender]) -> Any:
        """The setting of a search without a filter, or the first if none was looked for."""
        query = self.found[kind.name].get("query", {})
        contender = kind(self.folder, self.base.shape[1], len(self.base))
        return query["single"]["setting"] if "single" in query else contender.ladders[0][0]

    def judged(self, kind: type[Contender], process: Process, truth: Truth) -> dict[str, Any]:
        """Recall of a store whose records have changed, and rows it should not have returned."""
        found = process.ask("search", part="report", setting=self.settled(kind), below=None, most_s=SAMPLE_S,
                            least=SAMPLE, once=True)
        return {"recall": truth.recall(found["rows"]), "strays": truth.strays(found["rows"])}

    def delete(self, kind: type[Contender]) -> None:
        """10 % by id."""
        gone = np.random.default_rng(7).permutation(len(self.base))[:len(self.base) // 10]
        left = np.ones(len(self.base), dtype=bool)
        left[gone] = False
        with self.process(kind) as process:
            mine = process.ask("delete", rows=gone.tolist())
            mine |= self.judged(kind, process, Truth(self.base, self.report, left))
        self.found[kind.name]["delete"] = {**mine, "records": len(gone), "disk_bytes": self.size(kind)}

    def churn(self, kind: type[Contender]) -> None:
        """On a copy; queries a second of both in turns, as searches of one client."""
        n, generator = len(self.base), np.random.default_rng(2)
        source = np.arange(n)       # whose vector each row has; -1 once deleted
        gone = generator.permutation(n)[:n // 2]
        source[gone] = -1
        left = np.flatnonzero(source >= 0)
        shutil.copytree(self.folder / kind.name, self.folder / f"{kind.name}-churned")
        with self.process(kind, "-churned") as process:
            process.ask("delete", rows=gone.tolist())
            for number in range(3):
                rows = generator.choice(left, round(0.3 * len(left)), replace=False)
                source[rows] = gone[(rows + number) % len(gone)]
                process.ask("update", rows=rows.tolist(), sources=source[rows].tolist())
        with self.process(kind, "-fresh", create=True) as process:
            process.ask("load", rows=left.tolist(), sources=source[left].tolist())
        found: dict[str, Any] = {"left": len(left)}
        truth = Truth(self.base[np.maximum(source, 0)], self.report, source >= 0)
        with self.process(kind, "-churned") as churned, self.process(kind, "-fresh") as fresh:
            for name, process in (("churned", churned), ("fresh", fresh)):
                found[name] = {**self.judged(kind, process, truth), "rounds": []}
            for _ in range(self.options.rounds):
                for name, process in (("churned", churned), ("fresh", fresh)):
                    timed = process.ask("search", part="report", setting=self.settled(kind), below=None,
                                        most_s=self.options.budget)
                    found[name]["rounds"].append({key: timed[key] for key in ("wall_per_s", "cpu_per_s", "p50_ms")})
        for name in ("churned", "fresh"):
            found[name]["disk_bytes"] = self.size(kind, f"-{name}")
            shutil.rmtree(self.folder / f"{kind.name}-{name}")
        self.found[kind.name]["churn"] = found


def measure(options: argparse.Namespace, data: Dataset | None = None) -> dict[str, Any]:
    """{"contenders": {name: what was measured}, "lines": ..., "ratios": ...}; `data` in place of the dataset named."""
    data = data or load(options.dataset)
    data = data.head(options.rows) if options.rows else data
    where = Path(options.folder) if options.folder else FOLDER
    where.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=where, prefix="store-") as folder, \
            Progress(console=Console(stderr=True), transient=True) as progress:
        contest = Contest(data, Path(folder), options, progress)
        contest.run()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"dataset": data.name, "n": len(data.base), "dim": data.base.shape[1], "cores": cores,
            "target": options.target, "rounds": options.rounds, "contenders": contest.found,
            **summary(contest.found)}


def rows() -> list[Row]:
    """For RESULTS.md, with the options' defaults."""
    options = parsed([])
    return _rows(options, measure(options))


def _rows(options: argparse.Namespace, found: dict[str, Any]) -> list[Row]:
    """One for each contender, and the ratios."""
    signature = f"{found['cores']} cores; " + ", ".join(dict.fromkeys(
        f"{package} {number}" for one in found["contenders"].values() for package, number in one.get("versions", {}).items()))
    passed = " ".join(part for part in options.passed if part not in ("--append", "--json"))
    return [Row(f"stores, {found['dataset']} {found['n']:,} x {found['dim']}, {name}", line,
                f"python benchmarks/store.py {passed}".rstrip(), signature) for name, line in told(found).items()]


def parsed(arguments: list[str]) -> argparse.Namespace:
    """Options."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--dataset", choices=DATASETS, default="docs")
    options.add_argument("--rows", type=int, default=0, help="only so many records, for a quick try")
    options.add_argument("--target", type=float, default=0.98, help="recall@10 to reach")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--budget", type=float, default=1.0, help="seconds for each measurement of queries")
    options.add_argument("--part", action="append", choices=PARTS, help="only this (after insert); may be repeated")
    options.add_argument("--only", type=lambda text: text.split(","), default=[], metavar="NAME,...",
                         help=", ".join(kind.name for kind in CONTENDERS))
    options.add_argument("--limit-s", type=float, default=900, help="seconds of work in one process")
    options.add_argument("--folder", default="", help="where stores are made, on the disk to measure")
    options.add_argument("--json", action="store_true", help="one line of JSON instead of tables")
    options.add_argument("--append", action="store_true", help="append what was measured to RESULTS.md")
    chosen = options.parse_args(arguments)
    if unknown := set(chosen.only) - {kind.name for kind in CONTENDERS}:
        options.error(f"--only: unknown: {', '.join(sorted(unknown))}")
    chosen.part, chosen.passed = tuple(chosen.part or PARTS), arguments
    return chosen


def main() -> None:
    options = parsed(sys.argv[1:])
    result = measure(options)
    if options.json:
        print(json.dumps(result))
    else:
        show(result)
    if options.append:
        append(_rows(options, result))


if __name__ == "__main__":
    main()
