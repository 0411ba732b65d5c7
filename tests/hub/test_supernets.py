"""Supernet artifacts, read as untrusted data; the images they travel with; and the one measure of accuracy."""

import copy
import io
import json
import random
import shutil
from dataclasses import replace

import datasets
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from safetensors.torch import load_file, save_file
from scrambled import scramble
from timm.data import create_transform
from torch.nn import functional as F

from sgnas_zoo.errors import ArchError, ArtifactError, DataError
from sgnas_zoo.hub.supernets import TrainedSupernet, load_supernet, save_supernet
from sgnas_zoo.spaces import SPACES
from sgnas_zoo.supernet import UnifiedSupernet, calibrate_bn, inherited_state
from sgnas_zoo.training.data.calibration_images import calibration_images
from sgnas_zoo.training.data.sources import LabelledImages
from sgnas_zoo.training.evaluation import evaluate

MICRO = SPACES["sgnas_micro"]
ARCH = "3507-57-333-7-5-337-53-7777"
PREPROCESSING = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3], "interpolation": "bilinear", "crop_pct": 0.875}
IMAGES = 150  # more than one calibration batch


def supernet():
    """Weights by their fan-in and norms that are not neutral; in training mode, as at the end of a training."""
    return scramble(UnifiedSupernet(MICRO, num_classes=3))


@pytest.fixture(scope="module")
def trained():
    pixels = torch.randint(256, (IMAGES, 3, 20, 20), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    return TrainedSupernet(
        supernet(),
        16,
        ("ant", "bee", "cat"),
        PREPROCESSING,
        {"source": "user/insects", "rows": 3},
        {"epochs": 2, "sampler": "fair"},
        pixels,
    )


@pytest.fixture(scope="module")
def saved(trained, tmp_path_factory):
    """Folders in both precisions."""
    folders = {}
    for half in (False, True):
        folders[half] = tmp_path_factory.mktemp(f"half_{half}")
        save_supernet(trained, folders[half], half=half)
    return folders


@pytest.fixture
def copied(saved, tmp_path):
    return shutil.copytree(saved[True], tmp_path / "artifact")


def inherited(trained):
    return trained.inherit(trained.supernet.space.parse(ARCH))


def inputs():
    return torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(2))


# --- Round trip


@torch.no_grad()
def test_single_precision_loses_nothing(trained, saved):
    loaded = load_supernet(saved[False])
    wanted = trained.supernet.state_dict()
    assert loaded.supernet.state_dict().keys() == wanted.keys()
    assert all(tensor.equal(wanted[name]) for name, tensor in loaded.supernet.state_dict().items())
    for name in ("resolution", "classes", "preprocessing", "dataset", "training"):
        assert getattr(loaded, name) == getattr(trained, name), name
    assert loaded.calibration.equal(trained.calibration)
    assert loaded.supernet.space is MICRO
    assert inherited(loaded)(inputs()).equal(inherited(trained)(inputs()))


@torch.no_grad()
def test_half_precision_is_close_and_smaller(trained, saved):
    loaded = load_supernet(saved[True])
    found, wanted = inherited(loaded)(inputs()), inherited(trained)(inputs())
    spread = wanted.abs().max()
    assert spread > 0.5
    assert 0 < (found - wanted).abs().max() < 1e-2 * spread
    assert (wanted - wanted.roll(1, 0)).abs().max() > 0.1 * spread  # the images are told apart
    assert loaded.calibration.equal(trained.calibration)
    sizes = [(folder / "model.safetensors").stat().st_size for folder in saved.values()]
    assert sizes[1] < 0.6 * sizes[0]
    stored = load_file(saved[True] / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16, torch.int64}
    assert all(tensor.dtype != torch.half for tensor in loaded.supernet.state_dict().values())


