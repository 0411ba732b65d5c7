"""Folders of images as people have them: read as torchvision and timm read them, and what is left out is named."""

from __future__ import annotations

import io
import os
import warnings
from collections import Counter
from pathlib import Path

import datasets
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from timm.data.readers.reader_image_folder import ReaderImageFolder
from torchvision.datasets import ImageFolder

from sgnas_zoo.errors import DataError
from sgnas_zoo.training.data import image_files
from sgnas_zoo.training.data.decoding import decode
from sgnas_zoo.training.data.image_folder import SPLIT_FOLDERS
from sgnas_zoo.training.data.loaders import TransformedImages, TransformedStream, make_loader
from sgnas_zoo.training.data.sources import load_images, open_splits
from sgnas_zoo.training.data.transforms import eval_transform


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0, raising=False)


def saved(form: str, shade: int = 7) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, 2 * shade, 3 * shade)).save(file, form)
    return file.getvalue()


PNG = saved("PNG")


def fill(root: Path, *paths: str, content: bytes = PNG) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return root


def grid(root: Path, folders, names=("0.png", "1.png")) -> Path:
    return fill(root, *(f"{folder}/{name}" for folder in folders for name in names))


def read(root: Path, split: str = "train", **more) -> list[tuple[str, str]]:
    """Path and class of every image, in the order of the rows."""
    images = load_images(str(root), split, **more)
    return [(os.path.relpath(row["image"]["path"], root), images.classes[row["label"]]) for row in images.rows]


def by_torchvision(root: Path) -> list[tuple[str, str]]:
    folder = ImageFolder(str(root))
    return [(path, folder.classes[label]) for path, label in folder.samples]


def by_timm(root: Path) -> set[tuple[str, str]]:
    reader = ReaderImageFolder(str(root))
    names = {index: name for name, index in reader.class_to_idx.items()}
    return {(path, names[label]) for path, label in reader.samples}


def whole(root: Path, found) -> list[tuple[str, str]]:
    return [(os.path.join(root, path), name) for path, name in found]


# As torchvision and timm read them


LAYOUTS = {
    "names as of splits in files": [f"{c}/{n}" for c in ("ant", "bee", "cow")
                                    for n in ("test-strip-0.png", "train 0.png", "val.png", "7.png")],
    "names as of splits in classes": [f"{c}/{i}.png" for c in ("bus", "car", "steam train") for i in range(3)],
    "parts of names": [f"{c}/{i}.png" for c in ("beaker", "flask", "test_tube", "train-car") for i in range(3)],
    "names of ILSVRC": [f"n0144{c}/ILSVRC2012_val_0000{i}.JPEG" for c in range(2) for i in range(3)],
    "a class called train": [f"{c}/{i}.png" for c in ("bus", "car", "train") for i in range(3)],
    "a class called test": [f"{c}/{i}.png" for c in ("rest", "test") for i in range(3)],
    "a class called val, beside one with folders": ["val/0.png", "wall/a/0.png", "wall/b/0.png"],
    "one class": ["ant/0.png", "ant/1.png"],
    "numbers": [f"{c}/{i}.png" for c in (1, 2, 10) for i in (1, 2, 10)],
    "signs": [f"{c}/{n}.png" for c in ("a [1]", "b?*", "c::d", "ü ñ 猫", "e#%20", "-f", "g{h}")
              for n in ("[0]", "a::b", "%41")],
    "suffixes": [f"{c}/{i}.{s}" for c in "ab" for i, s in enumerate(("PNG", "Jpg", "jpeg"))],
    "blanks that sort early": ["a/b/0.png", "a b/0.png", "a/0.png", "a-b/0.png", "a.b/1.png"],
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("split", ["", "train", "Validation", "TEST"])
def test_the_same_images_and_classes_as_torchvision_and_timm(tmp_path, layout, split):
    root = fill(tmp_path / "set [v1] ::x", *(os.path.join(split, path) for path in LAYOUTS[layout]))
    if split and all(path.count("/") == 1 for path in LAYOUTS[layout]):
        fill(root / "train" if split != "train" else root / "val", *LAYOUTS[layout])
    found = read(root, split.lower() or "train")
    assert whole(root, found) == by_torchvision(root / split)
    if not any(path.count("/") == 2 for path in LAYOUTS[layout]):  # timm takes the deepest folder for the class
        assert set(whole(root, found)) == by_timm(root / split)
    assert len(found) == len(LAYOUTS[layout])


NAMES = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12
).filter(lambda name: not name.startswith(".") and name != "__MACOSX" and len(name.encode()) < 100)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(classes=st.sets(NAMES, min_size=1, max_size=4), files=st.sets(NAMES, min_size=1, max_size=4))
def test_any_names(tmp_path_factory, classes, files):
    root = grid(tmp_path_factory.mktemp("any") / "d", classes, [f"{name}.png" for name in files])
    if {name.strip().casefold() for name in classes} <= set(SPLIT_FOLDERS):
        return
    assert whole(root, read(root)) == by_torchvision(root)


