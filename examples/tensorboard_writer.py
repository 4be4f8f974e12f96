"""Betti numbers of a training in TensorBoard, and read back from the event file."""

import tempfile

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import unknot as uk
from unknot.integrations.tensorboard import TensorBoardWriter

shape = uk.make_shape("rings", pairs=2, n=1000, seed=0)
points, labels = torch.from_numpy(shape.points).float(), torch.from_numpy(shape.labels)
model = uk.activations.init_by_gain(uk.nets.mlp(3, 2, activation=uk.ZFold), uk.ZFold(), seed=0)

with tempfile.TemporaryDirectory() as folder:  # e.g. "runs/rings", for tensorboard --logdir runs
    with (
        TensorBoardWriter(folder) as writer,
        uk.Monitor(model, [(points, labels)], layers="act*", on_record=[writer]) as monitor,
    ):
        uk.nets.train(model, points, labels, epochs=4, on_epoch=monitor.record)
    events = EventAccumulator(folder)
    events.Reload()
    for tag in ("topology/act6/b0/0", "topology/act6/b1/0", "topology/probe_accuracy"):
        print(tag, [(event.step, round(event.value, 2)) for event in events.Scalars(tag)])
