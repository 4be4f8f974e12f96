"""The fold estimators as they come, beside scikit-learn's own tuned in the same seconds.

Fourteen real tables (table_sets.py), 70 % of the rows to fit, 30 % to test, drawn anew for each of ten
seeds. The fit of `uk.FoldClassifier` or `uk.FoldRegressor` takes so many seconds; in as many,
`HistGradientBoosting*` and `MLP*` are tuned by random search, one setting after another on 85 % of the
rows, judged on the other 15 %, their defaults first; the best setting is then fitted on all. Their search
ends with the setting during which time ran out, and the last fit is not counted: both in their favour.
Categories are one-hot and missing numbers have the mean for the MLP, which gets standardised columns; the
trees take categories and NaN as they are.

    python benchmarks/activations/estimators.py              # hours; resumable, seed by seed
    python benchmarks/activations/estimators.py --tables     # of what is done
    python benchmarks/activations/estimators.py --scale      # seconds and memory of large tables

Trials go to benchmarks/raw/estimators.jsonl, the summary to benchmarks/results/estimators.json.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from sklearn.base import BaseEstimator
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from table_sets import NAMES, Table, load

import unknot as uk
from unknot.core.console import print_table
from unknot.core.files import write_text

sys.path.append(str(Path(__file__).parents[1]))
from provenance import provenance

BENCHMARKS = Path(__file__).parents[1]
RAW, RESULTS = BENCHMARKS / "raw" / "estimators.jsonl", BENCHMARKS / "results" / "estimators.json"
SEEDS = range(110, 120)
METHODS = ("fold", "trees", "mlp")
NAMED = {"fold": "unknot", "trees": "HistGradientBoosting", "mlp": "scikit-learn's MLP"}
SIZES = ((10_000, 16), (100_000, 50))
Record = dict[str, Any]


def trees(table: Table, draw: np.random.Generator | None, seed: int) -> Any:
    """With the defaults, or with what is drawn."""
    settings: Record = {}
    if draw is not None:
        settings = {
            "learning_rate": float(10 ** draw.uniform(-2, -0.3)),
            "max_iter": int(10 ** draw.uniform(1.7, 2.9)),
            "max_leaf_nodes": int(2 ** draw.uniform(3, 7)),
            "min_samples_leaf": int(2 ** draw.uniform(0, 6)),
            "l2_regularization": float(10 ** draw.uniform(-6, 1)),
            "max_features": float(draw.uniform(0.3, 1)),
        }
    kind = HistGradientBoostingClassifier if table.classes else HistGradientBoostingRegressor
    return kind(categorical_features="from_dtype", random_state=seed, **settings)


def network(table: Table, draw: np.random.Generator | None, seed: int) -> Any:
    settings: Record = {"max_iter": 200}
    if draw is not None:
        width, depth = int(2 ** draw.integers(5, 9)), int(draw.integers(1, 4))
        settings |= {
            "hidden_layer_sizes": (width,) * depth,
            "activation": str(draw.choice(["relu", "tanh"])),
            "learning_rate_init": float(10 ** draw.uniform(-3.5, -1.5)),
            "alpha": float(10 ** draw.uniform(-6, -1)),
            "batch_size": int(draw.choice([64, 128, 256])),
            "early_stopping": bool(draw.integers(2)),
        }
    numbers = make_column_selector(dtype_include="number")
    categories = make_column_selector(dtype_exclude="number")
    columns = make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), numbers),
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), categories),
    )
    kind = MLPClassifier if table.classes else MLPRegressor
    net = kind(random_state=seed, **settings)
    # A target in thousands would need a rate of its own.
    return make_pipeline(columns, net if table.classes else Scaled(net))


class Scaled(BaseEstimator):  # type: ignore[misc]
    """A regressor of targets of mean 0 and standard deviation 1."""

    def __init__(self, regressor: Any) -> None:
        self.regressor = regressor

    def fit(self, X: Any, y: NDArray[np.float64]) -> Scaled:
        self.middle_, self.spread_ = y.mean(), y.std()
        self.regressor.fit(X, (y - self.middle_) / self.spread_)
        return self

    def predict(self, X: Any) -> NDArray[np.float64]:
        return np.asarray(self.regressor.predict(X) * self.spread_ + self.middle_)


NEW = {"trees": trees, "mlp": network}


def score(table: Table, model: Any, X: Any, y: NDArray[Any]) -> float:
    """Accuracy, or R^2."""
    predicted = model.predict(X)
    if table.classes:
        return float((predicted == y).mean())
    return float(1 - ((y - predicted) ** 2).sum() / ((y - y.mean()) ** 2).sum())


def trial(table: Table, seed: int) -> Iterator[Record]:
    """One record a method: its score on the test rows, seconds, and settings tried."""
    rows = np.arange(len(table.y))
    fitted, tests = train_test_split(
        rows, test_size=0.3, random_state=seed, stratify=table.y if table.classes else None
    )
    X, y, test_X, test_y = table.X.iloc[fitted], table.y[fitted], table.X.iloc[tests], table.y[tests]
    start = time.perf_counter()
    kind = uk.FoldClassifier if table.classes else uk.FoldRegressor
    fold = kind(random_state=seed).fit(X, y)
    seconds = time.perf_counter() - start
    yield {"method": "fold", "score": score(table, fold, test_X, test_y), "seconds": seconds,
           "tried": len(fold.search_), "chosen": fold.search_[0].activation}  # fmt: skip
    for method, new in NEW.items():
        start = time.perf_counter()
        settings = tuned(table, new, X, y, seed, seconds)
        tuning = time.perf_counter() - start
        model = new(table, settings[0], seed).fit(X, y)
        yield {"method": method, "score": score(table, model, test_X, test_y), "seconds": tuning,
               "tried": settings[1]}  # fmt: skip


def tuned(
    table: Table, new: Any, X: Any, y: NDArray[Any], seed: int, seconds: float
) -> tuple[np.random.Generator | None, int]:
    """What draws the best setting of those tried in so many seconds, and how many they were."""
    inner, held = train_test_split(
        np.arange(len(y)), test_size=0.15, random_state=seed, stratify=y if table.classes else None
    )
    start, tried, best = time.perf_counter(), 0, (-np.inf, None)
    while tried == 0 or time.perf_counter() - start < seconds:
        number = None if tried == 0 else tried
        model = new(table, drawn(seed, number), seed).fit(X.iloc[inner], y[inner])
        found = score(table, model, X.iloc[held], y[held])
        best = max(best, (found, number), key=lambda pair: pair[0])
        tried += 1
    return drawn(seed, best[1]), tried


def drawn(seed: int, number: int | None) -> np.random.Generator | None:
    return None if number is None else np.random.default_rng([seed, number])


def summary(records: list[Record]) -> list[Record]:
    """One row a table: scores and seconds of each method, seed by seed, and the mean ranks."""
    rows = []
    for name in NAMES:
        of_table = [r for r in records if r["table"] == name]
        seeds = sorted({r["seed"] for r in of_table})
        by = {(r["seed"], r["method"]): r for r in of_table}
        whole = [seed for seed in seeds if all((seed, m) in by for m in METHODS)]
        if not whole:
            continue
        scores = {m: [by[seed, m]["score"] for seed in whole] for m in METHODS}
        ranks = stats.rankdata([[-scores[m][i] for m in METHODS] for i in range(len(whole))], axis=1)
        rows.append({
            "table": name, "seeds": len(whole), "scores": scores,
            "ranks": dict(zip(METHODS, ranks.mean(0).tolist(), strict=True)),
            "seconds": {m: float(np.median([by[s, m]["seconds"] for s in whole])) for m in METHODS},
            "tried": {m: float(np.median([by[s, m]["tried"] for s in whole])) for m in METHODS},
            "chosen": [by[seed, "fold"]["chosen"] for seed in whole],
        })  # fmt: skip
    return rows


def cell(scores: list[float]) -> str:
    """Mean, with the 95 % interval of Student's t where there are five seeds."""
    middle = float(np.mean(scores))
    if len(scores) < 5:
        return f"{middle:.3f}"
    half = float(stats.t.ppf(0.975, len(scores) - 1) * stats.sem(scores))
    return f"{middle:.3f} [{middle - half:.3f}, {middle + half:.3f}]"


