"""Approximate search against hnswlib, faiss, usearch, ScaNN, SVS and NGT: who is faster at the same recall?

    make .venv-bench/installed                                         # the peers, once
    .venv/bin/python benchmarks/ann.py [--dataset docs|clustered|digits] [--targets 0.95,0.99] [--threads 1|2]
        [--only NAME,...] [--limit N] [--rounds N] [--budget S] [--isa avx2] [--json] [--append]

For each contender: build time, the smallest setting whose recall@10 on one set of queries reaches the target, then
recall and queries a second on another set, one query a call ("single") and all in one call ("batch").

Each number of threads has a process of its own, held to so many cores. In it all contenders take turns, round by
round in rotated order, so that a busy machine disturbs them alike. Ratios are formed within a round; values are
medians over the rounds with quartiles. With one thread the clock is CPU time, which a neighbour on the core does not
run up; with more it is wall time, since CPU time would hide threads that wait. --json has both.

A neighbour counts as found if its exact score is no worse than the k-th best, so that ties harm nobody.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from rich.console import Console
from rich.progress import Progress

from benchmarks.ann_peers import CONTENDERS, Contender, Setting, Vectors
from benchmarks.datasets import NAMES, ROOT, Dataset, load
from benchmarks.results import Row, append, versions

K = 10
WARM = 32               # queries before each measurement, untimed: the caches are this one's then
MEASURE = ("hnswlib",)  # whom everybody is compared with by name, beside the best peer
WAYS = ("single", "batch")
PACKAGES = ("numpy", "hnswlib", "faiss-cpu", "usearch", "scann", "scalable-vs", "ngt")
Truth = tuple[Vectors, Vectors]     # the k-th best exact score (q,) of each query, and the base for scoring others
Clocks = tuple[float, float]        # wall and CPU seconds (of all threads)


@dataclass
class Entry:
    """A contender at one target: the setting, what it finds, and queries a second as (wall, CPU) round by round."""

    name: str
    ours: bool
    target: float
    setting: Setting
    build_s: Clocks
    size_bytes: int | None
    recall: float
    single_recall: float
    single: list[Clocks] = field(default_factory=list)
    batch: list[Clocks] = field(default_factory=list)


class Judge:
    """Recall@10 by exact search in NumPy over the vectors that everybody gets."""

    def __init__(self, base: Vectors, metric: str, queries: Vectors) -> None:
        self.queries, self.base, self.product = queries, base, metric != "euclidean"
        self.norms = np.einsum("nd,nd->n", base, base)
        self.least = np.empty(len(queries), np.float32)
        for start in range(0, len(queries), 100):
            part = slice(start, start + 100)
            dots = queries[part] @ base.T
            scores = dots if self.product else 2 * dots - self.norms
            self.least[part] = np.partition(scores, -K, axis=1)[:, -K]
        self.slack = 1e-5 * np.abs(self.least) + 1e-6   # another order of summation is no error

    def recall(self, rows: Any) -> float:
        """Of rows (q, <=k), one entry for each of the first q queries; -1 and repeated rows do not count."""
        hits = 0
        for query, (least, found) in enumerate(zip(self.least - self.slack, rows, strict=False)):
            mine = np.unique(np.asarray(found).ravel()).astype(np.int64)
            mine = mine[(mine >= 0) & (mine < len(self.base))]
            dots = self.base[mine] @ self.queries[query]
            hits += int(np.count_nonzero((dots if self.product else 2 * dots - self.norms[mine]) >= least))
        return hits / (K * len(rows))


def clocked(function: Callable[[], Any]) -> tuple[Any, Clocks]:
    """The result, and wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = function()
    return result, (time.perf_counter() - wall, time.process_time() - cpu)


def tune(contender: Contender, judge: Judge, target: float) -> tuple[list[Setting], float]:
    """The cheapest setting that reaches the target on each ladder that gets there, and the best recall seen."""
    best = 0.0

    def reached(setting: Setting) -> bool:
        nonlocal best
        contender.set(setting)
        recall = judge.recall(contender.batch(judge.queries, K))
        best = max(best, recall)
        return recall >= target

    found = []
    for ladder in contender.ladders:
        low, high, step = 0, 0, 1       # galloping first: the top of a ladder is slow and seldom needed
        while high < len(ladder) and not reached(ladder[high]):
            low, high, step = high + 1, min(high + step, max(high + 1, len(ladder) - 1)), step * 2
        if high == len(ladder):
            continue
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if reached(ladder[middle]) else (middle + 1, high)
        found.append(ladder[low])
    return found, best


