"""The command: answers, exit codes, one-line refusals, and nothing written on bad input."""

from __future__ import annotations

import json
import re
import runpy
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

import unknot as uk
from unknot.cli.app import main
from unknot.nets.cost import count_macs
from unknot.profiles.journal import read_profile
from unknot.profiles.profile import TopologyProfile
from unknot.pruning.outcomes.outcome import PruningOutcome
from unknot.pruning.scoring import criteria
from unknot.topology.calibration import calibrate


class Ran:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def record(self) -> dict:
        return json.loads(self.out)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str | Path) -> Ran:
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return Ran(left.value.code or 0, out, err)  # type: ignore[arg-type]

    return call


def test_rings_have_nine_components_and_nine_loops_each(run, tmp_path: Path) -> None:
    assert run("shape", "rings", "--pairs", "9", "--out", "r.npz").code == 0
    found = run("betti", "r.npz", "--knn", "14", "--hops", "2", "--json").record
    assert found["betti"]["0"] == [9, 9]
    assert found["betti"]["1"] == [9, 9]
    assert set(found["betti"]) == {"all", "0", "1"}
    assert found["n"]["all"] == found["n"]["0"] + found["n"]["1"]
    assert (found["scale"]["k"], found["scale"]["hops"], found["scale"]["radius"]) == (14, 2, None)


