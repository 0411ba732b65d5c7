"""The commands that run networks; clocks are stood in for where only what is said about them matters."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import warm
from commands import good, refused, run
from profiles import SETUP, csv_of, made_up

from sgnas_zoo.costs.profile import Validation
from sgnas_zoo.costs.profile_file import read_profile, write_profile
from sgnas_zoo.hub.profiles import load_profile
from sgnas_zoo.measure.device import device_name
from sgnas_zoo.measure.timing import Timing
from sgnas_zoo.spaces import SPACES

MICRO = SPACES["sgnas_micro"]
ARCH = str(MICRO.sample(random.Random(0)))


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def clock(monkeypatch):
    """Every call takes as long as its number says."""

    def told(calls, rounds, threads, *, progress=lambda: None, **_):
        for _round in range(rounds):
            progress()
        return [np.array([1.0 + number] * rounds) for number, _ in enumerate(calls)]

    for module in ("profiler", "network", "side_by_side"):
        monkeypatch.setattr(f"sgnas_zoo.measure.{module}.interleaved", told)


@pytest.fixture
def profile_file(tmp_path):
    file = tmp_path / "board.json"
    file.write_text(write_profile(made_up("sgnas_micro")))
    return file


MIDDLE = f"{0.8 * made_up('sgnas_micro').table(MICRO, made_up('sgnas_micro').conditions).maximum:.6f}"


# --- generate --latency


def test_a_latency_is_a_budget_like_any_other(profile_file):
    out, err = good("generate", "--latency", f"{MIDDLE}ms", "--profile", profile_file, "--no-measure", "--json")
    (record,) = json.loads(out)
    assert record["requested"] == {"latency_ms": pytest.approx(float(MIDDLE))}
    assert record["latency_ms"] <= float(MIDDLE)
    assert "measured_ms" not in record
    assert record["latency_conditions"]["device"] == SETUP.device
    assert err == ""
    out, _ = good("generate", "--latency", f"{MIDDLE}ms", "--params", "300K", "--profile", profile_file, "--no-measure")
    assert "latency <= " in out
    assert "predicted" in out
    assert "not measured" in out


def test_a_network_for_a_latency_is_written_with_it(profile_file):
    asked = ("generate", "--latency", f"{MIDDLE}ms", "--profile", profile_file, "--no-measure", "--output", "net")
    good(*asked)
    profile_file.write_text(write_profile(made_up("sgnas_micro", validation=Validation(24, 0.62, 0.9, 0.3))))
    good(*asked, "--force")  # for both, the folder and the profile
    record = json.loads(Path("net/config.json").read_text())["zoo"]
    assert record["latency_ms"] <= float(MIDDLE)
    good("card", "net")
    assert "A board" in Path("net/README.md").read_text()


def takes(monkeypatch, low, median, high):
    """Every network takes that long on this machine, in milliseconds."""
    monkeypatch.setattr("sgnas_zoo.api.answer.stopwatch", lambda *_: lambda arch: Timing(median, low, high, 25))


def test_predicted_and_measured_are_told(profile_file, monkeypatch):
    budget = float(MIDDLE)
    takes(monkeypatch, *(share * budget for share in (0.97, 0.98, 0.99)))
    out, err = good("generate", "--latency", f"{MIDDLE}ms", "--profile", profile_file)
    assert "predicted " in out
    assert f"measured {round(0.98 * budget, 3):.2f} ms" in out
    assert err == ""
    takes(monkeypatch, *(share * budget for share in (0.69, 0.8, 0.99)))  # spread by 38 %: no bare number
    out, _ = good("generate", "--latency", f"{MIDDLE}ms", "--profile", profile_file)
    assert f"measured {0.69 * budget:.2f} to {round(0.99 * budget, 3):.2f} ms" in out
    (record,) = json.loads(good("generate", "--latency", f"{MIDDLE}ms", "--profile", profile_file, "--json")[0])
    assert record["low_ms"] < record["measured_ms"] < record["high_ms"]
    assert record["spread"] == pytest.approx(0.375, abs=0.01)


def test_what_is_measured_otherwise_than_predicted_is_one_line(profile_file, monkeypatch):
    takes(monkeypatch, 0.2, 0.2, 0.2)
    _, err = good("generate", "--latency", f"{MIDDLE}ms", "--profile", profile_file)
    (line,) = err.splitlines()
    assert "Measured 0.20 ms where the profile predicts" in line
    assert "the machine or the profile has changed" in line
    assert "sgnas-zoo profile --force" in line
    takes(monkeypatch, 9.0, 9.0, 9.0)
    told = refused("generate", "--latency", f"{MIDDLE}ms", "--profile", profile_file)
    assert "Measured 9.00 ms at a budget of" in told


def test_a_poor_profile_needs_force_and_one_without_an_error_says_so(profile_file):
    asked = ["generate", "--latency", f"{MIDDLE}ms", "--profile", profile_file, "--no-measure"]
    poor = made_up("sgnas_micro", validation=Validation(24, 0.62, 0.9, 0.3))
    profile_file.write_text(write_profile(poor))
    told = refused(*asked)
    assert "off by 62.0% (median), more than 10%" in told
    assert "idle machine" in told
    assert "--force" in told
    out, err = good(*asked, "--force")
    assert "predicted" in out
    profile_file.write_text(write_profile(made_up("sgnas_micro", validation=None)))
    out, err = good(*asked)
    assert "error of the profile of A board is not known" in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--latency", "20"], "such as 20ms"),
        (["--latency", "0.0001ms"], "nearest network"),
        (["--latency", "20ms", "--flops", "350"], "350M"),
        (["--flops", "3M", "--no-measure"], "add --latency"),
        (["--latency", "1ms", "--resolution", "64"], "resolution 32, not 64"),
        (["--latency", "1ms", "--space", "sgnas_imagenet"], "space sgnas_micro, not sgnas_imagenet"),
        (["--latency", "1ms", "--latency", "2ms", "--output", "net"], "one budget"),
    ],
)
def test_bad_latencies(profile_file, arguments, named):
    assert named in refused("generate", *arguments, "--profile", profile_file)


@pytest.mark.parametrize(
    ("content", "named"), [("{", "not a valid profile"), ("", "not a valid profile"), ("[1]", "not a valid profile")]
)
def test_damaged_profiles(profile_file, content, named):
    profile_file.write_text(content)
    assert named in refused("generate", "--latency", "1ms", "--profile", profile_file)


def test_profiles_that_are_not_there():
    assert "Profile 'nowhere.json' does not exist" in refused(
        "generate", "--latency", "1ms", "--profile", "nowhere.json"
    )


def test_a_device_that_is_not_here(profile_file):
    assert "--no-measure" in refused("generate", "--latency", f"{MIDDLE}ms", "--profile", profile_file)


# --- profile


def test_a_profile_is_written_and_used(clock):
    out, err = good("profile", "--space", "sgnas_micro", "--threads", 1, "--output", "mine.json")
    made = read_profile(Path("mine.json").read_bytes(), "x")
    assert made.setup.device == device_name()
    assert made.setup.threads == 1
    assert "on 24 networks" in out
    assert "--profile mine.json" in err
    assert load_profile("mine.json") == made
    assert files(Path()) == ["mine.json"]
    assert "mine.json exists" in refused("profile", "--space", "sgnas_micro", "--output", "mine.json")
    good("profile", "--space", "sgnas_micro", "--threads", 1, "--batch-size", 2, "--output", "mine.json", "--force")
    assert read_profile(Path("mine.json").read_bytes(), "x").setup.batch_size == 2


def test_a_profile_without_output_goes_to_the_cache_and_is_listed(clock):
    assert good("profile", "--list")[0] == ""
    first, _ = good("profile", "--space", "sgnas_micro", "--threads", 1)
    again, err = good("profile", "--space", "sgnas_micro", "--threads", 1)
    assert first == again
    assert "timing" not in err
    (line,) = good("profile", "--list")[0].splitlines()
    assert "sgnas_micro" in line
    assert "1 thread" in line


def test_a_profile_in_the_cache_is_measured_again_by_force_and_a_poor_one_says_so(clock):
    good("profile", "--space", "sgnas_micro", "--threads", 1)
    _, err = good("profile", "--space", "sgnas_micro", "--threads", 1, "--force")
    assert "timing" in err
    assert "Other processes take " in err
    assert "above 10 %" in err  # networks that take as long as their number says have nothing to do with their blocks
    assert len(good("profile", "--list")[0].splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--runtime", "torhc"], "did you mean torch"),
        (["--space", "sgnas_mirco"], "did you mean sgnas_micro"),
        (["--form", "finale"], "form"),
        (["--resolution", "3"], "give at least"),
        (["--threads", "0"], "--threads"),
        (["--precision", "int8"], "float32"),
        (["--device", "tpu"], "cpu or cuda"),
        (["--from-csv", "table.csv"], "needs --output"),
        (["--from-csv", "table.csv", "--output", "x.json"], "Cannot read table.csv"),
    ],
)
def test_profiles_that_cannot_be_made(arguments, named):
    assert named in refused("profile", "--space", "sgnas_micro", *arguments)


def test_a_folder_that_cannot_be_written_is_told_before_measuring(tmp_path):
    (tmp_path / "file").touch()
    assert "Cannot write to" in refused("profile", "--space", "sgnas_micro", "--output", "file/mine.json")


def test_a_table_measured_elsewhere_becomes_a_profile():
    profile = made_up("sgnas_micro")
    Path("table.csv").write_text(csv_of(profile).replace(",", ";").replace(".", ","), "utf-8-sig")  # as Excel does
    out, _ = good(
        "profile", "--space", "sgnas_micro", "--from-csv", "table.csv", "--device", "Pixel 9", "--runtime", "litert",
        "--output", "pixel.json",
    )  # fmt: skip
    assert "Pixel 9, litert" in out
    assert "error not known" in out
    made = read_profile(Path("pixel.json").read_bytes(), "x")
    table, known = made.table(MICRO, made.conditions), profile.table(MICRO, profile.conditions)
    assert table.maximum == pytest.approx(known.maximum)
    Path("short.csv").write_text("\n".join(csv_of(profile).splitlines()[:1] + csv_of(profile).splitlines()[2:]))
    told = refused("profile", "--space", "sgnas_micro", "--from-csv", "short.csv", "--output", "short.json")
    assert "lacks layer 0" in told


INTERRUPTED = """
import os, signal
from sgnas_zoo.cli.main import run
from sgnas_zoo.measure import partial
add = partial.Partial.add