def test_what_is_loaded_is_frozen_and_says_where_it_came_from(trained, saved):
    loaded = load_supernet(str(saved[True]))
    assert not loaded.supernet.training
    assert not any(parameter.requires_grad for parameter in loaded.supernet.parameters())
    assert loaded.source.id == str(saved[True])
    assert loaded.source.revision is None
    assert trained.supernet.training  # saving changes nothing
    assert all(parameter.requires_grad for parameter in trained.supernet.parameters())
    assert all(parameter.requires_grad for parameter in inherited(loaded).parameters())


def test_loading_draws_no_random_numbers(saved):
    before = torch.get_rng_state()
    load_supernet(saved[True])
    assert torch.get_rng_state().equal(before)


def test_inherited_norms_are_those_of_the_calibration_images(trained):
    """The first norm by hand: mean of batches of at most 128 and equal weight, preprocessed as for evaluation."""
    model = inherited(trained)
    assert not model.training
    transform = create_transform(16, **PREPROCESSING)
    images = torch.stack([transform(Image.fromarray(image.permute(1, 2, 0).numpy())) for image in trained.calibration])
    wide = F.conv2d(images, trained.supernet.first.conv.weight, stride=2, padding=1).detach()
    assert 128 < IMAGES <= 256
    parts = wide.tensor_split(2)
    mean = sum(part.mean((0, 2, 3)) for part in parts) / 2
    assert torch.allclose(model.bn1.running_mean, mean, atol=1e-5)
    assert torch.allclose(model.bn1.running_var, sum(part.var((0, 2, 3)) for part in parts) / 2, rtol=1e-4)
    assert not torch.allclose(model.bn1.running_mean, trained.supernet.first.bn.running_mean, atol=1e-2)


def test_weights_are_inherited_and_the_supernet_stays(trained):
    before = {name: tensor.clone() for name, tensor in trained.supernet.state_dict().items()}
    model = inherited(trained)
    state = model.state_dict()
    slices = inherited_state(trained.supernet, MICRO.parse(ARCH))
    assert all(state[name].equal(t) for name, t in slices.items() if "running" not in name and "tracked" not in name)
    assert all(tensor.equal(before[name]) for name, tensor in trained.supernet.state_dict().items())
    with pytest.raises(ArchError, match="of sgnas_cifar, the supernet of sgnas_micro"):
        trained.inherit(SPACES["sgnas_cifar"].sample(random.Random(0)))


# --- Damage


def refused(folder):
    """The one line that the folder is refused with."""
    with pytest.raises(ArtifactError) as caught:
        load_supernet(folder)
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 500
    return line


def edit(folder, **changes):
    """Change fields of the config; None removes one."""
    path = folder / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: value for name, value in config.items() if value is not None}))
    return folder


def rewrite(folder, change, file="model.safetensors"):
    state = load_file(folder / file)
    change(state)
    save_file(state, folder / file)


