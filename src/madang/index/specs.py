"""Index kinds by name: from what a caller passes as `index=` to a description that can be stored, and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from madang.base.errors import InvalidInput
from madang.index.flat import Flat
from madang.index.hnsw import HNSW
from madang.index.ivf import IVF
from madang.index.nsw import NSW
from madang.index.protocol import Metric

AnyIndex: TypeAlias = Flat | HNSW | NSW | IVF
Spec: TypeAlias = dict[str, Any]

_KINDS: dict[str, type[AnyIndex]] = {"flat": Flat, "hnsw": HNSW, "nsw": NSW, "ivf": IVF}
_GRAPH = ("m", "ef_construction", "ef_search", "seed", "quantization", "target_recall", "precision")
_PARAMETERS = {"flat": (), "hnsw": _GRAPH, "nsw": _GRAPH, "ivf": ("nlist", "nprobe", "seed", "quantization")}


def spec_of(index: Any, dim: int, metric: str) -> Spec:
    """{"kind": ..., parameters} of None (flat), a name, a class, or an empty instance. Raises InvalidInput."""
    if index is None:
        return {"kind": "flat"}
    if isinstance(index, str) and index.lower() in _KINDS:
        index = _KINDS[index.lower()]
    for kind, made_by in _KINDS.items():
        if index is made_by:
            index = made_by()
        if type(index) is made_by:
            _check_empty(index, dim, metric)
            return {"kind": kind, **{name: getattr(index, name) for name in _PARAMETERS[kind]}}
    raise InvalidInput(f"index {index!r} is unknown.",
                       remedy=f"Known: {', '.join(kind.__name__ + '()' for kind in _KINDS.values())}.")


def _check_empty(index: AnyIndex, dim: int, metric: str) -> None:
    if len(index):
        raise InvalidInput("index holds vectors already.", remedy="Pass a new one: it is the collection that fills it.")
    if index.dim not in (0, dim):
        raise InvalidInput(f"index has dim {index.dim} and the collection {dim}.",
                           remedy="Leave dim out of the index: it takes the collection's.")
    if index.metric not in ("cosine", metric):
        raise InvalidInput(f"index has metric {index.metric!r} and the collection {metric!r}.",
                           remedy="Leave metric out of the index: it takes the collection's.")


def index_of(spec: Spec, dim: int, metric: Metric) -> AnyIndex:
    """A new index of this description."""
    parameters = dict(spec)
    make: Callable[..., AnyIndex] = _KINDS[parameters.pop("kind")]
    return make(dim, metric, **parameters)


def class_of(spec: Spec) -> type[AnyIndex]:
    """The class of an index of this description."""
    return _KINDS[spec["kind"]]
