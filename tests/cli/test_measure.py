"""The commands that run networks; clocks are stood in for where only what is said about them matters."""

import json
import random
import signal
from pathlib import Path

import numpy as np
import pytest
import warm
from commands import good, refused, run
from profiles import SETUP, csv_of, made_up

from sgnas_zoo.costs.profile_file import read_profile, write_profile
from sgnas_zoo.hub.profiles import load_profile
from sgnas_zoo.measure.device import device_name
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
    good("generate", "--latency", f"{MIDDLE}ms", "--profile", profile_file, "--no-measure", "--output", "net")
    record = json.loads(Path("net/config.json").read_text())["zoo"]
    assert record["latency_ms"] <= float(MIDDLE)
    good("card", "net")
    assert "A board" in Path("net/README.md").read_text()


def test_predicted_and_measured_are_told(profile_file, monkeypatch):
    monkeypatch.setattr("sgnas_zoo.api.answer.measure_here", lambda *_: 0.5)
    out, _ = good("generate", "--latency", f"{MIDDLE}ms", "--profile", profile_file)
    assert "predicted " in out
    assert "measured 0.50 ms" in out


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
    ("content", "named"), [("{", "no valid profile"), ("", "no valid profile"), ("[1]", "no valid profile")]
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
    assert sorted(file.name for file in Path().iterdir()) == ["mine.json"]
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


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--runtime", "torhc"], "did you mean torch"),
        (["--space", "sgnas_mirco"], "did you mean sgnas_micro"),
        (["--form", "finale"], "form"),
        (["--resolution", "3"], "give at least"),
        (["--threads", "0"], "--threads"),
        (["--dtype", "int8"], "float32"),
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


def test_interrupted_profiling_leaves_nothing(tmp_path):
    code = "from sgnas_zoo.cli.main import main; main()"
    process = warm.start("-c", code, "profile", "--space", "sgnas_micro", "--output", "mine.json", cwd=tmp_path)
    while "timing" not in process.err.read_text():
        assert process.poll() is None, process.err.read_text()
    process.send_signal(signal.SIGINT)
    done = process.finish()
    assert done.returncode == 1
    assert "Aborted" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]


# --- benchmark


def test_models_are_timed_side_by_side(clock):
    good("generate", "--flops", "3M", "--space", "sgnas_micro", "--output", "net")
    out, err = good("benchmark", "net", "mobilenetv3_small_050", "--threads", 1, "--resolution", 64, "--json")
    mine, theirs = json.loads(out)
    assert (mine["model"], theirs["model"]) == ("net", "mobilenetv3_small_050")
    assert (mine["median_ms"], theirs["median_ms"]) == (1, 2)
    assert mine["setup"]["threads"] == 1
    assert theirs["params"] > 1_000_000
    out, err = good("benchmark", "net", "--threads", 1)
    assert len(out.splitlines()) == 2
    assert "   32" in out
    assert device_name() in err


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
