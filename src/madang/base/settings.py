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
    describe: str = "bundled/llava"    # who says what a picture shows
    draw: str = "bundled/unclip"       # who makes pictures from descriptions
    see: str = "bundled/clip"          # embeds pictures in new collections of them, and what is searched there


@dataclass(frozen=True, slots=True)
class Service:
    """An OpenAI-compatible service."""

    base_url: str = "https://api.openai.com/v1"
    api_key: str = field(default="", repr=False)   # a repr ends up in logs; a key must not
    timeout_s: float = 60.0            # for one request: each wait for data, and for a turn
    connect_timeout_s: float = 10.0    # until it takes the connection; never longer than timeout_s
    retries: int = 3
    concurrency: int = 16              # requests under way at a time; more wait for their turn
    break_after: int = 5               # calls that fail in a row until it is left alone; 0: never
    break_s: float = 30.0              # how long, before one call tries it again
    price_in: float = 0.0              # of a million tokens read, in your currency; for reports
    price_out: float = 0.0             # of a million tokens written
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
class Serve:
    """Where `madang serve` listens, and what it takes from a caller. 0 switches a rate off."""

    host: str = "127.0.0.1"
    port: int = 7860
    hosts: tuple[str, ...] = ()            # names under which it may be asked for, besides this machine's own
    cors_origins: tuple[str, ...] = ()     # pages of these may ask from a browser, e.g. https://app.example.org
    threads: int = 8                       # for long work: models, ingests, audits
    max_waiting: int = 64                  # long calls and writes under way or in line; more are told to come later
    max_connections: int = 1024
    max_body_mb: float = 64.0
    max_upload_mb: float = 512.0           # all files of one ingest together
    max_batch: int = 10000                 # records, ids or files of one request
    max_dim: int = 20000
    max_top_k: int = 10000
    rate_per_s: float = 0.0                # requests of one key, or of one address where there is no key
    rate_burst: int = 100                  # how many may come at once before the rate counts
    body_timeout_s: float = 30.0           # without a piece of a body; also for the headers
    grace_s: float = 30.0                  # for requests that are under way when it is told to stop
    fetch_urls: bool = True                # whether URLs that a caller names are fetched
    fetch_hosts: tuple[str, ...] = ()      # from these only, where there are any; *.example.org for all below
    allow_private_urls: bool = False       # also from addresses that only this network reaches
    max_fetch_mb: float = 20.0
    fetch_timeout_s: float = 20.0
    warm: int = 8                          # collections to open before it says that it is ready, newest first
    log: str = "text"                      # a line for each request: "text", "json" or "off"


@dataclass(frozen=True, slots=True)
class Cache:
    """Answers of services and of models of your own that are kept; see `madang.models.cache`."""

    mode: str = "off"                      # "off", "on", "record" or "replay"
    path: str = ""                         # the file; in the workspace unless it says otherwise
    max_mb: float = 256.0
    sampled: bool = False                  # "on" keeps chats with a temperature, too


@dataclass(frozen=True, slots=True)
class Local:
    """Models that run in this process: sentence_transformers, transformers, diffusers."""

    device: str = ""                       # "cpu", "cuda", "cuda:1", "mps"; the best there is unless it says otherwise
    batch: int = 32                        # texts or answers computed together
    max_tokens: int = 512                  # of an answer where the caller sets no bound
    download: bool = True                  # whether what is not on this machine is fetched from its hub


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything configurable, validated."""

    models: Models = field(default_factory=Models)
    retrieval: Retrieval = field(default_factory=Retrieval)
    ingest: Ingest = field(default_factory=Ingest)
    serve: Serve = field(default_factory=Serve)
    cache: Cache = field(default_factory=Cache)
    local: Local = field(default_factory=Local)
    services: dict[str, Service] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)    # another name of a model -> "PROVIDER/MODEL"


SECTIONS: dict[str, type[Any]] = {"models": Models, "retrieval": Retrieval, "ingest": Ingest, "serve": Serve,
                                 "cache": Cache, "local": Local}
# Every number is at least its minimum; zero weights switch one side of hybrid retrieval off.
_MINIMUM = {"top_k": 1, "rrf_k": 1, "dense_weight": 0, "lexical_weight": 0, "chunk_chars": 100,
            "max_file_mb": 0.001, "timeout_s": 0.001, "retries": 0,
            "port": 0, "threads": 1, "max_waiting": 1, "max_connections": 1, "max_body_mb": 0.001,
            "max_upload_mb": 0.001, "max_batch": 1, "max_dim": 1, "max_top_k": 1, "rate_per_s": 0,
            "rate_burst": 1, "body_timeout_s": 0.001, "grace_s": 0, "max_fetch_mb": 0.001,
            "fetch_timeout_s": 0.001, "warm": 0, "connect_timeout_s": 0.001, "concurrency": 1, "break_after": 0,
            "break_s": 0, "price_in": 0, "price_out": 0, "max_mb": 0.1, "batch": 1, "max_tokens": 1}
_MAXIMUM = {"port": 65535, "max_dim": 20_000, "max_top_k": 10_000}
_WORDS = {"log": ("text", "json", "off"), "mode": ("off", "on", "record", "replay")}
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
    unknown = sorted(set(raw) - set(SECTIONS) - {"services", "aliases"})
    if unknown:
        raise InvalidInput(f"{path}: unknown section [{unknown[0]}].",
                           remedy=f"Known: {', '.join([*SECTIONS, 'services.NAME', 'aliases'])}.")
    sections = {name: _section(kind, raw.get(name, {}), name, path, env) for name, kind in SECTIONS.items()}
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
    """`value` as `kind`, or an error that says where it stands. `parse` reads numbers, lists (with commas) and yes or
    no (true, false) from text."""
    if kind is bool or kind == tuple[str, ...]:
        return _flag(value, where, parse) if kind is bool else _texts(value, where, parse)
    if kind is str:
        if isinstance(value, str) and value in _WORDS.get(key, (value,)):
            return value
        if isinstance(value, str):
            raise InvalidInput(f"{where} must be one of {', '.join(_WORDS[key])}, not {value!r}.")
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
    if number > _MAXIMUM.get(key, number):
        raise InvalidInput(f"{where} must be at most {_MAXIMUM[key]}, not {value!r}.")
    return number


def _flag(value: Any, where: str, parse: bool) -> bool:
    known = {"true": True, "1": True, "false": False, "0": False}
    found = known.get(value.strip().lower()) if parse else value
    if not isinstance(found, bool):
        raise InvalidInput(f"{where} must be true or false, not {value!r}.")
    return found


def _texts(value: Any, where: str, parse: bool) -> tuple[str, ...]:
    found = [part.strip() for part in value.split(",") if part.strip()] if parse else value
    if not isinstance(found, list) or not all(isinstance(part, str) for part in found):
        raise InvalidInput(f"{where} must be a list of texts, not {value!r}.")
    return tuple(found)
