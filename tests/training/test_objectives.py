"""Objectives of a generator: what their gradients are, against enumeration."""

import itertools
import json

import pytest
import torch
from recipe_runs import BASE, STEP, furthest, run_recipe, trained_weights
from torch import nn
from torch.nn import functional as F

from sgnas_zoo.errors import UnknownNameError
from sgnas_zoo.search.relaxation import log_probs
from sgnas_zoo.spaces import SPACES, Arch
from sgnas_zoo.supernet import make_supernet
from sgnas_zoo.training.objectives import OBJECTIVES, Answer

SPACE = SPACES["nas_bench_macro"]


class Voting(nn.Module):
    """Logits of two classes by a value of each pair of neighbouring choices, so that nothing adds up."""

    def __init__(self):
        super().__init__()
        self.values = torch.randn(7, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.double)

    def forward(self, images, path):
        picks = [pick for (pick,) in path.picks]
        vote = sum(self.values[i, a, b] for i, (a, b) in enumerate(itertools.pairwise(picks)))
        return torch.stack([vote, torch.zeros(())]).expand(len(images), 2)


def answer(logits, supernet, seed=0, images=None, labels=None):
    scores = log_probs(SPACE, logits[:, None, :])
    images = torch.zeros(2, 3, 4, 4, dtype=torch.double) if images is None else images
    labels = torch.zeros(2, dtype=torch.long) if labels is None else labels
    return Answer(SPACE, scores, supernet, images, labels, 5.0, torch.Generator().manual_seed(seed))


def test_the_gradient_of_sampled_paths_is_that_of_the_expected_loss():
    net = Voting()
    logits = torch.randn(8, 3, generator=torch.Generator().manual_seed(1), dtype=torch.double).requires_grad_()
    scores, expected = log_probs(SPACE, logits[:, None, :])[:, 0], 0.0
    for picks in itertools.product(range(3), repeat=8):
        loss = F.cross_entropy(net(torch.zeros(1), Arch(SPACE, tuple((p,) for p in picks))), torch.tensor([0]))
        expected = expected + loss * scores[range(8), picks].sum().exp()
    (wanted,) = torch.autograd.grad(expected, logits)
    grads, values = [], []
    for seed in range(4000):
        loss, probs = OBJECTIVES["sampled"](answer(logits, net, seed))
        grads.append(torch.autograd.grad(loss, logits)[0])
        values.append(loss.detach())
    mean = torch.stack(grads).mean(0)
    errors = torch.stack(grads).std(0) / len(grads) ** 0.5
    assert ((mean - wanted).abs() < 4.5 * errors).all()
    assert wanted.abs().max() > 20 * errors.max()  # or it would prove nothing
    assert torch.stack(values).mean().item() == pytest.approx(expected.item(), rel=0.05)
    assert torch.allclose(probs[:, 0], scores.exp())


def test_sampled_paths_see_the_batch_and_leave_the_supernet_as_it_is():
    torch.manual_seed(0)
    net = make_supernet(SPACE, 2).double().eval().requires_grad_(False)
    images, labels = torch.randn(4, 3, 16, 16, dtype=torch.double), torch.tensor([0, 1, 0, 1])
    logits = torch.zeros(8, 3, dtype=torch.double, requires_grad=True)
    losses = {}
    for norms in ("fresh", "foreign"):
        for module in net.modules():
            if norms == "foreign" and isinstance(module, nn.BatchNorm2d):
                module.running_mean.fill_(3.0)
        before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
        for name in OBJECTIVES:
            losses[name, norms] = OBJECTIVES[name](answer(logits, net, 0, images, labels))[0].item()
        assert all(before[name].equal(tensor) for name, tensor in net.state_dict().items())
        assert not any(module.training for module in net.modules())
    assert losses["sampled", "fresh"] == losses["sampled", "foreign"]
    assert losses["relaxed", "fresh"] != losses["relaxed", "foreign"]


def test_a_generator_is_trained_by_sampled_paths(started, colours, tmp_path):
    asked = ("--supernet", started / "supernet", "--dataset", colours, *BASE, *STEP[:3], 4)
    for name in ("relaxed", "sampled"):
        run_recipe("train_generator", *asked, "--objective", name, "--output", tmp_path / name)
    run_recipe("train_generator", *asked, "--output", tmp_path / "default")
    made = {name: trained_weights(tmp_path / name) for name in ("relaxed", "sampled", "default")}
    assert furthest(made["relaxed"], made["default"]) == 0
    assert furthest(made["sampled"], made["default"]) > 0
    told = json.loads((tmp_path / "sampled" / "evaluation.json").read_text())
    assert told["training"]["objective"] == "sampled"

    said = run_recipe("train_generator", *asked, "--objective", "sample", "--output", tmp_path / "none", code=2)
    assert "did you mean sampled" in said
    assert not (tmp_path / "none").exists()


def test_a_generator_need_not_spend(started, colours, tmp_path):
    asked = ("--supernet", started / "supernet", "--dataset", colours, *BASE, *STEP[:3], 1)
    for spend in ("0.99", "0"):
        given = [] if spend == "0.99" else ["--spend", spend]
        run_recipe("train_generator", *asked, *given, "--output", tmp_path / spend)
        assert json.loads((tmp_path / spend / "config.json").read_text())["spend"] == float(spend)
    said = run_recipe("train_generator", *asked, "--spend", 2, "--output", tmp_path / "none", code=2)
    assert "0<=x<=1" in said


def test_an_objective_that_there_is_not_is_refused():
    with pytest.raises(UnknownNameError, match="did you mean sampled"):
        OBJECTIVES["sample"]
