# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # From my own images to an int8 file
#
# You have a folder of images, and you get a small, quick file that names them. This notebook fine-tunes a network for a
# budget, exports it in float32 and in int8, and compares both. It takes two minutes on a CPU, and no download. It needs
# a checkout of the repository, for its [recipes](../fine-tuning.md#with-our-recipe).
#
# This page is the executed notebook [images.py](images.py). Jupyter opens that file where
# [jupytext](https://jupytext.readthedocs.io) is installed.

# %%
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from sgnas_zoo.extras import missing

PACKAGES = ["matplotlib", "accelerate", "datasets", "onnx", "onnxscript", "onnxruntime"]
if told := missing("This notebook", PACKAGES, "recipes,onnx"):
    sys.exit(told)

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from sgnas_zoo.api.exported import ExportedModel
from sgnas_zoo.training.classification import classify

# %% [markdown]
# ## The images
#
# The variable `IMAGES` of the environment names your folder. It holds `train` and `test`, and in each one folder per
# class. [Data](../train.md#data) says what else may be in it. Without it, the notebook draws four patterns in noise.

# %%
WORK = Path(tempfile.mkdtemp(prefix="my-images-"))
IMAGES = Path(os.environ.get("IMAGES", WORK / "patterns")).absolute()
rng = np.random.default_rng(0)


def draw(name):
    period, shift = rng.uniform(4, 9), rng.uniform(0, 9, (2, 1, 1))
    waves = np.sin(2 * np.pi * (np.indices((32, 32)) + shift) / period)
    pattern = {"rows": waves[0], "columns": waves[1], "checks": waves[0] * waves[1], "dots": np.minimum(*waves)}[name]
    pixels = 128 + pattern[..., None] * rng.uniform(-60, 60, 3) + rng.normal(0, 40, (32, 32, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


if "IMAGES" not in os.environ:
    for split, count in {"train": 100, "test": 100}.items():
        for name in ("rows", "columns", "checks", "dots"):
            folder = IMAGES / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                draw(name).save(folder / f"{number}.png")

# %%
SHOWN = [next(folder.iterdir()) for folder in sorted((IMAGES / "test").iterdir()) if folder.is_dir()][:8]
figure, axes = plt.subplots(1, len(SHOWN), figsize=(6.5, 2), squeeze=False)
for place, file in zip(axes.flat, SHOWN, strict=True):
    place.imshow(Image.open(file))
    place.set_title(file.parent.name, fontsize=10)
    place.axis("off")
plt.show()

# %% [markdown]
# ## Fine-tune
#
# `recipes/finetune.py` takes a network for a budget, here 4 million MACs of `sgnas_micro`. The network begins with
# inherited weights and gets a new classifier for your classes. In a terminal, write the same words after
# `accelerate launch`.

# %%
RECIPES = next(folder for folder in (Path.cwd(), *Path.cwd().parents) if (folder / "recipes").is_dir()) / "recipes"


def run(*words):
    done = subprocess.run([sys.executable, *map(str, words)], cwd=WORK, text=True, capture_output=True)
    if done.returncode:
        sys.exit(done.stderr.strip().splitlines()[-1])
    return done


# %% tags=["varies"]
settings = "--space sgnas_micro --flops 4M --crop pad --epochs 8 --batch-size 32 --workers 0 --output tuned"
print(run(RECIPES / "finetune.py", "--dataset", IMAGES, *settings.split()).stderr.splitlines()[-1])

# %% [markdown]
# The folder `tuned` holds a timm model: `timm.create_model("local-dir:tuned", pretrained=True)` loads it. Its record
# says what the network costs.

# %%
print(run("-m", "sgnas_zoo", "info", "tuned").stdout.strip())

# %% [markdown]
# ## Export
#
# `sgnas-zoo export` writes a file and compares it with the network. int8 needs images that give the range of every
# [activation](../memory.md#int8); here these are images of `train`. The command counts for how many of them int8 and
# float32 name the same class, and measures top-1 on `test`.

# %% tags=["varies"]
run("-m", "sgnas_zoo", "export", "tuned", "--output", "tuned.onnx")
done = run("-m", "sgnas_zoo", "export", "tuned", "--int8", "--calibration", IMAGES, "--output", "tuned.int8.onnx")
print("\n".join(done.stderr.splitlines()[-2:]))

# %%
for name in ("tuned.onnx", "tuned.int8.onnx"):
    print(f"{name:16} {(WORK / name).stat().st_size / 1000:6.0f} KB")

# %% [markdown]
# ## Evaluate the file
#
# An exported file says how its images are prepared and what its classes are called. So `evaluate` takes it like a
# model.

# %% tags=["varies"]
print(run("-m", "sgnas_zoo", "evaluate", "tuned", "tuned.onnx", "tuned.int8.onnx", "--dataset", IMAGES).stdout.strip())

# %% [markdown]
# In Python, `ExportedModel` runs the file. Here it names the images from above.

# %% tags=["varies"]
small = ExportedModel(WORK / "tuned.int8.onnx")
figure, axes = plt.subplots(1, len(SHOWN), figsize=(6.5, 2), squeeze=False)
for place, found in zip(axes.flat, classify(small, [str(file) for file in SHOWN], top=1), strict=True):
    place.imshow(Image.open(found.image))
    place.set_title(f"{found.guesses[0].name}, {found.guesses[0].probability:.0%}", fontsize=10)
    place.axis("off")
plt.show()

# %% [markdown]
# ## What next
#
# [Memory and int8](../memory.md) has other formats, `--keep-float` for networks that lose too much, and budgets for
# microcontrollers. A larger network, or more epochs, may name more images. The folder `WORK` holds all files.