def test_deeper_folders_belong_to_their_class(tmp_path):
    root = fill(tmp_path, "ant/0.png", "ant/red/1.png", "ant/red/deep/2.png", "bee/x/3.png")
    assert whole(root, read(root)) == by_torchvision(root)
    assert Counter(name for _, name in read(root)) == {"ant": 3, "bee": 1}


def test_linked_files_and_folders_are_followed(tmp_path):
    store = grid(tmp_path / "store", ["one", "two"])
    root = tmp_path / "d"
    (root / "bee").mkdir(parents=True)
    (root / "ant").symlink_to(store / "one")
    (root / "bee" / "2.png").symlink_to(store / "two" / "1.png")
    (root / "cow").symlink_to("ant")  # the same images as another class, as torchvision has it
    assert whole(root, read(root)) == by_torchvision(root)
    linked = tmp_path / "linked"
    linked.symlink_to(root)
    assert [name for _, name in read(linked)] == ["ant", "ant", "bee", "cow", "cow"]


def test_links_in_a_circle_end(tmp_path):
    root = grid(tmp_path / "d", ["ant", "bee"])
    (root / "ant" / "all").symlink_to(root)
    (root / "bee" / "self").symlink_to(".")
    (root / "bee" / "gone.png").symlink_to("nowhere.png")
    with pytest.warns(
        UserWarning, match=r"left out 2 links to a folder above \(ant/all, bee/self\); 1 links to nothing"
    ):
        assert len(read(root)) == 4


def test_a_pipe_is_no_image(tmp_path):
    root = grid(tmp_path / "d", ["ant", "bee"])
    os.mkfifo(root / "ant" / "pipe.png")
    os.mkfifo(root / "ant" / "pipe")
    assert len(read(root)) == 4


@pytest.mark.parametrize("streaming", [False, True])
def test_names_that_are_no_unicode(tmp_path, streaming):
    root = tmp_path / "d"
    folder = os.path.join(os.fsencode(root), b"fu\xdfg\xe4nger %41")
    os.makedirs(folder)
    with open(os.path.join(folder, b"gr\xfc\xdfe.png"), "wb") as file:
        file.write(PNG)
    grid(root, ["ant"])
    images = load_images(str(root), streaming=streaming)
    assert images.classes == ("ant", r"fu\xdfg\xe4nger %41")
    assert [decode(row["image"]).size for row in images.rows] == [(8, 8)] * 3


# Splits


def test_a_class_called_train_below_splits(tmp_path):
    classes = ("bus", "car", "train")
    root = grid(tmp_path, [f"{split}/{name}" for split in ("train", "test") for name in classes])
    for split in ("train", "test"):
        assert whole(root, read(root, split)) == by_torchvision(root / split)
        assert Counter(name for _, name in read(root, split)) == dict.fromkeys(classes, 2)


SPLIT_WORDS = [("train", "test"), ("Train", "TEST"), ("training", "testing"), ("TRAIN", "eval"),
               ("train", "Evaluation"), ("train", "val"), ("train", "VALID"), ("train", "Validation"),
               ("train", "dev")]  # fmt: skip


@pytest.mark.parametrize("stray", [1, 5])
def test_splits_with_stray_images_in_them(tmp_path, stray):
    root = fill(grid(tmp_path, ["train/ant", "test/ant"]), *(f"train/{i}.png" for i in range(stray)))
    with pytest.warns(UserWarning, match=f"left out {stray} in no folder of a class"):
        assert len(read(root)) == 2


@pytest.mark.parametrize("words", SPLIT_WORDS, ids=" ".join)
def test_words_for_splits(tmp_path, words):
    root = grid(tmp_path, [f"{word}/{name}" for word in words for name in ("ant", "bee")])
    for word in words:
        for asked in (word, word.lower()):
            assert {Path(path).parts[0] for path, _ in read(root, asked)} == {word}
    assert {Path(path).parts[0] for path, _ in read(root, "test")} == {words[1]}


