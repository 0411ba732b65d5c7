"""Timing for real, on a small space: what comes out, not how fast it is."""

import json
import platform
import random
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
import warm

from sgnas_zoo.costs import native_conditions
from sgnas_zoo.costs.profile_file import read_profile, write_profile
from sgnas_zoo.errors import ArtifactError, ModelError, SpaceError, UnknownNameError
from sgnas_zoo.measure import cache
from sgnas_zoo.measure.blocks import images, network, spread_archs, timed_blocks
from sgnas_zoo.measure.cache import cached_profile, cached_profiles, this_setup
from sgnas_zoo.measure.device import cores, device_name
from sgnas_zoo.measure.network import measure
from sgnas_zoo.measure.profiler import HELD_OUT, profile_space, validate
from sgnas_zoo.measure.runtimes import RUNTIMES, Runtime
from sgnas_zoo.measure.timing import Timing, interleaved
from sgnas_zoo.spaces import SPACES

MICRO = SPACES["sgnas_micro"]
HERE = native_conditions(MICRO)


@pytest.fixture(scope="module")
def profile():
    return profile_space(MICRO, HERE, this_setup(threads=1), rounds=4)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "sgnas_zoo" / "profiles"


# --- timing


def test_calls_are_interleaved_in_changing_orders_and_rare_ones_sit_rounds_out():
    seen = []
    calls = [lambda name=name: seen.append(name) for name in "abc"]
    rounds = []
    times = interleaved(calls, 6, 1, every=[1, 1, 3], progress=lambda: rounds.append(len(seen)))
    assert [len(own) for own in times] == [6, 6, 2]
    assert len(rounds) == 6
    firsts = {seen[start] for start in [0, *rounds[:-1]]}
    assert len(firsts) > 1


def test_longer_calls_take_longer_and_the_number_of_threads_is_set_and_restored():
    threads, before = [], torch.get_num_threads()
    short, long = interleaved([lambda: threads.append(torch.get_num_threads()), lambda: time.sleep(0.02)], 3, 1)
    assert np.median(long) >= 20 > min(short)
    assert set(threads) == {1}
    assert torch.get_num_threads() == before