WRONG = [
    ({"artifact": "generator"}, "does not hold a supernet"),
    ({"artifact": None}, "does not hold a supernet"),
    ({"format_version": 2}, "has format version 2, this sgnas_zoo reads 1; upgrade"),
    ({"format_version": None}, "has format version None"),
    ({"space": "sgnas_mikro"}, "Unknown space 'sgnas_mikro': did you mean sgnas_micro"),
    ({"space": "greedynas", "resolution": 32}, "not fit its config"),
    ({"space": ["sgnas_micro"]}, "(space: Expected `str`"),
    ({"space": None}, "is not valid (Object missing required field `space`)"),
    ({"num_classes": 0}, "(num_classes: Expected `int` >= 1)"),
    ({"num_classes": 4}, "3 class names for 4 classes"),
    ({"num_classes": 100_001}, "(num_classes: Expected `int` <= 100000)"),
    ({"num_classes": True, "classes": ["ant"]}, "(num_classes: Expected `int`, got `bool`)"),
    ({"num_classes": 3.0}, "(num_classes: Expected `int`, got `float`)"),
    ({"num_classes": None}, "`num_classes`"),
    ({"in_chans": 0}, "(in_chans: "),
    ({"in_chans": -3}, "(in_chans: "),
    ({"in_chans": "3"}, "(in_chans: "),
    ({"in_chans": 10**9}, "(in_chans: "),
    ({"in_chans": 1}, "(in_chans: Invalid enum value 1)"),
    ({"resolution": 0}, "(resolution: Expected `int` >= 1)"),
    ({"resolution": 4097}, "(resolution: Expected `int` <= 4096)"),
    ({"resolution": [16]}, "(resolution: Expected `int`, got `array`)"),
    ({"classes": ["ant", "bee"]}, "2 class names for 3 classes"),
    ({"classes": ["ant", "bee", 3]}, "(classes[2]: Expected `str`, got `int`)"),
    ({"classes": "ant"}, "(classes: Expected `array`, got `str`)"),
    ({"classes": {"0": "ant", "1": "bee", "2": "cat"}}, "(classes: Expected `array`, got `object`)"),
    ({"num_classes": 4, "classes": ["ant", "bee", "cat", "dog"]}, "not fit its config"),
    ({"space": "sgnas_cifar"}, "not fit its config"),
    ({"preprocessing": None}, "`preprocessing`"),
    ({"preprocessing": 7}, "(preprocessing: "),
    ({"preprocessing": {**PREPROCESSING, "mean": [0.5, 0.5]}}, "(preprocessing.mean: "),
    ({"preprocessing": {**PREPROCESSING, "mean": 0.5}}, "(preprocessing.mean: "),
    ({"preprocessing": {**PREPROCESSING, "std": [0.5, 0.5, 0]}}, "(preprocessing.std[2]: Expected `float` >= 0.001)"),
    ({"preprocessing": {**PREPROCESSING, "std": [0.5, 0.5, -1]}}, "(preprocessing.std[2]: "),
    ({"preprocessing": {**PREPROCESSING, "std": ["a", 1, 1]}}, "(preprocessing.std[0]: "),
    ({"preprocessing": {**PREPROCESSING, "crop_pct": 0}}, "(preprocessing.crop_pct: "),
    ({"preprocessing": {**PREPROCESSING, "crop_pct": 1.5}}, "(preprocessing.crop_pct: "),
    ({"preprocessing": {**PREPROCESSING, "crop_pct": float("nan")}}, "not valid JSON"),
    ({"preprocessing": {**PREPROCESSING, "interpolation": "random"}}, "(preprocessing.interpolation: "),
    ({"preprocessing": {**PREPROCESSING, "interpolation": 3}}, "(preprocessing.interpolation: "),
    (
        {"preprocessing": {k: v for k, v in PREPROCESSING.items() if k != "mean"}},
        "(preprocessing: Object missing",
    ),
    ({"dataset": None}, "`dataset`"),
    ({"dataset": 3}, "(dataset: "),
    ({"training": "long"}, "(training: "),
    ({"pool": -1}, "is not valid (pool: "),
    ({"pool": 10**9}, "is not valid (pool: "),
    ({"pool": True}, "is not valid (pool: "),
    ({"pool": "20"}, "is not valid (pool: "),
    ({"pool": 3}, "pool.json does not exist"),
]


@pytest.mark.parametrize(("changes", "reason"), WRONG)
def test_a_wrong_config_is_refused(copied, changes, reason):
    assert reason in refused(edit(copied, **changes))


def test_every_field_of_the_config_is_checked(saved):
    config = json.loads((saved[True] / "config.json").read_text())
    assert set(config) == {field for changes, _ in WRONG for field in changes}


FIELDS = ["artifact", "format_version", "space", "num_classes", "in_chans", "resolution", "classes", "preprocessing",
          "dataset", "training", "pool"]  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.floats() | st.text(max_size=5),
    lambda values: st.lists(values, max_size=4) | st.dictionaries(st.text(max_size=5), values, max_size=4),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(FIELDS), VALUES)
