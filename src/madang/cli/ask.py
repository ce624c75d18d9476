"""`madang ask` and `madang search`."""

from __future__ import annotations

from dataclasses import asdict

import click
from rich.console import Console

from madang.cli import options, render
from madang.rag.retrieve import MODES, Mode


@click.command()
@click.argument("question")
@options.collection_option
@click.option("--model", metavar="NAME",
              help="Who answers: bundled/reader (quotes, offline) or SERVICE/MODEL. Default: [models] chat in "
                   "madang.toml.")
@click.option("--top-k", type=click.IntRange(1, 100), metavar="N",
              help="How many passages to answer from. Default: [retrieval] top_k in madang.toml (8).")
@options.common
def ask(question: str, collection: str, model: str | None, top_k: int | None, workspace: str, as_json: bool) -> None:
    """Answer a question from your documents, with citations that were read back from them."""
    with options.opened(workspace) as ws:
        streamed: list[str] = []
        screen = render.console()

        def show(text: str) -> None:
            streamed.append(text)
            screen.print(text, end="", markup=False, soft_wrap=True)

        live = not as_json and screen.is_terminal
        answer = ws.ask(question, collection, model=model, top_k=top_k, on_text=show if live else None)
    if as_json:
        render.emit(answer.to_dict())
        return
    _finish_stream("".join(streamed), answer.text, screen)
    render.answer(answer, screen, show_text="".join(streamed).strip() != answer.text)


def _finish_stream(streamed: str, checked: str, screen: Console) -> None:
    """End the streamed lines; what was shown before checking is labelled when checking changed it."""
    if streamed:
        screen.print()
        if streamed.strip() != checked:
            screen.print("\n[bold]checked:[/]")


@click.command()
@click.argument("query")
@options.collection_option
@click.option("--top-k", type=click.IntRange(1, 10_000), default=10, show_default=True, metavar="N",
              help="How many passages.")
@click.option("--mode", type=click.Choice(MODES), default="hybrid", show_default=True,
              help="By meaning and words, or one of them.")
@options.common
def search(query: str, collection: str, top_k: int, mode: Mode, workspace: str, as_json: bool) -> None:
    """Show the passages that match a query best."""
    with options.opened(workspace) as ws:
        found = ws.search(query, collection, top_k=top_k, mode=mode)
    if as_json:
        render.emit({"query": query, "passages": [asdict(passage) for passage in found]})
    else:
        render.passages(found, render.console())
