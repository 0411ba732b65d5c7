"""Networks over a whole range of budgets: ``sgnas-zoo front``."""

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import good, refused, run
from PIL import Image
from profiles import made_up

import sgnas_zoo
from sgnas_zoo import extras
from sgnas_zoo.costs import BUDGETS, COSTS, native_conditions
from sgnas_zoo.costs.profile import Setup
from sgnas_zoo.costs.profile_file import write_profile
from sgnas_zoo.hub.generators import save_generator
from sgnas_zoo.hub.supernets import load_supernet
from sgnas_zoo.measure.device import device_name
from sgnas_zoo.measure.runtimes import RUNTIMES, Runtime
from sgnas_zoo.measure.timing import Timing
from sgnas_zoo.registry import Registry
from sgnas_zoo.search.generator import ArchGenerator
from sgnas_zoo.search.knee import knee
from sgnas_zoo.spaces import SPACES
from sgnas_zoo.training.data.sources import load_images
from sgnas_zoo.training.networks import measuring_transform, set_input
from sgnas_zoo.zoo import ARTIFACTS

MICRO = SPACES["sgnas_micro"]
NAMES = {"front.json", "front.csv", "front.png", "front.svg"}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def record(folder="front"):
    return json.loads(Path(folder, "front.json").read_text())


def front(*arguments, space="sgnas_micro", points=5, output="front"):
    """The record of a front, and what was printed."""
    out, _ = good("front", "--space", space, "--points", points, "--output", output, *arguments)
    return record(output), out


def table_of(name, space=MICRO, **conditions):
    return COSTS[name].table(space, native_conditions(space, **conditions))


def test_budgets_over_the_whole_range_are_answered_in_one_pass(monkeypatch):
    passes, forward = [], ArchGenerator.forward
    monkeypatch.setattr(ArchGenerator, "forward", lambda self, t: passes.append(len(t)) or forward(self, t))
    out, err = good("front", "--space", "sgnas_micro", "--output", "front")
    told, macs = record(), table_of("macs")
    asked = [row["requested"] for row in told["points"]]
    assert passes == [20]
    assert told["range"] == [asked[0], asked[-1]] == [macs.minimum, macs.maximum]
    assert asked == np.linspace(macs.minimum, macs.maximum, 20).round().tolist()
    assert [row["arch"] for row in told["points"]] == [
        str(each.arch) for each in sgnas_zoo.generate(flops=asked, space="sgnas_micro")
    ]
    assert {file.name for file in Path("front").iterdir()} == NAMES
    assert len(out.splitlines()) == 22
    assert "Wrote front: front.json, front.csv, front.png, front.svg." in err


@pytest.mark.parametrize("cost", ["flops", "params", "memory", "flash"])
def test_every_cost_has_a_front_that_keeps_its_budgets_and_states_all_costs(cost):
    told, _ = front("--cost", cost, "--precision", "fp16")
    assert (told["cost"], told["conditions"]["precision"]) == (cost, "fp16")
    for row in told["points"]:
        assert row[BUDGETS[cost].cost] <= row["requested"]
        for name in ("macs", "params", "memory_bytes", "flash_bytes"):
            assert row[name] == table_of(name, precision="fp16").measure(MICRO.parse(row["arch"]))
            assert told["units"][name] == COSTS[name].unit
    assert told["vertical"]["name"] == ("macs" if cost == "params" else "params")


def test_without_weights_the_second_cost_is_shown_and_no_knee_is_claimed():
    told, out = front()
    assert told["vertical"]["told"] == "parameters, M (no accuracy is known)"
    assert told["knee"] is told["weights"] is told["dataset"] is None
    assert not any("top1" in name for row in told["points"] for name in row)
    assert "No knee: the accuracy of these networks is not known; add --pretrained" in out
    svg = Path("front/front.svg").read_text()
    assert "<!-- parameters, M (no accuracy is known) -->" in svg
    assert "<!-- FLOPs (MACs), M -->" in svg
    assert "<!-- budget asked for -->" in svg
    assert "<!-- knee -->" not in svg


