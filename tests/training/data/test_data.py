"""Data: every source opens or says why not, and pixels depend on nothing but (seed, epoch, index)."""

from __future__ import annotations

import io
import json
import random
import warnings
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import datasets
import huggingface_hub
import numpy as np
import pytest
import torch
from accelerate import Accelerator, skip_first_batches
from accelerate.data_loader import prepare_data_loader
from accelerate.utils import DataLoaderConfiguration
from datasets.exceptions import DatasetNotFoundError
from huggingface_hub.errors import GatedRepoError
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from places import SHARED

from sgnas_zoo.errors import DataError
from sgnas_zoo.training.data import opening, sources
from sgnas_zoo.training.data.decoding import decode
from sgnas_zoo.training.data.loaders import (
    TransformedImages,
    TransformedStream,
    check_classes,
    check_processes,
    collate,
    make_loader,
)
from sgnas_zoo.training.data.sources import LabelledImages, load_images
from sgnas_zoo.training.data.transforms import Look, eval_transform

CIFAR10 = SHARED / "data" / "cifar10"
HALF = (0.5, 0.5, 0.5)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    # datasets 5 waits five seconds at the end of each shuffled stream
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0, raising=False)


def png(shade: int, size: tuple[int, int] = (12, 12), mode: str = "RGB", form: str = "PNG") -> bytes:
    pixels = np.random.default_rng(shade).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, form)
    return file.getvalue()


def write_parquet(
    folder: Path, labels, split: str = "train", label=None, column: str = "label", images=None, files: int = 1, **more
):
    """Rows of noise with these labels; ``images`` replaces the content of some."""
    folder.mkdir(parents=True, exist_ok=True)
    label = label or datasets.ClassLabel(names=[f"class {i}" for i in range(5)])
    content = [(images or {}).get(i, png(i)) for i in range(len(labels))]
    columns = {
        "img": [{"bytes": c, "path": None} for c in content],
        column: labels,
        **{k: v for k, (v, _) in more.items()},
    }
    features = {"img": datasets.Image(), column: label, **{k: f for k, (_, f) in more.items()}}
    table = datasets.Dataset.from_dict(columns, datasets.Features(features))
    for i in range(files):
        part = table.shard(files, i, contiguous=True) if files > 1 else table
        part.to_parquet(folder / f"{split}-{i:05}-of-{files:05}.parquet")
    return str(folder)


def noisy(image: Image.Image) -> torch.Tensor:
    """A transform that draws from all three generators, torch's Gaussians included."""
    drawn = torch.tensor([random.random(), float(np.random.rand()), float(torch.rand(()))])
    return torch.cat([drawn, torch.tensor(np.asarray(image)[0, 0] / 255, dtype=torch.float)])


def same(a, b) -> bool:
    a, b = list(a), list(b)
    return len(a) == len(b) and all(
        torch.equal(x[0], y[0]) and torch.equal(x[1], y[1]) for x, y in zip(a, b, strict=True)
    )


def order(batches) -> list[list[float]]:
    """Which images these are, by the pixel that ``noisy`` keeps."""
    return [row for images, _, _ in batches for row in images[:, 3:].tolist()]


def contents(images: LabelledImages) -> set[bytes]:
    return {row["image"]["bytes"] for row in images.rows}


# Sources


def test_parquet(tmp_path):
    source = write_parquet(tmp_path / "d", [0, 1, 2, 3, 4] * 2)
    images = load_images(source)
    assert images.classes == ("class 0", "class 1", "class 2", "class 3", "class 4")
    assert images.rows[3] == {"image": {"bytes": png(3), "path": None}, "label": 3}
    assert images.rows.column_names == ["image", "label"]
    assert json.loads(json.dumps(images.record)) == {
        "source": Path(source).name,
        "revision": None,
        "split": "train",
        "rows": 10,
        "columns": {"image": "img", "label": "label"},
        "holdout": 0.0,
        "part": "kept",
        "seed": 0,
        "streaming": False,
        "limit": None,
    }


