"""Betti numbers after each layer of a model, before and after training."""

import torch

import unknot as uk

shape = uk.make_shape("rings", pairs=3, n=1500, seed=0)
points, labels = torch.from_numpy(shape.points).float(), torch.from_numpy(shape.labels)
model = uk.activations.init_by_gain(uk.nets.mlp(3, 2, activation=uk.ZFold), uk.ZFold(), seed=0)

with uk.Monitor(model, [(points, labels)], layers=["act*", "out"], max_points=1500) as monitor:
    curve = uk.nets.train(model, points, labels, epochs=20, stop_at=0.99)
    monitor.record(len(curve.train_accuracy))

print(f"true: {dict(shape.betti)}; scale: {monitor.scale} ({monitor.scale.note})")
for row in monitor.profile.rows:
    print(f"epoch {row.epoch}  {row.layer:6} class {row.label}: b0 = {row.b0}, b1 = {row.b1}")