def test_embedded_weights_are_predicted_from_their_record_and_the_knee_is_marked():
    told, out = front("--pretrained", points=9)
    evidence = json.loads((ARTIFACTS / "sgnas_micro_supernet" / "evaluation.json").read_text())["budgets"]
    macs = [row["achieved"] for row in evidence]
    for row in told["points"]:
        within = macs[0] <= row["macs"] <= macs[-1]
        expected = np.interp(row["macs"], macs, [known["top1"] for known in evidence])
        assert row["predicted_top1"] == (pytest.approx(expected) if within else None)
    assert told["points"][0]["predicted_top1"] is None  # cheaper than all of the record
    assert [(row["arch"], row["macs"], row["top1"]) for row in told["recorded"]] == [
        (row["arch"], row["achieved"], row["top1"]) for row in evidence
    ]
    assert told["recorded"][0]["standard_error"] == pytest.approx((77.85 * 22.15 / 10000) ** 0.5)
    known = [row for row in told["points"] if row["predicted_top1"] is not None]
    at = knee([(row["macs"], row["predicted_top1"]) for row in known])
    assert told["points"][told["knee"]] == known[at]
    (marked,) = (line for line in out.splitlines() if " knee " in line)
    assert marked.split()[0] == str(told["knee"] + 1)
    assert marked.endswith(known[at]["arch"])
    assert f"{known[at]['predicted_top1']:.2f} % predicted top-1" in out.splitlines()[-1]
    assert told["weights"]["tag"] == "cifar10"
    assert told["conditions"]["form"] == "search"
    svg = Path("front/front.svg").read_text()
    for text in ("knee", "generated", "measured, in the record (± standard error)"):
        assert f"<!-- {text} -->" in svg
    assert told["vertical"]["told"] == "top-1 at 32 px, predicted by MACs from the supernet's record, %"
    assert "<!-- top-1 at 32 px, predicted by" in svg


def test_the_same_front_is_the_same_files_and_tells_no_path():
    contents = []
    for name in ("one", "other"):
        front("--pretrained", output=name)
        contents.append({file.name: file.read_bytes() for file in Path(name).iterdir()})
    assert contents[0] == contents[1]
    for path in (str(Path().resolve()), str(ARTIFACTS)):
        assert not any(path.encode() in content for content in contents[0].values())


def test_the_table_for_spreadsheets_holds_the_record():
    told, _ = front("--pretrained")
    rows = [*csv.DictReader(io.StringIO(Path("front/front.csv").read_text()))]
    for at, (row, point) in enumerate(zip(rows, told["points"], strict=True)):
        assert (row["point"], row["knee"]) == (str(at + 1), str(int(at == told["knee"])))
        assert {name: row[name] for name in point} == {n: "" if v is None else str(v) for n, v in point.items()}


def by_hand(network, images):
    """Share of images, in percent, that a network names rightly."""
    set_input(network)
    transform = measuring_transform(network.eval())
    with torch.no_grad():
        hits = [int(network(transform(row["image"])[None]).argmax()) == row["label"] for row in decoded(images)]
    return 100 * sum(hits) / len(hits)


