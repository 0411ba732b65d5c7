# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Search on ground truth
#
# A search scores networks on the shared weights of a [supernet](../glossary.md#supernet). Are its answers truly good?
# Where every network of a space was trained by itself, a table of their accuracies tells. This notebook first shows the
# records of such a judgement on NAS-Bench-Macro. Then it trains a small ground truth of its own and searches on it. It
# takes two minutes on a CPU, and no download. It needs a checkout of the repository.
#
# This page is the executed notebook [truth.py](truth.py). Jupyter opens that file where
# [jupytext](https://jupytext.readthedocs.io) is installed.

# %%
import itertools
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from sgnas_zoo.extras import missing

if told := missing("This notebook", ["matplotlib", "accelerate", "datasets", "scipy"], "recipes"):
    sys.exit(told)

import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image
from scipy.stats import kendalltau

import sgnas_zoo
from sgnas_zoo.costs import COSTS, native_conditions

CHECKOUT = next(folder for folder in (Path.cwd(), *Path.cwd().parents) if (folder / "hub_cards").is_dir())
WORK = Path(tempfile.mkdtemp(prefix="truth-"))

# %% [markdown]
# ## NAS-Bench-Macro
#
# The authors of [NAS-Bench-Macro](https://arxiv.org/abs/2103.11922) trained all 6,561 networks of their space on
# CIFAR-10. The package has the space: `nas_bench_macro`. The repository has records of what the table says of our
# supernet and of our searches.
#
# The first record has 500 random networks, each with inherited and with true top-1.

# %%
ranking = json.loads((CHECKOUT / "hub_cards/nas_bench_macro_supernet/ranking.json").read_text())
true, inherited, macs = ([row[name] for row in ranking["rows"]] for name in ("true_top1", "top1", "macs"))
print(f"Kendall tau of inherited and true top-1: {kendalltau(inherited, true).statistic:.2f}")
print(f"Kendall tau of MACs and true top-1: {kendalltau(macs, true).statistic:.2f}")

# %% [markdown]
# The second record has the answers of six strategies to 13 budgets, with three seeds. *Regret* is how many points an
# answer lies behind the best network within the budget.

# %%
record = json.loads((CHECKOUT / "hub_cards/nas_bench_macro_comparison/comparison.json").read_text())
strategies = list(dict.fromkeys(row["strategy"] for row in record["rows"]))
for strategy in strategies:
    regrets = [row["regret"] for row in record["rows"] if row["strategy"] == strategy]
    print(f"{strategy:10} mean regret {np.mean(regrets):.2f} points over {len(regrets)} searches")


# %%
def draw_front(axes, front):
    macs, top1 = zip(*front, strict=True)
    axes.step(np.array(macs) / 1e6, top1, where="post", color="black", label="true front")


def draw_answers(axes, rows):
    for strategy, marker in zip(dict.fromkeys(row["strategy"] for row in rows), "os^DvP", strict=False):
        found = [(row["macs"] / 1e6, row["true_top1"]) for row in rows if row["strategy"] == strategy]
        axes.plot(*zip(*found, strict=True), marker, label=strategy, fillstyle="none")
    axes.set_xlabel("M MACs")
    axes.legend(fontsize=8)


figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6))
left.scatter(inherited, true, s=6)
left.set(xlabel="inherited top-1, %", ylabel="true top-1, %", title="500 random networks")
draw_front(right, record["truth"]["front"])
draw_answers(right, record["rows"])
right.set(ylim=(80, 93.5), title="answers of six strategies")
figure.tight_layout()
plt.show()

# %% [markdown]
# The supernet ranks networks worse than their MACs do, and `generator` and `additive` are nearest to the front. The
# record has one generator, which answers the same for every seed; over three generators the mean is 0.47.
# [Results](../results.md#judged-by-true-accuracies-nas-bench-macro) has the errors, and says what follows.
#
# ## A ground truth of my own
#
# The rest runs here. The space has the blocks of NAS-Bench-Macro and three layers, so it has 27 networks. It is a
# module, so that recipes can import it too.

# %%
MODULE = """
from dataclasses import replace

from sgnas_zoo.spaces import SPACES, Row

ROWS = (Row(16, 2, 1), Row(24, 2, 2))  # out channels, stride, layers
SPACE = replace(SPACES["nas_bench_macro"], name="macro_27", rows=ROWS, stem_stride=2, resolution=16, num_classes=4)
SPACES.register(SPACE.name, SPACE)
"""
(WORK / "macro_27.py").write_text(MODULE)
sys.path.append(str(WORK))
from macro_27 import SPACE

print(SPACE.size, "networks, at", SPACE.resolution, "px")

# %% [markdown]
# The images are four patterns in strong noise, which small networks find hard to tell apart.

# %%
rng = np.random.default_rng(0)
NAMES = ("checks", "columns", "dots", "rows")


def draw(name):
    period, shift = rng.uniform(4, 7), rng.uniform(0, 7, (2, 1, 1))
    waves = np.sin(2 * np.pi * (np.indices((16, 16)) + shift) / period)
    pattern = {"rows": waves[0], "columns": waves[1], "checks": waves[0] * waves[1], "dots": np.minimum(*waves)}[name]
    pixels = 128 + pattern[..., None] * rng.uniform(-60, 60, 3) + rng.normal(0, 35, (16, 16, 3))
    return pixels.clip(0, 255).astype(np.uint8)


