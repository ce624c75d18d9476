"""A store by its address: a name in the workspace, or the URL of another engine."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol
from urllib.parse import parse_qs, unquote, urlsplit

from madang.base import registry
from madang.base.errors import InvalidInput, NotFound
from madang.store.protocol import CollectionProtocol

STORES = "madang.stores"         # the group of entry points
_SAME = {"postgres": "postgresql"}


class Workspaces(Protocol):
    """How a collection of a workspace is opened: the caller knows workspaces, a store does not."""

    def __call__(self, name: str, directory: Path | None, dim: int | None, metric: str) -> CollectionProtocol:
        """The collection `name` of the workspace in `directory`, None for the current one. With a `dim` it is made
        when it does not exist; else `NotFound`."""


def open_store(address: str, workspaces: Workspaces, *, dim: int | None = None,
               metric: str = "cosine") -> CollectionProtocol:
    """Open a collection wherever it is.

    Args:
        address: a plain name, `madang:///directory?collection=NAME`, or the URL of an engine, such as
            `postgresql://user@host/database?collection=NAME` or `pinecone://NAME`.
        dim, metric: make the collection if it does not exist, for vectors of `dim` numbers.

    Raises:
        NotFound: no such collection, or no engine of that name; the message lists those there are.
        MissingDependency: the engine's library is not installed. InvalidInput: not an address.
    """
    if not isinstance(address, str) or not address:
        raise InvalidInput(f"{address!r:.80} is no address of a collection.", remedy="Give a name or a URL.")
    scheme, separator, _ = address.partition("://")
    if not separator:
        return workspaces(address, None, dim, metric)
    if scheme == "madang":
        parts = urlsplit(address)
        names = parse_qs(parts.query).get("collection", [])
        if parts.netloc or not parts.path or len(names) != 1:
            raise InvalidInput(f"{address!r:.200} does not name a workspace's directory and a collection.",
                               remedy="Write madang:///directory?collection=NAME.")
        return workspaces(names[0], Path(unquote(parts.path)), dim, metric)
    engine = registry.load(STORES, _SAME.get(scheme, scheme))
    try:
        opened: CollectionProtocol = engine.open(address)
    except NotFound:
        if dim is None:
            raise
        opened = engine.create(address, dim, metric)
    return opened
