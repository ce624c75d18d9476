"""Pinecone's inference: embedding, reranking and what models there are; JSON to plain values and back.

Pure functions, as in `wire.pinecone`. Sources: https://docs.pinecone.io/reference/api/2025-10/inference (embed, rerank,
list_models, describe_model).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

from madang.wire.pinecone import Malformed, _line, _list, _object, _string

InputType: TypeAlias = Literal["passage", "query"]
Truncate: TypeAlias = Literal["END", "START", "NONE"]
EMBED_INPUTS = 96                # texts of one request
RERANK_DOCUMENTS = 1_000
_RERANK_UNIT = 100               # documents of one unit


@dataclass(frozen=True, slots=True)
class EmbedRequest:
    """POST /embed; `dimension` None for the model's own."""

    model: str
    texts: Sequence[str]
    input_type: InputType = "passage"
    truncate: Truncate = "END"
    dimension: int | None = None
    return_tokens: bool = False


@dataclass(frozen=True, slots=True)
class RerankRequest:
    """POST /rerank; `texts` is what of each document is ranked."""

    model: str
    query: str
    documents: Sequence[Mapping[str, Any]]
    top_n: int
    rank_fields: Sequence[str] = ("text",)
    return_documents: bool = True

    @property
    def texts(self) -> list[str]:
        """What is ranked of each document."""
        return [ranked_text(document, self.rank_fields) for document in self.documents]


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model as GET /models describes it."""

    model: str
    kind: Literal["embed", "rerank"]
    description: str
    provider: str
    vector_type: Literal["dense", "sparse"] | None = None
    dimension: int | None = None
    dimensions: Sequence[int] = ()
    tokens: int | None = None                    # that it reads of one input
    inputs: int = EMBED_INPUTS
    parameters: Sequence[Mapping[str, Any]] = field(default_factory=tuple)


# --- requests ---


def decode_embed(payload: object) -> EmbedRequest:
    """The body of POST /embed. Raises `Malformed`."""
    body = _object(payload, "the body")
    items = _list(body.get("inputs"), "inputs")
    if not 1 <= len(items) <= EMBED_INPUTS:
        raise Malformed(f"inputs must hold 1 to {EMBED_INPUTS} texts, not {len(items):,}")
    texts = [item if isinstance(item, str) else _string(_object(item, f"inputs[{i}]").get("text"), f"inputs[{i}].text")
             for i, item in enumerate(items)]
    parameters = _object(body.get("parameters") or {}, "parameters")
    dimension = parameters.get("dimension")
    if dimension is not None and type(dimension) is not int:
        raise Malformed(f"parameters.dimension must be a whole number, not {_line(repr(dimension)):.80}")
    return EmbedRequest(model_name(body), texts, input_type_of(parameters), truncate_of(parameters), dimension,
                        flag(parameters, "return_tokens", False))


def encode_embed(request: EmbedRequest) -> dict[str, Any]:
    """The body that `decode_embed` reads."""
    parameters: dict[str, Any] = {"input_type": request.input_type, "truncate": request.truncate}
    if request.dimension is not None:
        parameters["dimension"] = request.dimension
    if request.return_tokens:
        parameters["return_tokens"] = True
    return {"model": request.model, "inputs": [{"text": text} for text in request.texts], "parameters": parameters}


def decode_rerank(payload: object) -> RerankRequest:
    """The body of POST /rerank. Raises `Malformed`."""
    body = _object(payload, "the body")
    items = _list(body.get("documents"), "documents")
    if not 1 <= len(items) <= RERANK_DOCUMENTS:
        raise Malformed(f"documents must hold 1 to {RERANK_DOCUMENTS:,} documents, not {len(items):,}")
    documents = [{"text": item} if isinstance(item, str) else _object(item, f"documents[{i}]")
                 for i, item in enumerate(items)]
    fields = rank_fields_of(body, ("text",))
    top_n = body.get("top_n")
    request = RerankRequest(model_name(body), text_of(body, "query"), documents,
                            len(documents) if top_n is None else whole(top_n, "top_n"), fields,
                            flag(body, "return_documents", True))
    request.texts    # noqa: B018 - a document without its fields is refused here
    return request


def encode_rerank(request: RerankRequest) -> dict[str, Any]:
    """The body that `decode_rerank` reads."""
    return {"model": request.model, "query": request.query, "documents": [dict(each) for each in request.documents],
            "top_n": request.top_n, "rank_fields": list(request.rank_fields),
            "return_documents": request.return_documents}


# --- answers ---


def encode_dense(model: str, vectors: Iterable[Any], tokens: int) -> dict[str, Any]:
    """The answer to POST /embed of a dense model."""
    return {"model": model, "vector_type": "dense", "usage": {"total_tokens": tokens},
            "data": [{"values": vector, "vector_type": "dense"} for vector in vectors]}


def encode_sparse(model: str, vectors: Iterable[tuple[Sequence[int], Sequence[float], Sequence[str] | None]],
                  tokens: int) -> dict[str, Any]:
    """The answer to POST /embed of a sparse model: indices, values, and the tokens where they were asked for."""
    return {"model": model, "vector_type": "sparse", "usage": {"total_tokens": tokens}, "data": [
        {"sparse_indices": indices, "sparse_values": values, "vector_type": "sparse",
         **({} if names is None else {"sparse_tokens": names})} for indices, values, names in vectors]}


def encode_ranked(model: str, ranked: Iterable[tuple[int, float]], documents: Sequence[Mapping[str, Any]] | None,
                  units: int) -> dict[str, Any]:
    """The answer to POST /rerank: places in the request with their scores, and the documents where they are wanted."""
    return {"model": model, "usage": {"rerank_units": units}, "data": [
        {"index": place, "score": score, **({} if documents is None else {"document": documents[place]})}
        for place, score in ranked]}


def rerank_units(documents: int) -> int:
    """What reranking that many documents counts for."""
    return max(1, -(-documents // _RERANK_UNIT))


def encode_model(info: ModelInfo) -> dict[str, Any]:
    """The answer to GET /models/{name}."""
    body: dict[str, Any] = {
        "model": info.model, "short_description": info.description, "type": info.kind, "modality": "text",
        "supported_parameters": [dict(each) for each in info.parameters], "provider_name": info.provider,
        "max_batch_size": info.inputs}
    if info.tokens is not None:
        body["max_sequence_length"] = info.tokens
    if info.vector_type is not None:
        body |= {"vector_type": info.vector_type,
                 "supported_metrics": ["cosine", "dotproduct", "euclidean"] if info.vector_type == "dense"
                 else ["dotproduct"]}
    if info.dimension is not None:
        body |= {"default_dimension": info.dimension, "supported_dimensions": list(info.dimensions)}
    return body


def parameter(name: str, allowed: Sequence[str | int], default: str | int | None) -> dict[str, Any]:
    """One of a model's `supported_parameters`: a choice."""
    kind = "integer" if allowed and isinstance(allowed[0], int) else "string"
    return {"parameter": name, "type": "one_of", "value_type": kind, "required": default is None,
            "allowed_values": list(allowed), **({} if default is None else {"default": default})}