def fastest(contender: Contender, settings: list[Setting], queries: Vectors) -> Setting:
    """The best of several settings by a quick look at CPU time."""
    def seconds(setting: Setting) -> float:
        contender.set(setting)
        return statistics.median(clocked(lambda: contender.batch(queries, K))[1][1] for _ in range(3))

    return settings[0] if len(settings) == 1 else min(settings, key=seconds)


def rate(call: Callable[[Any], Any], queries: Any, seconds: float, budget: float) -> Clocks:
    """Queries a second, by wall and CPU time; `seconds` is what a pass over all queries took before."""
    share = min(1.0, max(budget / max(seconds, 1e-9), 50 / len(queries)))
    some, times = queries[:max(1, int(share * len(queries)))], max(1, int(min(1000, budget / max(seconds, 1e-9))))
    call(queries[:WARM])
    _, (wall, cpu) = clocked(lambda: [call(some) for _ in range(times)])
    return times * len(some) / wall, times * len(some) / max(cpu, 1e-9)


class Contest:
    """All contenders on one dataset in this process."""

    def __init__(self, data: Dataset, options: argparse.Namespace, progress: Progress) -> None:
        self.data, self.options, self.progress = data, options, progress
        self.left_out: dict[str, str] = {}
        self.entries: list[tuple[Entry, Contender]] = []
        self.seconds: dict[int, dict[str, float]] = {}

    def run(self) -> None:
        """Build, tune, then time in rounds."""
        if self.data.metric == "cosine":
            self.data = Dataset(self.data.name, "cosine", *(
                part / np.linalg.norm(part, axis=1, keepdims=True)
                for part in (self.data.base, self.data.tune, self.data.report)))
        judges = {part: Judge(self.data.base, self.data.metric, getattr(self.data, part)) for part in ("tune", "report")}
        kinds = [kind for kind in CONTENDERS if kind.name in self.options.only
                 or (not self.options.only and not kind.on_request)]
        task = self.progress.add_task("", total=len(kinds) + self.options.rounds)
        for kind in kinds:
            self.progress.update(task, description=f"building {kind.name}")
            self.enter(kind(), judges)
            self.progress.advance(task)
        for number in range(self.options.rounds):
            self.progress.update(task, description=f"round {number + 1}")
            self.round(number)
            self.progress.advance(task)

    def enter(self, contender: Contender, judges: dict[str, Judge]) -> None:
        """Build and tune one contender; whoever cannot is left out with the reason."""
        name = contender.name
        if remedy := contender.missing():
            self.leave_out(name, remedy)
            return
        try:
            _, build = clocked(lambda: contender.build(self.data.base, self.data.metric, self.options.child))
            size = contender.size_bytes()
            for target in self.options.targets:
                settings, most = tune(contender, judges["tune"], target)
                if not settings:
                    self.leave_out(f"{name} at {target}", f"no setting reaches it; the most is {most:.4f}")
                    continue
                setting = fastest(contender, settings, self.data.tune)
                self.entries.append((self.judged(contender, judges["report"], target, setting, build, size), contender))
        except Exception as error:      # a stranger's failure should not end the contest
            self.leave_out(name, f"{type(error).__name__}: {error}")

    def leave_out(self, name: str, why: str) -> None:
        self.left_out[name] = why
        self.progress.console.print(f"left out: {name} ({why})", markup=False, highlight=False)

    def judged(self, contender: Contender, judge: Judge, target: float, setting: Setting, build: Clocks,
               size: int | None) -> Entry:
        """Recall on the reported queries, both ways; the two can differ where a library quantizes or batches."""
        contender.set(setting)
        found, (batch, _) = clocked(lambda: contender.batch(judge.queries, K))
        few = [query[None] for query in judge.queries[:500]]
        single, (one, _) = clocked(lambda: contender.single(few, K))
        self.seconds[len(self.entries)] = {"batch": batch, "single": one / len(few) * len(judge.queries)}
        return Entry(contender.name, contender.ours, target, setting, build, size, judge.recall(found),
                     judge.recall(single))

    def round(self, number: int) -> None:
        """Time everybody once, beginning with another one each time."""
        queries = self.data.report
        singles = [query[None] for query in queries]
        first = number % max(1, len(self.entries))
        for at in [*range(first, len(self.entries)), *range(first)]:
            entry, contender = self.entries[at]
            contender.set(entry.setting)
            gc.collect()
            gc.disable()
            time.sleep(0.05)    # idle threads may spin for a while and would slow the next one down
            entry.single.append(rate(partial(contender.single, k=K), singles, self.seconds[at]["single"], self.options.budget))
            time.sleep(0.05)
            entry.batch.append(rate(partial(contender.batch, k=K), queries, self.seconds[at]["batch"], self.options.budget))
            gc.enable()


