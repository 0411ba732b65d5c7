"""Cards: what they hold, that they are the same whenever they are rendered, and that no config can break into one."""

import copy
import json
import random
import re
import tempfile
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
import yaml
from huggingface_hub import ModelCard, parse_eval_result_entries
from hypothesis import given, settings
from hypothesis import strategies as st

from sgnas_zoo import create_model, save_model
from sgnas_zoo.errors import ArtifactError
from sgnas_zoo.files import read_config, write_json
from sgnas_zoo.hub.cards import EVALUATION, card_files, text, write_card
from sgnas_zoo.hub.cards.parts import recipe_sha256
from sgnas_zoo.hub.cards.pictures import draw
from sgnas_zoo.hub.supernets import TrainedSupernet, save_supernet
from sgnas_zoo.spaces import SPACES
from sgnas_zoo.supernet import UnifiedSupernet
from sgnas_zoo.zoo import ARTIFACTS

ARCH = "53-35-573-33-55-73-353-35"
COMMIT, DIGEST, TOKEN = "a" * 40, "b" * 64, "hf_" + "AbCdEfGhIjKlMnOpQrStUvWxYz012345"
METRICS = {
    "top1": 91.23456, "top5": 99.5, "loss": 0.4, "images": 10000, "skipped": 2, "source": "uoft-cs/cifar10",
    "split": "test", "part": "kept", "limit": None, "seed": 0, "epochs": 80, "hours": 1.5, "processes": 1, "ema": True,
}  # fmt: skip
MODEL = {
    "architecture": "sgnas",
    "num_classes": 10,
    "num_features": 256,
    "model_args": {"arch": ARCH, "space": "sgnas_micro"},
    "pretrained_cfg": {"input_size": [3, 32, 32], "license": "mit", "num_classes": 10},
    "zoo": {
        "weights": "fine-tuned", "space": "sgnas_micro", "arch": ARCH, "form": "search", "resolution": 32,
        "num_classes": 10, "in_chans": 3, "macs": 3_900_000, "params": 120_345, "trained_at": 32,
        "requested": {"flops": 4_000_000, "latency_ms": 5}, "latency_ms": 4.56789,
        "latency_conditions": {"device": "a small board", "threads": 1},
        "dataset": {"source": "uoft-cs/cifar10", "revision": COMMIT, "split": "train", "limit": None},
        "generator": {"id": "sgnas_zoo/sgnas_micro_generator", "revision": None, "sha256": DIGEST},
        "started_from": {
            "model": "hf-hub:me/base@v1", "weights": "inherited", "loaded_from": {"id": "me/base", "revision": COMMIT},
            "supernet": {"id": "/home/somebody/runs/supernet", "revision": None, "sha256": DIGEST},
        },
        "training": {"recipe": "finetune", "epochs": 80, "opt": "sgd", "dataset": "/home/somebody/data"},
        "metrics": METRICS,
    },
}  # fmt: skip
GENERATOR = {
    "artifact": "generator",
    "format_version": 1,
    "space": "sgnas_micro",
    "cost": "macs",
    "conditions": {"form": "search", "resolution": 32, "num_classes": 10, "in_chans": 3},
    "range": [2_000_000, 8_000_000],
    "prior": ARCH,
    "width": 32,
    "target_chs": 10,
}
SUPERNET = {
    "artifact": "supernet",
    "format_version": 1,
    "space": "sgnas_micro",
    "num_classes": 10,
    "in_chans": 3,
    "resolution": 32,
    "classes": ["cat"],
    "dataset": {"source": "uoft-cs/cifar10", "revision": COMMIT, "split": "train", "holdout": 0.1, "seed": 0},
    "training": {
        "space": "sgnas_micro", "epochs": 60, "batch_size": 128, "sampler": "fair", "paths": 1, "lr": 0.25,
        "hours": 3.17, "processes": 2, "final": {"epoch": 60, "train_loss": 1.1, "top1_narrow": 71.25},
    },
}  # fmt: skip
EVALUATION_OF = {
    "model": {},
    "generator": {
        "origin": "Trained by recipes/train_generator.py.", "covered": "two to eight million MACs",
        "notes": ["Ten epochs of something else lost 0.5 points."],
        "agreement": {"agreeing": 90, "compared": 96, "whole": 1, "architectures": 2},
        "rows": [{"target": 4_000_000, "argmax": 4_100_000, "decoded": 3_990_000}],
        "supernet": {"id": "me/supernet", "revision": COMMIT, "sha256": DIGEST},
        "training": {"recipe": "train_generator", "epochs": 50, "hours": 2.0, "processes": 1},
        "follows": {"distance_percent": 1.25, "kendall_tau": 0.987},
    },
    "supernet": {
        "budgets": [{"requested": 4e6, "achieved": 3.9e6, "arch": ARCH, "top1": 70.5, "random_top1": [60.0, 62.0]}],
        "over_budget": 0, "lead_over_random": 9.5, "lead_standard_error": 0.25,
        "kendall_tau": 0.75, "retrained": [{"epochs": 3}, {"epochs": 3}],
        "dataset": {"source": "uoft-cs/cifar10", "split": "test", "limit": 2000},
    },
}  # fmt: skip
CONFIGS = {"model": MODEL, "generator": GENERATOR, "supernet": SUPERNET}
KEYS = {
    "base_model", "base_model_relation", "datasets", "library_name", "license", "metrics", "model-index",
    "pipeline_tag", "tags",
}  # fmt: skip


