"""Artifacts are untrusted data: whatever they say, loading one is a load or a ZooError, and that at once."""

import copy
import importlib.util
import json
import shutil
import time
import warnings
from dataclasses import replace

import pytest
import timm
import torch
from accelerate.state import AcceleratorState, PartialState
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from places import RECIPES
from profiles import made_up
from safetensors.torch import load_file, save_file

from sgnas_zoo import create_model, save_model
from sgnas_zoo.cli.main import main
from sgnas_zoo.costs.profile_file import write_profile
from sgnas_zoo.errors import ArtifactError, DataError, ZooError
from sgnas_zoo.hub.cards import card_files
from sgnas_zoo.hub.generators import load_generator
from sgnas_zoo.hub.kinds import KINDS, check_folder
from sgnas_zoo.hub.loading import load_model
from sgnas_zoo.hub.supernets import load_supernet, save_supernet

LOADERS = {
    "model": load_model,
    "generator": load_generator,
    "supernet": load_supernet,
}
CONFIGS = {**dict.fromkeys(LOADERS, "config.json"), "profile": "profile.json"}
"""The file that describes each kind of artifact."""
SECONDS = 20
"""Of CPU time, far above what the slowest load takes; a loop or a huge allocation is above it."""


def outcome(kind, folder, read=None):
    """Load a folder, or read it otherwise: True, or the one line that says why not; anything else fails the test."""
    started = time.process_time()
    said = True
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            (read or KINDS[kind].load)(folder)
        except ZooError as error:
            said = str(error)
    assert time.process_time() - started < SECONDS
    for line in [said, *(str(warning.message) for warning in told)]:
        assert line is True or (len(line) < 2000 and not set(line) & {*CONTROLS, "\n"})
    return said


def shown(folder):
    """The card of an artifact, which has to be text for a page."""
    for content in (data.decode() for path, data in card_files(folder).items() if path.endswith(".md")):
        assert not set(content) & set(CONTROLS)


CONTROLS = "\x00\x07\x1b\x7f\x9b\u2028\u202e\u2066\ud800"
MARKER = "\x1b]0;pwned\x07\u202e\x9b2J"
LITERALS = {
    "@huge@": "1e400", "@less@": "-1e400", "@deep@": "[" * 60 + "]" * 60, "@deeper@": '{"a":' * 900 + "1" + "}" * 900,
    "@deepest@": "[" * 5000 + "]" * 5000, "@digits@": "9" * 4000, "@more digits@": "9" * 6000,
}  # fmt: skip
"""What no writer of JSON writes, by what stands for it."""


