"""The two recipes that make supernets and generators, as real processes on tiny real files."""

import importlib.util
import json
import os
import re
import signal
import statistics
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
from click.testing import CliRunner
from PIL import Image
from places import RECIPES
from safetensors.torch import load_file
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

import sgnas_zoo
import sgnas_zoo.cli.main
from sgnas_zoo.costs import BUDGETS, COSTS, native_conditions
from sgnas_zoo.hub.supernets import load_supernet
from sgnas_zoo.supernet.samplers import uniform
from sgnas_zoo.training.data.loaders import TransformedImages
from sgnas_zoo.training.data.sources import load_images
from sgnas_zoo.training.data.transforms import eval_transform

SMALL = ("--batch-size", "8", "--workers", "0", "--holdout", "0.25", "--eval-images", "8", "--seed", "3")
TRAIN = ("train_supernet.py", "--space", "sgnas_micro", "--resolution", "16", *SMALL)
STAGED = (*TRAIN, "--epochs", "2", "--smallest-kernels", "0.5", "--zero-init-last")


def write_images(folder: Path, count: int = 48, classes: int = 3, corrupt: int | None = None) -> str:
    """A parquet dataset whose classes are colours."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    labels = [i % classes for i in range(count)]
    pixels = [rng.integers(0, 60, (16, 16, 3)) + 60 * (label == np.arange(3)) + 40 for label in labels]
    images = [Image.fromarray(p.astype(np.uint8)) for p in pixels]
    features = datasets.Features(
        {"img": datasets.Image(), "label": datasets.ClassLabel(names=[f"c{i}" for i in range(classes)])}
    )
    rows = datasets.Dataset.from_dict({"img": images, "label": labels}, features=features)
    if corrupt is not None:
        raw = rows.cast_column("img", datasets.Image(decode=False))
        broken = [{"bytes": b"no image", "path": None} if i == corrupt else r["img"] for i, r in enumerate(raw)]
        rows = datasets.Dataset.from_dict({"img": broken, "label": labels}, features=features)
    rows.to_parquet(str(folder / "train-00000-of-00001.parquet"))
    return str(folder)


@pytest.fixture(scope="module")
def images(once):
    return str(once("images", lambda folder: write_images(folder / "colours")) / "colours")


ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def start(*arguments):
    """Start a recipe in a process of its own, which leads a group."""
    return warm.start(RECIPES / arguments[0], *arguments[1:], env=ENVIRONMENT)


def launch(*arguments):
    """Run a recipe in two processes, by torch's own launcher."""
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    command = [*torchrun, str(RECIPES / arguments[0]), *map(str, arguments[1:])]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def run(*arguments):
    done = start(*arguments).finish()
    assert done.returncode == 0, done.stderr


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def equal(first: Path, second: Path) -> bool:
    one, other = weights(first), weights(second)
    return one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)


@pytest.fixture(scope="module")
def supernet(images, once):
    return once("supernet", lambda folder: run(*STAGED, "--dataset", images, "--output", folder))


@pytest.fixture(scope="module")
def generator(images, supernet, once):
    make = ("train_generator.py", "--supernet", supernet, "--dataset", images, "--epochs", 2, "--batch-size", 4)
    return once("generator", lambda folder: run(*make, "--workers", 0, "--output", folder))


def test_a_supernet_and_its_generator_make_a_model_with_weights(supernet, generator):
    trained = load_supernet(supernet)
    assert trained.classes == ("c0", "c1", "c2")
    assert trained.resolution == 16
    assert trained.dataset["source"] == "colours"
    assert trained.dataset["holdout"] == 0.25
    assert len(trained.calibration) == 36
    assert "/" not in json.dumps([dict(trained.dataset), dict(trained.training)])  # no path of this machine
    for name in ("curves.png", "settings.yaml", "README.md", "calibration.safetensors"):
        assert (supernet / name).is_file()
    with pytest.warns(UserWarning, match=r"trained on the 3 classes of colours \(\w+, \w+, \w+\) at 16 px"):
        model = sgnas_zoo.create_model(flops=4e6, pretrained=supernet, generator=generator)
    assert model.num_classes == 3
    assert model.zoo["macs"] <= 4e6
    assert model.zoo["weights"] == "inherited"
    x = torch.randn(2, 3, 16, 16)
    expected = trained.inherit(trained.supernet.space.parse(model.zoo["arch"]))
    assert torch.equal(model.eval()(x), expected(x))
    with pytest.warns(UserWarning, match=r"trained on the \d+ classes of colours"):
        other = sgnas_zoo.create_model("sgnas", arch="-".join(["35"] * 8), pretrained=supernet)
    assert not torch.equal(model(x), other.eval()(x))