def put(folder, config, evaluation=None):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    if evaluation:
        (folder / EVALUATION).write_text(json.dumps(evaluation))
    return folder


def rendered(config, evaluation=None, **kwargs):
    with tempfile.TemporaryDirectory() as name:
        return card_files(put(Path(name), config, evaluation), **{"name": "net", **kwargs})


def card(config, evaluation=None, **kwargs):
    return rendered(config, evaluation, **kwargs)["README.md"].decode()


def front(text):
    """The front matter, and what follows it."""
    start, block, body = text.split("---\n", 2)
    assert start == ""
    return yaml.safe_load(block), body


def changed(config, path, value):
    result = copy.deepcopy(config)
    inner = result
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return result


# --- what a card holds


def test_the_card_of_a_model():
    data, body = front(card(MODEL, repo="me/tuned"))
    assert (data["license"], data["library_name"], data["pipeline_tag"]) == ("mit", "timm", "image-classification")
    assert {"timm", "sgnas-zoo", "neural-architecture-search", "sgnas_micro"} <= set(data["tags"])
    assert (data["datasets"], data["base_model"]) == (["uoft-cs/cifar10"], "me/base")
    assert data["base_model_relation"] == "finetune"
    assert set(data) == KEYS
    for fact in (
        "# net\n", "import sgnas_zoo", '"hf-hub:me/tuned", pretrained=True', "AutoModelForImageClassification",
        "fine-tuned", "not on ImageNet", "10 classes", "4,000,000", "3,900,000", "120,345", "4.568 ms",
        "`device: a small board`", ARCH, "architecture.svg", "91.23 %", "10,000 images; 2 could not be read",
        "`me/base`", COMMIT, DIGEST[:16], "Recipe `finetune`", "`epochs: 80`", "1.5 hours on 1 process.",
        "one multiply-accumulate is one FLOP", "2103.07289", "1904.00420", "2003.11236", "`search` form",
    ):  # fmt: skip
        assert fact in body, fact
    assert "/home" not in body  # a machine's folders are nobody's business
    assert "sgnas_zoo/sgnas_micro_generator" in body


def test_an_untrained_model_says_so_first():
    config = changed(MODEL, ["zoo"], {"weights": "untrained", "macs": 1, "params": 1})
    data, body = front(card(config))
    assert body.index("The weights are untrained") < body.index("## Use")
    assert not {"model-index", "datasets", "base_model"} & set(data)
    assert "local-dir:FOLDER" in body
    assert "hf-hub:USER/NAME" in body
    assert "ms" not in re.sub(r"\W", " ", body).split()


def test_a_lite_network_says_what_that_is():
    assert "in the `lite` (ReLU6, no squeeze-and-excitation) form" in card(changed(MODEL, ["zoo", "form"], "lite"))


@pytest.mark.parametrize("form", ["search", "final"])
def test_inherited_weights(form):
    source = {"id": "me/supernet@v1", "revision": COMMIT, "sha256": DIGEST}
    record = {"weights": "inherited", "form": form, "supernet": source, "dataset": "cifar10", "trained_at": 32}
    data, body = front(card(changed(MODEL, ["zoo"], record)))
    assert (data["base_model"], data["datasets"]) == ("me/supernet", ["cifar10"])
    assert f"`{form}` form" in body
    for config in (
        changed(MODEL, ["zoo"], {**record, "supernet": {**source, "revision": None}}),
        changed(MODEL, ["zoo"], {**record, "supernet": {**source, "id": "sgnas_zoo/sgnas_micro_supernet"}}),
        changed(MODEL, ["zoo"], {**record, "supernet": None}),
    ):
        assert "base_model" not in front(card(config))[0]


