"""What is written can be loaded: by us, by timm; what cannot be is refused with the way on, and nothing is left."""

import warnings

import pytest
import timm
import torch
from accelerate import Accelerator, init_empty_weights
from accelerate.state import AcceleratorState
from timm.utils import ModelEma, ModelEmaV2, ModelEmaV3
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

import sgnas_zoo
from sgnas_zoo import save_model
from sgnas_zoo.errors import ArtifactError
from sgnas_zoo.hub.generators import save_generator
from sgnas_zoo.hub.supernets import load_supernet, save_supernet

ARCH = "-".join(["35"] * 8)
SLOW = ["resnet18", "vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "spos"]
NETWORKS = ["sgnas", "mobilenetv3_small_050", "convnext_atto", *(pytest.param(n, marks=pytest.mark.slow) for n in SLOW)]


def micro(**kwargs):
    return timm.create_model("sgnas", space="sgnas_micro", arch=ARCH, num_classes=3, **kwargs)


def reloaded(model, folder):
    """A model as timm reads it, which ours must agree with."""
    save_model(model, folder)
    found = timm.create_model(f"local-dir:{folder}", pretrained=True)
    ours = sgnas_zoo.create_model(f"local-dir:{folder}", pretrained=True).state_dict()
    assert all(torch.equal(tensor, ours[name]) for name, tensor in found.state_dict().items())
    return found


def same(one, other):
    one, other = one.state_dict(), other.state_dict()
    assert one.keys() == other.keys()
    return all(torch.equal(one[name].float(), other[name].float()) for name in one)


@pytest.mark.parametrize("classes", [7, 0])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_replaced_head_is_saved_as_what_it_is(name, classes, tmp_path):
    model = micro() if name == "sgnas" else timm.create_model(name, num_classes=5)
    heads = model.pretrained_cfg["classifier"]
    for head in [heads] if isinstance(heads, str) else heads:
        old = model.get_submodule(head)
        parent, _, own = head.rpartition(".")
        new = nn.Linear(old.in_features, classes, bias=old.bias is not None) if classes else nn.Identity()
        setattr(model.get_submodule(parent), own, new)
    before = model.num_classes
    found = reloaded(model, tmp_path / "net")
    assert found.num_classes == classes
    assert same(found, model)
    assert model.num_classes == before
    assert found.pretrained_cfg["num_classes"] == classes


@pytest.mark.parametrize("name", NETWORKS)
def test_a_head_that_was_reset_is_saved(name, tmp_path):
    model = micro() if name == "sgnas" else timm.create_model(name, num_classes=5)
    model.reset_classifier(4)
    assert same(reloaded(model, tmp_path / "net"), model)


class Adapter(nn.Module):
    def __init__(self, base):
        super().__init__()
        self.base_layer, self.lora_A = base, nn.Linear(base.in_features, 2, bias=False)


def replace_head(make):
    def change(model):
        model.classifier = make(model.classifier.in_features)

    return change


def with_weight_norm(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        weight_norm(model.conv_head)


def fill(value):
    def change(model):
        with torch.no_grad():
            model.bn1.running_var[0] = value

    return change


REFUSED = {
    "sequential head": (replace_head(lambda f: nn.Sequential(nn.Dropout(), nn.Linear(f, 3))), r"reset_classifier\("),
    "head without bias": (replace_head(lambda f: nn.Linear(f, 3, bias=False)), r"classifier.bias is missing"),
    "head of other features": (replace_head(lambda f: nn.Linear(f + 1, 3)), r"classifier.weight is 3x\d+, not 3x\d+"),
    "adapter": (lambda m: setattr(m, "classifier", Adapter(m.classifier)), "merge_and_unload"),
    "pruned": (lambda m: prune.l1_unstructured(m.conv_head, "weight", 0.5), "prune.remove"),
    "old weight norm": (with_weight_norm, "remove_weight_norm"),
    "old spectral norm": (lambda m: spectral_norm(m.conv_head), "remove_spectral_norm"),
    "weight norm": (lambda m: parametrizations.weight_norm(m.conv_head), "remove_parametrizations"),
    "orthogonal": (lambda m: parametrizations.orthogonal(m.classifier), "remove_parametrizations"),
    "another stem": (lambda m: setattr(m, "conv_stem", nn.Conv2d(4, 16, 3, bias=False)), "undo what was changed"),
    "one layer more": (lambda m: setattr(m, "extra", nn.Linear(2, 2)), "extra.bias is foreign"),
    "one layer less": (lambda m: setattr(m.blocks[0], "0", nn.Identity()), "is missing"),
    "NaN": (fill(float("nan")), "bn1.running_var is not finite"),
    "infinity": (fill(float("inf")), "bn1.running_var is not finite"),
    "complex": (lambda m: m.classifier.to(torch.complex64), "complex64"),
    "float8": (lambda m: m.classifier.to(torch.float8_e4m3fn), "float8"),
    "meta": (lambda m: m.to("meta"), "no values"),
    "statistics": (lambda m: setattr(m, "bn1", nn.GroupNorm(1, 16)), "undo what was changed"),
    "argument": (lambda m: m._model_args.update(act_layer=nn.ReLU), "plain values"),
    "foreign argument": (lambda m: m._model_args.update(depth=3), "which a saved model cannot state"),
}


@pytest.mark.filterwarnings("ignore:Complex modules are a new feature")
@pytest.mark.filterwarnings("ignore:`torch.nn.utils.spectral_norm` is deprecated:FutureWarning")
@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED)
def test_what_nothing_can_load_is_refused(change, message, tmp_path):
    model = micro()
    change(model)
    with pytest.raises(ArtifactError, match=message) as caught:
        save_model(model, tmp_path / "net")
    assert "\n" not in str(caught.value)
    assert not [*tmp_path.iterdir()]


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.spectral_norm` is deprecated:FutureWarning")
@pytest.mark.parametrize(
    ("change", "undo"),
    [
        (REFUSED["pruned"][0], lambda m: prune.remove(m.conv_head, "weight")),
        (REFUSED["old weight norm"][0], lambda m: nn.utils.remove_weight_norm(m.conv_head)),
        (REFUSED["old spectral norm"][0], lambda m: nn.utils.remove_spectral_norm(m.conv_head)),
        (REFUSED["weight norm"][0], lambda m: nn.utils.parametrize.remove_parametrizations(m.conv_head, "weight")),
        (REFUSED["sequential head"][0], lambda m: m.reset_classifier(3)),
    ],
)
def test_the_way_on_leads_on(change, undo, tmp_path):
    model = micro().eval()
    change(model)
    undo(model)
    assert same(reloaded(model, tmp_path / "net"), model)


def accelerated(model):
    AcceleratorState._reset_state(True)
    wrapped = Accelerator(cpu=True, mixed_precision="bf16").prepare(model)
    AcceleratorState._reset_state(True)
    return wrapped


def part_compiled(model):
    model.blocks[1] = torch.compile(model.blocks[1])
    return model


WRAPPERS = [torch.compile, nn.DataParallel, torch.optim.swa_utils.AveragedModel, ModelEma, ModelEmaV2, ModelEmaV3,
            accelerated, part_compiled, lambda m: nn.DataParallel(torch.compile(m)),
            lambda m: torch.compile(nn.DataParallel(m))]  # fmt: skip


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_wrapped_models_are_unwrapped(wrap, tmp_path):
    model = micro()
    plain = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = reloaded(wrap(model), tmp_path / "net").state_dict()
    assert found.keys() == plain.keys()
    assert all(torch.equal(tensor, plain[name]) for name, tensor in found.items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_load(dtype, tmp_path):
    model = micro().to(dtype)
    found = reloaded(model, tmp_path / "net")
    assert same(found, model)
    assert {p.dtype for p in found.parameters()} == {torch.float32}


def test_tied_tensors_are_written_each(tmp_path):
    model = micro()
    model.blocks[2][0].bn1.weight = model.blocks[2][0].bn2.weight
    assert same(reloaded(model, tmp_path / "net"), model)


def test_a_model_without_values_is_refused(tmp_path):
    with init_empty_weights():
        model = micro()
    with pytest.raises(ArtifactError, match="no values"):
        save_model(model, tmp_path / "net")


@pytest.mark.parametrize("surroundings", [torch.device("meta"), torch.inference_mode()], ids=["meta", "inference"])
def test_saving_does_not_see_what_surrounds_it(surroundings, tmp_path):
    model = micro()
    with surroundings:
        save_model(model, tmp_path / "net")
    assert same(timm.create_model(f"local-dir:{tmp_path / 'net'}", pretrained=True), model)


def test_supernets_and_generators_that_nothing_loads_are_not_written(made, new_generator, tmp_path):
    trained, generator = load_supernet(made / "supernet"), new_generator(0)
    with torch.no_grad():
        trained.supernet.classifier.weight[0, 0] = float("nan")
        generator.tail.weight[0, 0] = float("inf")
    with pytest.raises(ArtifactError, match=r"classifier.weight is not finite"):
        save_supernet(trained, tmp_path)
    with pytest.raises(ArtifactError, match=r"tail.weight is not finite"):
        save_generator(generator, tmp_path)
    assert not [*tmp_path.iterdir()]
