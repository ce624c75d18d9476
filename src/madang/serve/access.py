"""Who may do what: keys, and what each of them allows."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock

from madang.base.errors import Conflict, Corrupt, InvalidInput, MadangError, NotFound

Scope = Literal["read", "write", "admin"]
SCOPES: tuple[Scope, ...] = ("read", "write", "admin")     # each allows what those before it do
FILE_NAME = "keys.json"
PREFIX = "mdg_"                    # so that a key that leaked is recognised as one
_NAME = re.compile(r"[^\W_][\w .-]{0,62}")
LOCAL = "(this workspace's own)"   # no key can be called so
TRUST_S = 0.05                     # for so long a running server goes by what it knew of the keys
_log = logging.getLogger("madang.serve")


class NotAllowed(MadangError, PermissionError):
    """No key, an unknown one, or one that does not allow this. `known` tells whether the key was known."""

    code = "not_allowed"

    def __init__(self, message: str, *, known: bool, remedy: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.known = known


@dataclass(frozen=True, slots=True)
class Identity:
    """What the caller may do. `namespaces` and `collections` None: in all of them."""

    scope: Scope = "admin"
    namespaces: frozenset[str] | None = None
    name: str = ""
    collections: frozenset[str] | None = None

    def require(self, scope: Scope, namespace: str | None = None, collection: str | None = None) -> None:
        """Raise `NotAllowed` unless it allows this; `namespace` or `collection` None: something that concerns all of
        them."""
        if SCOPES.index(scope) > SCOPES.index(self.scope):
            raise NotAllowed(f"this key allows to {self.scope}, not to {scope}.", known=True)
        if self.collections is not None and collection not in self.collections:
            where = "all collections" if collection is None else f"collection {collection!r:.80}"
            raise NotAllowed(f"this key does not reach {where}.", known=True)
        if self.namespaces is not None and namespace not in self.namespaces:
            where = "all namespaces" if namespace is None else f"namespace {namespace!r:.80}"
            raise NotAllowed(f"this key does not reach {where}.", known=True)

    def reaches(self, collection: str) -> bool:
        """Whether it may know of a collection."""
        return self.collections is None or collection in self.collections

    def at(self, collection: str) -> Identity:
        """The same within one collection. Raises `NotAllowed` where it does not reach it."""
        if self.collections is None:
            return self
        if not self.reaches(collection):
            raise NotAllowed(f"this key does not reach collection {collection!r:.80}.", known=True)
        return replace(self, collections=None)


@dataclass(frozen=True, slots=True)
class Key:
    """A key as it is kept: never itself, only its digest."""

    id: str
    name: str
    digest: str                                # SHA-256, hexadecimal; the key has 256 random bits, so that is enough
    scope: Scope
    namespaces: tuple[str, ...] | None
    collections: tuple[str, ...] | None
    created_at: str                            # ISO 8601, UTC
    last_used_at: str | None = None

    def identity(self) -> Identity:
        return Identity(self.scope, None if self.namespaces is None else frozenset(self.namespaces), self.name,
                        None if self.collections is None else frozenset(self.collections))

    def shown(self) -> dict[str, Any]:
        """What may be told of it."""
        return {name: value for name, value in asdict(self).items() if name != "digest"}


class Keys:
    """The keys of a workspace: one file that only its owner may read, replaced whole at each change."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE_NAME
        self._lock = FileLock(directory / "keys.lock", mode=0o600)

    def create(self, name: str, scope: str = "read", namespaces: Iterable[str] | None = None,
               collections: Iterable[str] | None = None) -> tuple[str, Key]:
        """Make a key; the first value is shown to its owner once and kept nowhere. Raises `Conflict` for a name that is
        taken."""
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise InvalidInput(f"key name {name!r:.80} is not allowed.",
                               remedy="Use letters, digits, spaces, '-', '_' and '.', at most 63 characters.")
        known = next((each for each in SCOPES if each == scope), None)
        if known is None:
            raise InvalidInput(f"scope {scope!r:.80} is unknown.", remedy=f"Known: {', '.join(SCOPES)}.")
        token = PREFIX + secrets.token_urlsafe(32)
        key = Key(secrets.token_hex(4), name, digest_of(token), known, _sorted(namespaces), _sorted(collections),
                  _now())
        with self._changing() as keys:
            if any(each.name == name for each in keys.values()):
                raise Conflict(f"a key is called {name!r} already.", remedy="Revoke it first, or choose another name.")
            keys[key.digest] = key
        return token, key

    def revoke(self, name: str) -> Key:
        """Take a key back, by its name or id. A running server refuses it within `TRUST_S`."""
        with self._changing() as keys:
            found = next((key for key in keys.values() if name in (key.name, key.id)), None)
            if found is None:
                raise NotFound(f"no key is called {name!r:.80}.",
                               remedy=f"There are: {', '.join(key.name for key in keys.values()) or 'none'}.")
            del keys[found.digest]
        return found

    def read(self) -> dict[str, Key]:
        """All keys by digest, oldest first. Raises `Corrupt` for a file that is none of ours."""
        try:
            raw = json.loads(self._path.read_text(encoding="utf-8"))
            made = [Key(**{**each, **{name: _tuple(each[name]) for name in ("namespaces", "collections")}})
                    for each in raw["keys"]]
            if not all(key.scope in SCOPES and isinstance(key.digest, str) for key in made):
                raise ValueError
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise InvalidInput(f"{FILE_NAME} cannot be read: {error.strerror or error}.",
                               remedy="Give its owner the right to read it.") from None
        except (ValueError, TypeError, KeyError):
            raise Corrupt(f"{FILE_NAME} of the workspace is damaged.",
                          remedy="Move it away, and make new keys with: madang key create NAME") from None
        return {key.digest: key for key in made}

    def used(self, when: Mapping[str, str]) -> None:
        """Write down when keys were used last; `when` by digest."""
        with self._changing() as keys:
            for digest in when.keys() & keys.keys():
                keys[digest] = replace(keys[digest], last_used_at=when[digest])

    def version(self) -> tuple[int, int] | None:
        """Changes whenever the keys do; None while there is no file."""
        try:
            status = os.stat(self._path)
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ino

    @contextmanager
    def _changing(self) -> Iterator[dict[str, Key]]:
        with self._lock:
            keys = self.read()
            yield keys
            self._write(keys)

    def _write(self, keys: Mapping[str, Key]) -> None:
        beside = self._path.with_name(f".{FILE_NAME}.{secrets.token_hex(4)}")
        try:
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "w", encoding="utf-8") as file:
                json.dump({"keys": [asdict(key) for key in keys.values()]}, file, ensure_ascii=False, indent=1)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, self._path)
        finally:
            beside.unlink(missing_ok=True)


