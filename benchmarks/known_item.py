"""A known-item retrieval set from the standard library's docstrings.

Query: the first sentence of a docstring. Document: the rest of it. One document is relevant to each query. The
docstrings are those of the running Python, so scores are comparable within one version of it.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from examples.pydoc_corpus import every_module
from madang.text import sentences

MIN_QUERY_CHARS, MIN_DOCUMENT_CHARS = 20, 80


@dataclass(frozen=True, slots=True)
class Item:
    """One query and the one document that answers it; `id` is the qualified name."""

    id: str
    query: str
    document: str


def items() -> list[Item]:
    """All items, in a stable order, each query and each document once."""
    found: list[Item] = []
    queries, documents = set[str](), set[str]()
    for name, text in _docstrings():
        spans = sentences.split(text)
        if len(spans) < 2:
            continue
        query = " ".join(text[slice(*spans[0])].split())
        document = text[spans[1][0]:].strip()
        if "->" in query:  # a signature that pydoc would show is not a sentence
            continue
        if (len(query) >= MIN_QUERY_CHARS and len(document) >= MIN_DOCUMENT_CHARS and query not in queries
                and document not in documents):
            queries.add(query)
            documents.add(document)
            found.append(Item(name, query, document))
    return found


def _docstrings() -> Iterator[tuple[str, str]]:
    for name in every_module():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                module = importlib.import_module(name)
            except Exception:  # a module of another platform may fail with anything
                continue
            yield from _members(module, name)


def _members(owner: Any, prefix: str) -> Iterator[tuple[str, str]]:
    text = _docstring(owner)
    if text:
        yield prefix, text
    for name, member in sorted(vars(owner).items()):
        if name.startswith("_") or not (inspect.isroutine(member) or inspect.isclass(member)):
            continue
        if inspect.isclass(member):
            if inspect.ismodule(owner) and member.__module__ == owner.__name__:  # where it is defined, not imported
                yield from _members(member, f"{prefix}.{name}")
        elif text := _docstring(member):
            yield f"{prefix}.{name}", text


def _docstring(thing: Any) -> str:
    text = getattr(thing, "__doc__", None)
    return inspect.cleandoc(text) if isinstance(text, str) else ""
