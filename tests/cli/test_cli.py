"""The command line as a person and as a program use it: output, JSON, exit codes, and every bad input in one line."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from madang.cli.main import cli, entry
from tests.rag import samples

Run = Callable[..., "Result"]


class Result:
    """What a command printed and returned."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def madang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in an empty directory."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Result:
        code = entry(list(arguments))
        out, err = capsys.readouterr()
        return Result(code, out, err)

    return run


@pytest.fixture
def handbook(tmp_path: Path) -> Path:
    folder = tmp_path / "handbook"
    folder.mkdir()
    (folder / "vacation.md").write_text(
        "# Vacation\n\nEvery employee has fifteen vacation days a year.\n\n## Carry-over\n\n"
        "Unused vacation days may be carried over until the end of March.\n", encoding="utf-8")
    (folder / "휴가.md").write_text("# 휴가\n\n연차는 입사 첫해에 열다섯 일입니다.\n", encoding="utf-8")
    return folder


@pytest.fixture
def ingested(madang: Run, handbook: Path) -> Run:
    assert madang("ingest", "handbook", "--embedder", "bundled/static").code == 0
    return madang


def test_ingest_ask_search(ingested: Run) -> None:
    again = ingested("ingest", "handbook")
    assert (again.code, again.out.strip()) == (0, "docs: 0 added, 2 unchanged")
    asked = ingested("ask", "How long may unused vacation days be carried over?")
    assert asked.code == 0
    assert "Unused vacation days may be carried over until the end of March. [1]" in asked.out
    assert "handbook/vacation.md:7 · Vacation ✓" in asked.out
    assert "bundled/reader · " in asked.out
    found = ingested("search", "연차", "--top-k", "1")
    assert "handbook/휴가.md:1" in found.out


def test_json_is_one_document(ingested: Run) -> None:
    answer = ingested("ask", "How many vacation days does an employee have?", "--json").json
    assert answer["status"] == "answered"
    assert answer["citations"][0]["verified"] is True
    assert answer["citations"][0]["quote"] == "Every employee has fifteen vacation days a year."
    assert set(answer["timings_ms"]) >= {"embed", "search", "read", "total"}
    assert ingested("search", "vacation", "--json").json["passages"][0]["start"] >= 0
    assert ingested("ingest", "handbook", "--json").json["unchanged"] == 2
    (stats,) = ingested("collection", "list", "--json").json
    assert (stats["name"], stats["sources"]) == ("docs", 2)


def test_a_korean_question_says_why_it_was_found_by_words(ingested: Run) -> None:
    answer = ingested("ask", "연차는 며칠인가요?", "--json").json
    assert "열다섯" in answer["text"]
    assert any("Korean" in note and "BM25" in note for note in answer["notes"])


def test_what_is_not_there_is_not_answered(ingested: Run) -> None:
    assert ingested("ask", "How long should I roast a chicken?", "--json").json["status"] == "not_found"


def test_collections(ingested: Run) -> None:
    made = ingested("collection", "create", "mine", "--dim", "3", "--metric", "dot")
    assert (made.code, made.out) == (0, "made mine: 3 dimensions, dot\n")
    assert "bundled/static" in ingested("collection", "show", "docs").out
    assert "handbook/vacation.md" in ingested("collection", "sources", "docs").out
    passage = ingested("search", "unused", "--json").json["passages"][0]
    record = ingested("collection", "fetch", "docs", passage["id"], "--json").json["records"][0]
    assert record["document"] == passage["text"]
    assert len(record["values"]) == 256
    assert ingested("collection", "delete", "docs", passage["id"]).out == "deleted 1 records\n"
    filtered = ingested("collection", "delete", "docs", "--filter", '{"title": {"$exists": true}}', "--json").json
    assert filtered["deleted"] >= 1
    assert ingested("collection", "reanalyze", "docs").code == 0
    assert ingested("collection", "drop", "docs", "--yes").code == 0
    assert [c["name"] for c in ingested("collection", "list", "--json").json] == ["mine"]
    assert "has no embedder" in ingested("ask", "x", "-c", "mine").err


