"""Requests made from our OpenAPI document, valid ones and broken ones: whatever they say, the server does not fail.

`make fuzz` sends 20,000 (MADANG_FUZZ says how many).
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import schemathesis
from hypothesis import strategies as st

from madang.base.settings import Serve
from madang.serve.run import serving
from madang.workspace import Workspace

REQUESTS = int(os.environ.get("MADANG_FUZZ", "300"))
KNOWN = {"name": ["v", "docs", "spare", "nope"], "snapshot": ["s", "nope"]}


def meant(case: Any, data: st.DataObject) -> None:
    """Let some requests reach what is there: names, and vectors of the right length."""
    draw = data.draw
    for part, names in KNOWN.items():
        if part in (case.path_parameters or {}) and draw(st.integers(0, 9)):
            case.path_parameters[part] = draw(st.sampled_from(names))
    body = case.body
    if not isinstance(body, dict) or not draw(st.booleans()):
        return
    vector = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=2, max_size=2)
    if "collection" in body or "query" in body or "question" in body:
        body["collection"] = draw(st.sampled_from(KNOWN["name"]))
    for key in ("vector", "values"):
        if key in body:
            body[key] = draw(vector)
    for record in body.get("records") or () if isinstance(body.get("records"), list) else ():
        if isinstance(record, dict):
            record["values"] = draw(vector)


@pytest.mark.timeout(7200)
@pytest.mark.filterwarnings("ignore")
def test_no_request_makes_the_server_fail(workspace: Workspace, tmp_path: Path) -> None:
    text = tmp_path / "leave.md"
    text.write_text("# Leave\n\nThere are 15 vacation days.\n")
    workspace.ingest(text, "docs", embedder="bundled/static")
    failed, seen = list[str](), Counter[int]()
    with serving(workspace, settings=Serve(log="off", max_waiting=1000)) as address:
        schema = schemathesis.openapi.from_url(f"{address}/api/openapi.json")
        operations = [found.ok() for found in schema.get_all_operations()]
        modes = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
        each = min(50, max(1, REQUESTS // (len(operations) * len(modes))))
        while sum(seen.values()) < REQUESTS and not failed:
            for operation in operations:
                for mode in modes:
                    stock(workspace)
                    send(operation.as_strategy(generation_mode=mode), each, failed, seen)
    assert not failed, failed[:5]
    assert seen[200] > REQUESTS * 0.05, seen
    print(sum(seen.values()), "requests:", dict(sorted(seen.items())))


def stock(workspace: Workspace) -> None:
    """What requests may find, again: some of them drop it."""
    for name in ("v", "spare"):
        if name not in workspace.collections():
            workspace.create_collection(name, dim=2).upsert(
                [{"id": str(n), "values": [1, n], "metadata": {"n": n}, "document": "text"} for n in range(20)])
            workspace.collection(name).snapshot("s")


def send(cases: Any, count: int, failed: list[str], seen: Counter[int]) -> None:
    @hypothesis.settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(hypothesis.HealthCheck),
                         phases=[hypothesis.Phase.generate])
    @hypothesis.given(cases, st.data())
    def run(case: Any, data: st.DataObject) -> None:
        meant(case, data)
        answer = case.call(timeout=120)
        seen[answer.status_code] += 1
        if answer.status_code >= 500 and answer.status_code not in (501, 503):
            failed.append(f"{answer.status_code} {answer.request.method} {answer.request.url} {answer.request.body!r:.500} -> "
                          f"{answer.text:.300}")
        elif answer.status_code >= 400:
            told = json.loads(answer.text)["error"]
            assert set(told) == {"code", "message", "remedy"}, answer.text

    try:
        run()
    except hypothesis.errors.Unsatisfiable:      # nothing to get wrong about a route without parameters
        return
