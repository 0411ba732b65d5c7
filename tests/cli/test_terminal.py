"""What an artifact says never reaches a terminal, a warning or a card as something other than text."""

import copy
import json
import shutil
import warnings
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState, PartialState
from click.testing import CliRunner
from huggingface_hub import constants
from profiles import made_up
from safetensors.torch import load_file, save_file

from sgnas_zoo.cli.main import main
from sgnas_zoo.costs.profile_file import write_profile
from sgnas_zoo.errors import ArtifactError, DataError, printable

MARKER = "\x1b]0;pwned\x07\x9b2J\u202e\u2028\n"
CONFIGS = {"model": "config.json", "generator": "config.json", "supernet": "config.json", "profile": "profile.json"}


@pytest.fixture(scope="module")
def artifacts(made, tmp_path_factory):
    """A folder of each kind, with what its makers may write into it besides."""
    root = tmp_path_factory.mktemp("artifacts")
    for kind in ("model", "generator", "supernet"):
        shutil.copytree(made / kind, root / kind)
    (root / "profile").mkdir()
    (root / "profile" / "profile.json").write_text(write_profile(made_up("sgnas_micro")))
    change(root / "model", lambda config: config.update(MODEL) or config["zoo"].update(RECORD))
    change(root / "supernet", lambda config: config["training"].update(TRAINING))
    return root


MODEL = {"label_names": ["a", "b", "c"], "label_descriptions": {"a": "first"}}
SOURCE = {"id": "me/x", "revision": "main", "sha256": "0" * 64}
RECORD = {
    "weights": "inherited", "requested": {"flops": 4e6}, "macs": 3, "params": 3, "generator": SOURCE,
    "supernet": SOURCE, "dataset": {"source": "cifar10", "split": "train", "revision": "0" * 40}, "latency_ms": 3.0,
    "latency_conditions": {"device": "a board"}, "training": {"recipe": "retrain", "opt": "sgd"},
    "started_from": {"model": "x"}, "metrics": {"top1": 3.0, "source": "cifar10", "split": "test"},
}  # fmt: skip
TRAINING = {"recipe": "train_supernet", "hours": 1, "final": {"top1_wide": 3.0}}


def change(folder, deed):
    """Edit the file that describes an artifact."""
    file = next(path for name in set(CONFIGS.values()) if (path := folder / name).is_file())
    config = json.loads(file.read_text())
    deed(config)
    file.write_text(json.dumps(config))


def is_text(said):
    """Whether there is nothing in it that a terminal obeys, but for line feeds and what draws progress bars."""
    return not set("\x00\x07\x1b\x9b\u202e\u2028") & set(said)


def spoiled(value):
    """Each copy of a JSON value in which one text or one key holds the marker, and where that is."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield f"key {key}", {MARKER + k if k == key else k: v for k, v in value.items()}
            for where, other in spoiled(inner):
                yield f"{key}.{where}", {**value, key: other}
        yield "new key", {**value, MARKER: MARKER}
    elif isinstance(value, list) and value:
        for where, other in spoiled(value[0]):
            yield f"0.{where}", [other, *copy.deepcopy(value[1:])]
    elif value is None or isinstance(value, str):
        yield "start", MARKER + (value or "")
        yield "end", (value or "") + MARKER
    else:
        yield "instead", MARKER


@pytest.fixture
def say(monkeypatch, tmp_path, recipe, stubs):
    """Everything that a command shows and warns of. What trains or takes time is left out."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("sgnas_zoo.measure.side_by_side.interleaved", lambda calls, *_, **__: [[1.0, 2.0]] * len(calls))

    def no_images(*_, **__):
        raise DataError("no images; name others.")

    monkeypatch.setattr("sgnas_zoo.training.searching.candidates.load_images", no_images)
    monkeypatch.setattr("sgnas_zoo.training.data.sources.load_images", no_images)
    commands = {}
    for name in ("evaluate", "finetune", "train_generator", "measure_supernet"):
        module, _ = recipe(name)
        stubs(module, [])
        if name == "measure_supernet":
            monkeypatch.setattr(module, "load_images", no_images)
        commands[name] = module.main

    def run(command, *arguments):
        AcceleratorState._reset_state(True)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            words = [*([] if command in commands else [command]), *map(str, arguments)]
            done = CliRunner().invoke(commands.get(command, main), words)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.stdout + done.stderr + "".join(str(warning.message) + "\n" for warning in told)

    yield run
    AcceleratorState._reset_state(True)
    PartialState._reset_state()


