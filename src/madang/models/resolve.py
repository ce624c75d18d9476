"""From a model's name to the model: "bundled/minilm", "SERVICE/MODEL" for a configured service, or an alias of one."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, cast

from madang.base import registry
from madang.base.errors import InvalidInput, NotFound
from madang.base.settings import Settings
from madang.models import aliases
from madang.models.aliases import AliasRole, Resolved, Widened
from madang.models.cache import Mode, ResponseCache
from madang.models.cached import cached
from madang.models.protocol import ChatModel, Embedder, ImageEmbedder, ImageGenerator, Provider, Reader, Reranker

IN_PROCESS = ("diffusers", "sentence_transformers", "transformers")     # providers of ours that need no service


class Models:
    """Resolves names for one workspace and keeps what it loaded, so that weights are read once.

    `folder` is where its files may be: the cache, which is opened with the first model that needs it.
    """

    def __init__(self, settings: Settings, folder: Path | None = None) -> None:
        self._settings, self._folder = settings, folder
        self._cache: ResponseCache | None = None
        self._restricted = False
        self._providers: dict[str, Provider] = {}
        self._loaded: dict[tuple[str, str], Any] = {}
        self._lock = threading.Lock()

    def embedder(self, name: str, *, trusted: bool = False) -> Embedder:
        """The embedder called `name`. Raises `NotFound` with the known names.

        `trusted`: it comes from our own files, not from a caller; see `restrict`.
        """
        return self._get("embedder", name, trusted)  # type: ignore[no-any-return]

    def image_embedder(self, name: str, *, trusted: bool = False) -> ImageEmbedder:
        """The model of pictures and texts called `name`; `trusted` as for `embedder`."""
        return self._get("image_embedder", name, trusted)  # type: ignore[no-any-return]

    def chat_model(self, name: str) -> ChatModel:
        """The chat model called `name`."""
        return self._get("chat_model", name)  # type: ignore[no-any-return]

    def image_generator(self, name: str) -> ImageGenerator:
        """The model that draws called `name`."""
        return self._get("image_generator", name)  # type: ignore[no-any-return]

    def offers(self, name: str) -> bool:
        """Whether "PROVIDER/MODEL" can be asked for by anyone: a service is configured, or the bundled models hold it,
        or it runs in this process and the settings name it."""
        provider, slash, model = name.partition("/")
        if not slash or not model:
            return False
        return provider in self._settings.services or name in self._named() or (
            provider == "bundled" and model in self._provider(provider).models())

    def restrict(self) -> None:
        """From now on names may come from strangers: of the models that run in this process only those are loaded that
        the settings name. A name could be a folder of this machine, or fetch gigabytes."""
        self._restricted = True

    def _named(self) -> set[str]:
        chosen = self._settings.models
        names = (chosen.embed, chosen.chat, chosen.rerank, chosen.describe, chosen.draw, chosen.see,
                 *self._settings.aliases.values())
        return {name for name in names if name.partition("/")[0] in IN_PROCESS}

    def reader(self, name: str) -> Reader:
        """The extractive reader called `name`."""
        return self._get("reader", name)  # type: ignore[no-any-return]

    def reranker(self, name: str) -> Reranker:
        """The reranker called `name`, which may be an alias. Raises `NotFound` where its provider has none."""
        return self._get("reranker", self.alias(name, "rerank").name)  # type: ignore[no-any-return]

    def alias(self, name: str, role: AliasRole | None = None) -> Resolved:
        """What a name such as "gpt-4o" or "text-embedding-3-small" stands for here; "PROVIDER/MODEL" for itself.

        Raises `NotFound` for a name nobody knows, `InvalidInput` for one that is known for another role.
        """
        return aliases.resolve(name, self._settings, role)

    def embedder_as(self, name: str, dimensions: int | None = None) -> Embedder:
        """The embedder that a name of a service stands for, with vectors of the width its callers expect, or of the
        `dimensions` they ask for. Its `name` is that of the model that really answers."""
        width = aliases.checked_width(name, dimensions)
        found = self.embedder(self.alias(name, "embed").name)
        return found if width in (None, found.dim) else Widened(found, width)

    def is_reader(self, name: str) -> bool:
        """Whether `name` reads extractively instead of chatting."""
        return name == "bundled/reader"

    def close(self) -> None:
        """Close the cache and what the providers hold open. Models that were handed out are of no use then."""
        with self._lock:
            for provider in self._providers.values():
                closing = getattr(provider, "close", None)
                if closing is not None:
                    closing()
            if self._cache is not None:
                self._cache.close()
            self._providers.clear()
            self._loaded.clear()
            self._cache = None

    def _get(self, role: str, name: str, trusted: bool = False) -> Any:
        key = (role, name)
        if self._restricted and not trusted and self._in_process(name) and name not in self._named():
            raise NotFound(f"model {name!r:.100} is not offered here.",
                           remedy="Whoever runs this server can name it in [models] or [aliases] of madang.toml.")
        with self._lock:   # two threads that ask at once get the same weights
            if key not in self._loaded:
                provider, model = self._split(name)
                make = getattr(self._provider(provider), role, None)
                if make is None:
                    raise NotFound(f"{name} does not see pictures.",
                                   remedy='Use "bundled/clip", or a CLIP or SigLIP as "transformers/MODEL".')
                found = make(model)
                self._loaded[key] = self._kept(role, provider, found)
            return self._loaded[key]

    def _kept(self, role: str, provider: str, model: Any) -> Any:
        """The model behind the cache, if there shall be one. What is bundled costs less than looking it up."""
        chosen = self._settings.cache
        if chosen.mode == "off" or provider == "bundled" or role == "image_embedder":
            return model
        if self._cache is None:
            self._cache = ResponseCache(self._cache_path(), cast(Mode, chosen.mode), int(chosen.max_mb * 1_000_000))
        service = self._settings.services.get(provider)
        # Neither a query nor a name before the host: they may hold a key.
        at = "" if service is None else service.base_url.partition("?")[0].rpartition("@")[2]
        return cached(role, model, self._cache, at=at, sampled=chosen.sampled)

    def _cache_path(self) -> Path:
        path = Path(self._settings.cache.path or "cache.db").expanduser()
        if self._folder is None and not path.is_absolute():
            raise InvalidInput("[cache] path must be absolute where there is no workspace.",
                               remedy="Set MADANG_CACHE_PATH.")
        return path if self._folder is None else self._folder / path

    @staticmethod
    def _split(name: str) -> tuple[str, str]:
        provider, slash, model = name.partition("/")
        if not slash or not provider or not model:
            raise InvalidInput(f"model name {name!r} is not of the form PROVIDER/MODEL.",
                               remedy='For example "bundled/minilm" or "openai/gpt-4o-mini".')
        return provider, model

    def _in_process(self, name: str) -> bool:
        provider = name.partition("/")[0]
        return provider != "bundled" and provider not in self._settings.services

    def _provider(self, name: str) -> Provider:
        if name not in self._providers:
            service = self._settings.services.get(name)
            if service is not None:
                self._providers[name] = registry.load(registry.PROVIDERS, service.kind)(name, service)
            elif name == "bundled":
                self._providers[name] = registry.load(registry.PROVIDERS, name)()
            else:
                self._providers[name] = self._local(name)
        return self._providers[name]

    def _local(self, name: str) -> Provider:
        """A provider that runs in this process: its class says so, since others need a service."""
        if name in registry.names(registry.PROVIDERS):
            kind = registry.load(registry.PROVIDERS, name)
            if getattr(kind, "in_process", False):
                found: Provider = kind(self._settings.local)
                return found
        known = ", ".join(sorted({"bundled", *IN_PROCESS, *self._settings.services}))
        raise NotFound(f"no provider or service is called {name!r}.",
                       remedy=f"Known: {known}. Or add [services.{name}] to madang.toml.")
