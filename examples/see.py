"""Betti numbers after each layer of a model, before and after training."""

import torch

import unknot as uk

shape = uk.make_shape("rings", pairs=3, n=1500, seed=0)
points, labels = torch.from_numpy(shape.points).float(), torch.from_numpy(shape.labels)
model = uk.activations.init_by_gain(uk.nets.mlp(3, 2, activation=uk.ZFold), uk.ZFold(), seed=0)

settings = {"layers": ["act*", "out"], "max_points": 1500}
before = uk.measure(model, [(points, labels)], **settings)
uk.nets.train(model, points, labels, epochs=20, stop_at=0.99)
after = uk.measure(model, [(points, labels)], scale=before.scale, **settings)

print(f"true: {dict(shape.betti)}; scale: {before.scale} ({before.scale.note})")
for old, new in zip(before.rows, after.rows, strict=True):
    change = f"b0 = {old.b0} -> {new.b0}, b1 = {old.b1} -> {new.b1}"
    print(f"{new.layer:6} class {new.label}: {change}")
