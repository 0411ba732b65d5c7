"""Runs of recipes in this process, on few images of colours: for tests of what they compute."""

import importlib.util
import io

import datasets
import numpy as np
import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from click.testing import CliRunner
from PIL import Image
from places import RECIPES
from safetensors.torch import load_file

ARCH = "53-35-573-33-55-73-353-35"
BASE = ("--workers", "0", "--seed", "3")
SUPERNET = ("--space", "sgnas_micro", "--resolution", "16", "--holdout", "0.25", "--eval-images", "8", "--paths", "2")
MODEL = ("--space", "sgnas_micro", "--arch", ARCH, "--resolution", "16", "--lr", "0.02")
STEP = ("--epochs", "1", "--batch-size", "16", "--limit", "40")
OTHER_SPACES = {
    "spos": ("--space", "spos_channel", "--resolution", "32"),
    "bits": ("--space", "resnet_micro_bits", "--resolution", "16"),
}
NAMES = ("train_supernet fair", "train_supernet greedy", "train_supernet sandwich", "train_supernet spos",
         "train_supernet bits", "train_generator", "retrain", "finetune", "distill_generator", "evaluate")  # fmt: skip
"""Recipes, those of supernets by sampler or space too: what ``recipes`` has options for."""


def write_colours(folder, count=64):
    """Write Parquet of noisy red, green and blue images into a folder, in splits train and test."""
    rng = np.random.default_rng(0)
    for split, number in (("train", count), ("test", 12)):
        rows = []
        for index in range(number):
            pixels, content = rng.integers(0, 60, (16, 16, 3)) + 100 * (index % 3 == np.arange(3)), io.BytesIO()
            Image.fromarray(pixels.astype(np.uint8)).save(content, "PNG")
            rows.append({"bytes": content.getvalue(), "path": None})
        names = datasets.ClassLabel(names=["red", "green", "blue"])
        features = datasets.Features({"image": datasets.Image(), "label": names})
        labels = [index % 3 for index in range(number)]
        table = datasets.Dataset.from_dict({"image": rows, "label": labels}, features=features)
        table.to_parquet(str(folder / f"{split}-00000-of-00001.parquet"))


def begin(images, folder):
    """Train a supernet and a model, in folders of these names, for others to go on from."""
    data = (*BASE, *STEP, "--dataset", images)
    run_recipe("train_supernet", *SUPERNET, *data, "--output", folder / "supernet")
    run_recipe("retrain", *MODEL, *data, "--output", folder / "model")


def recipes(images, started):
    """Each recipe with options for a step or two, but for ``--output``."""
    data = (*BASE, *STEP, "--dataset", images)
    whole = ("--holdout", "0.4", "--paths", "1", "--sampler", "uniform", *data)
    found = {
        "train_supernet fair": (*SUPERNET, *data, "--clip-grad", "1"),
        **{f"train_supernet {name}": (*SUPERNET, *data, "--sampler", name) for name in ("greedy", "sandwich")},
        **{f"train_supernet {name}": (*options, *whole) for name, options in OTHER_SPACES.items()},
        "train_generator": ("--supernet", started / "supernet", *BASE, *STEP[:3], "4", "--dataset", images),
        "retrain": (*MODEL, *data, "--clip-grad", "1", "--ema-decay", "0.9"),
        "finetune": ("--model", f"local-dir:{started / 'model'}", *data),
        "distill_generator": ("--steps", "1", "--constraint-batch", "2"),
        "evaluate": ("--model", f"local-dir:{started / 'model'}", "--dataset", images, "--workers", "0"),
    }
    assert set(found) == set(NAMES)
    return found


def load_recipe(name):
    spec = importlib.util.spec_from_file_location(f"recipe_{name}", RECIPES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_recipe(name, *arguments, code=0):
    """Run a recipe; give what it said on stderr."""
    forget_accelerate()
    module = load_recipe(name)
    with torch.random.fork_rng():
        result = CliRunner().invoke(module.main, [str(argument) for argument in arguments])
    forget_accelerate()
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.stderr
    return result.stderr


def forget_accelerate():
    """accelerate keeps how the process was launched; each run is another process."""
    AcceleratorState._reset_state(True)
    PartialState._reset_state()
    GradientState._reset_state()


def checkpoints(folder):
    """Steps and folders of the checkpoints of a run."""
    return {int(path.name[5:]): path for path in sorted((folder / "checkpoints").glob("step-*"))}


def trained_weights(folder):
    """Weights, in full precision, of the last checkpoint of a run."""
    last = checkpoints(folder)
    return load_file(last[max(last)] / "model.safetensors")


def furthest(one, other):
    """Largest difference of two states."""
    assert one.keys() == other.keys()
    return max(float((one[name].double() - other[name].double()).abs().max()) for name in one)
