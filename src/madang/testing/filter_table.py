"""What metadata filters mean, as one table: a filter, one record's metadata, and whether it matches.

Every evaluator of filters and every compiler of filters to another engine's language is driven by `ROWS`, and every
door that takes filters by `REFUSED`. Tags mark the rows where engines are known to differ, so that a back-end can name
what it does not promise instead of leaving rows out silently.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from madang.base.records import Metadata

TAGS = {
    "absent": "negations match a record that lacks the field; engines with SQL's null do not",
    "bool": "true is not the number 1",
    "empty": "the empty string and the empty list are values, and the field exists",
    "exact": "whole numbers above 2**53 differ from their neighbours; engines that keep numbers as doubles merge them",
    "list": "a list of strings equals each string it contains",
    "mixed": "one field holds different types in different records; engines with typed columns refuse that",
    "tiny": "the smallest floats are not zero",
    "unicode": "strings are compared code point by code point, without normalisation",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One verdict. `tags` are keys of `TAGS`."""

    name: str
    filter: dict[str, Any]
    metadata: Metadata
    verdict: bool
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Refusal:
    """A filter that must be refused, and what the message must name."""

    name: str
    filter: Any
    words: tuple[str, ...]


NFC, NFD = "\uac00", "\u1100\u1161"      # both are the syllable 가
BIG = 2**53

# The grids: a stored value for each row, an operand for each column, 1 where they match.

_ABSENT = object()
_STORED: dict[str, tuple[Any, tuple[str, ...]]] = {
    "'a'": ("a", ()), "''": ("", ("empty",)), "'1'": ("1", ("mixed",)), "'true'": ("true", ("mixed",)),
    "1": (1, ()), "1.0": (1.0, ()), "0": (0, ()), "-2.5": (-2.5, ()), "true": (True, ()), "false": (False, ()),
    "[a,b]": (["a", "b"], ("list",)), "[1]": (["1"], ("list", "mixed")), "[]": ([], ("list", "empty")),
    "['']": ([""], ("list", "empty")), "absent": (_ABSENT, ()),
}
_OPERANDS: dict[str, Any] = {"'a'": "a", "''": "", "'1'": "1", "1": 1, "1.0": 1.0, "0": 0, "-2.5": -2.5, "true": True,
                             "false": False}
_EQUAL = """
           'a'   ''  '1'    1  1.0    0 -2.5 true false
'a'          1    0    0    0    0    0    0    0    0
''           0    1    0    0    0    0    0    0    0
'1'          0    0    1    0    0    0    0    0    0
'true'       0    0    0    0    0    0    0    0    0
1            0    0    0    1    1    0    0    0    0
1.0          0    0    0    1    1    0    0    0    0
0            0    0    0    0    0    1    0    0    0
-2.5         0    0    0    0    0    0    1    0    0
true         0    0    0    0    0    0    0    1    0
false        0    0    0    0    0    0    0    0    1
[a,b]        1    0    0    0    0    0    0    0    0
[1]          0    0    1    0    0    0    0    0    0
[]           0    0    0    0    0    0    0    0    0
['']         0    1    0    0    0    0    0    0    0
absent       0    0    0    0    0    0    0    0    0
"""
# An operand of each comparison with the number 0.5, then with 1, then with -2.5.
_COMPARED = """
         $gt:0.5 $gte:0.5 $lt:0.5 $lte:0.5 $gt:1 $gte:1 $lt:1 $lte:1 $gt:-2.5 $gte:-2.5 $lt:-2.5 $lte:-2.5
'a'            0        0       0        0     0      0     0      0        0         0        0         0
''             0        0       0        0     0      0     0      0        0         0        0         0
'1'            0        0       0        0     0      0     0      0        0         0        0         0
'true'         0        0       0        0     0      0     0      0        0         0        0         0
1              1        1       0        0     0      1     0      1        1         1        0         0
1.0            1        1       0        0     0      1     0      1        1         1        0         0
0              0        0       1        1     0      0     1      1        1         1        0         0
-2.5           0        0       1        1     0      0     1      1        0         1        0         1
true           0        0       0        0     0      0     0      0        0         0        0         0
false          0        0       0        0     0      0     0      0        0         0        0         0
[a,b]          0        0       0        0     0      0     0      0        0         0        0         0
[1]            0        0       0        0     0      0     0      0        0         0        0         0
[]             0        0       0        0     0      0     0      0        0         0        0         0
['']           0        0       0        0     0      0     0      0        0         0        0         0
absent         0        0       0        0     0      0     0      0        0         0        0         0
"""


