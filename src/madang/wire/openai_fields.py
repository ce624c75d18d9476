"""Reading the fields of a JSON object, each refused with its name where it is not what it must be.

null is absent, as everywhere in OpenAI's protocol.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from madang.base.errors import InvalidInput

MOST_DEPTH = 64      # of a JSON schema or of metadata: deeper ones are mistakes or attacks


class Wrong(InvalidInput):
    """A field of a request. `param` is its path, `code` OpenAI's word for what is wrong with it, where it has one."""

    def __init__(self, message: str, *, param: str = "", code: str = "", remedy: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.param, self.told_code = param, code


class Fields:
    """An object of a request, at the path `where`."""

    def __init__(self, value: object, where: str = "") -> None:
        """Raises `Wrong` where it is no object."""
        if not isinstance(value, dict):
            raise self.wrong_type(where or "the body", "an object", value)
        self.value: dict[str, Any] = value
        self.where = where

    @staticmethod
    def wrong_type(path: str, wanted: str, value: object) -> Wrong:
        """The error for a value of another type."""
        return Wrong(f"Invalid type for '{path}': expected {wanted}, but got {_type(value)} instead.", param=path,
                     code="invalid_type")

    def path(self, key: str) -> str:
        """How an error names a field."""
        return f"{self.where}.{key}" if self.where else key

    def wrong(self, key: str, wanted: str) -> Wrong:
        """The error for a field of the right type whose value is none."""
        shown = repr(self.value.get(key))
        shown = shown if len(shown) <= 80 else shown[:79] + "…"
        return Wrong(f"Invalid value for '{self.path(key)}': expected {wanted}, but got {shown}.", param=self.path(key),
                     code="invalid_value")

    def missing(self, key: str) -> Wrong:
        """The error for a field that is not there."""
        return Wrong(f"Missing required parameter: '{self.path(key)}'.", param=self.path(key),
                     code="missing_required_parameter")

    def has(self, key: str) -> bool:
        """Whether it was sent, and not as null."""
        return self.value.get(key) is not None

    def text(self, key: str, default: str | None = None, *, most: int | None = None) -> str:
        """Text of at most `most` characters; without a `default` it must be there."""
        found = self.value.get(key)
        if found is None:
            if default is None:
                raise self.missing(key)
            return default
        if not isinstance(found, str):
            raise self.wrong_type(self.path(key), "a string", found)
        if most is not None and len(found) > most:
            raise self.wrong(key, f"at most {most:,} characters")
        return found

    def choice(self, key: str, choices: Sequence[str], default: str | None = None) -> str:
        """One of a few words."""
        found = self.text(key, default)
        if found not in choices and found != default:
            raise self.wrong(key, f"one of {', '.join(map(repr, choices))}")
        return found

    def flag(self, key: str, default: bool = False) -> bool:
        """True or false."""
        found = self.value.get(key)
        if found is None:
            return default
        if not isinstance(found, bool):
            raise self.wrong_type(self.path(key), "a boolean", found)
        return found

    def number(self, key: str, least: float, most: float) -> float | None:
        """A number from `least` to `most`; None where it was not sent."""
        found = self.value.get(key)
        if found is None:
            return None
        if isinstance(found, bool) or not isinstance(found, int | float):
            raise self.wrong_type(self.path(key), "a number", found)
        if not least <= found <= most or not isfinite(found):
            raise self.wrong(key, f"a number from {least:g} to {most:g}")
        return float(found)

    def whole(self, key: str, least: int, most: int) -> int | None:
        """A whole number from `least` to `most`; None where it was not sent."""
        found = self.value.get(key)
        if found is None:
            return None
        if isinstance(found, bool) or not (isinstance(found, int) or (isinstance(found, float) and found.is_integer())):
            raise self.wrong_type(self.path(key), "an integer", found)
        if not least <= found <= most:
            raise self.wrong(key, f"a whole number from {least} to {most}")
        return int(found)

    def items(self, key: str, *, most: int | None = None) -> list[Any]:
        """A list; empty where it was not sent."""
        found = self.value.get(key)
        if found is None:
            return []
        if not isinstance(found, list):
            raise self.wrong_type(self.path(key), "an array", found)
        if most is not None and len(found) > most:
            raise Wrong(f"Invalid '{self.path(key)}': at most {most} items are taken, not {len(found)}.",
                        param=self.path(key), code="array_above_max_length")
        return found

    def objects(self, key: str, *, most: int | None = None) -> list[Fields]:
        """A list of objects."""
        return [Fields(item, f"{self.path(key)}[{number}]") for number, item in enumerate(self.items(key, most=most))]

    def inner(self, key: str) -> Fields:
        """An object; without fields where it was not sent."""
        return Fields(self.value[key] if self.has(key) else {}, self.path(key))

    def texts(self, key: str, *, most: int | None = None) -> tuple[str, ...]:
        """A list of texts, or one text alone."""
        found = self.value.get(key)
        if isinstance(found, str):
            return (found,)
        items = self.items(key, most=most)
        for number, item in enumerate(items):
            if not isinstance(item, str):
                raise self.wrong_type(f"{self.path(key)}[{number}]", "a string", item)
        return tuple(items)

    def schema(self, key: str) -> Mapping[str, Any]:
        """A JSON schema, of which only is checked that it is an object that is not too deep."""
        found = self.inner(key)
        if depth(found.value) > MOST_DEPTH:
            raise Wrong(f"Invalid schema for '{self.path(key)}': it is nested more than {MOST_DEPTH} levels deep.",
                        param=self.path(key), code="invalid_json_schema")
        return found.value


def depth(value: object) -> int:
    """How deep objects and lists are nested, at least as far as `MOST_DEPTH`; found without recursion."""
    level, reached = [value], 0
    while level and reached <= MOST_DEPTH:
        level = [inner for each in level if isinstance(each, dict | list)
                 for inner in (each.values() if isinstance(each, dict) else each)]
        reached += 1
    return reached


def _type(value: object) -> str:
    if value is None:
        return "null"
    names: dict[type, str] = {bool: "a boolean", int: "an integer", float: "a decimal", str: "a string",
                              list: "an array", dict: "an object"}
    return names.get(type(value), type(value).__name__)