@pytest.mark.slow
def test_a_run_killed_at_any_step_resumes_to_the_same_weights(images, supernet, tmp_path):
    folder = tmp_path / "killed"
    arguments = (*STAGED, "--dataset", images, "--output", folder, "--checkpoint-minutes", 0.001)
    for _ in range(2):
        process = start(*arguments, "--resume", "auto")
        before = len(list(folder.glob("checkpoints/step-*")))
        deadline = time.monotonic() + 300
        while len(list(folder.glob("checkpoints/step-*"))) <= before and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert not (folder / "config.json").exists()
    run(*arguments, "--resume", "auto")
    assert equal(folder, supernet)
    other = tmp_path / "other"
    run(*STAGED, "--dataset", images, "--output", other, "--seed", 4)
    assert not equal(other, supernet)


@pytest.mark.slow
def test_sigterm_saves_and_ends_well(images, supernet, tmp_path):
    folder = tmp_path / "stopped"
    arguments = (*STAGED, "--dataset", images, "--output", folder, "--resume", "auto")
    process = start(*arguments)
    deadline = time.monotonic() + 300
    while not (folder / "settings.yaml").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0
    assert "Stopped by SIGTERM at step" in err
    assert "--resume auto" in err
    run(*arguments)
    assert equal(folder, supernet)


