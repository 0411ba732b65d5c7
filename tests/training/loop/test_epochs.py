"""The loop of every training, around a task that notes how it is called."""

import signal
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from recipe_runs import forget_accelerate
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from sgnas_zoo.errors import DataError
from sgnas_zoo.training.config import Augment, Data, Reading, Run, Steps
from sgnas_zoo.training.loop.accumulation import Accumulation
from sgnas_zoo.training.loop.epochs import Loop, Losses, Task
from sgnas_zoo.training.runs import make_accelerator

BATCHES = 4


@dataclass(frozen=True, kw_only=True)
class Config:
    """As little as a training can be told."""

    data: Data
    reading: Reading
    steps: Steps
    augment: Augment
    run: Run


def config(output: Path, **run) -> Config:
    """Two epochs, and a checkpoint whenever there can be one."""
    told = {"resume": "never", "checkpoint_minutes": 0, "report_to": None, **run}
    return Config(
        data=Data(dataset="none", image_column=None, label_column=None, limit=None, workers=0),
        reading=Reading(streaming=False, on_corrupt="skip"),
        steps=Steps(epochs=2, batch_size=2, steps_per_epoch=None, seed=0),
        augment=Augment(crop="resized", label_smoothing=0.0),
        run=Run(output=output, **told),
    )


class Noted(Task):
    """Fits a line, notes what it is asked, and does something at a step."""

    def __init__(self, accelerator, model, at=-1, deed=None, last=99):
        self.accelerator, self.model, self.at, self.deed, self.last = accelerator, model, at, deed, last
        self.calls = []

    def enough(self, history):
        return len(history) >= self.last

    def begin_epoch(self, epoch, resumed):
        self.calls.append(("begin", epoch, resumed))

    def step(self, batch, at):
        self.calls.append(("step", *at))
        if at.step == self.at:
            self.deed()
        loss = (self.model(batch[0]) - batch[0]).square().mean()
        self.accelerator.backward(loss)
        return Losses([loss], [loss.detach(), 1])

    def end_update(self, update):
        self.calls.append(("end", update))

    def report(self, epoch, sums):
        self.calls.append(("report", epoch, sums[1]))
        return {"loss": sums[0] / BATCHES}

    def before_saving(self):
        self.calls.append(("save",))


@pytest.fixture
def train():
    """Train a line over eight numbers in batches of two; gives what came of it, the task and the weights."""

    def run(told, batches=BATCHES, **task):
        forget_accelerate()
        torch.manual_seed(0)
        accelerator, model = make_accelerator(), nn.Linear(1, 1)
        optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
        loader = DataLoader(TensorDataset(torch.arange(8.0)[:, None] / 8), 2)
        model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
        noted = Noted(accelerator, model, **task)
        loop = Loop(task=noted, accelerator=accelerator, recipe="toy", config=told, model=model, optimizer=optimizer,
                    loader=loader, updates=Accumulation(accelerator, batches))  # fmt: skip
        try:
            return loop.train(), noted, model.weight.item()
        finally:
            forget_accelerate()

    return run


def steps(calls):
    return [call[1] for call in calls if call[0] == "step"]


def test_the_calls_of_a_training_and_what_it_leaves(train, tmp_path):
    done, task, _ = train(config(tmp_path))
    of_a_step = [("step", 0, 0, 0, True), ("end", 0), ("save",)]
    assert task.calls[:4] == [("begin", 0, False), *of_a_step]
    assert task.calls[-3:] == [("end", 7), ("report", 1, 4.0), ("save",)]
    assert steps(task.calls) == [*range(8)]
    assert [call for call in task.calls if call[0] == "begin"] == [("begin", 0, False), ("begin", 1, False)]
    assert task.calls.count(("save",)) == 8  # at the end of an epoch after its figures, and only then
    assert ([row["epoch"] for row in done.history], done.steps) == ([1, 2], 8)
    assert done.history[0]["loss"] > done.history[1]["loss"] > 0
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoints", "curves.png", "settings.yaml"}


def test_a_resumed_run_makes_the_calls_that_are_left(train, tmp_path):
    whole, _, weight = train(config(tmp_path / "whole"))
    with pytest.raises(KeyboardInterrupt):
        train(config(tmp_path / "cut"), at=6, deed=lambda: signal.raise_signal(signal.SIGINT))
    done, task, resumed = train(config(tmp_path / "cut", resume="auto"))
    assert task.calls[0] == ("begin", 1, True)
    assert steps(task.calls) == [6, 7]
    assert (done.history, resumed) == (whole.history, weight)
    other, _, moved = train(replace(config(tmp_path / "other"), steps=replace(config(tmp_path).steps, epochs=3)))
    assert other.history[:2] == whole.history
    assert moved != weight


def test_sigterm_saves_after_the_step_and_ends(train, tmp_path):
    seldom = config(tmp_path, checkpoint_minutes=60)
    done, task, _ = train(seldom, at=5, deed=lambda: signal.raise_signal(signal.SIGTERM))
    assert done is None
    assert steps(task.calls) == [*range(6)]
    assert max(path.name for path in (tmp_path / "checkpoints").iterdir()) == "step-00000006"
    done, task, _ = train(config(tmp_path, resume="auto"))
    assert (done.steps, steps(task.calls)) == (8, [6, 7])


def test_a_task_may_have_enough(train, tmp_path):
    done, _, _ = train(config(tmp_path), last=1)
    assert (done.steps, len(done.history)) == (4, 1)


def test_data_that_ends_before_the_epoch_is_told(train, tmp_path):
    with pytest.raises(DataError, match="has no 5 batches for an epoch; lower --steps-per-epoch"):
        train(config(tmp_path), batches=5)
