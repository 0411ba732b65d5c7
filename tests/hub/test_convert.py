import json
import pickle
import random
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from places import REFERENCE, ROOT, SHARED
from safetensors import safe_open
from safetensors.torch import save_file
from scrambled import scramble
from torch.nn import functional as F

from sgnas_zoo import convert, generate, load_generator
from sgnas_zoo.costs import COSTS
from sgnas_zoo.errors import ArtifactError, ZooError
from sgnas_zoo.models.builder import build_model
from sgnas_zoo.search.relaxation import log_probs
from sgnas_zoo.spaces import SPACES, Form, MBConvKind, Row, SearchSpace
from sgnas_zoo.spaces.sgnas import KERNELS, PLAIN

RELEASED = SHARED / "reference" / "upstream" / "sgnas_imagenet_generator.pth"
POOL = RELEASED.with_name("prior_pool.json")
VECTORS = REFERENCE / "sgnas_derived_vectors.safetensors"
LOGITS = SHARED / "reference" / "sgnas_generator_logits.safetensors"
ANSWERS = ROOT / "recipes" / "data" / "sgnas_imagenet_answers.json"
LAYERS = ((3, 7, 5), (5, 3), (7, 7, 3, 5, 3, 3), (3, 3, 3, 7))
ARCH = "375-53-773533-3337"

needs_reference = pytest.mark.skipif(not RELEASED.exists(), reason="needs the released checkpoints")


def tiny_space(name, final):
    return SearchSpace(
        name=name, family="sgnas", kind=MBConvKind(), rows=(Row(32, 2, 2), Row(40, 2, 2)), choices=KERNELS, slots=6,
        final=final, resolution=64, num_classes=10,
    )  # fmt: skip


TINY = {
    "final": tiny_space("tiny_final", Form("hard_swish", "hard_swish", se=True, expand_single=False)),
    "plain": tiny_space("tiny_plain", PLAIN),
}


