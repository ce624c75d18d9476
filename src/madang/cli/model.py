"""`madang model list|compare`."""

from __future__ import annotations

from html import escape as html
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.markup import escape

from madang.cli import options, render

if TYPE_CHECKING:
    from madang.base.settings import Settings
    from madang.base.stats import Interval, PairedResult
    from madang.workspace.compare import Comparison, Tried

_STYLE = ("body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#222;"
          "background:#fff}table{border-collapse:collapse;margin:1rem 0;width:100%}td,th{border-bottom:1px solid #ccc;"
          "padding:.4rem .6rem;text-align:left;vertical-align:top}td{white-space:pre-wrap}")


@click.group()
def model() -> None:
    """The models that can be named, and how they do on your own questions."""


@model.command("list")
@options.common
def list_(workspace: str, as_json: bool) -> None:
    """Which models are there: chosen, bundled, of services, and other names of them."""
    from madang.base import settings

    found = settings.load(Path(workspace))
    rows = _known(found)
    if as_json:
        render.emit([{"name": name, "what": what} for name, what in rows])
    else:
        render.table(["name", "what"], [list(row) for row in rows], render.console())


def _known(found: Settings) -> list[tuple[str, str]]:
    """(name, what it is), of what can be told without asking anyone."""
    from madang.models.providers.bundled import DRAWERS, EMBEDDERS, IMAGE_EMBEDDERS, READERS, RERANKERS, SEERS
    from madang.models.resolve import IN_PROCESS

    chosen = {"embeds": found.models.embed, "chats": found.models.chat, "reranks": found.models.rerank,
              "describes": found.models.describe, "draws": found.models.draw, "sees": found.models.see}
    rows = [(name, f"{role} (chosen)") for role, name in chosen.items() if name]
    rows += [(f"bundled/{name}", what) for names, what in ((EMBEDDERS, "embeds"), (IMAGE_EMBEDDERS, "sees"),
                                                           (READERS, "reads and chats"), (RERANKERS, "reranks"),
                                                           (SEERS, "describes pictures and chats"), (DRAWERS, "draws"))
             for name in names]
    rows += [(f"{name}/MODEL", f"service at {service.base_url.partition('?')[0].rpartition('@')[2]}")
             for name, service in found.services.items()]
    rows += [(f"{name}/MODEL", "in this process: a name of the hub or a folder") for name in IN_PROCESS]
    return rows + [(name, f"stands for {meant}") for name, meant in sorted(found.aliases.items())]


@model.command()
@click.argument("questions", type=click.Path(path_type=Path))
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option("--embed", is_flag=True, help="They are embedders: who finds the passage of each question among all?")
@click.option("--collection", "-c", metavar="NAME", help="Answer from this collection, with citations.")
@click.option("--max-tokens", type=click.IntRange(1), default=512, show_default=True, help="Of an answer.")
@click.option("--html", "page", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Also write a page with every answer.")
@options.common
def compare(questions: Path, models: tuple[str, ...], embed: bool, collection: str | None, max_tokens: int,
            page: Path | None, workspace: str, as_json: bool) -> None:
    """Ask several models your own questions: quality, latency, tokens and cost.

    QUESTIONS is a file with a line {"question": "...", "expected": "..."} each, or a question as plain text; for
    embedders, {"question": "...", "passage": "..."}. The other models are compared with the first one named.
    """
    with options.opened(workspace, create=True) as ws, render.progress("asking", "questions") as told:
        found = ws.compare_models(questions, models, role="embed" if embed else "chat", collection=collection,
                                  max_tokens=max_tokens, progress=told)
    if page is not None:
        page.write_text(_page(found), encoding="utf-8")
    if as_json:
        render.emit(found.to_dict())
        return
    screen = render.console()
    columns, rows = _table(found)
    render.table(columns, rows, screen)
    for line in _said(found):
        screen.print(escape(line), soft_wrap=True)


def _table(found: Comparison) -> tuple[list[str], list[list[Any]]]:
    metrics = sorted({metric for each in found.models for metric in each.quality}, reverse=found.role == "embed")
    columns = ["model", *(metric.replace("_", " ") for metric in metrics), "failed", "p50", "p95", "tokens", "cost"]
    return columns, [[each.model, *(_interval(each.quality.get(metric)) for metric in metrics), _failed(each),
                      _ms(each.p50_ms), _ms(each.p95_ms), _tokens(each),
                      f"{each.cost:.4f}" if each.priced else "no price"] for each in found.models]


def _tokens(each: Tried) -> str:
    return f"{'about ' if each.estimated else ''}{each.usage.total_tokens:,}"


def _said(found: Comparison) -> list[str]:
    first = found.models[0].model
    return [_test(other, first, found.metric, test) for other, test in found.tests.items()] + [
        f"note: {note}" for note in found.notes]


def _test(other: str, first: str, metric: str, test: PairedResult) -> str:
    return (f"{other} against {first}: {metric.replace('_', ' ')} {test.difference:+.3f} [{test.low:+.3f}, "
            f"{test.high:+.3f}], p = {test.p_value:.3g} ({test.n} questions)")


def _interval(found: Interval | None) -> str:
    return "" if found is None else f"{found.mean:.3f} [{found.low:.3f}, {found.high:.3f}] (n = {found.n})"


def _failed(each: Tried) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(each.failed.items())) or "none"


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f} ms"


def _page(found: Comparison) -> str:
    """One file that needs no other: the table, the tests, and every answer."""
    columns, rows = _table(found)
    answers = [[item.question, item.expected, *(each.replies[number].text or each.replies[number].failed
                                                for each in found.models)] for number, item in enumerate(found.items)]
    said = "".join(f"<p>{html(line)}</p>" for line in _said(found))
    heads = ["question", "expected", *(each.model for each in found.models)]
    head = f'<meta charset="utf-8"><title>Models compared</title><style>{_STYLE}</style>'
    return (f'<!doctype html>\n<html lang="en">{head}'
            f"<h1>Models compared</h1>{_html(columns, rows)}{said}<h2>Answers</h2>{_html(heads, answers)}</html>\n")


def _html(columns: list[str], rows: list[list[Any]]) -> str:
    head = "".join(f"<th>{html(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{html(str(cell))}</td>" for cell in row) + "</tr>\n" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
