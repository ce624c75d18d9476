"""`madang model list|compare`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from madang.cli.main import entry


def test_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "madang.toml").write_text('[services.local]\nbase_url = "http://me:secret@localhost/v1?key=secret"\n'
                                          'api_key = "secret"\n[aliases]\n"gpt-4o" = "local/m"\n')
    assert entry(["model", "list", "-w", str(tmp_path), "--json"]) == 0
    out = capsys.readouterr().out
    found = {(row["name"], row["what"]) for row in json.loads(out)}
    assert {("bundled/minilm", "embeds"), ("local/MODEL", "service at localhost/v1"), ("gpt-4o", "stands for local/m"),
            ("bundled/reader", "chats (chosen)")} <= found
    assert "secret" not in out
    assert entry(["model", "list", "-w", str(tmp_path)]) == 0
    assert "stands for local/m" in capsys.readouterr().out


def test_a_comparison_as_a_table_json_and_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, page = tmp_path / "q.jsonl", tmp_path / "report.html"
    file.write_text('{"question": "where is the <b>bicycle</b>", "passage": "The bicycle is in the <i>cellar</i>."}\n'
                    '{"question": "how many days", "passage": "Fifteen days a year."}\n')
    command = ["model", "compare", str(file), "bundled/minilm", "bundled/static", "--embed", "-w", str(tmp_path / "ws")]
    assert entry([*command, "--html", str(page)]) == 0
    said = capsys.readouterr().out
    assert "bundled/static against bundled/minilm: reciprocal rank" in said
    assert "no price" in said
    text = page.read_text(encoding="utf-8")
    assert "<i>" not in text
    assert "&lt;i&gt;cellar&lt;/i&gt;" in text
    assert "http" not in text            # it needs no other file
    assert entry([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["model"] for each in found["models"]] == ["bundled/minilm", "bundled/static"]
    assert found["tests"]["bundled/static"]["n"] == 2


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert entry(["model", "compare", str(tmp_path / "no"), "bundled/reader", "-w", str(tmp_path / "ws")]) == 1
    assert "there is no file" in capsys.readouterr().err
