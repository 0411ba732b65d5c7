"""A loss that is not finite ends a training before anything is saved, without waiting for the device at every step."""

from types import SimpleNamespace

import pytest
import torch

from sgnas_zoo.errors import TrainingError
from sgnas_zoo.spaces import SPACES
from sgnas_zoo.training.loop.parallel import FiniteLosses

GOOD, BAD = torch.tensor(1.0), torch.tensor(float("nan"))


class Device:
    """An accelerator of some kind that counts how often it is waited for."""

    def __init__(self, kind):
        self.device, self.looks = SimpleNamespace(type=kind), 0

    def reduce(self, tensor, how):
        self.looks += 1
        assert how == "sum"
        return tensor


def test_a_cpu_looks_at_every_step():
    losses = FiniteLosses(Device("cpu"))
    losses.add([GOOD, GOOD], 0)
    with pytest.raises(TrainingError, match="The loss at step 1 is not finite"):
        losses.add([GOOD, BAD], 1)


def test_an_accelerator_is_waited_for_now_and_then():
    device = Device("cuda")
    losses = FiniteLosses(device)
    for step in range(39):
        losses.add([GOOD], step)
    assert device.looks == 1
    losses.look()
    losses.look()
    assert device.looks == 2


@pytest.mark.parametrize("bad", [torch.tensor(float("inf")), BAD, -torch.tensor(float("inf"))])
def test_the_first_bad_step_and_its_path_are_named(bad):
    losses, space = FiniteLosses(Device("cuda")), SPACES["nas_bench_macro"]
    paths = [space.parse("00000000"), space.parse("22222222")]
    losses.add([GOOD, GOOD], 4, paths)
    losses.add([GOOD, bad], 5, paths)
    losses.add([BAD, BAD], 6, paths)
    with pytest.raises(TrainingError, match=r"The loss of 22222222 at step 5 is not finite\. The last"):
        losses.look()


def test_losses_keep_no_graph():
    losses, weight = FiniteLosses(Device("cuda")), torch.ones(1, requires_grad=True)
    losses.add([(weight * 2).sum()], 0)
    assert not any(found.requires_grad for *_, found in losses._unseen)
