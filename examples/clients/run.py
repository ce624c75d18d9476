"""Run the programs beside this file, each with its client in an environment of its own, against `madang serve`.

    python examples/clients/run.py [NAME...]         # make examples

The programs are written as their clients' own documentation begins, and know nothing of Madang but, where they show its
stores for other libraries, that. Environment variables lead them to the server; none can reach another machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ENVIRONMENTS = {                 # whose Python runs a program
    "pinecone_crud": ".venv-integrations", "openai_chat": ".venv-integrations", "openai_pictures": ".venv-integrations",
    "llama_index_swap": ".venv-integrations", "langchain_rag": ".venv-integrations",
    "haystack_pipeline": ".venv-integrations", "autogen_team": ".venv-examples/autogen", "ag2_chat": ".venv-examples/ag2",
    "agent_framework_tools": ".venv-examples/agent-framework", "old_clients": ".venv-examples/old",
}
TIMEOUT_S = 300


@contextmanager
def served(workspace: Path) -> Iterator[str]:
    """The address of a server in a process of its own."""
    command = [sys.executable, "-m", "madang", "serve", "--port", "0", "--workspace", str(workspace), "--json", "--log", "off"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield json.loads(server.stdout.readline())["address"]
        finally:
            server.terminate()


def variables(address: str, workspace: Path) -> dict[str, str]:
    """All that the programs are told."""
    quiet = {"HAYSTACK_TELEMETRY_ENABLED": "False", "LANGSMITH_TRACING": "false", "DO_NOT_TRACK": "1", "AUTOGEN_USE_DOCKER": "0",
             "ANONYMIZED_TELEMETRY": "False"}
    return {**os.environ, **quiet, "PINECONE_CONTROLLER_HOST": address, "PINECONE_API_KEY": "any",
            "OPENAI_BASE_URL": f"{address}/v1", "OPENAI_API_BASE": f"{address}/v1", "OPENAI_API_KEY": "any",
            "MADANG_WORKSPACE": str(workspace), "PYTHONPATH": str(HERE / "offline"), "PYTHONUNBUFFERED": "1"}


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(ENVIRONMENTS)}")
    names = options.parse_args().names or list(ENVIRONMENTS)
    failed = []
    for name in names:
        print(f"== {name}", flush=True)
        with tempfile.TemporaryDirectory() as directory, served(Path(directory) / "served") as address:
            python = ROOT / ENVIRONMENTS[name] / "bin" / "python"
            run = subprocess.run([python, HERE / f"{name}.py"], timeout=TIMEOUT_S, check=False, cwd=directory,
                                 env=variables(address, Path(directory) / "own"))
        failed += [name] if run.returncode else []
    print(f"failed: {', '.join(failed)}" if failed else f"{len(names)} examples ran")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
