"""The house: contracts of imports, no torch below, rooms and files of readable size, doors that open."""

from __future__ import annotations

import ast
import importlib
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from conftest import needs_checkout

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
PACKAGE = SOURCE / "unknot"
ROOMS = sorted(path.parent for path in PACKAGE.rglob("*/__init__.py"))


def broken_contracts(folder: Path) -> list[str]:
    """By what `make lint` runs; -S keeps an editable install from standing in for the folder."""
    code = "from importlinter.cli import lint_imports_command as run; run()"
    path = os.pathsep.join([str(folder / "src"), sysconfig.get_paths()["purelib"]])
    ran = subprocess.run(
        [sys.executable, "-S", "-c", code, "--no-cache"], cwd=folder, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": path}, check=False,
    )  # fmt: skip
    assert "KEPT" in ran.stdout, ran.stdout + ran.stderr
    broken = [line for line in ran.stdout.splitlines() if line.endswith("BROKEN")]
    assert ran.returncode == bool(broken)
    return broken


@needs_checkout
@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("topology/cloud.py", "import unknot.nets.cost", "The house"),
        ("core/files.py", "import torch", "Points need no torch"),
        ("pruning/scoring/scores.py", "import unknot.pruning.removal", "Inside pruning"),
        ("study/trials.py", "import unknot.study.task", "Inside study"),
    ],
)
def test_a_broken_contract_fails(file: str, line: str, contract: str, tmp_path: Path) -> None:
    pytest.importorskip("importlinter")
    copy = tmp_path / "src" / "unknot"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    assert not broken_contracts(tmp_path)
    (copy / file).write_text((copy / file).read_text() + f"\n{line}\n")
    assert any(broken.startswith(contract) for broken in broken_contracts(tmp_path))


def test_imports_are_absolute() -> None:
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            assert not isinstance(node, ast.ImportFrom) or node.level == 0, path


def test_points_load_no_torch() -> None:
    files = [path for room in ("core", "topology") for path in (PACKAGE / room).rglob("*.py")]
    modules = ", ".join(".".join(p.relative_to(SOURCE).with_suffix("").parts) for p in files)
    code = f"import sys, {modules.replace('.__init__', '')}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_importing_unknot_imports_nothing_heavy() -> None:
    heavy = ("torch", "numpy", "ripser", "lightning", "transformers", "tensorboard", "mlflow")
    code = f"import sys, unknot; sys.exit(any(m in sys.modules for m in {heavy}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_public_name_resolves_and_is_documented() -> None:
    import unknot

    assert 20 < len(unknot.__all__) <= 38
    for name in unknot.__all__:
        documentation = getattr(unknot, name).__doc__
        assert documentation and not documentation.startswith(f"{name}("), name


@pytest.mark.parametrize("room", ROOMS, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_every_door_says_what_is_behind_it_and_opens(room: Path) -> None:
    module = importlib.import_module(".".join(room.relative_to(SOURCE).parts))
    assert module.__doc__ and 2 < len(module.__doc__.splitlines()) <= 7
    for name in getattr(module, "__all__", []):
        documentation = getattr(module, name).__doc__
        assert documentation and not documentation.startswith(f"{name}("), name


def test_no_folder_holds_more_than_a_dozen_things() -> None:
    """The door and the list of its names count once."""
    for folder in (path for path in PACKAGE.rglob("*") if path.is_dir() and path.stem != "__pycache__"):
        inside = {path.name.partition(".")[0] for path in folder.iterdir()} - {"__pycache__"}
        assert len(inside) <= 12, folder


@pytest.mark.parametrize("room", ROOMS, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_module_has_the_name_of_a_public_function(room: Path) -> None:
    modules = {path.stem for path in room.glob("*.py")}
    for path in room.glob("*.py"):
        functions = [n for n in ast.parse(path.read_text()).body if isinstance(n, ast.FunctionDef)]
        assert not modules & {function.name for function in functions}, path


def test_inner_functions_take_at_most_eight_parameters() -> None:
    """What people call takes as many as there are decisions, and so does a verb, whose flags they are.

    scikit-learn reads the parameters of an estimator off its ``__init__``.
    """
    doors = [importlib.import_module(".".join(r.relative_to(SOURCE).parts)) for r in ROOMS]
    public = {name for door in doors for name in getattr(door, "__all__", ())} | {"run"}  # of Study
    for path in PACKAGE.rglob("*.py"):
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef):
                arguments = function.args
                names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
                inner = function.name not in public and not function.name.endswith("_command")
                inner &= function.name != "__init__" or path.parent.name != "estimators"
                assert not inner or len(set(names) - {"self", "cls"}) <= 8, f"{path}: {function.name}"


@pytest.mark.parametrize(
    "path",
    [p for ending in ("py", "cpp", "hpp") for p in SOURCE.rglob(f"*.{ending}")],
    ids=lambda p: str(p.relative_to(SOURCE)),
)
def test_no_file_over_400_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400
