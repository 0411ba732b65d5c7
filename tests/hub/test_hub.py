import errno
import json
import re
import shutil
import tempfile
from pathlib import Path

import pytest
import timm
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from places import ROOT
from safetensors.torch import load_file, save_file

import sgnas_zoo
from sgnas_zoo import folders, generate, load_generator, save_model
from sgnas_zoo.costs import COSTS, native_conditions
from sgnas_zoo.errors import ArtifactError, ZooError
from sgnas_zoo.files import sha256
from sgnas_zoo.hub import generators
from sgnas_zoo.hub.generators import default_generator, save_generator
from sgnas_zoo.search.generator import ArchGenerator
from sgnas_zoo.search.relaxation import log_probs
from sgnas_zoo.spaces import SPACES

ANSWERS = ROOT / "recipes" / "data" / "sgnas_imagenet_answers.json"
CARD = ROOT / "hub_cards" / "sgnas_imagenet_generator" / "README.md"
CIFAR = SPACES["sgnas_cifar"]
CIFAR_ARCH = "353-77-3-5-7-333-35-57-73-333333-777777-3-3-3-3-5-5-5-7"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def made(**kwargs):
    torch.manual_seed(0)
    return sgnas_zoo.create_model(**kwargs)


MODELS = {
    "budget": lambda: made(flops=200e6),
    "timm": lambda: timm.create_model("sgnas", flops=200e6),
    "small classes": lambda: made(flops=200e6, num_classes=7),
    "cifar": lambda: made(model_name="sgnas", arch=CIFAR_ARCH, space="sgnas_cifar"),
    "search form": lambda: made(model_name="sgnas", arch=CIFAR_ARCH, space="sgnas_cifar", form="search"),
    "lite form": lambda: made(flops=200e6, form="lite"),
    "named": lambda: made(model_name="sgnas_a"),
    "greedynas": lambda: made(model_name="greedynas", num_classes=0),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A generated model with batch norms away from their start, and the folder it was saved to."""
    model = made(flops=200e6).eval()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if "running_mean" in name:
                tensor.normal_(std=0.1)
    return model, save_model(model, tmp_path_factory.mktemp("models") / "net", weights="untrained")


@pytest.fixture
def folder(tmp_path):
    """A saved generator."""
    save_generator(tiny_generator(), tmp_path)
    return tmp_path


def tiny_generator(seed=0):
    torch.manual_seed(seed)
    prior = CIFAR.parse(CIFAR_ARCH)
    return ArchGenerator(prior, "macs", native_conditions(CIFAR), (50e6, 200e6), width=4, target_chs=2).eval()


def output(model, chans=3, seed=1):
    torch.manual_seed(seed)
    with torch.no_grad():
        return model(torch.randn(2, chans, 64, 64))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# --- models


def test_what_is_written(saved):
    model, folder = saved
    assert names(folder) == ["README.md", "architecture.svg", "config.json", "model.safetensors"]
    config = json.loads((folder / "config.json").read_text())
    assert config["architecture"] == "sgnas"
    assert config["num_classes"] == 1000
    assert config["model_args"]["arch"] == model.zoo["arch"]
    assert config["model_args"]["space"] == "sgnas_imagenet"
    assert not {"flops", "params", "num_classes", "generator"} & set(config["model_args"])
    assert config["zoo"] == {**model.zoo, "weights": "untrained"}
    assert config["zoo"]["requested"] == {"flops": 200_000_000}
    assert config["zoo"]["macs"] <= 200e6
    assert config["zoo"]["params"] == sum(p.numel() for p in model.parameters())
    assert config["zoo"]["generator"]["sha256"] == default_generator("sgnas_imagenet").source.sha256
    card = (folder / "README.md").read_text()
    for fact in (model.zoo["arch"], f"{model.zoo['macs']:,}", f"{model.zoo['params']:,}", "untrained", "# net"):
        assert fact in card


@pytest.mark.parametrize("kind", MODELS)
def test_timm_loads_what_was_saved(tmp_path, kind):
    model = MODELS[kind]().eval()
    save_model(model, tmp_path / "net")
    loaded = timm.create_model(f"local-dir:{tmp_path / 'net'}", pretrained=True).eval()
    assert torch.equal(output(loaded), output(model))
    arguments = json.loads((tmp_path / "net" / "config.json").read_text())["model_args"]
    assert not {"flops", "params", "num_classes", "generator"} & set(arguments)


def test_without_pretrained_the_weights_are_others(saved):
    model, folder = saved
    assert not torch.equal(output(timm.create_model(f"local-dir:{folder}").eval()), output(model))


def test_timm_loads_for_other_tasks(saved):
    model, folder = saved
    source, x = f"local-dir:{folder}", torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        fewer = timm.create_model(source, pretrained=True, num_classes=3).eval()
        assert fewer(x).shape == (2, 3)
        assert torch.equal(fewer.forward_features(x), model.forward_features(x))
        grey = timm.create_model(source, pretrained=True, in_chans=1).eval()
        expected = model(x[:, :1].expand(-1, 3, -1, -1))  # timm sums the stem over its input channels
        assert torch.allclose(grey(x[:, :1]), expected, atol=1e-4)
        maps = timm.create_model(source, pretrained=True, features_only=True).eval()(x)
        assert [m.shape[-1] for m in maps] == [32, 16, 8, 4, 2]
        assert torch.equal(maps[-1], model.blocks(model.bn1(model.conv_stem(x))))


def test_a_loaded_model_can_be_saved_again(saved, tmp_path):
    model, folder = saved
    loaded = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    save_model(loaded, tmp_path / "again")
    again = timm.create_model(f"local-dir:{tmp_path / 'again'}", pretrained=True).eval()
    assert torch.equal(output(again), output(model))


def test_saving_leaves_the_model_as_it_was(tmp_path):
    model = MODELS["small classes"]().train()
    before = dict(model._model_args), {k: v.clone() for k, v in model.state_dict().items()}
    save_model(model, tmp_path / "net")
    assert model._model_args == before[0]
    assert model.training
    assert all(torch.equal(v, before[1][k]) for k, v in model.state_dict().items())


def test_class_names_stand_where_timm_and_transformers_look(tmp_path):
    """At the root; names of other classes than the model's are left out."""
    save_model(sgnas_zoo.create_model(flops=4e6, pretrained=True), tmp_path / "ten")
    config = json.loads((tmp_path / "ten" / "config.json").read_text())
    assert config["label_names"][:2] == ["airplane", "automobile"]
    loaded = timm.create_model(f"local-dir:{tmp_path / 'ten'}", pretrained=True)
    assert loaded.pretrained_cfg["label_names"] == config["label_names"]
    loaded.reset_classifier(3)
    save_model(loaded, tmp_path / "three")
    config = json.loads((tmp_path / "three" / "config.json").read_text())
    assert "label_names" not in config
    assert "label_names" not in config["pretrained_cfg"]


def test_nothing_is_overwritten_without_force(saved, tmp_path):
    model, _ = saved
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for force in (False, True):
        with pytest.raises(ArtifactError, match=r"not empty.*mine\.txt"):
            save_model(model, tmp_path / "net", force=force)
    with pytest.raises(ArtifactError, match="is a file"):
        save_model(model, tmp_path / "file", force=True)
    assert names(tmp_path / "net") == ["mine.txt"]
    assert (tmp_path / "file").read_text() == "mine"
    (tmp_path / "net" / "mine.txt").unlink()
    save_model(model, tmp_path / "net")
    with pytest.raises(ArtifactError, match=r"not empty.*force"):
        save_model(model, tmp_path / "net")
    save_model(model, tmp_path / "net", force=True)
    assert names(tmp_path / "net") == ["README.md", "architecture.svg", "config.json", "model.safetensors"]
    assert names(tmp_path) == ["file", "net"]


def test_a_model_in_channels_last_is_saved_as_any_other(tmp_path):
    model = made(model_name="sgnas", space="sgnas_micro", arch="-".join(["35"] * 8)).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = model(images)
    save_model(model.to(memory_format=torch.channels_last), tmp_path / "net")
    assert not model.conv_stem.weight.is_contiguous()
    again = timm.create_model(f"local-dir:{tmp_path / 'net'}", pretrained=True).eval()
    with torch.no_grad():
        assert torch.equal(again(images), expected)


@pytest.mark.parametrize("force", [False, True])
def test_a_full_disk_leaves_nothing_behind(saved, tmp_path, monkeypatch, force):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    if force:
        save_model(saved[0], tmp_path / "net")
    before = [path.relative_to(tmp_path) for path in tmp_path.rglob("*")]
    monkeypatch.setattr("sgnas_zoo.hub.models.save_file", full)
    with pytest.raises(ArtifactError, match="No space left"):
        save_model(saved[0], tmp_path / "net", force=force)
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("*")] == before


