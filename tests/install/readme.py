"""The README followed to the letter: its blocks run in order in an empty folder.

Run with the Python that unknot was installed into. Installation itself, the one block without a
language, is not run: it would install into an environment that has unknot already. A Python block that
starts with ``# name.py`` is a file that the reader saves; every other one is run, and of a shell block
every line.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

README = Path(__file__).parents[2] / "README.md"


class Block(NamedTuple):
    language: str
    text: str

    @property
    def file(self) -> str | None:
        named = re.match(r"# (\w+\.py)\b", self.text)
        return named[1] if named and self.language == "python" else None


def blocks(markdown: str) -> list[Block]:
    return [Block(*found) for found in re.findall(r"^```(\w*)\n(.*?)^```$", markdown, re.M | re.S)]


def commands(block: Block) -> list[list[str]]:
    """What a reader would type, a command a list of words."""
    if block.language == "python":
        return [["python", "-W", "error", "-c", block.text]]
    return [words for line in block.text.splitlines() if (words := shlex.split(line, comments=True))]


def follow(folder: Path, markdown: str) -> str:
    """Run every block; returns what they printed. A command that fails ends it."""
    here = str(Path(sys.executable).parent)  # not resolved: a virtual environment's python is a link
    told = []
    for block in blocks(markdown):
        if not block.language:
            continue
        if block.file:
            (folder / block.file).write_text(block.text, encoding="utf-8")
            continue
        for words in commands(block):
            started = time.perf_counter()
            program = str(Path(here) / words[0])
            ran = subprocess.run(
                [program, *words[1:]], cwd=folder, capture_output=True, text=True, check=False,
                env=os.environ | {"PATH": here + os.pathsep + os.environ.get("PATH", "")},
            )  # fmt: skip
            label = " ".join(words[:2]) if block.language != "python" else "the Python example"
            assert ran.returncode == 0, f"{label}: exit code {ran.returncode}\n{ran.stdout}{ran.stderr}"
            told.append(f"{ran.stdout}[{label}: {time.perf_counter() - started:.0f} s]\n")
    return "".join(told)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        begun = time.perf_counter()
        print(follow(Path(name), README.read_text(encoding="utf-8")))
        print(f"README: ok, {time.perf_counter() - begun:.0f} s in all, without the installation")
