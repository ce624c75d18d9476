"""One `madang.toml` per workspace; every key has an environment variable, which wins.

`[models] chat = "..."` is `MADANG_MODELS_CHAT`; `[services.openai] base_url = "..."` is
`MADANG_SERVICES_OPENAI_BASE_URL`; `"gpt-4o" = "..."` in `[aliases]` is `MADANG_ALIASES_GPT_4O`. A service named
`openai` also reads `OPENAI_BASE_URL` and `OPENAI_API_KEY`, as OpenAI's own client does.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from madang.base.errors import InvalidInput

FILE_NAME = "madang.toml"
_PREFIX = "MADANG_"


@dataclass(frozen=True, slots=True)
class Models:
    """Which model does what."""

    embed: str = "bundled/minilm"      # new collections; an existing one keeps the embedder it was made with
    chat: str = "bundled/reader"       # who answers `ask`
    rerank: str = "bundled/reranker"   # orders what a search found once more, where a caller asks for it
    draw: str = ""                     # who makes pictures from descriptions; nobody unless configured


@dataclass(frozen=True, slots=True)
class Service:
    """An OpenAI-compatible service."""

    base_url: str = "https://api.openai.com/v1"
    api_key: str = field(default="", repr=False)   # a repr ends up in logs; a key must not
    timeout_s: float = 60.0            # for one request: connecting, and each wait for data
    retries: int = 3
    kind: str = "openai_compatible"    # the provider (entry point) that speaks to it


@dataclass(frozen=True, slots=True)
class Retrieval:
    """How passages are found."""

    top_k: int = 8
    rrf_k: int = 60
    dense_weight: float = 1.0
    lexical_weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Ingest:
    """How documents are cut."""

    chunk_chars: int = 800
    max_file_mb: float = 64.0


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything configurable, validated."""

    models: Models = field(default_factory=Models)
    retrieval: Retrieval = field(default_factory=Retrieval)
    ingest: Ingest = field(default_factory=Ingest)
    services: dict[str, Service] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)    # another name of a model -> "PROVIDER/MODEL"


_SECTIONS: dict[str, type[Any]] = {"models": Models, "retrieval": Retrieval, "ingest": Ingest}
# Every number is at least its minimum; zero weights switch one side of hybrid retrieval off.
_MINIMUM = {"top_k": 1, "rrf_k": 1, "dense_weight": 0, "lexical_weight": 0, "chunk_chars": 100,
            "max_file_mb": 0.001, "timeout_s": 0.001, "retries": 0}
_T = TypeVar("_T")


def load(workspace: Path, env: Mapping[str, str] | None = None) -> Settings:
    """Read `workspace/madang.toml` (absent means defaults) and the environment.

    Raises:
        InvalidInput: not TOML, an unknown key, or a value of the wrong type or range; says which.
    """
    env = os.environ if env is None else env
    path = workspace / FILE_NAME
    raw: dict[str, Any] = {}
    if path.exists():
        try:
            raw = tomllib.loads(path.read_text(encoding="utf-8-sig"))  # Windows editors may leave a BOM
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidInput(f"{path} is not valid TOML: {error}.",
                               remedy="Correct it, or move the file away to use the defaults.") from error
        except OSError as error:
            raise InvalidInput(f"{path} cannot be read: {error.strerror}.",
                               remedy="Make it a readable file, or move it away.") from error
    unknown = sorted(set(raw) - set(_SECTIONS) - {"services", "aliases"})
    if unknown:
        raise InvalidInput(f"{path}: unknown section [{unknown[0]}].",
                           remedy=f"Known: {', '.join([*_SECTIONS, 'services.NAME', 'aliases'])}.")
    sections = {name: _section(kind, raw.get(name, {}), name, path, env) for name, kind in _SECTIONS.items()}
    return Settings(services=_services(raw.get("services", {}), path, env),
                    aliases=_aliases(raw.get("aliases", {}), path, env), **sections)


