"""Writes of this process that another one has to make: the server that holds the workspace's lock.

Reading needs nobody's leave. A write first tries to take the lock; where a server has it, its `writer.json` names an
address and a token, and the write is sent there. The answer comes when it is committed there, and every reader sees it.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from madang.base import errors
from madang.base.errors import Locked, MadangError, MissingDependency, ServiceError
from madang.index.specs import spec_of
from madang.store import Collection, Database

PATH = "/api/through"
_TRIES, _PAUSE_S = 5, 0.2          # a server that has just stopped, or has just started
_TIMEOUT_S = 600.0                 # for one write
_T = TypeVar("_T")
_ERRORS: dict[str, type[MadangError]] = {
    kind.code: kind for kind in vars(errors).values()
    if inspect.isclass(kind) and issubclass(kind, MadangError) and kind not in (MissingDependency, ServiceError)}


class _Gone(Exception):
    """Nobody answers there any more, or somebody else."""


class SharedCollection(Collection):
    """A collection whose writes go through the server where one has the lock."""

    def upsert(self, records: Iterable[Any], *args: Any, **kwargs: Any) -> int:
        given = records if isinstance(records, Mapping | str) or not isinstance(records, Iterable) else list(records)
        return int(self._either("upsert", super().upsert, given, *args, **kwargs))

    def update(self, *args: Any, **kwargs: Any) -> Any:
        return self._either("update", super().update, *args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> int:
        return int(self._either("delete", super().delete, *args, **kwargs))

    def replace_sources(self, *args: Any, **kwargs: Any) -> int:
        return int(self._either("replace_sources", super().replace_sources, *args, **kwargs))

    def remove_sources(self, uris: Iterable[str], *args: Any, **kwargs: Any) -> int:
        return int(self._either("remove_sources", super().remove_sources, list(uris), *args, **kwargs))

    def reanalyze(self) -> int:
        return int(self._either("reanalyze", super().reanalyze))

    def set_attributes(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        return dict(self._either("set_attributes", super().set_attributes, changes))

    def _either(self, operation: str, local: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        def remote(server: tuple[str, str]) -> Any:
            arguments = inspect.signature(local).bind(*args, **kwargs).arguments
            return _call(server, operation, self.name, arguments)

        return either(lambda: local(*args, **kwargs), remote)


for _name in ("upsert", "update", "delete", "replace_sources", "remove_sources", "reanalyze", "set_attributes"):
    getattr(SharedCollection, _name).__doc__ = getattr(Collection, _name).__doc__


class SharedDatabase(Database):
    """The same for making and dropping collections."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, SharedCollection)

    def create(self, name: str, dim: int, metric: str = "cosine", index: Any = None, *args: Any,
               **kwargs: Any) -> Collection:
        local = super().create

        def remote(server: tuple[str, str]) -> Collection:
            arguments = inspect.signature(local).bind(name, dim, metric, index, *args, **kwargs).arguments
            _call(server, "create", name, {**arguments, "index": spec_of(index, dim, metric)})
            return self.open(name)

        return either(lambda: local(name, dim, metric, index, *args, **kwargs), remote)

    def drop(self, name: str) -> None:
        local = super().drop
        either(lambda: local(name), lambda server: _call(server, "drop", name, {}))


def either(local: Callable[[], _T], remote: Callable[[tuple[str, str]], _T]) -> _T:
    """Here where the lock can be had, else at the server that has it. Raises `Locked` where that is no server."""
    for attempt in range(_TRIES):
        try:
            return local()
        except Locked as error:
            if error.server is None:
                raise
            held, server = error, error.server
        try:
            return remote(server)
        except _Gone:
            if attempt + 1 < _TRIES:
                time.sleep(_PAUSE_S)
    raise held


def _call(server: tuple[str, str], operation: str, collection: str, arguments: Mapping[str, Any]) -> Any:
    import httpx
    import orjson

    address, token = server
    body = orjson.dumps({"operation": operation, "collection": collection, "arguments": dict(arguments)},
                        option=orjson.OPT_SERIALIZE_NUMPY, default=_plain)
    try:
        answer = httpx.post(f"{address}{PATH}", content=body, timeout=_TIMEOUT_S, trust_env=False,
                            headers={"Api-Key": token, "Content-Type": "application/json"})
    except httpx.ConnectError:
        raise _Gone from None
    except httpx.HTTPError as error:
        raise ServiceError(f"the server that writes to this workspace did not answer ({type(error).__name__}); the "
                           "write may have been made.", kind="unreachable", remedy="Look, and repeat it.") from None
    if answer.status_code in (401, 404) and not _is_ours(answer.content):
        raise _Gone
    return _result(answer.status_code, answer.content)


def _plain(value: Any) -> Any:
    """What JSON's writer does not know: an array that is not contiguous, a mapping that is no dict."""
    if isinstance(value, Mapping):
        return dict(value)
    return value.tolist() if hasattr(value, "tolist") else list(value)


def _is_ours(content: bytes) -> bool:
    """Whether an error is about the write, not about a token of another day or another program at that address."""
    import orjson

    try:
        return bool(orjson.loads(content)["error"]["code"] in _ERRORS)
    except (ValueError, KeyError, TypeError):
        return False


def _result(status: int, content: bytes) -> Any:
    import orjson

    try:
        told = orjson.loads(content)
        if status == 200:
            return told["result"]
        error = told["error"]
        kind = _ERRORS.get(error["code"])
        if kind is not None:
            raise kind(error["message"], remedy=error["remedy"])
        said = error["message"]
    except (ValueError, KeyError, TypeError) as problem:
        if isinstance(problem, MadangError):       # those are ValueErrors, too
            raise
        said = f"it answers with status {status}."
    raise ServiceError(f"the server that writes to this workspace could not: {said}", kind="server")