def add_and_interrupt(self, times):
    add(self, times)
    if len(self.rounds) == 3:
        os.kill(os.getpid(), signal.SIGINT)

partial.Partial.add = add_and_interrupt
run()
"""
RESUMED = """
from sgnas_zoo.cli.main import run
from sgnas_zoo.measure import partial
added, add = [], partial.Partial.add

def counted(self, times):
    added.append(len(self.rounds) + 1)
    add(self, times)

partial.Partial.add = counted
try:
    run()
finally:
    print("added", *added)
"""


def files(folder):
    """Names of all files but for those that a lock in the cache leaves."""
    names = (file.name for file in folder.rglob("*") if file.is_file())
    return sorted(name for name in names if not name.endswith((".lock", ".holder")))


@pytest.mark.parametrize("place", [("--output", "mine.json"), ()])
def test_interrupted_profiling_goes_on_with_the_rounds_that_were_timed(tmp_path, place):
    asked = ("profile", "--space", "sgnas_micro", "--threads", "1", *place)
    done = warm.run("-c", INTERRUPTED, *asked, cwd=tmp_path)
    assert done.returncode == 130
    assert done.stderr.count("Interrupted.") == 1
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    (partial,) = tmp_path.rglob("*.partial")
    assert len(json.loads(partial.read_text())["rounds"]) == 3
    assert files(tmp_path) == [partial.name]
    done = warm.run("-c", RESUMED, *asked, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Going on with 3 of 24 rounds that were timed before an interruption." in done.stderr
    assert f"added {' '.join(map(str, range(4, 25)))}" in done.stdout
    assert not [*tmp_path.rglob("*.partial")]
    (path,) = tmp_path.rglob("*.json")
    assert all(block.n == 24 for block in read_profile(path.read_bytes(), "x").blocks)


# --- benchmark


def test_exported_files_are_timed_as_they_are(clock):
    good("generate", "--flops", "3M", "--space", "sgnas_micro", "--output", "net")
    good("export", "net", "--format", "pt2", "--output", "net.pt2")
    out, _ = good("benchmark", "net", "net.pt2", "--json")
    model, file = json.loads(out)
    assert (model["model"], file["model"]) == ("net", "net.pt2")
    assert (file["setup"]["runtime"], file["setup"]["dtype"], file["resolution"]) == ("pt2", "float32", 32)
    assert (file["macs"], file["params"]) == (None, None)
    assert model["macs"] > 0
    out, _ = good("benchmark", "net.pt2")
    assert out.splitlines()[1].split()[:5] == ["net.pt2", "pt2", "32", "-", "-"]
    Path("broken.pt2").write_bytes(b"nothing")
    assert "is damaged or not a file of pt2; export it again." in refused("benchmark", "broken.pt2")


def test_models_are_timed_side_by_side(clock):
    good("generate", "--flops", "3M", "--space", "sgnas_micro", "--output", "net")
    out, err = good("benchmark", "net", "mobilenetv3_small_050", "--threads", 1, "--resolution", 64, "--json")
    mine, theirs = json.loads(out)
    assert (mine["model"], theirs["model"]) == ("net", "mobilenetv3_small_050")
    assert (mine["median_ms"], theirs["median_ms"]) == (1, 2)
    assert mine["setup"]["threads"] == 1
    assert theirs["params"] > 1_000_000
    assert (mine["low_ms"], mine["high_ms"], mine["spread"]) == (1, 1, 0)
    assert "timing" not in mine
    assert "Other processes take " in err
    out, err = good("benchmark", "net", "--threads", 1)
    assert len(out.splitlines()) == 2
    assert "   32" in out
    assert device_name() in err


def test_times_that_spread_are_a_range_in_the_table_and_in_json(monkeypatch):
    def told(calls, rounds, threads, *, progress=lambda: None, **_):
        return [np.array([1.0, 2.0, 3.0, 4.0, 5.0] * 6), np.array([3.0] * 30)]

    monkeypatch.setattr("sgnas_zoo.measure.side_by_side.interleaved", told)
    out, _ = good("benchmark", "sgnas", "mobilenetv3_small_050", "--threads", 1, "--resolution", 32)
    wide, steady = out.splitlines()[1:]
    assert "2.00 to 4.00" in wide
    assert " to " not in steady
    assert " 3.00 " in steady
    out, _ = good("benchmark", "sgnas", "mobilenetv3_small_050", "--threads", 1, "--resolution", 32, "--json")
    wide, steady = json.loads(out)
    assert (wide["low_ms"], wide["median_ms"], wide["high_ms"]) == (2, 3, 4)
    assert wide["spread"] == pytest.approx(2 / 3)
    assert steady["spread"] == 0


def test_models_are_timed_for_real():
    out, _ = good("benchmark", "sgnas", "--threads", 1, "--resolution", 32, "--rounds", 2, "--json")
    (row,) = json.loads(out)
    assert row["median_ms"] > 0
    assert row["n"] == 2


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["sgnas_d"], "did you mean"),
        (["sgnas_a", "--runtime", "torch,onxruntime"], "did you mean onnxruntime"),
        (["sgnas_a", "--rounds", "0"], "--rounds"),
        ([], "MODEL"),
    ],
)
def test_bad_benchmarks(arguments, named):
    assert named in refused("benchmark", *arguments)


# --- export


def test_an_export_is_compared_and_told():
    good("generate", "--flops", "3M", "--space", "sgnas_micro", "--output", "net")
    out, err = good("export", "net", "--format", "pt2")
    assert out.strip() == "net.pt2"
    assert Path("net.pt2").is_file()
    assert "differs from torch by" in err
    assert "dynamic" in err
    assert "--force" in refused("export", "net", "--format", "pt2")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(["sgnas_a", "--format", "onx"], "did you mean onnx"), (["sgnas_d"], "did you mean"), (["./nowhere"], "nowhere")],
)
def test_bad_exports(arguments, named):
    assert named in refused("export", *arguments)


def test_help_of_every_command_is_there():
    for command in ("profile", "benchmark", "export"):
        code, out, _ = run(command, "--help")
        assert code == 0
        assert "Usage" in out