def dumped(config):
    """A config as JSON, with literals that Python would not write."""
    text = json.dumps(config)
    for word, literal in LITERALS.items():
        text = text.replace(json.dumps(word), literal)
    return text


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 2**70),
    st.sampled_from([10**9, 2**31, -1, 0, 1, 224, 1000]),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from([float("nan"), float("inf"), -float("inf"), 1e38, -1e38, 1e-38, 10**400, *LITERALS]),
    st.sampled_from([MARKER, *CONTROLS, "line\nline", "x" * 20_000]),
    st.sampled_from(
        ["../../etc/passwd", "/etc/passwd", "{{ 7*7 }}", "__import__('os')", "nan", "3" * 5000, "hf-hub:a/b"]
    ),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8) | st.just(MARKER), inner, max_size=3)
    ),
)
KEYS = st.sampled_from(
    ["file", "url", "state_dict", "custom_load", "hf_hub_id", "source", "num_classes", "in_chans", "arch", "space",
     "form", "block_args", "stem_size", "round_chs_fn", "act_layer", "global_pool", "output_stride", "checkpoint_path",
     "pretrained", "generator", "flops", "width", "cost", "range", "img_size", "features_only", "x", "holdout", "seed",
     "split", "limit", "sampler", "final", "hours", "pool", "mean", "std", "crop_pct", "interpolation", "label_names",
     "conditions", "weights", "macs", "requested", "latency_ms", "validation", MARKER]
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


def fuzz_config(artifacts, tmp_path_factory, kind, examples, read=None):
    folder = tmp_path_factory.mktemp("fuzz") / "artifact"
    shutil.copytree(artifacts / kind, folder)
    file = folder / CONFIGS[kind]
    valid = json.loads(file.read_text())
    seen = {True: 0, False: 0}

    @settings(max_examples=examples, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(spoiled(valid))
    def check(config):
        file.write_text(dumped(config))
        taken = outcome(kind, folder, read) is True
        seen[taken] += 1
        if taken and read is None and not seen[True] % 5:
            outcome(kind, folder, shown)

    check()
    assert read or min(seen.values()) > 0  # neither all refused nor all taken


def fuzz_header(artifacts, tmp_path_factory, kind, examples):
    folder = tmp_path_factory.mktemp("fuzz") / "artifact"
    shutil.copytree(artifacts / kind, folder)
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
                st.lists(number, max_size=5)
                | st.sampled_from(["F16", "BF16", "U8", "I64", "BOOL", "C64", "F8_E4M3", "F64", "F99", None, 1, MARKER])
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


@pytest.fixture(scope="module")
def artifacts(made, tmp_path_factory):
    """A folder of each kind. Nobody writes to them."""
    root = tmp_path_factory.mktemp("kinds")
    for kind in LOADERS:
        shutil.copytree(made / kind, root / kind)
    (root / "profile").mkdir()
    (root / "profile" / "profile.json").write_text(write_profile(made_up("sgnas_micro")))
    return root


@pytest.mark.parametrize("kind", CONFIGS)
def test_spoiled_configs_load_or_are_refused(artifacts, tmp_path_factory, kind):
    fuzz_config(artifacts, tmp_path_factory, kind, 30)


@pytest.mark.parametrize("kind", LOADERS)
def test_damaged_weights_load_or_are_refused(artifacts, tmp_path_factory, kind):
    fuzz_header(artifacts, tmp_path_factory, kind, 30)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fuzz", "kind", "examples"),
    [
        (fuzz_config, "model", 700), (fuzz_config, "generator", 3000), (fuzz_config, "supernet", 700),
        (fuzz_config, "profile", 3600), (fuzz_header, "model", 250), (fuzz_header, "generator", 1000),
        (fuzz_header, "supernet", 250),
    ],
)  # fmt: skip
def test_thousands_of_spoiled_artifacts(artifacts, tmp_path_factory, fuzz, kind, examples):
    """With those that the commands below read, ten thousand."""
    fuzz(artifacts, tmp_path_factory, kind, examples)


@pytest.fixture
def commands(monkeypatch, tmp_path):
    """``search`` and the recipe of a generator, as far as the images that were held out, of which there are none."""
    path = RECIPES / "train_generator.py"
    spec = importlib.util.spec_from_file_location("recipe_train_generator", path)
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)

    def load_images(source, split, *, holdout, part, seed, **_):
        assert type(seed) is int
        assert type(holdout) in (int, float)
        assert 0 < holdout < 1
        raise DataError("no images; name others.")

    monkeypatch.setattr("sgnas_zoo.training.searching.candidates.load_images", load_images)
    ways = {"search": (main, "search", "--strategy", "random"), "train_generator": (recipe.main,)}

    def run(name):
        command, *words = ways[name]

        def read(folder):
            words_ = [*words, "--supernet", folder, "--dataset", "x", "--output", tmp_path / "out"]
            AcceleratorState._reset_state(True)
            done = CliRunner().invoke(command, list(map(str, words_)))
            assert isinstance(done.exception, SystemExit), done.exception
            assert done.exit_code == 2
            (line,) = done.stderr.splitlines()
            raise ArtifactError(line)

        return read

    yield run
    AcceleratorState._reset_state(True)
    PartialState._reset_state()