def make(split, count):
    images = {name: [draw(name) for _ in range(count)] for name in NAMES}
    for name in NAMES:
        folder = WORK / "patterns" / split / name
        folder.mkdir(parents=True)
        for number, pixels in enumerate(images[name]):
            Image.fromarray(pixels).save(folder / f"{number}.png")
    stacked = torch.tensor(np.concatenate([images[name] for name in NAMES])).permute(0, 3, 1, 2)
    return stacked / 127.5 - 1, torch.arange(len(NAMES)).repeat_interleave(count)


train, test = make("train", 120), make("test", 200)

# %% [markdown]
# Every network is trained from scratch and measured on the test split.


# %%
def trained_top1(arch, epochs=4):
    torch.manual_seed(0)
    model = sgnas_zoo.create_model(space=SPACE.name, arch=str(arch))
    optimizer = torch.optim.SGD(model.parameters(), momentum=0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, epochs * 12)
    for _ in range(epochs):
        for batch in torch.randperm(len(train[1])).chunk(12):
            loss = torch.nn.functional.cross_entropy(model(train[0][batch]), train[1][batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        return 100 * (model.eval()(test[0]).argmax(1) == test[1]).double().mean().item()


# %% [markdown]
# The table has the format that `truth=` reads: top-1 of each run, parameters and MACs.

# %% tags=["varies"]
costs = {name: COSTS[name].table(SPACE, native_conditions(SPACE, form="search")) for name in ("macs", "params")}
archs = [SPACE.parse("".join(picks)) for picks in itertools.product("012", repeat=3)]
truth = {
    str(arch): {"top1": [trained_top1(arch)], **{name: round(float(costs[name].measure(arch))) for name in costs}}
    for arch in archs
}
(WORK / "truth.json").write_text(json.dumps(truth))
for arch in sorted(truth, key=lambda arch: truth[arch]["top1"])[:: len(truth) // 4]:
    print(f"{arch}: {truth[arch]['macs'] / 1e6:.2f}M MACs, {truth[arch]['top1'][0]:.1f} %")

# %% [markdown]
# ## Search
#
# The searches do not see the table. They see a supernet, trained by `recipes/train_supernet.py`, and a part of `train`
# that was held out.

# %%
settings = "--space macro_27 --import macro_27 --holdout 0.3 --epochs 40 --batch-size 40 --crop pad --workers 0"
command = [sys.executable, CHECKOUT / "recipes/train_supernet.py", "--dataset", "patterns", "--output", "supernet"]
done = subprocess.run([*command, *settings.split()], cwd=WORK, text=True, capture_output=True)
if done.returncode:
    sys.exit(done.stderr.strip().splitlines()[-1])

# %% [markdown]
# `compare_strategies` lets each strategy answer the same budgets, and judges the answers by the table.

# %% tags=["varies"]
STRATEGIES = ["random", "evolution", "additive"]
spread = np.linspace(float(costs["macs"].minimum), float(costs["macs"].maximum), 5)
compared = sgnas_zoo.compare_strategies(
    SPACE.name, STRATEGIES, spread[1:4].tolist(), WORK / "patterns", supernets={"": WORK / "supernet"},
    truth=WORK / "truth.json", population=4, generations=1, paths=12, images=120, seeds=(0, 1), workers=0,
)  # fmt: skip
for strategy in STRATEGIES:
    rows = [row for row in compared["rows"] if row["strategy"] == strategy]
    print(f"{strategy:10} mean regret {np.mean([row['regret'] for row in rows]):5.2f} points over {len(rows)} searches")

# %% tags=["varies"]
figure, axes = plt.subplots(figsize=(6, 3.6))
macs, top1 = zip(*[(row["macs"] / 1e6, row["top1"][0]) for row in truth.values()], strict=True)
axes.scatter(macs, top1, s=12, color="grey", label="all 27 networks")
draw_front(axes, compared["truth"]["front"])
draw_answers(axes, compared["rows"])
axes.set_ylabel("true top-1, %")
plt.show()

# %% [markdown]
# A network was trained once here, and is measured on 800 images: a difference of three points or less may be chance.
# The regrets are large: this supernet was trained for seconds, and it misleads every search. Only the table tells.
# More `--epochs` cost more time.
#
# ## All of NAS-Bench-Macro
#
# The same call judges searches on the whole benchmark. Its authors publish their table as
# `nas-bench-macro_cifar10.json` in the repository `xiusu/NAS-Bench-Macro` on GitHub. These lines turn it into ours;
# they were not run for this page:
#
# ```text
# table = json.loads(Path("nas-bench-macro_cifar10.json").read_text())
# ours = {arch: {"top1": row["test_acc"], "params": row["params"], "macs": row["flops"]} for arch, row in table.items()}
# Path("nas_bench_macro.json").write_text(json.dumps(ours))
# ```
#
# [Search and compare](../search.md#judge-by-true-accuracies) has the command. It takes a table whose accuracies are in
# percent and whose costs are as we count them, and refuses any other.
