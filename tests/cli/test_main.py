import json
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from commands import good, refused

from sgnas_zoo import __version__
from sgnas_zoo.cli.main import main
from sgnas_zoo.costs import COSTS, native_conditions
from sgnas_zoo.models.counting import count_macs, count_params
from sgnas_zoo.spaces import SPACES
from sgnas_zoo.zoo import zoo_entries


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


# --- generate


def test_generate_json():
    out, err = good("generate", "--flops", "350M", "--json")
    (record,) = json.loads(out)
    assert err == ""
    assert set(record) == {
        "space", "arch", "form", "resolution", "num_classes", "in_chans", "precision", "requested", "macs", "params",
        "memory_bytes", "flash_bytes", "generator",
    }  # fmt: skip
    assert set(record["generator"]) == {"id", "revision", "sha256"}
    assert record["requested"] == {"flops": 350_000_000}
    assert (record["form"], record["resolution"], record["num_classes"]) == ("final", 224, 1000)
    assert 0.99 * 350e6 <= record["macs"] <= 350e6
    space = SPACES[record["space"]]
    for cost in ("macs", "params", "memory_bytes", "flash_bytes"):
        table = COSTS[cost].table(space, native_conditions(space))
        assert table.measure(space.parse(record["arch"])) == record[cost]


@pytest.mark.parametrize("text", ["350M", "350m", "0.35G", "350000K", "350e6", "350000000"])
def test_spellings_of_one_budget(text):
    assert json.loads(good("generate", "--flops", text, "--json")[0])[0]["requested"] == {"flops": 350_000_000}


def test_several_budgets():
    budgets = ["300M", "250M", "400M"]
    options = [word for budget in budgets for word in ("--flops", budget)]
    records = json.loads(good("generate", *options, "--params", "7M", "--json")[0])
    assert [r["requested"]["flops"] for r in records] == [300e6, 250e6, 400e6]
    assert all(r["requested"]["params"] == 7e6 and r["params"] <= 7e6 for r in records)
    lines = good("generate", *options)[0].splitlines()
    assert len(lines) == 3
    for line, record in zip(lines, json.loads(good("generate", *options, "--json")[0]), strict=True):
        assert record["arch"] in line
        assert f"{record['macs'] / 1e6:.4g}M MACs" in line


def test_other_conditions():
    out, _ = good("generate", "--flops", "120M", "--resolution", 128, "--num-classes", 10, "--json")
    (record,) = json.loads(out)
    assert (record["resolution"], record["num_classes"]) == (128, 10)
    model = timm.create_model("sgnas", arch=record["arch"], num_classes=10)
    assert record["macs"] == count_macs(model, 128) <= 120e6


def test_output_is_a_folder_that_timm_loads(tmp_path):
    out, err = good("generate", "--flops", "200M", "--num-classes", 5, "--output", "net", "--json")
    (record,) = json.loads(out)
    assert "net" in err
    assert "untrained" in err
    assert sorted(p.name for p in Path("net").iterdir()) == [
        "README.md",
        "architecture.svg",
        "config.json",
        "model.safetensors",
    ]
    model = timm.create_model("local-dir:net", pretrained=True)
    assert model.num_classes == 5
    assert count_params(model) == record["params"]
    assert count_macs(model, 224) == record["macs"] <= 200e6
    assert {**record, "weights": "untrained"} == json.loads(Path("net/config.json").read_text())["zoo"]
    assert "not empty" in refused("generate", "--flops", "200M", "--output", "net")
    good("generate", "--flops", "200M", "--num-classes", 5, "--output", "net", "--force")
    again = timm.create_model("local-dir:net", pretrained=True)
    assert torch.equal(again.classifier.weight, model.classifier.weight)
    good("generate", "--flops", "200M", "--num-classes", 5, "--output", "other", "--seed", 1)
    other = timm.create_model("local-dir:other", pretrained=True)
    assert not torch.equal(other.classifier.weight, model.classifier.weight)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--flops", "350"], ["350M"]),
        (["--params", "6"], ["6M"]),
        (["--flops", "banana"], ["banana", "350M"]),
        (["--flops", ""], ["350M"]),
        (["--flops", "0"], ["positive"]),
        (["--flops", "-5"], ["-5"]),
        (["--flops", "nan"], ["positive"]),
        (["--flops", "1e999"], ["positive"]),
        (["--flops", "1M"], ["below", "Choose from", "M to "]),
        (["--flops", "20M"], ["sgnas_micro ends at 8.9", "sgnas_imagenet begins at 76.5", "--space sgnas_micro"]),
        (["--flops", "80M", "--params", "0.5M"], ["sgnas_micro ends at", "sgnas_imagenet begins at"]),
        ([], ["--flops 350M"]),
        (["--flops", "350M", "--space", "sgnas_imagnet"], ["sgnas_imagenet"]),
        (["--flops", "350M", "--space", "greedynas"], ["no embedded generator"]),
        (["--flops", "350M", "--generator", "missing"], ["missing"]),
        (["--flops", "350M", "--resolution", "0"], ["--resolution"]),
        (["--flops", "350M", "--num-classes", "-1"], ["--num-classes"]),
        (["--flops", "300M", "--flops", "350M", "--params", "5M", "--params", "6M", "--params", "7M"], ["pair up"]),
        (["--flops", "300M", "--flops", "350M", "--output", "net"], ["one budget"]),
        (["--flops", "1M", "--output", "net"], ["Choose from"]),
        (["--flops", "350M", "--no-such-option"], ["--no-such-option"]),
        (["--flops"], ["--flops"]),
    ],
)
def test_bad_input_to_generate(options, words):
    for flags in ([], ["--json"]):
        message = refused("generate", *flags, *options)
        assert all(word in message for word in words), message