# --- values ---


def model_name(body: Mapping[str, Any]) -> str:
    """The model that a body names."""
    name = body.get("model")
    if not isinstance(name, str) or not name:
        raise Malformed(f"model must name a model, not {_line(repr(name)):.80}")
    return name


def input_type_of(parameters: Mapping[str, Any]) -> InputType:
    """What the texts are: passages unless it is said."""
    return _choice(parameters, "input_type", get_args(InputType), "passage")  # type: ignore[return-value]


def truncate_of(parameters: Mapping[str, Any]) -> Truncate:
    """What becomes of texts that are too long: their ends are cut unless it is said."""
    return _choice(parameters, "truncate", get_args(Truncate), "END")  # type: ignore[return-value]


def rank_fields_of(body: Mapping[str, Any], default: Sequence[str]) -> list[str]:
    """Which fields of documents are ranked."""
    fields = body.get("rank_fields")
    if fields is None:
        return list(default)
    if not isinstance(fields, list) or not fields or not all(isinstance(name, str) and name for name in fields):
        raise Malformed(f"rank_fields must name at least one field, not {_line(repr(fields)):.80}")
    return fields


def ranked_text(document: Mapping[str, Any], fields: Sequence[str]) -> str:
    """The text of a document that is ranked: its fields, a line each. Raises `Malformed` for one that is not there."""
    parts = []
    for name in fields:
        value = document.get(name)
        if not isinstance(value, str):
            raise Malformed(f"a document has no text in field {_line(repr(name)):.80}; name one that all have in "
                            "rank_fields")
        parts.append(value)
    return "\n".join(parts)


def text_of(body: Mapping[str, Any], name: str) -> str:
    """Text that must be there."""
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise Malformed(f"{name} must be text, not {_line(repr(value)):.80}")
    return value


def whole(value: object, what: str, least: int = 1, most: int = 10_000) -> int:
    """A whole number within bounds."""
    if type(value) is not int or not least <= value <= most:
        raise Malformed(f"{what} must be a whole number from {least} to {most:,}, not {_line(repr(value)):.80}")
    return value


def flag(body: Mapping[str, Any], name: str, default: bool) -> bool:
    """True or false."""
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise Malformed(f"{name} must be true or false, not {_line(repr(value)):.80}")
    return default if value is None else value


def _choice(body: Mapping[str, Any], name: str, allowed: Sequence[str], default: str) -> str:
    value = body.get(name)
    if value is None:
        return default
    if value not in allowed:
        raise Malformed(f"{name} must be one of {', '.join(allowed)}, not {_line(repr(value)):.80}")
    return str(value)