@pytest.mark.parametrize("split_folders", [True, False])
def test_image_folder(tmp_path, split_folders):
    root = tmp_path / "d"
    folders = ("train", "val") if split_folders else (".",)
    for folder in folders:
        for name in ("ant", "bee"):
            (root / folder / name).mkdir(parents=True)
            (root / folder / name / "1.png").write_bytes(png(1))
            (root / folder / name / "2.jpg").write_bytes(png(2, form="JPEG"))
    images = load_images(str(root))
    assert images.classes == ("ant", "bee")
    assert images.rows["label"][:] == [0, 0, 1, 1]
    items = TransformedImages(images, eval_transform(8, mean=HALF, std=HALF), on_corrupt="fail")
    assert {items[i][0].shape for i in range(4)} == {(3, 8, 8)}
    if split_folders:
        assert load_images(str(root), "test").record["split"] == "validation"


def test_cifar10_of_the_shared_folder():
    if not CIFAR10.is_dir():
        pytest.skip(f"no {CIFAR10}")
    images = load_images(str(CIFAR10), "val", limit=50, streaming=True)
    assert images.record["split"] == "test"
    assert (len(images.classes), len(list(images.rows))) == (10, 50)


@pytest.mark.parametrize(("asked", "there"), [("test", "validation"), ("validation", "test"), ("valid", "test")])
def test_splits_stand_in(tmp_path, asked, there):
    source = write_parquet(tmp_path / "d", [0, 1], there)
    assert load_images(source, asked).record["split"] == there
    with pytest.raises(DataError, match=f"has no split 'train'; choose from {there}"):
        load_images(source, "train")


@pytest.mark.parametrize(
    ("values", "kind", "classes"),
    [
        (["cat", "ant", "cat"], "string", ("ant", "cat")),
        ([10, 2, 10], "int64", ("2", "10")),
    ],
)
def test_labels_without_names_are_numbered_over_all_splits(tmp_path, values, kind, classes):
    write_parquet(tmp_path / "d", values, label=datasets.Value(kind), column="class")
    source = write_parquet(tmp_path / "d", values[:1], "test", label=datasets.Value(kind), column="class")
    assert load_images(source).classes == load_images(source, "test").classes == classes
    assert load_images(source).rows["label"][:] == [1, 0, 1]
    assert load_images(source, "test").rows["label"][:] == [1]  # alone, the test split would call it 0
    with pytest.raises(DataError, match=r"no names, and a stream cannot count them; load it whole\.$"):
        load_images(source, streaming=True)


def test_the_finer_of_two_labels(tmp_path):
    names = datasets.ClassLabel(names=["x", "y"])
    fine = {"fine_label": ([0, 1], names)}
    assert load_images(write_parquet(tmp_path / "a", [1, 1], column="coarse_label", **fine)).rows["label"][:] == [0, 1]
    other = {"kind": ([0, 1], names)}
    with pytest.raises(DataError, match=r"2 label columns \(label, kind\)"):
        load_images(write_parquet(tmp_path / "b", [1, 1], **other))


# Sources that will not do


def hub_response(status: int):
    return SimpleNamespace(status_code=status, headers={}, request=None, text="", json=dict)


def raising(error: Exception):
    def load_dataset(*_, **__):
        raise error

    return load_dataset


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("/no/such/folder", "The folder /no/such/folder does not exist; name a folder"),
        ("./images", "The folder ./images does not exist"),
        ("data/images/train", "The folder data/images/train does not exist"),
        ("", "The folder  does not exist"),
    ],
)
def test_no_folder(source, message):
    with pytest.raises(DataError, match=message):
        load_images(source)


def test_a_file_and_an_empty_folder(tmp_path):
    (tmp_path / "x.parquet").touch()
    with pytest.raises(DataError, match="is a file; name the folder"):
        load_images(str(tmp_path / "x.parquet"))
    (tmp_path / "void").mkdir()
    with pytest.raises(DataError, match=r"^Cannot read .*void.*; name a folder of images") as caught:
        load_images(str(tmp_path / "void"))
    assert "\n" not in str(caught.value)
    (tmp_path / "void" / "train.parquet").write_bytes(b"PAR1 this is none")
    with pytest.raises(DataError, match=r"^Cannot read .*void.*; name a folder of images") as caught:
        load_images(str(tmp_path / "void"))
    assert "\n" not in str(caught.value)


