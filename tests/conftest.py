"""Artifacts that several tests read: small ones, made once for all processes of a run. Nobody writes to them."""

import importlib.util
import os
import random
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState, PartialState
from click.testing import CliRunner
from filelock import FileLock
from PIL import Image
from places import RECIPES
from recipe_runs import begin, write_colours

from sgnas_zoo import create_model, save_model
from sgnas_zoo.costs import native_conditions
from sgnas_zoo.hub.generators import save_generator
from sgnas_zoo.hub.supernets import TrainedSupernet, save_supernet
from sgnas_zoo.search.generator import ArchGenerator
from sgnas_zoo.spaces import SPACES
from sgnas_zoo.supernet import UnifiedSupernet

torch.set_num_threads(int(os.environ.setdefault("OMP_NUM_THREADS", "1")))  # the workers of a run share the cores


@pytest.fixture(scope="session")
def once(tmp_path_factory):
    """Makes a folder by its name, once for all processes of a run: the others wait for the one that makes it."""
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "once"
    shared.mkdir(exist_ok=True)

    def get(name, make):
        folder, done = shared / name, shared / f"{name}.done"
        with FileLock(shared / f"{name}.lock"):
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)  # what a failure left
                folder.mkdir()
                make(folder)
                done.touch()
        return folder

    return get


@pytest.fixture(scope="session")
def colours(once):
    """Parquet of 64 images of three colours to train on and 12 to test with."""
    return str(once("colours", write_colours))


@pytest.fixture(scope="session")
def started(once, colours):
    """Folders of a supernet and of a model that were trained for a step or two."""
    return once("started", lambda folder: begin(colours, folder))


@pytest.fixture(scope="session")
def new_generator():
    """Makes small generators for sgnas_micro."""

    def make(seed):
        torch.manual_seed(seed)
        space = SPACES["sgnas_micro"]
        conditions = native_conditions(space, form="search", num_classes=3)
        return ArchGenerator(space.parse("-".join(["35"] * 8)), "macs", conditions, (2e6, 8e6), width=8)

    return make


@pytest.fixture(scope="session")
def made(once, new_generator):
    """Folders of a supernet of three classes, of a generator and of a model."""
    return once("made", lambda folder: make_artifacts(folder, new_generator))


def make_artifacts(root, new_generator):
    torch.manual_seed(0)
    space = SPACES["sgnas_micro"]
    look = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "interpolation": "bicubic", "crop_pct": 1.0}
    images = torch.randint(0, 256, (16, 3, 32, 32), dtype=torch.uint8)
    record = {"source": "noise", "split": "train", "holdout": 0.1, "seed": 0}
    training = {"paths": 4, "sampler": "fair", "epochs": 1, "batch_size": 16}
    pool = tuple(space.sample(random.Random(i)) for i in range(3))
    for kind in ("supernet", "generator"):
        (root / kind).mkdir()
    supernet = TrainedSupernet(UnifiedSupernet(space, 3), 32, ("a", "b", "c"), look, record, training, images, pool)
    save_supernet(supernet, root / "supernet")
    save_generator(new_generator(0), root / "generator")
    model = create_model("sgnas", space="sgnas_micro", arch="-".join(["3"] * 8), num_classes=3)
    save_model(model, root / "model", weights="untrained")


@pytest.fixture(scope="session")
def photos(once):
    """Sixty images of three classes."""
    return once("photos", write_photos)


def write_photos(root):
    rng = np.random.default_rng(0)
    for label, name in enumerate("abc"):
        (root / "train" / name).mkdir(parents=True)
        for number in range(20):
            pixels = rng.integers(0, 80, (32, 32, 3)) + 60 * (label == np.arange(3))
            Image.fromarray(pixels.astype(np.uint8)).save(root / "train" / name / f"{number}.png")


@pytest.fixture
def recipe(monkeypatch):
    """A recipe's module and a way to call it in this process."""

    def load(name):
        spec = importlib.util.spec_from_file_location(f"recipe_{name}", RECIPES / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)

        def call(*arguments):
            AcceleratorState._reset_state(True)
            result = CliRunner().invoke(module.main, list(map(str, arguments)))
            if result.exception and not isinstance(result.exception, SystemExit):
                raise result.exception
            return result.exit_code, result.stdout, result.stderr

        return module, call

    yield load
    AcceleratorState._reset_state(True)
    PartialState._reset_state()


@pytest.fixture
def stubs(monkeypatch):
    """Take data and training out of a recipe: what is left is the network that it would train or measure."""
    images = SimpleNamespace(classes=["a", "b", "c"], record={"split": "test"})

    def put(module, seen):
        def keep(network, *_, **__):
            seen.append(network)
            return None if module.__name__ != "recipe_evaluate" else {"top1": 1.0}

        stubs = {"load_images": lambda *_, **__: images, "open_images": lambda *_: (images, None, images)}
        stubs |= {"measuring_loader": lambda *_, **__: [], "training_loader": lambda *_, **__: []}
        stubs |= {"look_loaders": lambda *_: ([], [])}
        stubs |= {"measure": keep, "fit": keep}
        for name, stub in stubs.items():
            if hasattr(module, name):
                monkeypatch.setattr(module, name, stub)

    return put