@pytest.mark.parametrize("weights", ["retrained", "untrained"])
def test_weights_from_scratch_have_no_base(weights):
    record = {**MODEL["zoo"], "weights": weights, "supernet": {"id": "me/supernet", "revision": COMMIT}}
    data, body = front(card(changed(MODEL, ["zoo"], record)))
    assert "base_model" not in data
    assert "me/" not in body.replace("hf-hub:USER/NAME", "")
    assert ("model-index" in data) == ("datasets" in data) == (weights == "retrained")


def test_imagenet_weights_are_not_told_to_be_others():
    config = changed(MODEL, ["zoo", "dataset", "source"], "ILSVRC/imagenet-1k")
    assert "not on ImageNet" not in card(config)


def test_any_timm_model_has_a_card(tmp_path):
    cfg = {"input_size": [3, 224, 224], "license": "apache-2.0"}
    files = rendered({"architecture": "resnet18", "pretrained_cfg": cfg, "zoo": {"weights": "unknown"}})
    assert list(files) == ["README.md"]
    assert "do not take them for ImageNet weights" in files["README.md"].decode()
    files = rendered({"architecture": "sgnas_a", "pretrained_cfg": cfg, "num_classes": 0})
    assert list(files) == ["README.md", "architecture.svg"]
    assert front(files["README.md"].decode())[0]["pipeline_tag"] == "image-feature-extraction"


def test_the_card_of_a_generator():
    data, body = front(card(GENERATOR, EVALUATION_OF["generator"], repo="me/generator"))
    assert data["library_name"] == "sgnas-zoo"
    assert "pipeline_tag" not in data
    for fact in (
        '"me/generator"', "flops=5_000_000", "2,000,000 to 8,000,000", ARCH, "93.75% of the 2 x 48 slots agree",
        "1 of 2 architectures", "| 4 | 4.100 | 3.990 | 99.75% |", "`me/supernet`", "Recipe `train_generator`", "0.987",
        "1.2 %", "Origin: Trained by", "2 hours on 1 process",
    ):  # fmt: skip
        assert fact in body, fact
    assert "## Requested and generated" not in card(GENERATOR)
    assert "params=[" in card({**GENERATOR, "cost": "params"})


def test_the_card_of_a_supernet():
    data, body = front(card(SUPERNET, EVALUATION_OF["supernet"], repo="me/supernet"))
    assert data["datasets"] == ["uoft-cs/cifar10"]
    for fact in (
        'pretrained="me/supernet"', "| sampler | `fair` |", "10% of it held out (seed 0)",
        "| 4 | 3.900 | 97.50% | 70.50 | 61.00 |", "0 of 1", "+9.50 ± 0.25 points (standard error over budgets)",
        "2 networks trained from scratch (3 epochs each): 0.750",
        "`narrow` | 71.25", "Recipe `train_supernet`", "3.17 hours on 2 processes", "a draw of 2,000",
    ):  # fmt: skip
        assert fact in body, fact
    assert "## Measured" not in card(SUPERNET)


def test_evidence_of_newer_recipes_has_top5_intervals_and_curves(tmp_path):
    newer = changed(EVALUATION_OF["supernet"], ("images",), 2000)
    newer["budgets"][0]["top5"] = 91.25
    text = card(SUPERNET, newer)
    assert "| 4 | 3.900 | 97.50% | 70.50 ± 2.00 | 91.25 | 61.00 |" in text
    assert "95 % interval over 2,000 images" in text
    assert "top-5" not in card(SUPERNET, EVALUATION_OF["supernet"])
    folder = put(tmp_path / "net", SUPERNET, newer)
    assert "curves.png" not in card_files(folder)["README.md"].decode()
    (folder / "curves.png").write_bytes(b"")
    assert card_files(folder)["README.md"].decode().count("(curves.png)") == 1


@pytest.mark.parametrize("kind", CONFIGS)
def test_rendering_twice_gives_the_same_bytes(tmp_path, kind):
    folder = put(tmp_path / "it", CONFIGS[kind], EVALUATION_OF[kind])
    first = card_files(folder)
    write_card(folder)
    assert card_files(folder) == first
    assert all((folder / path).read_bytes() == content for path, content in first.items())
    assert first["README.md"].decode() == str(ModelCard(first["README.md"].decode()))
    assert b"# it\n" in first["README.md"]
    assert card_files(folder, "me/named")["README.md"] != first["README.md"]
    assert b"# named\n" in card_files(folder, "me/named")["README.md"]


