"""A supernet that starts from the weights of another one."""

import json
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from recipe_runs import SUPERNET, run_recipe

from sgnas_zoo.errors import ArtifactError, SpaceError
from sgnas_zoo.hub.supernets import load_supernet
from sgnas_zoo.spaces import SPACES
from sgnas_zoo.supernet import make_supernet
from sgnas_zoo.training import supernets
from sgnas_zoo.training.supernets import begin

COLOURS = ("red", "green", "blue")


@pytest.fixture(scope="module")
def trained(colours, tmp_path_factory):
    folder = tmp_path_factory.mktemp("started") / "first"
    _train(colours, folder)
    return folder


def _train(images, folder, *options, code=0):
    step = ("--workers", 0, "--batch-size", 16, "--limit", 40, "--epochs", 1, "--dataset", images)
    return run_recipe("train_supernet", *SUPERNET, *step, *options, "--output", folder, code=code)


def test_it_has_all_weights_and_statistics_of_the_other_one(trained):
    supernet, _ = begin(SPACES["sgnas_micro"], COLOURS, str(trained), zero_init_last=True)
    wanted = load_supernet(trained).supernet.state_dict()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in supernet.state_dict().items())


@pytest.mark.parametrize("classes", [("blue", "green", "red"), ("a", "b")])
def test_a_classifier_of_other_classes_is_new(trained, classes):
    supernet, _ = begin(SPACES["sgnas_micro"], classes, str(trained), zero_init_last=False)
    wanted = load_supernet(trained).supernet.state_dict()
    for name, tensor in supernet.state_dict().items():
        if not name.startswith("classifier."):
            assert torch.equal(tensor, wanted[name])
    assert supernet.classifier.weight.shape[0] == len(classes)
    assert not torch.equal(supernet.classifier.weight[:2], wanted["classifier.weight"][:2])


@pytest.mark.parametrize("name", ["nas_bench_macro", "resnet_micro_bits", "spos_channel"])
def test_a_classifier_of_other_classes_is_new_in_every_kind_of_supernet(name, monkeypatch):
    space = SPACES[name]
    before = SimpleNamespace(supernet=make_supernet(space, 3), classes=COLOURS, source=None, training={})
    monkeypatch.setattr(supernets, "load_supernet", lambda place: before)
    started, _ = begin(space, ("a", "b"), "before", zero_init_last=False)
    wanted = before.supernet.state_dict()
    equal = {name for name, tensor in started.state_dict().items()
             if tensor.shape == wanted[name].shape and torch.equal(tensor, wanted[name])}  # fmt: skip
    other = set(wanted) - equal
    assert {len(tensor) for key, tensor in started.state_dict().items() if key in other} == {2}
    assert len(other) == len([*started.classifier.parameters()])


def test_record_and_card_say_what_it_started_from_and_how_long_that_took(colours, trained, tmp_path):
    config = trained / "config.json"
    told = json.loads(config.read_text())
    config.write_text(json.dumps({**told, "training": {**told["training"], "hours": 2.5}}))
    _train(colours, tmp_path / "second", "--pretrained", trained, "--smallest-kernels", 0)
    second = json.loads((tmp_path / "second" / "config.json").read_text())["training"]
    assert second["earlier_hours"] == 2.5
    assert second["started_from"]["loaded_from"]["id"] == "first"
    assert str(tmp_path) not in json.dumps(second)
    _train(colours, tmp_path / "third", "--pretrained", tmp_path / "second", "--smallest-kernels", 0)
    third = json.loads((tmp_path / "third" / "config.json").read_text())["training"]
    assert third["earlier_hours"] == 2.5 + second["hours"]
    page = (tmp_path / "third" / "README.md").read_text()
    assert "| started from | `second` | - |" in page
    assert "after 2.5 hours for the weights that it started from" in page


def test_what_it_cannot_start_from_is_refused(colours, trained, tmp_path):
    with pytest.raises(SpaceError, match="is a supernet of sgnas_micro; name one of sgnas_cifar"):
        begin(SPACES["sgnas_cifar"], COLOURS, str(trained), zero_init_last=False)
    with pytest.raises(ArtifactError):
        begin(SPACES["sgnas_micro"], COLOURS, str(tmp_path), zero_init_last=False)


def test_it_can_start_from_the_smallest_kernels_of_the_other_one(colours, trained, tmp_path):
    """The larger ones start anew, as copies of the smallest: at a rate of nothing that is what they end as."""
    options = ("--pretrained", trained, "--smallest-kernels", 0.5, "--epochs", 2, "--lr", 1e-12)
    _train(colours, tmp_path / "run", *options)
    before, after = (load_supernet(place).supernet for place in (trained, tmp_path / "run"))
    for old, new in zip(before.layers(), after.layers(), strict=True):
        smallest, largest = new.candidate(0, 0).conv.weight, new.candidate(0, 2).conv.weight
        assert torch.equal(smallest, old.candidate(0, 0).conv.weight)
        assert torch.equal(largest, F.pad(smallest, (2, 2, 2, 2)))
        assert not torch.equal(largest, old.candidate(0, 2).conv.weight)
