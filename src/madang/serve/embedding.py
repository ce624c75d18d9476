"""The model behind an index that embeds: text of a protocol to the vectors that its collection holds.

The name of an index's model may promise a wider vector than the model that answers gives: the rest is zeros. A
collection may hold the whole width, or only what is not zero (`fitted`): no order changes. The signature of the model
that made the first vectors is kept with the collection, since vectors of two models cannot be compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from madang.base.errors import Conflict, InvalidInput
from madang.base.records import SparseVector
from madang.models.aliases import Widened, known
from madang.models.protocol import Embedder, Vectors
from madang.models.resolve import Models
from madang.models.sparse import SPARSE_MODELS, TermEmbedder
from madang.serve.pinecone_inference import KINDS, embedded
from madang.store import Collection
from madang.wire.pinecone_inference import InputType, input_type_of, truncate_of

SIGNATURE = "pinecone.embedder"     # attribute: who made the vectors
_TERMS = TermEmbedder()


class Embedding:
    """One index's model. `parameters` of reading and writing as the index was made with them."""

    def __init__(self, collection: Collection, models: Models, config: Mapping[str, Any]) -> None:
        """`config`: {"model", "dimension", "read_parameters", "write_parameters"}, the latter three optional."""
        self._collection, self._models, self._config = collection, models, config
        self.sparse = config["model"] in SPARSE_MODELS

    def passages(self, texts: Sequence[str]) -> tuple[Vectors, int]:
        """Vectors (n, dim of the collection) to store, and how many tokens were embedded. Raises `Conflict` where
        another model made those there are."""
        return self._dense(texts, "passage", "write_parameters", remember=True)

    def query(self, text: str) -> tuple[Vectors, int]:
        """A vector (dim,) to search with."""
        vectors, tokens = self._dense([text], "query", "read_parameters")
        return vectors[0], tokens

    def terms(self, texts: Sequence[str], kind: InputType) -> tuple[list[SparseVector], int]:
        """Sparse vectors, of an index whose model is sparse."""
        found = _TERMS.embed(texts, KINDS[kind])
        return [SparseVector(each.indices, each.values) for each in found], sum(len(each.indices) for each in found)

    def _dense(self, texts: Sequence[str], kind: InputType, name: str, remember: bool = False) -> tuple[Vectors, int]:
        embedder = self._models.embedder_as(self._config["model"], self._config.get("dimension"))
        self._check(embedder, remember)
        parameters = self._config.get(name) or {}
        wanted = input_type_of({"input_type": kind, **parameters})
        vectors, tokens = embedded(embedder, texts, wanted, truncate_of(parameters))
        return fitted(vectors, self._collection.dim, embedder.name), tokens

    def _check(self, embedder: Embedder, remember: bool) -> None:
        made_by = self._collection.attributes.get(SIGNATURE)
        if made_by is None and remember:
            self._collection.set_attributes({SIGNATURE: embedder.signature})
        elif made_by not in (None, embedder.signature):
            raise Conflict(f"index {self._collection.name!r} was embedded with {made_by}, but "
                           f"{self._config['model']!r:.80} now is {embedder.signature}.",
                           remedy="Set the alias back in madang.toml, or make another index and embed anew.")


def index_embedder(models: Models, name: str, dim: int | None) -> Embedder:
    """The model of an index that is being made, with vectors of `dim` numbers, None for as many as its name promises.

    Raises `InvalidInput` where the model has others: a service's names may be cut and padded, a workspace's own not.
    """
    found = models.embedder_as(name, dim)
    if isinstance(found, Widened) and known(name) is None:
        raise InvalidInput(f"{name} gives vectors of {found.embedder.dim} numbers, not {dim}.",
                           remedy="Leave the dimension out.")
    return found


def fitted(vectors: Vectors, dim: int, who: str) -> Vectors:
    """Vectors (n, width) as (n, dim): zeros added, or zeros left out.

    Raises `InvalidInput` where more than zeros would be left out.
    """
    width = vectors.shape[1]
    if width <= dim:
        return np.pad(vectors, ((0, 0), (0, dim - width))) if width < dim else vectors
    if vectors[:, dim:].any():
        raise InvalidInput(f"a vector of {width} numbers from {who} does not fit an index of {dim}.",
                           remedy=f"Make an index of dimension {width}.")
    return vectors[:, :dim]
