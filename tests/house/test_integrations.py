"""Stores for other libraries say what to install, where the library is missing."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(("module", "library", "extra"), [
    ("langchain", "langchain_core", "langchain"), ("haystack", "haystack", "haystack"),
    ("llama_index", "llama_index", "llama-index")])
def test_a_missing_library_is_named_with_its_remedy(module: str, library: str, extra: str) -> None:
    script = f"""
import sys
sys.modules[{library!r}] = None
try:
    import madang.integrations.{module}
except ImportError as error:
    print(type(error).__name__, error)
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.startswith("MissingDependency")
    assert f'pip install "madang[{extra}]"' in run.stdout


def test_another_library_that_is_missing_is_not_blamed_on_it() -> None:
    from madang.integrations.libraries import required

    with pytest.raises(ModuleNotFoundError, match="'nonsense'"), required("langchain_core", "langchain"):
        import nonsense  # noqa: F401  # type: ignore[import-not-found]