def decoded(images):
    return [{**row, "image": Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB")} for row in images.rows]


def test_a_dataset_measures_inherited_weights_with_standard_errors(made, colours):
    data = ("--pretrained", made / "supernet", "--generator", made / "generator", "--dataset", colours)
    code, out, err = run("front", "--space", "sgnas_micro", "--points", 3, "--output", "front", "--workers", 0, *data)
    assert code == 0, err
    assert "The supernet's classes have other names than the dataset's" in err
    told, images = record(), load_images(colours, "test")
    trained = load_supernet(made / "supernet")
    for row in told["points"]:
        expected = by_hand(trained.inherit(MICRO.parse(row["arch"])), images)
        assert row["top1"] == pytest.approx(expected)
        assert row["standard_error"] == pytest.approx((expected * (100 - expected) / 12) ** 0.5)
    assert (
        told["vertical"]["told"]
        == f"top-1 at {trained.resolution} px, inherited weights, 12 images, % (± standard error)"
    )
    assert (told["dataset"]["split"], told["dataset"]["rows"]) == ("test", 12)
    assert "±" in out
    assert told["recorded"] == []
    assert str(made) not in Path("front/front.json").read_text()


def test_a_supernet_without_a_record_predicts_nothing(made):
    own = ("--pretrained", made / "supernet", "--generator", made / "generator")
    told, out = front(*own, points=3)
    assert told["vertical"]["name"] == "params"
    assert "add --dataset DATA" in out
    shutil.copytree(made / "supernet", "net")
    rows = [{"arch": "-".join([kernel] * 8), "top1": top1} for kernel, top1 in (("3", 40.0), ("777777", 60.0))]
    Path("net/evaluation.json").write_text(json.dumps({"budgets": rows}))
    told, _ = front("--pretrained", "net", "--generator", made / "generator", points=3, output="known")
    assert told["vertical"]["name"] == "predicted_top1"
    assert 40 < told["points"][1]["predicted_top1"] < 60
    Path("net/evaluation.json").write_text(json.dumps({"budgets": [{"arch": "3-3", "top1": 40.0}]}))
    said = refused("front", "--space", "sgnas_micro", "--pretrained", "net", "--output", "x")
    assert "3-3" in said


@pytest.fixture
def board():
    """The file of a made-up profile of another device."""
    Path("board.json").write_text(write_profile(made_up("sgnas_micro")))
    return "board.json"


def test_a_latency_is_predicted_by_its_profile(board):
    told, _ = front("--cost", "latency", "--profile", board, points=4)
    table = made_up("sgnas_micro").table(MICRO, native_conditions(MICRO))
    assert told["range"] == [pytest.approx(table.minimum), pytest.approx(table.maximum)]
    for row in told["points"]:
        assert row["latency_ms"] == pytest.approx(table.measure(MICRO.parse(row["arch"])))
        assert row["latency_ms"] <= row["requested"]
        assert "measured_ms" not in row
    assert told["latency_conditions"]["device"] == "A board"
    assert "<!-- predicted latency, ms -->" in Path("front/front.svg").read_text()


def test_measured_latencies_are_what_the_front_is_over(board, monkeypatch):
    monkeypatch.setattr("sgnas_zoo.training.fronts.plan.check_here", lambda profile: None)
    clock = iter([0.04, 0.03, 0.02, 0.01])
    monkeypatch.setattr(
        "sgnas_zoo.training.fronts.plan.stopwatch", lambda *_: lambda arch: Timing.of(np.array([next(clock)] * 3))
    )
    told, out = front("--cost", "latency", "--profile", board, "--measure", points=4)
    assert [row["measured_ms"] for row in told["points"]] == [0.04, 0.03, 0.02, 0.01]
    assert told["horizontal"] == "measured_ms"
    assert "measured, ms" in out.splitlines()[0]
    assert "<!-- measured latency, ms -->" in Path("front/front.svg").read_text()


@pytest.fixture
def bits():
    """The folder of a generator for a space of bits, which has no embedded one."""
    space = SPACES["resnet_micro_bits"]
    torch.manual_seed(0)
    prior, conditions = space.parse("-".join(["24"] * len(space.layers))), native_conditions(space, form="search")
    Path("bits").mkdir()
    save_generator(ArchGenerator(prior, "bitops", conditions, (8e7, 3e8), width=8), Path("bits"))
    return "bits"


def test_bits_have_a_front_over_bitops(bits):
    told, _ = front("--generator", bits, space="resnet_micro_bits", points=3)
    assert told["cost"] == "bitops"
    assert all(row["bitops"] <= row["requested"] for row in told["points"])
    assert told["vertical"]["name"] == "flash_bytes"  # MACs, parameters and memory do not depend on bits


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--space", "sgnas_mikro"], "did you mean sgnas_micro"),
        (["--space", "sgnas_micro", "--points", "1"], "2 to 1,000 points, not 1; leave --points out for 20."),
        (["--space", "sgnas_micro", "--points", "2000"], "2 to 1,000 points, not 2000"),
        (["--space", "sgnas_micro", "--cost", "flop"], "Unknown cost 'flop': did you mean flops?"),
        (["--space", "sgnas_micro", "--cost", "bitops"], "sgnas_micro has no BitOps; bound another cost"),
        (["--space", "sgnas_micro", "--cost", "latency"], "add --profile FILE, or make one with `sgnas-zoo profile"),
        (["--space", "sgnas_micro", "--measure"], "add --cost latency, or leave them out."),
        (["--space", "sgnas_micro", "--profile", "board.json"], "add --cost latency, or leave them out."),
        (["--space", "sgnas_micro", "--dataset", "data"], "add --pretrained, or leave it out."),
        (["--space", "sgnas_micro", "--cost", "latency", "--profile", "none.json"], "does not exist; name a file"),
        (["--space", "sgnas_imagenet", "--cost", "latency", "--profile", "board.json"], "sgnas_micro"),
        (["--space", "sgnas_micro", "--pretrained", "cifar"], "cifar10"),
        (["--space", "spos"], "no embedded generator for spos; give one of your own"),
        (["--space", "sgnas_micro", "--pretrained", "--dataset", "nowhere/at-all"], "nowhere/at-all"),
    ],
)
def test_what_makes_no_front_is_refused_in_one_line_with_the_next_step(board, monkeypatch, options, said):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert said in refused("front", "--output", "front", *options)