def _cells(grid: str) -> Iterator[tuple[str, str, bool]]:
    """The name of the row, the name of the column and the verdict, of each cell."""
    head, *lines = (line.split() for line in grid.strip().splitlines())
    for stored, *verdicts in lines:
        for column, verdict in zip(head, verdicts, strict=True):
            yield stored, column, verdict == "1"


def _metadata(stored: str) -> Metadata:
    value, _ = _STORED[stored]
    return {"other": "x"} if value is _ABSENT else {"f": value, "other": "x"}


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    return "number" if isinstance(value, int | float) else "string"


def _tags(stored: str, *operands: Any, negated: bool = False) -> tuple[str, ...]:
    value, tags = _STORED[stored]
    found = set(tags)
    if value is _ABSENT:
        return ("absent",) if negated else ()
    scalar = "" if isinstance(value, list) else value
    kinds = {_kind(scalar), *map(_kind, operands)}
    if len(kinds) > 1:
        found.add("bool" if kinds == {"bool", "number"} else "mixed")
    if "" in operands:
        found.add("empty")
    return tuple(sorted(found))


def _equalities() -> Iterator[Row]:
    for stored, column, same in _cells(_EQUAL):
        operand, record = _OPERANDS[column], _metadata(stored)
        plain, negated = _tags(stored, operand), _tags(stored, operand, negated=True)
        title = f"of {stored} and {column}"
        yield Row(f"implicit $eq {title}", {"f": operand}, record, same, plain)
        yield Row(f"$eq {title}", {"f": {"$eq": operand}}, record, same, plain)
        yield Row(f"$ne {title}", {"f": {"$ne": operand}}, record, not same, negated)
        yield Row(f"$in {title}", {"f": {"$in": [operand]}}, record, same, plain)
        yield Row(f"$nin {title}", {"f": {"$nin": [operand]}}, record, not same, negated)


def _comparisons() -> Iterator[Row]:
    for stored, column, verdict in _cells(_COMPARED):
        name, bound = column.split(":")
        number = float(bound) if "." in bound else int(bound)
        yield Row(f"{name} of {stored} and {bound}", {"f": {name: number}}, _metadata(stored), verdict,
                  _tags(stored, number))


def _existences() -> Iterator[Row]:
    for stored, (value, tags) in _STORED.items():
        there = value is not _ABSENT
        yield Row(f"$exists true of {stored}", {"f": {"$exists": True}}, _metadata(stored), there, tags)
        yield Row(f"$exists false of {stored}", {"f": {"$exists": False}}, _metadata(stored), not there, tags)


_BOOK: Metadata = {"genre": "drama", "year": 2020, "rating": 4.5, "out": True, "tags": ["a", "b"]}
_DEEP: dict[str, Any] = {"$or": [{"$and": [{"year": {"$gte": 2020}}, {"out": True}]}, {"genre": "x"}],
                         "rating": {"$gt": 4}}

_SETS = [
    Row("$in of none", {"genre": {"$in": []}}, _BOOK, False),
    Row("$nin of none", {"genre": {"$nin": []}}, _BOOK, True),
    Row("$nin of none, absent", {"missing": {"$nin": []}}, _BOOK, True, ("absent",)),
    Row("$in, the second", {"genre": {"$in": ["comedy", "drama"]}}, _BOOK, True),
    Row("$in, neither", {"genre": {"$in": ["comedy", "horror"]}}, _BOOK, False),
    Row("$nin, the second", {"genre": {"$nin": ["comedy", "drama"]}}, _BOOK, False),
    Row("$nin, neither", {"genre": {"$nin": ["comedy", "horror"]}}, _BOOK, True),
    Row("$in of numbers", {"year": {"$in": [2019, 2020]}}, _BOOK, True),
    Row("$in of a number twice", {"year": {"$in": [2020, 2020.0]}}, _BOOK, True),
    Row("$in of booleans", {"out": {"$in": [False, True]}}, _BOOK, True),
    Row("$in of mixed types finds a string", {"genre": {"$in": [1, True, "drama"]}}, _BOOK, True, ("mixed",)),
    Row("$in of mixed types finds a number", {"year": {"$in": ["2020", True, 2020]}}, _BOOK, True, ("mixed",)),
    Row("$in of mixed types finds a boolean", {"out": {"$in": ["true", 1, True]}}, _BOOK, True, ("mixed",)),
    Row("$in of mixed types finds nothing", {"out": {"$in": ["true", 1, False]}}, _BOOK, False, ("mixed",)),
    Row("$nin of mixed types", {"year": {"$nin": ["2020", True]}}, _BOOK, True, ("mixed",)),
    Row("$in of a list, one of two", {"tags": {"$in": ["z", "b"]}}, _BOOK, True, ("list",)),
    Row("$in of a list, none", {"tags": {"$in": ["z", "y"]}}, _BOOK, False, ("list",)),
    Row("$nin of a list, one of two", {"tags": {"$nin": ["z", "b"]}}, _BOOK, False, ("list",)),
    Row("$nin of a list, none", {"tags": {"$nin": ["z", "y"]}}, _BOOK, True, ("list",)),
    Row("list, no part of a string", {"tags": "ab"}, _BOOK, False, ("list",)),
    Row("list with one string twice", {"tags": "a"}, {"tags": ["a", "a"]}, True, ("list",)),
    Row("list, both by $and", {"$and": [{"tags": "a"}, {"tags": "b"}]}, _BOOK, True, ("list",)),
    Row("list, $eq and $ne at once", {"tags": {"$eq": "a", "$ne": "b"}}, _BOOK, False, ("list",)),
    Row("$gt of a list that holds digits", {"tags": {"$gt": 0}}, {"tags": ["1"]}, False, ("list", "mixed")),
]

