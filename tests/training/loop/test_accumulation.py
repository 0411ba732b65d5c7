"""Updates of several batches: as one of all their images, whole at every checkpoint, and repeated by a resumed run."""

import json
import os
import shutil
import socket
import subprocess
import sys

import pytest
import torch
from recipe_runs import BASE, MODEL, RECIPES, SUPERNET, checkpoints, furthest, run_recipe, trained_weights
from safetensors.torch import load_file
from torch import nn

from sgnas_zoo.errors import TrainingError
from sgnas_zoo.training.loop.accumulation import Accumulation
from sgnas_zoo.training.loop.checkpoints import Checkpoints
from sgnas_zoo.training.runs import make_accelerator

VARIABLE = "ACCELERATE_GRADIENT_ACCUMULATION_STEPS"


@pytest.fixture
def still(monkeypatch):
    """Norms that look at no batch: their statistics would differ with its size, as everywhere."""
    monkeypatch.setattr(nn.BatchNorm2d, "train", lambda self, mode=True: nn.Module.train(self, False))


def recipes(colours, started):
    """Each recipe with its options, but for output, batch size and epochs."""
    data = (*BASE, "--dataset", colours)
    tuned = ("--model", f"local-dir:{started / 'model'}", "--lr", "0.02", "--ema-decay", "0.9", "--clip-grad", "1")
    return {
        "train_supernet": (*SUPERNET, *data, "--sampler", "uniform", "--clip-grad", "1", "--warmup-epochs", "0.5"),
        "train_generator": ("--supernet", started / "supernet", *data),
        "retrain": (*MODEL, *data, "--clip-grad", "1", "--ema-decay", "0.9", "--warmup-epochs", "0"),
        "finetune": (*tuned, *data),
    }


NAMES = ["train_supernet", "train_generator", "retrain", "finetune"]
SLOW = {name: pytest.param(name, marks=pytest.mark.slow) for name in NAMES}
BATCHES = {"train_generator": (4, 16)}  # of the quarter held out; the others have three quarters, or all
MANY = (4, 16)


def run(name, options, output, accumulate, batch_size, monkeypatch, *more, code=0):
    monkeypatch.setenv(VARIABLE, str(accumulate))
    return run_recipe(name, *options, "--output", output, "--batch-size", batch_size, "--epochs", 2, *more, code=code)


@pytest.mark.parametrize("name", ["train_supernet", SLOW["train_generator"], SLOW["retrain"], SLOW["finetune"]])
def test_four_batches_are_as_one_of_all_their_images(name, colours, started, still, tmp_path, monkeypatch):
    # Adam's steps of gradients near zero are as long as any: there rounding would decide where they go.
    monkeypatch.setattr(torch.optim, "Adam", lambda parameters, lr, betas: torch.optim.SGD(parameters, lr))
    options, (few, all_) = recipes(colours, started)[name], BATCHES.get(name, MANY)
    run(name, options, tmp_path / "four", 4, few, monkeypatch)
    run(name, options, tmp_path / "one", 1, all_, monkeypatch)
    run(name, options, tmp_path / "few", 1, few, monkeypatch)
    four, one, alone = (trained_weights(tmp_path / folder) for folder in ("four", "one", "few"))
    assert furthest(four, one) < 2e-5
    assert furthest(alone, one) > 1000 * furthest(four, one)  # the control: batches that each make an update


@pytest.mark.parametrize("name", [SLOW["train_supernet"], SLOW["train_generator"], "retrain", SLOW["finetune"]])
def test_checkpoints_are_whole_updates_and_a_resumed_run_ends_the_same(name, colours, started, tmp_path, monkeypatch):
    monkeypatch.setattr(Checkpoints.__init__, "__kwdefaults__", {"every_minutes": 0, "keep": 99})
    options, every = recipes(colours, started)[name], 3  # of 4 batches of the generator, 12 or 16 of the others
    often, few = ("--checkpoint-minutes", 0), BATCHES.get(name, MANY)[0]
    run(name, options, tmp_path / "whole", every, few, monkeypatch, *often)
    found = checkpoints(tmp_path / "whole")
    batches = max(found) // 2
    assert [step for step in found if step % batches % every] == []
    middle = every if name == "train_generator" else batches + every
    (tmp_path / "resumed" / "checkpoints").mkdir(parents=True)
    shutil.copyfile(tmp_path / "whole" / "settings.yaml", tmp_path / "resumed" / "settings.yaml")
    shutil.copytree(found[middle], tmp_path / "resumed" / "checkpoints" / found[middle].name)
    said = run(name, options, tmp_path / "resumed", 1, few, monkeypatch, "--resume", "auto", code=2)
    assert "gradient_accumulation: 3 there, absent here" in " ".join(said.split())
    run(name, options, tmp_path / "resumed", every, few, monkeypatch, "--resume", "auto")
    assert furthest(trained_weights(tmp_path / "whole"), trained_weights(tmp_path / "resumed")) == 0