def test_a_cost_that_is_the_same_for_all_networks_has_no_range(bits):
    said = refused(
        "front", "--space", "resnet_micro_bits", "--generator", bits, "--cost", "params", "--output", "front"
    )
    assert "Every network of resnet_micro_bits has 1.241M parameters; choose another --cost, such as bitops." in said


def test_a_dataset_of_other_classes_is_refused_before_anything_is_generated(colours, monkeypatch):
    monkeypatch.setattr("sgnas_zoo.training.fronts.plan.answer", lambda resolved: pytest.fail("it was generated"))
    said = refused("front", "--space", "sgnas_micro", "--pretrained", "--dataset", colours, "--output", "front")
    assert "This dataset has 3 classes, the supernet 10; choose a dataset with 10 classes" in said


def test_a_profile_of_another_device_cannot_be_measured(board):
    own = ("--space", "sgnas_micro", "--cost", "latency", "--profile", board, "--measure", "--output", "front")
    assert "The profile is of A board, and this is" in refused("front", *own)


def test_a_missing_runtime_is_named_before_anything_is_generated(monkeypatch):
    runtimes = Registry("runtime")
    runtimes.register("gone", Runtime("gone", RUNTIMES["torch"].open, ("a-runtime-nobody-has",)))
    monkeypatch.setattr("sgnas_zoo.api.profiles.RUNTIMES", runtimes)
    monkeypatch.setattr("sgnas_zoo.training.fronts.plan.answer", lambda resolved: pytest.fail("it was generated"))
    setup = Setup(device_name("cpu"), "cpu", "gone", threads=1)
    Path("gone.json").write_text(write_profile(made_up("sgnas_micro", setup=setup)))
    own = ("--space", "sgnas_micro", "--cost", "latency", "--profile", "gone.json", "--measure", "--output", "front")
    assert "The runtime gone needs a-runtime-nobody-has; install it with" in refused("front", *own)


def test_without_matplotlib_the_line_to_install_it_comes_before_all_work(monkeypatch):
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "matplotlib" else object())
    monkeypatch.setattr("sgnas_zoo.training.fronts.plan.plan_front", lambda *_, **__: pytest.fail("it was begun"))
    said = refused("front", "--space", "sgnas_micro", "--output", "front")
    assert said == "Error: A front needs matplotlib; install what is missing with: pip install 'sgnas-zoo[recipes]'\n"


def test_only_an_earlier_front_is_replaced_and_only_with_force():
    front(points=3)
    Path("front/notes.txt").write_text("mine")
    assert "already holds a front; choose another --output, or add --force." in refused(
        "front", "--space", "sgnas_micro", "--output", "front"
    )
    assert len(record()["points"]) == 3
    front("--force", points=4)
    assert len(record()["points"]) == 4
    assert Path("front/notes.txt").read_text() == "mine"
    assert {file.name for file in Path("front").iterdir()} == {*NAMES, "notes.txt"}


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_foreign_file_is_named_and_kept(name):
    Path("front").mkdir()
    Path("front", name).write_text('{"objectives": [], "front": []}')  # as a search writes front.json
    said = refused("front", "--space", "sgnas_micro", "--output", "front", "--force")
    assert f"{name} would be lost" in said
    assert [file.name for file in Path("front").iterdir()] == [name]


def test_a_front_that_fails_leaves_no_folder(monkeypatch):
    monkeypatch.setattr("sgnas_zoo.training.fronts.files.plot_panels", lambda *_: 1 / 0)
    with pytest.raises(AssertionError, match="division by zero"):
        good("front", "--space", "sgnas_micro", "--points", 3, "--output", "deep/front")
    assert [*Path().iterdir()] == []


def test_a_notebook_gets_what_the_command_writes():
    told, _ = front("--pretrained", "--cost", "params", points=3)
    assert sgnas_zoo.generate_front("sgnas_micro", pretrained=True, cost="params", points=3) == told
