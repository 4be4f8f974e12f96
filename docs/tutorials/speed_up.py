# %% [markdown]
# # Speed up training
#
# A *fold* is an activation function that sends several points to one value. Whether it saves epochs on your data is a
# question for a study that tunes every activation alike. Here is a small one, of about half a minute;
# [all options](../howto/study.md) and [the large ones](../convergence.md) are on pages of their own, and
# [this notebook](speed_up.ipynb) can be downloaded.

# %%
import matplotlib.pyplot as plt
import torch

import unknot as uk
from unknot.study.survival import ratio_text

torch.set_num_threads(1)
plt.rcParams |= {"figure.dpi": 120, "font.size": 9}
plt.rcParams |= {"axes.spines.top": False, "axes.spines.right": False}

# %% [markdown]
# ## Four activations
#
# ReLU and tanh are monotone: they bend and squeeze, and what they cannot squeeze they keep apart. `ZFold` is the identity
# within its turns and runs back beyond them. Hardtanh is ZFold's *control*: the same curve, held flat beyond the turns.
# Where the control is as fast, it is not the fold that helped.

# %% alt="The four activation functions as curves: ReLU, tanh and hardtanh are monotone, ZFold turns back at -1 and 1."
x = torch.linspace(-3, 3, 301)
modules = {
    "relu": torch.nn.ReLU(),
    "tanh": torch.nn.Tanh(),
    "hardtanh": torch.nn.Hardtanh(),
    "zfold": uk.ZFold(),
}
figure, axes = plt.subplots(figsize=(4.2, 2.6), layout="constrained")
for (name, module), line in zip(modules.items(), ("-", "--", ":", "-."), strict=True):
    axes.plot(x, module(x), label=name, linestyle=line, linewidth=2)
axes.set(xlabel="x", ylabel="f(x)")
axes.legend(frameon=False)
plt.show()

# %% [markdown]
# ## The study
#
# Linked rings, an MLP of six hidden layers. The same grid of learning rate and gain for everyone; the cell is chosen on
# seeds that are not reported, then fresh seeds are run on it. What has not arrived by the cap is *not reached*, never a
# number; the cap of six epochs is short, so that this page shows what that looks like.

# %%
shape = uk.make_shape("rings", pairs=4, n=1600, seed=0)
points, labels = torch.from_numpy(shape.points).float(), torch.from_numpy(shape.labels)
study = uk.Study("study.sqlite")
study.run(
    {"rings": (points, labels)},
    list(modules),
    seeds=5,
    epochs=6,
    learning_rates=[1e-3, 3e-3, 1e-2],
    gains=[1.0, 2.0],
    selection_seeds=1,
)
for row in study.summary([0.99]):
    median = "not reached" if row.median is None else f"{row.median:.2f}"
    cell = f"rate {row.learning_rate:g}, gain {row.gain:g}"
    reached = f"{row.reached} of {row.seeds} seeds arrive"
    print(f"{row.activation:9} {cell:20} {reached}, median {median}")

# %% alt="A strip an activation: one mark a seed at its epochs to 99 % train accuracy, those not reached in a grey band, medians as upright lines."
study.plot(target=0.99)
plt.show()

# %% [markdown]
# *Upright lines: medians over the seeds, a censored one counting as longer than the cap; none where the median itself is
# not reached. Marks: seeds.*
#
# The same as survival curves (Kaplan and Meier): the share of seeds that have not arrived yet.

# %% alt="Kaplan-Meier curves: the share of seeds not yet at 99 %, against epochs, one line an activation."
study.plot(target=0.99, kind="survival")
plt.show()

# %% [markdown]
# ## How many times fewer epochs?
#
# The ratio of medians against a baseline with a 95 % interval by a bootstrap over seeds, and a log-rank test with Holm's
# correction. `>=` marks a lower bound: the baseline was not reached, and its cap stands for it.

# %%
for baseline in ("relu", "hardtanh"):
    for row in study.compare(baseline, [0.99]):
        if row.activation == "zfold":
            fewer = f"{ratio_text(row.result)} times fewer epochs"
            print(f"zfold against {baseline}: {fewer}, p = {row.result.p_holm:.3f}")

# %% [markdown]
# Five seeds and one selection seed are few; ten seeds on eight sets, with fifteen baselines, are in
# [epochs to target](../convergence.md). There the best baselines are EUAF, PEUAF, GCU and the sine, which fold too.
#
# ## Into a model that you have
#
# `replace_activations` swaps them, `init_by_gain` draws weights that keep the second moment from layer to layer. The second
# line matters as much as the first: a fold at torch's default initialisation sees inputs too small to reach its turns.

# %%
model = torch.nn.Sequential(torch.nn.Linear(3, 50), torch.nn.ReLU(), torch.nn.Linear(50, 2))
model = uk.replace_activations(model, uk.ZFold, where=torch.nn.ReLU)
model = uk.activations.init_by_gain(model, uk.ZFold(), seed=0)
print(model)
gains = [uk.activations.gain(one) for one in (uk.ZFold(), torch.nn.ReLU())]
print(f"gain of ZFold: {gains[0]:.3f}, of ReLU: {gains[1]:.3f}")

# %% [markdown]
# ## When not to
#
# On convolution nets with batch normalisation folds reach the train accuracy sooner and not the test accuracy; on easy
# data they save epochs that cost seconds: [which activation should I use?](../which_activation.md) And faster is not simpler:
# the Betti numbers of the layers [do not fall sooner](../convergence.md) with folds.
