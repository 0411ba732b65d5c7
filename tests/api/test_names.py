"""Every spelling of a model, a supernet, a generator or a profile, through every door that takes one."""

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import timm
import torch
from commands import good, refused
from hub_cache import keep
from huggingface_hub import constants
from profiles import made_up
from safetensors.torch import load_file

import sgnas_zoo
from sgnas_zoo import create_model, load_generator, load_supernet, save_model
from sgnas_zoo.costs.profile_file import write_profile
from sgnas_zoo.errors import ArtifactError, UnknownNameError, ZooError
from sgnas_zoo.hub.names import read_name
from sgnas_zoo.hub.profiles import load_profile

ARCH = "-".join(["3"] * 8)
FOLDERS = ["net", "./net", "net/", "a/b", "./a/b", "../here/net", "local-dir:net", "local-dir:a/b", "LOCAL-DIR:./net",
           "~/net", "local-dir:~/net"]  # fmt: skip
REPOS = ["me/net@v1", "hf-hub:me/net@v1", "hf_hub:me/net@v1", "me/net", "hf-hub:me/net"]
SPELLINGS = [*FOLDERS, *REPOS]


@pytest.fixture(scope="module")
def places(tmp_path_factory, made):
    """A folder to be in, a home and a Hub cache, each with all kinds of artifacts: ``kind`` is one of the names there.

    The model ``net`` says that it was retrained; the repo's branch main holds another one than its tag v1.
    """
    root = tmp_path_factory.mktemp("places")
    here, home, cache = root / "here", root / "home", root / "cache"
    torch.manual_seed(1)
    for name in ("net", "other"):
        save_model(
            create_model("sgnas", space="sgnas_micro", arch=ARCH, num_classes=3), root / name, weights="retrained"
        )
    (root / "profile").mkdir()
    (root / "profile" / "profile.json").write_text(write_profile(made_up("sgnas_micro")))
    kinds = {"net": root / "net", **{kind: made / kind for kind in ("supernet", "generator")}}
    kinds["profile"] = root / "profile"
    for kind, folder in kinds.items():
        for copy in (here / kind, here / "a" / ("b" if kind == "net" else kind), home / kind):
            shutil.copytree(folder, copy)
        keep(cache, f"me/{kind}", folder, "v1", *(() if kind == "net" else ("main",)))
    keep(cache, "me/net", root / "other", "main")
    return SimpleNamespace(root=root, here=here, home=home, cache=cache)


@pytest.fixture(autouse=True)
def _here(places, monkeypatch):
    monkeypatch.chdir(places.here)
    monkeypatch.setenv("HOME", str(places.home))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(places.cache))


def spelt(spelling, kind):
    """The same spelling for an artifact of another kind."""
    return re.sub(r"\bnet\b|(?<=a/)b\b", kind, spelling)


def is_saved(model, places, spelling):
    """Whether a model has the weights that were saved where a spelling says, and no others."""
    name = "other" if spelling in ("me/net", "hf-hub:me/net") else "net"
    state = model.state_dict()
    same = {n: all(torch.equal(state[k], v) for k, v in load_file(places.root / n / "model.safetensors").items())
            for n in ("net", "other")}  # fmt: skip
    assert same == {"net": name == "net", "other": name == "other"}
    return True


# --- models


@pytest.mark.parametrize("spelling", [*SPELLINGS, Path("net"), Path("a/b")])
def test_create_model_loads_it(places, spelling):
    torch.manual_seed(5)
    assert is_saved(create_model(spelling, pretrained=True), places, spelling)


def test_the_folder_one_is_in(places, monkeypatch):
    monkeypatch.chdir(places.here / "net")
    assert is_saved(create_model(".", pretrained=True), places, ".")
    assert read_name(".").name == "net"
    monkeypatch.chdir(places.here / "a" / "b")
    assert is_saved(create_model("../../net", pretrained=True), places, ".")


def test_without_pretrained_weights_are_fresh_as_in_timm(places):
    model = create_model("net")
    assert not torch.equal(model.conv_stem.weight, load_file("net/model.safetensors")["conv_stem.weight"])
    assert model.zoo["weights"] == "untrained"  # and it says so, whatever the folder does


