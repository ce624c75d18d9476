"""Whatever JSON comes, the server answers it, and never with a failure of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import madang
from madang.serve.run import serving

JSON = st.recursive(st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=6),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3), max_leaves=6)
MESSAGE = st.fixed_dictionaries({"role": st.sampled_from(["user", "system", "assistant", "tool"])},
                                optional={"content": JSON, "tool_calls": JSON, "tool_call_id": JSON, "name": JSON, "type": JSON})
VALID = {"model": "gpt-4o", "messages": [{"role": "user", "content": "a 1"}], "input": "a 1", "prompt": "a", "purpose": "assistants",
         "query": "a", "file_id": "file-no"}
PATHS = ["/chat/completions", "/completions", "/responses", "/embeddings", "/images/generations", "/vector_stores", "/files",
         "/vector_stores/vs_no", "/vector_stores/vs_no/search", "/vector_stores/vs_no/files", "/vector_stores/vs_no/file_batches"]
KEYS = ["model", "messages", "input", "prompt", "tools", "tool_choice", "response_format", "text", "n", "stop", "stream", "stream_options",
        "max_tokens", "temperature", "functions", "metadata", "name", "expires_after", "chunking_strategy", "filters", "attributes",
        "dimensions", "encoding_format", "reasoning", "include", "previous_response_id", "instructions", "size", "max_num_results"]
TOOLS = st.lists(st.fixed_dictionaries({"type": st.just("function"), "function": st.fixed_dictionaries(
    {"name": st.sampled_from(["a", "b"]), "description": st.just("a 1")}, optional={"parameters": st.fixed_dictionaries(
        {"type": st.just("object"), "properties": st.dictionaries(st.text(max_size=4), JSON, max_size=3)}, optional={"required": JSON})})}),
    max_size=2)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with madang.open(tmp_path_factory.mktemp("ws")) as ws, serving(ws) as address, httpx.Client(base_url=f"{address}/v1", timeout=60) as http:
        yield http


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.sampled_from(PATHS), st.dictionaries(st.sampled_from(KEYS), JSON, max_size=4), st.none() | st.lists(MESSAGE, max_size=3),
       st.none() | TOOLS)
def test_nothing_makes_it_fail(client: httpx.Client, path: str, body: dict[str, Any], messages: Any, tools: Any) -> None:
    sent = {**VALID, **({} if messages is None else {"messages": messages, "input": messages}), **({} if tools is None else {"tools": tools}), **body}
    said = client.post(path, json=sent)
    # 501 is what an honest server says where nobody draws.
    assert said.status_code < 500 or (path == "/images/generations" and said.status_code == 501), (said.text, sent)
    if said.status_code >= 400:
        assert said.json()["error"]["message"]
    assert '"code": "error"' not in said.text