def _junk(folder: Path) -> Path:
    path = folder / "junk.txt"
    path.write_bytes(bytes(range(256)) * 8)
    return path


def _not_utf8(folder: Path) -> Path:
    path = folder / "latin.txt"
    path.write_bytes("Café au lait".encode("latin-1"))
    return path


def _empty_docx(folder: Path) -> Path:
    path = folder / "empty.docx"
    path.touch()
    return path


def _zip_docx(folder: Path) -> Path:
    path = folder / "other.docx"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "x")
    return path


def _encrypted(folder: Path) -> Path:
    path = folder / "secret.pdf"
    path.write_bytes(samples.pdf([samples.lines("secret")], encrypted=True))
    return path


@pytest.mark.parametrize(("make", "words"), [
    (_junk, "binary"), (_not_utf8, "UTF-8"), (_empty_docx, "empty.docx"), (_zip_docx, "other.docx"),
    (_encrypted, "encrypted"),
    (lambda folder: folder / "missing.md", "does not exist"),
])
def test_a_file_that_cannot_be_read_is_one_line_and_a_failure(madang: Run, tmp_path: Path,
                                                              make: Callable[[Path], Path], words: str) -> None:
    path = make(tmp_path)
    result = madang("ingest", str(path), "--embedder", "bundled/static")
    assert result.code == 1
    assert result.err.count("\n") == 1
    assert result.err.startswith("error: ")
    assert words in result.err
    assert path.name in result.err


def _locked(madang: Run) -> tuple[str, ...]:
    script = ("import sys, madang; ws = madang.open('courtyard'); ws.create_collection('held', 2); "
              "print('ready', flush=True); sys.stdin.read()")
    global _HOLDER
    _HOLDER = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert _HOLDER.stdout is not None
    assert _HOLDER.stdout.readline() == "ready\n"
    return ("ingest", "handbook", "-c", "held2", "--embedder", "bundled/static")


_HOLDER: subprocess.Popen[str] | None = None


def _empty_folder(madang: Run) -> tuple[str, ...]:
    Path("nothing").mkdir()
    return ("ingest", "nothing", "-c", "new")


def _broken_toml(madang: Run) -> tuple[str, ...]:
    Path("courtyard/madang.toml").write_text("[models\nchat = ")
    return ("ask", "x")


def _wrong_dim(madang: Run) -> tuple[str, ...]:
    assert madang("collection", "create", "own", "--dim", "3").code == 0
    return ("ingest", "handbook", "-c", "own")


@pytest.mark.parametrize(("arguments", "words"), [
    (("ask", "x", "-c", "nope"), "no collection is called 'nope'"),
    (("ask", "x", "-w", "elsewhere"), "there is no workspace at"),
    (("ask", " "), "the question is empty"),
    (("ask", "x", "--model", "gpt"), "not of the form PROVIDER/MODEL"),
    (("ask", "x", "--model", "nobody/gpt"), "no provider or service is called 'nobody'"),
    (("ingest", "handbook", "--embedder", "bundled/minilm"), "was made with bundled/static, not bundled/minilm"),
    (("collection", "create", "docs", "--dim", "3"), "exists already"),
    (("collection", "create", "../up", "--dim", "3"), "is not allowed"),
    (("collection", "create", "x", "--dim", "0"), "dim must be"),
    (("collection", "create", "x", "--dim", "3", "--metric", "l7"), "metric 'l7'"),
    (("collection", "delete", "docs", "--filter", "{"), "--filter is not JSON"),
    (("collection", "delete", "docs"), "exactly one of"),
    (_empty_folder, "holds no file that can be read"),
    (_broken_toml, "madang.toml is not valid TOML"),
    (_wrong_dim, "it has no embedder"),
    (_locked, "is locked by another process"),
])
def test_bad_input_is_one_clear_line_and_a_failure(ingested: Run, arguments: Any, words: str) -> None:
    if callable(arguments):
        arguments = arguments(ingested)
    try:
        result = ingested(*arguments)
        machine = ingested(*arguments, "--json")
    finally:
        if _HOLDER is not None:
            _HOLDER.kill()
            _HOLDER.communicate()
    assert result.code == machine.code == 1
    assert result.err.count("\n") == 1
    assert words in result.err
    assert words in machine.json["error"]["message"]