def test_a_hub_that_does_not_answer_is_asked_once(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(datasets, "load_dataset", raising(AssertionError("tried all the same")))
    with pytest.raises(DataError, match=r"^Cannot reach the Hub for nobody/nothing, "):
        load_images("nobody/nothing")


def test_offline(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match=r"^Cannot reach the Hub for nobody/nothing, .* name a local folder\.$"):
        load_images("nobody/nothing")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (DatasetNotFoundError("Dataset 'a/b' is a gated dataset on the Hub."), "is gated; accept its terms at https"),
        (GatedRepoError("401", response=hub_response(401)), "run `hf auth login`"),
        (
            DatasetNotFoundError("Dataset 'a/b' doesn't exist on the Hub"),
            "nor a public dataset on the Hub; check the name",
        ),
        (ConnectionError("Couldn't reach 'a/b' on the Hub"), "Cannot reach the Hub for a/b"),
        (ValueError("Config name is missing.\nPlease pick"), "Cannot read a/b: Config name is missing; name a"),
        (RuntimeError(""), "Cannot read a/b: RuntimeError; name a"),
    ],
)
@pytest.mark.parametrize("streaming", [False, True])
def test_what_the_hub_answers(monkeypatch, error, message, streaming):
    monkeypatch.setattr(opening, "_knock", lambda source: None)
    monkeypatch.setattr(datasets, "load_dataset", raising(error))
    with pytest.raises(DataError, match=message) as caught:
        load_images("a/b", streaming=streaming)
    assert "\n" not in str(caught.value)


def test_no_images_no_labels(tmp_path):
    (tmp_path / "a").mkdir()
    datasets.Dataset.from_dict({"text": ["x"], "label": [0]}).to_parquet(tmp_path / "a" / "train.parquet")
    with pytest.raises(DataError, match="has no image column among text, label; choose"):
        load_images(str(tmp_path / "a"))
    source = write_parquet(tmp_path / "b", [0.5], label=datasets.Value("float32"))
    with pytest.raises(DataError, match=r"are numbers such as 0.5, not classes; choose another column"):
        load_images(source)
    source = write_parquet(tmp_path / "c", [1], second=([{"bytes": png(0), "path": None}], datasets.Image()))
    with pytest.raises(DataError, match=r"2 image columns \(img, second\)"):
        load_images(source)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("hidden", [-1, None])
def test_hidden_labels(tmp_path, streaming, hidden):
    write_parquet(tmp_path / "d", [0, 1])
    source = write_parquet(tmp_path / "d", [hidden, hidden], "test")
    with pytest.raises(DataError, match=r"The split test of .* has rows without labels; choose the split train\.$"):
        load_images(source, "test", streaming=streaming)
    assert load_images(source, streaming=streaming).classes


@pytest.mark.parametrize("streaming", [False, True])
def test_empty(tmp_path, streaming):
    write_parquet(tmp_path / "d", [0, 1], "test")
    source = write_parquet(tmp_path / "d", [])
    with pytest.raises(DataError, match="empty"):
        load_images(source, streaming=streaming)


@pytest.mark.parametrize("settings", [{"holdout": 1.0}, {"holdout": -0.1}, {"part": "held"}, {"limit": 0}])
def test_settings_that_mean_nothing(tmp_path, settings):
    with pytest.raises(DataError, match=r"Cannot take the|leaves no images"):
        load_images("a/b", **settings)


# Holdout and limit


def test_holdout(tmp_path):
    source = write_parquet(tmp_path / "d", [0] * 40 + [1] * 20 + [2])
    kept, held = (load_images(source, holdout=0.1, part=part, seed=3) for part in ("kept", "held"))
    assert Counter(held.rows["label"][:]) == {0: 4, 1: 2}
    assert Counter(kept.rows["label"][:]) == {0: 36, 1: 18, 2: 1}
    assert not contents(kept) & contents(held)
    assert len(contents(kept) | contents(held)) == 61
    assert (held.record["holdout"], held.record["part"], held.record["seed"], held.record["rows"]) == (
        0.1,
        "held",
        3,
        6,
    )
    assert contents(load_images(source, holdout=0.1, part="held", seed=3)) == contents(held)
    assert contents(load_images(source, holdout=0.1, part="held", seed=4)) != contents(held)
    with pytest.raises(DataError, match="leaves one side empty"):
        load_images(source, holdout=0.001)