OUT, DATA = ("--output", "out"), ("--dataset", "x")
SHOWN = {
    "model": [("info", "."), ("info", ".", "--json"), ("card", "."), ("benchmark", ".", "--rounds", "1"),
              ("evaluate", "--model", ".", *DATA), ("finetune", "--model", ".", *DATA, *OUT), ("push", ".", "me/x"),
              ("shim", ".")],
    "generator": [("info", "."), ("card", "."),
                  ("generate", "--flops", "4M", "--generator", "."), ("push", ".", "me/x"),
                  ("generate", "--flops", "4M", "--generator", ".", "--json")],
    "supernet": [("info", "."), ("card", "."), ("push", ".", "me/x"),
                 ("generate", "--flops", "4M", "--space", "sgnas_micro", "--pretrained", ".", "--output", "out",
                  "--force"),
                 ("front", "--space", "sgnas_micro", "--pretrained", ".", "--points", "2", "--output", "drawn",
                  "--force"),
                 ("search", "--flops", "4M", "--supernet", ".", *DATA, *OUT),
                 ("compare", "--strategies", "random", "--space", "sgnas_micro", "--budgets", "4M", "--supernet", ".",
                  *DATA, *OUT),
                 ("train_generator", "--supernet", ".", *DATA, *OUT),
                 ("measure_supernet", "--supernet", ".", "--generator", ".", *DATA, *OUT)],
    "profile": [("info", "."), ("card", "."), ("push", ".", "me/x"), ("profile", "--list"),
                ("generate", "--latency", "9ms", "--profile", ".", "--no-measure")],
}  # fmt: skip
"""Commands that show something of an artifact in the folder they are in."""
SELDOM = {"compare", "finetune", "front", "benchmark", "push", "generate"}
"""The slower ones look at every fourth of the spoiled artifacts that the others look at."""


def check_all(artifacts, tmp_path, monkeypatch, say, kind, every):
    whole = json.loads((artifacts / kind / CONFIGS[kind]).read_text())
    seen = 0
    for number, (where, config) in enumerate(spoiled(whole)):
        folder = tmp_path / "spoiled"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(artifacts / kind, folder)
        (folder / CONFIGS[kind]).write_text(json.dumps(config))
        if kind == "profile":
            (tmp_path / "cache" / "sgnas_zoo" / "profiles").mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / "profile.json", tmp_path / "cache" / "sgnas_zoo" / "profiles" / "x.json")
        monkeypatch.chdir(folder)
        for command, *arguments in SHOWN[kind]:
            if number % (4 * every if command in SELDOM else every):
                continue
            said = say(command, *arguments)
            assert is_text(said), (where, command, said)
            seen += "pwned" in said
            for page in folder.rglob("*.md"):
                text = page.read_text(encoding="utf-8")
                assert is_text(text), (where, command)
    assert seen  # some of it is shown, as text


@pytest.mark.parametrize("kind", CONFIGS)
def test_fields_of_configs_are_shown_as_text(artifacts, tmp_path, monkeypatch, say, kind):
    check_all(artifacts, tmp_path, monkeypatch, say, kind, {"model": 13, "supernet": 8, "profile": 5}.get(kind, 3))


@pytest.mark.slow
@pytest.mark.parametrize("kind", CONFIGS)
def test_every_field_of_configs_is_shown_as_text(artifacts, tmp_path, monkeypatch, say, kind):
    check_all(artifacts, tmp_path, monkeypatch, say, kind, 1)


@pytest.mark.parametrize("kind", ["model", "generator", "supernet"])
def test_names_of_tensors_are_shown_as_text(artifacts, tmp_path, monkeypatch, say, kind):
    shutil.copytree(artifacts / kind, tmp_path / "spoiled")
    monkeypatch.chdir(tmp_path / "spoiled")
    state = load_file("model.safetensors")
    save_file({MARKER + name: tensor for name, tensor in state.items()}, "model.safetensors", metadata={MARKER: MARKER})
    for command, *arguments in SHOWN[kind]:
        said = say(command, *arguments)
        assert is_text(said), command
        assert "not fit its config" in said or command in ("shim", "train_generator")


@pytest.mark.parametrize("kind", ["generator", "supernet", "model"])
def test_evaluations_are_shown_as_text(artifacts, tmp_path, monkeypatch, say, kind):
    shutil.copytree(artifacts / kind, tmp_path / "spoiled")
    monkeypatch.chdir(tmp_path / "spoiled")
    for value in ({"origin": MARKER, "covered": MARKER}, {"dataset": {"source": MARKER}, "top1": 3.0}, {MARKER: MARKER},
                  {"training": {MARKER: MARKER, "recipe": MARKER}}, {"top1": MARKER}):  # fmt: skip
        Path("evaluation.json").write_text(json.dumps(value))
        said = say("card", ".") + Path("README.md").read_text(encoding="utf-8")
        assert is_text(said)


def test_a_folder_s_own_name_is_shown_as_text(artifacts, tmp_path, say):
    folder = shutil.copytree(artifacts / "generator", tmp_path / "odd\x1b]0;pwned\x07")
    (folder / "model.safetensors").write_bytes(b"")
    assert r"odd\x1b]0;pwned\x07" in (said := say("info", folder))
    assert "\x1b" not in said


@pytest.mark.parametrize("text", [MARKER, "\ud800", "\x00", "\u2066", "a\rb"])
def test_errors_are_one_printable_line(text):
    said = str(ArtifactError(f"This {text} is wrong; mend it."))
    assert said.isprintable()
    assert said.startswith("This ")
    assert said.encode().decode() == said


@pytest.mark.parametrize("text", ["héllo wörld 日本語 🙂 עברית", r"C:\path\new", "100 % <b> https://example.com/a/b."])
def test_text_that_is_only_text_stays(text):
    assert printable(text) == text


def test_addresses_lose_what_may_be_a_signature():
    assert printable("at https://a.b/c?X-Amz-Signature=1&y=2#z, now") == "at https://a.b/c now"
