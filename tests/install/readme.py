"""The README, then docs/start.md, to the letter: the blocks of each run in order in an empty folder.

Run with the Python that unknot was installed into. Installation itself, the one block without a
language, is not run: it would install into an environment that has unknot already. A Python block that
starts with ``# name.py`` is a file that the reader saves; every other one is run, Python blocks that no
shell block parts as one session, and of a shell block every line. A ``text`` block is what the block
before it prints.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
FOLLOWED = (ROOT / "README.md", ROOT / "docs/start.md")
PARTING = "---- the next block"


class Block(NamedTuple):
    language: str
    text: str

    @property
    def file(self) -> str | None:
        named = re.match(r"# (\w+\.py)\b", self.text)
        return named[1] if named and self.language == "python" else None


def blocks(markdown: str) -> list[Block]:
    return [Block(*found) for found in re.findall(r"^```(\w*)\n(.*?)^```$", markdown, re.M | re.S)]


def follow(folder: Path, markdown: str) -> list[tuple[Block, str]]:
    """Run every block, and give each with what it printed. A command that fails ends it."""
    told: list[tuple[Block, str]] = []
    session: list[Block] = []
    for block in [*blocks(markdown), Block("sh", "")]:
        if block.file:
            (folder / block.file).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            session.append(block)
        elif block.language == "sh":
            if session:
                # One process for all, so that a block knows the names of those before it.
                code = f"print({PARTING!r})\n".join(part.text for part in session)
                out = _run(folder, ["python", "-W", "error", "-c", code], "the Python examples")
                told += zip(session, out.split(f"{PARTING}\n"), strict=True)
                session = []
            lines = block.text.replace("\\\n", " ").splitlines()
            commands = [words for line in lines if (words := shlex.split(line, comments=True))]
            printed = [_run(folder, words, " ".join(words[:2])) for words in commands]
            told.append((block, "".join(printed)))
    return told[:-1]


def shown(markdown: str) -> list[tuple[Block, str]]:
    """The blocks that are followed by what they print, and that."""
    found = [block for block in blocks(markdown) if block.language]
    return [(was, text.text) for was, text in pairwise(found) if text.language == "text"]


def _run(folder: Path, words: list[str], label: str) -> str:
    here = str(Path(sys.executable).parent)  # not resolved: a virtual environment's python is a link
    started = time.perf_counter()
    ran = subprocess.run(
        [str(Path(here) / words[0]), *words[1:]], cwd=folder, capture_output=True, text=True, check=False,
        env=os.environ | {"PATH": here + os.pathsep + os.environ.get("PATH", "")},
    )  # fmt: skip
    assert ran.returncode == 0, f"{label}: exit code {ran.returncode}\n{ran.stdout}{ran.stderr}"
    print(f"[{label}: {time.perf_counter() - started:.0f} s]", file=sys.stderr)
    return ran.stdout


if __name__ == "__main__":
    for page in FOLLOWED:
        with tempfile.TemporaryDirectory() as name:
            begun = time.perf_counter()
            for _, printed in follow(Path(name), page.read_text(encoding="utf-8")):
                print(printed)
            print(f"{page.name}: ok, {time.perf_counter() - begun:.0f} s in all")
