"""Betti numbers of a LightningModule's layers, epoch by epoch."""

import warnings

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader, TensorDataset

import unknot as uk
from unknot.integrations.lightning import TopologyCallback

# Lightning's advice on workers, needless for so little data, and on what it calls in torch.
warnings.filterwarnings("ignore", ".*(does not have many workers|LeafSpec)")


class Classifier(pl.LightningModule):
    def __init__(self):
        super().__init__()
        net = uk.nets.mlp(3, 2, activation=uk.ZFold)
        self.net = uk.activations.init_by_gain(net, uk.ZFold(), seed=0)

    def forward(self, points):
        return self.net(points)

    def training_step(self, batch, _):
        points, labels = batch
        return torch.nn.functional.cross_entropy(self(points), labels)

    def validation_step(self, batch, _):
        points, labels = batch
        self.log("val_acc", (self(points).argmax(1) == labels).float().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.01)


def rings(n, seed):
    shape = uk.make_shape("rings", pairs=2, n=n, seed=seed)
    return TensorDataset(torch.from_numpy(shape.points).float(), torch.from_numpy(shape.labels))


pl.seed_everything(0)
callback = TopologyCallback(module="net", layers=["act*", "out"], metric="val_acc", every=5)
trainer = pl.Trainer(
    max_epochs=10,
    callbacks=[callback],
    accelerator="cpu",
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
trainer.fit(
    Classifier(),
    DataLoader(rings(2000, seed=0), batch_size=100, shuffle=True),
    DataLoader(rings(1000, seed=1), batch_size=500),
)

for accuracy in callback.profile.accuracy:
    rows = [r for r in callback.profile.rows if (r.epoch, r.layer) == (accuracy.epoch, "out")]
    betti = ", ".join(f"class {r.label}: b0 = {r.b0}, b1 = {r.b1}" for r in rows)
    print(f"epoch {accuracy.epoch:2}  accuracy {accuracy.probe:.2f}  out {betti}")
