"""Runs begun when recipes had lists of options are gone on with; what they saved of themselves is test data."""

import json
import shutil

import pytest
import yaml
from places import DATA
from recipe_runs import checkpoints, furthest, run_recipe, trained_weights

from sgnas_zoo.training.loop.checkpoints import Checkpoints

EARLIER = json.loads((DATA / "earlier_runs.json").read_text())
"""Of each training, ``settings.yaml`` and the settings in the manifests of its checkpoints; its places were others."""


@pytest.fixture
def earlier(made, colours, tmp_path, monkeypatch):
    """Folder of a run of a recipe as it lay there when it was killed, and of one that never was."""
    monkeypatch.setattr(Checkpoints.__init__, "__kwdefaults__", {"every_minutes": 0, "keep": 99})
    supernet, model = str(made / "supernet"), f"local-dir:{made / 'model'}"
    places = {"dataset": str(colours), "supernet": supernet, "model": model}

    def make(name):
        saved = {
            file: {key: places[key] if value == "ELSEWHERE" and key in places else value for key, value in told.items()}
            for file, told in EARLIER[name].items()
        }
        whole, killed = tmp_path / "whole", tmp_path / "killed"
        options = {key: value for key, value in saved["settings.yaml"].items() if key != "output"}
        config = tmp_path / "settings.yaml"
        config.write_text(yaml.safe_dump({name: options}))
        run_recipe(name, "--config", config, "--output", whole)
        steps = checkpoints(whole)
        middle = steps[sorted(steps)[len(steps) // 2 - 1]]
        there = shutil.copytree(middle, killed / "checkpoints" / middle.name)
        manifest = json.loads((there / "manifest.json").read_text())
        later = {key: value for key, value in manifest["settings"].items() if key not in saved["manifest.json"]}
        assert {**saved["manifest.json"], **later} == manifest["settings"]
        assert set(later.values()) <= {None}  # options that there were not, and that nobody gave
        (there / "manifest.json").write_text(json.dumps({**manifest, "settings": saved["manifest.json"]}))
        (killed / "settings.yaml").write_text(yaml.safe_dump({name: options}))
        return whole, killed, config

    return make


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("train_supernet", "train_generator", "finetune")]


@pytest.mark.parametrize("name", ["retrain", *SLOW])
def test_an_earlier_run_is_gone_on_with(earlier, name):
    whole, killed, config = earlier(name)
    run_recipe(name, "--config", config, "--output", killed, "--resume", "auto")
    assert furthest(trained_weights(whole), trained_weights(killed)) == 0
    assert max(checkpoints(killed)) == max(checkpoints(whole))


def test_an_earlier_run_of_other_settings_says_which(earlier):
    _, killed, config = earlier("retrain")
    (manifest,) = killed.glob("checkpoints/*/manifest.json")
    content = json.loads(manifest.read_text())
    content["settings"] |= {"lr": 7.5, "gone": 1}
    manifest.write_text(json.dumps(content))
    said = run_recipe("retrain", "--config", config, "--output", killed, "--resume", "auto", code=2)
    assert "(lr: 7.5 there, 0.02 here; gone: 1 there, absent here); repeat those, or use another --output." in said
