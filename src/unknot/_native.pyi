from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

Real = NDArray[np.floating[Any]]
Rows = NDArray[np.uint64]
Csr = tuple[NDArray[np.int64], NDArray[np.int32]]

class EngineInfo(TypedDict):
    variant: str
    variants: list[str]
    threads: int
    compiler: str

def rows_from_points(
    points: Real, radius: float, *, threads: int = 1, time_budget_s: float = 0.0, memory_limit: int = 0
) -> Rows: ...
def rows_from_distances(
    distances: Real,
    radius: float,
    share: float = 0.0,
    *,
    threads: int = 1,
    time_budget_s: float = 0.0,
    memory_limit: int = 0,
) -> tuple[Rows, tuple[float, float, float, float, float, bool]]: ...
def betti_rows(
    rows: Rows, max_dim: int = 1, *, time_budget_s: float = 0.0, memory_limit: int = 0
) -> tuple[int, ...]: ...
def betti_csr(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    max_dim: int = 1,
    *,
    time_budget_s: float = 0.0,
    memory_limit: int = 0,
) -> tuple[int, ...]: ...
def betti_batch_points(
    clouds: Sequence[Real],
    radii: Sequence[float],
    max_dim: int = 1,
    *,
    threads: int = 0,
    time_budget_s: float = 0.0,
    memory_limit: int = 0,
) -> list[tuple[int, ...]]: ...
def betti_batch_knn(
    clouds: Sequence[Real],
    k: int,
    hops: int,
    max_dim: int = 1,
    *,
    threads: int = 0,
    time_budget_s: float = 0.0,
    memory_limit: int = 0,
) -> list[tuple[int, ...]]: ...
def knn_edges(points: Real, k: int, *, threads: int = 1, time_budget_s: float = 0.0) -> Csr: ...
def nearest(points: Real, k: int, *, threads: int = 1) -> NDArray[np.int32]: ...
def find_islands(
    clouds: Sequence[Real], k: int, z: float, *, threads: int = 0
) -> list[tuple[NDArray[np.int64], NDArray[np.float64], float]]: ...
def spanning_tree(points: Real, near: NDArray[np.int32], *, threads: int = 1) -> NDArray[np.int32]: ...
def untangle(
    points: Real,
    parts: NDArray[np.int32],
    k: int,
    z: float,
    *,
    nearest: int,
    tree: bool,
    threads: int = 1,
) -> list[
    tuple[tuple[NDArray[np.int64], NDArray[np.float64], float], NDArray[np.int32], NDArray[np.int32]]
]: ...
def hop_rows(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    hops: int,
    *,
    threads: int = 1,
    time_budget_s: float = 0.0,
    memory_limit: int = 0,
) -> Rows: ...
def hop_csr(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    hops: int,
    *,
    threads: int = 1,
    time_budget_s: float = 0.0,
) -> Csr: ...

class Fold:
    def forward(self, x: int, y: int, n: int, threads: int) -> None: ...
    def backward(self, grad: int, y: int, out: int, n: int, threads: int) -> None: ...

class ZFold(Fold):
    def __init__(self, slope: float, turn: float) -> None: ...

class QFold(Fold):
    def __init__(self, frequency: float, height: float) -> None: ...

def engine_info() -> EngineInfo: ...
def use_variant(name: str) -> None: ...