@pytest.mark.parametrize("name", ["search", "train_generator"])
def test_commands_read_spoiled_supernets(artifacts, tmp_path_factory, commands, name):
    assert "no images" in outcome("supernet", artifacts / "supernet", commands(name))  # the whole one gets that far
    fuzz_config(artifacts, tmp_path_factory, "supernet", 15, commands(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["search", "train_generator"])
def test_commands_read_hundreds_of_spoiled_supernets(artifacts, tmp_path_factory, commands, name):
    fuzz_config(artifacts, tmp_path_factory, "supernet", 250, commands(name))


DATASETS = [
    {"source": None}, {"source": 1}, {"source": "x" * 5000}, {"seed": None}, {"seed": "x"}, {"seed": "@huge@"},
    {"seed": -1}, {"seed": 2**70}, {"seed": 1.5}, {"seed": True}, {"holdout": float("nan")}, {"holdout": "0.2"},
    {"holdout": 1}, {"holdout": 1.5}, {"holdout": -0.1}, {"holdout": True}, {"holdout": [0.1]}, {"split": 3},
    {"limit": "many"}, {"revision": {}}, {"streaming": "no"},
]  # fmt: skip


@pytest.mark.parametrize("changes", DATASETS)
def test_what_a_supernet_was_trained_on_is_checked(artifacts, tmp_path, commands, changes):
    folder = shutil.copytree(artifacts / "supernet", tmp_path / "supernet")
    config = json.loads((folder / "config.json").read_text())
    config["dataset"] |= changes
    (folder / "config.json").write_text(dumped(config))
    said = [outcome("supernet", folder), *(outcome("supernet", folder, commands(name)) for name in COMMANDS)]
    assert all(("not valid" in line) or ("not valid JSON" in line) for line in said)


@pytest.mark.parametrize("field", ["source", "seed"])
def test_what_a_supernet_was_trained_on_is_not_missing(artifacts, tmp_path, commands, field):
    folder = shutil.copytree(artifacts / "supernet", tmp_path / "supernet")
    config = json.loads((folder / "config.json").read_text())
    del config["dataset"][field]
    (folder / "config.json").write_text(json.dumps(config))
    assert all(f"`{field}`" in outcome("supernet", folder, read) for read in (None, *map(commands, COMMANDS)))


COMMANDS = ("search", "train_generator")
NUMBERS = {
    "complex64": lambda tensor: tensor.to(torch.complex64), "bool": lambda tensor: tensor.bool(),
    "float8": lambda tensor: tensor.to(torch.float8_e4m3fn), "int32": lambda tensor: tensor.int(),
    "1e38": lambda tensor: torch.full_like(tensor, 1e38), "-1e38": lambda tensor: torch.full_like(tensor, -1e38),
    "inf": lambda tensor: torch.full_like(tensor, float("inf")),
}  # fmt: skip


@pytest.mark.parametrize("kind", LOADERS)
@pytest.mark.parametrize("number", NUMBERS)
def test_weights_of_other_numbers_are_refused(made, tmp_path, kind, number):
    folder = copied(made, tmp_path, kind)
    state = load_file(folder / "model.safetensors")
    name = next(name for name, tensor in state.items() if tensor.is_floating_point())
    save_file(state | {name: NUMBERS[number](state[name].float())}, folder / "model.safetensors")
    assert ("fit its config" if number[0] in "cbf" or number == "int32" else "not finite") in outcome(kind, folder)


@pytest.mark.parametrize("kind", LOADERS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_any_precision_load(made, tmp_path, kind, dtype):
    folder = copied(made, tmp_path, kind)
    state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in load_file(folder / "model.safetensors").items()}
    save_file(state, folder / "model.safetensors")
    assert outcome(kind, folder) is True


LOOKS = [
    {"mean": [1e30] * 3}, {"mean": [-1e4] * 3}, {"mean": [True] * 3}, {"std": [0] * 3}, {"std": [-0.5] * 3},
    {"std": [1e-30] * 3}, {"std": [1e30] * 3}, {"crop_pct": 0}, {"crop_pct": 1e-6}, {"crop_pct": 2},
    {"interpolation": "cubist"},
]  # fmt: skip


@pytest.mark.parametrize(("kind", "part"), [("supernet", "preprocessing"), ("model", "pretrained_cfg")])
@pytest.mark.parametrize("changes", LOOKS)
def test_what_images_go_through_is_checked(made, tmp_path, kind, part, changes):
    folder = copied(made, tmp_path, kind, **{f"{part}__{name}": value for name, value in changes.items()})
    assert "not valid" in outcome(kind, folder)


def test_a_model_that_would_not_load_is_not_written(tmp_path):
    model = create_model("sgnas", space="sgnas_micro", arch="-".join(["3"] * 8))
    model.pretrained_cfg["mean"] = (1e30,) * 3
    state = torch.get_rng_state()
    with pytest.raises(ArtifactError, match=r"would not load again: .*mean.*; fix this and save it again\.$"):
        save_model(model, tmp_path / "net")
    assert not list(tmp_path.iterdir())
    assert torch.equal(torch.get_rng_state(), state)
    del model.pretrained_cfg["mean"]
    save_model(model, tmp_path / "net")


def test_a_supernet_that_would_not_load_is_not_handed_on(made, tmp_path):
    trained = load_supernet(made / "supernet")
    with pytest.raises(ArtifactError, match="mean"):
        save_supernet(replace(trained, preprocessing={**trained.preprocessing, "mean": (1e30,) * 3}), tmp_path)


DESCRIPTIVE = [
    {"label_names": ["a"] * 10}, {"pretrained_cfg__label_names": ["a"] * 2}, {"label_names": "abc"},
    {"label_names": [1]},
    {"label_descriptions": [1]}, {"pretrained_cfg__license": 7}, {"pretrained_cfg__description": MARKER * 9999},
    {"pretrained_cfg__paper_ids": {}}, {"pretrained_cfg__tag": []},
]  # fmt: skip


@pytest.mark.parametrize("changes", DESCRIPTIVE)
def test_what_only_describes_a_model_warns(made, tmp_path, changes):
    folder = copied(made, tmp_path, "model", **changes)
    (field,) = (name.rpartition("__")[2] for name in changes)
    with pytest.warns(UserWarning, match=f"{field}.* cannot be right; left out"):
        assert field not in load_model(folder).pretrained_cfg


def test_transformers_saves_for_other_classes_and_we_load_it(tmp_path):
    from transformers import AutoModelForImageClassification

    torch.manual_seed(0)
    model = create_model("sgnas", space="sgnas_micro", arch="-".join(["3"] * 8), num_classes=10)
    model.pretrained_cfg["label_names"] = [f"class {number}" for number in range(10)]
    save_model(model, tmp_path / "ten")
    kwargs = {"num_labels": 3, "ignore_mismatched_sizes": True}
    tuned = AutoModelForImageClassification.from_pretrained(tmp_path / "ten", **kwargs).eval()
    tuned.save_pretrained(tmp_path / "three")
    with pytest.warns(UserWarning, match=r"label_names \(10 for 3 classes\)"):
        loaded = load_model(tmp_path / "three").eval()
    by_timm = timm.create_model(f"local-dir:{tmp_path / 'three'}", pretrained=True).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded(images), tuned(images).logits)
        assert torch.equal(by_timm(images), tuned(images).logits)


