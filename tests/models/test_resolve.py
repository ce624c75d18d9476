"""From a name to a model, through real entry points."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from madang.base import registry
from madang.base.errors import InvalidInput, MissingDependency, NotFound
from madang.base.settings import Service, Settings
from madang.models.resolve import Models
from tests.models.service_stub import ASK, ServiceStub, answer, text_of

MODULE = "madang_stranger_who_provides"
# A stranger's provider, which notes what it loads and can be held up while loading.
SOURCE = """
import threading

loaded = []
started, go_on = threading.Event(), threading.Event()

class Stranger:
    def __init__(self, name, service):
        loaded.append((name, service))

    def embedder(self, model):
        return self._load("embedder", model)

    def chat_model(self, model):
        return self._load("chat_model", model)

    def reader(self, model):
        return self._load("reader", model)

    def _load(self, role, model):
        started.set()
        assert model != "slow" or go_on.wait(10)
        loaded.append((role, model))
        return object()
"""


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module of a distribution that registers a provider; ours is there as if it were installed."""
    (tmp_path / f"{MODULE}.py").write_text(SOURCE)
    info = tmp_path / f"{MODULE}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {MODULE}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[madang.providers]\nstrange = {MODULE}:Stranger\n"
        "openai_compatible = madang.models.providers.openai_compatible:OpenAICompatibleProvider\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry._points.cache_clear()
    module = importlib.import_module(MODULE)
    yield importlib.reload(module)
    registry._points.cache_clear()


def models_of(**services: Service) -> Models:
    return Models(Settings(services=services))


def test_a_service_is_reached_by_its_name(stranger: Any) -> None:
    with ServiceStub() as stub:
        stub.chat(answer("ok"))
        model = models_of(local=Service(stub.url)).chat_model("local/org/tiny-1")
        assert model.name == "local/org/tiny-1"
        assert text_of(model.chat(ASK)) == "ok"
        assert stub.requests[0].json["model"] == "org/tiny-1"   # only the first slash divides


def test_looking_a_model_up_asks_nobody(stranger: Any) -> None:
    models = models_of(local=Service("http://127.0.0.1:9/v1"))
    assert models.embedder("local/e").name == "local/e"


def test_a_strangers_provider_is_told_its_service(stranger: Any) -> None:
    service = Service("http://localhost:1/v1", kind="strange")
    models_of(home=service).embedder("home/e")
    assert stranger.loaded == [("home", service), ("embedder", "e")]


def test_what_was_loaded_is_kept(stranger: Any) -> None:
    models = models_of(home=Service(kind="strange"))
    assert models.embedder("home/m") is models.embedder("home/m")
    assert models.chat_model("home/m") is not models.embedder("home/m")
    assert models.reader("home/m") is not models.reader("home/n")
    assert [entry[0] for entry in stranger.loaded] == ["home", "embedder", "chat_model", "reader", "reader"]


def test_threads_that_ask_at_once_load_once(stranger: Any) -> None:
    models = models_of(home=Service(kind="strange"))
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(models.embedder("home/slow"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert stranger.started.wait(10)   # one loads; the others have to wait for it
    stranger.go_on.set()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(map(id, found))) == 1
    assert stranger.loaded[1:] == [("embedder", "slow")]


@pytest.mark.parametrize("name", ["minilm", "", "/", "bundled/", "/minilm"])
def test_a_name_without_provider_or_model(name: str) -> None:
    with pytest.raises(InvalidInput, match=r"is not of the form PROVIDER/MODEL\. For example"):
        models_of().embedder(name)


def test_an_unknown_service_lists_the_known_ones() -> None:
    with pytest.raises(NotFound) as caught:
        models_of(openai=Service(), local=Service()).chat_model("loca/m")
    assert str(caught.value) == ("no provider or service is called 'loca'. Known: bundled, diffusers, local, openai, "
                                 "sentence_transformers, transformers. "
                                 "Or add [services.loca] to madang.toml.")


def test_an_unknown_kind_of_service_lists_the_known_ones(stranger: Any) -> None:
    with pytest.raises(NotFound, match=r"no provider is called 'nobody'\. Known: .*strange"):
        models_of(home=Service(kind="nobody")).chat_model("home/m")


def test_a_failure_to_load_is_not_kept(stranger: Any) -> None:
    models = models_of(home=Service("localhost:1"))
    for _ in range(2):
        with pytest.raises(InvalidInput, match="base_url"):
            models.chat_model("home/m")


def test_only_the_bundled_reader_reads() -> None:
    models = models_of()
    assert models.is_reader("bundled/reader")
    assert not models.is_reader("openai/gpt-4o-mini")


def test_strangers_get_only_the_models_in_this_process_that_the_settings_name(tmp_path: Path) -> None:
    models = Models(Settings(aliases={"mine": "sentence_transformers/./mine"}))
    assert models.offers("sentence_transformers/./mine")
    assert not models.offers("sentence_transformers//etc")
    models.restrict()
    for name in ("sentence_transformers//etc", "transformers/gpt2", "strange/x"):
        for load in (models.embedder, models.chat_model, models.reranker, models.image_generator):
            with pytest.raises(NotFound, match="is not offered here"):
                load(name)
    assert models.embedder("bundled/static").dim == 256


def test_a_missing_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for library in ("sentence_transformers", "transformers", "diffusers", "torch"):
        monkeypatch.setitem(sys.modules, library, None)
    for name, extra in (("sentence_transformers", "sentence-transformers"), ("transformers", "transformers"),
                        ("diffusers", "diffusers")):
        monkeypatch.delitem(sys.modules, f"madang.models.providers.{name}", raising=False)
        with pytest.raises(MissingDependency, match=rf'pip install "madang\[{extra}\]"'):
            models_of().embedder(f"{name}/x")


def test_what_the_settings_name_is_loaded_for_strangers_too(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    monkeypatch.delitem(sys.modules, "madang.models.providers.sentence_transformers", raising=False)
    models = Models(Settings(aliases={"cohere-rerank-3.5": "sentence_transformers/./mine"}))
    models.restrict()
    with pytest.raises(MissingDependency):      # it was tried
        models.reranker("cohere-rerank-3.5")