@pytest.fixture
def caught(monkeypatch):
    """What ``export`` and ``benchmark`` would export and time."""
    seen = []

    def export(network, target, *_, **__):
        seen.append((network, target))
        return SimpleNamespace(details={}, error=0.0)

    def side_by_side(models, *_, **__):
        seen.extend((model, name) for name, model in models.items())
        return []

    monkeypatch.setattr("sgnas_zoo.export.export", export)
    monkeypatch.setattr("sgnas_zoo.measure.side_by_side.side_by_side", side_by_side)
    return seen


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_commands_that_run_a_model_load_it(places, caught, spelling):
    _, exported = good("export", spelling)
    _, timed = good("benchmark", spelling, "--json")
    assert all(is_saved(model, places, spelling) for model, _ in caught)
    assert len(caught) == 2
    assert caught[0][1].name == ("b.onnx" if "a/b" in spelling else "net.onnx")
    assert caught[0][1].parent == Path()
    assert "untrained" not in exported + timed


@pytest.mark.parametrize("name", ["sgnas_a", "sgnas_a.in1k", "test_efficientnet", "sgnas.untrained"])
def test_a_plain_name_is_untrained_and_told_so(caught, name):
    for said in (good("export", name)[1], good("benchmark", name, "--json")[1]):
        assert f"{name} has untrained weights" in said
    assert {model.zoo["weights"] for model, _ in caught} == {"untrained"}


def test_a_folder_with_untrained_weights_is_untrained(made, caught):
    _, said = good("export", made / "model")
    assert "untrained weights" in said


def test_a_tag_of_timm_brings_its_weights(caught, monkeypatch):
    asked = []
    plain = create_model("test_efficientnet")
    monkeypatch.setattr("sgnas_zoo.api.create.create_model", lambda name, pretrained: asked.append(pretrained) or plain)
    for name in ("resnet18.a1_in1k", "resnet18"):
        good("benchmark", name, "--json")
    assert asked == [True, False]


