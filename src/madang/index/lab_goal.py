"""From measured points to a recommendation: goals such as "recall >= 0.95, least memory", and who is dominated.

A goal is a list: any number of limits (`recall >= 0.95`, `time <= 200 us`, `p95 <= 1 ms`, `memory <= 50 MB`,
`build <= 10 s`) and one wish (`least memory`, `fastest`, `quickest build` or `best recall`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from madang.base.errors import InvalidInput
from madang.index.lab import Point
from madang.index.lab_grid import python

DEFAULT = "recall >= 0.95, least memory"
WISHES = {"least memory": "search_bytes", "fastest": "median_us", "quickest build": "build_s",
          "best recall": "recall_low"}
_FIELDS = {"recall": "recall_low", "time": "median_us", "p95": "p95_us", "memory": "search_bytes", "build": "build_s"}
_UNITS = {"recall": {"": 1.0, "%": 0.01}, "time": {"us": 1.0, "µs": 1.0, "ms": 1e3, "s": 1e6},
          "memory": {"kb": 1e3, "mb": 1e6, "gb": 1e9}, "build": {"ms": 1e-3, "s": 1.0, "min": 60.0}}
_UNITS["p95"] = _UNITS["time"]
_EXAMPLE = f'For example "{DEFAULT}", or "recall >= 0.99, memory <= 50 MB, fastest".'
_LIMIT = re.compile(r"(\w+)\s*(<=|>=|<|>|=)\s*([0-9.]+)\s*([a-zµ%]*)")
_EQUAL = 0.05        # what differs by less counts as equal: a measurement is no better than that


@dataclass(frozen=True, slots=True)
class Limit:
    """A field of a point and the value that it must reach (recall) or stay within (everything else)."""

    field: str
    value: float         # recall as a share, time in microseconds, memory in bytes, build in seconds
    text: str

    def miss(self, point: Point) -> float:
        """How far a point is from it, 0 where it keeps it: 1 is twice the allowed error, time, memory."""
        value = float(getattr(point, self.field))
        if self.field == "recall_low":
            return max(0.0, (self.value - value) / max(1 - self.value, 0.01))
        return max(0.0, value / self.value - 1)


@dataclass(frozen=True, slots=True)
class Goal:
    """Limits to keep, and what to prefer among the points that keep them."""

    text: str
    limits: tuple[Limit, ...]
    wish: str


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The best point for a goal; where none keeps its limits (`reached` is False), the one that comes closest."""

    goal: Goal
    reached: bool
    point: Point
    missed: tuple[str, ...]        # the limits that the point does not keep

    @property
    def line(self) -> str:
        """The Python argument to copy."""
        return f"index={python(self.point.build, self.point.breadth)}"


def parse(text: str) -> Goal:
    """Read a goal. Raises InvalidInput that names the part that is not understood."""
    limits, wishes = [], []
    for part in (each.strip() for each in text.lower().split(",")):
        if part in WISHES:
            wishes.append(part)
        elif found := _LIMIT.fullmatch(part):
            limits.append(_limit(part, *found.groups()))
        else:
            raise InvalidInput(f"goal part {part!r} is not understood.",
                               remedy=f"Write limits on {', '.join(_FIELDS)}, and one of {', '.join(WISHES)}. "
                                      f"{_EXAMPLE}")
    if len(wishes) != 1:
        said = "none" if not wishes else " and ".join(wishes)
        raise InvalidInput(f"goal {text!r} must say once what to prefer, it says {said}.",
                           remedy=f"Give one of {', '.join(WISHES)}. {_EXAMPLE}")
    return Goal(text, tuple(limits), wishes[0])


def _limit(part: str, name: str, sign: str, number: str, unit: str) -> Limit:
    if name not in _FIELDS:
        raise InvalidInput(f"goal field {name!r} is unknown.", remedy=f"Choose among {', '.join(_FIELDS)}. {_EXAMPLE}")
    wanted = ">=" if name == "recall" else "<="
    if sign != wanted:
        raise InvalidInput(f"goal part {part!r} bounds {name} with {sign}.", remedy=f"Write {name} {wanted} ... .")
    if unit not in _UNITS[name]:
        known = ", ".join(each or "none" for each in _UNITS[name])
        raise InvalidInput(f"goal part {part!r} has the unit {unit or 'none'!r}.", remedy=f"Units of {name}: {known}.")
    try:
        value = float(number) * _UNITS[name][unit]
    except ValueError:
        raise InvalidInput(f"goal part {part!r} has no number that can be read.", remedy=_EXAMPLE) from None
    if value <= 0 or (name == "recall" and value > 1):
        bounds = "above 0 and at most 1" if name == "recall" else "above 0"
        raise InvalidInput(f"goal part {part!r} must have a number {bounds}.", remedy=_EXAMPLE)
    return Limit(_FIELDS[name], value, part)


def recommend(points: Iterable[Point], goal: Goal) -> Recommendation:
    """The point that keeps all limits and fulfils the wish best, among those with the most vectors.

    Of recall, the lower end of the interval counts: a mean that just reaches a limit misses it half of the time. Points
    within 5 % of the best are equal for the wish; among them the fastest wins, for "fastest" the one with least memory.
    """
    everyone = list(points)
    largest = max(point.size for point in everyone)
    there = [point for point in everyone if point.size == largest]
    keeping = [point for point in there if not any(limit.miss(point) for limit in goal.limits)]
    if not keeping:
        worst = {id(point): max(limit.miss(point) for limit in goal.limits) for point in there}
        point = min(there, key=lambda each: (worst[id(each)], each.median_us))
        return Recommendation(goal, False, point, tuple(limit.text for limit in goal.limits if limit.miss(point)))
    if goal.wish == "best recall":
        best = max(point.recall_low for point in keeping)
        equal = [point for point in keeping if 1 - point.recall_low <= (1 - best) * (1 + _EQUAL) + 1e-9]
    else:
        field = WISHES[goal.wish]
        least = min(float(getattr(point, field)) for point in keeping)
        equal = [point for point in keeping if float(getattr(point, field)) <= least * (1 + _EQUAL)]
    second = "search_bytes" if goal.wish == "fastest" else "median_us"
    return Recommendation(goal, True, min(equal, key=lambda each: (getattr(each, second), each.build_s)), ())


def pareto(points: Sequence[Point]) -> list[Point]:
    """The points that no other of the same size beats: at least as good in recall, time and memory, better in one.

    Memory is compared in steps of a tenth: a few bytes less for the links of another build do not make it a choice.
    """
    return [point for point in points if not any(_beats(other, point) for other in points)]


def _beats(one: Point, other: Point) -> bool:
    if one.size != other.size:
        return False
    mine = (-one.recall, one.median_us, round(math.log(one.search_bytes + 1, 1.1)))
    yours = (-other.recall, other.median_us, round(math.log(other.search_bytes + 1, 1.1)))
    return mine != yours and all(a <= b for a, b in zip(mine, yours, strict=True))
