"""What docs/extend.md says of a search space of one's own, run word for word as far as images and steps go."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from places import ROOT

from sgnas_zoo.cli.main import main


def section():
    text = (ROOT / "docs" / "extend.md").read_text(encoding="utf-8")
    return text.partition("## Add a search space")[2].partition("\n## ")[0]


def commands():
    """Its commands, each as its words without the program."""
    lines = re.findall(r"^\$ (.*)$", section(), re.MULTILINE)
    return [line.split() for line in lines]


@pytest.mark.slow
def test_the_documented_space_is_trained_generated_from_and_loaded(colours, tmp_path):
    (tmp_path / "my_spaces.py").write_text(re.search(r"```python\n(.*?)```", section(), re.DOTALL)[1])
    few = ["--workers", "0", "--epochs", "1", "--resolution", "32", "--batch-size", "24", "--holdout", "0.25"]
    more = {"train_supernet.py": [*few, "--eval-images", "8"], "train_generator.py": [*few[:4], "--batch-size", "4"]}
    asked = commands()
    assert [words[0] for words in asked] == ["sgnas-zoo", "python", "python", "sgnas-zoo"]
    for words in asked:
        words = [str(colours) if word == "DATA" else word for word in words]
        if words[0] == "python":
            words[1] = str(ROOT / words[1])
            words += more[Path(words[1]).name]
        else:
            words[:1] = ["-m", "sgnas_zoo.cli"]
        words = words[1:] if words[0] == "python" else words
        done = subprocess.run(
            [sys.executable, *words], cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False
        )
        assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "my-net" / "config.json").read_text())["zoo"]
    assert record["space"] == "my_space"
    assert record["weights"] == "inherited"
    assert record["macs"] <= 6e6
    code = (
        "import my_spaces, timm, torch; model = timm.create_model('local-dir:my-net', pretrained=True).eval();"
        "print(tuple(model(torch.zeros(1, 3, 32, 32)).shape), timm.create_model('my_family').zoo['space'])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(1, 3) my_space"


@pytest.mark.parametrize("command", sorted(main.commands))
def test_every_command_takes_a_module(command):
    done = CliRunner().invoke(main, [command, "--help"])
    assert "--import MODULE" in done.stdout


@pytest.mark.parametrize(
    ("text", "said"),
    [(None, "No module named"), ("raise ValueError('a wrong row.')", "a wrong row;"), ("1 +", "invalid syntax"),
     ("from sgnas_zoo.spaces import SPACES; SPACES.register('spos', 1)", "registered already")],
)  # fmt: skip
def test_a_module_that_fails_is_one_line(text, said, tmp_path, monkeypatch):
    name = f"own_{abs(hash(text))}"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    if text:
        (tmp_path / f"{name}.py").write_text(text)
    done = CliRunner().invoke(main, ["info", "spos", "--import", name])
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1
    assert f"Cannot import {name}: " in done.stderr
    assert said in done.stderr