def test_the_digest_of_a_recipe():
    base = recipe_sha256("retrain", {"lr": 0.1, "epochs": 2})
    assert base == recipe_sha256("retrain", {"epochs": 2, "lr": 0.1})
    assert len({base, recipe_sha256("finetune", {"lr": 0.1, "epochs": 2}), recipe_sha256("retrain", {"lr": 0.1})}) == 3
    assert base[:16] in card(changed(MODEL, ["zoo", "training"], {"recipe": "retrain", "lr": 0.1, "epochs": 2}))
    longer = changed(SUPERNET, ["training", "hours"], 9.0)
    digest = re.compile(r"settings `(\w{16})`")
    assert digest.search(card(longer))[1] == digest.search(card(SUPERNET))[1]  # what a run took is not a setting


# --- figures that machines read


def test_figures_come_back_from_the_metadata():
    results = ModelCard(card(MODEL)).data.eval_results
    assert [(r.metric_type, r.metric_value) for r in results] == [("accuracy", 91.2346), ("top_5_accuracy", 99.5)]
    assert {(r.dataset_type, r.dataset_split, r.dataset_revision) for r in results} == {
        ("uoft-cs/cifar10", "test", COMMIT)
    }
    assert ModelCard(card(MODEL)).data.model_name == "net"


def test_figures_come_back_from_their_own_file():
    path = ".eval_results/sgnas_zoo_uoft-cs_cifar10.yaml"
    entries = parse_eval_result_entries(yaml.safe_load(rendered(MODEL)[path]))
    assert [(e.dataset_id, e.dataset_revision, e.value) for e in entries] == [
        ("uoft-cs/cifar10", COMMIT, 91.2346), ("uoft-cs/cifar10", COMMIT, 99.5)
    ]  # fmt: skip
    assert len({entry.task_id for entry in entries}) == 2


@pytest.mark.parametrize(
    ("changes", "indexed", "filed"),
    [
        ({}, True, True),
        ({"source": "cifar10"}, True, False),
        ({"source": "/home/somebody/cats"}, True, False),
        ({"source": "no such [name]"}, False, False),
        ({"limit": 2000}, False, False),
        ({"part": "held"}, False, False),
        ({"top1": None}, False, False),
        ({"source": None}, False, False),
    ],
)
def test_only_whole_splits_of_named_datasets_are_published(changes, indexed, filed):
    files = rendered(changed(MODEL, ["zoo", "metrics"], {**METRICS, **changes}))
    data, body = front(files["README.md"].decode())
    assert ("model-index" in data) == indexed
    assert any(path.startswith(".eval_results") for path in files) == filed
    assert ("91.23 %" in body) == (changes not in ({"top1": None}, {"source": None}))
    assert "/home" not in files["README.md"].decode()


def test_what_evaluate_wrote_comes_before_the_record():
    dataset = {"source": "me/other", "revision": "c" * 40, "split": "validation", "limit": None, "holdout": 0.0}
    found = {"top1": 88.0, "top5": 97.0, "images": 500, "skipped": 0, "dataset": {**dataset, "part": "kept"}}
    files = rendered(MODEL, found)
    assert ".eval_results/sgnas_zoo_me_other.yaml" in files
    assert ModelCard(files["README.md"].decode()).data.eval_results[0].metric_value == 88.0
    assert "91.23" not in files["README.md"].decode()
    assert "model-index" not in card(MODEL, {**found, "dataset": {**dataset, "holdout": 0.1}})


def test_figures_of_another_classifier_are_left_out():
    assert "91.23" not in card({**MODEL, "num_classes": 3})
    assert "91.23" in card(MODEL)


def test_five_guesses_of_four_classes_are_no_figure():
    assert "Top-5" not in card({**changed(MODEL, ["zoo", "num_classes"], 4), "num_classes": 4})
    assert "Top-5" in card(MODEL)


# --- what is on disk


def test_writing_leaves_what_is_not_ours(tmp_path):
    folder = put(tmp_path / "net", MODEL)
    write_card(folder)
    results = folder / ".eval_results"
    assert {path.name for path in results.iterdir()} == {"sgnas_zoo_uoft-cs_cifar10.yaml"}
    (results / "theirs.yaml").write_text("[]")
    put(folder, changed(MODEL, ["zoo", "metrics"], {**METRICS, "source": "me/data"}))
    write_card(folder)
    assert {path.name for path in results.iterdir()} == {"sgnas_zoo_me_data.yaml", "theirs.yaml"}
    (results / "theirs.yaml").unlink()
    (folder / "architecture.png").write_bytes(b"a picture as it was once")
    write_card(folder)
    assert {path.name for path in folder.iterdir()} == {
        "README.md", "architecture.svg", "config.json", ".eval_results",
    }  # fmt: skip
    put(folder, {**changed(MODEL, ["zoo"], {}), "model_args": {}})
    write_card(folder)
    assert {path.name for path in folder.iterdir()} == {"README.md", "config.json"}