def test_only_models_of_timm_are_saved(tmp_path):
    with pytest.raises(ArtifactError, match="create_model"):
        save_model(torch.nn.Linear(2, 2), tmp_path / "net")
    assert names(tmp_path) == []


# --- generators


def test_a_generator_comes_back_as_it_was(folder):
    model, loaded = tiny_generator(), load_generator(folder)
    targets = [40e6, 100e6, 250e6]
    assert torch.equal(loaded.logits(flops=targets), model.logits(flops=targets))
    assert (loaded.prior, loaded.cost, loaded.conditions) == (model.prior, model.cost, model.conditions)
    assert loaded.cost_range == model.cost_range
    assert loaded.source.sha256 == sha256(folder / "model.safetensors")
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())
    assert not torch.equal(tiny_generator(seed=1).logits(flops=targets), model.logits(flops=targets))


def test_loading_leaves_the_random_state_alone(folder):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load_generator(folder)
    assert torch.equal(torch.rand(3), expected)


def edit(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format_version": 2}, "version 2.*upgrade"),
        ({"format_version": None}, "version None"),
        ({"artifact": "supernet"}, "not hold a generator"),
        ({"width": 10**9}, r"not valid \(width: .*1024"),
        ({"width": -1}, r"not valid \(width: .*1\); fetch the artifact again\.$"),
        ({"width": 4.0}, r"not valid \(width: .*float"),
        ({"width": True}, "not valid"),
        ({"target_chs": 10**9}, r"not valid \(target_chs: "),
        ({"spend": 1.1}, r"not valid \(spend: "),
        ({"spend": float("nan")}, "not valid JSON"),
        ({"width": 5}, "not fit its config"),
        ({"range": [-1e6, 1e6]}, r"not valid \(range\[0\]: "),
        ({"range": [2e6, 1e6]}, r"not valid \(range: "),
        ({"range": [float("nan"), 1e6]}, "not valid JSON"),
        ({"range": [1e6, float("nan")]}, "not valid JSON"),
        ({"range": [1e6, float("inf")]}, "not valid JSON"),
        ({"range": [1e6, 10**400]}, r"not valid \(range\[1\]: "),
        ({"range": [1e6]}, r"not valid \(range: "),
        ({"space": "sgnas_imagenet_2"}, "sgnas_imagenet"),
        ({"space": "greedynas"}, "not valid"),
        ({"space": ["sgnas_cifar"]}, "not valid"),
        ({"prior": "k3e3-k5e6"}, "not valid"),
        ({"prior": 7}, r"not valid \(prior: "),
        ({"cost": "seconds"}, "not valid"),
        ({"conditions": {"form": "weird"}}, "not valid"),
        ({"conditions": {"resolution": -1}}, "not valid"),
        ({"conditions": {"colour": 1}}, "not valid"),
        ({"conditions": []}, r"not valid \(conditions: "),
    ],
)
def test_hostile_configs_are_refused(folder, changes, words):
    edit(folder, **changes)
    with pytest.raises(ArtifactError, match=words):
        load_generator(folder)


