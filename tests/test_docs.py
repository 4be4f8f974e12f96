"""The README's example and the scripts in examples/ run as printed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from install import readme

ROOT = Path(__file__).parents[1]


def run(code: list[str], folder: Path) -> str:
    ran = subprocess.run(
        [sys.executable, "-W", "error", *code], cwd=folder, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_readme_runs_as_printed_from_the_example_to_the_pruned_model(tmp_path: Path) -> None:
    markdown = (ROOT / "README.md").read_text()
    found = readme.blocks(markdown)
    assert [b.text.startswith("make demo") for b in found if not b.language] == [True]
    example, model = (b for b in found if b.language == "python")
    assert len(example.text.strip().splitlines()) <= 15
    assert model.file == "mymodel.py"
    out = readme.follow(tmp_path, markdown)
    assert "ReLU reaches 99 % in" in out
    assert "('act1', 9, 9)" in out
    assert (tmp_path / "report.html").stat().st_size > 100_000
    outcome = json.loads((tmp_path / "pruned" / "outcome.json").read_text())
    before, after = (outcome[when]["macs"] for when in ("cost_before", "cost_after"))
    assert after < 0.55 * before
    profile = json.loads((tmp_path / "profile.json").read_text())
    assert {row["layer"] for row in profile["rows"]} >= {"input", "0", "2"}


def test_a_readme_that_fails_is_told(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="unknot betti: exit code 2"):
        readme.follow(tmp_path, "```sh\nunknot betti gone.npy --radius 1  # no such file\n```\n")


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda p: p.name)
def test_examples_run(path: Path, tmp_path: Path) -> None:
    for package in ("lightning", "transformers"):
        if f"import {package}" in path.read_text() or f"from {package}" in path.read_text():
            pytest.importorskip(package)
    assert run([str(path)], tmp_path).strip()


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text()
    for page in (ROOT / "docs").rglob("*.md"):
        assert str(page.relative_to(ROOT / "docs")) in navigation
