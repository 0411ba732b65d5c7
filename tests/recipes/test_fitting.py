"""The recipes that train and measure models: real processes on tiny real files, and their refusals in this process."""

import importlib.util
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import datasets
import numpy as np
import pytest
import timm
import torch
import warm
from accelerate.state import AcceleratorState, PartialState
from click.testing import CliRunner
from PIL import Image
from places import ROOT
from safetensors.torch import load_file
from torch.nn import functional as F

import sgnas_zoo
from sgnas_zoo.supernet.depthwise import DepthwiseConv2d

ARCH = "53-35-573-33-55-73-353-35"
MICRO = ("--space", "sgnas_micro", "--arch", ARCH)
SMALL = ("--resolution", "8", "--batch-size", "8", "--epochs", "2", "--workers", "0", "--lr", "0.02")
STEPS = 12  # of two epochs of 48 images
FIGURES = ("top1", "top5", "loss", "images", "skipped")
COUNTS = ("top1", "top5", "images", "skipped")
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}


def write_images(folder, sizes, names, corrupt=()):
    """Parquet files of colours, one per class; rows in ``corrupt`` cannot be read."""
    folder.mkdir(parents=True)
    for split, count in sizes.items():
        rng, rows = np.random.default_rng(count), []
        labels = [index % len(names) for index in range(count)]
        for index, label in enumerate(labels):
            pixels = rng.integers(0, 60, (12, 12, 3))
            pixels[..., label] += 150
            content = io.BytesIO()
            Image.fromarray(pixels.astype(np.uint8)).save(content, "PNG")
            rows.append({"bytes": b"broken" if index in corrupt else content.getvalue(), "path": None})
        features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=names)})
        table = datasets.Dataset.from_dict({"image": rows, "label": labels}, features=features)
        table.to_parquet(str(folder / f"{split}-00000-of-00001.parquet"))
    return str(folder)


@pytest.fixture(scope="session")
def data(once, tmp_path_factory):
    """Three datasets by name, and a cache of their own."""
    folder, cache = once("data", write_datasets), tmp_path_factory.mktemp("cache")
    return {**{name: str(folder / name) for name in ("three", "two", "bad")}, "cache": str(cache)}


def write_datasets(folder):
    three, sizes = ["red", "green", "blue"], {"train": 48, "test": 23}
    write_images(folder / "three", sizes, three)
    write_images(folder / "two", {"train": 40, "test": 20}, ["warm", "cold"])
    write_images(folder / "bad", sizes, three, corrupt=(3, 22))