def test_what_published_supernets_held_out_is_held_out_still(tmp_path):
    assert sources._cut([0] * 40 + [1] * 20 + [2], 0.1, True, 3).tolist() == [0, 3, 22, 38, 42, 50]
    held = load_images(write_parquet(tmp_path / "d", [0, 1] * 20, files=3), holdout=0.2, part="held", seed=3)
    rows = [next(i for i in range(40) if png(i) == row["image"]["bytes"]) for row in held.rows]
    assert rows == [2, 11, 17, 20, 23, 30, 32, 33]


@given(
    labels=st.lists(st.integers(0, 6), min_size=4, max_size=200), holdout=st.floats(0.02, 0.98), seed=st.integers(0, 9)
)
def test_any_holdout_is_stratified(labels, holdout, seed):
    wanted = round(holdout * len(labels))
    if not 0 < wanted < len(labels):
        with pytest.raises(DataError):
            sources._cut(labels, holdout, True, seed)
        return
    held, kept = (sources._cut(labels, holdout, side, seed) for side in (True, False))
    assert sorted([*held, *kept]) == list(range(len(labels)))
    assert len(held) == wanted
    shares = Counter(np.array(labels)[held].tolist())
    assert all(abs(shares[label] - holdout * count) <= 1.5 for label, count in Counter(labels).items())


def test_limit(tmp_path):
    source = write_parquet(tmp_path / "d", [0, 1, 2, 3] * 10)
    few = load_images(source, limit=8, seed=1)
    assert (len(few.rows), few.record["rows"], few.record["limit"]) == (8, 8, 8)
    assert contents(load_images(source, limit=8, seed=1)) == contents(few)
    assert contents(load_images(source, limit=8, seed=2)) != contents(few)
    assert len(load_images(source, limit=1000).rows) == 40
    held = load_images(source, limit=30, holdout=0.5, part="held")
    assert not contents(held) & contents(load_images(source, limit=30, holdout=0.5))


# Pixels


@pytest.fixture
def source(tmp_path):
    return write_parquet(tmp_path / "source", [0, 1, 2, 3, 4] * 5, images={7: png(7)[:60]}, files=4)


@pytest.fixture
def items(source):
    return TransformedImages(load_images(source), noisy, seed=5)


def test_items_depend_on_seed_epoch_index(items):
    first = items[3]
    for _ in range(2):
        random.seed(), np.random.seed(), torch.seed()
        assert torch.equal(items[3][0], first[0])
    other_seed = TransformedImages(items.images, noisy, seed=6)
    assert not torch.any(other_seed[3][0][:3] == first[0][:3])
    assert not torch.any(items[4][0][:3] == first[0][:3])
    items.set_epoch(1)
    assert not torch.any(items[3][0][:3] == first[0][:3])
    assert torch.equal(items[3][0][3:], first[0][3:])
    items.set_epoch(0)
    assert torch.equal(items[3][0], first[0])


def test_global_generators_are_left_alone(items):
    def states():
        name, key, *rest = np.random.get_state()
        return random.getstate(), (name, key.tobytes(), *rest), torch.get_rng_state().tolist()

    np.random.seed(1)
    before = states()
    items[0]
    TransformedImages(items.images, lambda image: torch.tensor(np.random.randn()))[0]  # leaves a second normal over
    assert states() == before
    with pytest.raises(ZeroDivisionError):
        TransformedImages(items.images, lambda image: random.random() / 0)[0]
    assert states() == before
    noisy(Image.new("RGB", (2, 2)))
    assert all(now != then for now, then in zip(states(), before, strict=True))


MODES = ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F", "palette with transparency"]


@pytest.mark.parametrize("mode", MODES)
def test_modes(tmp_path, mode):
    file = io.BytesIO()
    ramp = np.linspace(0, 65535, 20 * 10).reshape(10, 20)
    if mode == "palette with transparency":
        Image.fromarray((ramp / 256).astype(np.uint8)).convert("P").save(file, "PNG", transparency=bytes(range(256)))
    elif mode in ("I;16", "I"):
        Image.fromarray(ramp.astype(np.uint16 if mode == "I;16" else np.int32)).save(file, "TIFF")
    else:
        form = "TIFF" if mode in ("CMYK", "F") else "PNG"
        Image.fromarray((ramp / 256).astype(np.uint8)).convert(mode).save(file, form)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = decode({"bytes": file.getvalue(), "path": None})
    assert (image.mode, image.size) == ("RGB", (20, 10))
    assert abs(np.asarray(image).mean() - 127) < 6  # a clipped 16-bit ramp would be 254