@pytest.mark.parametrize("command", ["export", "benchmark", "info"])
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("local-dir:gone", "no folder gone"), ("./gone", "no folder ./gone"), ("gone/", "is neither a folder here"),
        ("~/gone", "no folder"),
        ("a/b/c", "'a/b/c' is neither a folder here"), ("..gone/x", "is neither a folder here"),
        ("local-dir:", "names nothing"),
        ("hf-hub:", "names nothing"), ("hf-hub:net", "not a Hub repo id"), ("hf-hub:me/a/b", "not a Hub repo id"),
        ("me/gone", "not in the cache"), ("me/net@v9", "not in the cache"), ("s3:me/net", "s3: is not a source"),
        ("gone", "Unknown model"), ("x" * 5000, "xxx"), ("a", "config.json"), ("me/net@", "USER/NAME"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_refused_in_one_line(command, name, words):
    said = refused(command, name)
    assert words in said
    assert len(said) < 6000


def test_what_is_a_name_and_a_folder_is_refused(places, tmp_path, monkeypatch, caught):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(places.here / "net", "resnet18")
    shutil.copytree(places.here / "net", "sgnas")
    for call in (lambda: create_model("resnet18", pretrained=True), lambda: create_model("sgnas")):
        with pytest.raises(UnknownNameError, match=r"is a name and a folder here; write \./"):
            call()
    refused("export", "resnet18")
    good("export", "./resnet18")
    assert is_saved(caught[0][0], places, "net")
    assert create_model("sgnas", arch=ARCH, space="sgnas_micro").num_classes == 10  # made, not saved: a name


def test_an_empty_folder_does_not_hide_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("resnet18").mkdir()
    assert read_name("resnet18", lambda _: True) is None


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_info_tells_of_it(spelling):
    told = json.loads(good("info", spelling, "--json")[0])
    assert (told["kind"], told["architecture"], told["weights"]) == ("model", "sgnas", "retrained")
    assert bool(told.get("revision")) == (spelling in REPOS)
    for kind in ("supernet", "generator", "profile") if spelling in ("net", "me/net") else ():
        out, err = good("info", spelt(spelling, kind))
        assert kind in out
        assert "sgnas_micro" in out
        assert err == ""


def test_commands_for_folders_of_this_machine(places, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(places.here / "net", "net")
    (tmp_path / "me").mkdir()
    for spelling in ("net", "local-dir:net", "~/net", "./net"):
        Path("net/README.md").unlink()
        good("card", spelling)
        assert Path("net/README.md").is_file()
        good("shim", spelling)
    for command in (["card"], ["shim"], ["push"]):
        rest = ["me/x"] if command == ["push"] else []
        assert "no folder hf-hub:me/net" in refused(*command, "hf-hub:me/net", *rest)


# --- recipes


@pytest.mark.parametrize("name", ["evaluate", "finetune", "retrain"])
def test_recipes_load_it(places, recipe, stubs, tmp_path, name):
    module, call = recipe(name)
    for number, spelling in enumerate(SPELLINGS):
        seen = []
        stubs(module, seen)
        output = () if name == "evaluate" else ("--output", tmp_path / f"{number}")
        code, out, err = call("--model", spelling, "--dataset", "x", "--resolution", "16", *output)
        assert code == 0, err
        (network,) = seen
        if name == "retrain":  # the network of the folder, from scratch
            saved = load_file(places.root / "net" / "model.safetensors")
            assert {k: v.shape for k, v in network.state_dict().items()} == {k: v.shape for k, v in saved.items()}
            assert not torch.equal(network.conv_stem.weight, saved["conv_stem.weight"])
            continue
        assert is_saved(network, places, spelling)
        assert "untrained" not in err
        if name == "evaluate":
            assert json.loads(out)["weights"] == "retrained"
            assert len(json.loads(out)["weights_sha256"]) == 64


@pytest.mark.parametrize("name", ["evaluate", "finetune"])
def test_recipes_tell_of_untrained_weights(made, recipe, stubs, tmp_path, name):
    module, call = recipe(name)
    stubs(module, [])
    output = () if name == "evaluate" else ("--output", tmp_path / "out")
    code, _, err = call("--model", made / "model", "--dataset", "x", *output)
    assert code == 0, err
    assert "untrained weights" in err
    code, _, err = call("--model", "./gone", "--dataset", "x", *output)
    assert code == 2
    assert "no folder ./gone" in err


# --- supernets, generators, profiles


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_other_kinds_are_read_by_the_same_spellings(places, spelling):
    supernet, generator = load_supernet(spelt(spelling, "supernet")), load_generator(spelt(spelling, "generator"))
    assert supernet.supernet.space.name == generator.space.name == "sgnas_micro"
    assert supernet.classes == ("a", "b", "c")
    assert load_profile(spelt(spelling, "profile")).space == "sgnas_micro"


@pytest.mark.parametrize("spelling", ["net", "local-dir:net", "~/net", "hf-hub:me/net@v1", "me/net"])
def test_requests_read_them_too(places, spelling):
    pretrained, generator = spelt(spelling, "supernet"), spelt(spelling, "generator")
    expected = load_supernet("./supernet")
    budget = {"flops": 4e6, "space": "sgnas_micro", "generator": generator}
    with pytest.warns(UserWarning, match=r"trained on the \d+ classes of noise"):
        ours = create_model(pretrained=pretrained, **budget)
    with pytest.warns(UserWarning, match=r"trained on the \d+ classes of noise"):
        timms = timm.create_model("sgnas", pretrained=pretrained, **budget)
    inherited = expected.inherit(expected.supernet.space.parse(ours.zoo["arch"])).state_dict()
    for model in (ours, timms):
        assert all(torch.equal(inherited[name], tensor) for name, tensor in model.state_dict().items())
    with_profile = {"latency": f"{MIDDLE}ms", "measure": False, "profile": spelt(spelling, "profile")}
    assert sgnas_zoo.generate(**with_profile)[0].latency is not None
    assert create_model(**with_profile).zoo["latency_ms"] <= float(MIDDLE)


_PROFILE = made_up("sgnas_micro")
_SPACE = sgnas_zoo.spaces.SPACES["sgnas_micro"]
MIDDLE = f"{0.8 * _PROFILE.table(_SPACE, _PROFILE.conditions).maximum:.6f}"


def test_a_tag_is_no_folder_and_the_other_way_round(tmp_path, monkeypatch, places):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(places.here / "supernet", "cifar10")
    with pytest.raises(UnknownNameError, match="is a name and a folder here"):
        create_model(flops=4e6, pretrained="cifar10")
    with pytest.warns(UserWarning, match=r"trained on the \d+ classes of noise"):
        create_model(flops=4e6, space="sgnas_micro", pretrained="./cifar10")


DATASET = ["--dataset", "./nowhere"]


@pytest.mark.parametrize("spelling", ["local-dir:net", "~/net", "hf-hub:me/net@v1", "me/net"])
def test_commands_and_recipes_that_read_supernets(recipe, tmp_path, spelling):
    """They get as far as the data, which is not there."""
    supernet, generator = spelt(spelling, "supernet"), spelt(spelling, "generator")
    pair = ["--supernet", supernet, "--generator", generator, *DATASET, "--output", tmp_path / "out"]
    assert "nowhere" in refused("search", "--flops", "4M", "--strategy", "generator", *pair)
    compared = ["--space", "sgnas_micro", "--budgets", "4M", "--strategies", "generator,random"]
    assert "nowhere" in refused("compare", *compared, *pair)
    for name, arguments in (("train_generator", [*pair[:2], *pair[4:]]), ("measure_supernet", pair)):
        code, _, err = recipe(name)[1](*arguments)
        assert (code, "nowhere" in err) == (2, True), err
    gone = ["--supernet", "local-dir:gone", *DATASET, "--output", tmp_path / "out"]
    assert "no folder gone" in refused("search", "--flops", "4M", *gone)


# --- what an exported file says


@pytest.mark.parametrize(("spelling", "weights"), [("local-dir:net", "retrained"), ("sgnas", "untrained")])
def test_an_exported_file_tells_where_its_weights_come_from(places, tmp_path, monkeypatch, spelling, weights):
    if weights == "untrained":
        small = create_model("sgnas", space="sgnas_micro", arch=ARCH)
        monkeypatch.setattr("sgnas_zoo.api.create.create_model", lambda *_, **__: small)
    good("export", spelling, "--format", "pt2", "--output", tmp_path / "net.pt2", "--resolution", "32")
    extra = {"weights": ""}
    program = torch.export.load(tmp_path / "net.pt2", extra_files=extra).module()
    assert extra["weights"] == weights
    good("export", spelling, "--format", "onnx", "--output", tmp_path / "net.onnx", "--resolution", "32")
    metadata = {entry.key: entry.value for entry in onnx.load(tmp_path / "net.onnx").metadata_props}
    assert metadata["weights"] == weights
    if weights != "untrained":  # the file computes with the weights that were saved
        images = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 3, 32, 32)).astype(np.float32))
        with torch.no_grad():
            expected = create_model("net", pretrained=True).eval()(images)
        assert torch.allclose(program(images), expected, atol=1e-4)
        assert not torch.allclose(program(images), create_model("net").eval()(images), atol=1e-2)


# --- the one function


@pytest.mark.parametrize("name", ["", "banana", "sgnas_a", "sgnas_a.in1k", "gone.json"])
def test_plain_words_are_names(name):
    assert read_name(name) is None
    with pytest.raises(ArtifactError, match="is neither a folder here nor a Hub repo id"):
        load_supernet(name)


def test_a_folder_comes_before_a_repo(places):
    (places.here / "me").mkdir()
    shutil.copytree(places.here / "net", places.here / "me" / "net")
    try:
        assert read_name("me/net").folder == Path("me/net")
        assert read_name("hf-hub:me/net").repo == "me/net"
        assert read_name("me/net@v1").repo == "me/net@v1"
    finally:
        shutil.rmtree(places.here / "me")


ODD = ["\0", "a\0/b", "x" * 5000 + "/y", "~nobody-of-that-name/x", "\ud800/x", "hf-hub:\x1b/x"]


@pytest.mark.parametrize("name", ODD)
def test_odd_names_are_refused_in_printable_words(name):
    with pytest.raises(ZooError) as caught:
        load_supernet(name)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 11_000