@pytest.fixture
def call(data, monkeypatch):
    """Run a recipe in this process; give its exit code, stdout and stderr."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", Path(data["cache"]))
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0, raising=False)

    def run(name, *arguments):
        spec = importlib.util.spec_from_file_location(f"recipe_{name}", ROOT / "recipes" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        AcceleratorState._reset_state(True)
        with torch.random.fork_rng():
            result = CliRunner().invoke(module.main, [str(argument) for argument in arguments])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.stdout, result.stderr

    yield run
    AcceleratorState._reset_state(True)
    PartialState._reset_state()


def start(data, name, *arguments, launcher=()):
    """Start a recipe in a process of its own, which leads a group; a launcher imports everything."""
    env = {**os.environ, **ENVIRONMENT, "HF_DATASETS_CACHE": data["cache"]}
    command = [f"recipes/{name}.py", *map(str, arguments)]
    if not launcher:
        return warm.start(*command, env=env, cwd=ROOT)
    command = [sys.executable, *launcher, *command]
    return subprocess.Popen(command, cwd=ROOT, env=env, text=True, stdout=-1, stderr=-1, start_new_session=True)


def finish(process, code=0):
    """Wait for a process; give its stdout and stderr."""
    out, err = process.communicate(timeout=300)
    assert process.returncode == code, err
    return out, err


def torchrun(ranks):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    return ("-m", "torch.distributed.run", "--nproc-per-node", str(ranks), "--master-port", str(port))


ACCELERATE = ("-m", "accelerate.commands.launch")


def read(path):
    return json.loads(Path(path).read_text(encoding="utf-8"))


def figures(record, names=FIGURES):
    return {name: record[name] for name in names}


def equal(first, second):
    """Whether two folders hold the same weights, bit for bit."""
    one, other = (load_file(Path(folder) / "model.safetensors") for folder in (first, second))
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def steps(folder):
    return sorted(int(path.name[5:]) for path in (folder / "checkpoints").glob("step-*"))


def wait_for_step(process, folder, least):
    """Wait for a checkpoint of at least so many steps; give its number."""
    deadline = time.monotonic() + 240
    while not (found := [step for step in steps(folder) if step >= least]):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return found[-1]


# --- the chain, as docs/train.md says it


@pytest.fixture(scope="module")
def model(data, once):
    """Folder of a model that `python recipes/retrain.py` trained."""
    command = ("retrain", *MICRO, *SMALL, "--dataset", data["three"], "--epochs", 20, "--drop-rate", 0.2)
    return once("runs", lambda root: finish(start(data, *command, "--output", root / "model"))) / "model"


def test_retrain_leaves_a_model_that_timm_loads(model):
    names = {path.name for path in model.iterdir()}
    assert names == {"config.json", "model.safetensors", "README.md", "architecture.svg", "metrics.json",
                     "settings.yaml", "curves.png", "checkpoints"}  # fmt: skip
    loaded = timm.create_model(f"local-dir:{model}", pretrained=True)
    cfg = loaded.pretrained_cfg
    assert (cfg["label_names"], cfg["input_size"], cfg["crop_pct"]) == (["red", "green", "blue"], (3, 8, 8), 1.0)
    config = read(model / "config.json")
    assert config["model_args"]["arch"] == ARCH
    assert config["zoo"]["weights"] == "retrained"
    assert "# model\n" in (model / "README.md").read_text()
    assert "Recipe `retrain`" in (model / "README.md").read_text()
    assert f"{read(model / 'metrics.json')['top1']:.2f} %" in (model / "README.md").read_text()
    assert "trained from scratch" in (model / "README.md").read_text()
    metrics = read(model / "metrics.json")
    assert metrics["top1"] > 60  # chance is 33
    assert (metrics["images"], metrics["epochs"], metrics["seed"], metrics["split"]) == (23, 20, 0, "test")


def test_evaluate_gives_the_figures_of_retrain(call, data, model, tmp_path):
    code, out, err = call("evaluate", "--model", f"local-dir:{model}", "--dataset", data["three"], "--output",
                          tmp_path / "e.json", "--workers", 0)  # fmt: skip
    result = json.loads(out)
    assert (code, err) == (0, "")
    assert result == read(tmp_path / "e.json")
    assert figures(result) == figures(read(model / "metrics.json"))
    assert (result["arch"], result["macs"], result["weights"]) == (ARCH, read(model / "config.json")["zoo"]["macs"],
                                                                    "retrained")  # fmt: skip
    assert len(result["weights_sha256"]) == 64
    assert result["versions"]["torch"] == torch.__version__
    _, out, _ = call("evaluate", "--model", f"local-dir:{model}", "--dataset", data["three"], "--split", "train",
                     "--workers", 0)  # fmt: skip
    assert figures(json.loads(out)) != figures(result)


def test_evaluate_agrees_with_a_loop_of_its_own(call, data, model):
    network = timm.create_model(f"local-dir:{model}", pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(network), is_training=False)
    rows = datasets.load_dataset(data["three"], split="test", cache_dir=data["cache"])
    with torch.inference_mode():
        logits = network(torch.stack([transform(row["image"]) for row in rows]))
    labels = torch.tensor(rows["label"])
    _, out, _ = call("evaluate", "--model", f"local-dir:{model}", "--dataset", data["three"], "--workers", 0)
    assert json.loads(out)["top1"] == pytest.approx(100 * (logits.argmax(1) == labels).double().mean().item())
    assert json.loads(out)["loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)


def test_depthwise_convolutions_are_sped_up_while_it_trains(call, data, tmp_path, monkeypatch):
    """Their gradient is then put together from tiles, which is a multiple as fast on a CPU."""
    tiled, forward = [], DepthwiseConv2d.forward
    monkeypatch.setattr(DepthwiseConv2d, "forward", lambda self, x: tiled.append(self) or forward(self, x))
    code, _, err = call("retrain", *MICRO, *SMALL, "--dataset", data["three"], "--output", tmp_path / "out")
    assert code == 0, err
    assert len(set(tiled)) >= len(ARCH.replace("-", ""))  # every chosen kernel has one, or a merged one


def test_finetune_takes_a_saved_model_to_other_classes(call, data, model, tmp_path):
    small = ("--workers", 0, "--batch-size", 8, "--epochs", 2, "--layer-decay", 0.8, "--output", tmp_path / "tuned")
    code, _, err = call("finetune", "--model", f"local-dir:{model}", "--dataset", data["two"], *small)
    assert code == 0, err
    assert "classifier is new" not in err
    config = read(tmp_path / "tuned" / "config.json")
    assert (config["num_classes"], config["model_args"]["arch"]) == (2, ARCH)
    assert config["label_names"] == ["warm", "cold"]
    assert config["zoo"]["weights"] == "fine-tuned"
    assert config["zoo"]["started_from"]["weights"] == "retrained"
    assert "fine-tuned" in (tmp_path / "tuned" / "README.md").read_text()
    assert config["zoo"]["metrics"] == read(tmp_path / "tuned" / "metrics.json")
    assert read(tmp_path / "tuned" / "metrics.json")["images"] == 20
    before, after = (load_file(folder / "model.safetensors") for folder in (model, tmp_path / "tuned"))
    assert before.keys() == after.keys()
    moved = F.cosine_similarity(before["conv_head.weight"].flatten(), after["conv_head.weight"].flatten(), 0)
    assert 0.9 < moved < 1  # inherited, then trained


def test_finetune_keeps_the_classifier_for_the_same_classes(call, data, model, tmp_path):
    common = ("--model", f"local-dir:{model}", "--workers", 0, "--batch-size", 8, "--epochs", 1, "--lr", 1e-9)
    assert call("finetune", *common, "--dataset", data["three"], "--output", tmp_path / "same")[0] == 0
    before, after = (load_file(folder / "model.safetensors") for folder in (model, tmp_path / "same"))
    assert torch.allclose(before["classifier.weight"], after["classifier.weight"], atol=1e-6)
    other = write_images(tmp_path / "renamed", {"train": 16, "test": 8}, ["one", "another", "third"])
    assert call("finetune", *common, "--dataset", other, "--output", tmp_path / "other")[0] == 0
    fresh = load_file(tmp_path / "other" / "model.safetensors")["classifier.weight"]
    assert not torch.allclose(before["classifier.weight"], fresh, atol=1e-2)


# --- budgets and settings


def test_budgets_combine_and_hold_at_the_resolution(call, data, tmp_path):
    tiny = ("--resolution", 64, "--limit", 10, "--epochs", 1, "--batch-size", 10, "--workers", 0)
    budgets = ("--flops", "30M", "--params", "4M")
    code, _, err = call("retrain", *budgets, *tiny, "--dataset", data["three"], "--output", tmp_path / "m")
    assert code == 0, err
    record = read(tmp_path / "m" / "config.json")["zoo"]
    assert record["requested"] == {"flops": 30_000_000, "params": 4_000_000}
    assert record["macs"] <= 30e6
    assert record["params"] <= 4e6
    assert max(record["macs"] / 30e6, record["params"] / 4e6) > 0.99
    _, out, _ = call("evaluate", "--model", f"local-dir:{tmp_path / 'm'}", "--dataset", data["three"], "--limit", 10,
                     "--workers", 0)  # fmt: skip
    assert figures(json.loads(out), ("macs", "params", *FIGURES)) == {
        **figures(record, ("macs", "params")), **figures(read(tmp_path / "m" / "metrics.json")),
    }  # fmt: skip


def test_a_network_for_a_budget_has_the_form_that_was_asked_for(call, data, tmp_path):
    tiny = ("--resolution", 32, "--limit", 10, "--epochs", 1, "--batch-size", 10, "--workers", 0)
    asked, images = ("--flops", "8M", "--form", "lite"), ("--dataset", data["three"])
    code, _, err = call("retrain", *asked, *tiny, *images, "--output", tmp_path / "m")
    assert code == 0, err
    config, record = read(tmp_path / "m" / "config.json"), read(tmp_path / "m" / "config.json")["zoo"]
    assert (config["model_args"]["form"], record["form"], record["training"]["form"]) == ("lite", "lite", "lite")
    assert 0.99 * 8e6 <= record["macs"] <= 8e6
    lite, final = (
        sgnas_zoo.create_model(
            "sgnas", space=record["space"], arch=record["arch"], form=form, num_classes=3
        ).state_dict()
        for form in ("lite", "final")
    )
    assert load_file(tmp_path / "m" / "model.safetensors").keys() == lite.keys() != final.keys()
    assert "`lite`" in (tmp_path / "m" / "README.md").read_text()
    (checkpoint,) = (tmp_path / "m" / "checkpoints").glob("*/model.safetensors")
    sgnas_zoo.convert(checkpoint, tmp_path / "c", space=record["space"], arch=record["arch"], form="lite")
    assert read(tmp_path / "c" / "config.json")["num_classes"] == 3
    _, out, _ = call("evaluate", "--model", tmp_path / "m", *images, "--limit", 10, "--workers", 0)
    assert json.loads(out)["form"] == "lite"
    assert figures(json.loads(out), ("macs", "params")) == figures(record, ("macs", "params"))


def test_a_holdout_is_watched_and_measured(call, data, tmp_path):
    code, _, err = call("retrain", *MICRO, *SMALL, "--dataset", data["three"], "--holdout", 0.25, "--seed", 5,
                        "--output", tmp_path / "m")  # fmt: skip
    assert code == 0, err
    metrics = read(tmp_path / "m" / "metrics.json")
    assert (metrics["images"], metrics["split"], metrics["part"]) == (12, "train", "held")
    same = ("--model", f"local-dir:{tmp_path / 'm'}", "--dataset", data["three"], "--split", "train", "--workers", 0)
    _, out, _ = call("evaluate", *same, "--holdout", 0.25, "--part", "held", "--seed", 5)
    assert figures(json.loads(out)) == figures(metrics)
    _, out, _ = call("evaluate", *same, "--holdout", 0.25, "--part", "held", "--seed", 6)
    assert figures(json.loads(out)) != figures(metrics)


def test_images_that_cannot_be_read_are_counted(call, data, model, tmp_path):
    code, _, err = call("retrain", *MICRO, *SMALL, "--dataset", data["bad"], "--output", tmp_path / "m", "--epochs", 1)
    assert code == 0, err
    assert figures(read(tmp_path / "m" / "metrics.json"), ("images", "skipped")) == {"images": 21, "skipped": 2}
    (manifest,) = (tmp_path / "m" / "checkpoints").glob("*/manifest.json")
    assert read(manifest)["progress"]["history"][0]["skipped"] == 2
    code, _, err = call("evaluate", "--model", f"local-dir:{model}", "--dataset", data["bad"], "--on-corrupt", "fail",
                        "--workers", 0)  # fmt: skip
    assert code == 2
    assert "cannot be read" in err


def test_a_stream_gives_the_same_figures(call, data, model, tmp_path):
    stream = ("--streaming", "--steps-per-epoch", 6)
    code, _, err = call("retrain", *MICRO, *SMALL, *stream, "--dataset", data["three"], "--output", tmp_path / "m")
    assert code == 0, err
    assert read(tmp_path / "m" / "metrics.json")["images"] == 23
    _, out, _ = call("evaluate", "--model", f"local-dir:{model}", "--dataset", data["three"], "--streaming",
                     "--workers", 0)  # fmt: skip
    assert figures(json.loads(out)) == figures(read(model / "metrics.json"))
    long = ("--streaming", "--steps-per-epoch", 7)
    code, _, err = call("retrain", *MICRO, *SMALL, *long, "--dataset", data["three"], "--output", tmp_path / "long")
    assert (code, "lower --steps-per-epoch" in err) == (2, True)


# --- refusals: one line, exit code 2, nothing left behind

BAD = {
    "no epochs": (("--epochs", 0), "--epochs"),
    "flops below the space": (("--flops", "4M"), "75.3M"),
    "flops beside a name": (("--model", "sgnas_a", "--flops", "350M"), "leave out --flops"),
    "a form beside a name": (("--model", "sgnas_a", "--form", "lite"), "leave out --form, or --model"),
    "no such form": (("--flops", "350M", "--form", "light"), "'light' is not one of 'search', 'final', 'lite'"),
    "a form that a space lacks": (("--space", "spos", "--arch", "0" * 20, "--form", "lite"), "has no lite form"),
    "no such model": (("--model", "sgnas_aa"), "did you mean sgnas_a"),
    "no such folder": (("--model", "local-dir:/nowhere"), "/nowhere"),
    "no such optimizer": (("--model", "sgnas_a", "--opt", "sdg"), "did you mean"),
    "batch too large": ((*MICRO, "--batch-size", 49), "batch size of at most 48"),
    "no such dataset": ((*MICRO, "--dataset", "/nowhere/at/all"), "does not exist"),
    "stream without a length": ((*MICRO, "--streaming"), "--steps-per-epoch"),
    "no such option": (("--flop", "350M", "--epoch", 3), "--flops"),
}


@pytest.mark.parametrize("case", BAD)
def test_retrain_refuses(call, data, tmp_path, case):
    arguments, hint = BAD[case]
    code, out, err = call("retrain", "--dataset", data["three"], "--output", tmp_path / "m", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert hint in err
    assert not (tmp_path / "m").exists()


def test_another_number_of_classes_names_both(call, data, model, tmp_path):
    code, out, err = call("evaluate", "--model", f"local-dir:{model}", "--dataset", data["two"], "--workers", 0)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "2 classes" in err
    assert "3" in err


@pytest.mark.parametrize("name", ["evaluate", "finetune"])
def test_weights_of_another_form_are_not_inherited(call, data, tmp_path, name):
    asked = ("--flops", "350M", "--form", "lite", "--output", tmp_path / "m")
    code, out, err = call(name, "--dataset", data["three"], *asked)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "recipes/retrain.py --form lite" in err
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("name", ["evaluate", "finetune"])
def test_weights_that_do_not_exist_are_not_made_up(call, data, tmp_path, name):
    output = ("--output", tmp_path / "m")
    for arguments in (("--model", "sgnas_a"), ("--model", "sgnas"), ()):
        code, out, err = call(name, "--dataset", data["three"], *output, *arguments)
        assert (code, out, err.count("\n")) == (2, "", 1)
    assert not (tmp_path / "m").exists()


def test_a_folder_with_a_model_is_left_alone(call, data, model):
    before = (model / "model.safetensors").read_bytes()
    code, _, err = call("retrain", *MICRO, *SMALL, "--dataset", data["three"], "--output", model)
    assert (code, "already holds a model" in err) == (2, True)
    code, _, err = call("retrain", *MICRO, *SMALL, "--dataset", data["three"], "--output", model, "--resume", "auto")
    assert (code, "epochs: 20 there, 2 here" in err, "drop_rate: 0.2 there, 0.0 here" in err) == (2, True, True)
    assert (model / "model.safetensors").read_bytes() == before


def test_no_options_say_what_is_missing(call):
    code, out, err = call("retrain")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "ILSVRC/imagenet-1k" in err


# --- interruptions, and other processes


@pytest.mark.slow
def test_accelerate_launches_them(data, model, tmp_path):
    run = ("--model", f"local-dir:{model}", "--dataset", data["two"], "--workers", 0, "--batch-size", 8, "--epochs", 1)
    _, err = finish(start(data, "finetune", *run, "--output", tmp_path / "tuned", launcher=ACCELERATE))
    assert "Model: " in err
    assert read(tmp_path / "tuned" / "config.json")["zoo"]["weights"] == "fine-tuned"


@pytest.mark.slow
def test_killed_and_stopped_runs_end_in_the_same_model(data, tmp_path):
    run = (*MICRO, *SMALL, "--dataset", data["three"], "--drop-rate", 0.3, "--checkpoint-minutes", 0, "--workers", 1,
           "--color-jitter", 0.2)  # fmt: skip
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    finish(start(data, "retrain", *run, "--output", whole))

    process = start(data, "retrain", *run, "--output", cut)
    killed = wait_for_step(process, cut, 3)
    process.kill()
    process.communicate()
    assert killed < STEPS
    assert not (cut / "config.json").exists()

    process = start(data, "retrain", *run, "--output", cut, "--resume", "auto")
    stopped = wait_for_step(process, cut, killed + 2)
    process.send_signal(signal.SIGTERM)
    _, err = finish(process)
    assert f"Stopped by SIGTERM at step {steps(cut)[-1]}" in err
    assert stopped <= steps(cut)[-1] <= STEPS
    assert not (cut / "config.json").exists()

    finish(start(data, "retrain", *run, "--output", cut, "--resume", "auto"))
    assert steps(cut)[-1] == STEPS
    assert equal(whole, cut)
    assert figures(read(whole / "metrics.json")) == figures(read(cut / "metrics.json"))
    history = [read(folder / "checkpoints" / f"step-{STEPS:08d}" / "manifest.json")["progress"]["history"]
               for folder in (whole, cut)]  # fmt: skip
    assert history[0] == history[1]

    finish(start(data, "retrain", *run, "--output", tmp_path / "other", "--seed", 1))
    assert not equal(whole, tmp_path / "other")


@pytest.mark.slow
def test_finetune_resumes_to_the_same_model(data, model, tmp_path):
    run = ("--model", f"local-dir:{model}", "--dataset", data["two"], "--workers", 0, "--batch-size", 8, "--epochs", 2,
           "--checkpoint-minutes", 0, "--drop-rate", 0.3, "--ema-decay", 0.9, "--layer-decay", 0.8)  # fmt: skip
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    finish(start(data, "finetune", *run, "--output", whole))
    process = start(data, "finetune", *run, "--output", cut)
    assert wait_for_step(process, cut, 2) < 10
    process.kill()
    process.communicate()
    finish(start(data, "finetune", *run, "--output", cut, "--resume", "auto"))
    assert equal(whole, cut)
    assert not equal(whole, model)


@pytest.mark.slow
def test_two_processes_make_one_model(data, tmp_path):
    # More images than a batch of measuring, so that both processes have some, and unlike shares.
    many = write_images(tmp_path / "many", {"train": 48, "test": 300}, ["red", "green", "blue"], corrupt=(3, 299))
    run = (*MICRO, *SMALL, "--dataset", many, "--batch-size", 4, "--drop-rate", 0.3, "--checkpoint-minutes", 0)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    _, err = finish(start(data, "retrain", *run, "--output", whole, launcher=torchrun(2)))
    assert err.count("Model: ") == 1
    metrics = read(whole / "metrics.json")
    assert (metrics["images"], metrics["skipped"], metrics["processes"]) == (298, 2, 2)

    results = []
    for ranks in (1, 2):
        out, _ = finish(start(data, "evaluate", "--model", f"local-dir:{whole}", "--dataset", many, "--workers", 0,
                              launcher=torchrun(ranks)))  # fmt: skip
        results.append(json.loads(out))
    assert [result["processes"] for result in results] == [1, 2]
    for result in results:
        assert figures(result, COUNTS) == figures(metrics, COUNTS)
        assert result["loss"] == pytest.approx(metrics["loss"], rel=1e-6)

    process = start(data, "retrain", *run, "--output", cut, launcher=torchrun(2))
    killed = wait_for_step(process, cut, 3)
    os.killpg(process.pid, signal.SIGKILL)  # torchrun and its workers are a group of their own
    process.communicate()
    assert killed < STEPS
    finish(start(data, "retrain", *run, "--output", cut, "--resume", "auto", launcher=torchrun(2)))
    assert equal(whole, cut)

    _, err = finish(start(data, "retrain", *run, "--output", tmp_path / "few", "--limit", 1, launcher=torchrun(2)), 1)
    assert "1 images do not fill 2 processes" in err
