"""Nouns of conversation: chat messages, passages, citations, answers. Prompts and answers travel as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]
ToolChoice = Literal["auto", "none", "required", "named"]
AnswerStatus = Literal["answered", "not_found", "partial"]


@dataclass(frozen=True, slots=True)
class Image:
    """A picture within a message: its bytes, or the address from which a service may fetch it."""

    media_type: str = ""           # "image/png"; "" where only the address is known
    data: bytes = field(default=b"", repr=False)
    url: str = ""
    detail: str = ""               # "low", "high" or "auto": how closely a service shall look


@dataclass(frozen=True, slots=True)
class ToolCall:
    """What a model wants called. `arguments` is JSON as the model wrote it, which may be none."""

    id: str
    name: str
    arguments: str = "{}"


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat. `content` is its text; where there are pictures, `parts` are both in their order."""

    role: Role
    content: str
    name: str = ""                 # of who speaks, where several share a role
    parts: tuple[str | Image, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()    # of an assistant
    tool_call_id: str = ""         # of a tool's result: the call that it answers

    @property
    def images(self) -> tuple[Image, ...]:
        return tuple(part for part in self.parts if isinstance(part, Image))


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that a model may ask to be called. `parameters`: the JSON schema of its arguments, an object."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    strict: bool | None = None


@dataclass(frozen=True, slots=True)
class AnswerFormat:
    """That the answer shall be JSON, and of which schema; an empty one: any object."""

    schema: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    description: str = ""
    strict: bool | None = None


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """How a model shall answer. None leaves it to the model; a model ignores what it cannot do.

    `tool_choice` "named": the tool called `tool_name`. `logprobs`: None for none, else how many
    alternatives of each token to tell, 0 for the token alone.
    """

    temperature: float | None = 0.0
    max_tokens: int | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = "auto"
    tool_name: str = ""
    parallel_tool_calls: bool | None = None
    answer_format: AnswerFormat | None = None
    logprobs: int | None = None
    reasoning_effort: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)    # what a service's protocol has besides, as it was sent


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
class ToolCallPiece:
    """A piece of the call number `index` (0-based): `id` and `name` come with the first, `arguments` bit by bit."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class Logprob:
    """A token of the answer, the natural logarithm of its probability, and those of its likeliest alternatives."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of a streamed chat answer. The last one carries `finish_reason` and, where told, `usage`."""

    text: str = ""
    finish_reason: str | None = None
    usage: Usage | None = None
    model: str | None = None       # the model that really answered, as the service named it
    tool_calls: tuple[ToolCallPiece, ...] = ()
    logprobs: tuple[Logprob, ...] = ()
    refusal: str = ""              # text that says why the model does not answer as it was asked to


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
