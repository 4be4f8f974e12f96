"""A pruned and refitted convolution net as an ONNX file, run without torch's kernels."""

import tempfile
from pathlib import Path

import onnxruntime
import torch

import unknot as uk

digits, test = uk.nets.load_images("digits"), uk.nets.load_images("digits", split="test")
torch.manual_seed(0)
model = uk.nets.cnn(1, 10, batch_norm=True)
uk.nets.train(model, digits.images, digits.labels, epochs=10, learning_rate=3e-3)

loader = [(digits.images, digits.labels)]
scores = uk.score_filters(model, loader, criterion="elder-surgeon")
slim = uk.prune(model, uk.plan_pruning(model, scores, digits.images[:2], macs=0.5), refit=loader)

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "model.onnx"
    report = uk.export_onnx(slim, test.images[:2], path)
    print(f"{report.bytes:,} bytes, opset {report.opset}")
    print(f"outputs differ by at most {report.worst:.1e}")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    (outputs,) = session.run(None, {name: test.images.numpy()})  # any batch size
    print(f"accuracy in ONNX Runtime: {(outputs.argmax(1) == test.labels.numpy()).mean():.3f}")
