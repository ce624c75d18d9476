"""Who may do what: keys, and what each of them allows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from madang.base.errors import MadangError

Scope = Literal["read", "write", "admin"]
SCOPES: tuple[Scope, ...] = ("read", "write", "admin")     # each allows what those before it do


class NotAllowed(MadangError, PermissionError):
    """No key, an unknown one, or one that does not allow this. `known` tells whether the key was known."""

    code = "not_allowed"

    def __init__(self, message: str, *, known: bool, remedy: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.known = known


@dataclass(frozen=True, slots=True)
class Identity:
    """What the caller may do. `namespaces` None: in all of them."""

    scope: Scope = "admin"
    namespaces: frozenset[str] | None = None
    name: str = ""

    def require(self, scope: Scope, namespace: str | None = None) -> None:
        """Raise `NotAllowed` unless it allows this; `namespace` None: something that concerns all of them."""
        if SCOPES.index(scope) > SCOPES.index(self.scope):
            raise NotAllowed(f"this key allows to {self.scope}, not to {scope}.", known=True)
        if self.namespaces is not None and namespace not in self.namespaces:
            where = "all namespaces" if namespace is None else f"namespace {namespace!r:.80}"
            raise NotAllowed(f"this key does not reach {where}.", known=True)


class Access:
    """Without keys, whoever reaches the server may do everything: it listens to this machine only then."""

    def identify(self, key: str) -> Identity:
        """Raises `NotAllowed` for a key that is not known."""
        return Identity()