def test_links_lead_nowhere(tmp_path):
    folder, outside = put(tmp_path / "net", MODEL), tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("mine")
    (folder / "README.md").symlink_to(outside / "file")
    with pytest.raises(ArtifactError, match=r"README\.md would be lost"):
        write_card(folder)
    assert (outside / "file").read_text() == "mine"
    (folder / "README.md").unlink()
    write_card(folder)
    (folder / EVALUATION).symlink_to(outside / "file")
    with pytest.raises(ArtifactError, match="is a link"):
        write_card(folder)
    (folder / EVALUATION).unlink()
    (folder / ".eval_results" / "sgnas_zoo_uoft-cs_cifar10.yaml").unlink()
    (folder / ".eval_results").rmdir()
    (folder / ".eval_results").symlink_to(outside)
    with pytest.raises(ArtifactError, match="not a folder"):
        write_card(folder)
    assert [path.name for path in outside.iterdir()] == ["file"]


def test_a_saved_model_has_its_picture_and_its_usage_lines_work(tmp_path):
    torch.manual_seed(0)
    model = create_model("sgnas", space="sgnas_micro", arch=ARCH).eval()
    folder = save_model(model, tmp_path / "net", weights="untrained")
    assert (folder / "architecture.svg").read_bytes() == draw(SPACES["sgnas_micro"].parse(ARCH))
    assert (folder / "README.md").read_bytes() == card_files(folder)["README.md"]
    names = run_usage(folder)
    x = torch.randn(1, 3, 32, 32)
    assert torch.equal(names["model"](x), model(x))


def test_the_card_of_a_taught_generator_tells_how_well_its_teacher_predicts():
    additive = {"paths": 400, "error": 0.512, "spread": 2.25, "pairs": False}
    told = {**EVALUATION_OF["generator"], "additive": additive, "lost": 0.123}
    _, body = front(card(GENERATOR, told, repo="me/generator"))
    assert "accuracy of 400 random paths" in body
    assert "an error of 0.51 points, where paths differ by 2.25" in body
    assert "scores 0.12 points less than the best" in body
    assert "sum over layers" not in front(card(GENERATOR, EVALUATION_OF["generator"], repo="me/generator"))[1]


def test_the_usage_lines_of_a_generator_work():
    assert len(run_usage(ARTIFACTS / "sgnas_imagenet_generator")["generator"].logits(flops=[3e8])) == 1


def test_the_usage_lines_of_a_supernet_work(tmp_path):
    look = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "interpolation": "bicubic", "crop_pct": 1.0}
    images, space = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8), SPACES["sgnas_micro"]
    supernet = UnifiedSupernet(space, 3)
    save_supernet(TrainedSupernet(supernet, 32, ("a", "b", "c"), look, {"source": "noise"}, {}, images), tmp_path)
    write_card(tmp_path)
    with pytest.warns(UserWarning, match="noise"):
        assert run_usage(tmp_path)["model"].num_classes == 3


def run_usage(folder):
    """The names that the first block of Python in a card defines."""
    block = re.search(r"```python\n(.*?)```", card_files(folder)["README.md"].decode(), re.DOTALL)[1]
    names = {}
    exec(block.replace("FOLDER", str(folder)), names)
    return names


# --- pictures

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("name", SPACES)
def test_pictures_differ_where_architectures_do(name):
    space, rng = SPACES[name], random.Random(0)
    archs = [space.sample(rng) for _ in range(6)]
    pictures = [draw(arch) for arch in archs]
    assert len(set(pictures)) == 6
    assert pictures == [draw(arch) for arch in archs]
    for picture, arch in zip(pictures, archs, strict=True):
        assert len(picture) < 20_000
        root = ElementTree.fromstring(picture)
        assert int(root.get("width")) > 20 * len(space.layers)
        assert space.name in root.findtext(f"{SVG}title")
        assert str(arch) in root.findtext(f"{SVG}desc")
        columns = root.findall(f"{SVG}g")
        cells = [[int(text.text) for text in column.findall(f"{SVG}text")] for column in columns]
        kind = space.kind
        assert cells == [[n for pick in picks for n in kind.cells(space.choices[pick].adds)] for picks in arch.picks]
        assert [bool(column.findall(f"{SVG}path")) for column in columns] == [
            layer.stride == 2 for layer in space.layers
        ]
        dots = [kind.marked(space.variant(picks)) for picks in arch.picks]
        assert [bool(column.findall(f"{SVG}circle")) for column in columns] == dots