def variable(section: str, key: str) -> str:
    """A key's environment variable: MADANG_SERVICES_MY_VLLM_API_KEY for "services.my-vllm", "api_key"."""
    return f"{_PREFIX}{section}_{key}".upper().replace(".", "_").replace("-", "_")


def _aliases(raw: Any, path: Path, env: Mapping[str, str]) -> dict[str, str]:
    """By name. One that only the environment knows is called as its variable ends: gpt-4o for MADANG_ALIASES_GPT_4O."""
    if not isinstance(raw, dict):
        raise InvalidInput(f'{path}: [aliases] must be a table such as "gpt-4o" = "local/llama".')
    found = {name: _check(model, str, name, f"{path}: [aliases] {name!r}") for name, model in raw.items()}
    marker = variable("aliases", "")
    spelled = {variable("aliases", name): name for name in found}
    for key in sorted(env):
        if key.startswith(marker) and key != marker:
            found[spelled.get(key, key.removeprefix(marker).lower().replace("_", "-"))] = env[key]
    return found


def _services(raw: Any, path: Path, env: Mapping[str, str]) -> dict[str, Service]:
    if not isinstance(raw, dict):
        raise InvalidInput(f"{path}: [services] must hold tables such as [services.openai].")
    names = {"openai", *raw}
    marker = f"{_PREFIX}SERVICES_"
    taken = {variable(f"services.{name}", "base_url") for name in names}  # my-vllm has MY_VLLM: no second one
    for key in env:  # MADANG_SERVICES_LOCAL_BASE_URL alone defines the service "local"
        name = key.removeprefix(marker).removesuffix("_BASE_URL")
        if key == f"{marker}{name}_BASE_URL" and name and key not in taken:
            names.add(name.lower())
    services = {}
    for name in sorted(names):
        table = raw.get(name, {})
        if name == "openai" and isinstance(table, dict) and "base_url" not in table:
            # A workspace that names another address does not get the key that was meant for OpenAI's: it may be a
            # stranger's workspace.
            defaults = {"base_url": env.get("OPENAI_BASE_URL"), "api_key": env.get("OPENAI_API_KEY")}
            table = {k: v for k, v in defaults.items() if v} | table
        services[name] = _section(Service, table, f"services.{name}", path, env)
    return services


def _section(kind: type[_T], table: Any, name: str, path: Path, env: Mapping[str, str]) -> _T:
    if not isinstance(table, dict):
        # Its value stays out of the message: it may well be a key.
        raise InvalidInput(f"{path}: [{name}] must be a table, not a value of type {type(table).__name__}.")
    hints = get_type_hints(kind)
    known = [f.name for f in fields(kind)]  # type: ignore[arg-type]
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise InvalidInput(f"{path}: unknown key {unknown[0]!r} in [{name}].",
                           remedy=f"Known: {', '.join(known)}.")
    values: dict[str, Any] = {}
    for key in known:
        outside = variable(name, key)
        if outside in env:
            values[key] = _check(env[outside], hints[key], key, f"environment variable {outside}", parse=True)
        elif key in table:
            values[key] = _check(table[key], hints[key], key, f"{path}: [{name}] {key}")
    return kind(**values)


def _check(value: Any, kind: type[Any], key: str, where: str, parse: bool = False) -> Any:
    """`value` as `kind`, or an error that says where it stands. `parse` reads numbers from text."""
    if kind is str:
        if isinstance(value, str):
            return value
        shown = f"a value of type {type(value).__name__}" if key == "api_key" else repr(value)
        raise InvalidInput(f"{where} must be text, not {shown}.")
    try:
        if isinstance(value, bool) or (isinstance(value, str) and not parse):
            raise ValueError
        number = kind(value)
        if not (isfinite(number) and (parse or kind is float or number == value)):
            raise ValueError
    except (TypeError, ValueError, OverflowError):  # int(inf) overflows
        word = "a whole number" if kind is int else "a number"
        raise InvalidInput(f"{where} must be {word}, not {value!r}.") from None
    if number < _MINIMUM[key]:
        raise InvalidInput(f"{where} must be at least {_MINIMUM[key]}, not {value!r}.")
    return number