def test_a_file_in_the_way():
    Path("net").write_text("mine")
    assert "is a file" in refused("generate", "--flops", "350M", "--output", "net", "--force")
    assert Path("net").read_text() == "mine"


# --- info and list


def test_list():
    content = json.loads(good("list", "--json")[0])
    assert [model["name"] for model in content["models"]] == list(zoo_entries())
    assert [space["name"] for space in content["spaces"]] == list(SPACES)
    embedded = {space["name"] for space in content["spaces"] if space["generator"]}
    assert "sgnas_imagenet" in embedded
    assert "greedynas" not in embedded
    text, err = good("list")
    assert err == ""
    assert all(any(line.split()[:1] == [name] for line in text.splitlines()) for name in (*zoo_entries(), *SPACES))


@pytest.mark.parametrize("name", ["sgnas_a", "sgnas_a.in1k"])
def test_info_of_a_network(name):
    entry = zoo_entries()["sgnas_a"]
    details = json.loads(good("info", name, "--json")[0])
    assert details["name"] == "sgnas_a"
    assert (details["macs"], details["params"]) == (entry.costs["macs"], entry.costs["params"])
    assert details["arch"] == entry.arch
    text, _ = good("info", name)
    assert f"{entry.costs['macs']:,}" in text
    assert entry.arch in text


def test_info_of_a_space():
    details = json.loads(good("info", "sgnas_cifar", "--json")[0])
    table = COSTS["macs"].table(SPACES["sgnas_cifar"], native_conditions(SPACES["sgnas_cifar"]))
    assert (details["layers"], details["slots"], details["choices"]) == SPACES["sgnas_cifar"].shape
    assert details["macs"] == [table.minimum, table.maximum]
    assert "sgnas_cifar" in good("info", "sgnas_cifar")[0]


@pytest.mark.parametrize(
    ("name", "words"), [("sgnas_d", "sgnas_a"), ("sgnas_a.foo", "in1k"), ("banana", "sgnas_a"), ("", "sgnas_a")]
)
def test_info_of_nothing(name, words):
    assert words in refused("info", name)


# --- the rest


def test_convert_of_a_text_file():
    Path("notes.txt").write_text("no checkpoint\n")
    assert "notes.txt" in refused("convert", "notes.txt", "--output", "out")
    assert "missing.pth" in refused("convert", "missing.pth", "--output", "out")
    assert "--output" in refused("convert", "notes.txt")


@pytest.mark.parametrize("arguments", [["generat"], ["list", "extra"], ["--no-such-option"]])
def test_commands_that_do_not_exist(arguments):
    refused(*arguments)


def test_help_and_version():
    assert good("--version")[0].strip().endswith(__version__)
    for command in main.commands:
        assert "--help" in good(command, "--help")[0]
    done = subprocess.run([sys.executable, "-m", "sgnas_zoo.cli", "--help"], capture_output=True, text=True, check=True)
    assert all(command in done.stdout for command in ("list", "info", "generate", "convert"))
    assert done.stderr == ""


def test_generate_writes_inherited_weights(made, tmp_path):
    options = ("--pretrained", made / "supernet", "--generator", made / "generator", "--output", tmp_path / "model")
    out, err = good("generate", "--flops", "4M", *options, "--json")
    (record,) = json.loads(out)
    assert record["weights"] == "inherited"
    assert record["macs"] <= 4e6
    assert "trained on the 3 classes of noise" in err
    assert "at 32 px, not on" in err
    assert "weights are inherited" in err
    assert "inherited from a supernet" in (tmp_path / "model" / "README.md").read_text()
    model = timm.create_model(f"local-dir:{tmp_path / 'model'}", pretrained=True)
    assert count_macs(model, 32) == record["macs"]
    assert model.num_classes == 3


def test_weights_need_a_folder_to_go_to(made):
    assert "add --output FOLDER" in refused("generate", "--flops", "4M", "--pretrained", made / "supernet")
