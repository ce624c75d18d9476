"""The texts that calibrate and judge the bundled models: the Python installation's own, and a list of sentences.

What is calibrated on and what is judged on do not overlap. The texts depend on the Python version, which the cards
therefore name.
"""

from __future__ import annotations

import importlib
import inspect
import pydoc
import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

CALIBRATION_MODULES = ("argparse", "asyncio", "collections", "csv", "datetime", "functools", "heapq", "inspect",
                       "json", "logging", "multiprocessing", "pathlib", "random", "shutil", "socket", "string",
                       "tarfile", "threading", "unittest", "urllib.request", "zipfile")
JUDGING_MODULES = ("calendar", "codecs", "configparser", "decimal", "difflib", "doctest", "email.message", "enum",
                   "fractions", "gettext", "http.client", "imaplib", "ipaddress", "itertools", "locale", "mailbox",
                   "math", "optparse", "os", "pdb", "pickle", "platform", "re", "sched", "selectors", "smtplib",
                   "sqlite3", "ssl", "statistics", "subprocess", "tempfile", "textwrap", "time", "tracemalloc",
                   "types", "typing", "urllib.parse", "uuid", "warnings", "weakref", "xml.dom.minidom")


def manual(module: str) -> str:
    """What `pydoc module` prints, without its frame of bars."""
    text = pydoc.plain(pydoc.render_doc(importlib.import_module(module)))
    return re.sub(r"^[ |]+", "", text, flags=re.MULTILINE)


def chunks(modules: Sequence[str], chars: int = 800) -> list[str]:
    """Consecutive pieces of the modules' manuals, each of `chars` characters."""
    found = []
    for module in modules:
        text = " ".join(manual(module).split())
        found += [text[start:start + chars] for start in range(0, len(text) - chars, chars)]
    return found


def sentences(modules: Sequence[str]) -> list[str]:
    """Sentences of 30 to 120 characters from the modules' manuals, each once."""
    found = [sentence for module in modules
             for sentence in re.split(r"(?<=[.!?])\s+", " ".join(manual(module).split()))
             if 30 <= len(sentence) <= 120 and _is_prose(sentence)]
    return list(dict.fromkeys(found))


def _is_prose(text: str) -> bool:
    return sum(c.isalpha() or c == " " for c in text) > 0.85 * len(text)


def paraphrases() -> list[tuple[str, str]]:
    """Pairs of everyday sentences that mean the same, written for this purpose."""
    lines = (Path(__file__).parent / "data" / "sentences.tsv").read_text(encoding="utf-8").splitlines()
    return [(first, second) for first, second in (line.split("\t") for line in lines)]


def known_items(modules: Sequence[str] = JUDGING_MODULES) -> tuple[list[str], list[str]]:
    """Queries and documents: the first sentence of a docstring asks for the rest of it, which holds the same row."""
    items: dict[str, str] = {}
    for name in modules:
        for doc in _docstrings(importlib.import_module(name)):
            summary, _, rest = " ".join(doc.split()).partition(". ")
            if 25 <= len(summary) <= 200 and len(rest) >= 80 and rest not in items.values():
                items.setdefault(summary, rest[:800])
    return list(items), list(items.values())


def _docstrings(module: object) -> Iterator[str]:
    for owner in (module, *(value for _, value in inspect.getmembers(module, inspect.isclass))):
        for _, value in inspect.getmembers(owner):
            doc = getattr(value, "__doc__", None)
            if callable(value) and isinstance(doc, str):
                yield doc


def calibration(vocabulary: Sequence[str], seed: int = 0) -> list[str]:
    """Varied texts: reference prose, manuals, source code, and words drawn from the whole vocabulary.

    The drawn words are nonsense on purpose: the int8 steps must also fit tokens that no manual contains.
    """
    rng = random.Random(seed)
    topics = importlib.import_module("pydoc_data.topics").topics
    prose = [" ".join(text.split())[:1200] for _, text in sorted(topics.items())]
    source = [inspect.getsource(importlib.import_module(name))[1000:1800] for name in CALIBRATION_MODULES]
    words = [word for word in vocabulary if not word.startswith(("[", "##"))]
    drawn = [" ".join(rng.choices(words, k=rng.choice((1, 3, 8, 30, 120)))) for _ in range(150)]
    return [*rng.sample(prose, 60), *rng.sample(chunks(CALIBRATION_MODULES), 60),
            *rng.sample(sentences(CALIBRATION_MODULES), 250), *source, *drawn]
