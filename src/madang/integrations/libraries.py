"""The libraries that the integrations stand on; each is an extra."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from madang.base.errors import MissingDependency


@contextmanager
def required(library: str, extra: str) -> Iterator[None]:
    """Around its imports: where `library` is not installed, `MissingDependency` says what to type."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != library:
            raise
        raise MissingDependency(f"madang.integrations for {library}", extra=extra) from error
