import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.shell_completion import ShellComplete
from PIL import Image
from places import ROOT

from sgnas_zoo import __version__
from sgnas_zoo.cli.main import main
from sgnas_zoo.files import read_config
from sgnas_zoo.zoo import ARTIFACTS, zoo_entries


def load(path: Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[path.stem]
    return module


def test_ci_runs_the_readmes_test_command_word_for_word():
    commands = re.findall(r"```sh\n(.*?)\n```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(commands) == 2
    assert commands[1] in (ROOT / ".ci" / "run").read_text().splitlines()


def test_the_tables_of_models_show_the_recorded_figures():
    lines = (ROOT / "docs" / "weights.md").read_text().splitlines()
    for name in zoo_entries():
        entry = zoo_entries()[name]
        macs, params = entry.costs["macs"] / 1e6, entry.costs["params"] / 1e6
        row = f"| `{name}` | `{entry.space}` | {macs:.1f} | {params:.2f} |"
        if entry.published:
            assert f"{row} {entry.published['top1']} |" in lines
        for tag, weights in entry.weights.items():
            metrics = read_config(ARTIFACTS / weights.folder / "config.json")["zoo"]["metrics"]
            card = f"[`{tag}`](../hub_cards/{weights.folder}/README.md)"
            assert f"{row} {card} | {metrics['top1']:.1f} |" in lines


def test_every_committed_card_is_what_its_artifact_renders_to():
    cards = load(ROOT / "recipes" / "render_cards.py")
    rendered = cards.render()
    assert {path.partition("/")[0] for path in rendered} == {path.name for path in (ROOT / "hub_cards").iterdir()}
    assert len(rendered) >= 3
    for path, content in rendered.items():
        assert (ROOT / "hub_cards" / path).read_bytes() == content
        embedded = cards.ARTIFACTS / path
        assert not embedded.parent.is_dir() or embedded.read_bytes() == content
    assert cards.agreement().slots >= 0.95


def test_the_picture_of_readme_is_drawn_from_its_record(tmp_path):
    cards = load(ROOT / "recipes" / "render_cards.py")
    record = read_config(ARTIFACTS / cards.PICTURED / "evaluation.json")
    assert cards.PICTURE.stat().st_size < 100_000

    def differs(evidence):
        cards.draw_picture(tmp_path / "front.png", evidence)
        drawn, kept = (
            np.asarray(Image.open(path).convert("L"), float) for path in (tmp_path / "front.png", cards.PICTURE)
        )
        return np.abs(drawn - kept).mean()

    assert differs(record) < 0.2  # not its bytes: another release of matplotlib may draw a letter otherwise
    record["budgets"][5]["top1"] -= 1
    assert differs(record) > 0.4


def test_the_readme_states_the_top1_of_the_records():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name, tag in (
        ("sgnas_micro", "cifar10"),
        ("sgnas_imagenet", "cifar10_r64"),
        ("sgnas_imagenet", "tiny_imagenet_r64"),
    ):
        part = "_tiny_imagenet" if tag.startswith("tiny") else ""
        rows = read_config(ARTIFACTS / f"{name}{part}_supernet" / "evaluation.json")["budgets"]
        top1 = [row["top1"] for row in rows]
        row = next(line for line in text.splitlines() if line.startswith(f"| `{name}` | `{tag}` |"))
        assert f"| {min(top1):.1f} to {max(top1):.1f} % |" in row


def test_python_runs_the_package():
    run = [sys.executable, "-m", "sgnas_zoo", "--version"]
    assert (
        subprocess.run(run, check=True, capture_output=True, text=True, timeout=60).stdout.strip().endswith(__version__)
    )


def test_a_shell_can_complete_commands_and_options():
    complete = ShellComplete(main, {}, "sgnas-zoo", "_SGNAS_ZOO_COMPLETE").get_completions
    assert "generate" in [item.value for item in complete([], "gen")]
    assert [item.value for item in complete(["generate"], "--fl")] == ["--flops", "--flash"]


def test_the_version_is_written_once():
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert 'dynamic = ["version"]' in project
    assert not re.search(r"^version = \"", project, re.MULTILINE)


@pytest.mark.slow
def test_the_distillation_recipe_runs_and_is_seeded(tmp_path):
    from safetensors.torch import load_file

    script = ROOT / "recipes" / "distill_generator.py"
    for name in ("first", "second"):
        command = [sys.executable, str(script), "--output", str(tmp_path / name), "--steps", "3"]
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("first", "second"))
    assert first.keys() == second.keys()
    assert all(first[key].equal(second[key]) for key in first)
    assert (tmp_path / "first" / "config.json").is_file()