_NUMBERS = [
    Row("2**53 + 1 is itself", {"n": BIG + 1}, {"n": BIG + 1}, True, ("exact",)),
    Row("2**53 + 1 is not 2**53", {"n": BIG}, {"n": BIG + 1}, False, ("exact",)),
    Row("2**53 is not 2**53 + 1", {"n": BIG + 1}, {"n": BIG}, False, ("exact",)),
    Row("2**53 + 1 is not the float 2**53", {"n": float(BIG)}, {"n": BIG + 1}, False, ("exact",)),
    Row("the float 2**53 is not 2**53 + 1", {"n": BIG + 1}, {"n": float(BIG)}, False, ("exact",)),
    Row("the float 2**53 is 2**53", {"n": BIG}, {"n": float(BIG)}, True),
    Row("2**53 + 1 > 2**53", {"n": {"$gt": BIG}}, {"n": BIG + 1}, True, ("exact",)),
    Row("2**53 + 1 > the float 2**53", {"n": {"$gt": float(BIG)}}, {"n": BIG + 1}, True, ("exact",)),
    Row("the float 2**53 < 2**53 + 1", {"n": {"$lt": BIG + 1}}, {"n": float(BIG)}, True, ("exact",)),
    Row("the float 2**53 is not >= 2**53 + 1", {"n": {"$gte": BIG + 1}}, {"n": float(BIG)}, False, ("exact",)),
    Row("-2**53 - 1 < -2**53", {"n": {"$lt": -BIG}}, {"n": -BIG - 1}, True, ("exact",)),
    Row("$in of neighbours above 2**53", {"n": {"$in": [BIG, BIG + 2]}}, {"n": BIG + 1}, False, ("exact",)),
    Row("$ne of neighbours above 2**53", {"n": {"$ne": BIG}}, {"n": BIG + 1}, True, ("exact",)),
    Row("2**60 and its float", {"n": float(2**60)}, {"n": 2**60}, True),
    Row("the largest whole number", {"n": 2**63 - 1}, {"n": 2**63 - 1}, True, ("exact",)),
    Row("the largest but one", {"n": 2**63 - 1}, {"n": 2**63 - 2}, False, ("exact",)),
    Row("the largest < the float 2**63", {"n": {"$lt": float(2**63)}}, {"n": 2**63 - 1}, True, ("exact",)),
    Row("the largest is not the float 2**63", {"n": float(2**63)}, {"n": 2**63 - 1}, False, ("exact",)),
    Row("the smallest whole number", {"n": {"$lte": -2**63}}, {"n": -2**63}, True, ("exact",)),
    Row("the smallest and its float", {"n": float(-2**63)}, {"n": -2**63}, True),
    Row("beyond all whole numbers", {"n": {"$lt": 1e300}}, {"n": 2**63 - 1}, True),
    Row("a float beyond all whole numbers", {"n": {"$gt": 2**63 - 1}}, {"n": 1e300}, True),
    Row("the largest float", {"n": {"$gte": 1.7976931348623157e308}}, {"n": 1.7976931348623157e308}, True),
    Row("negative zero is zero", {"n": 0}, {"n": -0.0}, True),
    Row("zero is negative zero", {"n": -0.0}, {"n": 0}, True),
    Row("negative zero is not below zero", {"n": {"$lt": 0}}, {"n": -0.0}, False),
    Row("negative zero is at least zero", {"n": {"$gte": 0.0}}, {"n": -0.0}, True),
    Row("the smallest float is above zero", {"n": {"$gt": 0}}, {"n": 5e-324}, True, ("tiny",)),
    Row("the smallest float is not zero", {"n": 0}, {"n": 5e-324}, False, ("tiny",)),
    Row("the smallest float is itself", {"n": 5e-324}, {"n": 5e-324}, True, ("tiny",)),
    Row("two of the smallest floats", {"n": {"$lt": 1e-323}}, {"n": 5e-324}, True, ("tiny",)),
    Row("0.1 + 0.2 is not 0.3", {"n": 0.3}, {"n": 0.1 + 0.2}, False),
    Row("0.1 + 0.2 > 0.3", {"n": {"$gt": 0.3}}, {"n": 0.1 + 0.2}, True),
    Row("not rounded to 32 bits", {"n": 16777216}, {"n": 16777217}, False),
    Row("a range", {"n": {"$gte": 1, "$lt": 3}}, {"n": 2}, True),
    Row("a range, its open end", {"n": {"$gte": 1, "$lt": 3}}, {"n": 3}, False),
    Row("a range, its closed end", {"n": {"$gte": 1, "$lt": 3}}, {"n": 1}, True),
    Row("a range of nothing", {"n": {"$gt": 3, "$lt": 1}}, {"n": 2}, False),
    Row("a range of one", {"n": {"$gte": 2, "$lte": 2}}, {"n": 2.0}, True),
    Row("three bounds", {"n": {"$gt": 0, "$gte": 1, "$lt": 9}}, {"n": 0.5}, False),
    Row("a range and $ne", {"n": {"$gte": 1, "$ne": 2}}, {"n": 2}, False),
]