@pytest.mark.parametrize("name", SPACES)
def test_a_picture_needs_nothing_but_itself_and_is_readable_on_any_page(name):
    root = ElementTree.fromstring(draw(SPACES[name].sample(random.Random(1))))
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= {
        "svg", "title", "desc", "rect", "g", "text", "path", "circle",
    }  # fmt: skip
    names = {attribute for element in root.iter() for attribute in element.attrib}
    assert not {name for name in names if "href" in name or name.startswith("on") or name in ("style", "class")}
    assert root.get("font-family") == "sans-serif"
    paper = root.find(f"{SVG}rect")
    assert (paper.get("width"), paper.get("fill")) == (root.get("width"), "#ffffff")


def test_a_picture_shows_kernels_and_what_is_skipped():
    def fills(string):
        root = ElementTree.fromstring(draw(SPACES["sgnas_micro"].parse(string)))
        return Counter(rect.get("fill") for rect in root.findall(f"{SVG}g/{SVG}rect"))

    threes, sevens, wide = (fills("-".join([token] * 8)) for token in ("3", "7", "333333"))
    assert threes == {"#bad8f0": 8, "#eaedf1": 40}
    assert sevens == {"#1a5296": 8, "#eaedf1": 40}
    assert wide == {"#bad8f0": 48}


def test_words_in_a_picture_are_only_words(monkeypatch):
    micro = SPACES["sgnas_micro"]
    monkeypatch.setattr(type(micro.kind), "legend", "<script>1 & 2</script>\"'", raising=True)
    root = ElementTree.fromstring(draw(micro.sample(random.Random(0))))
    assert root.findtext(f"{SVG}desc").startswith("<script>1 & 2</script>\"'")


# --- configs of somebody else


NASTY = [
    "\n# Heading\n", "\n---\nlicense: gpl\n---\n", "`code`", "```\n# out\n```", "a | b | c",
    "<script>alert(1)</script>", "<!-- ", "[x](http://evil.example)", "![x](http://evil.example/x.png)",
    "[x]: http://evil.example", "---", "===", "{{ 'in' ~ 'jected' }}", "{% include 'x' %}", "{# x",
    "\u202etxt.exe\u2066", "x" * 5000, TOKEN, f"Bearer {TOKEN}.", "https://evil.example", "www.evil.example",
    "&lt;b&gt;", "\r\n## H", "\x00", "\ud800", "**bold**", "$$x$$", "...", "key: [a, b", "!!python/object:os.system",
    "- item", "1. item", "> quote", "\t", "", " ", "../../etc/passwd", "\uff1cscript\uff1e", "me/hf_" + "A" * 25,
    "\\", "'\"", "@someone", "#1", "\u2028# H", "a" + "-" * 50,
]  # fmt: skip
HOSTILE = st.sampled_from(NASTY) | st.lists(st.sampled_from(NASTY), max_size=4).map("".join) | st.text(max_size=60)


def leaves(value, path=()):
    """Paths to everything in a JSON value."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from leaves(inner, (*path, key))


def at(value, path):
    for key in path:
        value = value[key]
    return value


PLACES = [
    (kind, file, path)
    for kind in CONFIGS
    for file, content in ((0, CONFIGS[kind]), (1, EVALUATION_OF[kind]))
    for path in leaves(content)
]
TEXTS = [
    (kind, file, path) for kind, file, path in PLACES if isinstance(at((CONFIGS, EVALUATION_OF)[file][kind], path), str)
]
CHECKED = ("artifact", "space", "arch", "prior")
"""Texts that have to be something known: others are errors."""
OPEN = [("zoo", "requested"), ("zoo", "latency_conditions"), ("zoo", "training")]
"""Objects of a model's config whose keys are free as well."""


def spoilt(kind, file, path, value):
    """A config and an evaluation with one value in place of another."""
    contents = [CONFIGS[kind], EVALUATION_OF[kind]]
    contents[file] = changed(contents[file], path, value)
    return contents


