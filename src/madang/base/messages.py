"""Nouns of conversation: chat messages, passages, citations, answers. Prompts and answers travel as values."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]
AnswerStatus = Literal["answered", "not_found", "partial"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens a model call cost. Zero where nothing was spent (the bundled reader)."""

    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.prompt_tokens + other.prompt_tokens, self.completion_tokens + other.completion_tokens)


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of a streamed chat answer. The last one carries `finish_reason` and, where told, `usage`."""

    text: str = ""
    finish_reason: str | None = None
    usage: Usage | None = None
    model: str | None = None       # the model that really answered, as the service named it


@dataclass(frozen=True, slots=True)
class Location:
    """Where a passage stands in its source, as a person would look it up."""

    line: int                      # 1-based line of the extracted text
    page: int | None = None        # 1-based, PDF only
    heading: str = ""              # "Vacation > Carry-over"

    def __str__(self) -> str:
        return f"p. {self.page}" if self.page is not None else f"line {self.line}"


@dataclass(frozen=True, slots=True)
class Passage:
    """A retrieved chunk: `text` equals source text[start:end]."""

    id: str
    text: str
    score: float
    source: str                    # uri of the source
    start: int
    end: int
    location: Location
    title: str = ""


@dataclass(frozen=True, slots=True)
class Citation:
    """A numbered, checked quotation: `quote` equals source text[start:end]; `verified` says it was read back."""

    number: int
    quote: str
    source: str
    start: int
    end: int
    location: Location
    verified: bool
    title: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer with its evidence. `text` refers to citations as [1], [2], ..."""

    question: str
    text: str
    status: AnswerStatus
    citations: list[Citation]
    model: str                     # what really answered
    passages: list[Passage] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)   # what the reader should know (language, unsupported claims)
    usage: Usage = field(default_factory=Usage)
    timings_ms: dict[str, float] = field(default_factory=dict)
    trace_id: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready types."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Problem:
    """One file that could not be ingested, and why."""

    path: str
    message: str


@dataclass(slots=True)
class IngestReport:
    """What an ingest did. `added + updated + unchanged + failed` are the files seen."""

    collection: str
    added: int = 0
    updated: int = 0
    unchanged: int = 0
    removed: int = 0
    skipped: int = 0               # files in folders whose suffix has no loader
    chunks: int = 0                # chunks written by this run
    seconds: float = 0.0
    problems: list[Problem] = field(default_factory=list)

    @property
    def failed(self) -> int:
        return len(self.problems)

    @property
    def chunks_per_second(self) -> float:
        return self.chunks / self.seconds if self.seconds else 0.0

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "failed": self.failed, "chunks_per_second": round(self.chunks_per_second, 1)}