@pytest.mark.parametrize("text", ["[1, 2]", "", "{", "7", "null", "[" * 100_000, '{"a": ' + "9" * 5000 + "}"])
def test_configs_that_are_no_objects(folder, text):
    (folder / "config.json").write_text(text)
    with pytest.raises(ArtifactError, match=r"config\.json"):
        load_generator(folder)


def test_a_huge_config_is_not_read(folder):
    (folder / "config.json").write_text(json.dumps({"filler": "x" * 2_000_000}))
    with pytest.raises(ArtifactError, match="too large"):
        load_generator(folder)


def test_bytes_that_are_no_text(folder):
    (folder / "config.json").write_bytes(b"\xff\xfe\x00{")
    with pytest.raises(ArtifactError, match="not valid JSON"):
        load_generator(folder)


@pytest.mark.parametrize(
    "field", json.loads((generators.embedded_generator("sgnas_imagenet") / "config.json").read_text())
)
def test_a_missing_field(folder, field):
    config = json.loads((folder / "config.json").read_text())
    del config[field]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ArtifactError):
        load_generator(folder)


def test_how_much_a_generator_spends_is_saved_and_99_percent_where_nobody_said(folder):
    generator = tiny_generator()
    generator.spend = 0.0
    save_generator(generator, folder)
    assert load_generator(folder).spend == 0
    config = json.loads((folder / "config.json").read_text())
    del config["spend"]
    (folder / "config.json").write_text(json.dumps(config))
    assert load_generator(folder).spend == 0.99


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(10**300, 10**400) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)
FIELDS = ("artifact", "format_version", "space", "cost", "range", "prior", "width", "target_chs", "spend", "conditions")
CONDITIONS = st.fixed_dictionaries({}, optional=dict.fromkeys(("form", "resolution", "num_classes", "in_chans"), JSON))


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(field=st.sampled_from(FIELDS), value=JSON | CONDITIONS | st.lists(JSON, min_size=2, max_size=2))
def test_any_value_gives_a_generator_or_an_error_of_ours(field, value):
    with tempfile.TemporaryDirectory() as name:
        save_generator(tiny_generator(), Path(name))
        edit(Path(name), **{field: value})
        try:
            loaded = load_generator(name)
        except ZooError:
            return
        assert loaded.logits(flops=[100e6]).shape == (1, *CIFAR.shape)


