"""Pinecone's inference over the models of a workspace: embed, rerank, and what models there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import ParamSpec, TypeVar

import numpy as np

from madang.base.errors import InvalidInput, NotFound
from madang.models import aliases
from madang.models.aliases import Widened
from madang.models.protocol import Embedder, EmbedKind, Vectors
from madang.models.sparse import SPARSE_MODELS, TermEmbedder
from madang.models.tokens import count_tokens
from madang.serve.access import Identity
from madang.serve.http import Reply, Request, as_json
from madang.serve.routes import Routes
from madang.serve.work import Work
from madang.wire import pinecone_inference as wire
from madang.wire.pinecone import Malformed
from madang.wire.pinecone_inference import EmbedRequest, InputType, ModelInfo, RerankRequest, Truncate
from madang.workspace import Workspace

_P = ParamSpec("_P")
_T = TypeVar("_T")
KINDS: dict[InputType, EmbedKind] = {"passage": "document", "query": "query"}
_CALLED = ("multilingual-e5-large", "llama-text-embed-v2")    # what Pinecone's clients know; OpenAI's names embed, too
_HALVINGS = 40      # of a text whose start is cut off: enough for any


def understood(decode: Callable[_P, _T], *given: _P.args, **named: _P.kwargs) -> _T:
    """What `decode` gives; what it does not understand is the caller's mistake."""
    try:
        return decode(*given, **named)
    except Malformed as error:
        raise InvalidInput(f"{error}.") from None


class Inference:
    """`add_to` takes the paths of the control plane that are inference's."""

    def __init__(self, workspace: Workspace, work: Work) -> None:
        self._workspace, self._models, self._work = workspace, workspace.models, work
        self._terms = TermEmbedder()

    def add_to(self, control: Routes) -> None:
        """Take the paths."""
        control.add("POST", "/embed", self._embed)
        control.add("POST", "/rerank", self._rerank)
        control.add("GET", "/models", self._list)
        control.add("GET", "/models/{name}", self._describe)

    async def _embed(self, request: Request) -> Reply:
        _reads(request.identity)
        wanted = understood(wire.decode_embed, request.json())
        if wanted.model in SPARSE_MODELS:
            return await self._work.long(partial(self._sparse, wanted))
        aliases.checked_width(wanted.model, wanted.dimension)
        self._models.alias(wanted.model, "embed")      # an unknown name is refused before a thread is taken
        return await self._work.long(partial(self._dense, wanted))

    def _dense(self, wanted: EmbedRequest) -> Reply:
        embedder = self._models.embedder_as(wanted.model, wanted.dimension)
        vectors, tokens = embedded(embedder, wanted.texts, wanted.input_type, wanted.truncate)
        return as_json(wire.encode_dense(embedder.name, np.ascontiguousarray(vectors), tokens))

    def _sparse(self, wanted: EmbedRequest) -> Reply:
        found = self._terms.embed(wanted.texts, KINDS[wanted.input_type])
        rows = [(each.indices, each.values, each.tokens if wanted.return_tokens else None) for each in found]
        return as_json(wire.encode_sparse(self._terms.name, rows, sum(len(each.indices) for each in found)))

    async def _rerank(self, request: Request) -> Reply:
        _reads(request.identity)
        wanted = understood(wire.decode_rerank, request.json())
        self._models.alias(wanted.model, "rerank")
        return await self._work.long(partial(self._ranked, wanted))

    def _ranked(self, wanted: RerankRequest) -> Reply:
        reranker = self._models.reranker(wanted.model)
        scores = reranker.rerank(wanted.query, wanted.texts)
        best = np.argsort(-scores, kind="stable")[:wanted.top_n]
        return as_json(wire.encode_ranked(reranker.name, [(int(i), float(scores[i])) for i in best],
                                          wanted.documents if wanted.return_documents else None,
                                          wire.rerank_units(len(wanted.documents))))

    def _list(self, request: Request) -> Reply:
        _reads(request.identity)
        asked = request.parameters()
        kinds, types = asked.get("type"), asked.get("vector_type")
        infos = [self._info(name) for name in self._names()]
        return as_json({"models": [wire.encode_model(info) for info in infos if (kinds is None or info.kind in kinds)
                                   and (types is None or info.vector_type in types)]})

    def _describe(self, request: Request) -> Reply:
        _reads(request.identity)
        name = request.parts["name"]
        if name not in self._names():
            raise NotFound(f"model {name!r:.80} is not known here.", remedy=f"Known: {', '.join(self._names())}.")
        return as_json(wire.encode_model(self._info(name)))

    def _names(self) -> list[str]:
        rerankers = [name for name, each in aliases.KNOWN.items() if each.role == "rerank"]
        return [*_CALLED, *SPARSE_MODELS, *rerankers]

    def _info(self, name: str) -> ModelInfo:
        shared = [wire.parameter("input_type", ["query", "passage"], "passage"),
                  wire.parameter("truncate", ["END", "START", "NONE"], "END")]
        if name in SPARSE_MODELS:
            return ModelInfo(name, "embed", f"Answered by {self._terms.name}: terms weighed as in BM25.", "Madang",
                             "sparse", parameters=shared[:1])
        resolved = self._models.alias(name)
        told = f"Answered by {resolved.name}."
        if resolved.role == "rerank":
            return ModelInfo(name, "rerank", told, "Madang", inputs=wire.RERANK_DOCUMENTS)
        widths = [int(width) for width in aliases.KNOWN[name].widths]
        if len(widths) > 1:
            shared.append(wire.parameter("dimension", widths, resolved.width))
        return ModelInfo(name, "embed", told, "Madang", "dense", resolved.width, widths, parameters=shared)


def _reads(identity: Identity) -> None:
    """Whoever may read anything may use the models: no namespace has to do with them."""
    identity.require("read", min(identity.namespaces) if identity.namespaces else None)


def embedded(embedder: Embedder, texts: Sequence[str], kind: InputType, truncate: Truncate = "END") -> tuple[Vectors,
                                                                                                             int]:
    """Vectors (n, dim) and how many tokens the texts have. Raises `InvalidInput` for one that is too long where
    `truncate` is "NONE"."""
    inner = embedder.embedder if isinstance(embedder, Widened) else embedder
    counts = count_tokens(inner, texts)
    most = getattr(inner, "max_tokens", None)
    if most is not None and truncate != "END" and max(counts) > most:
        if truncate == "NONE":
            place = int(np.argmax(counts))
            raise InvalidInput(f"inputs[{place}] has {counts[place]:,} tokens; {inner.name} reads {most:,}.",
                               remedy='Shorten it, or say "truncate": "END".')
        texts = [text if count <= most else _ending(inner, text, most)
                 for text, count in zip(texts, counts, strict=True)]
    return embedder.embed(texts, KINDS[kind]), sum(counts)


def _ending(model: Embedder, text: str, most: int) -> str:
    """The longest end of a text that has no more than `most` tokens, by halving."""
    low, high = 0, len(text)         # the start: too early, early enough
    for _ in range(_HALVINGS):
        if high - low <= 1:
            break
        middle = (low + high) // 2
        if count_tokens(model, [text[middle:]])[0] > most:
            low = middle
        else:
            high = middle
    return text[high:]