def test_a_timing_is_its_quartiles():
    timing = Timing.of(np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
    assert (timing.low_ms, timing.median_ms, timing.high_ms, timing.iqr_ms, timing.n) == (2, 3, 4, 2, 5)


# --- blocks


@pytest.mark.parametrize("space", [name for name in SPACES if SPACES[name].budget == "flops"])
def test_every_layer_and_choice_of_a_space_is_timed_once(space):
    space = SPACES[space]
    conditions = native_conditions(space, resolution=max(32, space.reduction))
    blocks = timed_blocks(space, conditions, batch_size=1)
    places = [place for block in blocks for place in block.places]
    wanted = {
        (layer, space.deployed(layer, variant))
        for layer in range(len(space.layers))
        for variant in space.merge(layer).variants
        if space.block(layer, variant, "final")
    }
    assert len(places) == len(set(places))
    assert set(places) == wanted
    for block in blocks[:: max(1, len(blocks) // 6)]:
        layer = space.layers[block.places[0][0]]
        assert block.example.shape[:2] == (1, layer.in_chs)
        assert block.module(block.example).shape[1] == layer.out_chs


def test_rounding_in_floating_point_is_not_timed():
    space = SPACES["resnet_micro_bits"]
    with pytest.raises(SpaceError, match="says nothing of few bits; bound --bitops, or import a table"):
        timed_blocks(space, native_conditions(space), 1)


def test_equal_layers_share_a_block():
    blocks = timed_blocks(SPACES["sgnas_imagenet"], native_conditions(SPACES["sgnas_imagenet"], resolution=32), 1)
    assert max(len(block.places) for block in blocks) > 1


def test_networks_are_spread_over_the_range_of_a_space():
    from sgnas_zoo.costs import COSTS

    table = COSTS["macs"].table(MICRO, HERE)
    archs = spread_archs(MICRO, HERE, 24, seed=0)
    macs = np.array([table.measure(arch) for arch in archs])
    uniform = np.array([table.measure(MICRO.sample(random.Random(i))) for i in range(24)])
    assert np.ptp(macs) > 1.3 * np.ptp(uniform)
    assert len(set(archs)) == 24
    assert archs == spread_archs(MICRO, HERE, 24, seed=0)
    assert archs != spread_archs(MICRO, HERE, 24, seed=1)


# --- profiles


def test_a_profile_tells_what_it_was_measured_with_and_how_well_it_predicts(profile):
    assert (profile.space, profile.conditions) == ("sgnas_micro", HERE)
    assert profile.setup.device == device_name()
    assert profile.setup.threads == 1
    assert dict(profile.versions)["torch"] == torch.__version__.partition("+")[0]
    assert profile.cores == cores()
    assert profile.validation.nets == HELD_OUT >= 20
    assert all(block.median_ms > 0 and block.n == 4 for block in profile.blocks)
    assert read_profile(write_profile(profile), "x") == profile


def test_the_error_of_predictions_is_what_it_says():
    measured = np.linspace(1, 2, 21)
    perfect = validate(measured, measured)
    assert (perfect.nets, perfect.median_error, perfect.p90_error, perfect.spearman) == (21, 0, 0, 1)
    off = validate(measured * 1.1, measured)
    assert (off.median_error, off.p90_error, off.spearman) == (0.1, 0.1, 1)
    assert validate(measured[::-1], measured).spearman == -1


def weighing(module, example, setup):
    """A runtime that tells how long it would take: a millisecond for every 1,000 weights."""
    assert example.shape[0] == setup.batch_size
    weights = sum(weight.numel() for weight in module.state_dict().values())
    return lambda: weights / 1000


def told(calls, rounds, threads, *, progress=lambda: None, **_):
    """Stands in for the clock."""
    return [np.array([call()] * rounds) for call in calls]


def test_times_of_blocks_add_up_to_those_of_networks_on_a_runtime_of_ones_own(monkeypatch):
    monkeypatch.setattr("sgnas_zoo.measure.profiler.interleaved", told)
    monkeypatch.setattr("sgnas_zoo.measure.network.interleaved", told)
    with RUNTIMES.temporarily("weighing", Runtime("weighing", weighing, ("torch",))):
        made = profile_space(MICRO, HERE, this_setup(runtime="weighing", threads=1, batch_size=2), rounds=2)
        table = made.table(MICRO, HERE)
        for seed in range(5):
            arch = MICRO.sample(random.Random(seed))
            assert measure(arch, HERE, made.setup).median_ms == pytest.approx(table.measure(arch), rel=1e-4)
    assert made.scale == pytest.approx(1, rel=1e-4)
    assert made.validation.p90_error < 1e-4
    assert made.validation.spearman == 1


def test_what_networks_take_more_than_their_blocks_is_fitted(monkeypatch):
    """Blocks on their own look half as slow as they are inside networks, which take 5 ms on top."""

    def slow_networks(module, example, setup):
        own = weighing(module, example, setup)
        return lambda: 5 + 2 * own() if isinstance(module, torch.nn.Sequential) else own()

    monkeypatch.setattr("sgnas_zoo.measure.profiler.interleaved", told)
    with RUNTIMES.temporarily("odd", Runtime("odd", slow_networks, ("torch",))):
        made = profile_space(MICRO, HERE, this_setup(runtime="odd", threads=1), rounds=2)
    assert made.scale == pytest.approx(2, rel=1e-3)
    assert made.fixed_ms > 5
    assert made.validation.p90_error < 1e-3


@pytest.mark.parametrize(
    ("asked", "error", "named"),
    [
        ({"runtime": "tensorrt"}, UnknownNameError, "runtime 'tensorrt'"),
        ({"runtime": "onnxruntime", "device": "cuda"}, ModelError, "onnxruntime runs on cpu"),
        ({"runtime": "onnxruntime", "dtype": "bfloat16"}, ModelError, "takes float32"),
        ({"device": "tpu"}, ModelError, "cpu or cuda"),
    ],
)
def test_what_cannot_be_measured_here_is_refused(asked, error, named):
    pytest.importorskip("onnxruntime")
    with pytest.raises(error, match=named):
        this_setup(**asked)


def test_a_missing_runtime_says_how_to_install_it(monkeypatch):
    missing = replace(RUNTIMES["onnxruntime"], packages=("no-such-package",))
    with pytest.raises(ModelError, match=r"needs no-such-package; install it with `pip install 'sgnas-zoo\[onnx\]'`"):
        missing.check(this_setup())


def test_blocks_are_exported_together_in_memory_and_compute_what_each_does(monkeypatch, tmp_path):
    pytest.importorskip("onnxruntime")
    from sgnas_zoo.measure import onnx_models as exporting

    monkeypatch.chdir(tmp_path)
    exports, export = [], torch.onnx.export

    def counted_export(*args, input_names, **kwargs):
        exports.append(len(input_names))
        return export(*args, input_names=input_names, **kwargs)

    monkeypatch.setattr(torch.onnx, "export", counted_export)
    monkeypatch.setattr(exporting, "AT_ONCE", 3)
    parts = [(block.module, block.example) for block in timed_blocks(MICRO, HERE, 2)[::40]]
    runtime, setup = RUNTIMES["onnxruntime"], this_setup(runtime="onnxruntime", threads=1, batch_size=2)
    models = [*runtime.export(parts)]
    assert exports == [3] * (len(parts) // 3) + [len(parts) % 3] * bool(len(parts) % 3)
    assert len(parts) > 3
    calls = [runtime.open(model, example, setup) for model, (_, example) in zip(models, parts, strict=True)]
    with torch.no_grad():
        for call, (module, example) in zip(calls, parts, strict=True):
            assert np.abs(call()[0] - module(example).numpy()).max() < 1e-5
        assert np.abs(calls[0]()[0]).max() > 1e-3  # else anything would be near
    assert [*tmp_path.rglob("*.onnx")] == []
    alone = [len(next(runtime.export([part])).SerializeToString()) for part in parts[:2]]
    sizes = [len(model.SerializeToString()) for model in models[:2]]
    assert sizes == pytest.approx(alone, rel=0.02)  # each has its own weights and no others
    assert models[1].graph.input[0].name == "input_1"


# --- the cache


def counted(monkeypatch, profile):
    made = []

    def profiled(space, conditions, setup, **_):
        made.append(setup)
        return replace(profile, conditions=conditions, setup=setup)

    monkeypatch.setattr(cache, "profile_space", profiled)
    return made


def test_a_profile_is_made_once_for_each_setup_and_found_again(own_cache, monkeypatch, profile):
    made = counted(monkeypatch, profile)
    one, two = this_setup(threads=1), this_setup(threads=2)
    assert cached_profile(MICRO, HERE, one) == cached_profile(MICRO, HERE, one)
    assert len(made) == 1
    cached_profile(MICRO, HERE, two)
    cached_profile(MICRO, replace(HERE, form="search"), one)
    assert len(made) == 3
    assert len([*own_cache.glob("*.json")]) == 3
    assert {p.setup.threads for _, p in cached_profiles()} == {1, 2}


HOLDER = """
import sys
from pathlib import Path
from sgnas_zoo.measure.cache import _alone
with _alone(Path(sys.argv[1])):
    print("measuring", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("end", ["finishes", "is killed"])
def test_while_one_process_measures_another_waits(end, own_cache, monkeypatch, profile):
    made, said, setup = counted(monkeypatch, profile), [], this_setup(threads=1)
    kept = cached_profile(MICRO, HERE, setup)
    (path,) = own_cache.glob("*.json")
    content = path.read_bytes()
    path.unlink()
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], **pipes) as other:
        assert other.stdout.readline() == "measuring\n"

        def told(line):
            said.append(line)
            if end == "finishes":
                path.write_bytes(content)
                other.stdin.close()
            else:
                other.kill()

        monkeypatch.setattr(cache, "note", told)
        assert cached_profile(MICRO, HERE, setup) == kept
    assert said == [f"Waiting for process {other.pid} on {platform.node()}, which measures the same profile."]
    assert len(made) == (1 if end == "finishes" else 2)


def test_a_damaged_profile_in_the_cache_is_made_anew(own_cache, monkeypatch, profile):
    made = counted(monkeypatch, profile)
    setup = this_setup(threads=1)
    cached_profile(MICRO, HERE, setup)
    (file,) = own_cache.glob("*.json")
    file.write_text(file.read_text()[:100])
    assert [*cached_profiles()] == []
    with pytest.warns(UserWarning, match="made anew"):
        assert cached_profile(MICRO, HERE, setup).setup == setup
    assert len(made) == 2
    assert len([*cached_profiles()]) == 1


def test_a_cache_that_cannot_be_written_is_told_before_measuring(tmp_path, monkeypatch, profile):
    made = counted(monkeypatch, profile)
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(ArtifactError, match=r"Cannot write to .*XDG_CACHE_HOME"):
        cached_profile(MICRO, HERE, this_setup())
    assert made == []


WRITER = """
import sys
from pathlib import Path
from sgnas_zoo.costs.profile_file import read_profile
from sgnas_zoo.measure.cache import keep
profile = read_profile(Path(sys.argv[1]).read_bytes(), "x")
for _ in range(30):
    keep(profile, Path(sys.argv[2]), force=True)
    read_profile(Path(sys.argv[2]).read_bytes(), "x")
"""


def test_processes_that_write_at_once_leave_a_whole_profile(own_cache, tmp_path, profile):
    source, target = tmp_path / "one.json", own_cache / "one.json"
    source.write_text(write_profile(profile))
    writers = [warm.start("-c", WRITER, source, target) for _ in range(3)]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert read_profile(target.read_bytes(), "x") == profile
    assert [file.name for file in own_cache.iterdir()] == ["one.json"]


def test_a_measured_network_is_the_one_that_was_asked_for(monkeypatch):
    shapes = []
    arch = MICRO.sample(random.Random(0))
    runtime = replace(RUNTIMES["torch"], open=lambda module, x, _: shapes.append(module(x).shape) or (lambda: None))
    with RUNTIMES.temporarily("looking", runtime):
        measure(arch, HERE, replace(this_setup(), runtime="looking", batch_size=3))
    assert shapes == [torch.Size([3, 10])]
    assert network(arch, HERE)(images(HERE, 1)).shape == (1, 10)
    json.dumps(shapes)


def test_onnxruntime_times_networks_in_int8(monkeypatch):
    onnx = pytest.importorskip("onnx")
    from sgnas_zoo.export import onnx_format

    opened, open_onnx = [], onnx_format.open_onnx
    monkeypatch.setattr(onnx_format, "open_onnx", lambda model, threads: opened.append(model) or open_onnx(model))
    arch = MICRO.sample(random.Random(0))
    setup = this_setup(runtime="onnxruntime", threads=1)
    for dtype in ("float32", "int8"):
        assert measure(arch, HERE, replace(setup, dtype=dtype)).median_ms > 0
    kinds = [{node.op_type for node in onnx.load_from_string(model).graph.node} for model in opened]
    assert [{"QuantizeLinear", "DequantizeLinear"} <= kind for kind in kinds] == [False, True]
    with pytest.raises(ModelError, match="takes float32 or bfloat16"):
        measure(arch, HERE, replace(setup, runtime="torch", dtype="int8"))
