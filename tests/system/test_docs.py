"""The examples of the README, of examples/ and of all pages run as printed; lists are whole."""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest
from conftest import missing, needs_checkout
from install import readme

import unknot

ROOT = Path(__file__).parents[2]


def run(code: list[str], folder: Path) -> str:
    ran = subprocess.run(
        [sys.executable, "-W", "error", *code], cwd=folder, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def skip_without_extras(code: str) -> None:
    """Unless all that the code imports of the extras is installed."""
    names = "|".join(("lightning", "transformers", "distributed", "mlflow", "tensorboard", "matplotlib"))
    needed = re.findall(
        rf"^\s*(?:import|from) (?:unknot\.integrations\.)?({names})\b", code, re.MULTILINE
    )
    if "export_onnx" in code:
        needed += ["onnx", "onnxscript", "onnxruntime"]
    for package in needed:
        if importlib.util.find_spec(package) is None:
            missing(f"{package} is not installed")


# How far a number may lie from what the README shows, in lines with that word: nets that are trained
# elsewhere round otherwise. All words, and the numbers of other lines, have to be the same.
SPREADS = {
    "islands": 2.0,  # about the interval that `measure` gives
    "right:": 1.6,  # points: ten of 637 images
    "multiplications:": 40_000.0,  # of 1.8 million: whole channels, other widths
    "of the time": math.inf,  # a matter of the machine
    "wines": 5.0,  # points: two of 45 rows
}
NUMBER = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?")


def differences(shown: str, printed: str) -> list[tuple[str, str]]:
    """The lines of a README's output that are not what was printed."""
    pairs = zip_longest(shown.splitlines(), printed.splitlines(), fillvalue="")
    return [(was, now) for was, now in pairs if not alike(was, now)]


def alike(was: str, now: str) -> bool:
    if NUMBER.sub("#", was).split() != NUMBER.sub("#", now).split():
        return False
    spread = next((most for word, most in SPREADS.items() if word in was), 0.0)
    numbers = [[float(found.replace(",", "")) for found in NUMBER.findall(line)] for line in (was, now)]
    return all(abs(x - y) <= spread for x, y in zip(*numbers, strict=True))


@pytest.mark.timeout(3600)  # a minute on an idle machine, more than ten beside six other processes
def test_readme_runs_as_printed_and_prints_what_it_shows(tmp_path: Path) -> None:
    markdown = (ROOT / "README.md").read_text()
    found = readme.blocks(markdown)
    assert [b.text.startswith("make demo") for b in found if not b.language] == [True]
    assert follow(markdown, tmp_path) == [[], []]
    assert (tmp_path / "report.html").stat().st_size > 100_000


@pytest.mark.timeout(3600)
def test_the_first_page_runs_as_printed_and_prints_what_it_shows(tmp_path: Path) -> None:
    assert follow((ROOT / "docs/start.md").read_text(), tmp_path) == [[]]
    for page in ("mine.html", "pruned/report.html"):
        assert (tmp_path / page).stat().st_size > 100_000
    outcome = json.loads((tmp_path / "pruned" / "outcome.json").read_text())
    before, after = (outcome[when]["macs"] for when in ("cost_before", "cost_after"))
    assert after < 0.55 * before


def follow(markdown: str, folder: Path) -> list[list[tuple[str, str]]]:
    """What its blocks print otherwise than the page shows, for each that is shown."""
    ran = dict(readme.follow(folder, markdown))
    return [differences(text, ran[block]) for block, text in readme.shown(markdown)]


def test_output_that_differs_from_the_readme_is_told() -> None:
    shown = "act3   10 islands\nright: 98.9%, now 98.7%\n64 images in 34% of the time\n"
    assert differences(shown, shown.replace("34", "71").replace("98.7", "98.1").replace("10", " 9")) == []
    for old, new in (("act3", "act2"), ("10", "13"), ("98.7", "96.9"), ("images", "rows"), ("right", "")):
        assert len(differences(shown, shown.replace(old, new))) == 1
    assert len(differences(shown, shown + "more\n")) == len(differences(shown + "more\n", shown)) == 1


# The examples are on pages too.
@pytest.mark.parametrize(
    "path",
    [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").glob("*.py")],
    ids=lambda p: p.name,
)
def test_code_of_a_page_fits_without_scrolling(path: Path) -> None:
    blocks = [block for _, block in FENCE.findall(path.read_text())]
    code = "\n".join(blocks if path.suffix == ".md" else [path.read_text()]).splitlines()
    assert [line for line in code if len(line) > (88 if path.name == "README.md" else 97)] == []


@pytest.mark.parametrize(
    "path", sorted((ROOT / "docs").rglob("*.md")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_every_picture_of_a_page_exists(path: Path) -> None:
    named = re.findall(r"!\[[^]]*\]\(([^)]+)\)", path.read_text())
    assert [picture for picture in named if not (path.parent / picture).exists()] == []


@pytest.mark.parametrize(
    "page",
    [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_no_cell_of_a_table_is_blank(page: Path) -> None:
    rows = [line.replace(r"\|", "") for line in page.read_text().splitlines() if line.startswith("|")]
    assert [row for row in rows if not all(map(str.strip, row.strip("|").split("|")))] == []


def test_a_readme_that_fails_is_told(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="unknot betti: exit code 2"):
        readme.follow(tmp_path, "```sh\nunknot betti gone.npy --radius 1  # no such file\n```\n")


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda p: p.name)
def test_examples_run(path: Path, tmp_path: Path) -> None:
    skip_without_extras(path.read_text())
    assert run([str(path)], tmp_path).strip()


PAGES = sorted((ROOT / "docs").rglob("*.md"))
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
# What the short examples of a page take for granted.
GIVEN = """
import numpy as np, torch
import unknot as uk
shape = uk.make_shape("rings", pairs=1, n=120, seed=0)
points, labels = torch.from_numpy(shape.points).float(), torch.from_numpy(shape.labels)
x, y = points[:40], labels[:40]
torch.manual_seed(0)
train_one_epoch = lambda model: uk.nets.train(model, points, labels, epochs=1)
test_accuracy = lambda model: 0.5
MyActivation = torch.nn.Tanh
if CONVOLUTIONS:
    digits = uk.nets.load_images("digits", limit=120)
    factory = lambda: uk.nets.cnn(1, 10, widths=(4, 8), batch_norm=True)
    model, example, loader = factory().eval(), digits.images[:2], [(digits.images, digits.labels)]
else:
    model, loader = uk.nets.mlp(3, 2, width=8, depth=2), [(points, labels)]
"""


def short_examples(page: Path) -> list[str]:
    blocks = [code for kind, code in FENCE.findall(page.read_text()) if kind == "python"]
    return [code for code in blocks if "--8<--" not in code]


# That of MLflow needs a store: tests/integrations/test_trackers.py runs it; start.md is run above.
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if short_examples(page) and page.stem not in ("mlflow", "start")],
    ids=lambda page: str(page.relative_to(ROOT / "docs")),
)
def test_short_examples_of_a_page_run_one_after_another(page: Path, tmp_path: Path) -> None:
    given = GIVEN.replace("CONVOLUTIONS", str(page.stem in ("prune", "criteria", "deploy")))
    code = "\n".join([given, *short_examples(page)])
    skip_without_extras(code)
    # As a file behind a guard: workers of a study import it again.
    indented = "".join(f"    {line}\n" for line in code.splitlines())
    (tmp_path / "page.py").write_text(f'if __name__ == "__main__":\n{indented}')
    run(["page.py"], tmp_path)


@pytest.mark.parametrize("page", sorted((ROOT / "docs/howto").glob("*.md")), ids=lambda p: p.stem)
def test_every_how_to_has_an_example(page: Path) -> None:
    included = re.findall(r'--8<-- "(examples/\w+\.py)"', page.read_text())
    assert all((ROOT / path).exists() for path in included)
    assert included or short_examples(page)


def command_lines() -> list[str]:
    """The commands in the fenced blocks of the README and of all pages, without comments."""
    found = []
    for page in (ROOT / "README.md", *PAGES):
        for kind, code in FENCE.findall(page.read_text()):
            if kind not in ("python", "yaml"):
                lines = code.replace("\\\n", " ").splitlines()
                found += [line.split("  #")[0].strip() for line in lines if line.startswith("unknot ")]
    return list(dict.fromkeys(found))


@pytest.mark.parametrize("line", command_lines())
def test_commands_of_the_pages_are_understood(line: str) -> None:
    import typer

    from unknot.cli.app import build

    _, verb, *arguments = shlex.split(line)
    group: Any = typer.main.get_command(build([verb, *arguments]))
    command = group.commands[verb]
    command.make_context(verb, arguments)


@needs_checkout
def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "zensical.toml").read_text()
    for page in [*PAGES, *(path.with_suffix(".md") for path in (ROOT / "docs").rglob("*.ipynb"))]:
        assert f'= "{page.relative_to(ROOT / "docs")}" }}' in navigation


@needs_checkout
def test_the_reference_has_every_public_name_and_no_other() -> None:
    pages = runpy.run_path(str(ROOT / "docs/pages.py"))
    page = pages["with_names"]((ROOT / "docs/reference.md").read_text())
    documented = re.findall(r"^::: (\S+)$", page, re.MULTILINE)
    doors = [path.parent for path in (ROOT / "src/unknot").glob("*/__init__.pyi")]
    for door in doors:
        room = importlib.import_module(f"unknot.{door.name}")
        paths = [path for path in documented if path.startswith(f"unknot.{door.name}.")]
        assert sorted(path.rpartition(".")[2] for path in paths) == sorted(room.__all__)
        assert all(resolve(path) is getattr(room, path.rpartition(".")[2]) for path in paths)
    top = set(unknot.__all__) - {door.name for door in doors} - {"__version__"}
    assert top <= {path.rpartition(".")[2] for path in documented}
    assert all(f"[`{name}`][unknot." in page for name in top)


def resolve(path: str) -> object:
    """What a dotted name that begins with ``unknot`` stands for; modules are imported on the way."""
    value: Any = unknot
    parts = path.split(".")
    for i, part in enumerate(parts[1:], start=2):
        if part in getattr(value, "__dataclass_fields__", ()):
            return value.__dataclass_fields__[part]
        try:
            value = getattr(value, part)
        except AttributeError:
            value = importlib.import_module(".".join(parts[:i]))
    return value


def texts() -> list[Path]:
    """The pages, the tutorials and the examples."""
    sources = [path for folder in ("docs/tutorials", "examples") for path in (ROOT / folder).glob("*.py")]
    return sorted([*ROOT.glob("*.md"), *PAGES, *sources])


@pytest.mark.parametrize("path", texts(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_name_of_the_docs_resolves(path: Path) -> None:
    text = path.read_text()
    skip_without_extras(text)
    for name in sorted(set(re.findall(r"(?<![\w./])(?:uk|unknot)((?:\.[A-Za-z_]\w*)+)", text))):
        resolve(f"unknot{name}")


def test_a_name_that_is_gone_does_not_resolve() -> None:
    assert resolve("unknot.topology.Scale.k") is not None
    for name in ("unknot.rival", "unknot.topology.Scale.radii", "unknot.nets.zfold"):
        with pytest.raises(ImportError):
            resolve(name)


# A folder or file of this project, as text: no link to elsewhere, nothing that is made.
PATH = re.compile(
    r"(?<![\w/.-])(?:\.\./)?((?:benchmarks|conda|docs|examples|fuzz|src|tests|\.github)/[\w./*-]*[\w*/])"
)
MADE = "benchmarks/raw"


SETTINGS = ("Makefile", "pyproject.toml", "zensical.toml", ".ci/run", ".github/workflows/*", "conda/*")
SCRIPTS = ("fuzz/README.md", "fuzz/*.py", "benchmarks/**/*.py")


@needs_checkout
@pytest.mark.parametrize(
    "path",
    [*texts(), *sorted(path for pattern in (*SETTINGS, *SCRIPTS) for path in ROOT.glob(pattern))],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_every_path_that_is_named_exists(path: Path) -> None:
    for named in sorted(set(PATH.findall(path.read_text()))):
        assert named.startswith(MADE) or any(ROOT.glob(named.rstrip("/"))), named


@needs_checkout
def test_every_result_of_a_benchmark_is_listed() -> None:
    module = runpy.run_path(str(ROOT / "benchmarks/index_docs.py"))
    assert module["text"]() == module["PAGE"].read_text(), "run python benchmarks/index_docs.py"
    assert module["table"]().count("\n") == 1 + len(list((ROOT / "benchmarks/results").glob("*.json")))


@needs_checkout
def test_results_that_are_tracked_are_small() -> None:
    """Every trial goes to benchmarks/raw, which git ignores."""
    sizes = {path.name: path.stat().st_size for path in (ROOT / "benchmarks/results").iterdir()}
    assert len(sizes) > 10
    assert {name: size for name, size in sizes.items() if size > 60_000} == {}
    assert "/benchmarks/raw/" in (ROOT / ".gitignore").read_text().splitlines()


@needs_checkout
@pytest.mark.parametrize(
    ("script", "page"),
    [
        ("activations/activation_docs.py", "convergence.md"),
        ("activations/tables_docs.py", "howto/tables.md"),
        ("profiles/jmlr_docs.py", "jmlr.md"),
        ("profiles/real_data_docs.py", "real_data.md"),
        ("pruning/pruning_docs.py", "pruning.md"),
        ("pruning/half_the_loss_docs.py", "half_the_loss.md"),
    ],
)
def test_the_tables_of_a_page_are_those_of_its_results(script: str, page: str, tmp_path: Path) -> None:
    for folder in ("benchmarks", "docs"):
        ignored = shutil.ignore_patterns("raw", "tutorials", "__pycache__")
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignored)
    copy = tmp_path / "docs" / page
    text = re.sub(
        r"(figures: begin -->).*(<!-- figures: end)", r"\1\2", copy.read_text(), flags=re.DOTALL
    )
    copy.write_text(text)
    run([str(tmp_path / "benchmarks" / script)], tmp_path)
    assert copy.read_text() == (ROOT / "docs" / page).read_text() != text


@needs_checkout
def test_the_pictures_of_the_engine_show_what_the_page_says(tmp_path: Path) -> None:
    compiler = os.environ.get("CXX", "c++")
    if shutil.which(compiler) is None:
        pytest.skip(f"no compiler {compiler}")
    told = run([str(ROOT / "docs/figures/engine.py"), str(tmp_path)], tmp_path).splitlines()
    page = " ".join((ROOT / "docs/how_it_works.md").read_text().lower().split())
    stages = dict(line.split(": ", 1) for line in told)
    for stage in ("neighbour graph", "strong collapse", "edge pass"):
        counts, betti = stages[stage].split(", (b0")
        assert f"{stage}: {counts}" in page
        if stage != "edge pass":
            assert betti.endswith("= (2, 1, 1)")
    assert stages["closure"].split(", (b0")[0] in page
    assert stages["radius 0.35"].endswith("(3, 2)")
    assert {path.name for path in tmp_path.iterdir()} == {"scale.png", "collapse.png", "closure.png"}
    assert all(path.stat().st_size <= 80_000 for path in (ROOT / "docs/assets").glob("*.png"))
