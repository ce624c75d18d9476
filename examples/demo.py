"""Ask real documents, offline: the standard library's documentation and this project's guide, in two languages.

    python examples/demo.py [--full] [--workspace DIR]
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from pydoc_corpus import WELL_KNOWN, every_module, write
from rich.console import Console
from rich.rule import Rule

import madang
from madang.cli import render
from madang.cli.ingest import Bar

ROOT = Path(__file__).resolve().parents[1]
QUESTIONS = [
    "How do I create a temporary directory?",
    "Which function returns a random element from a sequence?",
    "What happens to a workspace when the process is killed during an ingest?",
    "다른 프로세스가 작업 공간에 쓰고 있으면 어떻게 되나요?",
    "How long should I roast a chicken?",
]


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--full", action="store_true", help="every module of the standard library that imports")
    options.add_argument("--workspace", type=Path, default=ROOT / "build" / "demo" / "courtyard", metavar="DIR")
    chosen = options.parse_args()
    screen = Console(highlight=False)
    started = time.perf_counter()

    screen.print(Rule("1. Documents", align="left"))
    corpus = ROOT / "build" / "demo" / ("pydoc-full" if chosen.full else "pydoc")
    modules = write(corpus, every_module() if chosen.full else WELL_KNOWN)
    collection = "full" if chosen.full else "docs"
    screen.print(f"pydoc of {len(modules)} standard-library modules, and this project's guide in English and Korean")
    with madang.open(chosen.workspace) as workspace:
        with Bar() as bar:
            report = workspace.ingest([corpus, ROOT / "docs" / "guide"], collection, progress=bar.update)
        render.report(report, screen)
        for problem in report.problems:
            screen.print(f"error: {problem.message}", markup=False)

        screen.print(Rule("2. Questions", align="left"))
        workspace.ask("warm up", collection)  # loads the models and the index; answers are timed after start
        for question in QUESTIONS:
            screen.print(f"\n[bold cyan]? {question}[/]")
            render.answer(workspace.ask(question, collection), screen)

    where = render.shown_path(str(chosen.workspace))
    run = f"{render.shown_path(str(Path(sys.executable).parent / 'madang'))}"
    flags = f"--workspace {where}" + (" --collection full" if chosen.full else "")
    screen.print()
    screen.print(Rule("3. What to try next", align="left"))
    for line in (f'{run} ask "How do I read a CSV file?" {flags}',
                 f'{run} search "연차" {flags}',
                 f"{run} ingest YOUR/FOLDER          # your own documents, into ./courtyard",
                 f'{run} ask "YOUR QUESTION"'):
        screen.print(f"  {line}", markup=False, soft_wrap=True)
    screen.print(f"[dim]done in {time.perf_counter() - started:.1f} s[/]")
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
