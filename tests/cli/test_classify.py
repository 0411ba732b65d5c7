"""Names for images: ``sgnas-zoo classify``."""

import json
import shutil

import pytest
import timm
import torch
from click.testing import CliRunner
from PIL import Image
from timm.data import create_transform, resolve_data_config

import sgnas_zoo
from sgnas_zoo.cli.main import main
from sgnas_zoo.errors import DataError
from sgnas_zoo.training.classification import class_names, classify, find_images

CIFAR = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
pytestmark = [pytest.mark.filterwarnings("ignore:These weights were trained on:UserWarning")]


@pytest.fixture(scope="module")
def micro():
    return sgnas_zoo.create_model(space="sgnas_micro", flops=4e6, pretrained=True).eval()


@pytest.fixture
def pictures(tmp_path):
    """Four images below a folder, one of them grey, and two files that are none."""
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for number, name in enumerate(["a.png", "b.jpg", "deep/c.webp", "deep/er/grey.png"]):
        pixels = torch.randint(0, 256, (40, 50, 3), generator=torch.Generator().manual_seed(number), dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).convert("L" if "grey" in name else "RGB").save(tmp_path / name)
    (tmp_path / "broken.png").write_bytes(b"nothing")
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def call(*arguments, code=0):
    result = CliRunner().invoke(main, ["classify", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


def test_the_classes_are_those_of_the_model_on_the_transformed_image(pictures, micro, tmp_path):
    sgnas_zoo.save_model(micro, tmp_path / "model")
    files = [pictures / "a.png", pictures / "deep" / "er" / "grey.png"]
    rows = json.loads(call(*files, "--model", tmp_path / "model", "--json").stdout)
    transform = create_transform(**resolve_data_config({}, model=micro))
    for file, row in zip(files, rows, strict=True):
        with torch.no_grad():
            wanted = micro(transform(Image.open(file).convert("RGB"))[None]).softmax(1)[0]
        assert row["image"] == str(file)
        assert [guess["label"] for guess in row["top"]] == wanted.topk(5).indices.tolist()
        assert [guess["name"] for guess in row["top"]] == [CIFAR[i] for i in wanted.topk(5).indices]
        assert [guess["probability"] for guess in row["top"]] == pytest.approx(wanted.topk(5).values.tolist(), rel=1e-4)


def test_a_table_names_each_image_with_its_classes(pictures, micro, tmp_path):
    sgnas_zoo.save_model(micro, tmp_path / "model")
    shown = call(pictures / "a.png", "--model", tmp_path / "model", "--top", 2).stdout.splitlines()
    assert shown[0] == str(pictures / "a.png")
    assert len(shown) == 3
    assert all(line.split("%  ")[1] in CIFAR for line in shown[1:])


def test_without_a_model_the_default_weights_answer(pictures):
    result = call(pictures / "a.png", "--top", 1)
    assert "These weights were trained on" in result.stderr
    assert len(result.stdout.splitlines()) == 2


def test_files_folders_and_patterns_hold_each_image_once(pictures, monkeypatch):
    whole = [str(pictures / name) for name in ("a.png", "b.jpg", "broken.png", "deep/c.webp", "deep/er/grey.png")]
    assert find_images([str(pictures)]) == whole
    assert find_images([str(pictures / "a.png"), str(pictures)]) == whole
    assert find_images([str(pictures / "*.jpg")]) == [whole[1]]
    assert find_images([str(pictures / "**" / "*.webp")]) == [whole[3]]
    assert find_images([str(pictures / "de*")]) == whole[3:]
    shutil.copy(whole[0], pictures / "[1].png")
    assert find_images([str(pictures / "[1].png")]) == [str(pictures / "[1].png")]
    monkeypatch.chdir(pictures)
    assert find_images(["a.png"]) == ["a.png"]


@pytest.mark.parametrize("place", ["nowhere", "*.gif", "empty"])
def test_a_place_without_images_is_refused(place, pictures, monkeypatch):
    monkeypatch.chdir(pictures)
    (pictures / "empty").mkdir()
    said = call("a.png", place, code=2).stderr
    assert said == (
        f"Error: There are no images at {place}; give image files, folders, or patterns such as 'photos/*.jpg'.\n"
    )


def test_what_cannot_be_read_is_left_out_and_named(pictures, micro, tmp_path):
    sgnas_zoo.save_model(micro, tmp_path / "model")
    result = call(pictures / "broken.png", pictures / "a.png", "--model", tmp_path / "model", "--json")
    assert [row["image"] for row in json.loads(result.stdout)] == [str(pictures / "a.png")]
    assert f"Left out {pictures / 'broken.png'}: it is not an image that Pillow reads\n" in result.stderr
    said = call(pictures / "broken.png", "--model", tmp_path / "model", code=2)
    assert said.stderr.endswith("Error: None of the images can be read; give images that Pillow opens.\n")
    assert said.stdout == ""


def test_classes_have_the_names_that_are_known():
    assert class_names(timm.create_model("sgnas_a"))[:2] == ["tench, Tinca tinca", "goldfish, Carassius auratus"]
    assert class_names(timm.create_model("resnet18", num_classes=3)) == ["class 0", "class 1", "class 2"]
    with pytest.warns(UserWarning, match="The classifier is new"):
        other = sgnas_zoo.create_model(space="sgnas_micro", flops=4e6, pretrained=True, num_classes=3)
    assert class_names(other) == ["class 0", "class 1", "class 2"]


def test_no_more_classes_come_than_there_are(pictures, micro):
    (found,) = classify(micro, [str(pictures / "a.png")], top=50)
    assert len(found.guesses) == 10
    assert sum(guess.probability for guess in found.guesses) == pytest.approx(1)


def test_models_of_grey_images_see_grey_and_others_are_refused(pictures):
    image = str(pictures / "a.png")
    assert len(next(classify(timm.create_model("sgnas_a", in_chans=1, num_classes=3), [image])).guesses) == 3
    with pytest.raises(DataError, match="takes images of 4 channels; name one that classifies images of one or three"):
        next(classify(timm.create_model("sgnas_a", in_chans=4), [image]))
    with pytest.raises(DataError, match="has no classifier"):
        next(classify(timm.create_model("sgnas_a", num_classes=0), [image]))


def test_weights_are_listed_by_tag():
    shown = CliRunner().invoke(main, ["list", "--pretrained"]).stdout.splitlines()
    rows = json.loads(CliRunner().invoke(main, ["list", "--pretrained", "--json"]).stdout)
    assert len(shown) == 1 + len(rows)
    micro = next(row for row in rows if (row["space"], row["tag"]) == ("sgnas_micro", "cifar10"))
    assert micro["num_classes"] == 10
    assert micro["resolution"] == 32
    assert 70 < micro["top1"][0] < micro["top1"][1] < 90
    assert 0.5e6 < micro["bytes"] < 2e6
    missing = next(row for row in rows if row["tag"] == "in1k")
    assert missing["place"] == "not published yet"
    assert shown[1 + rows.index(missing)].endswith("  not published yet")
    assert {row["tag"] for row in rows if row["default"]} == {"cifar10", "cifar10_r64"}
    named = next(row for row in rows if row.get("model") == "sgnas_micro_8m")
    assert (named["num_classes"], named["resolution"], named["place"]) == (10, 32, "in the package")
    assert 80 < named["top1"][0] < 95
    assert shown[1 + rows.index(named)].split()[:2] == ["sgnas_micro_8m", "cifar10"]
