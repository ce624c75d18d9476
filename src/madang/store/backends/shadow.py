"""A shadow of a record's metadata that makes every filter expressible in an engine whose own types are coarser.

Two parts are stored beside the metadata:

- `tokens`: one string for each field that exists and for each value it equals. `$eq`, `$ne`, `$in`, `$nin` and
  `$exists` then ask only whether a list of strings holds a string, which every engine answers exactly.
- `numbers`: each number by field, for the comparisons: as a pair of doubles (`split`), or as a string that sorts as
  the number does (`ordered`). Both are exact, above 2**53 too, where doubles alone merge neighbours.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterator

from madang.base.records import Metadata

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9]{0,47}")
_LONGEST = 96                       # characters of a token that is still written out


def key(field: str) -> str:
    """A field's name as a key of letters and digits that every engine's path language takes; distinct for distinct
    names."""
    if _PLAIN.fullmatch(field):
        return field
    return "_" + digest(field)


def exists(field: str) -> str:
    """The token of every record that has the field."""
    return key(field)


def token(field: str, value: str | int | float | bool) -> str:
    """The token of every record whose field equals the value. Equal numbers have one token, whole or not; booleans
    and strings have others."""
    if isinstance(value, bool):
        text = f"b{value:d}"
    elif isinstance(value, str):
        text = f"s{value}"
    elif value == int(value):
        text = f"n{int(value)}"
    else:
        text = f"n{value!r}"
    if len(text) > _LONGEST:        # "h" begins no other
        text = "h" + digest(text)
    return f"{key(field)}={text}"


def digest(text: str) -> str:
    """32 hexadecimal digits that stand for a text where it may not be written itself."""
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def tokens(metadata: Metadata) -> list[str]:
    """All tokens of one record, sorted, each once."""
    return sorted(set(_tokens(metadata)))


def _tokens(metadata: Metadata) -> Iterator[str]:
    for field, value in metadata.items():
        yield exists(field)
        for item in value if isinstance(value, list) else [value]:
            yield token(field, item)


def _numbers(metadata: Metadata) -> Iterator[tuple[str, int | float]]:
    for field, value in metadata.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield key(field), value


def split(value: float) -> tuple[float, int]:
    """A number as (nearest double, what is left). Rounding keeps order, so two numbers compare as their pairs do.

    Beyond +-2**53 only; nearer, the rest is always 0.
    """
    nearest = float(value) + 0.0    # negative zero becomes zero
    return nearest, value - int(nearest) if isinstance(value, int) else 0


def split_numbers(metadata: Metadata) -> tuple[dict[str, float], dict[str, int]]:
    """The numbers by key: nearest doubles, and of those at or beyond +-2**53 the rests."""
    pairs = {name: split(value) for name, value in _numbers(metadata)}
    return ({name: nearest for name, (nearest, _) in pairs.items()},
            {name: rest for name, (nearest, rest) in pairs.items() if has_rest(nearest)})


def has_rest(nearest: float) -> bool:
    """Whether a number with this nearest double can differ from it."""
    return abs(nearest) >= 2.0**53


def ordered(value: float) -> str:
    """20 characters that sort, byte by byte, as the numbers do: the double's bits made monotonic, then the rest."""
    nearest, rest = split(value)
    (bits,) = struct.unpack(">Q", struct.pack(">d", nearest))
    bits = bits ^ (2**64 - 1) if bits >> 63 else bits | 2**63
    return f"{bits:016x}{rest + 0x8000:04x}"


def ordered_numbers(metadata: Metadata) -> dict[str, str]:
    """The numbers by key, as `ordered` strings."""
    return {name: ordered(value) for name, value in _numbers(metadata)}


