"""Whole networks that a profile joins from blocks: the same as those that are built and exported whole."""

import random
from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn

from sgnas_zoo.costs import native_conditions
from sgnas_zoo.measure.blocks import images, network, spread_archs, timed_blocks
from sgnas_zoo.measure.cache import this_setup
from sgnas_zoo.measure.ends import ends
from sgnas_zoo.measure.prepare import chain, prepare
from sgnas_zoo.measure.runtimes import RUNTIMES
from sgnas_zoo.spaces import SPACES

TIMED = [name for name in SPACES if not SPACES[name].kind.untimed]
SLOW = [pytest.param(name, marks=[] if name == "sgnas_micro" else pytest.mark.slow) for name in TIMED]


def small(space):
    return native_conditions(space, resolution=max(32, space.reduction))


def loud(module):
    """Weights that let an early layer decide what comes out: they keep the size of what passes, biases are small."""
    for weight in module.parameters():
        nn.init.kaiming_normal_(weight).mul_(1.1) if weight.ndim > 1 else nn.init.normal_(weight, std=0.03)
    return module


def far(one, other):
    """The largest difference, as a share of what there is."""
    one, other = (np.asarray(array) for array in (one, other))
    return np.abs(one - other).max() / other.std()


def optimised(model, path):
    """How many of each operation ONNX Runtime makes of a model, with the shapes of their weights."""
    import onnx
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(path), 3
    InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    graph = onnx.load(path).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    return Counter((node.op_type, *(shapes.get(name) for name in node.input)) for node in graph.node)


def cut(name):
    """Networks of a space, and all that they are made of."""
    torch.manual_seed(0)
    space = SPACES[name]
    conditions = small(space)
    archs, blocks = spread_archs(space, conditions, 4, seed=0), timed_blocks(space, conditions, 2)
    whole = network(archs[0], conditions)
    batch = images(conditions, 2)
    return space, conditions, archs, blocks, ends(loud(whole), space.kind.networks().layers(whole), batch), batch


def other_choice(chosen, blocks):
    """The same chain with another block at one place."""
    for place, number in enumerate(chosen):
        layer, own = blocks[number].places[0], blocks[number]
        for other, block in enumerate(blocks):
            if other != number and layer[0] in dict(block.places) and block.example.shape == own.example.shape:
                return [*chosen[:place], other, *chosen[place + 1 :]]
    raise AssertionError("no layer has two choices")


@pytest.mark.parametrize("name", TIMED)
def test_what_is_before_the_layers_they_and_what_is_after_them_is_the_network(name):
    space = SPACES[name]
    conditions = small(space)
    whole = loud(network(space.sample(random.Random(0)), conditions))
    layers, batch = space.kind.networks().layers(whole), images(conditions, 2)
    (before, first), (after, last) = ends(whole, layers, batch)
    with torch.no_grad():
        wanted = whole(batch)
        assert first is batch
        assert torch.equal(nn.Sequential(before, *layers)(batch), last)
        assert torch.equal(nn.Sequential(before, *layers, after)(batch), wanted)
        assert wanted.std() > 1e-2
        loud(layers[0])
        assert far(nn.Sequential(before, *layers, after)(batch), wanted) > 1e-3
    weights = sum(weight.numel() for part in (before, *layers, after) for weight in part.parameters())
    assert weights == sum(weight.numel() for weight in whole.parameters())


@pytest.mark.parametrize("name", TIMED)
def test_the_blocks_of_a_network_are_those_that_are_timed(name):
    space = SPACES[name]
    conditions = small(space)
    blocks = timed_blocks(space, conditions, 1)

    def described(modules):
        return [(str(module), [tuple(weight.shape) for weight in module.parameters()]) for module in modules]

    for arch in spread_archs(space, conditions, 4, seed=0):
        chosen = chain(arch, blocks)
        wanted = described(space.kind.networks().layers(network(arch, conditions)))
        assert described(blocks[number].module for number in chosen) == wanted
        assert described(blocks[number].module for number in other_choice(chosen, blocks)) != wanted


