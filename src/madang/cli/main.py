"""`madang`: the entry point, and how errors become one line and an exit code."""

from __future__ import annotations

import json
import os
import sys

import click

from madang import __version__
from madang.base.errors import InvalidInput, MadangError
from madang.cli import care, image_models, reembed, versions
from madang.cli.ask import ask, search
from madang.cli.collections import collection
from madang.cli.data import data
from madang.cli.image import image
from madang.cli.index import index
from madang.cli.ingest import ingest
from madang.cli.keys import key
from madang.cli.model import model
from madang.cli.serve import serve
from madang.cli.train import train

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="madang")
def cli() -> None:
    """Madang: the LLM-application stack on one machine.

    \b
    Ask your own documents, offline:
      madang ingest handbook/
      madang ask "How many vacation days are there?"

    A workspace is one directory (default ./courtyard). Settings live in its madang.toml; every key has an environment
    variable. Nothing leaves this machine unless you configure a service.
    """


for command in (ingest, ask, search, serve, key, collection, image, index, model, data, train):
    cli.add_command(command)
for command in (*care.COMMANDS, *versions.COMMANDS, *reembed.COMMANDS):
    collection.add_command(command)
for command in image_models.COMMANDS:
    image.add_command(command)


def entry(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        result = cli.main(arguments, prog_name="madang", standalone_mode=False)
        return result if isinstance(result, int) else OK
    except MadangError as error:
        return _report(error, as_json="--json" in arguments)
    except click.ClickException as error:
        if "--json" in arguments:
            _print_error("usage", error.format_message())
        error.show()
        return USAGE
    except (click.Abort, KeyboardInterrupt):
        if "--json" in arguments:
            _print_error("interrupted", "interrupted")
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except BrokenPipeError:  # `madang search ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except OSError as error:  # the system refuses: a full disk, a forbidden file
        return _report(InvalidInput(f"{error.filename or 'the system'}: {error.strerror or error}."),
                       as_json="--json" in arguments)


def _report(error: MadangError, as_json: bool) -> int:
    """One line on stderr; with `--json` also a document on stdout."""
    line = " ".join(str(error).split())
    if as_json:
        _print_error(error.code, line)
    click.echo(f"error: {line}", err=True)
    return FAILED


def _print_error(code: str, message: str) -> None:
    click.echo(json.dumps({"error": {"code": code, "message": message}}, ensure_ascii=False))


if __name__ == "__main__":
    sys.exit(entry())
