"""Which HTTP status an error is, and what may be told of it."""

from __future__ import annotations

from typing import Any

from madang.base.errors import (
    Conflict,
    InvalidInput,
    Locked,
    MadangError,
    MissingDependency,
    NotFound,
    ServiceError,
    Unreadable,
    Unsupported,
)
from madang.serve.access import NotAllowed
from madang.serve.http import Refused, TooLarge
from madang.serve.limits import Busy, TooMany

_STATUS: tuple[tuple[type[MadangError], int], ...] = (
    (TooLarge, 413), (TooMany, 429), (Busy, 503), (NotFound, 404), (Conflict, 409), (Locked, 503), (Unsupported, 501),
    (MissingDependency, 501), (InvalidInput, 400), (Unreadable, 400))


def status_of(error: MadangError) -> int:
    """The status; 500 for what is nobody's fault outside."""
    if isinstance(error, Refused):
        return error.status
    if isinstance(error, NotAllowed):
        return 403 if error.known else 401
    if isinstance(error, ServiceError):
        return 504 if error.kind == "timeout" else 502
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def told(error: MadangError) -> dict[str, Any]:
    """An error in our own words."""
    return {"code": error.code, "message": error.message, "remedy": error.remedy}
