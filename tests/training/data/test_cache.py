"""Images that are decoded once: what is in the cache, when it is made again, and batches of it."""

import errno
import io
import json
import os
import threading
from collections import Counter

import datasets
import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image
from recipe_runs import SUPERNET, checkpoints, furthest, run_recipe, trained_weights
from timm.data.transforms import MaybePILToTensor
from torchvision import transforms
from torchvision.transforms import functional as TF

from sgnas_zoo.errors import ArtifactError, DataError
from sgnas_zoo.training.data import cache
from sgnas_zoo.training.data.cache import cache_folder, cached
from sgnas_zoo.training.data.cached_batches import CachedRows, cached_for_training, draws, moved
from sgnas_zoo.training.data.decoding import decode
from sgnas_zoo.training.data.sources import LabelledImages, load_images
from sgnas_zoo.training.data.transforms import Look, eval_transform
from sgnas_zoo.training.loop.checkpoints import Checkpoints
from sgnas_zoo.training.runs import plain_loader

CUT = transforms.Compose([transforms.Resize(16), transforms.CenterCrop(16), MaybePILToTensor()])
HALF = (0.5,) * 3
LOOK = {"size": 16, "mean": HALF, "std": HALF, "crop": "pad"}


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def labelled(count=11, seed=0, broken=()):
    """Images of several sizes and modes, some of them broken."""
    rng, rows = np.random.default_rng(seed), []
    for number in range(count):
        content = io.BytesIO()
        pixels = rng.integers(0, 256, (20 + number % 3, 18 + number % 5, 3), dtype=np.uint8)
        image = Image.fromarray(pixels).convert(("RGB", "L", "CMYK")[number % 3])
        image.save(content, "JPEG" if image.mode == "CMYK" else "PNG" if number % 2 else "JPEG")
        rows.append({"bytes": b"nothing" if number in broken else content.getvalue(), "path": None})
    table = datasets.Dataset.from_dict({"image": rows, "label": [number % 2 for number in range(count)]})
    record = {"source": f"noise{seed}", "revision": None, "split": "train", "rows": count, "streaming": False}
    return LabelledImages(table, ("a", "b"), record)


def test_what_is_cached_is_what_is_decoded():
    images = labelled()
    found = cached(images, CUT, 16, quiet=True)
    for row, pixels in zip(images.rows, found.pixels, strict=True):
        assert np.array_equal(pixels, np.asarray(TF.center_crop(TF.resize(decode(row["image"]), 16), 16)))
    assert found.labels.tolist() == images.rows["label"][:]
    assert found.readable.all()


@pytest.mark.slow
def test_processes_decode_in_parallel(monkeypatch):
    monkeypatch.setattr(cache, "CHUNK", 3)
    alone = cached(labelled(), CUT, 16, quiet=True).pixels.copy()
    monkeypatch.setattr(cache, "VERSION", 2)
    assert np.array_equal(cached(labelled(), CUT, 16, workers=2, quiet=True).pixels, alone)


@pytest.fixture
def counted(monkeypatch):
    """Counts what is decoded."""
    asked = []
    monkeypatch.setattr(cache, "decode", lambda image: asked.append(1) or decode(image))
    return asked


def test_it_is_decoded_once(counted):
    first = cached(labelled(), CUT, 16, quiet=True)
    assert np.array_equal(cached(labelled(), CUT, 16, quiet=True).pixels, first.pixels)
    assert len(counted) == 11
    assert len([path for path in cache_folder().iterdir() if path.is_dir()]) == 1


def other_side():
    cached(labelled(), transforms.Compose([transforms.Resize(8), transforms.CenterCrop(8), MaybePILToTensor()]), 8)


@pytest.mark.parametrize(
    "ask",
    [
        lambda: cached(labelled(seed=1), CUT, 16, quiet=True),
        lambda: cached(labelled(12), CUT, 16, quiet=True),
        lambda: cached(labelled(), transforms.Compose([transforms.CenterCrop(16), MaybePILToTensor()]), 16, quiet=True),
        other_side,
    ],
)
def test_other_images_and_other_cuts_have_their_own(ask, counted):
    first = cached(labelled(), CUT, 16, quiet=True).pixels.copy()
    ask()
    assert len(counted) > 11
    before = len(counted)
    assert np.array_equal(cached(labelled(), CUT, 16, quiet=True).pixels, first)
    assert len(counted) == before


def test_another_version_is_made_again(counted, monkeypatch):
    cached(labelled(), CUT, 16, quiet=True)
    monkeypatch.setattr(cache, "VERSION", 2)
    cached(labelled(), CUT, 16, quiet=True)
    assert len(counted) == 22


