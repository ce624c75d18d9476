"""`kill -9` at random moments of an ingest: every acknowledged record is there, the next ingest completes it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import madang

FILES = 45
CHILD = Path(__file__).with_name("ingest_and_tell.py")


def _folder(root: Path) -> Path:
    folder = root / "corpus"
    folder.mkdir()
    for number in range(FILES):
        paragraphs = [f"Paragraph {number}.{i}. " + " ".join(f"word{(number * i + j) % 997}" for j in range(90))
                      for i in range(45)]
        (folder / f"{number:02d}.txt").write_text("\n\n".join(paragraphs), encoding="utf-8")
    return folder


def _run(workspace: Path, folder: Path, kill_after_lines: int, delay_s: float) -> list[str]:
    """Ingest in a child, kill it a moment after its n-th line; returns the sources it had acknowledged."""
    child = subprocess.Popen([sys.executable, str(CHILD), str(workspace), str(folder)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    lines: list[str] = []
    timer = None
    for line in child.stdout:
        lines.append(line.rstrip("\n"))
        if len(lines) == kill_after_lines and timer is None:
            timer = threading.Timer(delay_s, child.send_signal, [signal.SIGKILL])
            timer.start()
    child.wait()
    if timer is not None:
        timer.cancel()
    child.stdout.close()
    assert child.returncode in (0, -signal.SIGKILL)
    return [line for line in lines if line not in ("started", "finished")]


@pytest.mark.parametrize("kills", [pytest.param(20, id="20"), pytest.param(200, id="200", marks=pytest.mark.soak)])
@pytest.mark.timeout(1800)
def test_acknowledged_records_survive_a_kill_at_random_moments(tmp_path: Path, kills: int) -> None:
    folder = _folder(tmp_path)
    generator = random.Random(20)
    survived_partly = 0
    for _ in range(kills):
        workspace = tmp_path / f"ws{_}"
        acknowledged = _run(workspace, folder, generator.randint(1, 36), generator.random() * 0.25)
        with madang.open(workspace) as ws:
            if "docs" in ws.collections():
                docs = ws.collection("docs")
                known = docs.sources()
                assert set(acknowledged) <= set(known)
                assert sum(source.chunks for source in known.values()) == docs.stats().records
                survived_partly += 0 < len(known) < FILES
                stored = list(docs.fetch(docs.list_ids(limit=10_000).ids).values())
                for uri in acknowledged:
                    mine = [record for record in stored if record.metadata["source"] == uri]
                    assert len(mine) == known[uri].chunks > 0
                    text = Path(uri).read_text(encoding="utf-8")
                    assert all(text[r.metadata["start"]:r.metadata["end"]] == r.document for r in mine)  # type: ignore[misc]
                if acknowledged:
                    assert docs.query(text=f"Paragraph {int(Path(acknowledged[-1]).stem)}.7", top_k=1).matches
            else:
                assert not acknowledged
            report = ws.ingest(folder, "docs", embedder="bundled/static")
            assert report.failed == 0
            assert report.added + report.unchanged == FILES
            assert len(ws.collection("docs").sources()) == FILES
            assert ws.collection("docs").stats().records == sum(s.chunks for s in ws.collection("docs").sources().values())
        subprocess.run(["rm", "-rf", str(workspace)], check=True)
    assert survived_partly >= kills // 5  # the kills really fell into the middle
    assert os.name == "posix"
