"""Named networks: what their weights are, through both doors, and what is kept of them."""

import json
from types import MappingProxyType

import pytest
import timm
import torch
from safetensors.torch import load_file
from timm.data import resolve_model_data_config

import sgnas_zoo
from sgnas_zoo.cli.networks import load_named
from sgnas_zoo.errors import NewHeadWarning, PretrainedError, UnknownNameError
from sgnas_zoo.files import read_config
from sgnas_zoo.models.counting import count_macs, count_params
from sgnas_zoo.models.origin import weights_of
from sgnas_zoo.zoo import ARTIFACTS, zoo_entries

TRAINED = [name for name in zoo_entries() if zoo_entries()[name].weights]
TAGGED = [(name, tag) for name in TRAINED for tag in zoo_entries()[name].weights]
DOORS = (timm.create_model, sgnas_zoo.create_model)


def folder_of(name, tag):
    return ARTIFACTS / zoo_entries()[name].weights[tag].folder


def test_an_entry_is_published_or_trained_or_both():
    assert TRAINED
    for name in zoo_entries():
        entry = zoo_entries()[name]
        assert entry.published or entry.weights
        assert isinstance(entry.weights, MappingProxyType)


@pytest.mark.parametrize(("name", "tag"), TAGGED)
@pytest.mark.parametrize("make", DOORS)
def test_weights_are_those_of_the_artifact(make, name, tag):
    folder = folder_of(name, tag)
    model, wanted = make(f"{name}.{tag}", pretrained=True), load_file(folder / "model.safetensors")
    state = model.state_dict()
    assert state.keys() == wanted.keys()
    assert all(torch.equal(state[key], wanted[key]) for key in wanted)
    assert model.zoo == read_config(folder / "config.json")["zoo"]
    assert not torch.equal(make(name).classifier.weight, model.classifier.weight)


@pytest.mark.parametrize("name", TRAINED)
def test_the_first_tag_is_the_default_and_timm_lists_it(name):
    first = next(iter(zoo_entries()[name].weights))
    assert timm.create_model(name, pretrained=True).pretrained_cfg["tag"] == first
    assert f"{name}.{first}" in timm.list_models(pretrained=True)


@pytest.mark.parametrize(("name", "tag"), TAGGED)
def test_artifact_entry_and_network_agree(name, tag):
    entry, record = zoo_entries()[name], read_config(folder_of(name, tag) / "config.json")["zoo"]
    model = timm.create_model(f"{name}.{tag}")
    side = entry.costs["resolution"]
    assert (record["space"], record["arch"], record["form"]) == (entry.space, entry.arch, entry.form)
    assert (record["macs"], record["params"]) == (entry.costs["macs"], entry.costs["params"])
    assert (count_macs(model, side), count_params(model)) == (entry.costs["macs"], entry.costs["params"])
    assert record["metrics"]["part"] == "kept"
    assert record["metrics"]["split"] != record["dataset"]["split"]
    assert resolve_model_data_config(model)["input_size"] == (3, record["trained_at"], record["trained_at"])
    assert len(model.pretrained_cfg["label_names"]) == model.num_classes == entry.costs["num_classes"]


@pytest.mark.parametrize("pretrained", [False, True])
def test_a_saved_one_loads_again_and_does_not_say_where_the_package_lies(pretrained, tmp_path):
    model = timm.create_model(TRAINED[0], pretrained=pretrained).eval()
    saved = sgnas_zoo.save_model(model, tmp_path / "saved")
    assert str(ARTIFACTS) not in (saved / "config.json").read_text() + (saved / "README.md").read_text()
    again = timm.create_model(f"local-dir:{saved}", pretrained=True).eval()
    images = torch.rand(2, *model.pretrained_cfg["input_size"])
    assert torch.equal(again(images), model(images))
    told = json.loads((saved / "config.json").read_text())["zoo"]
    assert ("metrics" in told) == pretrained


@pytest.mark.parametrize("make", DOORS)
def test_other_classes_have_a_new_head(make):
    with pytest.warns(NewHeadWarning, match="it has 3 classes, the weights know 10"):
        model = make(TRAINED[0], pretrained=True, num_classes=3)
    assert model.classifier.weight.shape[0] == 3
    assert torch.equal(model.conv_stem.weight, make(TRAINED[0], pretrained=True).conv_stem.weight)


@pytest.mark.parametrize("asked", [{"features_only": True}, {"num_classes": 0}, {"in_chans": 1}])
def test_its_features_have_its_weights(asked):
    model = timm.create_model(TRAINED[0], pretrained=True, **asked)
    wanted, own = load_file(folder_of(*TAGGED[0]) / "model.safetensors"), model.state_dict()
    key = next(key for key in own if key.endswith("blocks.1.0.conv_pw.weight") or key == "blocks_1.0.conv_pw.weight")
    assert torch.equal(own[key], wanted["blocks.1.0.conv_pw.weight"])
    assert model.zoo["weights"] == "retrained"


def test_other_weights_than_its_own_are_not_taken_for_them(tmp_path):
    own = sgnas_zoo.save_model(timm.create_model(TRAINED[0]), tmp_path / "own")
    model = timm.create_model(
        TRAINED[0], pretrained=True, pretrained_cfg_overlay={"file": str(own / "model.safetensors")}
    )
    assert set(model.zoo) == {"space", "arch", "form"}


def test_what_there_is_not_names_what_there_is():
    with pytest.raises(UnknownNameError, match="choose from cifar10"):
        sgnas_zoo.create_model(f"{TRAINED[0]}.in1k", pretrained=True)
    with pytest.raises(UnknownNameError, match="takes pretrained=True"):
        sgnas_zoo.create_model(TRAINED[0], pretrained="cifar10")
    with pytest.raises(PretrainedError, match="log in with"):
        timm.create_model(TRAINED[0], pretrained=True, token="t")


def test_commands_load_weights_that_are_in_the_package():
    assert weights_of(load_named(TRAINED[0])) == "retrained"
    assert weights_of(load_named("sgnas_a")) == "untrained"