def test_val_is_not_test(tmp_path):
    root = grid(tmp_path, [f"{split}/{name}" for split in ("train", "val", "test") for name in ("ant", "bee")])
    for asked, there in (("val", "val"), ("valid", "val"), ("dev", "val"), ("validation", "val"), ("test", "test")):
        assert {Path(path).parts[0] for path, _ in read(root, asked)} == {there}


def test_a_record_tells_the_name_of_the_folder_and_no_way_to_it(tmp_path, monkeypatch):
    root = grid(tmp_path / "photos", ["ant", "bee"])
    monkeypatch.chdir(root)
    monkeypatch.setenv("HOME", str(tmp_path))
    for place in (str(root), ".", "../photos/", "~/photos"):
        assert load_images(place).record["source"] == "photos"


@pytest.mark.parametrize("only", ["train", "test"])
def test_one_split_alone(tmp_path, only):
    root = grid(tmp_path, [f"{only}/ant", f"{only}/bee"])
    assert len(read(root, only)) == 4
    with pytest.raises(DataError, match=f"choose from {only}"):
        read(root, "test" if only == "train" else "train")


def test_splits_below_the_classes(tmp_path):
    root = grid(tmp_path, [f"{name}/{split}" for name in ("ant", "bee") for split in ("train", "val")])
    for split in ("train", "val"):
        found = read(root, split)
        assert Counter(name for _, name in found) == {"ant": 2, "bee": 2}
        assert {Path(path).parts[1] for path, _ in found} == {split}


def test_classes_are_those_of_train(tmp_path):
    root = grid(tmp_path, ["train/bee", "train/cow", "test/ant", "test/bee"])
    with pytest.warns(UserWarning, match=r"2 in no folder of a class \(test/ant/0.png, test/ant/1.png\)"):
        assert load_images(str(root)).classes == ("bee", "cow")
    with pytest.warns(UserWarning, match="test/ant"):
        assert Counter(name for _, name in read(root, "test")) == {"bee": 2}


UNLABELLED = {
    "flat, of Kaggle": (["test/1.jpg", "test/2.jpg"], "test", "test"),
    "flat, of ILSVRC": (["val/ILSVRC2012_val_00000001.JPEG"], "val", "validation"),
    "in a folder of its own": (["test/unknown/1.jpg"], "test", "test"),
    "in a folder of its own name": (["test/test/1.jpg"], "test", "test"),
}


@pytest.mark.parametrize("what", UNLABELLED)
@pytest.mark.parametrize("streaming", [False, True])
def test_a_labelled_train_beside_what_has_no_labels(tmp_path, what, streaming):
    paths, asked, kind = UNLABELLED[what]
    root = fill(grid(tmp_path, ["train/ant", "train/bee"]), *paths)
    left_out = f"left out {len(paths)} of {kind} without a class"
    with pytest.warns(UserWarning, match=left_out):
        assert [name for _, name in read(root, streaming=streaming)] == ["ant", "ant", "bee", "bee"]
    refusal = rf"The split {kind} of .* has {len(paths)} images and no folder of a class; choose the split train\.$"
    with pytest.warns(UserWarning, match=left_out), pytest.raises(DataError, match=refusal):
        load_images(str(root), asked, streaming=streaming)


def test_what_to_measure_on_where_only_train_has_labels(tmp_path):
    root = fill(grid(tmp_path, ["train/ant", "train/bee"]), "test/1.jpg")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kept, held, final = open_splits(str(root), 0.5, None, seed=0)
        assert (len(kept.rows), len(held.rows), final) == (2, 2, held)
        with pytest.raises(DataError, match=r"choose the split train\. Or measure on a part of train, with a holdout"):
            open_splits(str(root), 0, None, seed=0)


def test_an_unlabelled_test_does_not_hide_a_labelled_validation(tmp_path):
    root = fill(grid(tmp_path, ["train/ant", "val/ant"]), "test/1.jpg")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert len(read(root, "val")) == 2
        with pytest.raises(DataError, match="choose the split train or validation"):
            read(root, "test")


# What is left out is named


