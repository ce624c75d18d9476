"""What can go wrong, as types. Every message names the field, the value and the remedy.

Each error also is the built-in exception a Python programmer would expect to catch (`ValueError` for bad
input, `KeyError` for something missing), so that `except ValueError` works without importing Madang.
"""

from __future__ import annotations


class MadangError(Exception):
    """The base of everything Madang raises on purpose.

    `code` is the stable machine-readable name that `--json` and the HTTP doors print.
    """

    code = "error"

    def __init__(self, message: str, *, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}" if self.remedy else self.message


class InvalidInput(MadangError, ValueError):
    """A value was refused: wrong shape, type, range or name."""

    code = "invalid_input"


class NotFound(MadangError, KeyError):
    """A collection, record, file or model does not exist."""

    code = "not_found"
    __str__ = MadangError.__str__  # KeyError would print the repr of its argument


class Conflict(MadangError, ValueError):
    """The thing exists already, or exists with other settings."""

    code = "conflict"


class Locked(MadangError, RuntimeError):
    """Another process is writing to this workspace. `server` is its address and a token where it is a server, through
    which others write."""

    code = "locked"

    def __init__(self, message: str, *, remedy: str | None = None, server: tuple[str, str] | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.server = server


class Corrupt(MadangError, RuntimeError):
    """A stored file is damaged or from an unknown version; nothing was changed."""

    code = "corrupt"


class MissingDependency(MadangError, ImportError):
    """An optional library is not installed; the remedy is the exact command to type."""

    code = "missing_dependency"

    def __init__(self, what: str, *, extra: str, instead: str = "") -> None:
        """`instead`: what else would do, as a sentence."""
        super().__init__(f"{what} needs a library that is not installed.",
                         remedy=f'Install it with: pip install "madang[{extra}]"{instead and f". {instead}"}')
        self.extra = extra


class Unsupported(MadangError, NotImplementedError):
    """This engine cannot do what was asked; another one, or the built-in one, can."""

    code = "unsupported"


class Unreadable(MadangError, ValueError):
    """A file could not be read as what its suffix says it is."""

    code = "unreadable"


class ServiceError(MadangError, RuntimeError):
    """A service, of a model or of a store, failed. `kind` says how; `retryable` whether trying again can help."""

    code = "service_error"

    def __init__(self, message: str, *, kind: str, remedy: str | None = None, status: int | None = None,
                 retryable: bool = False) -> None:
        super().__init__(message, remedy=remedy)
        self.kind = kind  # "auth", "model", "unreachable", "timeout", "rate_limit", "server" or "protocol"
        self.status = status
        self.retryable = retryable
