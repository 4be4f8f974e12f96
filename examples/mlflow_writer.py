"""Betti numbers of a training in an MLflow run, and read back from its store."""

import os
import tempfile
from pathlib import Path

# mlflow-skinny keeps runs in a folder; with mlflow itself, or a server, this line can go.
os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"

import mlflow
import torch

import unknot as uk
from unknot.integrations.mlflow import MlflowWriter

shape = uk.make_shape("rings", pairs=2, n=1000, seed=0)
points, labels = torch.from_numpy(shape.points).float(), torch.from_numpy(shape.labels)
model = uk.activations.init_by_gain(uk.nets.mlp(3, 2, activation=uk.ZFold), uk.ZFold(), seed=0)

with tempfile.TemporaryDirectory() as folder:
    mlflow.set_tracking_uri((Path(folder) / "store").as_uri())
    with (
        mlflow.start_run() as run,
        MlflowWriter(artifact=True) as writer,
        uk.Monitor(model, [(points, labels)], layers="act*", on_record=[writer]) as monitor,
    ):
        uk.nets.train(model, points, labels, epochs=4, on_epoch=monitor.record)
    client = mlflow.MlflowClient()
    for name in ("topology/act6/b0/0", "topology/act6/b1/0", "topology/probe_accuracy"):
        history = client.get_metric_history(run.info.run_id, name)
        print(name, [(metric.step, round(metric.value, 2)) for metric in history])
    print("parameters:", client.get_run(run.info.run_id).data.params)
    path = client.download_artifacts(run.info.run_id, "profile.json", folder)
    print("profile.json holds epochs", uk.profiles.read_profile(path).epochs())