STRAY = {
    "one image in the root": ("stray.png", PNG, r"1 beside the folders of classes \(stray.png\)"),
    "hidden by macOS": ("ant/._0.png", b"", r"1 hidden \(ant/._0.png\)"),
    "of another archive": ("__MACOSX/ant/0.png", b"", "1 hidden"),
    "of a notebook": (".ipynb_checkpoints/0-checkpoint.png", PNG, "1 hidden"),
    "a drawing": ("ant/x.svg", b"<svg/>", r"1 .svg that Pillow cannot read \(ant/x.svg\)"),
    "raw": ("ant/x.NEF", b"MM", "1 .nef that Pillow cannot read"),
    "a class without images": ("wolf/notes.txt", b"none yet", r"1 folders without a readable image \(wolf\)"),
    "a class of drawings": ("wolf/x.svg", b"<svg/>", r"1 folders without a readable image \(wolf\)"),
}


@pytest.mark.parametrize("what", STRAY)
def test_what_is_left_out_is_named(tmp_path, what):
    path, content, named = STRAY[what]
    root = fill(grid(tmp_path / "d", ["ant", "bee"]), path, content=content)
    with pytest.warns(UserWarning, match=named):
        assert len(read(root)) == 4
    below = fill(grid(tmp_path / "e", ["train/ant", "train/bee", "test/bee"]), f"train/{path}", content=content)
    with pytest.warns(UserWarning, match="train/" + path.split("/")[0]):
        assert len(read(below)) == 4
    with pytest.warns(UserWarning, match="train/"):
        assert len(read(below, "test")) == 2


def test_only_the_first_names_are_told_and_nothing_reaches_the_terminal(tmp_path):
    root = fill(grid(tmp_path / "\033[31md", ["ant", "bee"]), *(f"{i}\033[2J.png" for i in range(1200)))
    with pytest.warns(UserWarning, match="1,200 beside") as told:
        read(root)
    text = str(told[0].message)
    assert len(text) < 300 + len(str(tmp_path))
    assert text.isprintable()


@pytest.mark.parametrize(
    "name", [".DS_Store", "Thumbs.db", "desktop.ini", "labels.csv", "README.md", "x.json", "LICENSE"]
)
def test_files_that_are_no_images_are_passed_over(tmp_path, name):
    root = fill(grid(tmp_path, ["ant", "bee"]), name, f"ant/{name}", content=b"BM is how a bitmap begins\0\1")
    assert len(read(root)) == 4


def test_a_folder_that_cannot_be_opened_is_named(tmp_path, monkeypatch):
    root = grid(tmp_path, ["ant", "bee", "cow"])
    whole_scan = os.scandir

    def scandir(path):
        if str(path).endswith("cow"):
            raise PermissionError(13, "Permission denied")
        return whole_scan(path)

    monkeypatch.setattr(image_files.os, "scandir", scandir)
    with pytest.warns(UserWarning, match=r"1 that cannot be opened \(Permission denied\) \(cow\)"):
        assert len(read(root)) == 4


def test_folders_beside_the_splits_are_named(tmp_path):
    root = grid(tmp_path, ["train/ant", "train/bee", "unlabeled"])
    with pytest.warns(UserWarning, match=r"2 beside the folders of splits \(unlabeled/0.png, unlabeled/1.png\)"):
        assert {name for _, name in read(root)} == {"ant", "bee"}


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (["."], "2 images of .* lie in it without a folder for their class; put them in one folder per class"),
        (["train"], "2 images of .* lie in train without"),
        (["train", "test"], "4 images of .* lie in test and train without"),
        (["set/train/ant", "set/test/ant"], r"are a folder deeper; name .*set\.$"),
    ],
)
def test_what_has_no_classes_is_refused(tmp_path, folders, message):
    with pytest.raises(DataError, match=message):
        read(grid(tmp_path / "d", folders))


def test_a_folder_of_images_that_cannot_be_read_says_so(tmp_path):
    with pytest.raises(DataError, match=r"no image that can be read; left out: 1 .svg that Pillow cannot read"):
        read(fill(tmp_path, "ant/x.svg"))


def test_one_folder_too_much_is_told(tmp_path):
    root = grid(tmp_path / "d", ["animals/ant", "animals/bee"])
    with pytest.warns(UserWarning, match=r"one class, animals; if its folders are the classes, name .*animals\.$"):
        assert len(read(root)) == 4
    root = grid(tmp_path / "e", ["train/train/ant", "train/train/bee"])
    with pytest.warns(UserWarning, match=r"one class, train; if its folders are the classes, name .*e/train/train\.$"):
        assert len(read(root)) == 4


# Kinds of files


