"""Ctrl-C and SIGTERM end a command in one line with the usual exit code, whenever they come: imports included."""

import signal
import subprocess
import sys

import pytest
from places import RECIPES

PROGRAM = """
import builtins, os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started us deaf to it
number, module, sys.argv = int(sys.argv[1]), sys.argv[2], ["sgnas-zoo", *sys.argv[3:]]
from sgnas_zoo.cli.main import run

class AtImport:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), number)

sys.meta_path.insert(0, AtImport())
run()
"""
RECIPES = sorted((RECIPES).glob("*.py"))
MOMENTS = ["torch", "torch.nn", "timm", "timm.models", "huggingface_hub", "safetensors", "sgnas_zoo.hub.models"]


@pytest.mark.parametrize(
    ("number", "says", "code"), [(signal.SIGINT, "Interrupted.", 130), (signal.SIGTERM, "Terminated.", 143)]
)
@pytest.mark.parametrize("module", ["torch", *(pytest.param(name, marks=pytest.mark.slow) for name in MOMENTS[1:])])
def test_a_signal_during_the_imports_is_one_line(number, says, code, module, tmp_path):
    command = ["generate", "--flops", "4M", "--output", "model"]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(int(number)), module, *command],
        cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.stderr == f"{says}\n"
    assert done.returncode == code
    assert done.stdout == ""
    assert [*tmp_path.iterdir()] == []


RECIPE = """
import os, runpy, sys
number, sys.argv = int(sys.argv[1]), sys.argv[2:]

class AtImport:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            sys.meta_path.remove(self)
            os.kill(os.getpid(), number)

sys.meta_path.insert(0, AtImport())
sys.path.insert(0, os.path.dirname(sys.argv[0]))
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("recipe", RECIPES, ids=[path.stem for path in RECIPES])
def test_a_signal_during_the_imports_of_a_recipe_is_one_line(recipe, tmp_path):
    command = [sys.executable, "-c", RECIPE, str(int(signal.SIGTERM)), str(recipe), "--output", "out"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False)
    assert (done.stderr, done.stdout, done.returncode) == ("Terminated.\n", "", 143)
    assert [*tmp_path.iterdir()] == []


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_a_model_is_written_leaves_nothing(number, code, tmp_path):
    program = PROGRAM.replace("run()", (
        "import sgnas_zoo.hub.models as models\n"
        "models.write_card = lambda *_, **__: os.kill(os.getpid(), number)\n"
        "run()"
    ))  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", program, str(int(number)), "-", "generate", "--flops", "4M", "--output", "model"],
        cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == code
    assert done.stderr.splitlines() == ["Interrupted." if code == 130 else "Terminated."]
    assert [*tmp_path.iterdir()] == []