_STRINGS = [
    Row("case counts", {"s": "Drama"}, {"s": "drama"}, False),
    Row("spaces count", {"s": "a "}, {"s": "a"}, False),
    Row("no part of a string", {"s": "dra"}, {"s": "drama"}, False),
    Row("no pattern", {"s": "d%"}, {"s": "drama"}, False),
    Row("a quote", {"s": "it's \"so\""}, {"s": "it's \"so\""}, True),
    Row("a backslash", {"s": "a\\"}, {"s": "a\\"}, True),
    Row("a line break", {"s": "a\nb"}, {"s": "a\nb"}, True),
    Row("a dollar", {"s": "$eq"}, {"s": "$eq"}, True),
    Row("Korean", {"s": "마당"}, {"s": "마당"}, True, ("unicode",)),
    Row("Korean, another", {"s": "마담"}, {"s": "마당"}, False, ("unicode",)),
    Row("Korean in $in", {"s": {"$in": ["뜰", "마당"]}}, {"s": "마당"}, True, ("unicode",)),
    Row("Korean in a list", {"s": "마당"}, {"s": ["뜰", "마당"]}, True, ("list", "unicode")),
    Row("NFC is not NFD", {"s": NFC}, {"s": NFD}, False, ("unicode",)),
    Row("NFD is not NFC", {"s": {"$ne": NFD}}, {"s": NFC}, True, ("unicode",)),
    Row("NFD is NFD", {"s": NFD}, {"s": NFD}, True, ("unicode",)),
    Row("NFD in a list of NFC", {"s": NFD}, {"s": [NFC]}, False, ("list", "unicode")),
    Row("beyond the basic plane", {"s": "🏡𐍈"}, {"s": "🏡𐍈"}, True, ("unicode",)),
    Row("a joined emoji is not its first part", {"s": "👩"}, {"s": "👩‍👧"}, False, ("unicode",)),
    Row("ß is not ss", {"s": "strasse"}, {"s": "straße"}, False, ("unicode",)),
    Row("İ is not i", {"s": "i"}, {"s": "İ"}, False, ("unicode",)),
    Row("a field's name in Korean", {"언어": "ko"}, {"언어": "ko"}, True, ("unicode",)),
    Row("a field's name in NFD", {NFD: "x"}, {NFC: "x"}, False, ("unicode",)),
    Row("a field's name with a dot", {"a.b": 1}, {"a.b": 1}, True),
    Row("a field's name with a quote", {"it's \"f\"": 1}, {"it's \"f\"": 1}, True),
    Row("a field's name with a space", {"a b": 1}, {"a b": 1}, True),
    Row("a long string", {"s": "가" * 3000}, {"s": "가" * 3000}, True, ("unicode",)),
    Row("a long string, its end", {"s": "가" * 2999 + "나"}, {"s": "가" * 3000}, False, ("unicode",)),
]

