"""A wheel in a new virtual environment where nothing can be compiled: `python wheel.py dist`.

Takes a wheel, or of a folder the one that suits this Python.

Installs wheels only, hides every compiler, then runs the topology of points without torch,
`unknot doctor`, `unknot demo --quick` and the README. Ends with code 1 at the first that fails.
Prints the wall time of each in seconds, downloads included.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

HERE = Path(__file__).parent
BUILDERS = ("cc", "c++", "gcc", "g++", "clang", "clang++", "cl", "cmake", "ninja", "make")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--constraint", type=Path, help="exact versions, e.g. constraints.txt")
    parser.add_argument("--no-readme", action="store_true", help="leave the README out")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="unknot-wheel-") as name:
        check(arguments.wheel.resolve(), Path(name), arguments.constraint, not arguments.no_readme)


def check(wheel: Path, folder: Path, constraint: Path | None, readme: bool) -> None:
    started = time.perf_counter()
    venv.create(folder / "env", with_pip=True)
    bin_folder = folder / "env" / ("Scripts" if os.name == "nt" else "bin")
    python = bin_folder / "python"
    environment = os.environ | {"PATH": str(bin_folder), "CC": "no-compiler", "CXX": "no-compiler"}
    for variable in ("PYTHONPATH", "VIRTUAL_ENV", "PIP_CONSTRAINT"):
        environment.pop(variable, None)
    found = [name for name in BUILDERS if shutil.which(name, path=environment["PATH"])]
    assert not found, f"{found} can be found"

    def run(*words: str | Path) -> None:
        print("+", *words, flush=True)
        begun = time.perf_counter()
        subprocess.run([str(word) for word in words], cwd=folder, env=environment, check=True)
        print(f"  {time.perf_counter() - begun:.0f} s", flush=True)

    pip = (python, "-m", "pip", "install", "--quiet")
    source = ["--find-links", wheel, "unknot"] if wheel.is_dir() else [wheel]
    run(*pip, "--no-index", "--no-deps", "--only-binary", ":all:", *source)
    pinned = ["--constraint", constraint.resolve()] if constraint else []
    run(*pip, "--only-binary", ":all:", *pinned, "unknot")  # what it depends on
    run(python, HERE / "without_torch.py")
    run(bin_folder / "unknot", "doctor")
    run(bin_folder / "unknot", "demo", "--quick", "--out", folder / "demo")
    assert (folder / "demo" / "report.html").is_file()
    if readme:
        run(python, HERE / "readme.py")
    told = f"{wheel.name}: ok on Python {sys.version.split()[0]}, no compiler at hand"
    print(f"{told}, {time.perf_counter() - started:.0f} s in all")


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"failed: {error}")