def broken() -> dict[str, bytes]:
    whole = png(1, (64, 64))
    return {
        "truncated": whole[: len(whole) // 2],
        "truncated jpeg": png(1, (64, 64), form="JPEG")[:400],
        "zero bytes": b"",
        "text": b"<html>not found</html>",
        "garbled": whole[:60] + b"\0" * 40 + whole[100:],
    }


@pytest.mark.parametrize("what", broken())
def test_broken_images(tmp_path, what):
    images = load_images(write_parquet(tmp_path / "d", [0, 1], "test", images={1: broken()[what]}), "test")
    skipping = TransformedImages(images, noisy)
    assert skipping[1] is None
    assert skipping[0] is not None
    failing = TransformedImages(images, noisy, on_corrupt="fail")
    assert failing[0] is not None
    with pytest.raises(DataError, match=r"The image in row 1 of the split test of .* cannot be read; replace it"):
        failing[1]


def test_a_decompression_bomb_is_broken(tmp_path, monkeypatch):
    items = TransformedImages(load_images(write_parquet(tmp_path / "d", [0])), noisy)
    assert items[0] is not None
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # 144 pixels: a warning
    assert items[0] is not None
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    assert items[0] is None


def test_a_missing_file_is_a_broken_image(tmp_path):
    for name in ("ant", "bee"):
        (tmp_path / "d" / name).mkdir(parents=True)
        (tmp_path / "d" / name / "1.png").write_bytes(png(1))
    items = TransformedImages(load_images(str(tmp_path / "d")), noisy)
    (tmp_path / "d" / "bee" / "1.png").unlink()
    assert items[0] is not None
    assert items[1] is None


def test_a_bug_in_the_transform_is_no_broken_image(items):
    items.transform = lambda image: image.no_such_attribute
    with pytest.raises(AttributeError):
        items[0]


# Loaders


def prepare(loader, **settings):
    return Accelerator(cpu=True, dataloader_config=DataLoaderConfiguration(**settings)).prepare(loader)


def fresh_loader(images, shuffle=True, workers=0, seed=5):
    return make_loader(TransformedImages(images, noisy, seed=seed), 4, shuffle=shuffle, seed=seed, workers=workers)


def test_collate():
    pair = (torch.ones(3, 2, 2), 4)
    images, labels, skipped = collate([pair, None, pair])
    assert (images.shape, labels.tolist(), labels.dtype, skipped) == ((2, 3, 2, 2), [4, 4], torch.int64, 1)
    with pytest.raises(DataError, match="None of the 2 images"):
        collate([None, None])


def test_loader_counts_what_it_skips(items):
    batches = list(make_loader(items, 4, shuffle=False))
    assert [skipped for _, _, skipped in batches] == [0, 1, 0, 0, 0, 0, 0]
    assert torch.cat([labels for _, labels, _ in batches]).tolist() == [i % 5 for i in range(25) if i != 7]
    assert len(make_loader(items, 4, shuffle=False, drop_last=True)) == 6


@pytest.mark.parametrize("seedable", [True, False])
@pytest.mark.parametrize("shuffle", [True, False])
def test_batches_depend_on_seed_and_epoch(source, seedable, shuffle):
    images = load_images(source)

    def epoch(number, seed=5):
        loader = prepare(fresh_loader(images, shuffle, seed=seed), use_seedable_sampler=seedable)
        loader.set_epoch(number)
        return list(loader)

    torch.manual_seed(1)
    third = epoch(3)
    torch.manual_seed(2)
    assert same(epoch(3), third)
    assert not same(epoch(2), third)
    assert not same(epoch(3, seed=4), third)
    assert (order(epoch(2)) != order(third)) == shuffle
    assert (order(epoch(3, seed=4)) != order(third)) == shuffle
    assert sorted(torch.cat([labels for _, labels, _ in third]).tolist()) == sorted(i % 5 for i in range(25) if i != 7)
    plain = fresh_loader(images, shuffle)
    plain.dataset.set_epoch(3)
    assert same(plain, third)  # with or without accelerate


def test_epochs_go_on_by_themselves_under_accelerate(source):
    images = load_images(source)
    loader = prepare(fresh_loader(images))
    first, second = list(loader), list(loader)
    again = prepare(fresh_loader(images))
    again.set_epoch(1)
    assert same(again, second)
    assert not same(first, second)


@pytest.mark.parametrize("seedable", [True, False])
def test_skipping_batches_gives_the_tail(source, seedable):
    images = load_images(source)
    whole = prepare(fresh_loader(images), use_seedable_sampler=seedable)
    whole.set_epoch(3)
    whole = list(whole)
    resumed = prepare(fresh_loader(images), use_seedable_sampler=seedable)
    resumed.set_epoch(3)
    tail = list(skip_first_batches(resumed, 2))
    assert len(tail) == 5
    assert same(tail, whole[2:])
    assert not same(tail, whole[1:6])
    resumed.set_epoch(4)
    assert not same(skip_first_batches(resumed, 2), tail)


def two_ranks(loader, rank):
    Accelerator(cpu=True)
    return prepare_data_loader(loader, num_processes=2, process_index=rank, use_seedable_sampler=True)


def test_two_processes_share_an_epoch_and_resume_it(source):
    images = load_images(source, limit=24)
    single = fresh_loader(images)
    single.dataset.set_epoch(3)
    single = list(single)
    ranks = [two_ranks(fresh_loader(images), rank) for rank in (0, 1)]
    for rank in ranks:
        rank.set_epoch(3)
    assert same(ranks[0], single[0::2])
    for number, rank in enumerate(ranks):
        rank.set_epoch(3)
        assert same(skip_first_batches(rank, 1), single[2 + number :: 2])
        rank.set_epoch(4)
        assert not same(rank, single[number::2])


def test_workers_change_nothing(source):
    images = load_images(source)
    alone, helped = (prepare(fresh_loader(images, workers=workers)) for workers in (0, 2))
    for epoch in (0, 3):
        alone.set_epoch(epoch), helped.set_epoch(epoch)
        batches = list(helped)
        assert same(alone, batches)
        alone.set_epoch(epoch + 1)
        assert not same(alone, batches)


# Streams


def test_stream(source):
    whole, stream = load_images(source), load_images(source, streaming=True)
    assert (stream.classes, stream.record["rows"], stream.record["streaming"]) == (whole.classes, None, True)
    streamed = list(TransformedStream(stream, noisy, seed=5))
    mapped = TransformedImages(whole, noisy, seed=5)
    expected = [mapped[i] for i in range(25) if i != 7]
    assert [label for _, label in streamed] == [label for _, label in expected]
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(streamed, expected, strict=True))
    with pytest.raises(DataError, match="row 7 of the split train"):
        list(TransformedStream(stream, noisy, on_corrupt="fail"))