def test_a_refused_ingest_leaves_no_empty_collection(madang: Run) -> None:
    Path("nothing").mkdir()
    assert madang("ingest", "nothing").code == 1
    assert madang("collection", "list").out == "no collections yet; make one with: madang ingest PATH\n"


def test_wrong_usage_exits_with_2(madang: Run) -> None:
    assert madang("ask").code == 2
    assert madang("nonsense").code == 2


def test_every_command_has_help_and_the_common_options() -> None:
    import click

    def walk(command: click.Command, path: str) -> None:
        assert command.help, path
        if isinstance(command, click.Group):
            for name, child in command.commands.items():
                walk(child, f"{path} {name}")
        else:
            assert {"workspace", "as_json"} <= {parameter.name for parameter in command.params}, path
            for parameter in command.params:
                if isinstance(parameter, click.Option):
                    assert parameter.help, f"{path} {parameter.name}"

    walk(cli, "madang")


def test_as_a_program(tmp_path: Path) -> None:
    """The installed command, in a process of its own."""
    result = subprocess.run([sys.executable, "-m", "madang", "ask", "x", "--workspace", str(tmp_path / "none")],
                            capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith("error: there is no workspace at")
    help_text = subprocess.run([sys.executable, "-m", "madang", "--help"], capture_output=True, text=True, check=True)
    assert "Ask your own documents, offline" in help_text.stdout


def test_a_plain_folder_is_no_workspace(madang: Run, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    assert "there is no workspace at" in madang("collection", "list", "-w", "plain").err
    assert list((tmp_path / "plain").iterdir()) == []
    assert madang("collection", "list", "-w", "~nosuchuser/x").code == 1


def test_one_damaged_collection_does_not_hide_the_others(ingested: Run) -> None:
    assert ingested("collection", "create", "bad", "--dim", "3").code == 0
    Path("courtyard/collections/bad/records.db").write_bytes(b"x" * 5000)
    listed = ingested("collection", "list")
    assert (listed.code, listed.err.count("\n")) == (1, 1)
    assert "docs" in listed.out
    assert ingested("collection", "drop", "bad", "--yes").code == 0
    assert ingested("collection", "list").code == 0


def test_fetch_shows_what_is_there_and_names_what_is_not(ingested: Run) -> None:
    passage = ingested("search", "unused", "--json").json["passages"][0]
    result = ingested("collection", "fetch", "docs", passage["id"], "nope", "--json")
    assert result.code == 1
    assert [record["id"] for record in result.json["records"]] == [passage["id"]]
    assert result.json["missing"] == ["nope"]
    assert "has no record 'nope'" in result.err


def test_forget_removes_a_document_and_leaves_the_file(ingested: Run) -> None:
    assert ingested("collection", "forget", "docs", "handbook/vacation.md").out == "forgot 1 documents\n"
    assert Path("handbook/vacation.md").exists()
    assert "vacation.md" not in ingested("collection", "sources", "docs").out
    assert "has no source" in ingested("collection", "forget", "docs", "handbook/vacation.md").err


def test_json_also_says_what_went_wrong_with_the_usage(ingested: Run) -> None:
    assert ingested("search", "x", "--top-k", "0", "--json").json["error"]["code"] == "usage"
    refused = ingested("collection", "drop", "docs", "--json")
    assert refused.json["error"]["code"] == "invalid_input"
    assert "--yes" in refused.err


def test_words_find_records_without_an_embedder(madang: Run, tmp_path: Path) -> None:
    import madang as library

    with library.open(tmp_path / "courtyard") as ws:
        ws.create_collection("own", 2).upsert([{"id": "a", "values": [1, 0], "document": "apples and pears"}])
    assert "apples" in madang("search", "apple", "-c", "own", "--mode", "bm25").out