def everything(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def logits_of(folder, x):
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    with torch.no_grad():
        return model(x)


# --- a released-style network from random tensors, run as plainly as possible


def random_state(layers, se, classes=10, seed=0, expand_single=False):
    """State dict in the released layout of layers of kernels with widths 16 -> 32 32 40 40."""
    state = {}
    rng = torch.Generator().manual_seed(seed)

    def weight(name, *shape):
        fan = max(1, torch.Size(shape[1:]).numel())
        state[name] = torch.randn(shape, generator=rng) * (2 / fan) ** 0.5

    def norm(name, chs):
        state[f"{name}.weight"] = 0.5 + torch.rand(chs, generator=rng)
        state[f"{name}.bias"] = 0.3 * torch.randn(chs, generator=rng)
        state[f"{name}.running_mean"] = 0.3 * torch.randn(chs, generator=rng)
        state[f"{name}.running_var"] = 0.5 + torch.rand(chs, generator=rng)
        state[f"{name}.num_batches_tracked"] = torch.tensor(7)

    def block(name, in_chs, out_chs, kernels, expand):
        mid = in_chs * len(kernels)
        if expand:
            weight(f"{name}.point_wise.conv.weight", mid, in_chs, 1, 1)
            norm(f"{name}.point_wise.bn", mid)
        for i, kernel in enumerate(kernels):
            weight(f"{name}.depthwise.blocks.{i}.weight", in_chs, 1, kernel, kernel)
        norm(f"{name}.depthwise.bn", mid)
        if se:
            weight(f"{name}.se.squeeze_conv.weight", mid // 4, mid, 1, 1)
            weight(f"{name}.se.squeeze_conv.bias", mid // 4)
            weight(f"{name}.se.excite_conv.weight", mid, mid // 4, 1, 1)
            weight(f"{name}.se.excite_conv.bias", mid)
        weight(f"{name}.point_wise_1.conv.weight", out_chs, mid, 1, 1)
        norm(f"{name}.point_wise_1.bn", out_chs)

    weight("first.conv.weight", 32, 3, 3, 3)
    norm("first.bn", 32)
    block("first_mb", 32, 16, (3,), expand=False)
    in_chs = 16
    for i, (kernels, out_chs) in enumerate(zip(layers, (32, 32, 40, 40), strict=True)):
        block(f"stages.{i}", in_chs, out_chs, kernels, expand=expand_single or len(kernels) > 1)
        in_chs = out_chs
    weight("last_stage.0.weight", 1280, 40, 1, 1)
    norm("last_stage.1", 1280)
    weight("classifier.1.weight", classes, 1280)
    weight("classifier.1.bias", classes)
    return state


def slow_forward(state, x):
    """The released forward pass in evaluation mode, group by group."""
    act = F.hardswish if "first_mb.se.squeeze_conv.weight" in state else F.relu6

    def norm(name, x):
        keys = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(x, *(state[f"{name}.{key}"] for key in keys))

    def block(name, x, stride):
        entry = x
        if f"{name}.point_wise.conv.weight" in state:
            x = act(norm(f"{name}.point_wise.bn", F.conv2d(x, state[f"{name}.point_wise.conv.weight"])))
        weights = [v for k, v in state.items() if k.startswith(f"{name}.depthwise.blocks.")]
        groups = [
            F.conv2d(part, w, stride=stride, padding=w.shape[-1] // 2, groups=len(w))
            for part, w in zip(x.chunk(len(weights), 1), weights, strict=True)
        ]
        x = act(norm(f"{name}.depthwise.bn", torch.cat(groups, 1)))
        if f"{name}.se.squeeze_conv.weight" in state:
            pooled = x.mean((2, 3), keepdim=True)
            for part, after in (("squeeze", F.relu), ("excite", F.hardsigmoid)):
                conv = f"{name}.se.{part}_conv"
                pooled = after(F.conv2d(pooled, state[f"{conv}.weight"], state[f"{conv}.bias"]))
            x = x * pooled
        x = norm(f"{name}.point_wise_1.bn", F.conv2d(x, state[f"{name}.point_wise_1.conv.weight"]))
        return x + entry if stride == 1 and x.shape == entry.shape else x

    x = act(norm("first.bn", F.conv2d(x, state["first.conv.weight"], stride=2, padding=1)))
    x = block("first_mb", x, 1)
    for i, stride in enumerate((2, 1, 2, 1)):
        x = block(f"stages.{i}", x, stride)
    x = act(norm("last_stage.1", F.conv2d(x, state["last_stage.0.weight"])))
    return F.linear(x.mean((2, 3)), state["classifier.1.weight"], state["classifier.1.bias"])


def swapped(state):
    """The state with two depthwise kernels of one size exchanged."""
    first, second = (f"stages.2.depthwise.blocks.{i}.weight" for i in (0, 1))
    return {**state, first: state[second], second: state[first]}


@pytest.mark.parametrize("kind", TINY)
@pytest.mark.parametrize("layers", [LAYERS, ((7,), (3,), (5, 5, 5), (7, 3))])
def test_a_network_of_random_tensors_computes_the_same(tmp_path, kind, layers):
    state = random_state(layers, se=kind == "final")
    torch.manual_seed(1)
    x = torch.randn(2, 3, 64, 64)
    save_file(state, tmp_path / "net.safetensors")
    torch.save({"model": {f"module.{k}": v for k, v in state.items()}, "epoch": 3}, tmp_path / "net.pth")
    with SPACES.temporarily(TINY[kind].name, TINY[kind]) as space:
        for file in ("net.safetensors", "net.pth"):
            out = convert(tmp_path / file, tmp_path / f"{file}.out", space=space.name)
            assert everything(out) == ["README.md", "architecture.svg", "config.json", "model.safetensors"]
            assert torch.allclose(logits_of(out, x), slow_forward(state, x), atol=1e-4)
        config = json.loads((out / "config.json").read_text())
        assert config["model_args"]["arch"] == "-".join("".join(map(str, kernels)) for kernels in layers)
        assert config["model_args"]["space"] == space.name
        assert config["num_classes"] == 10
        if layers is LAYERS:
            assert not torch.allclose(slow_forward(swapped(state), x), slow_forward(state, x), atol=1e-3)


def test_the_space_is_found_from_the_layers(tmp_path):
    save_file(random_state(LAYERS, se=True), tmp_path / "net.safetensors")
    with pytest.raises(ArtifactError, match="fit no registered"):
        convert(tmp_path / "net.safetensors", tmp_path / "out")
    space = TINY["final"]
    with SPACES.temporarily(space.name, space):
        convert(tmp_path / "net.safetensors", tmp_path / "out")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["model_args"]["space"] == space.name


@pytest.mark.parametrize("layers", [LAYERS, ((7,), (3,), (5, 5, 5), (7, 3))])
def test_a_lite_network_is_found_from_its_tensors(tmp_path, layers):
    state, space, x = random_state(layers, se=False), TINY["final"], torch.randn(2, 3, 64, 64)
    save_file(state, tmp_path / "net.safetensors")
    with SPACES.temporarily(space.name, space):
        out = convert(tmp_path / "net.safetensors", tmp_path / "out")
        assert json.loads((out / "config.json").read_text())["model_args"]["form"] == "lite"
        assert torch.allclose(logits_of(out, x), slow_forward(state, x), atol=1e-4)
        same = convert(tmp_path / "net.safetensors", tmp_path / "same", form="lite")
        assert (same / "model.safetensors").read_bytes() == (out / "model.safetensors").read_bytes()
        refuse(tmp_path / "net.safetensors", tmp_path, "leave out --form", target="wrong", form="final")


def test_expansions_tell_a_lite_network_from_one_of_the_supernet(tmp_path):
    space = replace(TINY["final"], name="tiny_searched", search=Form("relu6", "relu6"))
    singles = ((7,), (3,), (5, 5, 5), (7, 3))
    for form, expand in (("lite", False), ("search", True)):
        save_file(random_state(singles, se=False, expand_single=expand), tmp_path / f"{form}.safetensors")
        with SPACES.temporarily(space.name, space):
            out = convert(tmp_path / f"{form}.safetensors", tmp_path / form)
            assert json.loads((out / "config.json").read_text())["model_args"]["form"] == form


# --- state dicts with timm's names

LITE = [name for name in SPACES if "lite" in SPACES[name].forms]
NAMED = [*((name, "lite") for name in LITE), ("sgnas_imagenet", "final"), ("spos_channel", "final")]


def made(name, form, **kwargs):
    """A network of random weights, of which all are seen in its outputs."""
    space = SPACES[name]
    arch = space.sample(random.Random(1))
    return arch, scramble(build_model(space.family, arch, form, num_classes=4, **kwargs)).eval()


@torch.no_grad()
@pytest.mark.parametrize(("name", "form"), NAMED)
def test_a_state_dict_makes_a_folder_of_its_network(tmp_path, name, form):
    assert len(LITE) == 5
    arch, model = made(name, form, in_chans=1)
    torch.save({"state_dict": model.state_dict(), "epoch": 3}, tmp_path / "net.pth")
    out = convert(tmp_path / "net.pth", tmp_path / "out", space=name, arch=str(arch), form=form)
    config, x = json.loads((out / "config.json").read_text()), torch.randn(2, 1, 64, 64)
    stated = {"form": "final", **config["model_args"]}
    assert [stated[key] for key in ("space", "arch", "form")] == [name, str(arch), form]
    assert torch.equal(logits_of(out, x), model(x))
    assert "converted from a checkpoint" in (out / "README.md").read_text()


@torch.no_grad()
def test_the_form_of_a_state_dict_is_not_guessed(tmp_path):
    arch, model = made("greedynas", "lite")
    torch.save(model.state_dict(), tmp_path / "net.pth")
    as_final, as_lite = (
        convert(tmp_path / "net.pth", tmp_path / f"{form}", space="greedynas", arch=str(arch), form=form)
        for form in (None, "lite")
    )
    x = torch.randn(2, 3, 64, 64)
    assert torch.equal(logits_of(as_lite, x), model(x))
    assert not torch.allclose(logits_of(as_final, x), model(x), atol=0.1)  # h-swish, with the same tensors


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "--space, --arch and --form"),
        ({"arch": "3-3"}, "layers"),
        ({"arch": None, "form": "final"}, "in the final form; check architecture, form and file"),
        ({"arch": None, "form": "light"}, "lite"),
        ({"arch": None, "form": "lite", "space": "sgnas_micro"}, "sgnas_micro"),
        ({"arch": "3" + "-3" * 18, "form": "lite"}, "do not fit"),
    ],
    ids=str,
)
def test_state_dicts_of_other_networks(tmp_path, asked, said):
    arch, model = made("sgnas_imagenet", "lite")
    torch.save(model.state_dict(), tmp_path / "net.pth")
    asked = {**asked, "arch": asked["arch"] or str(arch)} if asked else {}
    refuse(tmp_path / "net.pth", tmp_path, said, **asked)


@pytest.mark.parametrize("name", ["conv_stem.weight", "classifier.bias", "blocks.1.0.bn1.weight"])
def test_state_dicts_that_lack_a_part(tmp_path, name):
    arch, model = made("sgnas_imagenet", "lite")
    torch.save({key: value for key, value in model.state_dict().items() if key != name}, tmp_path / "net.pth")
    refuse(tmp_path / "net.pth", tmp_path, "check", arch=str(arch), form="lite")


# --- released vectors


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("kind", TINY)
def test_released_networks_compute_the_same(tmp_path, kind, suffix):
    with safe_open(VECTORS, "pt") as vectors:
        prefix = f"{kind}.state."
        state = {k.removeprefix(prefix): vectors.get_tensor(k) for k in vectors.keys() if k.startswith(prefix)}  # noqa: SIM118
        x, expected = vectors.get_tensor(f"{kind}.x"), vectors.get_tensor(f"{kind}.logits")
    results = []
    with SPACES.temporarily(TINY[kind].name, TINY[kind]) as space:
        for name, tensors in (("right", state), ("swapped", swapped(state))):
            file = tmp_path / f"{name}{suffix}"
            save_file(tensors, file) if suffix == ".safetensors" else torch.save(tensors, file)
            results.append(logits_of(convert(file, tmp_path / name, space=space.name), x))
    assert torch.allclose(results[0], expected, atol=1e-5)
    assert not torch.allclose(results[1], expected, atol=1e-5)


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    if not RELEASED.exists():
        pytest.skip("needs the released checkpoints")
    return convert(RELEASED, tmp_path_factory.mktemp("released") / "generator")


def test_the_released_generator_gives_its_logits(converted):
    generator = load_generator(converted)
    with safe_open(LOGITS, "pt") as vectors:
        targets = [int(k.split(".")[1]) for k in vectors.keys() if k.startswith("logits.")]  # noqa: SIM118
        expected = torch.stack([vectors.get_tensor(f"logits.{target}") for target in targets])
        prior = vectors.get_tensor("prior.360").argmax(-1).tolist()
    assert len(targets) >= 9
    logits = generator.logits(flops=[target * 1e6 for target in targets])
    assert (logits - expected).abs().max() < 1e-4
    assert (logits.roll(1, 0) - expected).abs().max() > 1e-2
    assert generator.prior.picks == tuple(map(tuple, prior))


def test_the_released_generator_gives_its_answers(converted):
    generator = load_generator(converted)
    answers = json.loads(ANSWERS.read_text())["answers"]
    assert len(answers) == 180
    scores = log_probs(generator.space, generator.logits(flops=[int(target) * 1e6 for target in answers]))
    archs = [str(generator.space.arch(picks)) for picks in scores.argmax(-1).tolist()]
    assert archs == list(answers.values())


def test_what_a_converted_generator_says_of_itself(converted):
    assert everything(converted) == ["README.md", "config.json", "evaluation.json", "model.safetensors"]
    config = json.loads((converted / "config.json").read_text())
    assert config["artifact"] == "generator"
    assert (config["space"], config["cost"]) == ("sgnas_imagenet", "conv_macs")
    assert config["conditions"]["form"] == "search"
    assert config["range"] == [270e6, 450e6]
    assert config["prior"] in (converted / "README.md").read_text()


def test_a_converted_generator_keeps_budgets(converted):
    budgets = [300e6, 350e6, 420e6]
    table = None
    for result, budget in zip(generate(flops=budgets, generator=converted), budgets, strict=True):
        table = table or COSTS["macs"].table(result.arch.space, result.conditions)
        assert 0.99 * budget <= result.macs <= budget
        assert result.macs == table.measure(result.arch)


# --- bad input


class Trap:
    """Touches a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


def plain_pickle(file, content):
    file.write_bytes(pickle.dumps(content, protocol=2))


def torch_zip(file, content):
    """A torch archive whose pickle holds ``content``."""
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(content, protocol=2))
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")


def refuse(file, tmp_path, words=".", target="out", **kwargs):
    before = everything(tmp_path)
    with pytest.raises(ZooError, match=words) as error:
        convert(file, tmp_path / target, **kwargs)
    assert "\n" not in str(error.value)
    assert everything(tmp_path) == before


@pytest.mark.parametrize("write", [plain_pickle, torch_zip])
def test_a_pickle_with_code_is_not_run(tmp_path, write):
    file, touched = tmp_path / "evil.pth", tmp_path / "touched"
    write(file, {"hc_head.0.conv.weight": Trap(str(touched))})
    refuse(file, tmp_path, "would run code")
    assert not touched.exists()
    if write is plain_pickle:  # the trap is armed
        pickle.loads(file.read_bytes())
    else:
        torch.load(file, weights_only=False)
    assert touched.exists()


@pytest.mark.parametrize(
    "content", [b"", b"hello, this is text\n", b"\x00" * 50, b"\x80\x04", b"PK\x03\x04 cut", b"12345678{", b"{}"]
)
def test_files_that_are_no_checkpoints(tmp_path, content):
    (tmp_path / "file.pth").write_bytes(content)
    refuse(tmp_path / "file.pth", tmp_path, r"file\.pth")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_checkpoints_cut_short(tmp_path, suffix, share):
    state = random_state(LAYERS, se=True)
    file = tmp_path / f"net{suffix}"
    save_file(state, file) if suffix == ".safetensors" else torch.save(state, file)
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])
    refuse(file, tmp_path, "damaged")


@pytest.mark.parametrize("name", ["missing.pth", "."])
def test_files_that_are_not_there(tmp_path, name):
    refuse(tmp_path / name, tmp_path, "not a file")


@pytest.mark.parametrize(
    "content",
    [
        torch.zeros(3),
        [1, 2],
        {},
        {"a": 1},
        {"model": {"fc.weight": torch.zeros(2, 2)}},
        {"conv_stem.weight": torch.zeros(32, 3, 3, 3), "classifier.weight": torch.zeros(10, 1280)},
    ],
)
def test_foreign_state_dicts(tmp_path, content):
    torch.save(content, tmp_path / "foreign.pth")
    refuse(tmp_path / "foreign.pth", tmp_path, r"foreign\.pth")


@pytest.mark.parametrize(
    "missing", ["first.bn.weight", "stages.1.point_wise_1.conv.weight", "stages.2.depthwise.bn.bias"]
)
def test_networks_that_lack_a_part(tmp_path, missing):
    state = random_state(LAYERS, se=True)
    del state[missing]
    save_file(state, tmp_path / "net.safetensors")
    with SPACES.temporarily(TINY["final"].name, TINY["final"]):
        refuse(tmp_path / "net.safetensors", tmp_path, space=TINY["final"].name)


@pytest.mark.parametrize(
    "change",
    [
        {"first.conv.weight": torch.zeros(5)},
        {"first.conv.weight": torch.tensor(0.0)},
        {"classifier.1.weight": torch.tensor(0.0)},
        {"stages.1.depthwise.blocks.0.weight": torch.tensor(0.0)},
        {"stages.1.depthwise.blocks.0.weight": torch.zeros(32, 1, 9, 9)},
        {"stages.1.point_wise_1.conv.weight": torch.tensor(0.0)},
        {"stages.1.point_wise_1.conv.weight": torch.zeros(32, 3, 1, 1)},
        {"stages.1.se.squeeze_conv.weight": torch.zeros(1)},
        {"stages.1.depthwise.bn.weight": torch.zeros(2)},
        {"stages.9.depthwise.blocks.0.weight": torch.zeros(32, 1, 3, 3)},
    ],
    ids=lambda change: " ".join(f"{name} {list(tensor.shape)}" for name, tensor in change.items()),
)
def test_networks_with_parts_of_other_shapes(tmp_path, change):
    save_file({**random_state(LAYERS, se=True), **change}, tmp_path / "net.safetensors")
    with SPACES.temporarily(TINY["final"].name, TINY["final"]):
        refuse(tmp_path / "net.safetensors", tmp_path, space=TINY["final"].name)


@needs_reference
@pytest.mark.parametrize(
    "pool", [None, "{}", "[]", "not json", '{"360": [[1, 0]]}', '{"360": "abc"}', '{"a": [[null]]}']
)
def test_a_generator_without_its_prior(tmp_path, pool):
    (tmp_path / "generator.pth").write_bytes(RELEASED.read_bytes())
    if pool is not None:
        (tmp_path / "prior_pool.json").write_text(pool)
    refuse(tmp_path / "generator.pth", tmp_path, "--prior FILE")
    convert(tmp_path / "generator.pth", tmp_path / "out", prior=POOL)
    assert (tmp_path / "out" / "config.json").exists()


@needs_reference
def test_a_generator_for_an_unknown_space(tmp_path):
    (tmp_path / "generator.pth").write_bytes(RELEASED.read_bytes())
    refuse(tmp_path / "generator.pth", tmp_path, "sgnas_imagenet", space="sgnas_imagnet", prior=POOL)


def test_a_generator_with_parts_of_other_shapes(tmp_path):
    rows = [[1.0, 0, 0, 0] + [0, 0, 0, 1.0] * 5] * 19
    (tmp_path / "prior_pool.json").write_text(json.dumps({"360": rows}))
    for shape in ((32, 10, 3, 3), (4,), ()):
        torch.save({"hc_head.0.conv.weight": torch.zeros(shape)}, tmp_path / "generator.pth")
        refuse(tmp_path / "generator.pth", tmp_path)


def test_output_in_the_way(tmp_path):
    save_file(random_state(LAYERS, se=True), tmp_path / "net.safetensors")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with SPACES.temporarily(TINY["final"].name, TINY["final"]):
        refuse(tmp_path / "net.safetensors", tmp_path, "not empty")
        with pytest.raises(ArtifactError, match=r"mine\.txt would be lost"):
            convert(tmp_path / "net.safetensors", tmp_path / "out", force=True)
        (tmp_path / "out" / "mine.txt").unlink()
        convert(tmp_path / "net.safetensors", tmp_path / "out")
        convert(tmp_path / "net.safetensors", tmp_path / "out", force=True)
    assert everything(tmp_path / "out") == ["README.md", "architecture.svg", "config.json", "model.safetensors"]
