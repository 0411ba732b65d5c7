"""Artifacts are untrusted data: whatever they say, loading one is a load or a ZooError, and that at once."""

import copy
import json
import shutil
import time
import warnings

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from sgnas_zoo.errors import ArtifactError, ZooError
from sgnas_zoo.hub.generators import load_generator
from sgnas_zoo.hub.kinds import KINDS, check_folder
from sgnas_zoo.hub.loading import load_model
from sgnas_zoo.hub.supernets import load_supernet

LOADERS = {
    "model": lambda folder: load_model(f"local-dir:{folder}"),
    "generator": load_generator,
    "supernet": load_supernet,
}
SECONDS = 20
"""Far above what the slowest load takes on a busy machine; a hang or a huge allocation is above it."""


def outcome(kind, folder):
    """Load a folder: True, or the one line that says why not; anything else fails the test."""
    started = time.monotonic()
    said = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            LOADERS[kind](folder)
    except ZooError as error:
        said = str(error)
    assert time.monotonic() - started < SECONDS
    assert said is True or (len(said) < 2000 and "\n" not in said)
    return said


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 2**70),
    st.sampled_from([10**9, 2**31, -1, 0, 1, 224, 1000]),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(
        ["../../etc/passwd", "/etc/passwd", "{{ 7*7 }}", "__import__('os')", "nan", "3" * 5000, "hf-hub:a/b"]
    ),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)
KEYS = st.sampled_from(
    ["file", "url", "state_dict", "custom_load", "hf_hub_id", "source", "num_classes", "in_chans", "arch", "space",
     "form", "block_args", "stem_size", "round_chs_fn", "act_layer", "global_pool", "output_stride", "checkpoint_path",
     "pretrained", "generator", "flops", "width", "cost", "range", "img_size", "features_only", "x"]
)  # fmt: skip


def places(value, path=()):
    """Paths to everything in a JSON value."""
    yield path
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*path, key))
    elif isinstance(value, list):
        for index in range(len(value)):
            yield from places(value[index], (*path, index))


@st.composite
def spoiled(draw, config):
    """A config with one to three things changed, removed or added."""
    config = copy.deepcopy(config)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from([p for p in places(config) if p]))
        inside = config
        for step in path[:-1]:
            inside = inside[step]
        deed = draw(st.sampled_from(["change", "change", "remove", "add"]))
        if deed == "change":
            inside[path[-1]] = draw(VALUES)
        elif deed == "remove":
            del inside[path[-1]]
        elif isinstance(inside, dict):
            inside[draw(KEYS)] = draw(VALUES)
        if not config:
            break
    return config