def test_shape_writes_the_true_numbers_and_is_reproducible(run, tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        run(
            "shape",
            "links",
            "--pairs",
            "3",
            "--n",
            "600",
            "--seed",
            "4",
            "--noise",
            "0.01",
            "--out",
            name,
        )
    with np.load(tmp_path / "a.npz") as a, np.load(tmp_path / "b.npz") as b:
        assert a["betti_0"].tolist() == [3, 3]
        assert len(a["points"]) == 600
        assert np.array_equal(a["points"], b["points"])


def test_betti_of_an_unlabelled_file_is_a_table_or_json(run, tmp_path: Path) -> None:
    np.save(tmp_path / "square.npy", [[0.0, 0], [1, 0], [1, 1], [0, 1]])
    table = run("betti", "square.npy", "--radius", "1")
    assert table.code == 0
    assert "radius=1" in table.out
    found = run("betti", "square.npy", "--radius", "1", "--max-dim", "2", "--json").record
    assert found["betti"] == {"all": [1, 1, 0]}


def circles(path: Path, few: int = 0) -> None:
    """Two circles as a table: numbered, with labels that are texts, and a small third class."""
    turns = np.linspace(0, 2 * np.pi, 120, endpoint=False)
    rows = ["id,x,y,species"]
    for i, (turn, kind) in enumerate((t, kind) for kind in ("ring", "circle") for t in turns):
        rows.append(f"{i},{np.cos(turn) + 4 * (kind == 'ring')},{np.sin(turn)},{kind}")
    rows += [f"{1000 + i},{9 + i},9,few" for i in range(few)]
    path.write_text("\n".join(rows))


def test_betti_of_a_table_without_a_scale_calibrates_and_says_what_it_took(run, tmp_path: Path) -> None:
    circles(tmp_path / "c.csv")
    ran = run("betti", "c.csv", "--json")
    found = ran.record
    assert found["betti"] == {"all": [2, 2], "0": [1, 1], "1": [1, 1]}
    assert found["n"] == {"all": 240, "0": 120, "1": 120}
    assert found["classes"] == {"0": "circle", "1": "ring"}
    points = np.loadtxt(tmp_path / "c.csv", delimiter=",", skiprows=1, usecols=(1, 2))
    scale = calibrate(points, np.repeat([1, 0], 120))
    assert found["scale"] == asdict(scale) and scale.determined
    said = [
        "file c.csv: labels in column 4 (species): circle = 0, ring = 1; column 1 (id) numbers the "
        "samples and is left aside; 2 coordinates: column 2 (x), column 3 (y)",
        f"scale k={scale.k}, hops={scale.hops}: {scale.note}",
    ]
    assert found["notes"] == said and ran.err.splitlines() == said
    table = run("betti", "c.csv")
    assert f"at k={scale.k}, hops={scale.hops}" in table.out and "0 (circle)" in table.out
    assert table.err.splitlines() == said


def test_betti_says_that_nothing_is_stable_and_that_k_is_lowered(run, tmp_path: Path) -> None:
    np.save(tmp_path / "noise.npy", np.random.default_rng(0).normal(size=(200, 5)))
    ran = run("betti", "noise.npy", "--json")
    scale = ran.record["scale"]
    assert (scale["k"], scale["hops"], scale["determined"]) == (14, 2, False)
    assert ran.err.startswith(
        "the scale is undetermined; k=14, hops=2 is a convention: nothing is stable"
    )
    circles(tmp_path / "c.csv", few=3)
    ran = run("betti", "c.csv", "--json")
    assert ran.record["betti"] == {"all": [2, 2], "0": [1, 1], "1": [1, 0], "2": [1, 1]}
    assert "class 1: k = 2, lowered for 3 distinct point(s)" in ran.err
    circles(tmp_path / "one.csv", few=1)
    assert run("betti", "one.csv", "--json").record["betti"]["1"] == [1, 0]
    refused = run("betti", "c.csv", "--knn", "5")  # what was asked for is not changed
    assert (refused.code, refused.err.count("\n")) == (2, 1) and "k = 5 with a cloud of 3" in refused.err


def test_a_column_of_labels_is_named_or_there_is_none(run, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("kind,a\n0,0\n0,1\n0,2\n1,10\n1,11\n1,12\n")
    rule = ("--radius", "1", "--json")
    assert set(run("betti", "t.csv", *rule).record["betti"]) == {"all"}
    named = run("betti", "t.csv", "--label-column", "kind", *rule).record
    assert named["betti"] == run("betti", "t.csv", "--label-column", "1", *rule).record["betti"]
    assert named["betti"] == {"all": [2, 0], "0": [1, 0], "1": [1, 0]}
    refused = run("betti", "t.csv", "--label-column", "sort", *rule)
    assert (refused.code, refused.out, refused.err.count("\n")) == (2, "", 1)
    assert (
        "label column sort of file t.csv: expected one of kind, a, or a number from 1 to 2" in refused.err
    )


BAD_FILES = {
    "empty.csv": b"",
    "nan.csv": b"1,2\n3,nan\n",
    "one.csv": b"1,2\n",
    "text.csv": b"x,y\none,two\n",
    "broken.npz": b"PK\x03\x04",
}


MLP = ("measure", "--model", "mlp", "--data", "labelled.npz")
STUDY = ("study", "--data", "labelled.npz", "--activations")
DIGITS = ("--model", "cnn", "--data", "digits", "--out", "p")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("betti", "empty.csv", "--radius", "1"), "0 bytes"),
        (
            ("betti", "nan.csv", "--radius", "1"),
            "nan.csv, line 2, column 2 = nan: expected a finite number",
        ),
        (("betti", "one.csv", "--radius", "1"), "at least 2 points"),
        (
            ("betti", "text.csv", "--radius", "1"),
            "text.csv, line 2, column 1 (x) = one: expected numbers only",
        ),
        (("betti", "broken.npz", "--radius", "1"), "complete"),
        (("betti", "gone.npy", "--radius", "1"), "gone.npy"),
        (
            ("betti", "ok.npy", "--radius", "1", "--knn", "2"),
            "--radius 1.0 and --knn 2: expected one neighbour rule",
        ),
        (("betti", "ok.npy", "--radius", "-1"), "radius = -1"),
        (("betti", "ok.npy", "--radius", "wide"), "wide"),
        (
            ("betti", "ok.npy", "--radius", "1", "--hops", "2"),
            "--hops 2 without --knn: expected both or neither; drop --hops",
        ),
        (("betti", "ok.npy", "--knn", "14"), "k = 14 with a cloud of 4 points"),
        (("betti", "ok.npy", "--radius", "1", "--max-dim", "3"), "3"),
        (("betti", "ok.npy", "--radius", "1", "--wrong"), "--wrong"),
        (("betti", "ok.npy", "--radius", "1", "--time-budget", "0"), "time_budget = 0"),
        (("shape", "rinks", "--out", "r.npz"), "rings"),
        (("shape", "rings", "--pears", "3", "--out", "r.npz"), "pears"),
        (("shape", "rings", "--pairs", "0", "--out", "r.npz"), "pairs"),
        (("shape", "rings", "--pairs", "--out", "r.npz"), "pairs"),
        (
            ("shape", "rings", "--out", "r.txt"),
            "--out r.txt: expected a file that ends in .npz; pass e.g. --out result.npz",
        ),
        (
            ("shape", "rings", "--out", "."),
            "--out ., which is a folder: expected a file that ends in .npz",
        ),
        (
            (*STUDY, "relu", "--net", "builtins:iter", "--out", "s.db"),
            "expected a factory that runs on (data, new_activation)",
        ),
        (
            (*STUDY, "relu", "--net", "operator:is_", "--out", "s.db"),
            "--net operator:is_ returning bool",
        ),
        (("measure", "--model", "mlp", "--data", "nowhere"), "nowhere"),
        (("measure", "--model", "nlp", "--data", "digits"), "nlp"),
        (("shape", "rings", "--pairs", "1000000000", "--out", "r.npz"), "at most"),
        (("measure", "--model", "os:abc", "--data", "digits"), "abc"),
        (("measure", "--model", "builtins:iter", "--data", "digits"), "without arguments"),
        (("measure", "--model", "os:gone", "--data", "digits"), "os:gone"),
        (("measure", "--model", "mlp", "--data", "digits", "--layers", "conv9"), "conv9"),
        (("measure", "--model", "mlp", "--data", "digits", "--by", "pixel"), "pixel"),
        (("measure", "--model", "cnn", "--data", "labelled.npz"), "images"),
        ((*MLP, "--radius", "1", "--knn", "3"), "one neighbour rule"),
        ((*MLP, "--hops", "2"), "--hops 2 without --knn: expected both or neither; pass e.g. --knn 14"),
        ((*MLP, "--every", "2"), "--every 2 without --train"),
        ((*MLP, "--every", "1", "--train", "1", "--cluster", "tcp://x:1"), "--cluster tcp://x:1 with"),
        ((*MLP, "--out", "profile.txt"), ".parquet"),
        ((*STUDY, ",", "--out", "s.db"), "at least one name"),
        ((*STUDY, "relu", "--baseline", "elu", "--out", "s.db"), "--baseline elu"),
        ((*STUDY, "relu", "--targets", "0.9,99", "--out", "s.db"), "--targets 0.9,99"),
        ((*STUDY, "relu", "--data", "labelled.npz", "--out", "s.db"), "sets of different names"),
        (("study", "--data", "labelled.npz", "--activations", "magic", "--out", "s.sqlite"), "magic"),
        (
            ("study", "--data", "labelled.npz", "--activations", "elu", "--gains", "a", "--out", "s.db"),
            "--gains a",
        ),
        (
            ("study", "--data", "labelled.npz", "--activations", "elu", "--gains", "0", "--out", "s.db"),
            "all > 0",
        ),
        (
            (
                "prune",
                "--model",
                "mlp",
                "--data",
                "digits",
                "--linear",
                "",
                "--ratio",
                "0.5",
                "--out",
                "p",
            ),
            "convolutions",
        ),
        (
            ("prune", "--model", "cnn", "--data", "digits", "--out", "p"),
            "exactly one budget; pass one of ratio=0.5, macs=0.5, parameters=0.5, latency_ms=1.0 and "
            "max_betti=300, as a flag --ratio 0.5, --macs",
        ),
        (("prune", *DIGITS, "--ratio", "0.5", "--round-to", "0"), "--round-to 0: Invalid value"),
        (("prune", *DIGITS, "--ratio", "0.5", "--finetune", "-1"), "--finetune -1: Invalid value"),
        (("prune", "--model", "cnn", "--data", "digits", "--ratio", "2", "--out", "p"), "ratio = 2"),
        (("prune", *DIGITS, "--ratio", "0.5", "--macs", "0.5"), "ratio = 0.5, macs = 0.5"),
        (("prune", *DIGITS, "--parameters", "1"), "parameters = 1"),
        (("prune", *DIGITS, "--latency-ms", "0"), "latency_ms = 0"),
        (("prune", *DIGITS, "--max-betti", "3", "--criterion", "l1"), "criterion='betti'"),
        (("prune", *DIGITS, "--ratio", "0.5", "--criterion", "magic"), "criterion = 'magic'"),
        (("prune", *DIGITS, "--ratio", "0.5", "--allocation", "best"), "best"),
        (("prune", *DIGITS, "--ratio", "0.5", "--rounds", "0"), "--rounds 0: Invalid value"),
        (("prune", *DIGITS, "--ratio", "0.5", "--min-filters", "0"), "0"),
        (("report", "gone.json", "--out", "r.html"), "file gone.json: expected a readable file"),
        (("report", ".", "--out", "r.html"), "., which is a folder: expected a file"),
        (("report", "empty.csv", "--out", "r.html"), "empty.csv"),
        (("report", "empty.csv", "--out", "r.txt"), "--out r.txt: expected a file that ends in .html"),
        (("report", "empty.csv", "--out", "."), "--out ., which is a folder: expected a file"),
        ((*MLP, "--out", "."), "--out ., which is a folder: expected a file that ends in .json"),
        ((*MLP, "--report", "r.pdf"), "--report r.pdf: expected a file that ends in .html"),
        ((*STUDY, "relu", "--out", "s.txt"), "--out s.txt: expected a file that ends in .sqlite"),
        ((*STUDY, "relu", "--out", "."), "--out ., which is a folder"),
        (("demo", "--out", "ok.npy"), "--out ok.npy, which is a file: expected a folder"),
        (("prune", *DIGITS[:4], "--ratio", "0.5", "--out", "ok.npy"), "ok.npy, which is a file"),
        (("betti", "."), "., which is a folder: expected a file"),
        (("betti", "ok.npy", "--label-column", "1"), "label column 1 of file ok.npy"),
        (("measure", "--model", "mlp", "--data", "rings", "--label-column", "y"), "with --data rings"),
        ((*STUDY, "relu", "--label-column", "y", "--out", "s.db"), "label column y of file labelled.npz"),
        (("measure", "--model", "mlp", "--data", "."), "no train in"),
        (("measure", "--model", "mlp", "--data", "./gone"), "--data ./gone: expected one of"),
        (("betti", "ok.npy", "--knn", "0"), "greater than or equal to 1. Try unknot betti --help."),
        (("dance",), "dance"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_bad_input_gets_one_line_and_writes_nothing(
    run, tmp_path: Path, arguments: tuple[str, ...], says: str
) -> None:
    for name, content in BAD_FILES.items():
        (tmp_path / name).write_bytes(content)
    np.save(tmp_path / "ok.npy", np.eye(4))
    np.savez(
        tmp_path / "labelled.npz", X=np.random.default_rng(0).normal(size=(40, 3)), y=np.arange(40) % 2
    )
    before = sorted(tmp_path.rglob("*"))
    ran = run(*arguments)
    assert ran.code == 2
    assert ran.out == ""
    assert ran.err.count("\n") == 1
    assert says in ran.err
    assert sorted(tmp_path.rglob("*")) == before


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "unknot", "betti", "gone.npy", "--radius", "1", "--debug"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert "Traceback" in ran.stderr
    assert ran.returncode != 0


def test_an_interruption_ends_with_code_130(tmp_path: Path) -> None:
    np.save(tmp_path / "hard.npy", np.random.default_rng(0).normal(size=(5000, 400)).astype(np.float32))
    # The handler is set by hand, because a process started in the background ignores SIGINT.
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from unknot.cli.app import main\n"
        "open('begun', 'w').close()\n"
        "main(['betti', 'hard.npy', '--radius', '28.1', '--max-dim', '2'])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            while process.poll() is None and not (tmp_path / "begun").exists():
                time.sleep(0.05)
            time.sleep(10)  # well into the homology, which takes a minute or more
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=40) == 130
        finally:
            process.kill()
        assert process.stderr is not None
        assert process.stderr.read() == "unknot: interrupted\n"


@pytest.mark.parametrize(
    "verb", ["demo", "betti", "shape", "measure", "study", "prune", "report", "doctor"]
)
def test_help_teaches(run, verb: str) -> None:
    ran = run(verb, "--help")
    assert ran.code == 0
    assert "--seed" in ran.out
    assert "--json" in ran.out
    assert verb == "doctor" or f"unknot {verb} " in ran.out.split("Usage")[1].split("\n", 1)[1]


def test_help_lists_every_verb(run) -> None:
    listed = run("--help").out
    assert all(
        verb in listed for verb in ("demo", "betti", "shape", "measure", "study", "prune", "report")
    )


def test_measure_writes_a_profile_that_report_reads(run, tmp_path: Path) -> None:
    ran = run("measure", "--model", "mlp", "--data", "rings", "--train", "1", "--layers", "act1",
              "--max-points", "600", "--knn", "8", "--hops", "2", "--out", "p.json")  # fmt: skip
    assert ran.code == 0
    assert "act1" in ran.out and ran.out.endswith("profile: p.json\n")
    assert json.loads((tmp_path / "p.json").read_text())["rows"][0]["scale"]["k"] == 8
    assert run("report", "p.json", "--out", "r.html").code == 0
    assert "act1" in (tmp_path / "r.html").read_text()


def test_measure_takes_the_users_own_model_and_data(run, tmp_path: Path) -> None:
    (tmp_path / "mine_for_test.py").write_text(
        "import torch\n"
        "def net(): return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU())\n"
        "def data(): return torch.randn(60, 3, 8, 8), torch.arange(60) % 2\n"
    )
    ran = run("measure", "--model", "mine_for_test:net", "--data", "mine_for_test:data", "--by", "filter",
              "--radius", "3", "--json")  # fmt: skip
    assert [row["filter"] for row in ran.record["rows"]] == [0, 1, 2, 3]


def test_measure_while_it_trains_has_a_column_an_epoch(run, tmp_path: Path) -> None:
    ran = run("measure", "--model", "mlp", "--data", "rings", "--train", "3", "--every", "2", "--layers",
              "act1", "--max-points", "300", "--knn", "5", "--max-dim", "2", "--repeats", "4",
              "--out", "p.jsonl")  # fmt: skip
    assert ran.code == 0
    assert all(f"epoch {epoch}" in ran.out for epoch in (0, 2, 3)) and "epoch 1" not in ran.out
    row = read_profile(tmp_path / "p.jsonl").rows[-1]
    assert (row.epoch, row.layer, row.label) == (3, "act1", 1) and row.intervals is not None
    (low, high), *_ = row.intervals
    assert f"{row.b0} [{low}, {high}]" in ran.out and len(row.intervals) == 3
    assert "accuracy on the 300 measured samples: 0." in ran.out
    said = ran.out.splitlines()[0]
    assert said.endswith(".") and ("classes" in said or "loops" in said)


def test_where_every_class_is_one_blob_there_is_no_table_of_blobs(run) -> None:
    ran = run("measure", "--model", "mlp", "--data", "digits", "--max-points", "200", "--layers", "act1")
    assert ran.code == 0
    said = "hops=2 (undetermined), seed 0: one piece without loops in every class of every layer"
    assert said in ran.out and "(b0, b1)" not in ran.out


def test_measure_of_filters_has_a_line_a_layer(run) -> None:
    ran = run("measure", "--model", "cnn", "--data", "digits", "--train", "1", "--by", "filter",
              "--max-points", "100", "--knn", "5")  # fmt: skip
    assert ran.code == 0
    assert "b1, median [range]" in ran.out
    lines = [line.split() for line in ran.out.splitlines() if line.strip().startswith("conv")]
    assert len(lines) >= 2 and len({line[0] for line in lines}) == len(lines)


def test_measure_says_which_samples_it_left_out(run, tmp_path: Path) -> None:
    plain = (
        "measure",
        "--model",
        "mlp",
        "--data",
        "digits",
        "--layers",
        "act1",
        "--knn",
        "5",
        "--by",
        "layer",
    )
    ran = run(*plain, "--max-points", "5000", "--json")
    assert ran.record["settings"]["samples"] == 1797 and not ran.record["notes"] and not ran.err
    for flags, notes in (
        ((), ["measured {n} of 1,797 samples: --max-points 50"]),
        (
            ("--train", "1"),
            [
                "measured {n} of 1,437 samples: --max-points 50",
                "left out 360 test samples, on which nothing is trained or measured",
            ],
        ),
    ):
        ran = run(*plain, *flags, "--max-points", "50", "--json")
        said = [note.format(n=ran.record["settings"]["samples"]) for note in notes]
        assert ran.record["notes"] == said and ran.err.splitlines() == said
        assert ran.record["rows"][0]["n_points"] <= 50
    run(*plain, "--max-points", "50", "--out", "p.json")
    assert TopologyProfile.from_json(tmp_path / "p.json").notes[-1].startswith("measured ")


def test_measure_says_that_a_scale_is_undetermined(run, tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    np.savez(tmp_path / "n.npz", X=noise.normal(size=(120, 5)), y=np.arange(120) % 2)
    ran = run("measure", "--model", "mlp", "--data", "n.npz", "--layers", "act1")
    assert ran.code == 0 and "the scale is undetermined: " in ran.out


def table_of(text: str, title: str) -> list[list[str]]:
    """The lines of the table under a title, each as its cells."""
    lines = text.split(title)[1].splitlines()
    rules = [i for i, line in enumerate(lines) if line.strip().startswith("──")]
    body = lines[rules[0] + 1 :]
    return [
        line.split("   ") for line in body[: next(i for i, one in enumerate(body) if not one.strip())]
    ]


def test_measure_prints_islands_and_tangle_first_where_no_scale_is_determined(
    run, tmp_path: Path
) -> None:
    noise = np.random.default_rng(0)
    labels = np.arange(240) % 2
    np.savez(tmp_path / "n.npz", X=noise.normal(size=(240, 5)) + labels[:, None], y=labels)
    plain = ("measure", "--model", "mlp", "--data", "n.npz", "--layers", "act1")
    ran = run(*plain, "--out", "p.json")
    title, betti = "Islands, tangle and purity of mlp on n.npz, n = 240, seed 0", "Betti numbers of"
    assert title in ran.out and ran.out.index(title) < ran.out.index(betti)
    rows = read_profile(tmp_path / "p.json").untangling
    for row, cells in zip(rows, table_of(ran.out, title), strict=True):
        found = [cell.strip() for cell in cells if cell.strip()]
        low, high = row.islands_interval or (0, 0)
        assert found[:3] == [row.layer, "0", f"{row.islands} [{low}, {high}]"]
        for name, cell in zip(("tangle", "purity"), found[3:], strict=True):
            low, high = getattr(row, f"{name}_interval")
            assert cell == f"{getattr(row, name):.2f} [{low:.2f}, {high:.2f}]"
    (note,) = {row.note for row in rows}
    assert f"input, act1: {note}" in ran.out and "try n = 4,000" in note
    ran = run(*plain, "--knn", "5")  # a scale that was given
    assert ran.out.index(betti) < ran.out.index(title)


def test_measure_sets_random_weights_and_shuffled_labels_beside(run, tmp_path: Path) -> None:
    plain = ("measure", "--model", "mlp", "--data", "rings", "--layers", "act1", "--max-points", "300",
             "--knn", "8")  # fmt: skip
    ran = run(*plain, "--nulls", "2", "--json")
    rows = ran.record["untangling"]
    assert [(r["layer"], r["random"]) for r in rows] == [
        (layer, copy) for copy in (None, 0, 1) for layer in ("input", "act1")
    ]
    assert all(len(row["members"]) == ran.record["settings"]["samples"] for row in rows)
    assert len(ran.record["labels"]) == 300
    low, high = rows[1]["shuffled"]
    assert low < 1 < high
    text = run(*plain, "--nulls", "2").out
    assert "random: islands" in text and "shuffled: tangle" in text and f"{low:.2f} to {high:.2f}" in text
    ran = run(*plain, "--train", "2", "--every", "1", "--nulls", "1", "--out", "p.jsonl")
    assert "(islands, tangle, purity)" in ran.out
    row = read_profile(tmp_path / "p.jsonl").untangling[-1]
    assert (row.epoch, row.layer, row.random) == (2, "act1", None)
    assert f"{row.islands}, {row.tangle:.2f}, {row.purity:.2f}" in ran.out
    refused = run("measure", "--model", "cnn", "--data", "digits", "--by", "filter", "--nulls", "1")
    assert refused.code == 2 and "nulls = 1 with by = 'filter'" in refused.err


def test_study_prints_each_target_and_the_topology(run, tmp_path: Path) -> None:
    points = np.random.default_rng(0).normal(size=(300, 2))
    np.savez(tmp_path / "d.npz", X=points, y=(points[:, 0] > 0).astype(int))
    ran = run("study", "--data", "d.npz", "--activations", "tanh,zfold", "--epochs", "40", "--seeds", "2",
              "--learning-rates", "1e-2", "--gains", "1", "--targets", "0.8,0.95", "--test-target", "0.9",
              "--depth", "2", "--width", "8", "--batch-size", "32", "--topology", "1", "--jobs", "1",
              "--out", "s.sqlite")  # fmt: skip
    assert ran.code == 0
    for title in ("Epochs to 0.8 train accuracy", "Epochs to 0.95 train", "Epochs to 0.9 test"):
        assert title in ran.out
    assert ran.out.count("2/2") >= 4 and "times fewer than tanh" in ran.out
    assert "Betti numbers of the class clouds, summed over layers" in ran.out
    assert "trials: s.sqlite" in ran.out


def test_study_reports_and_resumes(run, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", X=np.random.default_rng(0).normal(size=(80, 3)), y=np.arange(80) % 2)
    arguments = (
        "study",
        "--data",
        "d.npz",
        "--activations",
        "relu,zfold",
        "--epochs",
        "2",
        "--out",
        "s.sqlite",
    )
    first = run(*arguments, "--seeds", "1", "--json").record["rows"]
    assert {row["activation"] for row in first} == {"relu", "zfold"}
    assert set(first[0]) == {
        "set", "activation", "learning_rate", "gain", "target", "seeds", "reached", "epochs", "median",
    }  # fmt: skip
    again = run(*arguments, "--seeds", "1")
    assert again.code == 2
    assert "--resume" in again.err
    resumed = run(*arguments, "--seeds", "2", "--resume", "--json").record["rows"]
    assert [row["epochs"][0] for row in resumed] == [row["epochs"][0] for row in first]
    assert all(row["seeds"] == 2 for row in resumed)


def table_of_prices(tmp_path: Path) -> None:
    points = np.random.default_rng(0).normal(size=(200, 3))
    prices = 10 + 5 * points[:, 0] + points[:, 1]
    header = {"delimiter": ",", "header": "a,b,c,price", "comments": ""}
    np.savetxt(tmp_path / "prices.csv", np.c_[points, prices], **header)


BUDGETS = (
    "study", "--label-column", "price", "--activations", "relu,tanh", "--seeds", "2", "--gains", "1",
    "--learning-rates", "1e-2", "--width", "8", "--depth", "1", "--batch-size", "32", "--jobs", "1",
    "--out", "s.sqlite",
)  # fmt: skip


def test_study_by_budget_prints_scores_and_differences(run, tmp_path: Path) -> None:
    table_of_prices(tmp_path)
    ran = run(*BUDGETS, "--data", "prices.csv", "--at", "2,1")
    assert ran.code == 0
    for part in ("Held-out R^2 after N epochs, mlp 1 x 8, cosine learning rate, 2 seeds",
                 "RMSE: median", "R^2 less relu's ", "p, one-sided"):  # fmt: skip
        assert part in ran.out
    assert run(*BUDGETS, "--data", "prices.csv", "--at", "2,1").code == 2
    again = run(*BUDGETS, "--data", "prices.csv", "--at", "1,2,3", "--resume", "--json").record
    assert {(row["at"], row["metric"], row["unit"]) for row in again["rows"]} == {
        (at, "R^2", "epochs") for at in (1, 2, 3)
    }
    assert {row["metric"] for row in again["loss_rows"]} == {"RMSE"}
    assert len(again["comparisons"]) == 3 and {c["activation"] for c in again["comparisons"]} == {"tanh"}
    assert run("report", "s.sqlite", "--out", "r.html").code == 0
    assert "Scores by budget" in (tmp_path / "r.html").read_text()


def test_study_by_seconds_counts_the_tuning(run, tmp_path: Path) -> None:
    table_of_prices(tmp_path)
    ran = run(*BUDGETS, "--data", "prices.csv", "--at", "0.1", "--unit", "seconds", "--schedule",
              "constant", "--test-target", "0.5")  # fmt: skip
    assert ran.code == 0 and "after N seconds, mlp 1 x 8, constant learning rate" in ran.out
    assert "Seconds to 0.5 test R^2, tuning counted" in ran.out


def test_study_takes_numbers_as_labels(run, tmp_path: Path) -> None:
    table_of_prices(tmp_path)
    ran = run(
        *BUDGETS, "--data", "prices.csv", "--epochs", "3", "--targets", "0.5", "--test-target", "0.5"
    )
    assert ran.code == 0 and "Epochs to 0.5 train R^2" in ran.out
    refused = run(*BUDGETS, "--data", "prices.csv", "--task", "classes")
    assert refused.code == 2 and "a class: a whole number or text" in refused.err
    (tmp_path / "few.csv").write_text("a,price\n" + "1,0.5\n2,1.5\n" * 10)
    refused = run(*BUDGETS, "--data", "few.csv")
    assert refused.code == 2 and "2 different numbers with fractions" in refused.err
    assert "--task regression" in refused.err
    (tmp_path / "text.csv").write_text("a,town,price\n" + "1,Bonn,0.5\n2,Ulm,1.5\n" * 10)
    refused = run(*BUDGETS, "--data", "text.csv", "--task", "regression")
    assert refused.code == 2 and "line 2, column 2 (town) = Bonn: expected numbers only" in refused.err
    assert "encode" in refused.err and len(refused.err.strip().splitlines()) == 1


def test_one_question_at_a_time(run, tmp_path: Path) -> None:
    for more, says in ((("--at", "1", "--epochs", "3"), "--epochs with --at"),
                       (("--unit", "seconds"), "--unit without --at"),
                       (("--at", "1", "--topology", "1"), "--topology with --at"),
                       (("--at", "a"), "--at a"), (("--at", "0"), "at = [0.0]")):  # fmt: skip
        ran = run("study", "--data", "rings", "--activations", "relu", "--out", "s.sqlite", *more)
        assert ran.code == 2 and says in ran.err
    assert not list(tmp_path.glob("s.sqlite*"))


def test_prune_makes_a_smaller_model_and_says_so(run, tmp_path: Path) -> None:
    ran = run("prune", "--model", "cnn", "--data", "digits", "--train", "2", "--ratio", "0.5",
              "--criterion", "l1", "--no-compare", "--out", "p", "--json")  # fmt: skip
    assert ran.code == 0
    names = ("accuracy", "parameters", "macs", "latency_ms", "filters")
    assert set(ran.record) == {f"{name}_{when}" for name in names for when in ("before", "after")}
    assert ran.record["filters_after"] == ran.record["filters_before"] // 2
    assert ran.record["macs_after"] < 0.5 * ran.record["macs_before"]
    files = {str(p.relative_to(tmp_path / "p")) for p in (tmp_path / "p").rglob("*") if p.is_file()}
    assert files == {
        "model/weights.safetensors", "model/plan.json", "model/model.json", "model/README.md",
        "model/program.pt2", "scores.json", "outcome.json", "report.html",
    }  # fmt: skip
    again = run("prune", "--model", "cnn", "--data", "digits", "--ratio", "0.5", "--out", "p")
    assert "new or empty folder" in again.err


def test_prune_says_what_it_wrote_and_what_it_could_not(run, tmp_path: Path) -> None:
    chosen = "        return super().forward(x) if x.isfinite().all() else super().forward(x * 0)\n"
    branching = f"class Net(nn.Sequential):\n    def forward(self, x):\n{chosen}"
    own = OWN_NET.replace("def net", f"{branching}\ndef branching():\n    return Net(*net())\n\ndef net")
    (tmp_path / "own_files.py").write_text(own)
    options = ("--data", "own_files:data", "--ratio", "0.5", "--criterion", "l1", "--no-compare", "--out")
    ran = run("prune", "--model", "own_files:net", *options, "whole")
    lines = [line for line in ran.out.splitlines() if "program.pt2" in line]
    assert len(lines) == 1 and "for torch alone" in lines[0] and "any batch size" in lines[0]
    assert re.search(r"whole/model: [\d,]+ bytes in 5 files$", ran.out, re.MULTILINE)
    ran = run("prune", "--model", "own_files:branching", *options, "part")
    assert ran.code == 0 and "program.pt2" not in ran.out
    assert "There is no program.pt2: model Net, which torch.export does not take" in ran.err
    assert not (tmp_path / "part" / "model" / "program.pt2").exists()


OWN_NET = """import torch
from torch import nn

def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 12, 3), nn.ReLU(),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 2))

def data():
    x = torch.randn(160, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    y = torch.arange(160) % 2
    x[y == 1, :, :4] += 1
    return x, y
"""


def test_prune_keeps_apart_what_shrink_keeps_apart(run, tmp_path: Path) -> None:
    (tmp_path / "own_split.py").write_text(
        OWN_NET + "\ndef loader():\n    return [(x[None], y[None]) for x, y in zip(*data())]\n"
    )
    model, (x, y) = _made(tmp_path / "own_split.py")
    shrunk = uk.shrink(model, (x, y), ratio=0.5, criterion="l1", seed=3, repeats=10)
    for name in ("data", "loader"):
        own = ("--model", "own_split:net", "--data", f"own_split:{name}", "--out", name, "--json")
        ran = run("prune", *own, "--ratio", "0.5", "--criterion", "l1", "--no-compare", "--seed", "3")
        outcome = PruningOutcome.from_json(tmp_path / name / "outcome.json")
        assert (outcome.split, outcome.n_train, outcome.n_test) == ("kept apart", 144, 16)
        assert outcome.accuracy_before == shrunk.outcome.accuracy_before
        assert outcome.accuracy_after == shrunk.outcome.accuracy_after
        assert "16 samples kept apart from the 144" in str(outcome)
        assert ran.record["parameters_after"] == shrunk.outcome.cost_after.parameters
        assert ran.record["macs_before"] == count_macs(model, x[:1])  # of one sample, as budgets are
        assert ran.record["macs_after"] == count_macs(shrunk.model, x[:1])


def _made(path: Path) -> tuple[torch.nn.Module, tuple[torch.Tensor, torch.Tensor]]:
    made = runpy.run_path(str(path))
    return made["net"](), made["data"]()


THREADS = """
import torch
from own_for_prune import data

seen = set()

class Watched(torch.nn.Conv2d):
    def forward(self, x):
        seen.add(torch.get_num_threads())
        return super().forward(x)

def net():
    return torch.nn.Sequential(Watched(1, 4, 3), torch.nn.ReLU(), torch.nn.Conv2d(4, 4, 3),
                               torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, 2))
"""


@pytest.mark.parametrize(("told", "threads"), [(None, {1}), ("2", {2})])
def test_prune_and_measure_use_one_thread_unless_told(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str | None, threads: set[int]
) -> None:
    (tmp_path / "own_for_prune.py").write_text(OWN_NET)
    (tmp_path / "own_threads.py").write_text(THREADS)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if told:
        monkeypatch.setenv("OMP_NUM_THREADS", told)
    monkeypatch.syspath_prepend(tmp_path)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        own = ("--model", "own_threads:net", "--data", "own_threads:data", "--train", "1")
        prune = ("prune", *own, "--ratio", "0.5", "--criterion", "l1", "--no-compare", "--out", "p")
        for command in (prune, ("measure", *own, "--layers", "0", "--radius", "1")):
            sys.modules.pop("own_threads", None)
            assert run(*command).code == 0
            assert sys.modules["own_threads"].seen == threads
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_prune_with_all_its_flags(run, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    (tmp_path / "own_for_prune.py").write_text(OWN_NET)
    ran = run("prune", "--model", "own_for_prune:net", "--data", "own_for_prune:data", "--train", "2",
              "--criterion", "elder", "--macs", "0.5", "--allocation", "macs", "--min-filters", "2",
              "--round-to", "2", "--rounds", "2", "--finetune", "2", "--patience", "1", "--onnx",
              "--out", "p")  # fmt: skip
    assert ran.code == 0
    assert "round 2: accuracy" in ran.out and "refitted" in ran.out and "fine-tuned" in ran.out
    assert "50.0% asked, in 2 rounds" in ran.out
    assert "Against the original, on cpu" in ran.out
    assert "random" in ran.out and "taylor" in ran.out  # compared with
    assert "model.onnx: " in ran.out and "ms in ONNX Runtime" in ran.out
    outcome = json.loads((tmp_path / "p" / "outcome.json").read_text())
    assert [len(outcome[part]) > 0 for part in ("rounds", "baselines", "export")] == [True] * 3
    filters = json.loads((tmp_path / "p" / "model" / "plan.json").read_text())
    left = {layer: n - len(filters["removed"].get(layer, ())) for layer, n in filters["filters"].items()}
    assert all(n % 2 == 0 and n >= 2 for n in left.values())
    page = (tmp_path / "p" / "report.html").read_text()
    assert "Accuracy against MACs" in page and "ONNX Runtime" in page
    assert "elder" in (tmp_path / "p" / "model" / "README.md").read_text()
    assert run("report", "p/outcome.json", "--out", "again.html").code == 0


def test_prune_by_a_criterion_of_ones_own_and_help_names_all(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(criteria, "_REGISTRY", dict(criteria._REGISTRY))
    (tmp_path / "own_for_prune.py").write_text(OWN_NET)
    (tmp_path / "own_criterion.py").write_text(
        "def by_number(layer, module):\n    return range(module.weight.shape[0])\n"
    )
    own = ("prune", "--model", "own_for_prune:net", "--data", "own_for_prune:data", "--no-compare")
    assert run(*own, "--criterion", "own_criterion:by_number", "--ratio", "0.25", "--out", "p").code == 0
    plan = json.loads((tmp_path / "p" / "model" / "plan.json").read_text())
    assert plan["criterion"] == "own_criterion:by_number"
    assert plan["removed"] == {"0": [0, 1], "2": [0, 1, 2]}
    refused = run(*own, "--criterion", "own_criterion:gone", "--ratio", "0.25", "--out", "q")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "--criterion own_criterion:gone" in refused.err
    (tmp_path / "own_instance.py").write_text(
        OWN_NET
        + "from unknot.pruning import Criterion, register\n"
        + "class Last(Criterion):\n    def score(self, evidence):\n"
        + "        return {n: [-i for i in range(len(m.weight))] for n, m in evidence.layers.items()}\n"
        + "inst = Last()\nregister('last', inst)\n"
    )
    own = ("prune", "--model", "own_instance:net", "--data", "own_for_prune:data", "--no-compare")
    for number, criterion in enumerate(("own_instance:inst", "last")):
        out = tmp_path / f"i{number}"
        assert run(*own, "--criterion", criterion, "--ratio", "0.25", "--out", out).code == 0
        plan = json.loads((out / "model" / "plan.json").read_text())
        assert (plan["criterion"], plan["removed"]) == (criterion, {"0": [6, 7], "2": [9, 10, 11]})
    words = run("prune", "--help").out.replace("│", " ").replace(",", " ").split()
    assert set(criteria.criterion_names()) - {
        "own_criterion:by_number",
        "own_instance:inst",
        "last",
    } <= set(words)


def test_prune_by_threshold_or_latency(run, tmp_path: Path) -> None:
    (tmp_path / "own_for_prune.py").write_text(OWN_NET)
    own = ("prune", "--model", "own_for_prune:net", "--data", "own_for_prune:data", "--no-compare")
    assert run(*own, "--max-betti", "60", "--out", "a").code == 0
    assert "What the threshold 60 says" in (tmp_path / "a" / "report.html").read_text()
    assert run(*own, "--criterion", "l1", "--latency-ms", "1000", "--out", "b").code == 0
    kept = run(*own, "--criterion", "l1", "--parameters", "0.3", "--ignore", "0", "--out", "c")
    assert "layer 0 keeps all of its filters: ignored by '0'" in kept.err
    for flags, says in (
        (("--ratio", "0.5", "--ignore", "conv*"), "--ignore conv*: expected a glob that matches"),
        (("--max-betti", "60", "--rounds", "2"), "2 rounds with max_betti = 60"),
    ):
        refused = run(*own, *flags, "--out", "d")
        assert (refused.code, refused.err.count("\n")) == (2, 1)
        assert says in refused.err
    assert not (tmp_path / "d").exists()


def test_doctor_is_well(run) -> None:
    found = run("doctor", "--json").record
    assert set(found["checks"].values()) == {"ok"}
    assert "torch" in found["versions"]