_COMBINED = [
    Row("nothing asked", {}, _BOOK, True),
    Row("nothing asked, nothing there", {}, {}, True),
    Row("no metadata", {"genre": "drama"}, {}, False),
    Row("implicit $and", {"year": 2020, "genre": "drama"}, _BOOK, True),
    Row("implicit $and, one fails", {"year": 2020, "genre": "comedy"}, _BOOK, False),
    Row("$and", {"$and": [{"year": 2020}, {"genre": "drama"}]}, _BOOK, True),
    Row("$and, one fails", {"$and": [{"year": 2020}, {"genre": "comedy"}]}, _BOOK, False),
    Row("$and of one", {"$and": [{"year": 2020}]}, _BOOK, True),
    Row("$and of an empty filter", {"$and": [{}]}, _BOOK, True),
    Row("$or, the first", {"$or": [{"year": 2020}, {"genre": "comedy"}]}, _BOOK, True),
    Row("$or, the second", {"$or": [{"year": 1}, {"genre": "drama"}]}, _BOOK, True),
    Row("$or, neither", {"$or": [{"year": 1}, {"genre": "comedy"}]}, _BOOK, False),
    Row("$or of an empty filter", {"$or": [{"year": 1}, {}]}, _BOOK, True),
    Row("$or beside a field", {"$or": [{"year": 2020}, {"year": 2021}], "genre": "comedy"}, _BOOK, False),
    Row("$or of several keys", {"$or": [{"year": 2020, "genre": "comedy"}, {"rating": 1}]}, _BOOK, False),
    Row("$and beside $or", {"$and": [{"year": 2020}], "$or": [{"rating": 4.5}, {"rating": 1}]}, _BOOK, True),
    Row("$or of $and", {"$or": [{"$and": [{"year": 1}, {"out": True}]}, {"rating": {"$lt": 5}}]}, _BOOK, True),
    Row("$and of $or", {"$and": [{"$or": [{"year": 1}, {"out": True}]}, {"$or": [{"rating": 1}]}]}, _BOOK, False),
    Row("three levels", _DEEP, _BOOK, True),
    Row("three levels, one fails", _DEEP, {**_BOOK, "rating": 4}, False),
    Row("a range split over $and", {"$and": [{"year": {"$gt": 2019}}, {"year": {"$lt": 2021}}]}, _BOOK, True),
    Row("a range split over $or", {"$or": [{"year": {"$gt": 2020}}, {"year": {"$lt": 2020}}]}, _BOOK, False),
    Row("$ne of two values", {"$and": [{"genre": {"$ne": "x"}}, {"genre": {"$ne": "drama"}}]}, _BOOK, False),
    Row("$or of $ne, absent", {"$or": [{"missing": {"$ne": 1}}, {"year": 1}]}, _BOOK, True, ("absent",)),
    Row("$exists and $ne", {"missing": {"$exists": True, "$ne": 1}}, _BOOK, False),
    Row("$exists false or a bound", {"$or": [{"missing": {"$exists": False}}, {"missing": {"$gt": 1}}]}, _BOOK, True),
]

ROWS: tuple[Row, ...] = (*_equalities(), *_comparisons(), *_existences(), *_SETS, *_NUMBERS, *_STRINGS, *_COMBINED)


def _nested(depth: int) -> dict[str, Any]:
    tree: dict[str, Any] = {"a": 1}
    for _ in range(depth):
        tree = {"$or": [tree, {"b": 1}]}
    return tree