@example("classes", ["a\nb", "c", 5])
@example("space", "a\nb")
def test_any_value_in_a_config_is_read_or_refused_in_one_line(copied, saved, field, value):
    """Whatever JSON a field holds: ``dataset``, ``training`` and classes' names are free; weights decide the rest."""
    config = json.loads((saved[True] / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps(config | {field: value}))
    line = None
    try:
        load_supernet(copied)
    except ArtifactError as error:
        line = str(error)
    if line is not None:
        assert "\n" not in line
    else:
        renamed = field == "classes" and len(value) == len(config[field]) and all(isinstance(n, str) for n in value)
        assert field in ("dataset", "training", "resolution") or renamed or value == config[field]


NOT_YET = [
    {**PREPROCESSING, "mean": [float("nan")] * 3},
    {**PREPROCESSING, "mean": [float("inf"), 0.5, 0.5]},
    {**PREPROCESSING, "mean": [10**400, 0.5, 0.5]},
    {**PREPROCESSING, "std": [float("nan"), 0.5, 0.5]},
    {**PREPROCESSING, "std": [float("inf"), 0.5, 0.5]},
    {**PREPROCESSING, "crop_pct": 10**400},
    {**PREPROCESSING, "crop_pct": 1e-6},  # would scale each image to 16 million pixels a side
]


@pytest.mark.parametrize("preprocessing", NOT_YET)
def test_numbers_without_bounds_are_refused(copied, preprocessing):
    said = refused(edit(copied, preprocessing=preprocessing))
    assert "is not valid" in said or "is not valid JSON" in said


@pytest.mark.parametrize("content", ["", "{", "[1, 2]", "null", '{"artifact": "supernet"'])
def test_a_config_that_is_no_object_is_refused(copied, content):
    (copied / "config.json").write_text(content)
    refused(copied)


@pytest.fixture
def pooled(trained, tmp_path):
    """An artifact with a candidate pool."""
    pool = tuple(MICRO.sample(random.Random(i)) for i in range(20))
    (tmp_path / "pooled").mkdir()
    save_supernet(replace(trained, pool=pool), tmp_path / "pooled")
    return tmp_path / "pooled", pool


def test_a_candidate_pool_is_kept_in_its_order(trained, saved, pooled):
    folder, pool = pooled
    assert load_supernet(folder).pool == pool
    assert load_supernet(saved[True]).pool == ()
    assert not (saved[True] / "pool.json").exists()


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"candidates": 1}', '{"candidates": [1]}', '{"candidates": ["012"]}', '{"candidates": [null]}'],
)
def test_a_damaged_pool_is_refused(pooled, content):
    folder, _ = pooled
    (folder / "pool.json").write_text(content)
    assert "does not contain a candidate pool of sgnas_micro" in refused(folder)
    (folder / "pool.json").unlink()
    assert "pool.json does not exist" in refused(folder)


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "calibration.safetensors"])
def test_a_missing_file_is_named(copied, file):
    (copied / file).unlink()
    assert file in refused(copied)


@pytest.mark.parametrize("file", ["model.safetensors", "calibration.safetensors"])
@pytest.mark.parametrize("length", [0, 7, 200, -1])
def test_a_truncated_file_is_named(copied, file, length):
    path = copied / file
    path.write_bytes(path.read_bytes()[:length])
    assert f"{path} is missing or damaged" in refused(copied)


def test_a_damaged_header_is_refused(copied):
    path = copied / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[8:40] = bytes(32)
    path.write_bytes(content)
    assert "is missing or damaged" in refused(copied)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["classifier.bias", "stages.3.depthwise.blocks.2.blocks.1.bn.running_var"])
def test_weights_that_are_not_finite_are_refused(copied, name, value):
    rewrite(copied, lambda state: state[name].view(-1)[1:2].fill_(value))
    assert "are not finite" in refused(copied)


UNFIT = [
    lambda state: state.pop("stages.0.sbn.5.weight"),
    lambda state: state.update(extra=torch.zeros(1)),
    lambda state: state.update({"classifier.bias": torch.zeros(4)}),
    lambda state: state.update({"stages.0.point_wise.conv.weight": torch.zeros(16, 96, 1, 1)}),
]


@pytest.mark.parametrize("change", UNFIT)
def test_weights_of_another_network_are_refused(copied, change):
    rewrite(copied, change)
    assert "not fit its config" in refused(copied)


