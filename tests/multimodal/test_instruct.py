"""Instruction data: what the grammar and chat models write, that it can be stopped at any byte, and the command for it."""

from __future__ import annotations

import json
import re
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import pytest

from madang.base.errors import Conflict, InvalidInput, ServiceError
from madang.base.messages import ChatOptions, Delta, Message
from madang.cli.main import entry
from madang.models.protocol import ChatModel
from madang.multimodal.instruct import Grammar, Model, Writer, Written, scene_of, write
from madang.multimodal.pairs import Captioned, read_pairs
from madang.multimodal.scenes import dataset
from madang.multimodal.scenes.talk import KINDS, Kind, Turn
from madang.multimodal.scenes.words import LANGUAGES, Language
from madang.multimodal.scenes.world import CENTRES, RADII, Scene, Split, Thing, scene
from tests.models.service_stub import Reply, Request, ServiceStub, answer
from tests.multimodal.test_talk import check

COUNT = 6
GOOD = json.dumps([{"question": "What is it?", "answer": "A cat."}, {"question": "Where?", "answer": "고양이는 집에."}],
                  ensure_ascii=False)
CAT = Captioned("cat.png", "a cat on a sofa", lambda: b"")
CATS = [CAT, Captioned("더/고양이.png", "소파 위의 고양이", lambda: b""), Captioned("z.png", "another cat", lambda: b"")]
Layout: TypeAlias = Literal["folder", "diffusiondb", "parquet"]


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of scenes, with captions in English and in Korean."""
    folder = tmp_path_factory.mktemp("painted")
    for language in LANGUAGES:
        dataset.write(folder / language, COUNT, language=language, side=16)
    return {language: folder / language for language in LANGUAGES}


@pytest.fixture
def pictures(painted: dict[str, Path], tmp_path: Path) -> dict[str, Path]:
    """Copies of them, to write into."""
    return {language: Path(shutil.copytree(folder, tmp_path / language)) for language, folder in painted.items()}


def conversations(path: Path) -> list[dict[str, Any]]:
    """JSON Lines of LLaVA's format, each about a picture that is beside the file."""
    text = path.read_text(encoding="utf-8")
    assert text == "" or text.endswith("\n")
    found: list[dict[str, Any]] = [json.loads(line) for line in text.split("\n")[:-1]]
    for each in found:
        assert set(each) == {"id", "image", "kind", "conversations"}
        assert each["kind"] in KINDS
        assert (path.parent / each["image"]).is_file()
        assert (path.parent / each["image"]).resolve().is_relative_to(path.parent.resolve())
        said = each["conversations"]
        assert said
        assert all(set(turn) == {"from", "value"} and turn["value"] == turn["value"].strip() != "" for turn in said)
        assert [turn["from"] for turn in said] == ["human", "gpt"] * (len(said) // 2)
        assert said[0]["value"].startswith("<image>\n")
        assert json.dumps(said).count("<image>") == 1
    assert len({each["id"] for each in found}) == len(found)
    return found


def turns_of(row: dict[str, Any]) -> list[Turn]:
    said = [turn["value"].removeprefix("<image>\n") for turn in row["conversations"]]
    return [Turn(row["kind"], question, told) for question, told in zip(said[::2], said[1::2], strict=True)]


def grammar(folder: Path, out: Path, kinds: Sequence[Kind] = KINDS, seed: int = 0) -> Written:
    return write(read_pairs(folder), out, Grammar(seed), kinds=kinds, base=folder)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_grammar_writes_what_is_true(pictures: dict[str, Path], language: Language) -> None:
    out = pictures[language] / "told.jsonl"
    written = grammar(pictures[language], out)
    found = conversations(out)
    assert [(each["image"], each["kind"]) for each in found] == [
        (f"{seed:07d}.png", kind) for seed in range(COUNT) for kind in KINDS]
    for row, seed in zip(found, [seed for seed in range(COUNT) for _ in KINDS], strict=True):
        for turn in turns_of(row):
            check(turn, scene(seed), language)
    turns = sum(len(each["conversations"]) // 2 for each in found)
    assert written.to_dict() == {"conversations": COUNT * len(KINDS), "turns": turns, "kept": 0, "failed": {}}
    lengths = {kind: {len(each["conversations"]) // 2 for each in found if each["kind"] == kind} for kind in KINDS}
    assert lengths["caption"] == lengths["detail"] == {1}
    assert max(lengths["conversation"]) == 4
    assert max(lengths["reasoning"]) == 2


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_grammar_understands_captions_alone(tmp_path: Path, language: Language) -> None:
    dataset.write(tmp_path, COUNT, language=language, side=16, layout="diffusiondb", split="held-out")
    assert not any("scene" in each.about for each in read_pairs(tmp_path))
    grammar(tmp_path, tmp_path / "told.jsonl")
    found = conversations(tmp_path / "told.jsonl")
    assert {each["image"] for each in found} == {f"part-000001/{seed:07d}.png" for seed in range(COUNT)}
    for row in found:
        for turn in turns_of(row):
            check(turn, scene(int(Path(row["image"]).stem), "held-out"), language)


def test_the_same_seed_writes_the_same(pictures: dict[str, Path]) -> None:
    folder = pictures["en"]
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        grammar(folder, folder / name, seed=seed)
    one, same, other = ((folder / name).read_bytes() for name in ("one", "same", "other"))
    assert one == same != other
    # What is written about a picture has nothing to do with which others there are.
    write(read_pairs(folder)[3:4], folder / "alone", Grammar(), base=folder)
    assert (folder / "alone").read_bytes() in one


def test_the_grammar_names_what_it_does_not_know(tmp_path: Path) -> None:
    for caption, about in (("a cat on a sofa", {}), ("a red star", {}), ("", {}), ("an image", {"scene": "{"}),
                           ("an image", {"scene": "[]"}), ("an image", {"scene": 5}), ("an image", {"scene": '{"time": "day"}'})):
        with pytest.raises(InvalidInput, match=r"only knows painted scenes.*--writer"):
            Grammar()(Captioned("a.png", caption, lambda: b"", about), "caption")
    made = Scene("sea", "day", (Thing("star", "red", "small", "top"),))
    for told in (made.as_dict(), json.dumps(made.as_dict())):
        assert scene_of(Captioned("a.png", "별", lambda: b"", {"scene": told})) == (made, "ko")
    mixed = [CAT, Captioned("b.png", "a small red star at the top by day over the sea", lambda: b"")]
    written = write(mixed, tmp_path / "told.jsonl", Grammar())
    assert (written.conversations, list(written.failed.values())) == (4, [4])


def test_out_may_be_beside_the_pictures_or_above(pictures: dict[str, Path], tmp_path: Path) -> None:
    for out, image in ((tmp_path / "en" / "told.jsonl", "0000000.png"), (tmp_path / "told.jsonl", "en/0000000.png")):
        grammar(pictures["en"], out, ["caption"])
        assert conversations(out)[0]["image"] == image


def test_a_relative_path_is_the_same(pictures: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    grammar(Path("en"), Path("told.jsonl"), ["caption"])
    grammar(Path("en"), tmp_path / "absolute.jsonl", ["caption"])
    assert Path("told.jsonl").read_bytes() == Path("absolute.jsonl").read_bytes()
    assert conversations(Path("told.jsonl"))[0]["image"] == "en/0000000.png"


@pytest.mark.parametrize("where", ["elsewhere/told.jsonl", "en/below/told.jsonl", "ko/told.jsonl"])
def test_out_must_be_where_readers_look(pictures: dict[str, Path], tmp_path: Path, where: str) -> None:
    (tmp_path / where).parent.mkdir(exist_ok=True)
    with pytest.raises(InvalidInput, match=r"^OUT: .* is not beside the pictures.*Write it to .*/en/told\.jsonl"):
        grammar(pictures["en"], tmp_path / where)
    assert not (tmp_path / where).exists()


def test_a_folder_may_be_hidden(pictures: dict[str, Path], tmp_path: Path) -> None:
    hidden = pictures["en"].rename(tmp_path / ".hidden")
    grammar(hidden, tmp_path / "told.jsonl", ["caption"])
    conversations(tmp_path / "told.jsonl")


def test_rows_of_a_parquet_file_are_refused(tmp_path: Path) -> None:
    dataset.write(tmp_path, 2, side=16, layout="parquet")
    with pytest.raises(InvalidInput):
        grammar(tmp_path, tmp_path / "told.jsonl")


def test_every_split_can_be_told_of(tmp_path: Path) -> None:
    split: Split = "combinations"
    dataset.write(tmp_path, 100, side=16, split=split)
    assert grammar(tmp_path, tmp_path / "told.jsonl").conversations == 400


def test_nothing_is_written_twice(pictures: dict[str, Path]) -> None:
    folder = pictures["ko"]
    out = folder / "told.jsonl"
    assert grammar(folder, out, ["detail"]).to_dict() == {"conversations": COUNT, "turns": COUNT, "kept": 0, "failed": {}}
    before = out.read_bytes()
    more = grammar(folder, out)
    assert (more.conversations, more.kept) == (3 * COUNT, COUNT)
    assert out.read_bytes().startswith(before)
    assert len(conversations(out)) == 4 * COUNT
    before = out.read_bytes()

    def refuses(picture: Captioned, kind: Kind) -> list[Turn]:
        raise AssertionError("nothing was to be written")

    assert write(read_pairs(folder), out, refuses, base=folder) == Written(kept=4 * COUNT)
    assert out.read_bytes() == before


@pytest.mark.parametrize("after", [0, 1, 7, 23])
def test_stopped_it_goes_on(pictures: dict[str, Path], after: int) -> None:
    folder = pictures["ko"]
    grammar(folder, folder / "complete")
    out, lock, made = folder / "told.jsonl", threading.Lock(), []

    def stops(picture: Captioned, kind: Kind) -> list[Turn]:
        with lock:
            made.append(picture.name)
            if len(made) > after:
                raise KeyboardInterrupt
        return Grammar()(picture, kind)

    with pytest.raises(KeyboardInterrupt):
        write(read_pairs(folder), out, stops, base=folder)
    kept = len(conversations(out))
    assert kept <= after
    rest = grammar(folder, out)
    assert (rest.kept, rest.kept + rest.conversations) == (kept, COUNT * len(KINDS))
    assert out.read_bytes() == (folder / "complete").read_bytes()


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_torn_last_line_is_written_again(pictures: dict[str, Path], language: Language) -> None:
    folder = pictures[language]
    out = folder / "told.jsonl"
    grammar(folder, out, ["caption"])
    complete = out.read_text(encoding="utf-8")
    last = complete.rindex("\n", 0, -1)
    for at in (0, 1, 50, last - 1, last, *range(last + 1, len(complete), 7), len(complete) - 2, len(complete) - 1):
        out.write_text(complete[:at], encoding="utf-8")
        written = grammar(folder, out, ["caption"])
        assert out.read_text(encoding="utf-8") == complete, at
        assert written.kept == complete[:at + 1].count("\n")     # a line that lacks its end alone is whole
        assert written.kept + written.conversations == COUNT
    assert not list(folder.glob("*.part"))


def test_a_line_that_is_torn_within_a_syllable_is_written_again(pictures: dict[str, Path]) -> None:
    folder = pictures["ko"]
    out = folder / "told.jsonl"
    grammar(folder, out, ["caption"])
    complete = out.read_bytes()
    syllable = next(letter for letter in reversed(complete.decode()) if not letter.isascii()).encode()
    for more in (1, 2):
        out.write_bytes(complete[:complete.rindex(syllable) + more])
        grammar(folder, out, ["caption"])
        assert out.read_bytes() == complete


ELSE = ["my notes\n", "\n", "[]\n", "5\n", '{"file_name": "a.png", "text": "a star"}\n', "my notes\nand more",
        '[\n {"id": "a", "image": "a.png"}\n]\n', '{"id": ["a"]}\n']


@pytest.mark.parametrize("content", [*ELSE, '{"id": 7, "text": "a star"}\n'])
def test_a_file_with_something_else_is_left_alone(pictures: dict[str, Path], content: str) -> None:
    out = pictures["en"] / "told.jsonl"
    out.write_text(content, encoding="utf-8")
    with pytest.raises(Conflict, match=r"^OUT: .*told.jsonl, line 1 is no conversation. Name another file."):
        grammar(pictures["en"], out)
    assert out.read_text(encoding="utf-8") == content


@pytest.mark.parametrize("content", ["my notes", "[]", '{"file_name": "a.png", "text": "a star"}',
                                     '[{"id": "a", "image": "a.png", "conversations": []}]'])
def test_a_line_of_something_else_without_end_is_left_alone(pictures: dict[str, Path], content: str) -> None:
    out = pictures["en"] / "told.jsonl"
    out.write_text(content, encoding="utf-8")
    with pytest.raises(Conflict):
        grammar(pictures["en"], out)
    assert out.read_text(encoding="utf-8") == content


def test_a_file_that_is_no_text_is_left_alone(pictures: dict[str, Path]) -> None:
    out = pictures["en"] / "0000000.png"
    before = out.read_bytes()
    with pytest.raises(Conflict):
        grammar(pictures["en"], out)
    assert out.read_bytes() == before


def test_something_else_after_conversations_names_its_line(pictures: dict[str, Path]) -> None:
    out = pictures["en"] / "told.jsonl"
    grammar(pictures["en"], out, ["caption"])
    with out.open("a") as file:
        file.write("my notes\n")
    with pytest.raises(Conflict, match=f"line {COUNT + 1} is no conversation"):
        grammar(pictures["en"], out)


class Chat:
    """A chat model that answers what `says` makes of what it was told, in pieces, and remembers it."""

    name = "test/writer"

    def __init__(self, says: Callable[[str], str] | str = GOOD) -> None:
        self.says = says
        self.heard: list[list[Message]] = []
        self.options: list[ChatOptions | None] = []

    def chat(self, messages: Sequence[Message], options: ChatOptions | None = None) -> Iterator[Delta]:
        self.heard.append(list(messages))
        self.options.append(options)
        text = self.says if isinstance(self.says, str) else self.says(messages[-1].content)
        yield from (Delta(text[at:at + 5]) for at in range(0, len(text), 5))
        yield Delta(finish_reason="stop")

    def told(self, picture: Captioned, kind: Kind = "caption", **options: Any) -> tuple[str, str]:
        """What it is told about a picture: by the system and by the user."""
        Model(self, **options)(picture, kind)
        (system, user) = self.heard[-1]
        assert (system.role, user.role) == ("system", "user")
        return system.content, user.content


def test_the_fake_is_a_chat_model() -> None:
    assert isinstance(Chat(), ChatModel)


def test_a_model_is_told_the_caption() -> None:
    system, user = Chat().told(CAT)
    assert user == "Caption: a cat on a sofa"
    assert "JSON array" in system
    assert '[{"question": "...", "answer": "..."}]' in system
    assert "never mention the caption" in system


def test_each_kind_is_asked_for_in_other_words() -> None:
    asked = {kind: Chat().told(CAT, kind)[0] for kind in KINDS}
    assert len(set(asked.values())) == len(KINDS)
    for kind, word in (("caption", "one sentence"), ("conversation", "three questions"), ("detail", "detailed"),
                       ("reasoning", "step by step")):
        assert [each for each, system in asked.items() if word in system] == [kind]


def test_a_model_writes_in_the_language_of_the_caption() -> None:
    for picture, language, options in ((CATS[0], "English", {}), (CATS[1], "Korean", {}), (CATS[1], "German", {"language": "German"})):
        assert f"Write in {language}." in Chat().told(picture, **options)[0]


def test_a_model_is_told_where_things_are(painted: dict[str, Path]) -> None:
    """In Korean scenes, too: boxes are told in English."""
    for seed, picture in enumerate(read_pairs(painted["ko"])):
        caption, *boxes = Chat().told(picture)[1].split("\n")
        assert caption == f"Caption: {picture.text}"
        assert len(boxes) == len(scene(seed).things)
        for line, thing in zip(boxes, scene(seed).things, strict=True):
            words, _, box = line.partition(": ")
            assert words == f"{thing.size} {thing.colour} {thing.shape}"
            left, top, right, bottom = json.loads(box)
            assert 0 <= left < right <= 1
            assert 0 <= top < bottom <= 1
            assert ((left + right) / 2, (top + bottom) / 2) == pytest.approx(CENTRES[thing.position], abs=0.01)
            assert (right - left, bottom - top) == pytest.approx([2 * RADII[thing.size]] * 2, abs=0.011)


def test_a_model_is_told_the_boxes_of_a_data_set() -> None:
    boxes = [{"label": "cat", "box": [0.1, 0.2, 0.5, 0.9]}, {"box": [0, 0, 1, 1]}, "no box"]
    picture = Captioned("cat.png", "a cat", lambda: b"", {"boxes": boxes})
    assert Chat().told(picture)[1].split("\n") == ["Caption: a cat", "cat: [0.1, 0.2, 0.5, 0.9]", "thing: [0, 0, 1, 1]"]
    assert Chat().told(Captioned("cat.png", "a cat", lambda: b"", {"boxes": "none"}))[1] == "Caption: a cat"


def test_boxes_of_metadata_are_told(pictures: dict[str, Path]) -> None:
    folder = pictures["en"]
    (folder / "metadata.jsonl").write_text(json.dumps({
        "file_name": "0000000.png", "text": "a cat", "boxes": [{"label": "cat", "box": [0, 0, 1, 1]}]}) + "\n")
    assert "cat: [0, 0, 1, 1]" in Chat().told(read_pairs(folder)[0])[1]


def test_a_data_set_may_say_scene_and_mean_something_else() -> None:
    assert Chat().told(Captioned("a.png", "a sink", lambda: b"", {"scene": "kitchen"}))[1] == "Caption: a sink"


def test_options_are_passed_on() -> None:
    chat = Chat()
    Model(chat)(CAT, "caption")
    Model(chat, options=ChatOptions(max_tokens=9))(CAT, "caption")
    first, second = chat.options
    assert first is not None
    assert first.temperature == 0.7
    assert second == ChatOptions(max_tokens=9)


@pytest.mark.parametrize("text", [GOOD, f"\n {GOOD}\n", f"```json\n{GOOD}\n```", f"Here it is:\n{GOOD}\nI hope it helps!",
                                  json.dumps(json.loads(GOOD), indent=1)])
def test_the_array_is_found_in_the_answer(text: str) -> None:
    assert Model(Chat(text))(CAT, "reasoning") == [Turn("reasoning", "What is it?", "A cat."),
                                                   Turn("reasoning", "Where?", "고양이는 집에.")]


NO_JSON, EMPTY = "did not answer with a JSON array", "left a question or an answer empty"
BAD = [("", NO_JSON), ("I am sorry, I cannot.", NO_JSON), ("[", NO_JSON), ("]", NO_JSON), ("][", NO_JSON), (GOOD[:-9], NO_JSON),
       ('{"question": "a", "answer": "b"}', NO_JSON), ("[1]", NO_JSON), ('["a", "b"]', NO_JSON), ("[null]", NO_JSON),
       ("[[]]", NO_JSON), ('[{"q": "a", "a": "b"}]', NO_JSON), ('[{"question": "a"}]', NO_JSON), ("[" * 100_000, NO_JSON),
       ("[]", EMPTY), ('[{"question": "", "answer": "b"}]', EMPTY), ('[{"question": "a", "answer": " \\n "}]', EMPTY),
       ('[{"question": "a", "answer": "b"}, {"question": "c", "answer": ""}]', EMPTY)]


@pytest.mark.parametrize(("text", "why"), BAD)
def test_a_bad_answer_is_counted_and_asked_for_again(tmp_path: Path, text: str, why: str) -> None:
    out = tmp_path / "told.jsonl"
    for name in ("cat.png", "더/고양이.png", "z.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    written = write(CATS, out, Model(Chat(lambda told: text if "a cat on" in told else GOOD)), kinds=["caption", "detail"])
    ((message, count),) = written.failed.items()
    assert (why in message, count) == (True, 2)
    assert (written.conversations, written.turns) == (4, 8)
    assert {each["image"] for each in conversations(out)} == {"더/고양이.png", "z.png"}
    again = Chat()
    written = write(CATS, out, Model(again), kinds=["caption", "detail"])
    assert (written.conversations, written.kept, written.failed) == (2, 4, Counter())
    assert [heard[-1].content for heard in again.heard] == ["Caption: a cat on a sofa"] * 2
    assert Counter(each["image"] for each in conversations(out)) == {"cat.png": 2, "더/고양이.png": 2, "z.png": 2}
    assert [turns_of(each) for each in conversations(out) if each["image"] == "cat.png"] == [
        [Turn(kind, "What is it?", "A cat."), Turn(kind, "Where?", "고양이는 집에.")] for kind in ("caption", "detail")]


def test_failures_are_counted_by_reason(tmp_path: Path) -> None:
    def says(told: str) -> str:
        if "sofa" in told:
            raise ServiceError("the service is busy.", kind="server")
        return "[]" if "another" in told else "?"

    written = write(CATS, tmp_path / "told.jsonl", Model(Chat(says)))
    assert sorted(written.failed.values()) == [4, 4, 4]
    assert written.failed["the service is busy."] == 4
    assert written.to_dict()["failed"] == dict(written.failed)
    assert (tmp_path / "told.jsonl").read_bytes() == b""


def test_progress_is_told_of_what_fails_too(tmp_path: Path) -> None:
    out, done = tmp_path / "told.jsonl", []
    says = Model(Chat(lambda told: "" if "sofa" in told else GOOD))
    write(CATS, out, says, progress=done.append)
    assert done == [1] * 12
    write(CATS, out, says, progress=done.append)
    assert done == [1] * 16


def test_what_is_written_is_in_the_order_of_the_pictures(tmp_path: Path) -> None:
    """However long the writer takes for each."""
    wait = threading.Event()

    def slow(picture: Captioned, kind: Kind) -> list[Turn]:
        wait.wait(0.05 if picture.name.endswith("0") else 0)
        return [Turn(kind, "q", picture.name)]

    many = [Captioned(str(number), "", lambda: b"") for number in range(40)]
    writer: Writer = slow
    write(many, tmp_path / "told.jsonl", writer, kinds=["detail"])
    ids = [json.loads(line)["id"] for line in (tmp_path / "told.jsonl").read_text().splitlines()]
    assert ids == [f"{number}#detail" for number in range(40)]


def test_few_are_asked_for_ahead(tmp_path: Path) -> None:
    """So that stopping costs little."""
    asked, lock = [], threading.Lock()

    def writer(picture: Captioned, kind: Kind) -> list[Turn]:
        with lock:
            asked.append(picture.name)
        return [Turn(kind, "q", "a")]

    def stops(_: int) -> None:
        raise KeyboardInterrupt

    many = [Captioned(str(number), "", lambda: b"") for number in range(500)]
    with pytest.raises(KeyboardInterrupt):
        write(many, tmp_path / "told.jsonl", writer, progress=stops)
    assert len(asked) < 40


def test_arrays_without_end_are_a_bad_answer() -> None:
    with pytest.raises(InvalidInput):
        Model(Chat("[" * 50_000 + "]" * 50_000))(CAT, "caption")


@pytest.mark.parametrize("value", ["null", "[]", '{"a": 1}', "true"])
def test_a_question_that_is_no_text_is_a_bad_answer(value: str) -> None:
    with pytest.raises(InvalidInput):
        Model(Chat(f'[{{"question": {value}, "answer": "b"}}]'))(CAT, "caption")


def test_half_a_letter_does_not_stop_the_run(tmp_path: Path) -> None:
    written = write(CATS, tmp_path / "told.jsonl", Model(Chat('[{"question": "a \\ud83d", "answer": "b"}]')))
    assert written.conversations + written.failed.total() == 12


@pytest.mark.parametrize("end", ["\u2028", "\u2029", "\x85"])
def test_other_line_ends_within_an_answer_are_no_line_ends(tmp_path: Path, end: str) -> None:
    writer = Model(Chat(GOOD.replace("A cat.", f"A{end}cat.")))
    write(CATS, tmp_path / "told.jsonl", writer)
    assert write(CATS, tmp_path / "told.jsonl", writer) == Written(kept=12)


def test_a_writer_cannot_show_a_second_picture(tmp_path: Path) -> None:
    (tmp_path / "cat.png").touch()
    write([CAT], tmp_path / "told.jsonl", Model(Chat('[{"question": "<image>\\nWhat?", "answer": "A cat."}]')))
    assert len(conversations(tmp_path / "told.jsonl")) in (0, len(KINDS))


@pytest.fixture
def service(tmp_path: Path) -> Iterator[tuple[ServiceStub, str]]:
    """A service and a workspace that knows it as "local"."""
    with ServiceStub() as stub:
        workspace = tmp_path / "workspace"
        workspace.mkdir()
        (workspace / "madang.toml").write_text(f'[services.local]\nbase_url = "{stub.url}"\nretries = 0\n', encoding="utf-8")
        yield stub, str(workspace)


def said(capsys: pytest.CaptureFixture[str], *command: str | Path, code: int = 0) -> tuple[str, str]:
    """What a command prints."""
    capsys.readouterr()
    assert entry(["data", *map(str, command)]) == code
    return capsys.readouterr()


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_command_tells_of_scenes(tmp_path: Path, capsys: pytest.CaptureFixture[str], language: Language) -> None:
    folder = tmp_path / "scenes"
    said(capsys, "scenes", folder, "--count", "5", "--start", "3", "--side", "16", "--language", language)
    out, err = said(capsys, "instruct", folder, folder / "told.jsonl", "--json")
    found = conversations(folder / "told.jsonl")
    turns = sum(len(each["conversations"]) // 2 for each in found)
    assert json.loads(out) == {"file": str(folder / "told.jsonl"), "conversations": 20, "turns": turns, "kept": 0, "failed": {}}
    assert err == ""
    for row in found:
        for turn in turns_of(row):
            check(turn, scene(int(Path(row["image"]).stem)), language)
    again, _ = said(capsys, "instruct", folder, folder / "told.jsonl", "--json")
    assert json.loads(again) == {"file": str(folder / "told.jsonl"), "conversations": 0, "turns": 0, "kept": 20, "failed": {}}


def test_the_command_for_people(pictures: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "told.jsonl"
    line, err = said(capsys, "instruct", pictures["en"], out, "--kind", "detail", "--kind", "caption", "--count", "2")
    assert (line.strip(), err) == (f"{out}: 4 conversations of 4 turns", "")
    assert [(each["image"], each["kind"]) for each in conversations(out)] == [
        (f"en/{seed:07d}.png", kind) for seed in range(2) for kind in ("caption", "detail")]
    line, _ = said(capsys, "instruct", pictures["en"], out, "--kind", "caption")
    assert line.strip() == f"{out}: {COUNT - 2} conversations of {COUNT - 2} turns, 4 were there"


def test_the_seed_decides_the_words(pictures: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    for name, seed in (("a", "0"), ("b", "0"), ("c", "9")):
        said(capsys, "instruct", pictures["en"], pictures["en"] / name, "--seed", seed)
    a, b, c = ((pictures["en"] / name).read_bytes() for name in "abc")
    assert a == b != c


def test_a_seed_below_zero_is_wrong_usage(pictures: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "instruct", pictures["en"], pictures["en"] / "told.jsonl", "--seed", "-1", code=2)


def test_mistakes_are_told_in_a_line(pictures: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = pictures["en"]
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "empty").mkdir()
    for command, code, named in (
            ([folder, tmp_path / "elsewhere" / "told.jsonl"], 1, "not beside the pictures"),
            ([folder, folder / "metadata.jsonl"], 1, "line 1 is no conversation"),
            ([folder, folder / "told.jsonl", "--writer", "nobody/model"], 1, "nobody"),
            ([folder, folder / "told.jsonl", "--kind", "poem"], 2, "poem"),
            ([folder, tmp_path], 2, "directory"),
            ([tmp_path / "empty", tmp_path / "told.jsonl"], 1, "no picture with a caption"),
            ([tmp_path / "none", tmp_path / "told.jsonl"], 2, "none")):
        out, err = said(capsys, "instruct", *command, code=code)
        assert out == ""
        assert named in err
        if code == 1:
            assert err.startswith("error: ")
            assert err.count("\n") == 1
    assert not (folder / "told.jsonl").exists()


def test_a_photo_is_not_for_the_grammar(pictures: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    folder = pictures["en"]
    (folder / "metadata.jsonl").write_text(json.dumps({"file_name": "0000000.png", "text": "a cat"}) + "\n")
    out, err = said(capsys, "instruct", folder, folder / "told.jsonl", code=1)
    assert "error: 4 conversations: the grammar only knows painted scenes" in err
    assert "0 conversations" in out


def test_a_chat_model_writes(pictures: dict[str, Path], service: tuple[ServiceStub, str],
                             capsys: pytest.CaptureFixture[str]) -> None:
    stub, workspace = service
    folder = pictures["ko"]
    stub.chat(answer(GOOD[:20], GOOD[20:]))
    out, err = said(capsys, "instruct", folder, folder / "told.jsonl", "--writer", "local/tiny", "-w", workspace, "--json")
    assert err == ""
    assert json.loads(out)["conversations"] == len(conversations(folder / "told.jsonl")) == COUNT * len(KINDS)
    captions = Counter(request.json["messages"][1]["content"].split("\n")[0] for request in stub.sent())
    assert captions == {f"Caption: {each.text}": len(KINDS) for each in read_pairs(folder)}
    assert {request.json["model"] for request in stub.sent()} == {"tiny"}
    assert all("Write in Korean." in request.json["messages"][0]["content"] for request in stub.sent())


def test_what_a_chat_model_does_not_answer_is_told_and_tried_again(
        pictures: dict[str, Path], service: tuple[ServiceStub, str], capsys: pytest.CaptureFixture[str]) -> None:
    stub, workspace = service
    folder = pictures["en"]
    texts = [each.text for each in read_pairs(folder)]

    def replies(request: Request) -> Reply:
        told = request.json["messages"][1]["content"]
        if texts[0] in told:
            return Reply(500, json={"error": {"message": "out of memory", "type": "server_error", "code": 500}})
        return answer("I cannot see it." if texts[1] in told else GOOD)

    command = ["instruct", folder, folder / "told.jsonl", "--kind", "detail", "--writer", "local/tiny", "-w", workspace, "--json"]
    stub.chat(replies)
    out, err = said(capsys, *command, code=1)
    counted = json.loads(out)
    assert (counted["conversations"], sorted(counted["failed"].values())) == (COUNT - 2, [1, 1])
    assert sorted(re.findall(r"^error: (\d) conversations: ", err, re.M)) == ["1", "1"]
    assert "did not answer with a JSON array" in err
    stub.chat(answer(GOOD))
    before = len(stub.sent())
    out, err = said(capsys, *command)
    assert (err, len(stub.sent()) - before) == ("", 2)
    assert json.loads(out) | {"turns": 0} == {"file": str(folder / "told.jsonl"), "conversations": 2, "turns": 0,
                                              "kept": COUNT - 2, "failed": {}}
    assert len(conversations(folder / "told.jsonl")) == COUNT