def test_damaged_weights(folder):
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    state = {
        name: tensor.clone() for name, tensor in load_file(weights).items()
    }  # the file is mapped, and rewritten below
    for damaged in (whole[: len(whole) // 2], b"", b"nonsense", b"\xff" * 100):
        weights.write_bytes(damaged)
        with pytest.raises(ArtifactError, match="damaged"):
            load_generator(folder)
    for wrong in (
        {k: v.flatten() for k, v in state.items()},
        dict([*state.items()][1:]),
        {**state, "extra": torch.zeros(1)},
    ):
        save_file(wrong, weights)
        with pytest.raises(ArtifactError, match="not fit its config"):
            load_generator(folder)
    weights.unlink()
    with pytest.raises(ArtifactError, match="missing"):
        load_generator(folder)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("factor", [float("nan"), float("inf"), 1e30])
def test_weights_that_give_no_probabilities(folder, factor):
    state = {name: tensor * factor for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(state, folder / "damaged")
    (folder / "damaged").replace(folder / "model.safetensors")
    with pytest.raises(ZooError):
        generate(flops=90e6, generator=folder)


@pytest.mark.parametrize("name", ["no_such_folder", "a/b/c", "me/no such name", "me/none", "", "../up/../gone"])
def test_a_generator_that_is_not_there(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArtifactError):
        load_generator(name, cache_dir=tmp_path / "cache", local_files_only=True)


def test_a_generator_of_the_hub_is_read_from_the_cache(folder, tmp_path):
    repo = tmp_path / "cache" / "models--me--gen"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(COMMIT)
    (repo / "snapshots" / COMMIT).mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        shutil.copy(folder / name, repo / "snapshots" / COMMIT)
    for name in ("me/gen", f"me/gen@{COMMIT}"):
        loaded = load_generator(name, cache_dir=tmp_path / "cache", local_files_only=True)
        assert loaded.source.id == name
        assert loaded.source.revision == COMMIT
        assert loaded.source.sha256 == sha256(folder / "model.safetensors")
    record = generate(flops=90e6, generator=loaded)[0].record()
    assert record["generator"]["revision"] == COMMIT
    with pytest.raises(ArtifactError, match="me/gen@other is not in the cache"):
        load_generator("me/gen", revision="other", cache_dir=tmp_path / "cache", local_files_only=True)


# --- the embedded generator


def test_the_embedded_generator_answers_as_published():
    record = json.loads(ANSWERS.read_text())
    space = SPACES[record["space"]]
    archs = [space.parse(text) for text in record["answers"].values()]
    table = COSTS["macs"].table(space, native_conditions(space))
    logits = default_generator(space.name).logits(flops=[table.measure(arch) for arch in archs])
    agree = log_probs(space, logits).argmax(-1) == torch.tensor([arch.picks for arch in archs])
    share, whole = agree.float().mean().item(), int(agree.flatten(1).all(1).sum())
    assert len(archs) == 180
    assert share >= 0.95
    if CARD.exists():
        stated = re.search(r"([\d.]+)% of the 180 x 114 slots agree.*?(\d+) of 180", CARD.read_text())
        assert stated.groups() == (f"{share:.2%}"[:-1], str(whole))


def test_folders_inside_an_artifact_stay_open(tmp_path):
    with folders.new_folder(tmp_path / "new") as staging, folders.among_others(tmp_path / "run") as other:
        for folder in (staging, other):
            (folder / "inner").mkdir()
            (folder / "inner" / "file").write_text("content")
    for folder in (tmp_path / "new" / "inner", tmp_path / "run" / "inner"):
        assert folder.stat().st_mode & 0o777 == 0o755
        assert names(folder) == ["file"]
