"""What our own routes share: what they serve, who asks, what they take and give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import orjson
from fastapi import Depends, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field

from madang.base.errors import MadangError
from madang.serve.access import Identity
from madang.serve.limits import Limits
from madang.serve.ready import Ready
from madang.serve.watch import Metrics
from madang.serve.work import Work
from madang.workspace import Workspace

IDENTITY = "madang.identity"       # of a request's scope


@dataclass(frozen=True, slots=True)
class Served:
    """What is served, and by whom. `cleaned` takes out of an error what only this machine may know."""

    workspace: Workspace
    work: Work
    limits: Limits
    metrics: Metrics
    ready: Ready
    cleaned: Callable[[MadangError], MadangError]


def _identity(request: Request) -> Identity:
    found: Identity = request.scope[IDENTITY]
    return found


Who = Annotated[Identity, Depends(_identity)]


def reply(content: Any, status: int = 200) -> Response:
    """An answer of JSON: numbers of numpy, dates and whatever else has a text."""
    body = orjson.dumps(content, default=str, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)
    return Response(body, status, media_type="application/json")


class _Request(Request):
    """JSON by the parser that the protocols use: no NaN, no lone surrogates, bounded depth."""

    async def json(self) -> Any:
        return orjson.loads(await self.body())


class Route(APIRoute):
    def get_route_handler(self) -> Callable[[Request], Any]:
        handler = super().get_route_handler()

        async def answer(request: Request) -> Response:
            made: Response = await handler(_Request(request.scope, request.receive))
            return made

        return answer


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


Name = Annotated[str, Field(min_length=1, max_length=63, description="Letters, digits, '-', '_' and '.'.")]
Id = Annotated[str, Field(min_length=1, max_length=512)]
Namespace = Annotated[str, Field(max_length=512)]
TopK = Annotated[int, Field(ge=1, le=10_000)]
Vector = Annotated[list[float], Field(max_length=20_000)]
Conditions = Annotated[dict[str, Any], Field(
    description='A metadata filter, e.g. {"year": {"$gte": 2020}}; applied before the search.')]


class ErrorTold(BaseModel):
    code: str
    message: str
    remedy: str | None


class Failure(BaseModel):
    """Every error, whatever its status."""

    error: ErrorTold


class Index(_Model):
    kind: Literal["flat", "hnsw", "nsw", "ivf"] = "flat"
    m: Annotated[int, Field(ge=2, le=512)] | None = None
    ef_construction: Annotated[int, Field(ge=1, le=10_000)] | None = None
    ef_search: Annotated[int, Field(ge=1, le=10_000)] | None = None
    nlist: Annotated[int, Field(ge=1, le=100_000)] | None = None
    nprobe: Annotated[int, Field(ge=1, le=100_000)] | None = None


class NewCollection(_Model):
    name: Name
    dim: Annotated[int, Field(ge=1, le=20_000)]
    metric: Literal["cosine", "dot", "euclidean"] = "cosine"
    index: Index = Index()


class Described(BaseModel):
    name: str
    dim: int
    metric: str
    index: str
    embedder: str | None


class Listed(BaseModel):
    collections: list[Described]


class Stats(Described):
    records: int
    namespaces: dict[str, int]
    sources: int
    analyzer: str
    size_bytes: int
    sequence: int


class Audit(_Model):
    samples: Annotated[int, Field(ge=1, le=1000)] = 200
    top_k: Annotated[int, Field(ge=1, le=1000)] = 10
    ef_search: Annotated[int, Field(ge=1, le=10_000)] | None = None


class NewSnapshot(_Model):
    name: Name


class Sparse(_Model):
    indices: list[Annotated[int, Field(ge=0, lt=2**32)]]
    values: list[float]


class NewRecord(_Model):
    id: Id
    values: Vector
    sparse: Sparse | None = None
    metadata: dict[str, Any] = {}
    document: str | None = None
    context: str | None = None


class Upsert(_Model):
    records: list[NewRecord]
    namespace: Namespace = ""


class Update(_Model):
    id: Id
    values: Vector | None = None
    set_metadata: dict[str, Any] | None = None
    namespace: Namespace = ""


class Delete(_Model):
    """Exactly one of `ids`, `filter` and `delete_all`."""

    ids: list[Id] | None = None
    filter: Conditions | None = None
    delete_all: bool = False
    namespace: Namespace = ""


class Fetch(_Model):
    ids: list[Id]
    namespace: Namespace = ""


class Query(_Model):
    """By `vector`, by words (`text`), by a sparse vector, or several of these fused."""

    vector: Vector | None = None
    text: str | None = None
    sparse: Sparse | None = None
    top_k: TopK = 10
    namespace: Namespace = ""
    filter: Conditions | None = None
    include_metadata: bool = True
    include_values: bool = False
    include_document: bool = False
    target_recall: Annotated[float, Field(gt=0, le=1)] | None = None


class Match(BaseModel):
    id: str
    score: float
    metadata: dict[str, Any] | None = None
    values: list[float] | None = None
    document: str | None = None


class Found(BaseModel):
    matches: list[Match]
    namespace: str
    plan: str


class Search(_Model):
    query: Annotated[str, Field(min_length=1, max_length=100_000)]
    collection: Name = "docs"
    top_k: TopK = 10
    mode: Literal["hybrid", "dense", "bm25"] = "hybrid"
    filter: Conditions | None = None


Encoded = Annotated[str, Field(min_length=1, max_length=90_000_000, description=(
    "A picture's file in base64, or as a data URL. No address is fetched."))]


class ImageSearch(_Model):
    """By words (`text`), by a picture (`image`), or by both, where `weight` is that of the words."""

    text: Annotated[str, Field(min_length=1, max_length=10_000)] | None = None
    image: Encoded | None = None
    collection: Name = "images"
    top_k: TopK = 10
    weight: Annotated[float, Field(ge=0, le=1)] = 0.5
    filter: Conditions | None = None
    duplicates: bool = False


class FoundImage(BaseModel):
    """`relevant`: whether its score reaches the collection's cut-off; null where there is none."""

    id: str
    score: float
    metadata: dict[str, Any]
    caption: str
    relevant: bool | None
    thumbnail: str


class FoundImages(BaseModel):
    pictures: list[FoundImage]


class ImageQuestion(_Model):
    """Words, and the ids of all pictures they are true of."""

    text: Annotated[str, Field(min_length=1, max_length=10_000)]
    relevant: list[Id]


class Calibrate(_Model):
    """Without questions the captions of the collection are asked."""

    collection: Name = "images"
    questions: list[ImageQuestion] | None = None


class Ask(_Model):
    """`stream`: the answer as server-sent events, `text` as it is written and `answer` at the end."""

    question: Annotated[str, Field(min_length=1, max_length=100_000)]
    collection: Name = "docs"
    top_k: Annotated[int, Field(ge=1, le=100)] | None = None
    model: Annotated[str, Field(max_length=200)] | None = None
    filter: Conditions | None = None
    stream: bool = False


class Uris(_Model):
    uris: list[Annotated[str, Field(min_length=1, max_length=4096)]]


ERRORS: dict[int | str, dict[str, Any]] = {status: {"model": Failure, "description": text} for status, text in (
    (400, "A value is refused"), (401, "No key, or an unknown one"), (403, "The key does not allow this"),
    (404, "It is not there"), (409, "It is there already"), (413, "Too large"), (422, "A value of the wrong kind"),
    (429, "Too many requests; see Retry-After"), (503, "Busy, or another process writes; see Retry-After"))}