def test_images_that_changed_under_the_same_name_are_decoded_anew(counted):
    cached(labelled(), CUT, 16, quiet=True)
    changed = labelled(seed=1)
    pretended = LabelledImages(changed.rows, changed.classes, labelled().record)
    found = cached(pretended, CUT, 16, quiet=True)
    assert len(counted) == 22
    assert np.array_equal(found.pixels[0], CUT(decode(changed.rows[0]["image"])).permute(1, 2, 0).numpy())


def flip_a_byte(folder):
    content = bytearray((folder / "pixels.bin").read_bytes())
    content[1000] ^= 1
    (folder / "pixels.bin").write_bytes(content)


DAMAGE = {
    "a changed byte": flip_a_byte,
    "too short": lambda folder: os.truncate(folder / "pixels.bin", 100),
    "too long": lambda folder: (folder / "pixels.bin").write_bytes((folder / "pixels.bin").read_bytes() + b"x"),
    "no pixels": lambda folder: (folder / "pixels.bin").unlink(),
    "no description": lambda folder: (folder / "cache.json").unlink(),
    "a broken description": lambda folder: (folder / "cache.json").write_text("{"),
    "an empty description": lambda folder: (folder / "cache.json").write_text("{}"),
    "another description": lambda folder: (folder / "cache.json").write_text("[1]"),
}


@pytest.mark.parametrize("harm", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_cache_is_made_again(harm, counted):
    whole = cached(labelled(), CUT, 16, quiet=True).pixels.copy()
    (folder,) = (path for path in cache_folder().iterdir() if path.is_dir())
    harm(folder)
    assert np.array_equal(cached(labelled(), CUT, 16, quiet=True).pixels, whole)
    assert len(counted) == 22


def test_a_process_that_is_killed_leaves_nothing_that_counts(counted):
    """It dies in the middle of decoding, without a chance to clean up."""
    child = os.fork()
    if not child:
        left = iter(range(5))
        cache.decode = lambda image: decode(image) if next(left, None) is not None else os._exit(9)
        cached(labelled(), CUT, 16, quiet=True)
    os.waitpid(child, 0)
    assert np.array_equal(
        cached(labelled(), CUT, 16, quiet=True).pixels[0], CUT(decode(labelled().rows[0]["image"])).permute(1, 2, 0)
    )
    assert len(counted) == 11
    (folder,) = (path for path in cache_folder().iterdir() if path.is_dir())
    assert sorted(path.name for path in folder.iterdir()) == ["cache.json", "pixels.bin"]


@pytest.mark.parametrize("where", ["allocating", "decoding"])
def test_a_full_disk_leaves_nothing_half_made(where, monkeypatch):
    full = OSError(errno.ENOSPC, "No space left on device")

    def fail(*_):
        raise full

    if where == "allocating":
        monkeypatch.setattr(os, "posix_fallocate", fail)
    else:
        monkeypatch.setattr(cache, "_decode_chunk", fail)
    with pytest.raises(ArtifactError, match="No space left on device; free 8,448 bytes there, name another place with"):
        cached(labelled(), CUT, 16, quiet=True)
    assert not [path for path in cache_folder().iterdir() if path.is_dir()]
    monkeypatch.undo()


def test_two_that_ask_at_once_decode_once(counted):
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(cached(labelled(), CUT, 16, quiet=True).pixels)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(counted) == 11
    assert len(found) == 4
    assert all(np.array_equal(pixels, found[0]) for pixels in found)


def test_broken_images_are_left_out_of_batches_or_refused():
    images = labelled(broken=(2, 5))
    rows = cached_for_training(images, Look(**LOOK), 0, "skip", workers=0, quiet=True)
    assert np.flatnonzero(~rows.cached.readable).tolist() == [2, 5]
    pixels, index, labels, left_out = rows.collate([1, 2, 3, 5])
    assert index.tolist() == [1, 3]
    assert labels.tolist() == [1, 1]
    assert (len(pixels), left_out) == (2, 2)
    with pytest.raises(DataError, match="None of the 2 images of a batch can be read"):
        rows.collate([2, 5])
    with pytest.raises(DataError, match="The image in row 2 of the split train of noise0 cannot be read"):
        cached_for_training(images, Look(**LOOK), 0, "fail", workers=0, quiet=True)


def test_moved_images_are_those_that_torchvision_makes():
    pixels = torch.randint(0, 256, (40, 16, 16, 3), dtype=torch.uint8)
    drawn = draws(3, torch.arange(40))
    found = moved(pixels, drawn, 2)
    for image, (down, right, flip), own in zip(pixels, drawn.tolist(), found, strict=True):
        padded = TF.pad(image.permute(2, 0, 1), [2, 2])
        wanted = TF.crop(padded, down % 5, right % 5, 16, 16)
        wanted = TF.hflip(wanted) if flip % 2 else wanted
        assert torch.equal(own.permute(2, 0, 1), wanted)
    assert not torch.equal(found, pixels)


def test_moves_are_a_function_of_seed_epoch_and_row():
    rows = cached_for_training(labelled(), Look(**LOOK), 0, "skip", workers=0, quiet=True)
    whole, *_ = rows.develop(rows.collate(range(11)), 4)
    for number in (0, 7):
        alone, *_ = rows.develop(rows.collate([number]), 4)
        assert torch.equal(alone[0], whole[number])
    assert not torch.equal(rows.develop(rows.collate(range(11)), 5)[0], whole)
    other = CachedRows(rows.cached, HALF, HALF, 2, seed=1)
    assert not torch.equal(other.develop(other.collate(range(11)), 4)[0], whole)


def test_moves_are_as_often_as_torchvisions():
    drawn = draws(12345, torch.arange(50_000))
    for column, kinds in ((0, 9), (1, 9), (2, 2)):
        counts = Counter((drawn[:, column] % kinds).tolist())
        assert len(counts) == kinds
        expected = 50_000 / kinds
        assert sum((count - expected) ** 2 / expected for count in counts.values()) < 40
    bits = drawn.double() / 2**53
    assert abs(float(np.corrcoef(bits[:, 0], bits[:, 1])[0, 1])) < 0.02
    assert abs(float(np.corrcoef(bits[:-1, 0], bits[1:, 0])[0, 1])) < 0.02


def test_measured_images_are_the_same_to_the_last_bit():
    images, accelerator = labelled(), Accelerator(cpu=True)
    transform = eval_transform(16, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4), crop_pct=0.9)
    plain = plain_loader(images, transform, accelerator, batch_size=4)
    kept = plain_loader(images, transform, accelerator, batch_size=4, cache=True)
    for (one, labels, unread), (other, same, left_out) in zip(plain, kept, strict=True):
        assert torch.equal(one, other)
        assert one.stride() == other.stride()
        assert torch.equal(labels, same)
        assert unread == left_out == 0


