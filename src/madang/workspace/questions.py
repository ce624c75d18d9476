"""Questions to compare two models with: texts, and perhaps the ids of the records that answer them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from madang.base.errors import InvalidInput, NotFound


@dataclass(frozen=True, slots=True)
class Question:
    """A query, and the ids of the records that are right for it; empty: nobody judged."""

    text: str
    relevant: frozenset[str] = frozenset()


def questions_of(given: str | Path | Iterable[str | Mapping[str, Any] | Question]) -> list[Question]:
    """Texts, {"query": ..., "relevant": [id, ...]} (`relevant` may be missing), or a JSON Lines file of such."""
    if isinstance(given, str | Path):
        return _read(Path(given))
    if not isinstance(given, Iterable) or isinstance(given, Mapping):
        raise InvalidInput(f"queries must be a list of texts, or a file, not {given!r:.80}.")
    return [_question(item, f"query {number}") for number, item in enumerate(given, start=1)]


def _read(path: Path) -> list[Question]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise NotFound(f"there is no file {path}.", remedy='Name one with a line {"query": "..."} for each.') from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}.", remedy="Name a JSON Lines file in UTF-8.") from None
    found = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            item = json.loads(line)
        except ValueError as error:
            raise InvalidInput(f"{path}, line {number}, is not JSON: {error}.",
                               remedy='Write {"query": "...", "relevant": ["id"]} on each line.') from None
        found.append(_question(item, f"{path}, line {number}"))
    return found


def _question(item: Any, where: str) -> Question:
    if isinstance(item, Question):
        return item
    if isinstance(item, Mapping):
        unknown = sorted(str(key) for key in set(item) - {"query", "relevant"})
        if unknown:
            raise InvalidInput(f"{where}: unknown field {unknown[0]!r}.", remedy="Known: query, relevant.")
        text, relevant = item.get("query"), item.get("relevant", [])
    else:
        text, relevant = item, []
    if not isinstance(text, str) or not text.strip():
        raise InvalidInput(f"{where}: the query must be text that is not empty, not {text!r:.80}.")
    if isinstance(relevant, str) or not isinstance(relevant, Iterable) or not all(
            isinstance(identity, str) for identity in relevant):
        raise InvalidInput(f"{where}: relevant must be a list of ids, not {relevant!r:.80}.")
    return Question(text, frozenset(relevant))
