"""Remove the most tangled filters of a convolution net, fine-tune, and compare."""

import torch

import unknot as uk
from unknot.nets.accuracy import measure_accuracy

digits, test = uk.nets.load_images("digits"), uk.nets.load_images("digits", split="test")
torch.manual_seed(0)
model = uk.nets.cnn(1, 10, batch_norm=True)
uk.nets.train(model, digits.images, digits.labels, epochs=10, learning_rate=3e-3)

scores = uk.score_filters(model, [(digits.images, digits.labels)], criterion="betti")
plan = uk.plan_pruning(model, scores, digits.images[:2], max_betti=100)
slim = uk.prune(model, plan)
uk.nets.train(slim, digits.images, digits.labels, epochs=2)

cost = uk.compare_cost(model, slim, test.images[:64])
for name, net, found in (("before", model, cost.before), ("after", slim, cost.after)):
    hits = measure_accuracy(net, test.images, test.labels)
    print(f"{name}: accuracy {hits:.3f}, {found.parameters} parameters, {found.latency_ms:.2f} ms")
print(cost.verdict)
