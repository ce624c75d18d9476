"""What benchmarks/store.py measured, as lines: medians, ratios, tables."""

from __future__ import annotations

from typing import Any

import numpy as np

CLOCKS = ("wall", "cpu")
RIVAL = "chroma"        # whom inserts and the rest are compared with by name


def spread(values: list[float]) -> list[float]:
    """First quartile, median, third quartile."""
    return [float(value) for value in np.quantile(values, (0.25, 0.5, 0.75))]


def summary(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """{"lines": {name: ...}, "ratios": {...}} of what `Contest` found."""
    lines = {name: {**_written(mine), **_searched(mine)} for name, mine in found.items()}
    return {"lines": lines, "ratios": _ratios(found, lines)}


def _written(mine: dict[str, Any]) -> dict[str, Any]:
    """Rates of writing, sizes in bytes, seconds to open."""
    line: dict[str, Any] = {}
    if insert := mine.get("insert"):
        steps = [insert[step] for step in ("insert", "first_answer", "finish")]
        for clock in CLOCKS:
            sums = np.cumsum([step[f"{clock}_s"] for step in steps])
            for name, seconds in zip(("insert", "searchable", "indexed"), sums.tolist(), strict=True):
                line[f"{name}_per_s_{clock}"] = insert["records"] / max(seconds, 1e-9)
        line |= {name: insert[name] for name in ("disk_bytes", "baseline_bytes", "peak_bytes", "peak_anon_bytes")}
    if opened := mine.get("open"):
        line |= {"open_s": opened["wall_s"], "open_with_imports_s": opened["with_imports_s"]}
    if delete := mine.get("delete"):
        line |= {f"delete_per_s_{clock}": delete["records"] / max(delete[f"{clock}_s"], 1e-9) for clock in CLOCKS}
    if churn := mine.get("churn"):
        line |= {"churn_recall": churn["churned"]["recall"], "churn_fresh_recall": churn["fresh"]["recall"],
                 "churn_size_x_fresh": churn["churned"]["disk_bytes"] / churn["fresh"]["disk_bytes"]}
        for clock in CLOCKS:
            line[f"churn_per_s_x_fresh_{clock}"] = _within(churn["churned"], churn["fresh"], clock)
    return line


def _searched(mine: dict[str, Any]) -> dict[str, Any]:
    """For each way to search: setting, recall, spreads of rates and latencies."""
    line: dict[str, Any] = {}
    for way, query in mine.get("query", {}).items():
        if isinstance(query, dict) and query["rounds"]:
            line[way] = {name: query[name] for name in ("setting", "reached", "recall", "strays", "judged")}
            line[way] |= {name: spread([one[name] for one in query["rounds"]]) for name in query["rounds"][0]}
    return line


def _ratios(found: dict[str, dict[str, Any]], lines: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Ours to the best peer that reaches the recall, for each way; and to one peer by name in writing.

    The best is the one with the highest median wall rate. Above 1 is better for us, also in bytes and seconds.
    """
    ours = next((name for name, mine in found.items() if mine["ours"]), None)
    if ours is None:
        return {}
    ratios: dict[str, Any] = {}
    for way in [way for way, value in lines[ours].items() if isinstance(value, dict)]:
        able = [name for name, line in lines.items() if not found[name]["ours"] and line.get(way, {}).get("reached")]
        if able:
            best = max(able, key=lambda name: lines[name][way]["wall_per_s"][1])
            ratios[way] = {"best_peer": best, "reached": lines[ours][way]["reached"], **{
                clock: _within(found[ours]["query"][way], found[best]["query"][way], clock) for clock in CLOCKS}}
    mine, other = lines[ours], lines.get(RIVAL, {})
    for name in mine:
        if name in other and (name.endswith(("_per_s_wall", "_per_s_cpu"))):
            ratios[f"{name} x {RIVAL}"] = mine[name] / other[name]
        elif name in other and name.endswith(("_bytes", "_s")) and name != "baseline_bytes":
            ratios[f"{name} x {RIVAL}"] = other[name] / mine[name]
    return ratios


def _within(mine: dict[str, Any], other: dict[str, Any], clock: str) -> list[float]:
    """Spread of the ratios within the rounds."""
    return spread([a[f"{clock}_per_s"] / b[f"{clock}_per_s"]
                   for a, b in zip(mine["rounds"], other["rounds"], strict=False)])


def told(found: dict[str, Any]) -> dict[str, str]:
    """A line of text for each contender, and one of ratios."""
    lines = {name: _told(found, name) for name in found["contenders"]}
    if found["ratios"]:
        lines["madang / best peer"] = "; ".join(
            f"{name} {_ratio(value)}" for name, value in found["ratios"].items())
    return lines


def _told(found: dict[str, Any], name: str) -> str:
    line, parts = found["lines"][name], []
    if "insert_per_s_wall" in line:
        parts.append(f"insert {line['insert_per_s_wall']:,.0f}/s ({line['insert_per_s_cpu']:,.0f} per CPU s), indexed "
                     f"{line['indexed_per_s_wall']:,.0f}/s, disk {line['disk_bytes'] / 1e6:,.0f} MB, peak "
                     f"{line['peak_bytes'] / 1e6:,.0f} MB (of it anonymous {line['peak_anon_bytes'] / 1e6:,.0f}; baseline "
                     f"{line['baseline_bytes'] / 1e6:,.0f})")
    if "open_s" in line:
        parts.append(f"open {line['open_s'] * 1000:,.0f} ms (with imports {line['open_with_imports_s'] * 1000:,.0f})")
    for way, value in line.items():
        if isinstance(value, dict):
            parts.append(f"{way} ({value['setting']}) recall {value['recall']:.4f}, {value['wall_per_s'][1]:,.0f}/s, "
                         f"{value['cpu_per_s'][1]:,.0f} per CPU s, p50 {value['p50_ms'][1]:.2f} ms, "
                         f"p95 {value['p95_ms'][1]:.2f} ms")
    if "delete_per_s_wall" in line:
        parts.append(f"delete {line['delete_per_s_wall']:,.0f}/s, recall {found['contenders'][name]['delete']['recall']:.4f}")
    if "churn_recall" in line:
        parts.append(f"churn recall {line['churn_recall']:.4f} (fresh {line['churn_fresh_recall']:.4f}), "
                     f"{_rates(line['churn_per_s_x_fresh_wall'])} of its speed, {line['churn_size_x_fresh']:.2f} of its size")
    return "; ".join(parts + [f"failed: {part}: {why}" for part, why in found["contenders"][name]["failed"].items()])


def _rates(values: list[float]) -> str:
    low, middle, high = values
    form = ",.0f" if middle >= 10 else ".2f"
    return f"{middle:{form}} [{low:{form}}-{high:{form}}]"


def _ratio(value: Any) -> str:
    if not isinstance(value, dict):
        return f"{value:.2f}"
    missed = "" if value["reached"] else " (ours misses the recall)"
    return f"x {value['best_peer']} {_rates(value['wall'])} wall, {_rates(value['cpu'])} CPU{missed}"


def show(found: dict[str, Any]) -> None:
    """Tables: writing, searching, changing, ratios, failures."""
    print(f"{found['dataset']}: {found['n']:,} x {found['dim']}, cosine, recall@10 >= {found['target']}, {found['cores']} "
          f"cores, {found['rounds']} rounds; medians [quartiles]")
    lines = found["lines"]
    print(f"\n{'writing':16}{'insert/s':>10}{'per CPU s':>10}{'searchable':>11}{'indexed/s':>10}{'per CPU s':>10}"
          f"{'disk MB':>9}{'peak MB':>9}{'anon MB':>9}{'base MB':>9}{'open ms':>9}{'+imports':>9}{'delete/s':>10}  durable")
    for name, line in lines.items():
        if "insert_per_s_wall" in line:
            rates = [line[key] for key in ("insert_per_s_wall", "insert_per_s_cpu", "searchable_per_s_wall",
                                           "indexed_per_s_wall", "indexed_per_s_cpu")]
            sizes = [line[key] / 1e6 for key in ("disk_bytes", "peak_bytes", "peak_anon_bytes", "baseline_bytes")]
            times = [line[key] * 1000 if key in line else float("nan") for key in ("open_s", "open_with_imports_s")]
            cells = [f"{value:{width},.0f}" for value, width in zip(
                [*rates, *sizes, *times, line.get("delete_per_s_wall", float("nan"))],
                (10, 10, 11, 10, 10, 9, 9, 9, 9, 9, 9, 10), strict=True)]
            print(f"{name:16}{''.join(cells)}  {found['contenders'][name]['durable']}")
    _show_searches(found)
    changed = {name: line for name, line in lines.items() if "churn_recall" in line}
    if changed:
        print(f"\n{'churn':16}{'recall':>8}{'fresh':>8}{'size':>7}  speed of fresh, wall")
    for name, line in changed.items():
        print(f"{name:16}{line['churn_recall']:8.4f}{line['churn_fresh_recall']:8.4f}{line['churn_size_x_fresh']:7.2f}  "
              f"{_rates(line['churn_per_s_x_fresh_wall'])}")
    print("\nmadang / peer, above 1 is better for madang")
    for name, value in found["ratios"].items():
        print(f"  {name:36}{_ratio(value)}")
    for name, one in found["contenders"].items():
        for part, why in one["failed"].items():
            print(f"failed: {name}, {part}: {why}")


def _show_searches(found: dict[str, Any]) -> None:
    """One block for each way; a star: the recall was not reached on the tuning queries."""
    lines = found["lines"]
    for way in dict.fromkeys(key for line in lines.values() for key, value in line.items() if isinstance(value, dict)):
        print(f"\n{way:16}{'setting':>18}{'recall':>8} {'strays':>7}  {'q/s':24}{'q per CPU s':24}{'p50 ms':>9}{'p95 ms':>9}")
        able = [(name, line[way]) for name, line in lines.items() if way in line]
        for name, value in sorted(able, key=lambda pair: (not pair[1]["reached"], -pair[1]["wall_per_s"][1])):
            setting = str(value["setting"]).replace(" ", "")
            print(f"{name:16}{setting:>18}{value['recall']:8.4f}{' ' if value['reached'] else '*'}{value['strays']:7}  "
                  f"{_rates(value['wall_per_s']):24}{_rates(value['cpu_per_s']):24}{value['p50_ms'][1]:9.3f}{value['p95_ms'][1]:9.3f}")
