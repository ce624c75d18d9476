"""Entry points, ours and a stranger's: real ones, in a distribution laid out on the path."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from madang.base import registry
from madang.base.errors import MissingDependency, NotFound

Install = Callable[..., str]
_numbers = itertools.count()


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install a distribution with one module and entry points NAME=ATTRIBUTE; gives the name of their group.

    Every test has a group of its own, since a process asks for a group only once.
    """
    monkeypatch.syspath_prepend(tmp_path)

    def lay_out(source: str, **points: str) -> str:
        number = next(_numbers)
        group, module = f"madang.plugs{number}s", f"madang_stranger_{number}"
        (tmp_path / f"{module}.py").write_text(source, encoding="utf-8")
        info = tmp_path / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        lines = [f"{name} = {module}:{attribute}" for name, attribute in points.items()]
        (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines]))
        return group

    return lay_out


def test_what_a_stranger_registers_is_found(install: Install) -> None:
    group = install("class Model: pass\nclass Other: pass\n", small="Model", another="Other")
    assert registry.names(group) == ["another", "small"]
    assert registry.load(group, "small").__name__ == "Model"
    assert registry.load(group, "small") is registry.load(group, "small")


def test_looking_imports_nothing(install: Install) -> None:
    group = install("raise RuntimeError('imported')", broken="Model")
    assert registry.names(group) == ["broken"]
    module = registry.entry_points(group=group)["broken"].module
    assert module not in sys.modules
    with pytest.raises(RuntimeError, match="imported"):
        registry.load(group, "broken")


def test_an_unknown_name_lists_the_known_ones(install: Install) -> None:
    group = install("x = 1", b="x", a="x")
    with pytest.raises(NotFound) as caught:
        registry.load(group, "c")
    assert str(caught.value) == f"no {group.removeprefix('madang.').rstrip('s')} is called 'c'. Known: a, b."
    with pytest.raises(NotFound, match=r"no provider is called 'nobody'\."):
        registry.load(registry.PROVIDERS, "nobody")


def test_an_empty_group() -> None:
    assert registry.names("madang.nothings") == []
    with pytest.raises(NotFound, match=r"no nothing is called 'a'\. Known: none\."):
        registry.load("madang.nothings", "a")


@pytest.mark.parametrize("missing", ["kiwipiepy", "kiwipiepy.utils"])
def test_a_missing_library_is_named_by_the_command_that_installs_it(install: Install, missing: str) -> None:
    group = install(f"raise ModuleNotFoundError('No module named x', name={missing!r})", korean="Model")
    with pytest.raises(MissingDependency) as caught:
        registry.load(group, "korean")
    assert str(caught.value) == ('\'korean\' needs a library that is not installed. Install it with: '
                                 'pip install "madang[ko]"')
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_a_strangers_missing_library_stays_as_it_is(install: Install) -> None:
    group = install("import a_library_of_theirs", theirs="Model")
    with pytest.raises(ModuleNotFoundError, match="a_library_of_theirs"):
        registry.load(group, "theirs")