@pytest.mark.slow
def test_what_is_left_at_the_end_of_an_epoch_is_an_update(colours, still, started, tmp_path, monkeypatch):
    """As with accelerate, of a smaller gradient: two batches of four count by half."""
    counts = []
    monkeypatch.setattr(torch.optim.SGD, "step", lambda self, closure=None: counts.append(1))
    run("train_supernet", recipes(colours, started)["train_supernet"], tmp_path / "run", 5, 4, monkeypatch)
    assert len(counts) == 2 * 3  # of 12 batches an epoch: 5, 5 and 2


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 4])
def test_the_records_say_how_many_batches_made_an_update(steps, colours, started, tmp_path, monkeypatch):
    run("retrain", recipes(colours, started)["retrain"], tmp_path / "run", steps, 16, monkeypatch)
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics.get("gradient_accumulation", 1) == steps


def test_batches_are_counted_as_accelerate_counts_them(monkeypatch):
    """Over the very calls of its documentation, with a loader that ends in the middle of an update."""
    monkeypatch.setenv(VARIABLE, "4")
    accelerator, batches = make_accelerator(), 10
    loader = accelerator.prepare(torch.utils.data.DataLoader(torch.arange(batches)))
    updates, model = Accumulation(accelerator, batches), nn.Linear(1, 1)
    wanted, found = [], []
    for _ in range(3):
        for _ in loader:
            with accelerator.accumulate(model):
                wanted.append(accelerator.sync_gradients)
    for epoch in range(3):
        for number, _ in enumerate(loader):
            with updates.batch(epoch * batches + number, model) as ends:
                found.append(ends)
    assert found == wanted
    assert found == [updates.ends(step) for step in range(3 * batches)]
    numbers = [updates.update(step) for step in range(3 * batches)]
    assert numbers == [sum(found[:step]) for step in range(3 * batches)]
    assert [updates.begins(step) for step in range(3 * batches)] == [True, *found[:-1]]
    assert updates.updates == 3


@pytest.mark.parametrize("value", ["0", "-2", "x"])
def test_a_number_that_is_none_is_refused(value, monkeypatch):
    monkeypatch.setenv(VARIABLE, value)
    with pytest.raises(TrainingError, match=r"accelerat|ACCELERATE"):
        make_accelerator()


def test_distilling_accumulates(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, "3")
    counts = []
    monkeypatch.setattr(torch.optim.Adam, "step", lambda self, closure=None: counts.append(1))
    run_recipe("distill_generator", "--output", tmp_path / "made", "--steps", 2, "--constraint-batch", 2)
    assert len(counts) == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["train_supernet", "retrain"])
def test_two_processes_accumulate_as_one_does(name, colours, started, tmp_path):
    """Twice 4 batches of 2 are 4 batches of 4, here with norms that look at no batch in the very recipes."""
    code = (
        "import sys, runpy; from torch import nn\n"
        "nn.BatchNorm2d.train = lambda self, mode=True: nn.Module.train(self, False)\n"
        "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    (tmp_path / "still.py").write_text(code)
    for ranks, batch_size in ((2, 4), (1, 8)):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(ranks), "--master-port", str(port)]
        options = [*recipes(colours, started)[name], "--output", tmp_path / str(ranks), "--epochs", 1,
                   "--batch-size", batch_size]  # fmt: skip
        command = [sys.executable, *launcher, tmp_path / "still.py", RECIPES / f"{name}.py", *options]
        environment = {**os.environ, VARIABLE: "2", "OMP_NUM_THREADS": "1"}
        subprocess.run([*map(str, command)], env=environment, check=True, capture_output=True, timeout=300)
    one, two = (load_file(max(checkpoints(tmp_path / n).items())[1] / "model.safetensors") for n in ("1", "2"))
    assert furthest(one, two) < 2e-5
