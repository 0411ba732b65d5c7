# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A network for my budget
#
# You state a budget, and you get a network that keeps it. This notebook shows what budgets buy, draws the front of a
# search space, and lets a network name pictures. It takes half a minute on a CPU, and no download.
#
# This page is the executed notebook [budget.py](budget.py). Jupyter opens that file where
# [jupytext](https://jupytext.readthedocs.io) is installed.

# %%
import sys

from sgnas_zoo.extras import missing

if told := missing("This notebook", ["matplotlib", "accelerate", "datasets"], "recipes"):
    sys.exit(told)

import matplotlib.pyplot as plt
import torch

import sgnas_zoo
from sgnas_zoo.zoo import ARTIFACTS

# %% [markdown]
# ## What budgets buy
#
# `generate` answers with architectures and their costs. It builds no model. One pass of the
# [generator](../glossary.md#generator) answers all budgets. FLOPs are counted as
# [MACs](../glossary.md#macs).

# %%
print("budget, M MACs  achieved  parameters  memory, KB  flash, KB  architecture")
for network in sgnas_zoo.generate(space="sgnas_micro", flops=[2e6, 3e6, 4e6, 6e6, 8e6]):
    memory, flash = (network.costs[name] / 1000 for name in ("memory_bytes", "flash_bytes"))
    budget, macs = network.requested["flops"] / 1e6, network.macs / 1e6
    print(f"{budget:14.1f}{macs:10.3f}{network.params:12,}{memory:12.1f}{flash:11.1f}  {network.arch}")

# %% [markdown]
# [Budgets](../budgets.md) combine. Here the flash binds, and fewer MACs are spent.

# %%
network = sgnas_zoo.generate(space="sgnas_micro", flops=6e6, flash="200KB")[0]
print(f"{network.macs / 1e6:.3f}M MACs, {network.costs['flash_bytes'] / 1000:.1f} KB flash")

# %% [markdown]
# A budget that no network of the space keeps is an error. The error says what to ask for.

# %%
try:
    sgnas_zoo.generate(space="sgnas_micro", flops=1e6)
except sgnas_zoo.errors.BudgetError as error:
    print(error)

# %% [markdown]
# ## The front
#
# A front answers budgets over the whole range. Accuracies are predicted: they are interpolated between networks that
# were measured on the test split of CIFAR-10, with weights of the supernet. The smallest and the largest network lie
# outside that record, so they have none.

# %%
front = sgnas_zoo.generate_front("sgnas_micro", pretrained=True, points=20)
known = [point for point in front["points"] if point["predicted_top1"] is not None]
knee = front["points"][front["knee"]]
print(f"The knee has {knee['macs'] / 1e6:.2f}M MACs and {knee['predicted_top1']:.1f} % predicted top-1.")

# %%
macs, top1 = ([point[name] for point in known] for name in ("macs", "predicted_top1"))
figure, axes = plt.subplots(figsize=(6, 3.5))
axes.plot([each / 1e6 for each in macs], top1, "o-", label="generated")
axes.plot(knee["macs"] / 1e6, knee["predicted_top1"], "s", markersize=11, fillstyle="none", color="black", label="knee")
axes.set(xlabel="M MACs", ylabel="predicted top-1, %", title="sgnas_micro, 32 px, CIFAR-10")
axes.legend()
plt.show()

# %% [markdown]
# ## A model with weights
#
# `create_model` builds the network. With `pretrained=True` it inherits trained [weights](../weights.md), which come
# with the package. The record of the model says what it is.

# %%
model = sgnas_zoo.create_model(space="sgnas_micro", flops=knee["requested"], pretrained=True).eval()
print(type(model).__name__, model.zoo["arch"])
for name in ("requested", "macs", "params", "dataset", "weights"):
    print(f"{name}: {model.zoo[name]}")

# %% [markdown]
# ## What it sees
#
# The supernet brings 512 training images, which calibrate the batch norm of its networks. Eight of them serve as
# pictures here. The weights were trained on them, so this says nothing about their accuracy.

# %%
images = sgnas_zoo.load_supernet(ARTIFACTS / "sgnas_micro_supernet").calibration[:8]
mean, std = (torch.tensor(model.pretrained_cfg[name]).view(3, 1, 1) for name in ("mean", "std"))
with torch.no_grad():
    probabilities = model((images / 255 - mean) / std).softmax(1)

# %%
figure, axes = plt.subplots(2, 4, figsize=(6.5, 3.6))
for place, image, shares in zip(axes.flat, images, probabilities, strict=True):
    place.imshow(image.permute(1, 2, 0))
    place.set_title(f"{model.pretrained_cfg['label_names'][shares.argmax()]}, {shares.max():.0%}", fontsize=10)
    place.axis("off")
plt.show()

# %% [markdown]
# ## What next
#
# The model is an ordinary timm model: [fine-tune](../fine-tuning.md) it, export it, or save it with
# `sgnas_zoo.save_model(model, "FOLDER", weights="inherited")`. For budgets in milliseconds, measure
# [your device](../latency.md) first. The next notebook goes [from your own images to an int8 file](images.md).
