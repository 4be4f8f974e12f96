# %% [markdown]
# # Shrink a network
#
# A convolution net that reads handwritten digits loses three quarters of its multiply-accumulates (MACs): the filters that
# its later layers can best do without go, and what is left is fitted anew, in closed form. The result is saved, loaded and
# run in ONNX Runtime. [All options](../howto/prune.md) are on a page of their own, and [this notebook](shrink.ipynb) can be
# downloaded.

# %%
import copy

import matplotlib.pyplot as plt
import onnxruntime
import torch

import unknot as uk
from unknot.nets.accuracy import measure_accuracy
from unknot.nets.data import LabelledData
from unknot.pruning import Budget, Recipe, compare_criteria

torch.set_num_threads(1)
torch.manual_seed(0)
plt.rcParams |= {"figure.dpi": 120, "font.size": 9}
plt.rcParams |= {"axes.spines.top": False, "axes.spines.right": False}

# %%
digits, test = uk.nets.load_images("digits"), uk.nets.load_images("digits", split="test")


def net():
    return uk.nets.cnn(1, 10, widths=(32, 64, 64), batch_norm=True)


model = net()
uk.nets.train(model, digits.images, digits.labels, epochs=8, learning_rate=3e-3)
before = measure_accuracy(model, test.images, test.labels)
print(f"{before:.2%} of {len(test.labels)} test images read rightly")

# %% [markdown]
# ## In one call
#
# Filters are chosen and weights refitted on the first set of images; accuracy is that of the second.

# %%
shrunk = uk.shrink(model, (digits, test), macs=0.75)
print(shrunk)

# %% alt="Three panels: the accuracy before, as pruned and refitted; parameters, MACs, bytes and time left, as shares; a bar a layer of the filters that stay and go."
shrunk.plot()
plt.show()

# %% [markdown]
# *Timed on a machine that was busy with other work: the last line above says what the latencies are worth. Time on an idle
# one.* Fewer MACs are not always less time in any case, as a small net spends its time in calling operations.
#
# `shrunk.model` is an ordinary, smaller module; the original stays as it was. The rest of this page shows the steps of that
# call one by one.
#
# ## Which filters can be spared?
#
# The default criterion, `elder-surgeon`, asks of each filter what the layers that read it lose once they are refitted to do
# without it, times its distance to the nearest filter that costs more. It needs samples, no labels and no gradients.
# [All criteria](../criteria.md).

# %% alt="The scores of the filters of three layers, sorted within each layer; orange crosses mark those that go."
shrunk.scores.plot(removed=shrunk.plan.removed)
plt.show()

# %% [markdown]
# ## How much from which layer?
#
# Each layer is cut alone to several widths, the rest of the net is refitted, and the loss is how far the outputs move on
# images that the refit did not see. The widths that lose least together, at the MACs asked for, are taken.

# %% alt="The loss over the width that is left, a line a layer."
loader = [(digits.images, digits.labels)]
curves = uk.pruning.measure_curves(model, shrunk.scores, loader)
curves.plot()
plt.show()

# %% [markdown]
# ## What the refit does
#
# The plan alone makes the net smaller. Without labels or training, the refit then gives each layer that lost inputs the
# weights with which it best reproduces what it returned before.

# %%
pruned = uk.prune(model, shrunk.plan)
slim = uk.prune(model, shrunk.plan, refit=loader)
tuned = copy.deepcopy(slim)
uk.nets.train(tuned, digits.images, digits.labels, epochs=2)
stages = {"before": model, "as pruned": pruned, "refitted": slim, "two epochs more": tuned}
for name, stage in stages.items():
    print(f"{name:16} {measure_accuracy(stage, test.images, test.labels):.2%}")

# %% [markdown]
# ## Against other criteria
#
# No criterion wins everywhere, so compare on your own net, `random` among them. All are pruned at the same budgets and
# refitted alike.

# %% alt="Test accuracy against the share of MACs left for elder-surgeon, taylor, l1 and random, each refitted."
data = LabelledData("digits", digits.images, digits.labels, test.images, test.labels)
recipe = Recipe(Budget(macs=0.75), criterion="elder-surgeon")
baselines = compare_criteria(model, data, recipe, shares=(0.5, 0.75, 0.9, 0.95), seconds=600)
axes = baselines.plot()
axes.axhline(before, color="0.5", linestyle=":", linewidth=1)
plt.show()

# %% [markdown]
# *Dotted: the original. One net and one seed; `random` is one draw. Several nets and sets are in [pruning](../pruning.md).*
#
# ## The artifact
#
# Weights as safetensors, the plan with a reason for each filter, a card for people, and `program.pt2`, which torch runs
# without unknot. Loading prunes what the factory makes by the plan and reads the weights into it; nothing is unpickled.

# %%
uk.save_pruned(slim, shrunk.plan, "model/")
loaded = uk.load_pruned(net, "model/")
same = torch.equal(loaded(test.images), slim(test.images))
print("the loaded model computes the same:", same)
plan = shrunk.plan
first = next(iter(plan.removed))
print(f"why filter {plan.removed[first][0]} of {first} went: {plan.reasons[first][0]}")

# %% [markdown]
# ## In ONNX Runtime
#
# `export_onnx` writes one file with a free batch size, and puts it in place only where ONNX Runtime agrees with torch on
# fresh inputs.

# %%
report = uk.export_onnx(slim, test.images[:2], "model.onnx")
for parity in report.parity:
    found = f"outputs differ by at most {parity.relative:.1e} of the largest"
    print(f"batch {parity.batch_size:2}: {found}")
session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
(outputs,) = session.run(None, {session.get_inputs()[0].name: test.images.numpy()})
right = (outputs.argmax(1) == test.labels.numpy()).mean()
print(f"{right:.2%} of the test images read rightly by {report.file}")

# %% [markdown]
# The command does all of this, with fine-tuning and a report around it: `unknot prune --model mine:net --data mine:data
# --macs 0.75 --finetune 3 --onnx --out pruned/`. See [how to prune](../howto/prune.md), and
# [what a threshold on Betti numbers means](../howto/prune.md#what-a-threshold-means) before you use one.