NO_IMAGES = {
    "none": torch.zeros(0, 3, 8, 8, dtype=torch.uint8),
    "flat": torch.zeros(2, 3, 8, dtype=torch.uint8),
    "floating": torch.zeros(2, 3, 8, 8),
    "many": torch.zeros(10_001, 3, 1, 1, dtype=torch.uint8),
}


@pytest.mark.parametrize("images", NO_IMAGES.values(), ids=NO_IMAGES)
def test_calibration_images_that_are_none_are_refused(copied, images):
    save_file({"images": images}, copied / "calibration.safetensors")
    assert "does not contain calibration images" in refused(copied)


UNLIKE = {"grey": (2, 1, 8, 8), "four": (2, 4, 8, 8), "empty": (2, 3, 0, 0), "flat": (2, 3, 8, 0)}


@pytest.mark.parametrize("shape", UNLIKE.values(), ids=UNLIKE)
def test_calibration_images_of_another_form_are_refused(copied, shape):
    save_file({"images": torch.zeros(shape, dtype=torch.uint8)}, copied / "calibration.safetensors")
    assert "does not contain calibration images" in refused(copied)


def test_weights_too_large_for_half_precision_keep_theirs(trained, tmp_path):
    net = supernet()
    net.first.bn.running_var[0] = 1e5
    save_supernet(replace(trained, supernet=net), tmp_path)
    kept = load_supernet(tmp_path).supernet.state_dict()
    assert kept["first.bn.running_var"].equal(net.first.bn.running_var)
    assert not kept["first.conv.weight"].equal(net.first.conv.weight)  # those were halved


def test_calibration_images_of_another_name_are_refused(copied):
    save_file({"pixels": torch.zeros(2, 3, 8, 8, dtype=torch.uint8)}, copied / "calibration.safetensors")
    assert "does not contain calibration images" in refused(copied)


# --- Calibration images


