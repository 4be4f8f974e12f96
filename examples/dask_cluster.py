"""A study on a Dask cluster: two workers here; elsewhere, your scheduler's address."""

import torch
from distributed import LocalCluster

import unknot as uk


def main() -> None:
    shape = uk.make_shape("rings", pairs=2, n=1200, seed=0)
    points, labels = torch.tensor(shape.points).float(), torch.tensor(shape.labels)
    study = uk.Study("study.sqlite")
    # One thread a worker: a task sets the threads and seeds of its process.
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster:
        study.run(
            {"rings": (points, labels)},
            ["relu", "zfold"],
            seeds=3,
            epochs=20,
            learning_rates=[3e-3],
            gains=[1.0],
            cluster=cluster.scheduler_address,
        )
    for row in study.summary([0.95]):
        reached = f"{row.reached} of {row.seeds} seeds"
        print(f"{row.activation}: {reached}, median {row.median} epochs")


if __name__ == "__main__":
    main()
