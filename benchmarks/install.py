"""What does it weigh? Size of a core install and import time, measured in an environment made for it.

    python benchmarks/install.py [--json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.results import Row, versions

ROOT = Path(__file__).resolve().parents[1]


def measure() -> dict[str, float]:
    """MB of site-packages without extras, and the median seconds of `import madang` over 5 runs."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "env"
        venv.create(folder, with_pip=True)
        python = folder / "bin" / "python"
        subprocess.run([python, "-m", "pip", "--disable-pip-version-check", "-q", "install", "-c", ROOT / "constraints.txt",
                        ROOT], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        (site,) = folder.glob("lib/python*/site-packages")
        size = sum(path.stat().st_size for path in site.rglob("*") if path.is_file() and not path.is_symlink())
        times = []
        for _ in range(5):
            run = subprocess.run([python, "-X", "importtime", "-c", "import madang"], capture_output=True, text=True,
                                 check=True, cwd=folder)
            times.append(int(run.stderr.strip().splitlines()[-1].split("|")[1]) / 1e6)
        return {"site_packages_mb": round(size / 1e6, 1), "import_madang_s": round(statistics.median(times), 4)}


def rows() -> list[Row]:
    """For RESULTS.md."""
    result = measure()
    return [Row("core install", f"site-packages {result['site_packages_mb']} MB (pip included), import madang "
                f"{result['import_madang_s']:.4f} s", "python benchmarks/install.py", versions("numpy", "onnxruntime"))]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--json", action="store_true")
    options.parse_args()
    print(json.dumps(measure()))


if __name__ == "__main__":
    main()
