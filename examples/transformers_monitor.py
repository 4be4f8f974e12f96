"""Betti numbers of a Hugging Face image classifier's stages, epoch by epoch."""

import tempfile

import torch
from transformers import (
    ResNetConfig,
    ResNetForImageClassification,
    Trainer,
    TrainingArguments,
    set_seed,
)

from unknot.integrations.transformers import TopologyCallback


def stripes(n, seed):
    """Noisy images: the stripes of class 0 stand upright, those of class 1 lie."""
    generator = torch.Generator().manual_seed(seed)
    wave = torch.sin(torch.arange(16) + 6.28 * torch.rand(n, 1, generator=generator))
    images = wave[:, None, None, :].expand(n, 3, 16, 16).clone()
    images[1::2] = images[1::2].transpose(2, 3)
    images += 0.3 * torch.randn(images.shape, generator=generator)
    return [{"pixel_values": image, "labels": i % 2} for i, image in enumerate(images)]


set_seed(0)
sizes = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
model = ResNetForImageClassification(ResNetConfig(**sizes, num_labels=2))
train, held_out = stripes(400, seed=1), stripes(200, seed=2)

callback = TopologyCallback(held_out, layers="*.stages.?", metric="eval_loss")
with tempfile.TemporaryDirectory() as folder:
    args = TrainingArguments(
        folder,
        num_train_epochs=3,
        eval_strategy="epoch",
        save_strategy="no",
        learning_rate=1e-3,
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
    )
    data = {"train_dataset": train, "eval_dataset": held_out}
    Trainer(model, args, **data, callbacks=[callback]).train()

for row in callback.profile.rows:
    print(f"epoch {row.epoch}  {row.layer:24} class {row.label}: b0 = {row.b0}, b1 = {row.b1}")