FORMATS = {"avif": "AVIF", "webp": "WEBP", "jfif": "JPEG", "bmp": "BMP", "gif": "GIF", "tif": "TIFF", "jp2": "JPEG2000",
           "": "PNG", "jpg_large": "JPEG", "2021-03-04": "PNG", "1": "WEBP", "tmp": "AVIF"}  # fmt: skip


def test_files_of_any_suffix_or_none(tmp_path):
    root = grid(tmp_path, ["ant"])
    for suffix, form in FORMATS.items():
        fill(root, f"class {suffix or 'of none'}/x{'.' * bool(suffix)}{suffix}", content=saved(form, 60))
    images = load_images(str(root))
    assert len(images.classes) == 1 + len(FORMATS)
    for row in images.rows.select(range(2, len(images.rows))):
        assert decode(row["image"]).getpixel((4, 4)) == pytest.approx((60, 120, 180), abs=8)


def heic() -> bytes:
    import pillow_heif

    file = io.BytesIO()
    pillow_heif.from_pillow(Image.new("RGB", (64, 64), (60, 120, 180))).save(file)
    return file.getvalue()


def test_heic(tmp_path):
    root = fill(grid(tmp_path, ["ant"]), "bee/1.heic", "bee/2.HEIF", "cow/none", content=heic())
    images = load_images(str(root))
    assert images.classes == ("ant", "bee", "cow")
    loader = make_loader(TransformedImages(images, eval_transform(8, mean=(0, 0, 0), std=(1, 1, 1)), on_corrupt="fail"),
                         5, shuffle=False)  # fmt: skip
    ((pixels, _, skipped),) = loader
    assert skipped == 0
    assert pixels[2:, :, 4, 4].flatten().tolist() == pytest.approx([60 / 255, 120 / 255, 180 / 255] * 3, abs=0.03)


def test_heic_without_its_reader_is_left_out_with_the_way_to_get_it(tmp_path, monkeypatch):
    root = fill(grid(tmp_path, ["ant"]), "bee/1.heic", "cow/none", content=heic())
    monkeypatch.setattr(image_files, "reads_heif", lambda: False)
    with pytest.warns(UserWarning, match=r"2 HEIC that need `pip install pillow-heif` \(bee/1.heic, cow/none\)"):
        assert load_images(str(root)).classes == ("ant",)


def test_avif_without_its_reader_likewise(tmp_path, monkeypatch):
    root = fill(grid(tmp_path, ["ant"]), "bee/1.avif", content=saved("AVIF"))
    known = image_files.readable_suffixes()
    monkeypatch.setattr(image_files, "readable_suffixes", lambda: known - {".avif"})
    with pytest.warns(UserWarning, match=r"1 AVIF that need `pip install 'pillow>=11.3'`"):
        assert load_images(str(root)).classes == ("ant",)


def test_corrupt_files_count_as_images(tmp_path):
    root = fill(grid(tmp_path, ["ant", "bee"]), "ant/2.png", content=PNG[:50])
    images = load_images(str(root))
    assert len(images.rows) == 5
    assert TransformedImages(images, lambda image: image)[2] is None
    with pytest.raises(DataError, match="row 2 of the split train"):
        TransformedImages(images, lambda image: image, on_corrupt="fail")[2]


# Streams


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_reads_and_shuffles_the_same_images(tmp_path, workers):
    root = tmp_path / "d [0]"
    for label, name in enumerate(("ant", "bee")):
        for i in range(8):
            fill(root, f"{name}/{i}.png", content=saved("PNG", 8 * label + i))
    images = load_images(str(root), streaming=True)
    assert sorted(read(root, streaming=True)) == sorted(read(root))
    stream = TransformedStream(images, eval_transform(8, mean=(0, 0, 0), std=(1, 1, 1)), buffer_size=1)
    labels = [label for _, batch, _ in make_loader(stream, 4, shuffle=True, seed=1, workers=workers) for label in batch]
    assert sorted(map(int, labels)) == [0] * 8 + [1] * 8
    assert list(map(int, labels)) != sorted(map(int, labels))  # whatever the buffer: every image is a shard


def test_no_image_is_opened_to_list_it(tmp_path, monkeypatch):
    def opened(*_, **__):
        raise AssertionError("opened")

    root = grid(tmp_path, ["ant", "bee"], ["0.jpg", "1.PNG", "2.webp"])
    monkeypatch.setattr(Image, "open", opened)
    assert len(load_images(str(root)).rows) == 6
