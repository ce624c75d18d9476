"""Several models on the user's own questions: how good, how quick, at what price; every number with its interval.

Chat models answer each question, by themselves or from a collection. Their answers are compared with the expected ones
by the terms of the analyzer: `containment` is the share of the expected answer's terms that the answer holds, `overlap`
the F1 of both sides' terms (P. Rajpurkar et al., "SQuAD", EMNLP 2016, section 6.1, there with English words). Embedders
do known-item retrieval: each question has one passage, to be found among all of them; `reciprocal_rank` is 1 / its rank
(E. Voorhees, TREC-8 QA, 1999), 0 after the tenth.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from madang.base.errors import InvalidInput, MadangError, NotFound, ServiceError
from madang.base.messages import ChatOptions, Message, Usage
from madang.base.settings import Service, Settings
from madang.base.stats import Interval, PairedResult, bootstrap_mean, paired_test
from madang.models.resolve import Models
from madang.models.tokens import count_tokens
from madang.text.analyzer import default_analyzer

Role: TypeAlias = Literal["chat", "embed"]
Answerer: TypeAlias = Callable[[str, str], tuple[str, Usage]]      # a question and a model: text, tokens
_LAST_RANK = 10
_METRICS: dict[Role, tuple[str, ...]] = {"chat": ("containment", "overlap"),
                                         "embed": ("reciprocal_rank", "found_first")}


@dataclass(frozen=True, slots=True)
class Item:
    """A question with what is expected: an answer, or for embedders the passage to find. Empty: nobody said."""

    question: str
    expected: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """What one model made of one question. `scores` is empty where nothing was expected, or where it failed."""

    text: str
    seconds: float
    scores: Mapping[str, float] = field(default_factory=dict)
    failed: str = ""               # the kind of its failure


@dataclass(frozen=True, slots=True)
class Tried:
    """One model's share. `quality` is by metric, over the questions with an expectation that did not fail."""

    model: str
    replies: list[Reply]
    quality: dict[str, Interval]
    failed: dict[str, int]         # how many questions, by kind of failure
    p50_ms: float | None
    p95_ms: float | None
    usage: Usage
    cost: float                    # in the currency of the settings' prices
    priced: bool                   # whether the settings name prices
    estimated: bool = False        # whether the tokens were counted here and not told by the service


@dataclass(frozen=True, slots=True)
class Comparison:
    """`tests`: for each model but the first, its first metric minus the first model's, paired by question."""

    role: Role
    items: list[Item]
    models: list[Tried]
    tests: dict[str, PairedResult]
    metric: str
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready types; an end of an interval that is not known is None."""
        found: dict[str, Any] = _finite(asdict(self))
        return found


def _finite(value: Any) -> Any:
    """JSON has no infinity."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def items_of(given: str | Path | Iterable[str | Mapping[str, Any] | Item]) -> list[Item]:
    """Questions as texts, mappings, or a file: a line of text or {"question": ..., "expected": ...} each; `passage` is
    another name of `expected`. Raises `InvalidInput` with the line, `NotFound`."""
    if isinstance(given, str | Path):
        try:
            lines = Path(given).read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            raise NotFound(f"there is no file {given}.", remedy="Name one with a question in each line.") from None
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInput(f"{given} cannot be read: {error}.", remedy="Name a file of lines in UTF-8.") from None
        given = [_line(line, f"{given}:{number}") for number, line in enumerate(lines, 1) if line.strip()]
    found = [each if isinstance(each, Item) else _item(each, f"question {number}")
             for number, each in enumerate(given, 1)]
    if not found:
        raise InvalidInput("there are no questions.", remedy="Give at least one; intervals need some dozens.")
    return found


def _line(line: str, where: str) -> Item:
    if not line.lstrip().startswith("{"):
        return _item(line.strip(), where)
    try:
        return _item(json.loads(line), where)
    except ValueError as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput(f"{where} is not JSON: {error}.") from None


def _item(given: Any, where: str) -> Item:
    if isinstance(given, str):
        given = {"question": given}
    if not isinstance(given, Mapping):
        raise InvalidInput(f"{where} must be text or an object, not {given!r:.80}.")
    unknown = sorted(set(given) - {"question", "expected", "passage"})
    question, expected = given.get("question"), given.get("expected", given.get("passage", ""))
    if unknown:
        raise InvalidInput(f"{where} has an unknown key {unknown[0]!r}.", remedy="Known: question, expected, passage.")
    if not (isinstance(question, str) and question.strip() and isinstance(expected, str)):
        raise InvalidInput(f'{where} needs "question" as text, and "expected" as text if at all.')
    return Item(question, expected)