REFUSED: tuple[Refusal, ...] = (
    Refusal("text", "year > 3", ("must be an object", "year > 3")),
    Refusal("a list", [{"year": 3}], ("must be an object",)),
    Refusal("null", None, ("must be an object", "None")),
    Refusal("a key that is a number", {3: 1}, ("key 3",)),
    Refusal("an empty key", {"": 1}, ("key ''",)),
    Refusal("an unknown operator", {"year": {"$near": 1}}, ("'year'", "unknown operator '$near'", "$gte")),
    Refusal("an operator without a dollar", {"year": {"gt": 1}}, ("'year'", "unknown operator 'gt'")),
    Refusal("an operator that is a number", {"year": {1: 1}}, ("'year'", "unknown operator 1")),
    Refusal("$not", {"$not": {"year": 1}}, ("unknown operator '$not'",)),
    Refusal("an operator without a field", {"$gt": 3}, ("$gt has no field",)),
    Refusal("$and within a field", {"year": {"$and": [1]}}, ("'year'", "'$and'")),
    Refusal("a field's empty condition", {"year": {}}, ("'year' is empty",)),
    Refusal("null as a value", {"year": None}, ("'year'", "$eq", "None", "$exists")),
    Refusal("$eq of null", {"year": {"$eq": None}}, ("'year'", "$eq", "None")),
    Refusal("$ne of null", {"year": {"$ne": None}}, ("'year'", "$ne", "None")),
    Refusal("a list as a value", {"year": ["a"]}, ("'year'", "use $in")),
    Refusal("$ne of a list", {"year": {"$ne": ["a"]}}, ("'year'", "$ne", "use $in")),
    Refusal("$eq of an object", {"year": {"$eq": {"a": 1}}}, ("'year'", "$eq")),
    *(Refusal(f"{name} of {title}", {"year": {name: operand}}, ("'year'", f"{name} needs a number", shown))
      for name in ("$gt", "$gte", "$lt", "$lte")
      for title, operand, shown in (("a string", "2020", "'2020'"), ("a boolean", True, "True"), ("null", None, "None"),
                                    ("a list", [1], "[1]"), ("no number", float("nan"), "nan"),
                                    ("infinity", float("inf"), "inf"), ("2**63", 2**63, "2**63 - 1"))),
    Refusal("$eq of no number", {"year": float("nan")}, ("'year'", "nan", "finite")),
    Refusal("$eq of infinity", {"year": float("-inf")}, ("'year'", "-inf", "finite")),
    Refusal("$eq of 2**63", {"year": 2**63}, ("'year'", "9223372036854775808", "2**63 - 1")),
    Refusal("$eq below -2**63", {"year": -2**63 - 1}, ("'year'", "-9223372036854775809", "-2**63")),
    *(Refusal(f"{name} of {title}", {"year": {name: operand}}, ("'year'", f"{name} needs a list", shown))
      for name in ("$in", "$nin")
      for title, operand, shown in (("a string", "abc", "'abc'"), ("a number", 1, "1"), ("null", None, "None"),
                                    ("an object", {"a": 1}, "{'a': 1}"), ("a list of null", ["a", None], "None"),
                                    ("a list of lists", [["a"]], "['a']"), ("no number", [float("nan")], "nan"),
                                    ("2**63", [1, 2**63], "9223372036854775808"))),
    Refusal("$in of too many", {"year": {"$in": list(range(10_001))}}, ("'year'", "$in", "10,001", "10,000")),
    Refusal("too many conditions", {"$or": [{"year": n} for n in range(10_001)]}, ("10,001", "10,000", "$in")),
    Refusal("$exists of a number", {"year": {"$exists": 1}}, ("'year'", "$exists needs true or false", "1")),
    Refusal("$exists of a string", {"year": {"$exists": "true"}}, ("'year'", "$exists", "'true'")),
    Refusal("$exists of null", {"year": {"$exists": None}}, ("'year'", "$exists", "None")),
    Refusal("$and of nothing", {"$and": []}, ("$and needs a non-empty list",)),
    Refusal("$or of an object", {"$or": {"a": 1}}, ("$or needs a non-empty list", "{'a': 1}")),
    Refusal("$or of text", {"$or": "abc"}, ("$or needs a non-empty list", "'abc'")),
    Refusal("$or of values", {"$or": [1]}, ("must be an object", "1")),
    Refusal("$and of null", {"$and": [{"a": 1}, None]}, ("must be an object", "None")),
    Refusal("a lone surrogate", {"s": "a\ud800"}, ("'s'", "$eq", "lone surrogate")),
    Refusal("a lone surrogate in $in", {"s": {"$in": ["a", "\udfff"]}}, ("'s'", "$in", "lone surrogate")),
    Refusal("a field with a lone surrogate", {"a\ud800": 1}, ("key", "lone surrogate")),
    Refusal("33 levels", _nested(33), ("nested deeper than 32",)),
    Refusal("900 levels", _nested(900), ("nested deeper than 32",)),
)
