# %% [markdown]
# # See your own model
#
# A classifier is trained on linked rings, and after every layer we count how many pieces (b0) and loops (b1) are left
# of each class. Takes half a minute on a laptop; [all options](../howto/measure.md) are on a page of their own, and
# [this notebook](see.ipynb) can be downloaded.

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch

import unknot as uk

torch.set_num_threads(1)
plt.rcParams |= {"figure.dpi": 120, "font.size": 9}
plt.rcParams |= {"axes.spines.top": False, "axes.spines.right": False}

# %% [markdown]
# ## Data whose answer is known
#
# Three pairs of linked rings; in each pair one ring is of class 0, the other of class 1. So each class truly has
# b0 = 3 and b1 = 3. As data come, the points are a random part of the rings, with noise.

# %%
shape = uk.make_shape("rings", pairs=3, n=1500, noise=0.04, seed=0)
kept = np.random.default_rng(0).choice(1500, 900, replace=False)
points = torch.from_numpy(shape.points[kept]).float()
labels = torch.from_numpy(shape.labels[kept])
print("true (b0, b1) by class:", dict(shape.betti))

# %% alt="Three pairs of linked rings in space, one ring of each pair in blue, the other in orange."
axes = uk.topology.make_cloud(points, labels).plot()
axes.view_init(elev=18, azim=-35)
axes.tick_params(labelsize=6)
axes.locator_params(nbins=3)
plt.show()

# %% [markdown]
# ## At which scale?
#
# A Betti number is a number at a scale: how near two points must be to count as neighbours. `calibrate` looks for a
# scale at which no class changes its numbers while the scale varies, and knows nothing of the true answer.

# %%
scale = uk.calibrate(points, labels)
print(scale, "|", scale.note)

# %% [markdown]
# `sensitivity` measures a grid of scales around it. The plateau is what makes the scale trustworthy: over it, k can be
# nearly tripled without a change of the answer. To its left loops of noise open and rings stay open, to its right rings
# merge and fill up.

# %% alt="Heat maps of b0 and b1 of both classes: a column a k, a row a class and number of hops; around the boxed scale all are 3."
found = uk.topology.sensitivity(points, labels, scale=scale)
found.plot()
plt.show()

# %% [markdown]
# *In the box: the chosen scale. `found.to_frame()` has the numbers as a pandas DataFrame; so has every result with rows.*
#
# ## After every layer, before and after training
#
# A `Monitor` draws the samples and the scale once, so that the epochs differ by the model alone. Epoch 0 is the
# untrained net: a wide net with random weights can merge components too, and only what differs from it was learnt.

# %%
model = uk.nets.mlp(3, 2)  # six hidden layers of 50
model = uk.activations.init_by_gain(model, torch.nn.ReLU(), seed=0)
with uk.Monitor(
    model, [(points, labels)], layers=["act*", "out"], max_points=900, scale=scale
) as monitor:
    curve = uk.nets.train(model, points, labels, epochs=60, learning_rate=3e-3, stop_at=0.999)
    monitor.record(len(curve.train_accuracy))
profile = monitor.profile
for accuracy in profile.accuracy:
    print(f"epoch {accuracy.epoch}: {accuracy.probe:.1%} of the samples classified rightly")

# %% alt="b0 and b1 of both classes after each layer, dashed before training, solid after it."
profile.plot(kind="betti")
plt.show()

# %% [markdown]
# The untrained net keeps three pieces a class up to the last layers. The trained one merges them earlier, layer by layer,
# down to one. b1 *rises* while it does, because pieces that touch close new loops, and some are left at the logits: a scale
# that is right at the input is not thereby right where a layer has stretched the points. Read
# [what a Betti number means here](../meaning.md) before you publish such a curve.
#
# ## How sure is a number?
#
# `repeats` measures random subsamples of 80 % as well; a row's interval is their range.

# %%
settings = {"layers": ["act3", "act5", "out"], "max_points": 900, "scale": scale}
measured = uk.measure(model, [(points, labels)], repeats=20, **settings)
for row in measured.rows:
    if row.label == 0:
        (low0, high0), (low1, high1) = row.intervals
        print(f"{row.layer:5} b0 = {row.b0} [{low0}, {high0}]   b1 = {row.b1} [{low1}, {high1}]")

# %% [markdown]
# ## Where no scale is determined
#
# Handwritten digits, as pixels: at every k each class is one blob, as noise would be. unknot says so, and then leads with two
# numbers that need no scale: *islands*, the pieces of the cloud over all levels of density, and *tangle*, how far the classes
# are from one piece each (0), where 1 is random labels. [What they mean](../meaning.md).

# %%
digits = uk.nets.load_images("digits")
doubtful = uk.calibrate(digits.images.flatten(1), digits.labels)
print(doubtful, "|", doubtful.note)

# %% alt="A bar a layer of the digits' samples: a block an island, coloured by class; from the input to the output the blocks become purer and tangle falls."
images, digit = digits.images[:700], digits.labels[:700]  # to train on; the rest is measured
model = uk.activations.init_by_gain(uk.nets.cnn(1, 10), torch.nn.ReLU(), seed=0)
unseen = [(digits.images[700:], digits.labels[700:])]
with uk.Monitor(model, unseen, layers=["act*", "out"], by="layer") as monitor:
    uk.nets.train(model, images, digit, epochs=30, learning_rate=3e-3)
    monitor.record(30)
print(uk.profiles.headline(monitor.profile))
monitor.profile.plot()
plt.show()

# %% [markdown]
# ## As a page
#
# One file that opens from disk, with an epoch slider, accuracy beside complexity and every row's scale.

# %%
path = uk.write_report("report.html", profile)
print("report.html written")

# %% [markdown]
# For a model and data of your own, name a function that returns each: `unknot measure --model mine:net --data
# mine:data --report report.html`. [How to measure a model](../howto/measure.md) has the rest: layers, filters, sequences,
# loaders, memory, watching a training.