@pytest.mark.slow
def test_sigterm_to_the_whole_group_saves_too(images, tmp_path):
    """What a scheduler sends reaches the decoding workers as well: the run must not die of their death."""
    folder = tmp_path / "stopped"
    process = start(*TRAIN, "--dataset", images, "--output", folder, "--epochs", 10_000, "--workers", 2)
    deadline = time.monotonic() + 300
    while not list(folder.glob("checkpoints/step-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGTERM)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "Stopped by SIGTERM at step" in err
    assert any((step / "manifest.json").is_file() for step in folder.glob("checkpoints/step-*"))


@pytest.mark.slow
def test_two_processes_train_one_supernet_and_one_generator(images, tmp_path):
    folder = tmp_path / "supernet"
    said = launch(*TRAIN, "--dataset", images, "--output", folder, "--epochs", 1, "--paths", 2)
    assert said.count(f"Supernet: {folder}") == 1
    assert load_supernet(folder).training["processes"] == 2
    said = launch("train_generator.py", "--supernet", folder, "--dataset", images, "--output", tmp_path / "generator",
                  "--epochs", 1, "--batch-size", 4, "--workers", 0)  # fmt: skip
    assert said.count("Generator:") == 1


def invoke(name, *arguments):
    """Run a recipe in this process, which is faster."""
    spec = importlib.util.spec_from_file_location(name.removesuffix(".py"), RECIPES / name)
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    return CliRunner().invoke(recipe.main, [str(argument) for argument in arguments])


def refusal(name, *arguments) -> str:
    """The one line with which a recipe refuses."""
    result = invoke(name, *arguments)
    assert result.exit_code == 2, result.output
    said = result.stderr.strip().splitlines()[-1]
    assert said.startswith("Error: ")
    return said


def test_evidence_is_measured_on_a_supernet_and_its_generator(images, supernet, generator, tmp_path):
    made = ("--supernet", supernet, "--generator", generator, "--dataset", images, "--split", "train", "--workers", 0)
    result = invoke("measure_supernet.py", *made, "--budgets", 3, "--randoms", 2, "--output", tmp_path)
    assert result.exit_code == 0, result.output
    evidence = json.loads((tmp_path / "evaluation.json").read_text())
    rows = evidence["budgets"]
    assert evidence["over_budget"] == 0
    assert all(0.99 * row["requested"] <= row["achieved"] <= row["requested"] for row in rows)
    lead = [row["top1"] - sum(row["random_top1"]) / 2 for row in rows]
    assert evidence["lead_over_random"] == pytest.approx(sum(lead) / 3)
    assert evidence["lead_standard_error"] == pytest.approx(statistics.stdev(lead) / 3**0.5)
    model = load_supernet(supernet).inherit(sgnas_zoo.SPACES["sgnas_micro"].parse(rows[1]["arch"]))
    hits = [int(model(x[None]).argmax()) == y for x, y in look_at(images)]
    assert rows[1]["top1"] == pytest.approx(100 * sum(hits) / 48)
    assert evidence["images"] == 48
    assert all(row["top1"] <= row["top5"] <= 100 for row in rows)
    for name in ("budgets.png", "front.png"):
        assert (tmp_path / name).stat().st_size > 1000


def look_at(images):
    """Every image as the supernet sees it, with its label."""
    transform = eval_transform(16, mean=IMAGENET_DEFAULT_MEAN, std=IMAGENET_DEFAULT_STD)
    data = TransformedImages(load_images(images), transform)
    return [data[i] for i in range(len(data))]


CHOICE = [
    ("nas_bench_macro", "flops_bins", {"flops": 60e6}),
    ("resnet_micro_bits", "uniform", {"bitops": 160e6}),
    pytest.param("spos", "flops_bins", {"flops": 330e6}, marks=pytest.mark.slow),
    pytest.param("spos_channel", "uniform", {"flops": 330e6}, marks=pytest.mark.slow),
    pytest.param("greedynas", "uniform", {"flops": 330e6}, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("space", "sampler", "budget"), CHOICE)
def test_spaces_of_choices_train_generate_and_search_by_the_same_commands(images, tmp_path, space, sampler, budget):
    ((name, limit),) = budget.items()
    cost = BUDGETS[name].cost
    made = tmp_path / "supernet"
    look = ("--space", space, "--sampler", sampler, "--resolution", 32, "--lr", 0.01, "--epochs", 1)
    result = invoke("train_supernet.py", *look, *SMALL, "--dataset", images, "--output", made)
    assert result.exit_code == 0, result.output
    final = load_supernet(made).training["final"]
    assert {"top1_random_0", "top1_random_1", "top1_random_2"} <= set(final)
    generator = tmp_path / "generator"
    more = ("--epochs", 1, "--batch-size", 4, "--workers", 0)
    result = invoke("train_generator.py", "--supernet", made, "--dataset", images, "--output", generator, *more)
    assert result.exit_code == 0, result.output

    with pytest.warns(UserWarning, match=r"trained on the 3 classes of colours \(\w+, \w+, \w+\) at 32 px"):
        model = sgnas_zoo.create_model(**budget, pretrained=made, generator=generator)
    assert model.zoo["space"] == space
    assert 0.99 * limit <= model.zoo[cost] <= limit
    trained, x = load_supernet(made), torch.randn(2, 3, 32, 32)
    inherited = trained.inherit(sgnas_zoo.SPACES[space].parse(model.zoo["arch"]))
    assert torch.equal(model.eval()(x), inherited(x))
    with pytest.warns(UserWarning, match=r"trained on the \d+ classes of colours"):
        named = timm.create_model(space, arch=model.zoo["arch"], pretrained=str(made))
    assert torch.equal(named.eval()(x), inherited(x))
    sgnas_zoo.save_model(inherited, tmp_path / "model")
    loaded = timm.create_model(f"local-dir:{tmp_path / 'model'}", pretrained=True)
    assert torch.equal(loaded.eval()(x), inherited(x))

    asked = ("--supernet", made, "--dataset", images, f"--{name}", limit, "--output", tmp_path / "search")
    run_search = ["search", "--strategy", "evolution", "--population", "4", "--generations", "1", *map(str, asked)]
    result = CliRunner().invoke(sgnas_zoo.cli.main.main, run_search)
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "search" / "result.json").read_text())["best"][cost] <= limit

    pair = ("--supernet", made, "--generator", generator, "--dataset", images, "--workers", 0)
    more = ("--split", "train", "--budgets", 2, "--randoms", 1, "--output", tmp_path / "measured")
    result = invoke("measure_supernet.py", *pair, *more)
    assert result.exit_code == 0, result.output
    measured = json.loads((tmp_path / "measured" / "evaluation.json").read_text())
    space = sgnas_zoo.SPACES[space]
    table = COSTS[cost].table(space, native_conditions(space, form="search", num_classes=3))
    assert [row["achieved"] for row in measured["budgets"]] == [
        table.measure(space.parse(row["arch"])) for row in measured["budgets"]
    ]
    assert measured["over_budget"] == 0


def test_what_a_space_of_whole_blocks_cannot_do_is_refused(images, tmp_path):
    make = ("train_supernet.py", "--space", "spos", "--resolution", 32, *SMALL, "--dataset", images)
    out = ("--output", tmp_path / "out")
    assert "which spos does not have; use fair" in refusal(*make, *out, "--sampler", "sandwich")
    assert "leave --smallest-kernels out" in refusal(*make, *out, "--smallest-kernels", 0.5)
    assert "16 pixels are fewer than that" in refusal(*make, *out, "--small-images", 0.5)
    assert not (tmp_path / "out" / "config.json").exists()


GREEDY = (*TRAIN, "--sampler", "greedy", "--surrogate-images", 4, "--epochs", 10)


@pytest.fixture(scope="module")
def greedy(images, once):
    return once("greedy", lambda folder: run(*GREEDY, "--dataset", images, "--output", folder))


def search(*arguments):
    return CliRunner().invoke(sgnas_zoo.cli.main.main, ["search", *map(str, arguments)])


def test_a_greedy_supernet_hands_its_candidate_pool_to_the_search(images, supernet, greedy, tmp_path):
    trained = load_supernet(greedy)
    rounds = -(-(10 * 4 - 3) // 5)  # 40 steps, of which 3 are uniform
    assert trained.training["final"]["path_evaluations"] == 10 * rounds
    assert 5 < len(trained.pool) <= 5 * rounds
    card = (greedy / "README.md").read_text()
    assert f"| path evaluations | {10 * rounds} |" in card
    assert f"| candidate pool | {len(trained.pool)} |" in card

    made = ("--dataset", images, "--strategy", "greedy", "--generations", 0, "--flops", "6M", "--workers", 0)
    result = search(*made, "--supernet", greedy, "--population", 4, "--output", tmp_path / "found")
    assert result.exit_code == 0, result.output
    scored = {json.loads(line)["arch"] for line in (tmp_path / "found" / "evaluations.jsonl").read_text().splitlines()}
    space = trained.supernet.space
    macs = COSTS["macs"].table(space, native_conditions(space, form="search", num_classes=3)).measure
    assert scored == {str(arch) for arch in [arch for arch in trained.pool if macs(arch) <= 6e6][:4]}
    result = search(*made, "--supernet", supernet, "--output", tmp_path / "none")
    assert "has no candidate pool; train one with recipes/train_supernet.py --sampler greedy" in result.stderr


@pytest.mark.slow
def test_a_greedy_run_killed_resumes_to_the_same_weights_and_pool(images, greedy, tmp_path):
    folder = tmp_path / "killed"
    arguments = (*GREEDY, "--dataset", images, "--output", folder, "--checkpoint-minutes", 0.001)
    for _ in range(2):
        process = start(*arguments, "--resume", "auto")
        seen = {path.name for path in folder.glob("checkpoints/step-*")}
        deadline = time.monotonic() + 300
        while {p.name for p in folder.glob("checkpoints/step-*")} <= seen and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert not (folder / "config.json").exists()
    run(*arguments, "--resume", "auto")
    assert equal(folder, greedy)
    assert (folder / "pool.json").read_bytes() == (greedy / "pool.json").read_bytes()


@pytest.mark.slow
def test_two_processes_rank_paths_alike(images, tmp_path):
    folder = tmp_path / "greedynas"
    launch(*GREEDY, "--space", "greedynas", "--resolution", 32, "--epochs", 4, "--dataset", images, "--output", folder,
           "--lr", 0.01)  # fmt: skip
    trained = load_supernet(folder)
    assert trained.training["processes"] == 2
    assert trained.supernet.space.name == "greedynas"
    assert len(trained.pool) >= 5


def test_a_steady_pool_ends_the_training(images, tmp_path, monkeypatch):
    monkeypatch.setattr("sgnas_zoo.supernet.greedy.POOL_SIZE", 2)
    make = (*GREEDY, "--epochs", 60, "--smallest-kernels", 0, "--dataset", images, "--output", tmp_path / "early")
    result = invoke(*make, "--early-stop", 0.08)
    assert result.exit_code == 0, result.output
    trained = load_supernet(tmp_path / "early").training
    assert 1 < trained["final"]["epoch"] < 60
    assert trained["final"]["pool_renewed"] <= 0.08
    assert trained["steps"] == 4 * trained["final"]["epoch"]
    before = weights(tmp_path / "early")
    assert invoke(*make, "--early-stop", 0.08, "--resume", "auto").exit_code == 0
    after = weights(tmp_path / "early")
    assert all(before[name].equal(after[name]) for name in before)


def test_what_greedy_sampling_cannot_do_is_refused(images, tmp_path):
    make = (*TRAIN, "--dataset", images, "--output", tmp_path)
    assert "are the greedy sampler's; leave them out" in refusal(*make, "--flops", "4M")
    assert "are the greedy sampler's; leave them out" in refusal(*make, "--early-stop", 0.1)
    greedy = (*make, "--sampler", "greedy")
    assert "held-out images; add --holdout" in refusal(*greedy, "--holdout", 0)
    assert "Choose from" in refusal(*greedy, "--flops", "0.1M")
    assert "None of 500 random paths of sgnas_micro keeps the limit" in refusal(*greedy, "--flops", "1M")
    assert "did you mean greedy" in refusal(*make, "--sampler", "greddy")
    assert not (tmp_path / "config.json").exists()


def test_a_loss_that_is_not_finite_stops_before_it_reaches_the_weights(images, tmp_path):
    make = (*TRAIN, "--dataset", images, "--output", tmp_path, "--epochs", 3, "--sampler", "uniform")
    said = refusal(*make, "--lr", 1e30)
    path, step = re.search(r"The loss of (\S+) at step (\d+) is not finite", said).groups()
    space = sgnas_zoo.SPACES["sgnas_micro"]
    assert space.parse(path) in uniform(space, 3, int(step), 4)
    assert said.endswith("The last checkpoint is kept; start again with a lower --lr or with --clip-grad.")
    assert not (tmp_path / "config.json").exists()


def test_bad_input_is_refused_in_one_line(images, supernet, tmp_path):
    out = ("--output", tmp_path / "out")
    assert "does not exist" in refusal(*TRAIN, "--dataset", tmp_path / "none", *out)
    assert "7 is not in the range" in refusal(*TRAIN, "--dataset", images, *out, "--resolution", 7)
    assert "0 is not in the range" in refusal(*TRAIN, "--dataset", images, *out, "--epochs", 0)
    assert "use a batch size of at most 36" in refusal(*TRAIN, "--dataset", images, *out, "--batch-size", 64)
    assert "already holds" in refusal(*TRAIN, "--dataset", images, "--output", supernet)
    assert "1.0 is not in the range" in refusal(*TRAIN, "--dataset", images, *out, "--smallest-kernels", 1)
    said = refusal(*TRAIN, "--dataset", images, "--output", supernet, "--resume", "auto", "--lr", 0.3)
    assert "lr: " in said
    assert not (tmp_path / "out" / "config.json").exists()


def test_a_generator_refuses_what_does_not_belong_to_its_supernet(images, supernet, tmp_path):
    make = ("train_generator.py", "--output", tmp_path / "out", "--workers", 0)
    two = write_images(tmp_path / "two", classes=2)
    assert "2 classes, the supernet 3" in refusal(*make, "--supernet", supernet, "--dataset", two)
    assert "stay between" in refusal(*make, "--supernet", supernet, "--dataset", images, "--high", "400M")
    assert "There is no folder" in refusal(*make, "--supernet", tmp_path / "none", "--dataset", images)


def test_unreadable_images_are_skipped_and_counted_or_named(tmp_path):
    data = write_images(tmp_path / "broken", corrupt=2)
    arguments = (*TRAIN, "--dataset", data, "--epochs", 1)
    assert invoke(*arguments, "--output", tmp_path / "run", "--holdout", 0).exit_code == 0
    assert load_supernet(tmp_path / "run").training["final"]["skipped"] == 1
    assert "row 2" in refusal(*arguments, "--output", tmp_path / "other", "--on-corrupt", "fail", "--holdout", 0)
