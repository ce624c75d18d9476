"""Chat in this process: a small model that learnt a few answers by heart says them, whoever asks beside it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image as Pictures

import madang
from madang.base.errors import Corrupt, InvalidInput, NotFound
from madang.base.messages import AnswerFormat, ChatOptions, Delta, Image, Message, Tool, ToolCall
from madang.base.settings import Local
from madang.models.protocol import ChatModel
from madang.models.providers.transformers import TransformersProvider
from tests.local_models import checkpoints

HI, COUNT = list(checkpoints.LESSONS.values())[:2]
FIND = Tool("find", "finds", {"type": "object", "properties": {"q": {"type": "string"}}})


@pytest.fixture(scope="module")
def chat(chat_folder: Path) -> Iterator[ChatModel]:
    provider = TransformersProvider(Local(device="cpu", batch=8))
    yield provider.chat_model(str(chat_folder))
    provider.close()


def ask(text: str) -> list[Message]:
    return [Message("user", text)]


def said(deltas: list[Delta]) -> str:
    return "".join(delta.text for delta in deltas)


def test_it_says_what_it_learnt_piece_by_piece(chat: ChatModel) -> None:
    deltas = list(chat.chat(ask("hi")))
    assert said(deltas) == HI
    assert len(deltas) > 10
    assert all("\ufffd" not in delta.text for delta in deltas)
    assert deltas[-1].finish_reason == "stop"
    usage = deltas[-1].usage
    assert usage is not None
    assert usage.completion_tokens == len(HI.encode()) + 1          # a token for each byte, and the end
    assert usage.prompt_tokens == 4 + len("user\nhi\nassistant\n") - 1
    assert {delta.model for delta in deltas} == {chat.name}


def test_many_at_a_time_get_each_their_own(chat: ChatModel) -> None:
    found: dict[int, str] = {}

    def work(number: int) -> None:
        found[number] = said(list(chat.chat(ask("hi" if number % 2 else "count"))))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert found == {number: HI if number % 2 else COUNT for number in range(12)}


@pytest.mark.parametrize("temperature", [0.0, 1e-4], ids=["batched", "by itself"])
def test_stop_and_length_end_an_answer(chat: ChatModel, temperature: float) -> None:
    deltas = list(chat.chat(ask("count"), ChatOptions(temperature=temperature, stop=("four", "x"))))
    assert (said(deltas), deltas[-1].finish_reason) == ("one two three ", "stop")
    deltas = list(chat.chat(ask("count"), ChatOptions(temperature=temperature, max_tokens=7)))
    assert (said(deltas), deltas[-1].finish_reason) == (COUNT[:7], "length")
    assert deltas[-1].usage is not None
    assert deltas[-1].usage.completion_tokens == 7


def test_an_answer_that_is_given_up_leaves_room(chat: ChatModel) -> None:
    for temperature in (0.0, 1e-4):
        for _ in range(10):
            stream = chat.chat(ask("count"), ChatOptions(temperature=temperature))
            next(stream)
            stream.close()     # type: ignore[attr-defined]
        assert said(list(chat.chat(ask("count"), ChatOptions(temperature=temperature)))) == COUNT


def test_a_seed_repeats_chance(chat: ChatModel) -> None:
    def drawn(seed: int) -> str:
        return said(list(chat.chat(ask("unknown to it"), ChatOptions(temperature=2.0, seed=seed, max_tokens=30))))

    assert drawn(1) == drawn(1)
    assert len({drawn(seed) for seed in range(5)}) > 1


def test_it_calls_a_tool(chat: ChatModel) -> None:
    deltas = list(chat.chat(ask("look"), ChatOptions(tools=(FIND,))))
    (call,) = [call for delta in deltas for call in delta.tool_calls]
    assert (call.name, json.loads(call.arguments)) == ("find", {"q": "연차"})
    assert said(deltas) == ""
    assert deltas[-1].finish_reason == "tool_calls"
    assert said(list(chat.chat(ask("hi"), ChatOptions(tools=(FIND,), tool_choice="none")))) == HI


def test_the_whole_conversation_reaches_the_template(chat_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(chat_folder, tmp_path / "m")
    (folder / "chat_template.jinja").write_text("{{ messages | length }}")
    model = TransformersProvider(Local(device="cpu")).chat_model(str(folder))
    list(model.chat(ask("x"), ChatOptions(max_tokens=1, temperature=1.0)))
    loaded = model._loaded      # type: ignore[attr-defined]
    told: list[str] = []
    loaded.processor.apply_chat_template, original = (
        lambda *given, **more: told.append((given, more)) or original(*given, **more),   # type: ignore[func-returns-value]
        loaded.processor.apply_chat_template)
    list(model.chat([Message("system", "be short"), Message("user", "hi", "ann"),
                     Message("assistant", "", tool_calls=(ToolCall("c1", "find", '{"q": 1}'),)),
                     Message("tool", "found", tool_call_id="c1")],
                    ChatOptions(max_tokens=1, temperature=1.0, answer_format=AnswerFormat({"type": "object"}), tools=(FIND,),
                                tool_choice="required")))
    ((conversation,), more) = told[0]
    assert [each["role"] for each in conversation] == ["system", "user", "assistant", "tool"]
    assert conversation[0]["content"].startswith("be short\n\nAnswer with one JSON object")
    assert '{"type": "object"}' in conversation[0]["content"]
    assert "Call a tool" in conversation[0]["content"]
    assert conversation[1]["name"] == "ann"
    assert conversation[2]["tool_calls"][0]["function"] == {"name": "find", "arguments": {"q": 1}}
    assert conversation[3]["tool_call_id"] == "c1"
    assert [tool["function"]["name"] for tool in more["tools"]] == ["find"]


def test_what_it_refuses(chat: ChatModel, embedder_folder: Path, chat_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="at least one message"):
        chat.chat([])
    with pytest.raises(InvalidInput, match=r"has 7\d\d tokens, and .* takes 512"):
        chat.chat(ask("x" * 700))
    with pytest.raises(InvalidInput, match="does not see pictures"):
        chat.chat([Message("user", "look", parts=("look", Image("image/png", b"x")))])
    provider = TransformersProvider(Local(device="cpu"))
    with pytest.raises(NotFound, match="does not embed"):
        provider.embedder("x")
    bare = shutil.copytree(chat_folder, tmp_path / "bare")
    (bare / "chat_template.jinja").unlink()
    with pytest.raises(InvalidInput, match="no chat template"):
        provider.chat_model(str(bare)).chat(ask("hi"))
    broken = shutil.copytree(chat_folder, tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"no")
    with pytest.raises(Corrupt, match="cannot be loaded from"):
        provider.chat_model(str(broken)).chat(ask("hi"))


def picture(colour: str) -> Image:
    out = BytesIO()
    Pictures.new("RGB", (40, 30), colour).save(out, "PNG")
    return Image("image/png", out.getvalue())


def test_a_model_that_sees_tells_pictures_apart(vision_folder: Path) -> None:
    model = TransformersProvider(Local(device="cpu")).chat_model(str(vision_folder))

    def about(image: Image | None) -> list[Delta]:
        parts: tuple[str | Image, ...] = ("what is it?",) if image is None else (image, "what is it?")
        return list(model.chat([Message("user", "what is it?", parts=parts)], ChatOptions(max_tokens=8)))

    red, plain = about(picture("red")), about(None)
    assert red[-1].usage is not None
    assert plain[-1].usage is not None
    assert red[-1].usage.prompt_tokens == plain[-1].usage.prompt_tokens + 4       # 16 x 16 pixels in patches of 8
    assert said(red) == said(about(picture("red")))
    with pytest.raises(InvalidInput, match="cannot be read"):
        about(Image("image/png", b"no picture"))
    with pytest.raises(InvalidInput, match="its address alone"):
        about(Image(url="http://example.org/x.png"))


def test_it_answers_from_a_collection_and_the_process_ends(chat_folder: Path, tmp_path: Path) -> None:
    script = f"""
import madang
from madang.base.messages import Message
with madang.open({str(tmp_path / "ws")!r}) as ws:
    model = ws.models.chat_model("transformers/{chat_folder}")
    print("".join(d.text for d in model.chat([Message("user", "hi")])))
    kept = model.chat([Message("user", "count")])
    next(kept)
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert HI in run.stdout
    assert run.returncode == 0, run.stderr


def test_an_answer_of_the_same_weights_is_kept(chat_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MADANG_CACHE_MODE", "on")
    name = f"transformers/{chat_folder}"
    with madang.open(tmp_path / "ws") as ws:
        first = list(ws.models.chat_model(name).chat(ask("hi")))
    monkeypatch.setenv("MADANG_CACHE_MODE", "replay")
    with madang.open(tmp_path / "ws") as ws:
        again = ws.models.chat_model(name)
        assert list(again.chat(ask("hi"))) == first
        with pytest.raises(NotFound, match=r"no answer to chat transformers/.*@[0-9a-f]{12}"):
            again.chat(ask("count"))
