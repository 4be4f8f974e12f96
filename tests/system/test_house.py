"""The house rules: one direction of imports, no torch below capture, files of readable size."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"
PACKAGE = SOURCE / "unknot"

# A module imports only from those above it.
ORDER = [
    "errors", "console", "files", "workforce",
    "synthetic", "memory", "cloud", "graph", "homology", "scale", "sensitivity", "stability",
    "projection", "counting", "doctor",
    "probe", "guest", "following", "capture",
    "fused", "folds", "gains", "retrace", "replace", "activations", "models", "images", "training",
    "tuning", "timing", "footprint", "cost", "profile", "journal", "clouds", "measuring", "monitor",
    "reading", "stack", "stacked", "trials", "cells", "survival", "convergence", "untangling",
    "layers", "responses", "criteria", "elder", "tangles",
    "masking", "links", "patches", "surgeon", "scoring",
    "thresholds", "structure", "budget", "ranking", "plan", "ridge", "readers", "refit", "pruning",
    "recipe", "rounds", "rivals", "export", "outcome", "artifact",
    "report_profile", "report_filters", "report_study", "report_outcome", "report", "sources", "demo",
    "options", "cli_measure", "cli_models", "cli_study", "cli", "__main__",
]  # fmt: skip
WITHOUT_TORCH = ORDER[: ORDER.index("probe")]


def imported_modules(path: Path) -> set[str]:
    """The unknot modules that a file imports, at its top or inside its functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively"
            if node.module == "unknot":
                found |= {alias.name for alias in node.names}
            elif node.module and node.module.startswith("unknot."):
                found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("unknot.")}
    return found - {"_native"}


def test_order_names_every_module() -> None:
    assert {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"} == set(ORDER)


@pytest.mark.parametrize("name", ORDER)
def test_imports_go_one_way(name: str) -> None:
    above = set(ORDER[: ORDER.index(name)])
    assert imported_modules(PACKAGE / f"{name}.py") <= above


@pytest.mark.parametrize("path", sorted((PACKAGE / "integrations").glob("*.py")), ids=lambda p: p.name)
def test_integrations_stand_on_top(path: Path) -> None:
    assert imported_modules(path) <= {"errors", "profile", "journal", "monitor", "integrations"}


def test_topology_of_points_imports_no_torch() -> None:
    modules = ", ".join(f"unknot.{name}" for name in WITHOUT_TORCH)
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_importing_unknot_imports_nothing_heavy() -> None:
    heavy = ("torch", "numpy", "ripser", "lightning", "transformers", "tensorboard", "mlflow")
    code = f"import sys, unknot; sys.exit(any(m in sys.modules for m in {heavy}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_public_name_resolves_and_is_documented() -> None:
    import unknot

    assert len(unknot.__all__) > 30
    for name in unknot.__all__:
        documentation = getattr(unknot, name).__doc__
        assert documentation and not documentation.startswith(f"{name}("), name


@pytest.mark.parametrize(
    "path",
    [p for ending in ("py", "cpp", "hpp") for p in SOURCE.rglob(f"*.{ending}")],
    ids=lambda p: p.name,
)
def test_no_file_over_400_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400
