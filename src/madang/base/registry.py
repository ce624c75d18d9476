"""Entry points: how back-ends and providers are found, ours exactly like a stranger's."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from madang.base.errors import MissingDependency, NotFound

PROVIDERS = "madang.providers"

# Which extra brings the library that a plug-in of ours may miss.
_EXTRA_OF_LIBRARY = {"diffusers": "diffusers", "kiwipiepy": "ko", "milvus_lite": "milvus", "psycopg": "postgresql",
                     "sentence_transformers": "sentence-transformers", "torch": "transformers",
                     "transformers": "transformers", "pyarrow": "parquet", "pymilvus": "milvus",
                     "qdrant_client": "qdrant"}


@cache
def _points(group: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=group)}


def names(group: str) -> list[str]:
    """The registered names of a group, sorted."""
    return sorted(_points(group))


def load(group: str, name: str) -> Any:
    """Load the object registered as `name`.

    Raises:
        NotFound: nothing is registered under that name; the message lists what is.
        MissingDependency: it is registered, but a library it needs is not installed.
    """
    point = _points(group).get(name)
    if point is None:
        raise NotFound(f"no {group.rpartition('.')[2].rstrip('s')} is called {name!r}.",
                       remedy=f"Known: {', '.join(names(group)) or 'none'}.")
    try:
        return point.load()
    except ModuleNotFoundError as error:
        extra = _EXTRA_OF_LIBRARY.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        # Several plug-ins stand on torch: each is named like its extra.
        raise MissingDependency(f"{name!r}", extra=_EXTRA_OF_LIBRARY.get(name, extra)) from error
