"""What surrounds a call shapes the model that comes back, as it does timm's, and nothing else: not what is cached."""

import functools
import gc
import importlib
import pkgutil
from contextlib import contextmanager

import pytest
import timm
import torch
from accelerate import init_empty_weights
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

import sgnas_zoo
from sgnas_zoo.costs import native_conditions
from sgnas_zoo.costs.profile import Setup
from sgnas_zoo.hub.generators import default_generator
from sgnas_zoo.hub.supernets import load_supernet
from sgnas_zoo.measure.network import measure
from sgnas_zoo.measure.runtimes import RUNTIMES, Runtime
from sgnas_zoo.models.counting import count_macs
from sgnas_zoo.search.relaxation import allowed_mask, log_probs
from sgnas_zoo.spaces import SPACES

ARCH = "-".join(["35"] * 8)


@contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def default_device(device):
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


SURROUNDINGS = {
    "meta": lambda: torch.device("meta"),
    "default meta": lambda: default_device("meta"),
    "empty": init_empty_weights,
    "empty with buffers": lambda: init_empty_weights(include_buffers=True),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "float16": lambda: default_dtype(torch.float16),
    "float64": lambda: default_dtype(torch.float64),
    "inference": torch.inference_mode,
    "no grad": torch.no_grad,
    "no grad set": lambda: torch.set_grad_enabled(False),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "deterministic": deterministic,
}
FAST = {"meta", "empty", "bfloat16", "inference"}
EACH = [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in SURROUNDINGS]
NO_VALUES = {"meta", "default meta", "empty", "empty with buffers"}