def png(shade, size):
    pixels = np.random.default_rng(shade).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def pixels_of(content, side=None):
    image = Image.open(io.BytesIO(content))
    image = image if side is None else ImageOps.fit(image, (side, side), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def labelled(contents, streaming=False):
    rows = [{"image": {"bytes": content, "path": None}, "label": 0} for content in contents]
    table = datasets.Dataset.from_list(rows)
    return LabelledImages(
        table.to_iterable_dataset() if streaming else table,
        ("ant",),
        {"source": "here", "split": "train", "streaming": streaming},
    )


def is_among(image, others):
    return any(image.shape == other.shape and image.equal(other) for other in others)


def test_images_of_one_size_are_kept_as_they_are():
    contents = [png(i, (12, 12)) for i in range(10)]
    images = calibration_images(labelled(contents), 6, 16)
    assert images.shape == (6, 3, 12, 12)
    assert images.dtype == torch.uint8
    assert images.is_contiguous()
    originals = [pixels_of(content) for content in contents]
    assert all(is_among(image, originals) for image in images)
    assert len({image.numpy().tobytes() for image in images}) == 6  # none twice
    assert calibration_images(labelled(contents), 99, 16).shape == (10, 3, 12, 12)


@pytest.mark.parametrize(
    "sizes",
    [[(12, 12), (9, 9)], [(12, 12), (20, 10)], [(20, 10)], [(17, 17)]],
    ids=["sizes", "shapes", "oblong", "big"],
)
def test_other_images_are_scaled_to_the_side(sizes):
    contents = [png(i, sizes[i % len(sizes)]) for i in range(8)]
    images = calibration_images(labelled(contents), 8, 16)
    assert images.shape == (8, 3, 16, 16)
    scaled = [pixels_of(content, 16) for content in contents]
    assert all(is_among(image, scaled) for image in images)


def test_the_seed_draws_the_images():
    contents = [png(i, (8, 8)) for i in range(30)]
    images = [calibration_images(labelled(contents), 8, 16, seed) for seed in (0, 0, 1)]
    assert images[0].equal(images[1])
    assert not images[0].equal(images[2])
    originals = [pixels_of(content) for content in contents]
    assert not all(is_among(image, originals[:8]) for image in images[0])  # not just the first


@pytest.mark.parametrize("streaming", [False, True])
def test_images_that_cannot_be_read_are_left_out(streaming):
    contents = [png(i, (8, 8)) if i % 3 else b"no image" for i in range(12)]
    images = calibration_images(labelled(contents, streaming), 12, 16)
    assert images.shape == (8, 3, 8, 8)
    with pytest.raises(DataError, match="No image can be read to calibrate with"):
        calibration_images(labelled(contents[::3], streaming), 12, 16)


def test_a_stream_gives_its_first():
    contents = [png(i, (8, 8)) for i in range(12)]
    images = calibration_images(labelled(contents, streaming=True), 5, 16)
    assert all(image.equal(pixels_of(content)) for image, content in zip(images, contents[:5], strict=True))
    assert len(images) == 5


def test_they_calibrate_a_model(trained):
    images = calibration_images(labelled([png(i, (20, 20)) for i in range(4)]), 4, 20)
    own = replace(trained, calibration=images)
    first = inherited(own).bn1.running_mean
    batches = list(own.calibration_batches())
    assert [batch.shape for batch in batches] == [(4, 3, 16, 16)]
    assert first.equal(calibrate_bn(inherited(trained), batches).bn1.running_mean)
    assert not first.equal(inherited(trained).bn1.running_mean)


def test_they_are_copied_to_a_device_once(trained):
    away = replace(trained, supernet=copy.deepcopy(trained.supernet).to("meta"))
    first, again = (list(away.calibration_batches()) for _ in range(2))
    assert [batch.device.type for batch in first] == ["meta"] * len(first)
    assert all(one is other for one, other in zip(first, again, strict=True))
    assert [batch.device.type for batch in trained.calibration_batches()] == ["cpu"] * len(first)


# --- Accuracy

LOGITS = torch.tensor(
    [
        [9.0, 1, 2, 3, 4, 5, 6],  # label 0: first
        [9.0, 8, 7, 6, 5, 4, 3],  # label 4: fifth
        [9.0, 8, 7, 6, 5, 4, 3],  # label 5: sixth
        [0.0, 0, 0, 0, 0, 0, 1],  # label 6: first
        [1.0, 2, 3, 4, 5, 6, 7],  # label 5: second
    ]
)
LABELS = torch.tensor([0, 4, 5, 6, 5])


class OneProcess:
    """What ``evaluate`` asks of an accelerator, counted."""

    asked = 0

    @property
    def num_processes(self):
        self.asked += 1
        return 1


def test_accuracy_and_loss_by_hand():
    accelerator = OneProcess()
    loader = [(LOGITS[:2], LABELS[:2], 0), (LOGITS[2:4], LABELS[2:4], 2), (LOGITS[4:], LABELS[4:], 1)]
    scores = evaluate(lambda images: images, loader, accelerator)
    losses = [-row.double().softmax(0)[label].log().item() for row, label in zip(LOGITS, LABELS, strict=True)]
    assert scores == {
        "top1": pytest.approx(40),
        "top5": pytest.approx(80),
        "loss": pytest.approx(sum(losses) / 5, rel=1e-6),  # a mean over images, not over batches
        "images": 5,
        "skipped": 3,
    }
    assert all(type(value) in (int, float) for value in scores.values())
    assert accelerator.asked == 1  # the processes meet once


def test_few_classes_are_all_among_the_best_five():
    scores = evaluate(lambda images: images, [(LOGITS[:2, :3], torch.tensor([1, 2]), 0)], OneProcess())
    assert (scores["top1"], scores["top5"]) == (0, 100)


def test_a_model_is_evaluated_without_gradients_and_in_half_precision_too():
    seen = []

    def predict(images):
        seen.append(torch.is_grad_enabled())
        return images.half()

    scores = evaluate(predict, [(LOGITS, LABELS, 0)], OneProcess())
    assert seen == [False]
    assert scores["top1"] == pytest.approx(40)
