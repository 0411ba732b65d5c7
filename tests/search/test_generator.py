import json

import pytest
import torch
from places import REFERENCE
from torch.nn.functional import conv2d

from sgnas_zoo.costs import native_conditions
from sgnas_zoo.errors import BudgetError
from sgnas_zoo.search.generator import ArchGenerator
from sgnas_zoo.search.losses import constraint_loss
from sgnas_zoo.spaces import SPACES

REFERENCE = REFERENCE / "sgnas_hardware_loss.json"
SPACE = SPACES["sgnas_imagenet"]
PRIOR = "5535-553-553-553-5553-355-3557-553-555-5553-55-555-535-555-333-75-3577-73-33733"
LOW, HIGH = 280e6, 400e6
TARGETS = [50e6, 279e6, 280e6, 333e6, 400e6, 900e6]  # two of them negative once scaled


def generator(cost="conv_macs"):
    torch.manual_seed(0)
    conditions = native_conditions(SPACE, form="search")
    return ArchGenerator(SPACE.parse(PRIOR), cost, conditions, (LOW, HIGH))


def slow_logits(model, target, residual=True, absolute=False):
    """One target, as the paper draws it: repeated over its channels, every convolution run."""
    weights = model.state_dict()
    position = (target - LOW) / (HIGH - LOW)
    layers, slots, choices = SPACE.shape
    target_image = torch.full((1, 10, layers, slots * choices), abs(position) if absolute else position)
    prior_image = torch.zeros(1, 1, layers, slots * choices)
    for layer, picks in enumerate(SPACE.parse(PRIOR).picks):
        for slot, pick in enumerate(picks):
            prior_image[0, 0, layer, slot * choices + pick] = 1

    def run(part, x):
        for name, weight in weights.items():
            if name.startswith(part + "."):
                x = conv2d(x, weight, padding=1).relu()
        return x

    features = run("target_head", target_image) + run("prior_head", prior_image)
    trunk = run("trunk_body", run("trunk_head", features))
    logits = conv2d(trunk + features if residual else trunk, weights["tail.weight"], weights["tail.bias"], padding=1)
    return logits.reshape(SPACE.shape)


def error(found, wanted):
    return ((found - wanted).abs().max() / wanted.abs().max()).item()


def test_it_has_the_published_number_of_parameters():
    assert sum(parameter.numel() for parameter in generator().parameters()) == 67_969


def test_one_pass_gives_the_logits_of_every_target():
    model = generator()
    batch = model.logits(flops=TARGETS)
    assert batch.shape == (len(TARGETS), *SPACE.shape)
    for target, logits in zip(TARGETS, batch, strict=True):
        assert error(model.logits(flops=[target])[0], logits) < 1e-5
    assert error(batch[0], batch[1]) > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("target", TARGETS)
def test_it_equals_the_plain_computation(target):
    model = generator()
    wanted = slow_logits(model, target)
    assert error(model.logits(flops=[target])[0], wanted) < 1e-5
    assert error(slow_logits(model, target, residual=False), wanted) > 1e-3
    assert error(slow_logits(model, target + 20e6), wanted) > 1e-3


@torch.no_grad()
def test_the_comparison_sees_the_sign_of_a_negative_target():
    model = generator()
    assert error(slow_logits(model, 50e6, absolute=True), model.logits(flops=[50e6])[0]) > 1e-3


def test_training_reaches_every_parameter():
    model = generator()
    model(torch.tensor([200e6, 350e6])).square().sum().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in model.parameters())


def test_the_prior_is_not_part_of_the_weights():
    assert len(generator().state_dict()) == 11
    assert "prior_image" not in generator().state_dict()


@pytest.mark.parametrize(
    ("cost", "wanted", "call"),
    [
        ("conv_macs", "flops", {"params": [5e6]}),
        ("macs", "flops", {"params": [5e6]}),
        ("macs", "flops", {}),
        ("macs", "flops", {"flops": [350e6], "params": [5e6]}),
        ("params", "params", {"flops": [350e6]}),
    ],
)
def test_targets_of_another_cost_are_refused(cost, wanted, call):
    with pytest.raises(BudgetError, match=rf"answers to {wanted}; call logits\({wanted}="):
        generator(cost).logits(**call)


def test_a_generator_of_parameters_answers_to_params():
    assert generator("params").logits(params=[300e6]).equal(generator("macs").logits(flops=[300e6]))


@pytest.mark.parametrize("targets", [[], [float("nan")], [350e6, float("inf")], [-float("inf")]])
def test_targets_that_are_not_finite_are_refused(targets):
    with pytest.raises(BudgetError, match="Targets must be finite numbers"):
        generator().logits(flops=targets)


def loss(cost, target, **options):
    return constraint_loss(torch.tensor([cost * 1e6]), torch.tensor([target * 1e6]), **options).item()


def test_the_loss_is_the_squared_distance_in_millions_and_steeper_above():
    assert loss(355, 350) == pytest.approx(0.0003 * 25 * 1.2)
    assert loss(340, 350) == pytest.approx(0.0003 * 100)
    assert loss(350.05, 350) == loss(349.95, 350) == 0
    assert loss(340, 350, alpha=0.01) == pytest.approx(1)


def test_the_loss_agrees_with_the_reference():
    cases = json.loads(REFERENCE.read_text())["cases"]
    assert len(cases) == 7
    for case in cases:
        assert loss(case["generated"], case["target"]) == pytest.approx(case["loss"], rel=2e-4)


@pytest.mark.parametrize(("cost", "sign"), [(355e6, 1), (345e6, -1), (350e6, 0)])
def test_the_gradient_leads_to_the_target(cost, sign):
    cost = torch.tensor([cost], requires_grad=True)
    constraint_loss(cost, torch.tensor([350e6])).sum().backward()
    assert cost.grad.sign().item() == sign