def caches():
    """Every cache of a function in the package."""
    for module in pkgutil.walk_packages(sgnas_zoo.__path__, "sgnas_zoo."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found = [o for o in gc.get_objects() if type(o) is functools._lru_cache_wrapper]
    return [cache for cache in found if str(cache.__module__).startswith("sgnas_zoo.")]


@pytest.fixture
def cold():
    """Begin without anything cached, and leave nothing for other tests."""
    found = caches()
    assert len(found) >= 8
    for cache in found:
        cache.cache_clear()
    yield
    for cache in found:
        cache.cache_clear()


def look(model):
    parameters = {(p.device.type, p.dtype, p.requires_grad, p.is_inference()) for p in model.parameters()}
    return parameters, {(b.device.type, b.dtype, b.is_inference()) for b in model.buffers()}


def timms(pretrained=False):
    overlay = {"state_dict": timm.create_model("mobilenetv3_small_050").state_dict()} if pretrained else {}
    return lambda: timm.create_model("mobilenetv3_small_050", pretrained, pretrained_cfg_overlay=overlay)


REQUESTS = {
    "budget": lambda: sgnas_zoo.create_model(flops=4e6),
    "two budgets": lambda: sgnas_zoo.create_model(flops=4e6, params=2e5),
    "through timm": lambda: timm.create_model("sgnas", flops=4e6, space="sgnas_micro"),
    "architecture": lambda: timm.create_model("sgnas", space="sgnas_micro", arch=ARCH),
    "counted": lambda: timm.create_model("sgnas", flops=6e6, space="sgnas_micro", global_pool="catavgmax"),
    "shuffle": lambda: timm.create_model("spos"),
    "bits": lambda: timm.create_model("resnet_micro_bits"),
}


@pytest.mark.parametrize("surroundings", EACH)
def test_models_follow_the_defaults_as_timms_do_and_nothing_is_cached_of_them(surroundings, cold):
    wanted = timms()
    with SURROUNDINGS[surroundings]():
        wanted = look(wanted())
        for name, request in REQUESTS.items():
            assert look(request()) == wanted, name
        inside = [str(result.arch) for result in sgnas_zoo.generate(flops=[3e6, 4e6])]
    assert [str(result.arch) for result in sgnas_zoo.generate(flops=[3e6, 4e6])] == inside
    assert {str(p.device) for p in default_generator("sgnas_micro").parameters()} == {"cpu"}
    assert {p.dtype for p in default_generator("sgnas_micro").parameters()} == {torch.float32}
    assert look(REQUESTS["budget"]()) == look(timms()())


def test_every_surrounding_gives_the_same_answers():
    budgets = [2e6, 4e6, 6e6, 8e6]
    wanted = [(str(r.arch), r.macs, r.params) for r in sgnas_zoo.generate(flops=budgets)]
    for name, surroundings in SURROUNDINGS.items():
        with surroundings():
            assert [(str(r.arch), r.macs, r.params) for r in sgnas_zoo.generate(flops=budgets)] == wanted, name


@pytest.fixture(scope="module")
def inherited():
    return sgnas_zoo.create_model(flops=4e6, pretrained=True).state_dict()


@pytest.mark.filterwarnings("ignore:for .*copying from a non-meta parameter:UserWarning")  # torch's, at timm's as well
@pytest.mark.parametrize("surroundings", EACH)
def test_inherited_weights_are_the_same_in_the_defaults_type(surroundings, inherited, cold):
    wanted = timms(pretrained=True)
    with SURROUNDINGS[surroundings]():
        model, wanted = sgnas_zoo.create_model(flops=4e6, pretrained=True), look(wanted())
    assert look(model) == wanted
    if surroundings not in NO_VALUES:
        state = model.state_dict()
        assert all(torch.equal(tensor, inherited[name].to(tensor.dtype)) for name, tensor in state.items())
    again = sgnas_zoo.create_model(flops=4e6, pretrained=True).state_dict()
    assert all(torch.equal(tensor, inherited[name]) for name, tensor in again.items())


@pytest.mark.filterwarnings("ignore:for .*copying from a non-meta parameter:UserWarning")
@pytest.mark.parametrize("surroundings", EACH)
def test_saved_models_and_supernets_load_in_any_surrounding(surroundings, made):
    with SURROUNDINGS[surroundings]():
        model, wanted = sgnas_zoo.create_model(f"local-dir:{made / 'model'}", pretrained=True), look(timms()())
        trained = load_supernet(made / "supernet")
        subnet = trained.inherit(trained.supernet.space.parse(ARCH))
    assert look(model) == wanted
    for network in (trained.supernet, subnet):
        assert {(p.device.type, p.dtype, p.is_inference()) for p in network.parameters()} == {
            ("cpu", torch.float32, False)
        }
    same = load_supernet(made / "supernet").inherit(trained.supernet.space.parse(ARCH)).state_dict()
    assert all(torch.equal(tensor, same[name]) for name, tensor in subnet.state_dict().items())


def test_what_was_asked_in_inference_mode_can_be_trained_with_later(cold):
    space = SPACES["sgnas_micro"]
    with torch.inference_mode():
        sgnas_zoo.generate(flops=4e6)
    assert not allowed_mask(space).is_inference()
    logits = torch.zeros(space.shape, requires_grad=True)
    log_probs(space, logits).exp().square().sum().backward()
    assert logits.grad.isfinite().all()


def test_fake_tensors_get_into_no_cache(cold):
    with FakeTensorMode():
        assert type(next(sgnas_zoo.create_model(flops=4e6).parameters())).__name__ == "FakeTensor"
    assert type(next(sgnas_zoo.create_model(flops=4e6).parameters())) is nn.Parameter


def test_a_failure_inside_leaves_the_next_call_right(cold):
    wanted = str(sgnas_zoo.generate(flops=4e6)[0].arch)
    for cache in caches():
        cache.cache_clear()
    with default_dtype(torch.float64), torch.device("meta"), init_empty_weights():
        with pytest.raises(sgnas_zoo.errors.BudgetError):
            sgnas_zoo.create_model(flops=1)
        with pytest.raises(TypeError):
            sgnas_zoo.create_model(flops=4e6, no_such_keyword=1)
    assert torch.get_default_dtype() == torch.float32
    assert str(sgnas_zoo.generate(flops=4e6)[0].arch) == wanted
    assert nn.Module.register_parameter.__module__ == "torch.nn.modules.module"


@pytest.mark.parametrize("surroundings", SURROUNDINGS)
def test_networks_are_measured_as_float32_on_the_cpu(surroundings):
    seen = []

    def note(module, example, setup):
        seen.append({(t.device.type, t.dtype) for t in (example, *module.parameters())})
        return lambda: None

    space = SPACES["sgnas_micro"]
    setup = Setup("a machine", runtime="noting")
    with RUNTIMES.temporarily("noting", Runtime("noting", note, ("torch",))), SURROUNDINGS[surroundings]():
        measure(space.parse(ARCH), native_conditions(space), setup)
    assert seen == [{("cpu", torch.float32)}]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_models_of_other_types_are_counted(dtype):
    model = timm.create_model("sgnas", space="sgnas_micro", arch=ARCH)
    assert count_macs(model.to(dtype), 32) == count_macs(model.float(), 32)
    with default_dtype(dtype):
        assert count_macs(model.float(), 32) == count_macs(model.to(dtype), 32)