class Access:
    """Tells who a key stands for. Without keys, whoever reaches the server may do everything: it listens to this
    machine only then."""

    def __init__(self, keys: Keys | None = None, now: Callable[[], str] | None = None) -> None:
        self._keys, self._now = keys, now or _now
        self.token = secrets.token_urlsafe(32)     # for other processes of this machine that write through the server
        self._known: dict[str, Key] = {}
        self._version: tuple[int, int] | None = None
        self._used: dict[str, str] = {}
        self._guard = threading.Lock()
        self._looked = -TRUST_S                    # when, by the monotonic clock
        self._refresh()

    @property
    def required(self) -> bool:
        """Whether a key is needed. Once there were keys they are needed for good: revoking the last one opens
        nothing."""
        return self._version is not None

    def identify(self, key: str) -> Identity:
        """Raises `NotAllowed` for a key that is not known."""
        self._refresh()
        if self._version is None:
            return _EVERYTHING
        if hmac.compare_digest(key.encode("utf-8", "surrogatepass"), self.token.encode()):
            return Identity(name=LOCAL)
        digest = digest_of(key)
        found = self._known.get(digest)
        if found is None:           # made a moment ago, perhaps
            self._refresh(at_once=True)
            found = self._known.get(digest)
        if found is None or not hmac.compare_digest(found.digest, digest):
            raise NotAllowed("a key is needed." if not key else "this key is not known.", known=False,
                             remedy="Send one in the header Api-Key, or as Authorization: Bearer KEY.")
        self._used[digest] = self._now()
        return found.identity()

    def save_use(self) -> None:
        """Write down when keys were used; the server calls it now and then, and at its end."""
        with self._guard:
            used, self._used = self._used, {}
            if self._keys is not None and used:
                try:
                    self._keys.used(used)
                except (OSError, MadangError) as error:      # no reason to refuse anybody
                    _log.warning("the last use of keys could not be written down: %s", type(error).__name__)

    def _refresh(self, at_once: bool = False) -> None:
        """Look whether keys were made or revoked since, but not for every request: that may cost ten microseconds."""
        now = time.monotonic()
        if self._keys is None or (now < self._looked + TRUST_S and not at_once):
            return
        self._looked = now
        version = self._keys.version()
        if version == self._version:
            return
        if version is None:
            self._known = {}       # the file is gone: nobody is known any more
            return
        known = self._keys.read()
        self._known, self._version = known, version


_EVERYTHING = Identity()


def digest_of(key: str) -> str:
    """As it is kept."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def key_in(headers: Mapping[bytes, bytes]) -> str:
    """The key of a request, where Pinecone's clients or OpenAI's put it; "" for none."""
    given = headers.get(b"api-key")
    if given is None:
        word, _, rest = headers.get(b"authorization", b"").partition(b" ")
        given = rest.strip() if word.lower() == b"bearer" else b""
    return given.decode("latin-1")


def _sorted(names: Iterable[str] | None) -> tuple[str, ...] | None:
    found = None if names is None else tuple(sorted(set(names)))
    return found or None


def _tuple(names: Any) -> tuple[str, ...] | None:
    return None if names is None else tuple(names)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