def stream_loader(source, workers=0, **settings):
    stream = TransformedStream(load_images(source, streaming=True, **settings), noisy, seed=5, buffer_size=10)
    return prepare(make_loader(stream, 4, shuffle=True, seed=5, workers=workers), dispatch_batches=False)


@pytest.mark.parametrize("workers", [0, 2])
def test_stream_loader(source, workers):
    def epoch(number):
        loader = stream_loader(source, workers)
        loader.set_epoch(number)
        return list(loader)

    third = epoch(3)
    assert sum(len(labels) for _, labels, _ in third) == 24
    assert len({tuple(row) for row in order(third)}) == 24
    assert len({tuple(row[:3].tolist()) for images, _, _ in third for row in images}) == 24  # no draws in common
    assert same(epoch(3), third)
    assert not same(epoch(2), third)
    assert order(epoch(2)) != order(third)
    resumed = stream_loader(source, workers)
    resumed.set_epoch(3)
    assert same(skip_first_batches(resumed, 2), third[2:])


def test_two_processes_share_a_stream(source):
    ranks = []
    for rank in (0, 1):
        stream = TransformedStream(load_images(source, streaming=True), noisy, seed=5, buffer_size=10)
        loader = two_ranks(make_loader(stream, 4, shuffle=True, seed=5), rank)
        loader.set_epoch(3)
        ranks.append({tuple(row.tolist()) for images, _, _ in loader for row in images})
    assert len(ranks[0] | ranks[1]) == 24
    assert not ranks[0] & ranks[1]


