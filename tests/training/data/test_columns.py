"""Tables of images that nobody made for ``datasets``: columns of any name and type, and splits without labels."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import click
import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import warm
from click.testing import CliRunner
from PIL import Image
from places import RECIPES

from sgnas_zoo.cli.main import main
from sgnas_zoo.errors import DataError
from sgnas_zoo.terminal import one_line
from sgnas_zoo.training.data.columns import IMAGE_COLUMNS, LABEL_COLUMNS, MORE_LABEL_COLUMNS, PATH_COLUMNS
from sgnas_zoo.training.data.decoding import decode
from sgnas_zoo.training.data.loaders import TransformedStream
from sgnas_zoo.training.data.sources import Source, load_images
from sgnas_zoo.training.searching.candidates import held_out_images


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0, raising=False)


def png(shade: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, 0, 0)).save(file, "PNG")
    return file.getvalue()


CONTENT = [png(shade) for shade in range(6)]
BOTH = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
IMAGES = {
    "struct": pa.array([{"bytes": c, "path": f"{i}.png"} for i, c in enumerate(CONTENT)], BOTH),
    "struct in another order": pa.array(
        [{"bytes": c, "path": None} for c in CONTENT], pa.struct([("path", pa.string()), ("bytes", pa.binary())])
    ),
    "struct of bytes": pa.array([{"bytes": c} for c in CONTENT], pa.struct([("bytes", pa.binary())])),
    "struct of paths": pa.array([{"bytes": None, "path": f"pics/{i}.png"} for i in range(6)], BOTH),
    "bytes": pa.array(CONTENT, pa.binary()),
    "large bytes": pa.array(CONTENT, pa.large_binary()),
    "paths": pa.array([f"pics/{i}.png" for i in range(6)]),
    "large paths": pa.array([f"pics/{i}.png" for i in range(6)], pa.large_string()),
}
LABELS = {
    "bool": ([False, True] * 3, ("False", "True")),
    "int8": (pa.array([4, 5] * 3, pa.int8()), ("4", "5")),
    "uint64": (pa.array([4, 5] * 3, pa.uint64()), ("4", "5")),
    "float": ([1.0, 10.0] * 3, ("1", "10")),
    "text": (["ant", "bee"] * 3, ("ant", "bee")),
    "categories of pandas": (pa.array(["ant", "bee"] * 3).dictionary_encode(), ("ant", "bee")),
}


def write(folder: Path, split: str = "train", **columns) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), folder / f"{split}.parquet")
    return folder


def with_pictures(folder: Path) -> Path:
    (folder / "pics").mkdir(parents=True)
    for i, content in enumerate(CONTENT):
        (folder / "pics" / f"{i}.png").write_bytes(content)
    return folder


def shades(images) -> list[int]:
    return [decode(row["image"]).getpixel((0, 0))[0] for row in images.rows]


@pytest.mark.parametrize("kind", IMAGES)
@pytest.mark.parametrize("labels", LABELS)
def test_any_type_of_images_and_labels(tmp_path, kind, labels):
    values, classes = LABELS[labels]
    folder = tmp_path / "d"
    if "paths" in kind:
        with_pictures(folder)
    write(folder, image=IMAGES[kind], label=values)
    images = load_images(str(folder))
    assert images.classes == classes
    assert images.rows["label"][:] == [0, 1] * 3
    assert shades(images) == list(range(6))
    assert images.record["columns"] == {"image": "image", "label": "label"}


@pytest.mark.parametrize("name", ["Label", "LABELS", *LABEL_COLUMNS, *MORE_LABEL_COLUMNS, "Target", "Category"])
def test_names_of_label_columns(tmp_path, name):
    write(tmp_path, image=IMAGES["bytes"], split=["x"] * 6, id=list(range(6)), **{name: [0, 1] * 3})
    assert load_images(str(tmp_path)).record["columns"]["label"] == name


@pytest.mark.parametrize("name", ["Image", "whatever", *IMAGE_COLUMNS])
def test_names_of_image_columns(tmp_path, name):
    write(tmp_path, label=[0, 1] * 3, name=[str(i) for i in range(6)], **{name: IMAGES["bytes"]})
    assert load_images(str(tmp_path)).record["columns"]["image"] == name


@pytest.mark.parametrize("name", ["Image", "img", *PATH_COLUMNS])
def test_names_of_path_columns(tmp_path, name):
    write(with_pictures(tmp_path / "d"), label=[0, 1] * 3, caption=["x"] * 6, **{name: IMAGES["paths"]})
    images = load_images(str(tmp_path / "d"))
    assert (images.record["columns"]["image"], shades(images)) == (name, list(range(6)))


@pytest.mark.parametrize("below", [".", "data", "data/deep"])
def test_paths_count_from_the_dataset_or_the_table(tmp_path, below):
    """In a folder of any name: to datasets a bracket is a pattern."""
    root = tmp_path / "set [v1]"
    write(with_pictures(root) / below, image=IMAGES["paths"], label=[0, 1] * 3)
    assert shades(load_images(str(root))) == list(range(6))
    root = tmp_path / "other [v1]"
    write(with_pictures(root / below), image=IMAGES["paths"], label=[0, 1] * 3)
    assert shades(load_images(str(root))) == list(range(6))


def test_of_bytes_and_paths_the_bytes_count(tmp_path):
    write(tmp_path, path=IMAGES["paths"], data=IMAGES["bytes"], label=[0, 1] * 3)
    assert load_images(str(tmp_path)).record["columns"]["image"] == "data"


ALIKE = [0, 1] * 3
AMBIGUOUS = {
    "two of bytes": ({"left": "bytes", "right": "bytes"}, {"label": ALIKE}, r"2 image columns \(left, right", "image"),
    "two of paths": ({"image": "paths", "img": "paths"}, {"label": ALIKE}, r"2 image columns \(image, img\)", "image"),
    "two labels": ({"image": "bytes"}, {"target": ALIKE, "cls": ALIKE}, r"2 label columns \(target, cls\)", "label"),
    "no usual name": ({"image": "bytes"}, {"species": ALIKE, "id": ALIKE},
                      "no labels among image, species, id; name one of species, id with", "label"),
}  # fmt: skip


@pytest.mark.parametrize("what", AMBIGUOUS)
def test_what_cannot_be_guessed_is_named(tmp_path, what):
    images, labels, message, kind = AMBIGUOUS[what]
    write(tmp_path, **{name: IMAGES[form] for name, form in images.items()}, **labels)
    with pytest.raises(DataError, match=f"{message}.*--{kind}-column"):
        load_images(str(tmp_path))
    chosen = {"image": list(images)[-1], "label": next(iter(labels))}
    found = load_images(Source(str(tmp_path), chosen["image"], chosen["label"]))
    assert found.record["columns"] == chosen
    again = load_images(Source.of(str(tmp_path), found.record), holdout=0.5, part="held")
    assert again.record["columns"] == chosen


def test_a_recorded_column_counts_only_where_it_is(tmp_path):
    write(tmp_path, image=IMAGES["bytes"], label=[0, 1] * 3)
    record = {"columns": {"image": "img", "label": ["no", "name"]}}
    assert load_images(Source.of(str(tmp_path), record)).record["columns"] == {"image": "image", "label": "label"}
    for odd in ({}, {"columns": None}, {"columns": [1]}):
        assert load_images(Source.of(str(tmp_path), odd)).classes == ("0", "1")
    with pytest.raises(DataError, match=r"no column 'img' of that name; name one of image, label with --image-column"):
        load_images(Source(str(tmp_path), "img"))
    with pytest.raises(DataError, match=r"no column 'image' that holds labels; name one of image, label with --label-"):
        load_images(Source(str(tmp_path), label_column="image"))


@pytest.mark.parametrize("hidden", [None, float("nan"), -1.0])
def test_labels_that_are_none(tmp_path, hidden):
    write(tmp_path, image=IMAGES["bytes"], label=[0.0, 1.0] * 3)
    write(tmp_path, "test", image=IMAGES["bytes"], label=pa.array([hidden] * 6, pa.float64()))
    assert load_images(str(tmp_path)).classes == ("0", "1")
    with pytest.raises(DataError, match=r"rows without labels; choose the split train\.$"):
        load_images(str(tmp_path), "test")


def test_empty_texts_are_no_labels(tmp_path):
    write(tmp_path, image=IMAGES["bytes"], label=["a", "b"] * 3)
    write(tmp_path, "test", image=IMAGES["bytes"], label=[""] * 6)
    assert load_images(str(tmp_path)).classes == ("a", "b")
    with pytest.raises(DataError, match=r"rows without labels; choose the split train\.$"):
        load_images(str(tmp_path), "test")


OTHER_TESTS = {
    "no label column": {"image": IMAGES["bytes"]},
    "no label column but another": {"id": list(range(6)), "image": IMAGES["bytes"]},
    "images of another type": {"image": IMAGES["struct"]},
    "no images either": {"id": list(range(6))},
}


@pytest.mark.parametrize("what", OTHER_TESTS)
@pytest.mark.parametrize("declared", [True, False])
def test_train_loads_beside_a_test_part_without_labels(tmp_path, what, declared):
    if declared:
        table = datasets.Dataset.from_dict(
            {"image": [{"bytes": c, "path": None} for c in CONTENT], "label": [0, 1] * 3},
            datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])}),
        )
        table.to_parquet(tmp_path / "train.parquet")
    else:
        write(tmp_path, image=IMAGES["bytes"], label=["a", "b"] * 3)
    write(tmp_path, "test", **OTHER_TESTS[what])
    assert load_images(str(tmp_path)).classes == ("a", "b")
    with pytest.raises(DataError, match=r"The split test of .* has no column of labels; choose the split train\.$"):
        load_images(str(tmp_path), "test")


def test_splits_may_differ_in_what_else_they_have(tmp_path):
    write(tmp_path, image=IMAGES["bytes"], label=["a", "b"] * 3, note=["x"] * 6)
    write(tmp_path, "test", id=list(range(6)), label=["b", "c"] * 3, image=IMAGES["struct"])
    assert load_images(str(tmp_path)).classes == load_images(str(tmp_path), "test").classes == ("a", "b", "c")
    write(tmp_path, "test", image=IMAGES["bytes"], label=[0, 1] * 3)
    with pytest.raises(DataError, match="labels of different kinds; give them the same"):
        load_images(str(tmp_path))


def test_a_stream_of_undeclared_images(tmp_path):
    features = datasets.Features({"image": datasets.Value("string"), "label": datasets.ClassLabel(names=["a", "b"])})
    root = with_pictures(tmp_path / "d")
    rows = {"image": [f"pics/{i}.png" for i in range(6)], "label": [0, 1] * 3}
    datasets.Dataset.from_dict(rows, features).to_parquet(root / "train.parquet")
    parts = [load_images(str(root), streaming=True, holdout=0.5, part=part) for part in ("kept", "held")]
    seen = [[np.asarray(image)[0, 0, 0] for image, _ in TransformedStream(part, lambda image: image)] for part in parts]
    assert sorted(int(shade) for part in seen for shade in part) == list(range(6))


def test_tables_that_no_split_takes_are_named(tmp_path):
    write(tmp_path, image=IMAGES["bytes"], label=[0, 1] * 3)
    write(tmp_path, "extra", image=IMAGES["bytes"], label=[0, 1] * 3)
    with pytest.warns(UserWarning, match=r"1 tables whose names tell no split \(extra.parquet\)"):
        assert len(load_images(str(tmp_path)).rows) == 6


@pytest.mark.parametrize("more", [[], [f"docs/{i}.jpg" for i in range(20)]])
def test_pictures_beside_a_table_do_not_make_it_a_folder_of_images(tmp_path, more):
    write(tmp_path / "data", image=IMAGES["bytes"], label=[0, 1] * 3)
    for name in ("assets/banner.png", "docs/plot.png", *more):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(CONTENT[0])
    with pytest.warns(UserWarning, match=rf"left out {2 + len(more)} images in no table \(assets/banner.png, docs"):
        assert load_images(str(tmp_path)).classes == ("0", "1")


def test_a_table_whose_columns_cannot_be_guessed_is_not_passed_over_for_pictures(tmp_path):
    write(tmp_path / "data", image=IMAGES["bytes"], target=[0, 1] * 3, cls=[0, 1] * 3)
    for name in ("assets/banner.png", "docs/plot.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(CONTENT[0])
    with pytest.warns(UserWarning, match="2 images in no table"), pytest.raises(DataError, match="2 label columns"):
        load_images(str(tmp_path))


@pytest.mark.parametrize("kind", ["paths", "struct of paths"])
def test_images_that_no_table_lists_are_named(tmp_path, kind):
    write(with_pictures(tmp_path) / "data", image=IMAGES[kind][:4], label=[0, 1] * 2)
    write(tmp_path / "data", "test", image=IMAGES[kind][4:5], label=[0])
    with pytest.warns(UserWarning, match=r"left out 1 images in no table \(pics/5.png\)"):
        assert shades(load_images(str(tmp_path))) == [0, 1, 2, 3]


def test_a_table_without_images_does_not_hide_a_folder_of_images(tmp_path):
    for name in ("ant/1.png", "bee/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(CONTENT[0])
    write(tmp_path, "embeddings", vector=[[0.5, 0.5]] * 6, y=[0, 1] * 3)
    with pytest.warns(UserWarning, match=r"1 tables without images \(embeddings.parquet\)"):
        assert load_images(str(tmp_path)).classes == ("ant", "bee")


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")  # datasets'
@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_images_whose_labels_are_in_a_metadata_file(tmp_path, form):
    with_pictures(tmp_path)
    listed = [{"file_name": f"pics/{i}.png", "label": "ab"[i % 2]} for i in range(5)]
    lines = (
        [json.dumps(row) for row in listed]
        if form == "jsonl"
        else ["file_name,label"] + [f"{row['file_name']},{row['label']}" for row in listed]
    )
    (tmp_path / f"metadata.{form}").write_text("\n".join(lines))
    with pytest.warns(UserWarning, match="1 images are not read; list them in the metadata file"):
        images = load_images(str(tmp_path))
    assert (images.classes, shades(images)) == (("a", "b"), list(range(5)))


def test_a_metadata_file_without_labels_leaves_them_to_the_folders(tmp_path):
    for name in ("ant/1.png", "bee/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(CONTENT[0])
    (tmp_path / "metadata.jsonl").write_text(
        '{"file_name": "ant/1.png", "width": 8}\n{"file_name": "bee/1.png", "width": 8}\n'
    )
    assert load_images(str(tmp_path)).classes == ("ant", "bee")


# Commands and recipes


def commands(monkeypatch) -> dict[str, click.Command]:
    """Every command and recipe that takes a dataset."""
    found = dict(main.commands)
    for file in sorted(RECIPES.glob("*.py")):
        spec = importlib.util.spec_from_file_location(file.stem, file)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, file.stem, module)  # dataclasses look there
        spec.loader.exec_module(module)
        if isinstance(getattr(module, "main", None), click.Command):
            found[file.name] = module.main
    return {name: command for name, command in found.items() if any(p.name == "dataset" for p in command.params)}


def test_whatever_takes_a_dataset_takes_its_columns(monkeypatch):
    found = commands(monkeypatch)
    assert {"search", "compare", "train_supernet.py", "evaluate.py"} <= found.keys()
    for name, command in found.items():
        assert {"image_column", "label_column"} <= {param.name for param in command.params}, name


def test_what_was_held_out_is_found_by_the_recorded_columns(tmp_path):
    write(tmp_path, image=IMAGES["bytes"], label=[0, 1, 2] * 2, kind=[0, 1] * 3)
    kept = load_images(Source(str(tmp_path), label_column="kind"), holdout=0.5)
    trained = SimpleNamespace(dataset=kept.record, supernet=SimpleNamespace(num_classes=2))
    held = held_out_images(trained, str(tmp_path))
    assert held.record["columns"] == {"image": "image", "label": "kind"}
    assert sorted(shades(held) + shades(kept)) == list(range(6))
    with pytest.raises(DataError, match="3 classes"):
        held_out_images(trained, Source(str(tmp_path), label_column="label"))


def test_the_command_line_tells_what_is_left_out_once_and_in_one_line(tmp_path, capsys):
    for name in ("ant/1.png", "bee/1.png", "stray.png"):
        (tmp_path / "d" / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / "d" / name).write_bytes(CONTENT[0])
    with warnings.catch_warnings(), one_line():
        warnings.simplefilter("default")
        for part in ("kept", "held"):
            load_images(str(tmp_path / "d"), holdout=0.5, part=part)
    assert capsys.readouterr().err == f"{tmp_path / 'd'}: left out 1 beside the folders of classes (stray.png).\n"


@pytest.mark.slow
def test_a_named_column_goes_through_training_and_search(tmp_path):
    write(tmp_path / "d", image=pa.array(CONTENT * 8), target=["a", "b"] * 24, cls=[0, 1, 2] * 16)
    small = ("--dataset", tmp_path / "d", "--output")
    train = ("--space", "sgnas_micro", "--resolution", 16, "--batch-size", 8, "--workers", 0, "--epochs", 1)
    made = run_recipe("train_supernet.py", *small, tmp_path / "net", *train)
    assert made.returncode == 2
    assert "2 label columns (target, cls); name one with --label-column." in made.stderr
    made = run_recipe("train_supernet.py", *small, tmp_path / "net", *train, "--label-column", "target")
    assert made.returncode == 0, made.stderr
    taught = run_recipe("train_generator.py", *small, tmp_path / "gen", "--supernet", tmp_path / "net", "--epochs", 1,
                        "--batch-size", 4, "--workers", 0)  # fmt: skip
    assert taught.returncode == 0, taught.stderr
    searched = CliRunner().invoke(main, [str(word) for word in (
        "search", "--supernet", tmp_path / "net", *small, tmp_path / "found", "--flops", "4M", "--population", 2,
        "--generations", 0, "--workers", 0,
    )])  # fmt: skip
    assert searched.exit_code == 0, searched.output
    assert json.loads((tmp_path / "found" / "result.json").read_text())["dataset"]["columns"]["label"] == "target"


def run_recipe(*arguments):
    return warm.run(RECIPES / arguments[0], *arguments[1:], env={**os.environ, "HF_HUB_OFFLINE": "1"})
