"""Half of a convolution net's multiply-accumulates removed, the rest refitted, no training."""

import torch

import unknot as uk

digits, test = uk.nets.load_images("digits"), uk.nets.load_images("digits", split="test")
torch.manual_seed(0)
model = uk.nets.cnn(1, 10, batch_norm=True)
uk.nets.train(model, digits.images, digits.labels, epochs=10, learning_rate=3e-3)

shrunk = uk.shrink(model, (digits, test), macs=0.5)
print(shrunk)  # accuracy, filters, parameters, MACs, bytes, latency: before and after
print(shrunk.model)  # convolutions with fewer channels; the old model is untouched