def test_stream_holdout_survives_shuffling_and_workers(source):
    def seen(part, **settings):
        loader = stream_loader(source, holdout=0.3, part=part, **settings)
        loader.set_epoch(2)
        return {tuple(row[3:].tolist()) for images, _, _ in loader for row in images}

    held = seen("held")
    assert 0 < len(held) < 16
    assert seen("held", workers=2) == held
    assert seen("held", seed=1) != held
    for workers in (0, 2):
        kept = seen("kept", workers=workers)
        assert not kept & held
        assert len(kept | held) == 24


def test_stream_limit_is_the_same_every_epoch(source):
    loader = stream_loader(source, limit=6)
    seen = []
    for epoch in (0, 1):
        loader.set_epoch(epoch)
        seen.append(order(loader))
    assert len(seen[0]) == 6
    assert sorted(seen[0]) == sorted(seen[1])
    assert seen[0] != seen[1]


def test_stream_meets_a_hidden_label(tmp_path):
    source = write_parquet(tmp_path / "d", [0, -1])
    with pytest.raises(DataError, match="without labels"):
        list(TransformedStream(load_images(source, streaming=True), noisy))


def test_stream_of_an_image_folder(tmp_path):
    for name in ("ant", "bee"):
        (tmp_path / "d" / name).mkdir(parents=True)
        for i in range(8):
            (tmp_path / "d" / name / f"{i}.png").write_bytes(png(i))
    settings = {"streaming": True, "holdout": 0.5}
    kept, held = (load_images(str(tmp_path / "d"), part=part, **settings) for part in ("kept", "held"))
    counts = [len(list(TransformedStream(side, noisy, on_corrupt="fail"))) for side in (kept, held)]
    assert sum(counts) == 16
    assert min(counts) > 0


# Checks and transforms


def test_check_classes():
    images = LabelledImages(None, tuple("abc"), {})
    check_classes(images, 3, "supernet")
    with pytest.raises(DataError, match="This dataset has 3 classes, the supernet 10; choose a dataset with 10"):
        check_classes(images, 10, "supernet")


def test_check_processes():
    check_processes(8, 4, 2, drop_last=True)
    check_processes(7, 4, 2)
    with pytest.raises(DataError, match="use a batch size of at most 3"):
        check_processes(7, 4, 2, drop_last=True)
    with pytest.raises(DataError, match="use at most 1 processes"):
        check_processes(1, 4, 2)


@pytest.mark.parametrize("size", [(32, 32), (50, 40), (1, 1), (7, 300)])
@pytest.mark.parametrize("kind", ["resized", "pad", "jitter", "eval", "eval 0.875"])
def test_transforms_give_the_size(size, kind):
    image = Image.new("RGB", size, (255, 0, 0))
    if kind.startswith("eval"):
        transform = eval_transform(32, mean=HALF, std=HALF, crop_pct=float(kind[5:] or 1))
    else:
        jitter = 0.4 if kind == "jitter" else 0.0
        crop = "resized" if kind == "resized" else "pad"
        transform = Look(size=32, mean=HALF, std=HALF, color_jitter=jitter, crop=crop).transform()
    drawn = transform(image)
    assert (drawn.shape, drawn.dtype) == ((3, 32, 32), torch.float32)
    if kind.startswith("eval"):
        assert torch.equal(drawn[:, 16, 16], torch.tensor([1.0, -1.0, -1.0]))


def test_padded_crops_shift_and_flip():
    image = Image.open(io.BytesIO(png(1, (32, 32))))
    whole = eval_transform(32, mean=HALF, std=HALF)(image)
    padded = torch.full((3, 40, 40), -1.0)
    padded[:, 4:36, 4:36] = whole
    windows = [padded[:, y : y + 32, x : x + 32] for y in range(9) for x in range(9)]
    transform = Look(size=32, mean=HALF, std=HALF, crop="pad").transform()
    flips = []
    for _ in range(12):
        drawn = transform(image)
        flips.append(any(torch.equal(drawn.flip(2), window) for window in windows))
        assert flips[-1] or any(torch.equal(drawn, window) for window in windows)
    assert 0 < sum(flips) < 12
