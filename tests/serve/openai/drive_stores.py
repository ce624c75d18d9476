"""What programs do with files and vector stores of OpenAI's own client; run by `drive.py` where the client has them."""

from __future__ import annotations

import io
from typing import Any

import openai

LEAVE = b"# Leave\n\nEmployees get 25 days of paid vacation per year.\n"
HOURS = "# 근무 시간\n\n사무실은 아홉 시에 열고 여섯 시에 닫습니다.\n".encode()


def files(client: openai.OpenAI) -> list[str]:
    leave = client.files.create(file=("leave.md", io.BytesIO(LEAVE)), purpose="assistants")
    hours = client.files.create(file=("근무.md", io.BytesIO(HOURS)), purpose="assistants")
    assert (leave.filename, leave.bytes, leave.purpose) == ("leave.md", len(LEAVE), "assistants")
    assert client.files.retrieve(hours.id).filename == "근무.md"
    assert client.files.content(leave.id).read() == LEAVE
    assert {leave.id, hours.id} <= {file.id for file in client.files.list()}
    return [leave.id, hours.id]


def stores(client: openai.OpenAI, ids: list[str]) -> None:
    store = client.vector_stores.create(name="handbook", metadata={"team": "people"})
    one = client.vector_stores.files.create_and_poll(ids[0], vector_store_id=store.id, attributes={"region": "eu", "year": 2025})
    assert one.status == "completed", one.last_error
    static: Any = {"type": "static", "static": {"max_chunk_size_tokens": 200, "chunk_overlap_tokens": 0}}
    begun = client.vector_stores.file_batches.create(store.id, file_ids=[ids[1]], attributes={"region": "kr"}, chunking_strategy=static)
    batch = client.vector_stores.file_batches.poll(begun.id, vector_store_id=store.id)
    assert batch.file_counts.completed == 1
    found = client.vector_stores.search(store.id, query="How many days of vacation?").data
    assert found[0].file_id == ids[0]
    assert "25 days" in found[0].content[0].text
    assert found[0].attributes == {"region": "eu", "year": 2025}
    assert 0 < found[0].score <= 1
    korean = client.vector_stores.search(store.id, query="사무실은 언제 여나요?", max_num_results=1).data
    assert [match.file_id for match in korean] == [ids[1]]
    narrow: Any = {"type": "and", "filters": [{"type": "eq", "key": "region", "value": "kr"}]}
    assert {match.file_id for match in client.vector_stores.search(store.id, query="vacation", filters=narrow)} == {ids[1]}
    told = client.vector_stores.retrieve(store.id)
    assert (told.status, told.file_counts.completed, told.name) == ("completed", 2, "handbook")
    assert {file.id for file in client.vector_stores.files.list(store.id)} == {*ids}
    assert client.vector_stores.files.content(ids[0], vector_store_id=store.id).data[0].text == LEAVE.decode()
    assert client.vector_stores.update(store.id, name="rules").name == "rules"
    assert store.id in {each.id for each in client.vector_stores.list()}
    client.vector_stores.files.delete(ids[0], vector_store_id=store.id)
    assert ids[0] not in {match.file_id for match in client.vector_stores.search(store.id, query="vacation")}
    unread = client.files.create(file=("picture.xyz", b"\x00\x01"), purpose="assistants")
    failed = client.vector_stores.files.create_and_poll(unread.id, vector_store_id=store.id)
    assert failed.status == "failed"
    assert failed.last_error is not None
    assert failed.last_error.code == "unsupported_file"
    client.vector_stores.delete(store.id)
    for id_ in (*ids, unread.id):
        assert client.files.delete(id_).deleted


def drive(client: openai.OpenAI) -> None:
    """All of it."""
    stores(client, files(client))
