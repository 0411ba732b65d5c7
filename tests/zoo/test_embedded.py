"""The trained supernets that come with the package: weights for a budget, offline, and as good as their cards say."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest
import warm
from places import RECIPES, SHARED

from sgnas_zoo.spaces import SPACES
from sgnas_zoo.zoo import ARTIFACTS, supernet_entries

CIFAR = SHARED / "data" / "cifar10"
EMBEDDED = [entry for entry in supernet_entries() if entry.supernet and "/" not in entry.supernet]
BUDGETS = {"sgnas_micro": 4e6, "sgnas_imagenet": 350e6}


def test_there_are_some_and_they_are_small():
    assert {"sgnas_micro", "sgnas_imagenet"} == {entry.space for entry in EMBEDDED}
    assert sum(path.stat().st_size for path in ARTIFACTS.rglob("*") if path.is_file()) < 30e6


@pytest.mark.parametrize("entry", EMBEDDED, ids=lambda entry: f"{entry.space}.{entry.tag}")
def test_a_budget_has_weights_without_a_network(entry, tmp_path):
    code = (
        "import json, warnings, torch, sgnas_zoo\n"
        "warnings.simplefilter('ignore')\n"
        f"model = sgnas_zoo.create_model(flops={BUDGETS[entry.space]}, pretrained={entry.tag!r}).eval()\n"
        "side = model.pretrained_cfg['input_size'][-1]\n"
        "print(json.dumps([model.zoo, model(torch.zeros(1, 3, side, side)).shape[1]]))"
    )
    nowhere = {"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    done = warm.run("-c", code, env=os.environ | nowhere)
    assert done.returncode == 0, done.stderr
    record, classes = json.loads(done.stdout)
    assert record["macs"] <= BUDGETS[entry.space]
    assert record["macs"] >= 0.99 * BUDGETS[entry.space]
    assert record["weights"] == "inherited"
    assert record["supernet"]["id"] == f"sgnas_zoo/{entry.supernet}"
    assert record["generator"]["id"] == f"sgnas_zoo/{entry.generator}"
    known = json.loads((ARTIFACTS / entry.supernet / "config.json").read_text())["classes"]
    assert (record["space"], classes) == (entry.space, len(known))
    assert SPACES[entry.space].parse(record["arch"])


@pytest.mark.parametrize("entry", EMBEDDED, ids=lambda entry: f"{entry.space}.{entry.tag}")
def test_its_generator_was_trained_on_it(entry):
    said = json.loads((ARTIFACTS / entry.generator / "evaluation.json").read_text())
    config = json.loads((ARTIFACTS / entry.supernet / "config.json").read_text())
    assert said["supernet"]["id"] == f"sgnas_zoo/{entry.supernet}"
    assert config["dataset"]["part"] == "kept"  # the rest of train was left for the generator
    assert config["dataset"]["holdout"] == 0.1


@pytest.mark.slow
@pytest.mark.skipif(
    not CIFAR.exists() or importlib.util.find_spec("datasets") is None,
    reason="needs the CIFAR-10 images of this project's machines, and datasets",
)
@pytest.mark.parametrize("entry", [e for e in EMBEDDED if e.space == "sgnas_micro"], ids=lambda entry: entry.tag)
def test_a_figure_of_its_card_comes_back(entry, tmp_path):
    """Measure the generated network nearest to the middle of the range again, by the recipe for every figure."""
    rows = json.loads((ARTIFACTS / entry.supernet / "evaluation.json").read_text())["budgets"]
    row = rows[len(rows) // 2]
    recipe = RECIPES / "evaluate.py"
    command = [sys.executable, str(recipe), "--arch", row["arch"], "--space", entry.space, "--pretrained", entry.tag]
    command += ["--dataset", str(CIFAR), "--workers", "0", "--output", str(tmp_path / "again.json")]
    subprocess.run(command, capture_output=True, text=True, timeout=900, check=True)
    again = json.loads((tmp_path / "again.json").read_text())
    assert again["images"] == 10_000
    assert again["top1"] == pytest.approx(row["top1"], abs=0.2)
    assert again["macs"] == row["achieved"] <= row["requested"]