def test_an_accelerator_that_is_too_small_gets_batches(monkeypatch):
    rows = cached_for_training(labelled(), Look(**LOOK), 0, "skip", workers=0, quiet=True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (8448 * 4 - 1, 10**9))
    assert not rows.settle(torch.device("cuda"))
    assert not rows.settle(torch.device("cpu"))
    assert len(rows.collate([1])[0]) == 1


@pytest.mark.parametrize(
    "look", [{"crop": "resized"}, {"color_jitter": 0.1}, {"auto_augment": "rand-m9-mstd0.5"}, {"re_prob": 0.1}]
)
def test_what_a_cache_cannot_do_is_refused(look):
    with pytest.raises(DataError, match="--cache moves and flips images of one size; add --crop pad"):
        cached_for_training(labelled(), Look(**{**LOOK, **look}), 0, "skip", workers=0, quiet=True)


def test_a_stream_is_refused(colours):
    with pytest.raises(DataError, match="A stream cannot be cached; leave out --cache or --streaming"):
        cached(load_images(colours, streaming=True), CUT, 16, quiet=True)


def test_a_run_on_cached_images_resumes_to_the_same_weights(colours, tmp_path, monkeypatch):
    monkeypatch.setattr(Checkpoints.__init__, "__kwdefaults__", {"every_minutes": 0, "keep": 99})
    asked = (*SUPERNET, "--epochs", 2, "--batch-size", 8, "--limit", 40, "--crop", "pad", "--workers", 0)
    run = ("train_supernet", *asked, "--dataset", colours, "--checkpoint-minutes", 0)
    run_recipe(*run, "--cache", "--output", tmp_path / "whole")
    steps = checkpoints(tmp_path / "whole")
    middle = steps[sorted(steps)[1]]
    (tmp_path / "resumed" / "checkpoints").mkdir(parents=True)
    os.symlink(middle, tmp_path / "resumed" / "checkpoints" / middle.name)
    (tmp_path / "resumed" / "settings.yaml").write_bytes((tmp_path / "whole" / "settings.yaml").read_bytes())
    run_recipe(*run, "--cache", "--output", tmp_path / "resumed", "--resume", "auto")
    assert furthest(trained_weights(tmp_path / "whole"), trained_weights(tmp_path / "resumed")) == 0
    run_recipe(*run, "--output", tmp_path / "plain")
    assert furthest(trained_weights(tmp_path / "whole"), trained_weights(tmp_path / "plain")) > 0
    settings = json.loads((steps[max(steps)] / "manifest.json").read_text())["settings"]
    assert settings["cache"] is True