def fuzz_config(made, tmp_path_factory, kind, examples):
    folder = tmp_path_factory.mktemp("fuzz") / "artifact"
    shutil.copytree(made / kind, folder)
    valid = json.loads((folder / "config.json").read_text())
    seen = {True: 0, False: 0}

    @settings(max_examples=examples, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(spoiled(valid))
    def check(config):
        (folder / "config.json").write_text(json.dumps(config))
        seen[outcome(kind, folder) is True] += 1

    check()
    assert min(seen.values()) > 0  # neither all refused nor all taken


def fuzz_header(made, tmp_path_factory, kind, examples):
    folder = tmp_path_factory.mktemp("fuzz") / "artifact"
    shutil.copytree(made / kind, folder)
    whole = (folder / "model.safetensors").read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])

    @st.composite
    def damaged(draw):
        how = draw(st.sampled_from(["bytes", "cut", "length", "header"]))
        if how == "bytes":
            data = bytearray(whole)
            for at in draw(st.lists(st.integers(0, min(len(whole) - 1, length + 200)), min_size=1, max_size=5)):
                data[at] = draw(st.integers(0, 255))
            return bytes(data)
        if how == "cut":
            return whole[: draw(st.integers(0, len(whole) - 1))]
        if how == "length":
            return draw(st.integers(0, 2**64 - 1)).to_bytes(8, "little") + whole[8:]
        made_up = copy.deepcopy(header)
        name = draw(st.sampled_from(sorted(made_up)))
        field = draw(st.sampled_from(["shape", "dtype", "data_offsets", "name"]))
        if field == "name" or name == "__metadata__":
            made_up[draw(st.text(max_size=9))] = made_up.pop(name)
        else:
            number = st.integers(-3, 2**66)
            made_up[name][field] = draw(
                st.lists(number, max_size=5) | st.sampled_from(["F16", "U8", "I64", "F99", None, 1])
            )
        text = json.dumps(made_up).encode()
        return len(text).to_bytes(8, "little") + text + whole[8 + length :]

    @settings(max_examples=examples, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(damaged())
    def check(data):
        (folder / "model.safetensors").write_bytes(data)
        outcome(kind, folder)

    check()
    (folder / "model.safetensors").write_bytes(whole)
    assert outcome(kind, folder) is True


@pytest.mark.parametrize("kind", LOADERS)
def test_spoiled_configs_load_or_are_refused(made, tmp_path_factory, kind):
    fuzz_config(made, tmp_path_factory, kind, 60)


@pytest.mark.parametrize("kind", LOADERS)
def test_damaged_weights_load_or_are_refused(made, tmp_path_factory, kind):
    fuzz_header(made, tmp_path_factory, kind, 60)


@pytest.mark.slow
@pytest.mark.parametrize("kind", LOADERS)
@pytest.mark.parametrize("fuzz", [fuzz_config, fuzz_header])
def test_thousands_of_spoiled_artifacts(made, tmp_path_factory, kind, fuzz):
    fuzz(made, tmp_path_factory, kind, 1000)


def copied(made, tmp_path, kind, **changes):
    """A copy of a folder whose config has other entries; a dotted name reaches into it."""
    folder = shutil.copytree(made / kind, tmp_path / kind)
    config = json.loads((folder / "config.json").read_text())
    for name, value in changes.items():
        *path, last = name.split("__")
        inside = config
        for step in path:
            inside = inside[step]
        inside[last] = value
    (folder / "config.json").write_text(json.dumps(config))
    return folder


HOSTILE = [
    ("model", {"num_classes": 10**9}),
    ("model", {"num_classes": True}),
    ("model", {"model_args__in_chans": 10**9}),
    ("model", {"model_args__stem_size": 10**9}),
    ("model", {"model_args__arch": "3" * 10**6}),
    ("model", {"model_args__block_args": [["ir_r999999999_k3_s1_e6_c1000000"]]}),
    ("model", {"model_args__checkpoint_path": "/etc/passwd"}),
    ("model", {"model_args__pretrained": True}),
    ("model", {"model_args__flops": 350e6}),
    ("model", {"model_args__generator": "me/gen"}),
    ("model", {"architecture": "os.system"}),
    ("model", {"architecture": "hf-hub:me/other"}),
    ("generator", {"width": 10**9}),
    ("generator", {"prior": "3" * 10**6}),
    ("generator", {"format_version": 99}),
    ("supernet", {"num_classes": 10**9}),
    ("supernet", {"resolution": 10**9}),
    ("supernet", {"space": "../../etc"}),
]


@pytest.mark.parametrize(("kind", "changes"), HOSTILE)
def test_a_hostile_config_is_refused_in_milliseconds(made, tmp_path, kind, changes):
    folder = copied(made, tmp_path, kind, **changes)
    outcome(kind, made / kind)  # whatever is imported once
    started = time.monotonic()
    assert outcome(kind, folder) is not True
    assert time.monotonic() - started < 2


def test_a_config_does_not_say_where_weights_are(made, tmp_path):
    folder = copied(made, tmp_path, "model", pretrained_cfg__file="/etc/passwd", pretrained_cfg__custom_load=True)
    torch.manual_seed(1)
    expected = load_file(made / "model" / "model.safetensors")
    loaded = load_model(f"local-dir:{folder}").state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize("kind", LOADERS)
def test_a_pickle_is_never_opened(made, tmp_path, kind):
    folder = copied(made, tmp_path, kind)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert "model.safetensors" in outcome(kind, folder)
    (folder / "pytorch_model.bin").rename(folder / "model.safetensors")
    assert outcome(kind, folder) is not True


@pytest.mark.parametrize("kind", LOADERS)
def test_weights_of_another_network_are_refused(made, tmp_path, kind):
    folder = copied(made, tmp_path, kind)
    state = load_file(folder / "model.safetensors")
    name = next(name for name, tensor in state.items() if tensor.ndim > 1)
    save_file(state | {name: torch.zeros(10, 10)}, folder / "model.safetensors")
    assert "fit its config" in outcome(kind, folder)
    save_file(state | {name: torch.full_like(state[name], float("nan"))}, folder / "model.safetensors")
    assert "not finite" in outcome(kind, folder)
    with pytest.raises(ArtifactError):
        check_folder(folder)


def test_every_kind_is_here():
    """Profiles have no weights beside their data; ``test_profile.py`` has as much for them."""
    assert {*LOADERS, "profile"} == set(KINDS)
