"""Filling a JSON schema from a text, by rules: numbers, choices, dates, addresses, quoted words, names.

What the text does not say stays unfilled; nothing is made up. A value comes from the text word for word (numbers are
parsed, a choice is spelled as the schema spells it), or is the schema's own default or constant.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from madang.models.providers import reader_words as words_of

_MOST_DEPTH, _MOST_VALUES = 8, 500
_MOST_TEXT = 20_000          # characters that are looked at: the rules are for requests, not for books
@dataclass(slots=True)
class Filled:
    """`value`, and the paths of the required properties that the text does not say."""

    value: Any
    missing: list[str] = field(default_factory=list)


def fill(schema: Mapping[str, Any], text: str, known: Mapping[str, str] | None = None) -> Filled:
    """The schema's object from a text. `known`: by a word of a property's name what it is anyway (an answer)."""
    filler = _Filler(schema, text[:_MOST_TEXT], known or {})
    value = filler.value(schema, "", "", True, 0)
    return Filled({} if value is _NOTHING else value, filler.missing)


_NOTHING = object()


class _Filler:
    """Each piece of text is taken for one property only: a second city is not the first again."""

    def __init__(self, root: Mapping[str, Any], text: str, known: Mapping[str, str]) -> None:
        self._root, self._text, self._known = root, text, known
        self._taken: list[tuple[int, int]] = []
        self._left = _MOST_VALUES
        self._found: dict[re.Pattern[str], list[re.Match[str]]] = {}
        self.missing: list[str] = []

    def value(self, schema: Any, name: str, path: str, required: bool, depth: int) -> Any:
        """What the text says, or `_NOTHING`; what is required and not there is noted."""
        schema, nullable = self._resolved(schema)
        kind = schema.get("type")
        if isinstance(kind, list):
            nullable |= "null" in kind
            kind = next((each for each in kind if each != "null"), None)
        self._left -= 1
        if depth > _MOST_DEPTH or self._left < 0:
            found = _NOTHING
        elif kind == "object" or (kind is None and "properties" in schema):
            return self._object(schema, path, required, depth)
        else:
            found = self._plain(schema, kind, name, path, required, depth)
        if found is _NOTHING and "default" in schema and required:
            found = schema["default"]
        if found is _NOTHING and required:
            if nullable:
                return None
            self.missing.append(path or "value")
        return found

    def _object(self, schema: Mapping[str, Any], path: str, required: bool, depth: int) -> Any:
        properties = schema.get("properties")
        properties = properties if isinstance(properties, Mapping) else {}
        told = schema.get("required")
        needed = {name for name in told if isinstance(name, str)} if isinstance(told, list) else set[str]()
        before = len(self.missing)
        found = {}
        for name in sorted(properties, key=lambda name: name not in needed):     # what must be there chooses first
            inner = f"{path}.{name}" if path else name
            value = self.value(properties[name], name, inner, name in needed, depth + 1)
            if value is not _NOTHING:
                found[name] = value
        if not required and len(self.missing) > before:     # all of it or nothing
            del self.missing[before:]
            return _NOTHING
        if not required and not found:
            return _NOTHING
        return {name: found[name] for name in properties if name in found}

    def _resolved(self, schema: Any) -> tuple[Mapping[str, Any], bool]:
        """Without `$ref`, and the first alternative that is not null; whether null is one."""
        nullable = False
        for _ in range(_MOST_DEPTH):
            if not isinstance(schema, Mapping):
                return {}, nullable
            reference = schema.get("$ref")
            choices = schema.get("anyOf") or schema.get("oneOf")
            if isinstance(reference, str) and reference.startswith("#/"):
                target: Any = self._root
                for part in reference[2:].split("/"):
                    target = target.get(part) if isinstance(target, Mapping) else None
                schema = target
            elif isinstance(choices, list) and choices:
                nullable |= any(isinstance(each, Mapping) and each.get("type") == "null" for each in choices)
                schema = next((each for each in choices
                               if isinstance(each, Mapping) and each.get("type") != "null"), {})
            else:
                break
        return (schema if isinstance(schema, Mapping) else {}), nullable

    def _plain(self, schema: Mapping[str, Any], kind: Any, name: str, path: str, required: bool, depth: int) -> Any:
        if "const" in schema:
            return schema["const"]
        if isinstance(schema.get("enum"), list):
            return next(iter(self._choices(schema["enum"], name)), _NOTHING)
        words = _name_words(name)
        if kind in ("integer", "number"):
            return self._number(schema, kind, words, required)
        if kind == "boolean":
            return self._flag(words)
        if kind == "array":
            return self._array(schema, name, path, depth)
        if kind == "string" or kind is None:
            return self._string(schema, words, required)
        return _NOTHING

    # --- by kind ---

    def _choices(self, choices: list[Any], name: str) -> list[Any]:
        """Those that the text names, in its order; the longest of those that share a place."""
        found: list[tuple[int, int, Any]] = []
        for choice in choices:
            if isinstance(choice, str) and choice:
                spoken = re.escape(choice).replace("_", "[ _-]?").replace(r"\-", "[ _-]?")
                end = "" if re.search("[가-힣]$", choice) else r"(?!\w)"
                match = re.search(rf"(?<!\w){spoken}{end}", self._text, re.IGNORECASE)
            else:
                match = re.search(rf"(?<![\w.]){re.escape(str(choice))}(?![\w.])", self._text)
            if match:
                found.append((match.start(), match.end(), choice))
        return [choice for start, end, choice in sorted(found, key=lambda each: each[0])
                if not any(other[0] <= start and end <= other[1] and other[1] - other[0] > end - start
                           for other in found)]

    def _numbers(self) -> Iterator[tuple[int, int, float]]:
        found = [*self._matches(words_of.NUMBER), *self._matches(words_of.NUMBER_WORD)]
        for match in sorted(found, key=re.Match.start):
            if not self._is_taken(match.start(), match.end()):
                word = match[0].lower()
                spoken = words_of.NUMBERS.get(word)
                yield (*match.span(), float(word.replace(",", "").replace("−", "-")) if spoken is None else spoken)

    def _number(self, schema: Mapping[str, Any], kind: str, words: frozenset[str], required: bool) -> Any:
        best, found = (10**9, 0), _NOTHING
        span = (0, 0)
        for start, end, number in self._numbers():
            if (kind == "integer" and not float(number).is_integer()) or not _within(schema, number):
                continue
            distance = self._distance(words, start, end)
            if distance is None and not required:
                continue        # it may be anybody's
            rank = (10**6 if distance is None else distance, start)
            if rank < best:
                best, span = rank, (start, end)
                found = int(number) if kind == "integer" or float(number).is_integer() else number
        return _NOTHING if found is _NOTHING else self._take(*span, found)

    def _distance(self, words: frozenset[str], start: int, end: int) -> int | None:
        """Characters between the number and the nearest word of the property's name, at most 24."""
        near = [match for word in words if len(word) > 1 for match in re.finditer(
            rf"(?<!\w){re.escape(word)}(?:s|es)?(?!\w)", self._text[max(0, start - 40):end + 40], re.IGNORECASE)]
        offset = max(0, start - 40)
        gaps = [min(abs(offset + match.start() - end), abs(start - offset - match.end())) for match in near]
        return min((gap for gap in gaps if gap <= 24), default=None)

    def _flag(self, words: frozenset[str]) -> Any:
        for word in sorted(words, key=len, reverse=True):
            match = re.search(rf"(?<!\w){re.escape(word)}(?!\w)", self._text, re.IGNORECASE) if len(word) > 2 else None
            if match:
                before = self._text[max(0, match.start() - 24):match.start()]
                after = self._text[match.end():match.end() + 16]
                no = (re.search(r"\b(?:no|not|without|don't|dont|never|false)\b[^.,;]*$", before, re.IGNORECASE)
                      or re.match(r"\s*(?:[:=]|is)?\s*(?:false|no|off)\b", after, re.IGNORECASE))
                return not no
        return _NOTHING

    def _array(self, schema: Mapping[str, Any], name: str, path: str, depth: int) -> Any:
        items, _ = self._resolved(schema.get("items", {}))
        least = schema.get("minItems", 1)
        kind = items.get("type")
        found: list[Any] = []
        if isinstance(items.get("enum"), list):
            found = self._choices(items["enum"], name)
        elif kind in ("integer", "number"):
            found = [int(number) if float(number).is_integer() else number for _, _, number in self._numbers()
                     if kind == "number" or float(number).is_integer()]
        elif kind == "string" or kind is None:
            found = [match for start, end, match in [*self._quoted()] or [*self._names()]]
        elif kind == "object":
            inner = _Filler(self._root, self._text, self._known)
            one = inner.value(items, name, path, True, depth + 1)
            found = [] if inner.missing or not one else [one]
        most = schema.get("maxItems")
        found = found[:most] if isinstance(most, int) else found
        return found if len(found) >= max(1, least if isinstance(least, int) else 1) else _NOTHING

    def _string(self, schema: Mapping[str, Any], words: frozenset[str], required: bool) -> Any:
        for each in words:
            if each in self._known:
                return self._known[each]
        stated = self._stated(words)
        if stated is not None:
            return stated
        wanted = words | _name_words(str(schema.get("format", "")).replace("date-time", "datetime"))
        for kinds, pattern in words_of.PATTERNS:
            if wanted & kinds:
                for match in self._matches(pattern):
                    said = match[0].strip(" ,")
                    bare = pattern.pattern == words_of.EXPRESSION.pattern and not words_of.OPERATION.search(said)
                    if not bare and not self._is_taken(*match.span()):
                        return self._take(*match.span(), said)
        for rule in (self._quoted_one, self._of_place, self._of_whole):
            found: Any = rule(words)
            if found is not None:
                return found
        return self._named() if required and not wanted & words_of.OF_A_KIND else _NOTHING

    def _matches(self, pattern: re.Pattern[str]) -> list[re.Match[str]]:
        """Where a pattern is, looked for once."""
        if pattern not in self._found:
            self._found[pattern] = [*pattern.finditer(self._text)]
        return self._found[pattern]

    def _stated(self, words: frozenset[str]) -> str | None:
        """"city: Seoul", "name is Kim": what is said under the property's own name."""
        name = r"[\s_-]*".join(map(re.escape, sorted(words, key=len, reverse=True)[:1]))
        match = re.search(rf"(?<!\w){name}(?:\s*[:=]\s*|\s+is\s+|\s+named\s+)[\"'“]?([^\n,;\"'”]{{1,200}})", self._text,
                          re.IGNORECASE) if name else None
        if match is None or self._is_taken(*match.span(1)):
            return None
        said = re.split(r"\s+(?:and|with|in|on|at|for)\s+|[.!?](?:\s|$)", match[1].strip())[0].strip()
        return self._take(*match.span(1), said) if said else None

    def _quoted(self) -> Iterator[tuple[int, int, str]]:
        for match in self._matches(words_of.QUOTED):
            if not self._is_taken(*match.span()):
                yield (*match.span(), next(group for group in match.groups() if group is not None))

    def _quoted_one(self, words: frozenset[str]) -> str | None:
        found = next(self._quoted(), None)
        return None if found is None else self._take(*found)

    def _names(self) -> Iterator[tuple[int, int, str]]:
        """Capitalised words that are names by all we can tell, where they stand."""
        for match in self._matches(words_of.NAME):
            start, said = match.start(), match[0]
            while said:
                first, _, rest = said.partition(" ")
                if first.strip(".'’").lower() not in words_of.NOT_NAMES:
                    break
                start += len(said) - len(rest.lstrip()) if rest else len(said)
                said = rest.lstrip()
            said = said.rstrip(".'’-&")
            if said and not self._is_taken(start, start + len(said)):
                yield start, start + len(said), said

    def _named(self) -> Any:
        found = next(self._names(), None) or next(self._korean(frozenset()), None)
        return _NOTHING if found is None else self._take(*found)

    def _of_place(self, words: frozenset[str]) -> str | None:
        """A place or a person, by the preposition or the particle that it stands with."""
        after: list[str] = []
        if words & words_of.FROM:
            after = [r"from"]
        elif words & words_of.TO:
            after = [r"to"]
        elif words & words_of.PLACES:
            after = [r"(?:in|at|near|for|of|to|around)"]
        for preposition in after:
            pattern = rf"\b{preposition}\s(?:the\s)?([A-Z][\w'’-]*(?:[ ,]{{1,2}}[A-Z][\w'’-]*)*)"
            for match in re.finditer(pattern, self._text):
                if not self._is_taken(*match.span(1)):
                    return str(self._take(*match.span(1), match[1]))
        if not after:
            return None
        particles = (words_of.FROM_KO if words & words_of.FROM else
                     words_of.TO_KO if words & words_of.TO else frozenset())
        found = next(self._korean(particles), None)
        if found is None and words & words_of.PLACES:
            found = next(self._names(), None)
        return None if found is None else self._take(*found)

    def _korean(self, particles: frozenset[str]) -> Iterator[tuple[int, int, str]]:
        """Korean words without their particle; only with one of `particles`, where any are named."""
        for match in self._matches(words_of.KOREAN):
            particle = words_of.PARTICLE.search(match[0])
            cut = particle.start() if particle and particle.start() > 1 else len(match[0])
            stem, told = match[0][:cut], match[0][cut:]
            if particles and told not in particles:
                continue
            if {stem, match[0]} & words_of.NOT_NAMES_KO or words_of.VERB_END_KO.search(match[0]):
                continue
            if not self._is_taken(*match.span()):
                yield (*match.span(), stem)

    def _of_whole(self, words: frozenset[str]) -> str | None:
        if not words & words_of.WHOLE:
            return None
        return words_of.COMMAND.sub("", self._text.strip(), count=1).strip() or None

    # --- what is taken ---

    def _is_taken(self, start: int, end: int) -> bool:
        return any(start < other_end and other_start < end for other_start, other_end in self._taken)

    def _take(self, start: int, end: int, value: Any) -> Any:
        self._taken.append((start, end))
        return value


def _within(schema: Mapping[str, Any], number: float) -> bool:
    bounds: tuple[tuple[str, Callable[[float, float], bool]], ...] = (
        ("minimum", lambda value, bound: value >= bound), ("maximum", lambda value, bound: value <= bound),
        ("exclusiveMinimum", lambda value, bound: value > bound),
        ("exclusiveMaximum", lambda value, bound: value < bound))
    return all(holds(number, schema[key]) for key, holds in bounds
               if isinstance(schema.get(key), int | float) and not isinstance(schema.get(key), bool))


def _name_words(name: str) -> frozenset[str]:
    return frozenset(word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[가-힣]+", name))