def outline(body):
    """What a reader would see as structure, outside of fenced code."""
    prose = re.sub(r"^```.*?^```$", "", body, flags=re.DOTALL | re.MULTILINE)
    bare = re.sub(r"`[^`\n]*`", "", prose)
    return {
        "headings": re.findall(r"^#+ .*$", prose, re.MULTILINE),
        "rules": re.findall(r"^ {0,3}[-=_*]{3,}\s*$", prose, re.MULTILINE),
        "html": re.findall(r"<[^\s\d]", body),
        "images": re.findall(r"!\[.*?\]\(.*?\)", prose),
        "links": re.findall(r"(?<!!)\[[^\]]*\][(\[:]|https?://|www\.", bare),
        "templates": re.findall(r"\{\{|\{%|\{#|injected", bare),
        "fences": len(re.findall(r"^```", body, re.MULTILINE)),
        "lists": re.findall(r"^\s*(?:[+*>]|\d+[.)]) .*$", prose, re.MULTILINE),
        "odd": [c for c in body if c in "\u202e\u2066\u2028\x00\t\r"],
    }


def check_whole(files, expected):
    """One front matter of known keys, and no structure that the templates have not."""
    text = files["README.md"].decode()
    data, body = front(text)
    assert set(data) <= KEYS
    assert not re.search("hf_[A-Za-z0-9]{20,}", str(files))
    assert max(map(len, text.splitlines())) < 3000
    found = outline(body)
    assert set(found["headings"][1:]) <= set(expected["headings"])
    assert len(set(found["headings"])) == len(found["headings"]) == len(re.findall(r"^\s*#", body, re.MULTILINE))
    assert [name for name in ("rules", "html", "links", "templates", "odd") if found[name]] == []
    assert found["images"] in ([], ["![architecture](architecture.svg)"])
    assert found["lists"] == [] or found["lists"][0].startswith("> **The weights are untrained")
    assert found["fences"] % 2 == 0
    tables = re.findall(r"(?:^\|.*\|\n)+", body, re.MULTILINE)
    assert all(len({row.count("|") for row in table.splitlines()}) == 1 for table in tables)
    assert all(line.startswith("|") for line in body.splitlines() if "|" in re.sub("`[^`]*`", "", line))


BASELINE = {kind: outline(front(card(CONFIGS[kind], EVALUATION_OF[kind]))[1]) for kind in CONFIGS}


def test_the_check_sees_what_it_is_for():
    """Each kind of break that the tests below look for, put into a card by hand."""
    files = rendered(MODEL)
    text = files["README.md"].decode()
    check_whole(files, BASELINE["model"])
    for line in ("# Another", "---", "<b>", "![x](y)", "[x](y)", "www.evil.example", "{{ x }}", "```", "a | b", TOKEN):
        with pytest.raises(AssertionError):
            check_whole({"README.md": f"{text}\n{line}\n".encode()}, BASELINE["model"])
    with pytest.raises(AssertionError):
        check_whole({"README.md": text.replace("license: mit", "license: mit\nevil: 1").encode()}, BASELINE["model"])


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("text", NASTY)
def test_no_text_breaks_into_a_card_from_everywhere_at_once(kind, text):
    contents = [CONFIGS[kind], EVALUATION_OF[kind]]
    free = [(file, path) for of, file, path in TEXTS if of == kind and path[-1] not in CHECKED]
    for file, path in free:
        contents[file] = changed(contents[file], path, text)
    assert len(free) >= 7
    check_whole(rendered(*contents, name=text), BASELINE[kind])


@settings(max_examples=300, deadline=None)
@given(place=st.sampled_from(TEXTS), value=HOSTILE)
def test_no_text_breaks_into_a_card(place, value):
    kind, file, path = place
    config, evaluation = spoilt(kind, file, path, value)
    try:
        files = rendered(config, evaluation)
    except ArtifactError as error:
        check_line(error)
        return
    check_whole(files, BASELINE[kind])


@settings(max_examples=100, deadline=None)
@given(path=st.sampled_from(OPEN), key=HOSTILE, value=HOSTILE | st.just(5))
def test_no_key_breaks_into_a_card(path, key, value):
    try:
        files = rendered(changed(MODEL, [*path], {**at(MODEL, path), key: value}))
    except ArtifactError as error:
        check_line(error)
        return
    check_whole(files, BASELINE["model"])


@settings(max_examples=60, deadline=None)
@given(kind=st.sampled_from([*CONFIGS]), name=HOSTILE)
def test_no_name_breaks_into_a_card(kind, name):
    files = rendered(CONFIGS[kind], EVALUATION_OF[kind], name=name)
    check_whole(files, BASELINE[kind])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(10**300, 10**400) | st.floats() | HOSTILE,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(HOSTILE, inner, max_size=3),
    max_leaves=4,
)


@settings(max_examples=300, deadline=None)
@given(place=st.sampled_from(PLACES), value=JSON)
def test_any_value_gives_a_card_or_an_error_of_ours(place, value):
    kind, file, path = place
    try:
        files = rendered(*spoilt(kind, file, path, value))
    except ArtifactError as error:
        check_line(error)
        return
    if path != ("artifact",):
        check_whole(files, BASELINE[kind])