@pytest.mark.parametrize("kind", LOADERS)
@pytest.mark.parametrize("other", ["pytorch_model.bin", "model.safetensors.index.json"])
def test_weights_as_others_keep_them(made, tmp_path, kind, other):
    folder = copied(made, tmp_path, kind)
    (folder / "model.safetensors").rename(folder / other)
    said = outcome(kind, folder)
    assert f"holds {other}, and only model.safetensors is read" in said
    assert "save_pretrained" in said
    with pytest.raises(ArtifactError) as caught:  # what is pushed or gets a card is refused in the same words
        check_folder(folder)
    assert str(caught.value) == said


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
    ("model", {"pretrained_cfg__fixed_input_size": True}),
    ("model", {"model_args__in_chans": 10**9}),
    ("model", {"model_args__stem_size": 10**9}),
    ("model", {"model_args__arch": "3" * 10**6}),
    ("model", {"model_args__block_args": [["ir_r999999999_k3_s1_e6_c1000000"]]}),
    ("model", {"model_args__checkpoint_path": "/etc/passwd"}),
    ("model", {"model_args__pretrained": True}),
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
    started = time.process_time()
    assert outcome(kind, folder) is not True
    assert time.process_time() - started < 2


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
    """Profiles have no weights beside their data; ``costs/test_profile.py`` has as much for them."""
    assert {*LOADERS, "profile"} == set(KINDS)
