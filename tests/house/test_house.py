"""The house rules: contracts, cheap imports, nothing that speaks of where it was written."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

HEAVY = ("numpy", "onnxruntime", "tokenizers", "safetensors", "httpx", "rich", "click", "kiwipiepy", "sqlite3", "torch")


def _tracked(root: Path) -> list[Path]:
    run = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=root, capture_output=True, text=True,
                         check=False)
    if run.returncode:  # an unpacked archive: everything counts
        return [path for path in root.rglob("*") if path.is_file() and ".venv" not in path.parts]
    return [root / line for line in run.stdout.splitlines() if (root / line).is_file()]


def test_import_contracts_hold(root: Path) -> None:
    run = subprocess.run([str(Path(sys.executable).with_name("lint-imports")), "--no-cache"], cwd=root,
                         capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def test_import_madang_loads_nothing_heavy() -> None:
    script = f"import sys, madang; print([name for name in {HEAVY!r} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_public_names_exist() -> None:
    import madang

    for name in madang.__all__:
        assert getattr(madang, name) is not None
    assert set(madang.__all__) <= set(dir(madang))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = madang.nonsense  # type: ignore[attr-defined]


def test_the_kernel_is_compiled() -> None:
    from madang.index import _kernel

    assert "plain" in _kernel.available_isas()


@pytest.mark.parametrize("pattern", [
    # The paths of a machine, in pieces so that this file does not hold them itself.
    "/" + "root/", "/" + r"work/(main|shared|\.library)", "/" + "home/" + r"(?!user\b|you\b)[a-z]+/",
    r"(?i)\bpypi" + r"\.org\b", "(?i)" + r"\bissue #?\d",
])
def test_the_repository_speaks_of_itself_alone(root: Path, pattern: str) -> None:
    found = []
    for path in _tracked(root):
        if path.suffix in {".onnx", ".safetensors", ".so", ".png"} or path.name in {"tokenizer.json", "LICENSE"}:
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if re.search(pattern, line):
                found.append(f"{path.relative_to(root)}:{number}: {line.strip()[:100]}")
    assert not found


def test_every_dependency_is_declared_and_permissive(root: Path) -> None:
    from importlib.metadata import metadata

    permissive = ("MIT", "BSD", "Apache", "ISC", "PSF", "MPL-2.0", "Unlicense", "HPND", "0BSD", "Zlib", "LGPL")
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    for requirement in project["dependencies"]:
        name = re.split(r"[<>=~ \[]", requirement)[0]
        told = metadata(name)
        words = " ".join([told.get("License-Expression") or "", (told.get("License") or "")[:200],
                          *(c for c in told.get_all("Classifier") or [] if c.startswith("License"))])
        assert any(word.lower() in words.lower() for word in permissive), f"{name}: {words!r}"


def test_modules_fit_a_head(root: Path) -> None:
    long = {str(path.relative_to(root)): length for path in (root / "src").rglob("*.py")
            if (length := path.read_text(encoding="utf-8").count("\n")) > 500}
    assert not long
