"""Which HTTP status an error is."""

from __future__ import annotations

from madang.base.errors import Conflict, InvalidInput, Locked, MadangError, NotFound, ServiceError, Unsupported
from madang.serve.access import NotAllowed
from madang.serve.http import TooLarge

_STATUS: tuple[tuple[type[MadangError], int], ...] = (
    (TooLarge, 413), (NotFound, 404), (Conflict, 409), (Locked, 503), (Unsupported, 501), (InvalidInput, 400))


def status_of(error: MadangError) -> int:
    """The status; 500 for what is nobody's fault outside."""
    if isinstance(error, NotAllowed):
        return 403 if error.known else 401
    if isinstance(error, ServiceError):
        return 504 if error.kind == "timeout" else 502
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
