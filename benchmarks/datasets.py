"""Data for the nearest-neighbour benchmark: real embeddings, a large clustered set, and a small public one.

    python benchmarks/datasets.py [NAME...]        # make them now: docs, clustered, million, digits

Made once and kept as .npy files in .cache/bench; delete the folder to make them again. Every set has two disjoint
sets of queries that are not in its base: parameters are tuned on one and results are reported on the other, so that
no contender is rewarded for luck on the queries it was tuned on.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import sys
import sysconfig
import tokenize
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

# The peers' environment is lent to whichever Python runs us, last, so that everything else comes from its own.
LENT = ROOT / ".venv-bench" / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
if LENT.is_dir() and str(LENT) not in sys.path:
    sys.path.append(str(LENT))

FOLDER = ROOT / ".cache" / "bench"
Vectors = NDArray[np.float32]
PARTS = ("base", "tune", "report")

SENTENCES = 92_000      # of "docs", queries among them
QUERIES = 1_000         # in each of the two sets
Shape = tuple[int, int, int, int]           # vectors, dimensions, clusters, dimensions within a cluster
CLUSTERED: Shape = (300_000, 128, 1_000, 12)
MILLION: Shape = (1_000_000, 128, 1_000, 12)


@dataclass(frozen=True, slots=True)
class Dataset:
    """Vectors to index, base (n, d) float32, and two sets of queries (q, d) that are not among them."""

    name: str
    metric: str
    base: Vectors
    tune: Vectors
    report: Vectors

    def head(self, n: int) -> Dataset:
        """The same with the first n vectors only; for a quick try."""
        return Dataset(self.name, self.metric, self.base[:n], self.tune, self.report)


def load(name: str) -> Dataset:
    """One of `NAMES`, from its files or made now. Raises KeyError for another name."""
    metric, make = NAMES[name]
    files = {part: FOLDER / f"{name}-{part}.npy" for part in PARTS}
    if not all(file.exists() for file in files.values()):
        FOLDER.mkdir(parents=True, exist_ok=True)
        (FOLDER / ".gitignore").write_text("*\n", encoding="utf-8")     # the folder ignores itself
        for part, vectors in zip(PARTS, make(), strict=True):
            beside = files[part].with_suffix(".tmp.npy")    # nobody should find half a file
            np.save(beside, np.ascontiguousarray(vectors, np.float32))
            beside.replace(files[part])
    return Dataset(name, metric, *(np.load(files[part]) for part in PARTS))


def docs() -> tuple[Vectors, Vectors, Vectors]:
    """MiniLM embeddings (384) of distinct sentences from Python's documentation, docstrings and comments."""
    from madang.models.providers.bundled import FOLDER as MODELS
    from madang.models.providers.onnx_embedder import OnnxEmbedder

    texts = sentences()
    order = np.random.default_rng(0).permutation(len(texts))[:SENTENCES]
    texts = [texts[i] for i in order]
    (FOLDER / "docs.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task(f"embedding {len(texts):,} sentences", total=len(texts))
        vectors = OnnxEmbedder(MODELS / "minilm").embed(texts, progress=lambda n: progress.advance(task, n))
    return _held_out(vectors, QUERIES)


def clustered(shape: Shape = CLUSTERED) -> tuple[Vectors, Vectors, Vectors]:
    """Many clusters of low intrinsic dimension in 128 dimensions, as learned descriptors tend to be.

    A vector is its cluster's centre (standard normal), plus a normal step within the cluster's own 12 random
    directions (not orthogonalised, of decreasing weight), plus a little noise in all directions. Cluster sizes
    are uneven (lognormal weights). Queries come from the same distribution.
    """
    n, dim, clusters, inner = shape
    generator = np.random.default_rng(0)
    weights = generator.lognormal(0, 0.7, clusters)
    centres = generator.standard_normal((clusters, dim), dtype=np.float32)
    steps = generator.standard_normal((clusters, inner, dim), dtype=np.float32)
    steps *= (0.9 ** np.arange(inner, dtype=np.float32))[None, :, None] / np.float32(np.sqrt(inner))
    total = n + 2 * QUERIES
    owner = generator.choice(clusters, size=total, p=weights / weights.sum())
    vectors = centres[owner]
    for cluster in range(clusters):
        members = np.flatnonzero(owner == cluster)
        vectors[members] += generator.standard_normal((len(members), inner), dtype=np.float32) @ steps[cluster]
    vectors += np.float32(0.05) * generator.standard_normal((total, dim), dtype=np.float32)
    return _held_out(vectors, QUERIES)


def digits() -> tuple[Vectors, Vectors, Vectors]:
    """scikit-learn's handwritten digits, 1,797 x 64: so small that overheads show."""
    from sklearn.datasets import load_digits

    vectors = load_digits().data.astype(np.float32)
    return _held_out(vectors[np.random.default_rng(0).permutation(len(vectors))], 200)


NAMES: dict[str, tuple[str, Callable[[], tuple[Vectors, Vectors, Vectors]]]] = {
    "docs": ("cosine", docs), "clustered": ("euclidean", clustered),
    "million": ("cosine", partial(clustered, MILLION)), "digits": ("euclidean", digits)}


def _held_out(vectors: Vectors, queries: int) -> tuple[Vectors, Vectors, Vectors]:
    """Base and two sets of queries, of vectors in random order."""
    return vectors[2 * queries:], vectors[:queries], vectors[queries:2 * queries]


def sentences() -> list[str]:
    """Up to `SENTENCES` distinct ones of 30 to 200 characters, from the standard library first.

    The standard library with its tests gives about 55,000; the packages installed beside it fill up. So the set
    depends on what is installed: compare contenders on the same files only.
    """
    library, packages = (Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib"))
    found: dict[str, str] = {}
    for text in _manuals():
        _collect(text, found)
    for file in [file for file in sorted(library.rglob("*.py")) if "site-packages" not in file.parts]:
        for text in _prose(file):
            _collect(text, found)
    for file in sorted(packages.rglob("*.py")):
        if len(found) >= SENTENCES:
            break
        for text in _prose(file):
            _collect(text, found)
    return sorted(found.values())


def _collect(text: str, found: dict[str, str]) -> None:
    """Add the sentences of a text under their case-folded form; lines of code, tables and the like are left out."""
    for paragraph in re.split(r"\n\s*\n", text):
        for sentence in re.split(r"(?<=[.!?:])\s+", " ".join(paragraph.split())):
            letters = sum(c.isalpha() or c == " " for c in sentence)
            if 30 <= len(sentence) <= 200 and sentence.count(" ") >= 4 and letters >= 0.8 * len(sentence) \
                    and " -> " not in sentence:     # tables of characters
                found.setdefault(sentence.casefold(), sentence)


def _manuals() -> Iterator[str]:
    """What `pydoc` prints for every module of the standard library that can be imported."""
    from examples.pydoc_corpus import every_module, render

    for name in every_module():
        text = render(name)
        if text is not None:
            yield text.replace(" |", "  ")     # the bar that pydoc draws beside a class


def _prose(file: Path) -> Iterator[str]:
    """The docstrings of a source file, and its comments, neighbouring lines of a comment as one text."""
    try:
        source = file.read_bytes()
        tree = ast.parse(source)
        tokens = list(tokenize.tokenize(io.BytesIO(source).readline))
    except (SyntaxError, ValueError, tokenize.TokenError):
        return      # some tests are broken on purpose
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""
    lines: list[str] = []
    for token in tokens:
        if token.type == tokenize.COMMENT:
            lines.append(token.string.lstrip("#! "))
        elif token.type != tokenize.NL:
            yield "\n".join(lines)
            lines = []
    yield "\n".join(lines)


def main() -> None:
    """Make sets and say what they are."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("names", nargs="*", choices=[*NAMES, []], metavar="NAME")
    for name in options.parse_args().names or NAMES:
        made = load(name)
        print(f"{name:12}{made.metric:12}" + "   ".join(f"{part} {getattr(made, part).shape}" for part in PARTS))


if __name__ == "__main__":
    main()