def check_line(error):
    """One line of moderate length, with a next step and without markup or tokens."""
    assert re.fullmatch(r"[^\n]{10,500}[;:] [^\n]+\.", str(error)), error
    assert not re.search("hf_[A-Za-z0-9]{20,}|[\u202e\x00]", str(error))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["zoo", "macs"], "many"),
        (["zoo", "macs"], True),
        (["zoo", "macs"], 1e300),
        (["zoo", "params"], -1),
        (["zoo", "requested"], "4M"),
        (["zoo", "requested", "flops"], [4e6]),
        (["zoo", "metrics", "top1"], 101),
        (["zoo", "metrics"], [1]),
        (["zoo", "generator"], 7),
        (["zoo"], "record"),
        (["model_args", "arch"], "3-3"),
        (["model_args", "space"], "nowhere"),
        (["pretrained_cfg", "input_size"], "224"),
        (["pretrained_cfg", "license"], ["mit"]),
    ],
)
def test_a_field_of_another_type_is_an_error(path, value):
    with pytest.raises(
        ArtifactError, match=r"is not (valid|a JSON object).*; regenerate it with the command or recipe"
    ):
        card(changed(MODEL, path, value))


@pytest.mark.parametrize("depth", [100, 800, 100_000])
def test_nested_without_end(tmp_path, depth):
    put(tmp_path, changed(MODEL, ["zoo", "training", "x"], "DEEP"))
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace('"DEEP"', "[" * depth + "]" * depth))
    try:
        files = card_files(tmp_path, name="net")
    except ArtifactError as error:
        check_line(error)
        assert depth > 100
    else:
        check_whole(files, BASELINE["model"])
        assert depth < 100_000


def test_what_is_no_artifact(tmp_path):
    with pytest.raises(ArtifactError, match="does not exist"):
        card_files(tmp_path)
    for config in ({}, {"artifact": "latency profile"}, {"artifact": None}):
        with pytest.raises(ArtifactError, match="does not describe a model or generator or supernet"):
            card_files(put(tmp_path, config))
    (tmp_path / EVALUATION).write_text("[]")
    with pytest.raises(ArtifactError, match="a JSON object"):
        card_files(put(tmp_path, MODEL))


@pytest.mark.parametrize("repo", ["net", "me/net@v1", "me/net/x", "me/`net`", "me/ net", "", "me/a--b", f"me/{TOKEN}"])
def test_what_is_no_repo(repo):
    with pytest.raises(ArtifactError, match="write USER/NAME") as caught:
        card(MODEL, repo=repo)
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    ("stated", "shown"),
    [
        (None, "apache-2.0"), ("mit", "mit"), ("Apache-2.0", "apache-2.0"), ("cc-by-nc-4.0", "cc-by-nc-4.0"),
        ("apache-2.0\nevil: 1", "other"), ("see [here](x)", "other"), ("", "other"), ("no", "no"), ("x" * 60, "other"),
    ],
)  # fmt: skip
def test_licenses(stated, shown):
    assert front(card(changed(MODEL, ["pretrained_cfg", "license"], stated)))[0]["license"] == shown


def test_tokens_are_cut_out_before_text_is_cut():
    long = "a" * 195 + " " + TOKEN
    assert "hf_Ab" not in text.code(long)
    assert text.code(f"x {TOKEN} y") == "`x hf_*** y`"
    assert text.title("\uff48\uff46_" + TOKEN[3:]) == "hf_***"


def test_nothing_of_a_machine_is_shown():
    for path in ("/home/me/data", "~/data", "../data", "C:\\me\\data", "\\\\server\\data"):
        assert text.code(path) == "`data`"
    assert text.code("uoft-cs/cifar10") == "`uoft-cs/cifar10`"


def test_the_embedded_generator_tells_its_figures():
    found = read_config(ARTIFACTS / "sgnas_imagenet_generator" / EVALUATION)
    assert found["agreement"]["architectures"] == 180
    assert found["agreement"]["agreeing"] / found["agreement"]["compared"] >= 0.95
    assert all(row["decoded"] <= row["target"] for row in found["rows"])
    assert len(found["rows"]) == 19


def test_a_card_can_be_written_where_json_was_written(tmp_path):
    write_json(tmp_path / "config.json", GENERATOR)
    write_json(tmp_path / EVALUATION, EVALUATION_OF["generator"])
    write_card(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", EVALUATION, "README.md"}