def difference(row: Record, other: str) -> str:
    return cell([a - b for a, b in zip(row["scores"]["fold"], row["scores"][other], strict=True)])


def show(rows: list[Record]) -> None:
    print_table(
        "Accuracy, and R^2 of the last four, on test rows; mean over seeds [95 % interval]",
        ["table", "seeds", *NAMED.values(), "minus trees", "minus MLP",
         "seconds", "trees tried", "MLPs tried"],
        [
            (r["table"], r["seeds"], *(cell(r["scores"][m]) for m in METHODS), difference(r, "trees"),
             difference(r, "mlp"), f"{r['seconds']['fold']:.0f}", f"{r['tried']['trees']:.0f}",
             f"{r['tried']['mlp']:.0f}")
            for r in rows
        ],
    )  # fmt: skip
    means = {m: float(np.mean([r["ranks"][m] for r in rows])) for m in METHODS}
    print(", ".join(f"{NAMED[m]}: mean rank {mean:.2f}" for m, mean in means.items()))


def large(n: int, columns: int) -> Record:
    """Seconds and peak memory of one fit with the defaults, in a process of its own."""
    if "--fit" not in sys.argv:
        command = [sys.executable, __file__, "--fit", str(n), str(columns)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return dict(json.loads(done.stdout))
    from sklearn.datasets import make_classification

    X, y = make_classification(
        n, columns, n_informative=columns // 2, n_classes=5, n_clusters_per_class=4, random_state=0
    )
    start = time.perf_counter()
    uk.FoldClassifier(random_state=0).fit(X, y)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"rows": n, "columns": columns, "seconds": seconds, "peak_gb": peak,
            "threads": torch.get_num_threads()}  # fmt: skip


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, help="of the tables")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--tables", action="store_true", help="of what is done, no new trials")
    parser.add_argument("--scale", action="store_true", help="seconds and memory of large tables")
    parser.add_argument("--fit", type=int, nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    asked = options()
    warnings.filterwarnings("ignore")  # of nets that did not converge while they were tuned
    if asked.fit:
        print(json.dumps(large(*asked.fit)))
        return
    record = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if asked.scale:
        record["scale"] = [large(*size) for size in SIZES]
        print(record["scale"])
    records = [json.loads(line) for line in RAW.read_text().splitlines()] if RAW.exists() else []
    if not asked.tables and not asked.scale:
        done = {(r["table"], r["seed"]) for r in records}
        RAW.parent.mkdir(exist_ok=True)
        for seed in asked.seeds:
            for name in asked.only:
                if (name, seed) not in done:
                    new = [{"table": name, "seed": seed, **r} for r in trial(load(name), seed)]
                    with RAW.open("a") as file:
                        file.writelines(json.dumps(r) + "\n" for r in new)
                    records += new
                    print(name, seed, {r["method"]: round(r["score"], 4) for r in new}, flush=True)
    rows = summary(records)
    if rows:
        show(rows)
    record |= {
        **provenance("python benchmarks/activations/estimators.py"),
        "rows": rows,
    }
    write_text(RESULTS, json.dumps(record, separators=(",", ":")))


if __name__ == "__main__":
    main()
