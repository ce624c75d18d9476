"""madang.toml and the environment."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from madang.base import settings
from madang.base.errors import InvalidInput
from madang.base.settings import Service, Settings, load

SECTIONS = {**settings.SECTIONS, "services.local": Service}
KEYS = [(section, field.name) for section, kind in SECTIONS.items() for field in dataclasses.fields(kind)]
# A value of each type that is no default, as TOML and as text.
OTHER = {str: ('"other"', "other"), int: ("107", "107"), float: ("123.5", "123.5"), bool: ("true", "true"),
         tuple[str, ...]: ('["a", "b"]', "a, b")}
THIRD = {str: "third", int: "109", float: "99.25", bool: "false", tuple[str, ...]: "c"}
WORDS = {"log": (('"json"', "json"), "off"), "mode": (('"record"', "record"), "replay")}       # of a key that takes some texts only
READ = {bool: {"true": True, "false": False}.get, tuple[str, ...]: lambda text: tuple(text.split(", "))}


def kind_of(section: str, key: str) -> Any:
    return get_type_hints(SECTIONS[section])[key]


def other(section: str, key: str) -> tuple[str, str]:
    return WORDS[key][0] if key in WORDS else OTHER[kind_of(section, key)]


def read(section: str, key: str, text: str) -> Any:
    kind = kind_of(section, key)
    return READ.get(kind, kind)(text)


def value_of(loaded: Settings, section: str, key: str) -> Any:
    name, _, service = section.partition(".")
    part = getattr(loaded, name)
    return getattr(part[service] if service else part, key)


@pytest.fixture
def write(tmp_path: Path) -> Any:
    """Write madang.toml and load it, with an environment."""
    def load_from(toml: str | bytes, **env: str) -> Settings:
        content = toml.encode() if isinstance(toml, str) else toml
        (tmp_path / settings.FILE_NAME).write_bytes(content)
        return load(tmp_path, env)

    return load_from


def refusal(write: Any, toml: str | bytes, **env: str) -> str:
    with pytest.raises(InvalidInput) as caught:
        write(toml, **env)
    assert "\n" not in str(caught.value).strip()
    return str(caught.value)


def test_without_a_file_the_defaults_hold(tmp_path: Path) -> None:
    assert load(tmp_path, {}) == Settings(services={"openai": Service()})
    assert load(tmp_path / "not there yet", {}) == load(tmp_path, {})


def test_an_empty_file_changes_nothing(write: Any, tmp_path: Path) -> None:
    assert write("") == Settings(services={"openai": Service()})


def test_the_environment_of_the_process_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MADANG_RETRIEVAL_TOP_K", "3")
    assert load(tmp_path).retrieval.top_k == 3


def test_every_section_is_tested_here() -> None:
    assert {f.name for f in dataclasses.fields(Settings)} == {name.partition(".")[0] for name in SECTIONS} | {"aliases"}


@pytest.mark.parametrize(("section", "key"), KEYS)
def test_every_key_can_be_set_in_the_file_and_in_the_environment(write: Any, section: str, key: str) -> None:
    toml, text = other(section, key)
    expected = read(section, key, text)
    file = f"[{section}]\n{key} = {toml}\n"
    assert value_of(write(file), section, key) == expected
    name = settings.variable(section, key)
    assert name == f"MADANG_{section.replace('.', '_')}_{key}".upper()
    assert value_of(write(f"[{section}]\n", **{name: text}), section, key) == expected
    assert value_of(write("[services.local]\n", **{name: text}), section, key) == expected


@pytest.mark.parametrize(("section", "key"), KEYS)
def test_the_environment_wins(write: Any, section: str, key: str) -> None:
    toml, _ = other(section, key)
    text = WORDS[key][1] if key in WORDS else THIRD[kind_of(section, key)]
    loaded = write(f"[{section}]\n{key} = {toml}\n", **{settings.variable(section, key): text})
    assert value_of(loaded, section, key) == read(section, key, text)


def test_one_key_leaves_the_others_alone(write: Any) -> None:
    assert write("[retrieval]\ntop_k = 3\n").retrieval == settings.Retrieval(top_k=3)
    assert write("[models]\nchat = 'openai/gpt-4o-mini'\n").models.embed == settings.Models().embed


# --- services ---


def test_services_are_tables_and_openai_is_always_one(write: Any) -> None:
    loaded = write("[services.ollama]\nbase_url = 'http://localhost:1/v1'\n[services.my-vllm]\nretries = 0\n")
    assert sorted(loaded.services) == ["my-vllm", "ollama", "openai"]
    assert loaded.services["ollama"] == Service(base_url="http://localhost:1/v1")
    assert loaded.services["my-vllm"].retries == 0


def test_a_variable_alone_makes_a_service(write: Any) -> None:
    env = {"MADANG_SERVICES_LOCAL_BASE_URL": "http://localhost:1/v1", "MADANG_SERVICES_LOCAL_API_KEY": "k"}
    assert write("", **env).services["local"] == Service(base_url="http://localhost:1/v1", api_key="k")
    for variable in ("MADANG_SERVICES_LOCAL_API_KEY", "MADANG_SERVICES__BASE_URL", "LOCAL_BASE_URL"):
        assert sorted(write("", **{variable: "x"}).services) == ["openai"]


@pytest.mark.parametrize("name", ["my-vllm", "MyVLLM", "'my.vllm'"])
def test_a_variable_for_a_table_makes_no_second_service(write: Any, name: str) -> None:
    variable = settings.variable(f"services.{name.strip(chr(39))}", "base_url")
    loaded = write(f"[services.{name}]\nretries = 1\n", **{variable: "http://localhost:1/v1"})
    assert sorted(loaded.services) == sorted([name.strip("'"), "openai"])
    assert loaded.services[name.strip("'")] == Service(base_url="http://localhost:1/v1", retries=1)


def test_the_variables_of_openais_own_client_are_heeded(write: Any) -> None:
    env = {"OPENAI_API_KEY": "sk-env", "OPENAI_BASE_URL": "http://localhost:1/v1"}
    assert write("", **env).services["openai"] == Service(base_url="http://localhost:1/v1", api_key="sk-env")
    file = "[services.openai]\napi_key = 'sk-file'\n[services.other]\n"
    assert write(file, **env).services["openai"].api_key == "sk-file"
    ours = env | {"MADANG_SERVICES_OPENAI_API_KEY": "sk-ours"}
    assert write(file, **ours).services["openai"].api_key == "sk-ours"
    assert write(file, **env).services["other"] == Service()
    assert write("", OPENAI_API_KEY="", OPENAI_BASE_URL="").services["openai"] == Service()


def test_a_strangers_workspace_does_not_get_the_key_meant_for_openai(write: Any) -> None:
    env = {"OPENAI_API_KEY": "sk-env"}
    loaded = write("[services.openai]\nbase_url = 'https://elsewhere.example/v1'\n", **env)
    assert loaded.services["openai"] == Service(base_url="https://elsewhere.example/v1")


def test_a_key_is_never_shown(write: Any) -> None:
    loaded = write("[services.openai]\napi_key = 'sk-secret'\n")
    assert "sk-secret" not in repr(loaded)
    assert "sk-secret" not in refusal(write, "[services]\nopenai = 'sk-secret'\n")
    assert "sk-secret" not in refusal(write, "[services.openai]\napi_key = ['sk-secret']\n")


# --- aliases ---


def test_aliases_are_names_of_any_kind(write: Any) -> None:
    assert write("").aliases == {}
    toml = "[aliases]\n'gpt-4o' = 'local/llama'\n'gpt-4.1' = 'local/b'\n'org/model' = 'local/c'\n"
    assert write(toml).aliases == {"gpt-4o": "local/llama", "gpt-4.1": "local/b", "org/model": "local/c"}
    assert write(toml, MADANG_ALIASES_GPT_4_1="other/b").aliases["gpt-4.1"] == "other/b"
    assert write("", MADANG_ALIASES_GPT_4O="local/x").aliases == {"gpt-4o": "local/x"}


# --- refusals ---


@pytest.mark.parametrize(("toml", "phrases"), [
    ("[model]\nchat = 'x'\n", ["unknown section [model]", "models, retrieval, ingest, serve, cache, local, services.NAME"]),
    ("top_k = 3\n", ["unknown section [top_k]"]),
    ("[retrieval]\ntopk = 3\n", ["unknown key 'topk' in [retrieval]", "Known: top_k,"]),
    ("[services.local]\nurl = 'x'\n", ["unknown key 'url' in [services.local]", "base_url"]),
    ("aliases = 1\n", ["[aliases] must be a table"]),
    ("[aliases]\n'gpt-4o' = 1\n", ["[aliases] 'gpt-4o' must be text, not 1"]),
    ("models = 1\n", ["[models] must be a table", "int"]),
    ("services = 1\n", ["[services] must hold tables such as [services.openai]"]),
    ("[services]\nlocal = 'http://localhost'\n", ["[services.local] must be a table", "str"]),
    ("[retrieval]\ntop_k = '3'\n", ["[retrieval] top_k must be a whole number, not '3'"]),
    ("[retrieval]\ntop_k = 3.5\n", ["[retrieval] top_k must be a whole number, not 3.5"]),
    ("[retrieval]\ntop_k = true\n", ["must be a whole number, not True"]),
    ("[retrieval]\ntop_k = inf\n", ["must be a whole number, not inf"]),
    ("[retrieval]\ntop_k = nan\n", ["must be a whole number, not nan"]),
    ("[retrieval]\ntop_k = [1]\n", ["must be a whole number, not [1]"]),
    ("[retrieval]\ntop_k = 2026-01-01\n", ["must be a whole number"]),
    ("[retrieval]\ntop_k = 0\n", ["[retrieval] top_k must be at least 1, not 0"]),
    ("[retrieval]\ndense_weight = -0.5\n", ["dense_weight must be at least 0, not -0.5"]),
    ("[retrieval]\ndense_weight = nan\n", ["must be a number, not nan"]),
    ("[retrieval]\ndense_weight = inf\n", ["must be a number, not inf"]),
    ("[ingest]\nmax_file_mb = 'big'\n", ["max_file_mb must be a number, not 'big'"]),
    ("[ingest]\nchunk_chars = 99\n", ["chunk_chars must be at least 100, not 99"]),
    ("[services.local]\ntimeout_s = 0\n", ["timeout_s must be at least 0.001, not 0"]),
    ("[services.local]\nretries = -1\n", ["retries must be at least 0, not -1"]),
    ("[models]\nchat = 1\n", ["[models] chat must be text, not 1"]),
    ("[serve]\nport = 65536\n", ["[serve] port must be at most 65535, not 65536"]),
    ("[serve]\nlog = 'loud'\n", ["[serve] log must be one of text, json, off, not 'loud'"]),
    ("[serve]\nhosts = 'a'\n", ["[serve] hosts must be a list of texts, not 'a'"]),
    ("[serve]\nhosts = [1]\n", ["[serve] hosts must be a list of texts, not [1]"]),
    ("[serve]\nfetch_urls = 'true'\n", ["[serve] fetch_urls must be true or false, not 'true'"]),
    ("[serve]\nfetch_urls = 1\n", ["[serve] fetch_urls must be true or false, not 1"]),
    ("[models\n", ["is not valid TOML", "line 1"]),
    ("[models]\n[models]\n", ["is not valid TOML"]),
    (b"[models]\nchat = '\xff'\n", ["is not valid TOML", "utf-8"]),
    ("a = " + "[" * 100_000, ["is not valid TOML"]),
])
def test_a_mistake_in_the_file_is_named(write: Any, tmp_path: Path, toml: str | bytes,
                                        phrases: list[str]) -> None:
    message = refusal(write, toml)
    assert str(tmp_path / "madang.toml") in message
    for phrase in phrases:
        assert phrase in message


@pytest.mark.parametrize(("variable", "value", "phrase"), [
    ("MADANG_RETRIEVAL_TOP_K", "many", "must be a whole number, not 'many'"),
    ("MADANG_RETRIEVAL_TOP_K", "", "must be a whole number, not ''"),
    ("MADANG_RETRIEVAL_TOP_K", "3.0", "must be a whole number, not '3.0'"),
    ("MADANG_RETRIEVAL_TOP_K", "0", "must be at least 1, not '0'"),
    ("MADANG_RETRIEVAL_DENSE_WEIGHT", "nan", "must be a number, not 'nan'"),
    ("MADANG_RETRIEVAL_DENSE_WEIGHT", "inf", "must be a number, not 'inf'"),
    ("MADANG_SERVE_FETCH_URLS", "maybe", "must be true or false, not 'maybe'"),
    ("MADANG_SERVE_LOG", "loud", "must be one of text, json, off, not 'loud'"),
    ("MADANG_SERVICES_OPENAI_TIMEOUT_S", "1m", "must be a number, not '1m'"),
])
def test_a_mistake_in_the_environment_is_named(write: Any, variable: str, value: str, phrase: str) -> None:
    message = refusal(write, "", **{variable: value})
    assert f"environment variable {variable} {phrase}" in message


def test_what_cannot_be_read_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / settings.FILE_NAME).mkdir()
    with pytest.raises(InvalidInput, match="cannot be read"):
        load(tmp_path, {})


def test_a_byte_order_mark_and_windows_lines_are_allowed(write: Any) -> None:
    assert write(b"\xef\xbb\xbf[retrieval]\r\ntop_k = 3\r\n").retrieval.top_k == 3


def test_a_whole_float_is_a_whole_number_and_the_reverse(write: Any) -> None:
    loaded = write("[retrieval]\ntop_k = 3.0\ndense_weight = 2\n")
    assert (loaded.retrieval.top_k, loaded.retrieval.dense_weight) == (3, 2.0)
    assert isinstance(loaded.retrieval.top_k, int)
    assert isinstance(loaded.retrieval.dense_weight, float)


def test_settings_cannot_be_changed_by_accident(write: Any) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        write("").retrieval.top_k = 3


@hypothesis_settings(max_examples=200, deadline=None)
@given(section=st.sampled_from([key for key in KEYS if key[0] != "services.local"]),
       value=st.text(max_size=12))
def test_any_text_in_the_environment_is_valid_or_a_clear_error(section: tuple[str, str], value: str) -> None:
    name, said = settings.variable(*section), ""
    try:
        found = value_of(load(Path("/nowhere"), {name: value}), *section)
    except InvalidInput as error:
        said = str(error)
    assert f"{name} must be" in said if said else isinstance(found, get_origin(kind_of(*section)) or kind_of(*section))
