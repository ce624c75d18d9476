"""The answer of each endpoint, whole, as it was looked over once. What differs from run to run is masked.

`python -m tests.serve.openai.test_golden` writes the file anew; the difference is to be looked over.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

import madang
from madang.serve.run import serving
from madang.workspace import Workspace

GOLDEN = Path(__file__).with_name("golden.json")
HANDBOOK = "Employees get 25 days of paid vacation per year."
QUESTION = "How many vacation days do employees get?"
MESSAGES = [{"role": "system", "content": HANDBOOK}, {"role": "user", "content": QUESTION}]
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FUNCTION = {"name": "get_weather", "description": "Get the current weather for a city.", "parameters": PARAMETERS}
SEOUL = [{"role": "user", "content": "What is the weather in Seoul?"}]
# (name, method, path, body); {name} in a path is the id that the request of that name was answered with.
REQUESTS: list[tuple[str, str, str, Any]] = [
    ("models", "GET", "/models", None),
    ("model", "GET", "/models/gpt-4o", None),
    ("chat", "POST", "/chat/completions", {"model": "gpt-4o", "messages": MESSAGES}),
    ("chat-stream", "POST", "/chat/completions", {"model": "gpt-4o", "messages": MESSAGES, "stream": True,
                                                  "stream_options": {"include_usage": True}}),
    ("chat-tool", "POST", "/chat/completions", {"model": "gpt-4o", "messages": SEOUL, "tools": [{"type": "function", "function": FUNCTION}]}),
    ("chat-tool-stream", "POST", "/chat/completions", {"model": "gpt-4o", "messages": SEOUL, "stream": True,
                                                       "tools": [{"type": "function", "function": FUNCTION}]}),
    ("chat-korean", "POST", "/chat/completions", {"model": "gpt-4o", "messages": [{"role": "user", "content": "시를 써 주세요"}]}),
    ("chat-refused", "POST", "/chat/completions", {"model": "gpt-4o", "messages": []}),
    ("chat-unknown", "POST", "/chat/completions", {"model": "nonesuch", "messages": MESSAGES}),
    ("completion", "POST", "/completions", {"model": "gpt-3.5-turbo-instruct", "prompt": f"{HANDBOOK}\n\n{QUESTION}", "max_tokens": 3}),
    ("completion-stream", "POST", "/completions", {"model": "gpt-3.5-turbo-instruct", "prompt": f"{HANDBOOK}\n\n{QUESTION}", "stream": True}),
    ("embeddings", "POST", "/embeddings", {"model": "text-embedding-3-small", "input": ["a dog"], "dimensions": 2}),
    ("image", "POST", "/images/generations", {"prompt": "a yard"}),
    ("response", "POST", "/responses", {"model": "gpt-4o", "instructions": HANDBOOK, "input": QUESTION}),
    ("response-stream", "POST", "/responses", {"model": "gpt-4o", "instructions": HANDBOOK, "input": QUESTION, "stream": True}),
    ("response-tool-stream", "POST", "/responses", {"model": "gpt-4o", "input": SEOUL, "stream": True,
                                                    "tools": [{"type": "function", **FUNCTION}]}),
    ("response-read", "GET", "/responses/{response}", None),
    ("response-items", "GET", "/responses/{response}/input_items", None),
    ("response-deleted", "DELETE", "/responses/{response}", None),
    ("file", "POST", "/files", ("leave.md", HANDBOOK)),
    ("file-read", "GET", "/files/{file}", None),
    ("files", "GET", "/files", None),
    ("store", "POST", "/vector_stores", {"name": "handbook", "metadata": {"team": "people"}}),
    ("store-file", "POST", "/vector_stores/{store}/files", {"file_id": "{file}", "attributes": {"year": 2025}}),
    ("store-file-read", "GET", "/vector_stores/{store}/files/{file}", "settled"),
    ("store-files", "GET", "/vector_stores/{store}/files", None),
    ("store-file-content", "GET", "/vector_stores/{store}/files/{file}/content", None),
    ("store-batch", "POST", "/vector_stores/{store}/file_batches", {"file_ids": ["{file}"]}),
    ("store-batch-read", "GET", "/vector_stores/{store}/file_batches/{store-batch}", "settled"),
    ("store-read", "GET", "/vector_stores/{store}", None),
    ("stores", "GET", "/vector_stores", None),
    ("store-search", "POST", "/vector_stores/{store}/search", {"query": "vacation"}),
    ("store-changed", "POST", "/vector_stores/{store}", {"name": "rules", "expires_after": {"anchor": "last_active_at", "days": 1}}),
    ("store-file-deleted", "DELETE", "/vector_stores/{store}/files/{file}", None),
    ("store-deleted", "DELETE", "/vector_stores/{store}", None),
    ("file-deleted", "DELETE", "/files/{file}", None),
    ("nothing", "GET", "/nonesuch", None),
]
_TIMES = {"created", "created_at", "completed_at", "last_active_at", "expires_at"}
_AT_WORK = {"store-file", "store-batch"}
_IDS = re.compile(r"\b(chatcmpl|cmpl|resp|msg|fc|call|file|vs|vsfb)[-_][0-9a-f]{24,32}\b")


def masked(value: Any, key: str = "") -> Any:
    """Without what differs from run to run: ids, times, the numbers of a vector."""
    if isinstance(value, dict):
        return {name: masked(each, name) for name, each in value.items()}
    if key == "embedding" and isinstance(value, list):
        return [type(each).__name__ for each in value]
    if isinstance(value, list):
        return [masked(each) for each in value]
    if key in _TIMES and value is not None:
        return "TIME"
    return _IDS.sub(r"\1-ID", value) if isinstance(value, str) else value


def answers(http: httpx.Client) -> dict[str, Any]:
    """All requests, one after the other."""
    ids: dict[str, str] = {}
    found: dict[str, Any] = {}
    for name, method, path, body in REQUESTS:
        path = re.sub(r"\{([\w-]+)\}", lambda match: ids[match[1]], path)
        if isinstance(body, tuple):
            said = http.request(method, f"/v1{path}", files={"file": body}, data={"purpose": "assistants"})
        else:
            sent = re.sub(r"\{(file)\}", lambda match: ids[match[1]], json.dumps(body)) if isinstance(body, dict) else None
            said = http.request(method, f"/v1{path}", content=sent)
            until = time.monotonic() + 60
            while body == "settled" and said.json()["status"] == "in_progress" and time.monotonic() < until:
                time.sleep(0.02)
                said = http.request(method, f"/v1{path}")
        if said.headers["content-type"].startswith("text/event-stream"):
            told: Any = [masked(json.loads(line[6:])) if line != "data: [DONE]" else line
                         for line in said.text.splitlines() if line.startswith("data: ")]
        else:
            ids[name] = said.json().get("id", "") if isinstance(said.json(), dict) else ""
            told = masked(said.json())
            if name in _AT_WORK:       # it may be through already
                told = {key: value for key, value in told.items() if key not in ("status", "usage_bytes", "file_counts")}
        found[name] = {"status": said.status_code, "answer": told}
    return found


def test_every_endpoint_answers_as_it_did(http: httpx.Client) -> None:
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    found = answers(http)
    assert found.keys() == golden.keys()
    for name, answer in found.items():
        assert answer == golden[name], name


def _write(workspace: Workspace) -> None:
    with serving(workspace) as address, httpx.Client(base_url=address, timeout=60) as http:
        GOLDEN.write_text(json.dumps(answers(http), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory, madang.open(Path(directory) / "ws") as ws:
        _write(ws)
    sys.exit(0)
