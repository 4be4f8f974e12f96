"""What an installation needs, and what it does where something is missing."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from conftest import needs_checkout

from unknot.core.errors import InputError, MissingPackage, missing_package

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tests" / "install" / "without_torch.py"
LIBRARIES = (
    "torch",
    "numpy",
    "scipy",
    "sklearn",
    "pandas",
    "ripser",
    "joblib",
    "plotly",
    "typer",
    "rich",
)


def python(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def without_torch(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return python(SCRIPT, *arguments, cwd=cwd)


def test_import_loads_none_of_the_libraries(tmp_path: Path) -> None:
    code = f"import sys, unknot; print([m for m in {LIBRARIES} if m in sys.modules], unknot.__version__)"
    ran = python("-c", code, cwd=tmp_path)
    assert ran.stdout.startswith("[] "), ran.stdout + ran.stderr


def test_betti_numbers_load_numpy_and_scipy_only(tmp_path: Path) -> None:
    code = (
        "import sys, unknot as uk; uk.betti_numbers(uk.rips_graph([[0.], [1.]], radius=1))\n"
        f"print([m for m in {LIBRARIES} if m in sys.modules])"
    )
    ran = python("-c", code, cwd=tmp_path)
    assert ran.stdout.strip() == "['numpy', 'scipy']", ran.stdout + ran.stderr


def test_topology_with_numpy_and_scipy_alone(tmp_path: Path) -> None:
    ran = without_torch(cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("without torch: ok")


def test_the_command_without_torch(tmp_path: Path) -> None:
    made = without_torch("shape", "rings", "--pairs", "2", "--n", "600", "--out", "r.npz", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    counted = without_torch("betti", "r.npz", "--knn", "10", "--hops", "2", "--json", cwd=tmp_path)
    assert counted.returncode == 0, counted.stderr
    assert np.array_equal(np.load(tmp_path / "r.npz")["betti_0"][:2], [2, 2])
    assert '"0": [\n   2,\n   2\n  ]' in counted.stdout
    for verb in ((), ("betti",), ("shape",), ("doctor",)):
        told = without_torch(*verb, "--help", cwd=tmp_path)
        assert told.returncode == 0, told.stderr
        assert "Usage" in told.stdout
    listed = without_torch("--help", cwd=tmp_path).stdout
    assert all(verb in listed for verb in ("betti", "measure", "study", "prune", "doctor"))
    assert "package torch is missing" in listed


@pytest.mark.parametrize(
    "arguments",
    [
        ("measure", "--model", "mlp", "--data", "rings"),
        ("study", "--data", "rings"),
        ("prune",),
        ("demo", "--out", "d"),
        ("report", "p.json", "--out", "r.html"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_verbs_that_need_torch_say_what_to_install(arguments: tuple[str, ...], tmp_path: Path) -> None:
    refused = without_torch(*arguments, cwd=tmp_path)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("unknot: package torch is missing: expected")
    assert refused.stderr.endswith("pip install torch\n") and refused.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_both_errors_and_survives_a_process() -> None:
    error = missing_package(ModuleNotFoundError("no sklearn.datasets", name="sklearn.datasets"))
    assert isinstance(error, InputError) and isinstance(error, ImportError)
    assert "pip install scikit-learn" in str(error)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is MissingPackage and str(again) == str(error)


def workflows() -> list[Path]:
    return sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("path", workflows(), ids=lambda path: path.stem)
def test_workflows_run_what_there_is(path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    jobs = yaml.safe_load(path.read_text())["jobs"]
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    for name, job in jobs.items():
        assert set([job["needs"]] if "needs" in job else []) <= set(jobs), name
        for step in job.get("steps", []):
            command = step.get("run", "")
            for script in re.findall(r"[\w/.]+\.py", command):
                assert (ROOT / script).is_file(), command
            for target in re.findall(r"make ([\w-]+)", command):
                assert target in targets, command


@needs_checkout
def test_an_action_has_one_version() -> None:
    texts = [path.read_text() for path in workflows()]
    used = set(re.findall(r"uses: ([\w./-]+)@(\S+)", "\n".join(texts)))
    assert len(dict(used)) == len(used), sorted(used)


@needs_checkout
def test_every_python_that_is_promised_is_tested_and_built() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    promised = re.findall(r"Programming Language :: Python :: (3\.\d+)", project)
    assert promised[0] == "3.10"
    tests = (ROOT / ".github" / "workflows" / "tests.yml").read_text()
    for version in promised:
        assert f'"{version}"' in tests
        assert f'"cp{version.replace(".", "")}-*"' in project


@needs_checkout
def test_the_version_is_one(tmp_path: Path) -> None:
    script = ROOT / "tests" / "install" / "version.py"
    assert python(script, cwd=tmp_path).returncode == 0
    assert python(script, "v9.9.9", cwd=tmp_path).returncode == 1


def test_the_citation_can_be_read() -> None:
    yaml = pytest.importorskip("yaml")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors", "version", "license"} <= set(citation)
    for reference in citation["references"]:
        assert {"type", "title", "authors", "year", "url"} <= set(reference)


def test_distributions_with_strays_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "unknot-0.1.0.tar.gz", "w:gz") as archive:
        archive.add(ROOT / "LICENSE", "unknot-0.1.0/data/train.parquet")
    refused = python(ROOT / "tests" / "install" / "contents.py", tmp_path, cwd=tmp_path)
    assert refused.returncode == 1
    assert "data/train.parquet" in refused.stderr


def extras_of_the_project() -> dict[str, str]:
    project = (ROOT / "pyproject.toml").read_text()
    section = project.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    return dict(re.findall(r"^(\w+) = \[(.*)\]$", section, re.MULTILINE))


def test_every_extra_is_in_the_first_pages_and_all_holds_them_all() -> None:
    extras = extras_of_the_project()
    everything = re.search(r"unknot\[([\w,]+)\]", extras.pop("all"))
    assert everything is not None
    assert set(everything[1].split(",")) == set(extras)
    start = (ROOT / "docs/start.md").read_text().partition("## Extras")[2]
    short = (ROOT / "README.md").read_text().partition("## Install")[2].partition("\n## ")[0]
    for name in (*extras, "all"):
        assert f"`{name}`" in start or f"'.[{name}]'" in start, name
        assert f"`{name}`" in short or f"'.[{name}]'" in short, name


@needs_checkout
def test_every_extra_is_in_the_pages() -> None:
    pages = "".join(page.read_text() for page in (ROOT / "docs").rglob("*.md"))
    told = set(re.findall(r"pip install 'unknot\[(\w+)\]'", pages))
    assert told == set(extras_of_the_project())