def summary(entries: list[Entry], clock: int) -> list[dict[str, Any]]:
    """One line an entry: medians and quartiles of its rates, and of its ratios to the measure and to the best peer."""
    lines = []
    for entry in entries:
        rivals = [other for other in entries if other.target == entry.target and not other.ours]
        line: dict[str, Any] = {
            "contender": entry.name, "ours": entry.ours, "target": entry.target, "setting": entry.setting,
            "build_wall_s": entry.build_s[0], "build_cpu_s": entry.build_s[1], "size_bytes": entry.size_bytes,
            "recall": entry.recall, "single_recall": entry.single_recall}
        for way in WAYS:
            for index, name in enumerate(("wall", "cpu")):
                line[f"{way}_per_s_{name}"] = spread([pair[index] for pair in getattr(entry, way)])
            line[f"{way}_per_s"] = line[f"{way}_per_s_{('wall', 'cpu')[clock]}"]
            best = max(rivals, key=lambda other: spread([pair[clock] for pair in getattr(other, way)])[1], default=None)
            known = {other.name: other for other in rivals if other.name in MEASURE}
            for label, rival in (*((name, known.get(name)) for name in MEASURE), ("best_peer", best)):
                line[f"{way}_x_{label}"] = ratio(getattr(entry, way), getattr(rival, way), clock) if rival else None
            line[f"{way}_best_peer"] = best.name if best else None
        lines.append(line)
    return sorted(lines, key=lambda line: (line["target"], -line["single_per_s"][1]))


def spread(values: list[float]) -> list[float]:
    """First quartile, median, third quartile."""
    return [float(value) for value in np.quantile(values, (0.25, 0.5, 0.75))]


def ratio(mine: list[Clocks], other: list[Clocks], clock: int) -> list[float]:
    """Spread of the ratios within the rounds."""
    return spread([a[clock] / b[clock] for a, b in zip(mine, other, strict=True)])


def contest(options: argparse.Namespace) -> dict[str, Any]:
    """Everything for one number of threads, in this process."""
    if options.isa:
        from madang.index import _kernel

        _kernel.set_isa(options.isa)
    data = load(options.dataset)
    data = data.head(options.limit) if options.limit else data
    with Progress(console=Console(stderr=True), transient=True) as progress:
        fight = Contest(data, options, progress)
        fight.run()
    return {"n": len(data.base), "dim": data.base.shape[1], "metric": data.metric, "left_out": fight.left_out,
            "rows": summary([entry for entry, _ in fight.entries], 1 if options.child == 1 else 0)}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """{"1": what `contest` returned with one thread, ...}; each in a process of its own on so many cores."""
    load(options.dataset)       # made once, with all cores
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    found = {}
    for threads in options.threads:
        # Spinning at OpenMP's barriers, the default, costs faiss a factor of 17 when a neighbour takes one of the cores.
        names = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
        command = [sys.executable, __file__, *options.passed, "--child", str(threads)]
        held = partial(os.sched_setaffinity, 0, allowed[-threads:]) if allowed else None
        environment = os.environ | dict.fromkeys(names, str(threads)) | {"OMP_WAIT_POLICY": "PASSIVE"}
        out = subprocess.run(command, env=environment, check=True, text=True, stdout=subprocess.PIPE,
                             preexec_fn=held).stdout
        found[str(threads)] = json.loads(out.splitlines()[-1])    # libraries greet on stdout
    return found


def rows() -> list[Row]:
    """For RESULTS.md: ours and the best of the others, at each target, on the real embeddings."""
    return _rows(parsed([]), measure(parsed([])))


def _rows(options: argparse.Namespace, result: dict[str, Any]) -> list[Row]:
    known = []
    for package in PACKAGES:
        try:
            version(package)
        except PackageNotFoundError:
            continue
        known.append(package)
    passed = " ".join(part for part in options.passed if part not in ("--append", "--json"))
    return [Row(f"approximate search, {options.dataset}{f', {options.isa}' if options.isa else ''} {found['n']:,} x {found['dim']}, "
                f"recall@10 {target}, {threads} threads, {'CPU' if threads == '1' else 'wall'} time",
                "; ".join(_told(line) for line in found["rows"] if line["target"] == target),
                f"python benchmarks/ann.py {passed}".rstrip(), versions(*known))
            for threads, found in result.items() for target in options.targets]


