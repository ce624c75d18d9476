"""Metadata of other libraries as metadata of records, and back.

A record's metadata is flat: strings, finite numbers, booleans, lists of strings. Documents of other libraries carry any
JSON, and dates. What fits is kept under its own name, so that every filter sees it; the rest has names beside it:

- `_json:KEY` the value as canonical JSON, from which it is restored: of None, lists, objects, dates, large numbers;
- `KEY.INNER` what is within an object, under dotted names, as if it stood there by itself;
- `_has:KEY` the elements of a list that is not of strings, each as JSON;
- `_clock:KEY` of a date in ISO 8601, or a `datetime`: microseconds since 1970 as its clock shows, so that dates
  compare; `_time:KEY` the same in UTC, where it says its zone;
- `_id:` the record's id, where filters of a library may ask for it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from madang.base.errors import InvalidInput
from madang.base.records import Metadata, MetadataValue

JSON, HAS, CLOCK, TIME, ID = OWN = "_json:", "_has:", "_clock:", "_time:", "_id:"
_DEPTH = 32
_EPOCH = datetime(1970, 1, 1)
_MICROSECOND = timedelta(microseconds=1)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[Tt ]|$)")


def packed(metadata: Mapping[str, Any], where: str = "metadata") -> Metadata:
    """As a record keeps it.

    Raises:
        InvalidInput: a value is neither JSON nor a date, a key is not text or begins like our own, objects are nested
            more than 32 deep, or an object's inner name is also a name beside it.
    """
    flat: Metadata = {}
    for path, value in _walk(metadata, "", where, 0):
        for key, kept in _entries(path, value, where):
            if key in flat:
                raise InvalidInput(f"{where} has both a key {key!r:.80} and an object with that inside.",
                                   remedy="Rename one of them.")
            flat[key] = kept
    return flat


def unpacked(metadata: Mapping[str, MetadataValue]) -> dict[str, Any]:
    """What `packed` was given; metadata written in other ways is what it is."""
    objects = {key.removeprefix(JSON): _restored(value) for key, value in metadata.items()
               if key.startswith(JSON) and isinstance(value, str)}
    inner = {name for key, value in objects.items() if isinstance(value, dict) for name in _names(value, key)}
    found: dict[str, Any] = {}
    for key, value in metadata.items():
        name = key.removeprefix(JSON)
        if name in inner or key.startswith((HAS, CLOCK, TIME, ID)):
            continue
        if key.startswith(JSON) or name not in objects:
            found[name] = objects.get(name, value) if key.startswith(JSON) else value
    return found


def as_json(value: Any, where: str = "value") -> str:
    """Canonical JSON: keys sorted; a date as an object of its own."""
    try:
        return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, default=_date_as_json)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"{where} cannot be kept as JSON: {error}.",
                           remedy="Use text, finite numbers, booleans, None, dates, and lists and objects of these."
                           ) from None


@dataclass(frozen=True, slots=True)
class Moment:
    """A date in microseconds since 1970: as its clock shows, and in UTC, None where it names no zone."""

    clock: int
    utc: int | None


def moment(value: Any) -> Moment | None:
    """The moment that a `datetime`, a date or ISO 8601 text (YYYY-MM-DD, and a time if any) names; else None."""
    if isinstance(value, str):
        if not _DATE.match(value):                # most text is none: seen without parsing
            return None
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    elif isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if not isinstance(value, datetime):
        return None
    utc = None if value.utcoffset() is None else (value - _EPOCH.replace(tzinfo=UTC)) // _MICROSECOND
    return Moment((value.replace(tzinfo=None) - _EPOCH) // _MICROSECOND, utc)


def is_plain(value: Any) -> bool:
    """Whether a record's metadata takes it as it is, and filters compare it by itself."""
    if isinstance(value, str | bool):
        return True
    if isinstance(value, int):
        return -2**63 <= value < 2**63
    return isinstance(value, float) and math.isfinite(value)


def _walk(value: Mapping[str, Any], path: str, where: str, depth: int) -> Iterator[tuple[str, Any]]:
    """Every value with its dotted name, objects before what is in them."""
    if depth > _DEPTH:
        raise InvalidInput(f"{where}: {path!r:.80} is nested deeper than {_DEPTH}.", remedy="Flatten it.")
    for key, item in value.items():
        if not isinstance(key, str) or key.startswith(("$", *OWN)):
            raise InvalidInput(f"{where}: key {key!r:.80} is not allowed.",
                               remedy=f"Keys are text that does not begin with '$' or one of {', '.join(OWN)}.")
        name = f"{path}.{key}" if path else key
        yield name, item
        if isinstance(item, Mapping):
            yield from _walk(item, name, where, depth + 1)


def _names(value: Mapping[str, Any], path: str) -> Iterator[str]:
    for key, item in value.items():
        yield f"{path}.{key}"
        if isinstance(item, dict):
            yield from _names(item, f"{path}.{key}")


def _entries(path: str, value: Any, where: str) -> Iterator[tuple[str, MetadataValue]]:
    if is_plain(value):
        yield path, value
    else:
        yield JSON + path, as_json(value, f"{where}: {path!r:.80}")
        if isinstance(value, list | tuple):
            if all(isinstance(item, str) for item in value):
                yield path, list(value)
            else:
                yield HAS + path, [as_json(item) for item in value]
    when = moment(value)
    if when is not None:
        yield CLOCK + path, when.clock
        if when.utc is not None:
            yield TIME + path, when.utc


def _date_as_json(value: Any) -> Any:
    if isinstance(value, date):         # a datetime is one, too
        return {f"${type(value).__name__}": value.isoformat()}
    raise TypeError(f"{type(value).__name__} {value!r:.60}")


def _restored(text: str) -> Any:
    return json.loads(text, object_hook=_json_as_date)


def _json_as_date(value: dict[str, Any]) -> Any:
    if len(value) == 1:
        (name, text), = value.items()
        kind = {"$datetime": datetime, "$date": date}.get(name)
        if kind is not None and isinstance(text, str):
            with suppress(ValueError):
                return kind.fromisoformat(text)
    return value
