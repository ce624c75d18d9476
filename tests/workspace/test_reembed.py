"""`ws.reembed` with the bundled models: what it makes, what it tells, over and back, and what it refuses."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import madang
from madang.base.errors import Conflict, InvalidInput, NotFound
from madang.base.records import Record
from madang.index import HNSW
from madang.models.protocol import Embedder
from madang.workspace import Workspace
from tests.models.fakes import WordHashEmbedder

STATIC, MINILM = "bundled/static", "bundled/minilm"
TEXTS = {
    "vacation": "Every employee has fifteen vacation days a year.\n\nUnused days may be carried over until March.",
    "travel": "Train tickets are reimbursed in second class.\n\nTaxis need a reason.",
    "security": "Passwords have at least twelve characters.\n\nLock the screen before you leave your desk.",
    "kitchen": "The coffee machine is descaled on Fridays.\n\nWhoever empties the dishwasher chooses the music.",
    "parking": "Visitors park behind the building.\n\nBicycles are kept in the cellar.\n\n" + "\n\n".join(
        f"Place {n} belongs to the flat on floor {n // 4}, and nobody else may use it." for n in range(40)),
}
QUESTIONS = ["how many holidays do I get", "which class may I travel by train", "how long must a password be",
             "who cleans the coffee machine", "where do guests leave their car"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "handbook"
    made.mkdir()
    for name, text in TEXTS.items():
        (made / f"{name}.md").write_text(f"# {name.title()}\n\n{text}\n", encoding="utf-8")
    return made


@pytest.fixture
def ws(tmp_path: Path, folder: Path) -> Iterator[Workspace]:
    with madang.open(tmp_path / "ws") as made:
        made.ingest(folder, embedder=STATIC)
        yield made


def vectors(ws: Workspace, collection: str = "docs") -> dict[str, Any]:
    target = ws.collection(collection)
    return {identity: record.values for identity, record in target.fetch(target.list_ids().ids).items()}


def relevant(ws: Workspace, name: str) -> list[str]:
    target = ws.collection("docs")
    return [i for i, r in target.fetch(target.list_ids().ids).items() if str(r.metadata["source"]).endswith(f"{name}.md")]


def test_over_to_another_model_and_back(ws: Workspace, folder: Path) -> None:
    before = vectors(ws)
    ws.ingest(folder, "fresh", embedder=MINILM)
    judged = [{"query": query, "relevant": relevant(ws, name)} for query, name in zip(QUESTIONS, TEXTS, strict=True)]
    told: list[tuple[int, int]] = []
    report = ws.reembed("docs", MINILM, queries=judged, top_k=3, mode="dense", progress=lambda a, b: told.append((a, b)))
    count = len(before)
    assert (report.embedded, report.reused, report.queries, report.judged) == (count, 0, 5, 5)
    assert (told[0], told[-1]) == ((0, count), (count, count))
    assert report.old is not None
    assert (report.old.embedder.partition("@")[0], report.old.dim) == (STATIC, 256)
    assert (report.new.embedder.partition("@")[0], report.new.dim) == (MINILM, 384)
    assert report.new.ndcg is not None
    assert report.old.ndcg is not None
    assert report.gain is not None
    assert report.gain.difference == pytest.approx(report.new.ndcg.mean - report.old.ndcg.mean)
    assert 0.8 < report.new.ndcg.mean <= 1       # the better model finds what was asked for
    assert (report.new.recall, report.old.recall) == (1.0, 1.0)
    assert report.overlap is not None
    assert report.agreement is not None
    assert 0 < report.overlap.mean <= 1
    assert report.new.size_bytes == 4 * 384 * count
    assert report.characters > 200
    assert report.to_dict()["texts_per_second"] > 0
    assert vectors(ws).keys() == before.keys()
    assert ws.collection("docs").dim == 256      # nothing has changed for anybody yet
    turned = ws.cut_over("docs")
    assert (turned.before, turned.embedder, turned.embedded) == (report.old.embedder, report.new.embedder, 0)
    after, fresh = vectors(ws), vectors(ws, "fresh")
    assert after.keys() == fresh.keys()
    assert any(record.context for record in ws.collection("docs").fetch(list(after)).values())
    for identity, vector in after.items():       # what ingest would have made
        np.testing.assert_allclose(vector, fresh[identity], atol=2e-3)
    assert ws.search("how many holidays do I get", mode="dense")[0].source.endswith("vacation.md")
    assert ws.ask("Where do visitors park?").citations[0].source.endswith("parking.md")
    ws.roll_back("docs")
    for identity, vector in vectors(ws).items():
        np.testing.assert_array_equal(vector, before[identity])
    assert ws.ask("Where do visitors park?").citations[0].source.endswith("parking.md")


def test_what_is_written_meanwhile_is_embedded_with_the_cut_over(ws: Workspace, folder: Path) -> None:
    ws.reembed("docs", MINILM)
    (folder / "vacation.md").write_text("# Vacation\n\nEverybody has twenty days now.\n", encoding="utf-8")
    (folder / "kitchen.md").unlink()
    (folder / "lift.md").write_text("# Lift\n\nThe lift stops at noon.\n", encoding="utf-8")
    ws.ingest(folder)                           # with the model that is searched still
    assert ws.cut_over("docs").embedded == 2
    ws.ingest(folder, "fresh", embedder=MINILM)
    after, fresh = vectors(ws), vectors(ws, "fresh")
    assert after.keys() == fresh.keys()
    for identity, vector in after.items():
        np.testing.assert_allclose(vector, fresh[identity], atol=2e-3)
    (folder / "lift.md").write_text("# Lift\n\nThe lift stops at one.\n", encoding="utf-8")
    ws.ingest(folder)                           # with the new one
    assert ws.collection("docs").embedder == ws.collection("fresh").embedder
    assert ws.roll_back("docs").embedded > 0
    assert ws.search("when does the lift stop")[0].source.endswith("lift.md")


class Counting(WordHashEmbedder):
    """Counts what it embeds, and fails on demand, as a killed process would end."""

    def __init__(self, fail_after: int = 10**9, during: Callable[[], object] = lambda: None) -> None:
        super().__init__()
        self.documents, self.fail_after, self.during = 0, fail_after, during

    def embed(self, texts: Sequence[str], kind: Any = "document", progress: Any = None) -> Any:
        if kind == "document":
            if self.documents >= self.fail_after:
                raise RuntimeError("killed")
            self.documents += len(texts)
            self.during()
        return super().embed(texts, kind, progress)


def test_an_interrupted_job_goes_on(ws: Workspace) -> None:
    total = ws.collection("docs").stats().records
    with pytest.raises(RuntimeError):
        ws.reembed("docs", Counting(fail_after=4), batch=2)
    assert ws.collection("docs").dim == 256
    again = Counting()
    report = ws.reembed("docs", again, batch=2)
    assert (report.reused, report.embedded, again.documents) == (4, total - 4, total - 4)
    assert ws.reembed("docs", again).embedded == 0
    report = ws.reembed("docs", MINILM)         # another model begins anew
    assert (report.reused, report.embedded) == (0, total)


def test_others_write_and_ask_while_it_embeds(ws: Workspace, folder: Path) -> None:
    seen: list[Any] = []

    def meanwhile() -> None:
        (folder / "late.md").write_text(f"# Late\n\nWritten during the job, {len(seen)}.\n", encoding="utf-8")
        ws.ingest(folder)
        seen.append(ws.search("written during the job")[0].source)

    def job(model: Embedder) -> None:
        ws.reembed("docs", model, batch=3)

    model = Counting(during=meanwhile)
    work = threading.Thread(target=job, args=(model,))
    work.start()
    work.join()
    assert seen
    assert all(source.endswith("late.md") for source in seen)
    with pytest.raises(NotFound, match="no provider"):      # which only the caller knows
        ws.cut_over("docs")
    model.during = lambda: None
    assert ws.cut_over("docs", embedder=model).embedded > 0
    assert ws.collection("docs").embedder == model.signature


def test_a_second_job_is_refused(ws: Workspace) -> None:
    refused: list[str] = []

    def second() -> None:
        try:
            ws.reembed("docs", MINILM)
        except Conflict as error:
            refused.append(str(error))

    def meanwhile() -> None:
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()

    ws.reembed("docs", Counting(during=meanwhile))
    assert refused == ["collection 'docs' is being re-embedded. Wait until that is done."]


def test_the_questions_that_were_asked_are_compared(ws: Workspace) -> None:
    report = ws.reembed("docs", MINILM)
    assert (report.queries, report.overlap, report.gain) == (0, None, None)
    assert report.notes[0].startswith("no queries were asked or given")
    for query in QUESTIONS:
        ws.search(query)
    report = ws.reembed("docs", MINILM)
    assert (report.queries, report.judged, report.embedded) == (5, 0, 0)
    assert report.old is not None
    assert report.old.ndcg is None
    assert report.overlap is not None
    assert report.overlap.n == 5
    assert ws.collection("docs").questions() == QUESTIONS
    ws.reembed("docs", MINILM, queries=["a question from a list"])
    assert ws.collection("docs").questions() == QUESTIONS       # that one was not asked by anybody


def test_questions_from_a_file(ws: Workspace, tmp_path: Path) -> None:
    file = tmp_path / "asked.jsonl"
    file.write_text('{"query": "visitors", "relevant": ["x"]}\n\n{"query": "train"}\n"taxi"\n', encoding="utf-8")
    report = ws.reembed("docs", MINILM, queries=file)
    assert (report.queries, report.judged) == (3, 1)
    for line, said in [("{", "line 1, is not JSON"), ('{"q": 1}', "unknown field 'q'"), ('{"query": " "}', "not empty"),
                       ('{"query": "x", "relevant": "id"}', "relevant must be a list of ids")]:
        file.write_text(line, encoding="utf-8")
        with pytest.raises(InvalidInput, match=said):
            ws.reembed("docs", MINILM, queries=file)
    with pytest.raises(NotFound, match="there is no file"):
        ws.reembed("docs", MINILM, queries=tmp_path / "none")


def test_a_graph_is_built_and_measured(ws: Workspace) -> None:
    target = ws.collection("docs")
    target.upsert([Record(f"g{n}", np.random.default_rng(n).standard_normal(256).astype(np.float32),
                          document=f"note {n} about {n % 17} and {n % 31}") for n in range(1300)])
    report = ws.reembed("docs", Counting(), index=HNSW(m=8), queries=[f"note {n}" for n in range(40)])
    assert report.new.index == "hnsw"
    assert report.old is not None
    assert (report.old.index, report.old.recall) == ("flat", 1.0)
    assert report.new.recall > 0.9
    assert ws.collection("docs").index == "flat"


def test_what_is_refused(ws: Workspace) -> None:
    for call, said in [(lambda: ws.reembed("docs", STATIC), "is embedded with bundled/static@.* already"),
                       (lambda: ws.reembed("docs", MINILM, batch=0), "batch must be"),
                       (lambda: ws.reembed("docs", MINILM, top_k=0), "top_k must be"),
                       (lambda: ws.reembed("docs", MINILM, queries=3), "queries must be a list")]:  # type: ignore[arg-type]
        with pytest.raises(InvalidInput, match=said):
            call()
    assert ws.collection("docs").shadow.stats() is None         # nothing was begun
    for turn in (ws.cut_over, ws.roll_back):
        with pytest.raises(NotFound, match="has nothing to"):
            turn("docs")
    ws.reembed("docs", MINILM)
    with pytest.raises(Conflict, match=r"was never cut over: .*Did you mean: madang collection cut-over docs"):
        ws.roll_back("docs")
    ws.cut_over("docs")
    with pytest.raises(Conflict, match=r"was cut over already: .*Did you mean: madang collection roll-back docs"):
        ws.cut_over("docs")
    with pytest.raises(Conflict, match="can still be rolled back"):
        ws.reembed("docs", WordHashEmbedder())
    ws.forget_shadow("docs")
    with pytest.raises(NotFound, match="has no shadow"):
        ws.forget_shadow("docs")
    ws.create_collection("empty", 4)
    with pytest.raises(InvalidInput, match="no records to embed"):
        ws.reembed("empty", MINILM)


def test_vectors_of_your_own(ws: Workspace) -> None:
    mine = ws.create_collection("mine", 2)
    mine.upsert([{"id": "a", "values": [1, 0], "metadata": {"name": "apple"}},
                 {"id": "b", "values": [0, 1], "metadata": {"name": "banana"}}])
    with pytest.raises(InvalidInput, match="2 records of collection 'mine' have no document to embed, 'a' for one"):
        ws.reembed("mine", MINILM)
    with pytest.raises(InvalidInput, match="text_of gave None"):
        ws.reembed("mine", MINILM, text_of=lambda record: None)  # type: ignore[arg-type, return-value]
    report = ws.reembed("mine", MINILM, text_of=lambda record: str(record.metadata["name"]))
    assert report.old is None
    assert "holds vectors of your own" in report.notes[0]
    ws.cut_over("mine")
    assert ws.search("banana fruit", "mine", mode="dense")[0].id == "b"
    mine.delete(["a"])
    mine.upsert([{"id": "c", "values": ws.models.embedder(MINILM).embed(["cherry"])[0]}])
    with pytest.raises(Conflict, match="1 records of collection 'mine' have no vector of your own"):
        ws.roll_back("mine")
    mine.shadow.put([each.row for each in mine.shadow.lacking()], [[1.0, 1.0]])
    ws.roll_back("mine")
    assert (mine.dim, mine.embedder) == (2, None)
    assert mine.query(vector=[1, 1], top_k=1).matches[0].id == "c"