@pytest.mark.parametrize("name", SLOW)
def test_joined_onnx_models_compute_what_their_modules_do_one_after_the_other(name):
    pytest.importorskip("onnxruntime")
    from sgnas_zoo.measure.onnx_models import joined_onnx, onnx_models

    _, _, archs, blocks, (before, after), batch = cut(name)
    runtime, setup = RUNTIMES["onnxruntime"], this_setup(runtime="onnxruntime", threads=1, batch_size=2)
    chains = [chain(arch, blocks) for arch in archs]
    chains.append(other_choice(chains[-1], blocks))
    used = sorted({number for chosen in chains for number in chosen})
    parts = {number: (loud(blocks[number].module), blocks[number].example) for number in used}
    first, last, *models = onnx_models([before, after, *parts.values()])
    models = dict(zip(used, models, strict=True))

    def outputs(chosen):
        joined = joined_onnx([first, *(models[number] for number in chosen), last])
        with torch.no_grad():
            modules = nn.Sequential(before[0], *(blocks[number].module for number in chosen), after[0])
            return runtime.open(joined, batch, setup)()[0], modules(batch)

    answers = [outputs(chosen) for chosen in chains]
    wrong = far(answers[-1][0], answers[-2][1])  # one wrong block
    assert wrong > 1e-2
    for own, wanted in answers:
        assert wanted.std() > 1e-2
        assert far(own, wanted) < wrong / 300  # networks whose outputs grow make rounding grow as well


@pytest.mark.parametrize("dtype", ["float32", "int8"])
@pytest.mark.parametrize("name", SLOW)
def test_onnxruntime_makes_the_same_operations_of_joined_and_of_whole_networks(name, dtype, tmp_path):
    pytest.importorskip("onnxruntime")
    from sgnas_zoo.export.onnx_format import Int8, quantised_onnx
    from sgnas_zoo.measure.onnx_models import joined_onnx, onnx_models

    _, conditions, archs, blocks, (before, after), batch = cut(name)
    chosen = chain(archs[1], blocks)
    chosen = [*chosen, *other_choice(chosen, blocks)]
    parts = [(loud(blocks[number].module), blocks[number].example.clone()) for number in chosen]
    first, last, whole, *models = onnx_models(
        [before, after, (loud(network(archs[1], conditions)), batch.clone()), *parts]
    )
    half = len(models) // 2
    made = [whole, *(joined_onnx([first, *own, last]) for own in (models[:half], models[half:]))]
    if dtype == "int8":
        made = [quantised_onnx(model, Int8(batch)) for model in made]
    wanted, own, other = (optimised(model, tmp_path / f"{number}.onnx") for number, model in enumerate(made))
    assert own == wanted
    assert other != wanted
    assert sum(wanted.values()) > len(chosen)


@pytest.mark.parametrize("runtime", ["torch", "onnxruntime"])
def test_a_profile_times_every_block_and_then_the_networks(runtime):
    for package in RUNTIMES[runtime].packages:
        pytest.importorskip(package)
    space = SPACES["sgnas_micro"]
    conditions, setup, seen = small(space), this_setup(runtime=runtime, threads=1, batch_size=2), []
    archs, blocks = spread_archs(space, conditions, 2, seed=0), timed_blocks(space, conditions, 2)
    calls = prepare(blocks, archs, conditions, setup, lambda *told: seen.append(told))
    assert len(calls) == len(blocks) + len(archs)
    shapes = [np.asarray(out[0] if runtime == "onnxruntime" else out).shape for out in (call() for call in calls)]
    with torch.no_grad():
        assert shapes[: len(blocks)] == [tuple(block.module(block.example).shape) for block in blocks]
    assert shapes[len(blocks) :] == [(2, 10)] * 2
    total = len(calls) + 2  # what is before and after the blocks is made too
    assert seen == [("preparing", number, total) for number in range(1, total + 1)]