def _told(line: dict[str, Any]) -> str:
    return (f"{line['contender']} ({line['setting']}) recall {line['recall']:.4f}, single {line['single_per_s'][1]:,.0f}/s, "
            f"batch {line['batch_per_s'][1]:,.0f}/s, build {line['build_cpu_s']:.1f} CPU s")


def _print(threads: str, found: dict[str, Any], options: argparse.Namespace) -> None:
    clock = "CPU" if threads == "1" else "wall"
    print(f"\n{options.dataset}: {found['n']:,} x {found['dim']}, {found['metric']}, k={K}, threads {threads}, {options.rounds} "
          f"rounds, {clock} time; medians [quartiles]; ratios single | batch")
    print(f"{'contender':16}{'build CPU':>10}{'wall s':>8}{'MB':>7}  {'setting':10}{'recall':>8}  {'single q/s':27}{'batch q/s':27}"
          f"{'x hnswlib':38}x best peer")
    target = None
    for line in found["rows"]:
        if line["target"] != target:
            target = line["target"]
            best = " | ".join(str(line[f"{way}_best_peer"]) for way in WAYS)
            print(f"-- recall@10 >= {target} (best peer: {best})")
        size = f"{line['size_bytes'] / 1e6:.0f}" if line["size_bytes"] else "?"
        setting = str(line["setting"]).replace(" ", "")
        odd = "*" if abs(line["single_recall"] - line["recall"]) > 0.01 else ""
        rates = [_rates(line[f"{way}_per_s"]) for way in WAYS]
        ratios = [" | ".join(_ratio(line[f"{way}_x_{rival}"]) for way in WAYS) for rival in ("hnswlib", "best_peer")]
        print(f"{line['contender']:16}{line['build_cpu_s']:10.1f}{line['build_wall_s']:8.1f}{size:>7}  {setting:10}"
              f"{line['recall']:8.4f}{odd or ' '} {rates[0]:27}{rates[1]:27}{ratios[0]:38}{ratios[1]}")
    for name, why in found["left_out"].items():
        print(f"left out: {name} ({why})")


def _rates(values: list[float]) -> str:
    low, middle, high = values
    return f"{middle:,.0f} [{low:,.0f}-{high:,.0f}]"


def _ratio(values: list[float] | None) -> str:
    return f"{values[1]:.2f} [{values[0]:.2f}-{values[2]:.2f}]" if values else "-"


def parsed(arguments: list[str]) -> argparse.Namespace:
    """Options; `passed` repeats them for the child processes."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--dataset", choices=list(NAMES), default="docs")
    options.add_argument("--targets", type=lambda text: [float(part) for part in text.split(",")], default=[0.95, 0.99])
    options.add_argument("--threads", type=lambda text: [int(part) for part in text.split(",")], default=[1, 2])
    options.add_argument("--only", type=lambda text: text.split(","), default=[], metavar="NAME,...",
                         help=", ".join(kind.name for kind in CONTENDERS))
    options.add_argument("--limit", type=int, default=0, help="only so many vectors, for a quick try")
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--budget", type=float, default=0.5, help="seconds for each measurement")
    options.add_argument("--isa", default="", help="instruction set of our kernel: avx512, avx2 or plain")
    options.add_argument("--json", action="store_true", help="one line of JSON instead of tables")
    options.add_argument("--append", action="store_true", help="append what was measured to RESULTS.md")
    options.add_argument("--child", type=int, default=0, help=argparse.SUPPRESS)
    chosen = options.parse_args(arguments)
    if unknown := set(chosen.only) - {kind.name for kind in CONTENDERS}:
        options.error(f"--only: unknown: {', '.join(sorted(unknown))}")
    chosen.passed = arguments
    return chosen


def main() -> None:
    import madang

    options = parsed(sys.argv[1:])
    if options.child:
        print(json.dumps(contest(options)))
        return
    if not Path(madang.__file__).is_relative_to(ROOT / "src"):
        print("note: this measures an installed copy of madang, not src; use .venv/bin/python", file=sys.stderr)
    result = measure(options)
    if options.append:
        append(_rows(options, result))
    if options.json:
        print(json.dumps({"dataset": options.dataset, "isa": options.isa or "auto", "threads": result}))
        return
    for threads, found in result.items():
        _print(threads, found, options)


if __name__ == "__main__":
    main()
