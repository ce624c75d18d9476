"""Token numbers back to text, by the table that a client on this machine made them with.

Clients that cut long inputs themselves (langchain-openai does by default) send the numbers of `cl100k_base`, from a
table that tiktoken keeps in a directory. It is read from there and never downloaded.
Its place: https://github.com/openai/tiktoken (load.py); a file is named by the SHA-1 of the address it came from.
"""

from __future__ import annotations

import base64
import hashlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from madang.wire.openai_fields import Wrong

_ADDRESS = "https://openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken"
FILE_NAME = hashlib.sha1(_ADDRESS.encode(), usedforsecurity=False).hexdigest()
_SHA256 = "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"


def as_text(given: str | Sequence[int], param: str) -> str:
    """Text as it is, tokens decoded. Raises `Wrong` where the table is not there or has no such token."""
    if isinstance(given, str):
        return given
    table = _found(place())
    if table is None:
        raise Wrong(f"'{param}' holds token numbers, and this server does not have the table to read them with.",
                    param=param, code="unsupported_tokens",
                    remedy="Send text (langchain-openai: check_embedding_ctx_length=False), or start the server with "
                           "TIKTOKEN_CACHE_DIR naming the directory that the client's tiktoken keeps its tables in.")
    try:
        return decoded(given, table)
    except KeyError as error:
        raise Wrong(f"'{param}' holds the token {error.args[0]}, which cl100k_base does not have.", param=param,
                    code="invalid_value", remedy="Send text.") from None


def place(env: Mapping[str, str] | None = None) -> Path:
    """Where tiktoken keeps the table."""
    env = os.environ if env is None else env
    directory = env.get("TIKTOKEN_CACHE_DIR") or env.get("DATA_GYM_CACHE_DIR")
    return Path(directory or Path(tempfile.gettempdir(), "data-gym-cache")) / FILE_NAME


def decoded(tokens: Sequence[int], table: Mapping[int, bytes]) -> str:
    """The text that the tokens are; raises `KeyError` for one that the table does not have."""
    return b"".join(table[token] for token in tokens).decode("utf-8", "replace")


def read(path: Path, sha256: str = _SHA256) -> dict[int, bytes]:
    """A table: lines of a token in base64 and its number. Raises OSError, or `ValueError` for another file than the one
    with this digest: anyone may write to a shared directory."""
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError(f"{path} is not the table it should be")
    pairs = (line.split() for line in content.splitlines() if line)
    return {int(number): base64.b64decode(token) for token, number in pairs}


def _found(path: Path) -> Mapping[int, bytes] | None:
    try:
        return _read(path, path.stat().st_mtime_ns)
    except (OSError, ValueError):
        return None


@lru_cache(maxsize=1)
def _read(path: Path, changed_ns: int) -> Mapping[int, bytes]:
    """Once for as long as the file is the same; a failure is not remembered."""
    return read(path)