def compare(items: Sequence[Item], names: Sequence[str], models: Models, settings: Settings, *, role: Role = "chat",
            ask: Answerer | None = None, max_tokens: int = 512,
            progress: Callable[[int, int], None] | None = None) -> Comparison:
    """Ask every model every question, one after another, so that no model's time is spoilt by another's.

    Args:
        ask: who answers with a model; default the model by itself.

    Raises:
        InvalidInput: fewer than one model, one twice, or no passages for embedders. A model that fails at a question is
        counted; one that cannot be had at all raises.
    """
    if not names or len(set(names)) != len(names):
        raise InvalidInput("name at least one model, and each once.")
    if role == "embed" and not all(item.expected for item in items):
        raise InvalidInput("to compare embedders, every question needs the passage that answers it.",
                           remedy='Write {"question": "...", "passage": "..."}.')
    done, total, tried = 0, len(items) * len(names), []

    def one_more() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    for name in names:
        real = models.alias(name, role).name
        price = settings.services.get(real.partition("/")[0])
        made = (_embedder(items, name, real, models, one_more) if role == "embed" else
                _chat(items, real, ask or _alone(models, max_tokens), price is None, one_more))
        tried.append(_summed(name, role, *made, price))
    metric = _METRICS[role][0]
    notes = []
    if settings.cache.mode != "off":
        notes.append("[cache] is in use: times are those of the cache where it had an answer")
    if not any(item.expected for item in items):
        notes.append("nothing was expected, so nothing is said about quality")
    return Comparison(role, list(items), tried, _tests(tried, metric), metric, notes)


def _alone(models: Models, max_tokens: int) -> Answerer:
    def ask(question: str, model: str) -> tuple[str, Usage]:
        text, usage = [], Usage()
        for delta in models.chat_model(model).chat([Message("user", question)], ChatOptions(max_tokens=max_tokens)):
            text.append(delta.text)
            usage = delta.usage or usage
        return "".join(text), usage

    return ask


def _chat(items: Sequence[Item], name: str, ask: Answerer, here: bool,
          one_more: Callable[[], None]) -> tuple[list[Reply], Usage, bool]:
    if here:          # loading weights is no answer's time
        ask(items[0].question, name)
    replies, spent, estimated = [], Usage(), False
    for item in items:
        started = time.perf_counter()
        try:
            text, usage = ask(item.question, name)
        except ServiceError as error:
            replies.append(Reply("", time.perf_counter() - started, failed=error.kind))
            one_more()
            continue
        seconds = time.perf_counter() - started
        if not usage.total_tokens and not here:
            usage, estimated = Usage(*count_tokens(None, [item.question, text])), True
        spent += usage
        replies.append(Reply(text, seconds, _likeness(item.expected, text) if item.expected else {}))
        one_more()
    return replies, spent, estimated


def _likeness(expected: str, text: str) -> dict[str, float]:
    """Both from 0 to 1."""
    wanted, given = (Counter({term: weight for term, weight in terms.items() if weight > 0})
                     for terms in default_analyzer().index_terms([expected, text]))
    shared = sum((wanted & given).values())
    recall = sum(weight for term, weight in wanted.items() if term in given) / (sum(wanted.values()) or 1.0)
    total = sum(wanted.values()) + sum(given.values())
    return {"containment": recall, "overlap": 2 * shared / total if total else 0.0}


def _embedder(items: Sequence[Item], name: str, real: str, models: Models,
              one_more: Callable[[], None]) -> tuple[list[Reply], Usage, bool]:
    model = models.embedder(real)
    passages = list(dict.fromkeys(item.expected for item in items))
    places = {passage: number for number, passage in enumerate(passages)}
    vectors = model.embed(passages)
    replies = []
    for item in items:
        started = time.perf_counter()
        try:
            direction = model.embed([item.question], "query")[0]
        except MadangError as error:
            replies.append(Reply("", time.perf_counter() - started, failed=getattr(error, "kind", error.code)))
            one_more()
            continue
        seconds = time.perf_counter() - started
        scores = vectors @ direction
        own = scores[places[item.expected]]
        # Of those that are as near, half are taken to stand before it: the order of the file proves nothing.
        rank = 1 + int((scores > own).sum()) + (int((scores == own).sum()) - 1) / 2
        replies.append(Reply(passages[int(np.argmax(scores))], seconds, {
            "reciprocal_rank": 1 / rank if rank <= _LAST_RANK else 0.0, "found_first": float(rank == 1)}))
        one_more()
    tokens = sum(count_tokens(model, [*passages, *(item.question for item in items)]))
    return replies, Usage(tokens, 0), not hasattr(model, "count_tokens")


def _summed(name: str, role: Role, replies: list[Reply], usage: Usage, estimated: bool, price: Service | None) -> Tried:
    times = [reply.seconds * 1000 for reply in replies if not reply.failed]
    p50, p95 = map(float, np.percentile(times, [50, 95])) if times else (None, None)
    quality = {}
    for metric in _METRICS[role]:
        values = [reply.scores[metric] for reply in replies if metric in reply.scores]
        if values:
            quality[metric] = bootstrap_mean(values)
    prices = (0.0, 0.0) if price is None else (price.price_in, price.price_out)
    cost = (usage.prompt_tokens * prices[0] + usage.completion_tokens * prices[1]) / 1_000_000
    failed = dict(Counter(reply.failed for reply in replies if reply.failed))
    return Tried(name, replies, quality, failed, p50, p95, usage, cost, any(prices), estimated)


def _tests(tried: Sequence[Tried], metric: str) -> dict[str, PairedResult]:
    """Over the questions that both sides have a score for."""
    found = {}
    for other in tried[1:]:
        pairs = [(b.scores[metric], a.scores[metric]) for a, b in zip(tried[0].replies, other.replies, strict=True)
                 if metric in a.scores and metric in b.scores]
        if pairs:
            found[other.model] = paired_test([pair[0] for pair in pairs], [pair[1] for pair in pairs])
    return found
