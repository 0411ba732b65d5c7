"""One request, one path: our door and timm's give the same, bounds are upper bounds, and models say what they are."""

import itertools
import json
import random
import warnings
from functools import partial

import numpy as np
import pytest
import timm
import torch
from click.testing import CliRunner
from profiles import made_up
from timm.models import save_for_hf

import sgnas_zoo
from sgnas_zoo import SPACES, create_model, generate, save_model
from sgnas_zoo.api.spaces import choose_space
from sgnas_zoo.cli.main import main
from sgnas_zoo.costs import COSTS, native_conditions
from sgnas_zoo.errors import ArtifactError, BudgetError, SpaceError, UnknownNameError, UntrainedWarning, ZooError
from sgnas_zoo.hub.generators import save_generator
from sgnas_zoo.hub.supernets import TrainedSupernet, save_supernet
from sgnas_zoo.models.counting import count_macs
from sgnas_zoo.models.record import arguments
from sgnas_zoo.search.generator import ArchGenerator
from sgnas_zoo.spaces import families
from sgnas_zoo.supernet import make_supernet
from sgnas_zoo.zoo import default_arch, zoo_entries

MICRO, IMAGENET, BITS = (SPACES[name] for name in ("sgnas_micro", "sgnas_imagenet", "resnet_micro_bits"))
ARCH = "-".join(["3"] * 8)


def table(space, cost="macs"):
    return COSTS[cost].table(space, native_conditions(space))


# --- two doors


@pytest.fixture(scope="module")
def bits(tmp_path_factory):
    """A supernet of another family than SGNAS, and a generator for it; neither was trained."""
    root = tmp_path_factory.mktemp("bits")
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (8, 3, 32, 32), dtype=np.uint8))
    preprocessing = {"mean": (0.5,) * 3, "std": (0.25,) * 3, "interpolation": "bicubic", "crop_pct": 1.0}
    data = {"source": "noise", "split": "train", "holdout": 0.25, "seed": 0, "part": "kept", "files": None}
    for name in ("supernet", "generator"):
        (root / name).mkdir()
    torch.manual_seed(0)
    net = make_supernet(BITS, num_classes=3).eval().requires_grad_(False)
    trained = TrainedSupernet(net, 32, ("a", "b", "c"), preprocessing, data, {}, images)
    save_supernet(trained, root / "supernet")
    prices = COSTS["bitops"].table(BITS, conditions := native_conditions(BITS, form="search", num_classes=3))
    ends = (prices.minimum, prices.maximum)
    save_generator(ArchGenerator(default_arch(BITS.family, BITS), "bitops", conditions, ends, 8), root / "generator")
    return root


CHOICES = {
    "flops": (4e6, 0.9e6, 30e6),
    "params": (1.2e5, 7e6),
    "arch": (ARCH,),
    "space": ("sgnas_micro", "sgnas_imagenet", "spos"),
    "form": ("search",),
    "pretrained": (True, "cifar10", "in1k"),
    "resolution": (24,),
    "num_classes": (7,),
    "in_chans": (1,),
    "drop_rate": (0.3,),
    "generator": ("made",),
}


def combinations():
    """Every keyword alone, every pair of them, and a hundred larger draws."""
    every = [{}]
    for size in (1, 2):
        for names in itertools.combinations(CHOICES, size):
            every += [dict(zip(names, values, strict=True)) for values in itertools.product(*map(CHOICES.get, names))]
    rng = random.Random(0)
    for _ in range(100):
        names = rng.sample(list(CHOICES), rng.randint(3, 7))
        every.append({name: rng.choice(CHOICES[name]) for name in names})
    return every


def outcome(make, asked):
    """What a door gives: the record, what timm keeps, and the weights' shapes and digest, or the error in words."""
    torch.manual_seed(0)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            model = make(**asked)
        except (ZooError, TypeError) as error:
            return type(error).__name__, str(error)
    kept = {name: value for name, value in arguments(model).items() if name in ("arch", "space", "form")}
    state = {name: (tuple(tensor.shape), float(tensor.double().sum())) for name, tensor in model.state_dict().items()}
    return model.zoo, kept, model.pretrained_cfg["tag"], state, sorted(str(one.message) for one in said)


PARTS = 8


@pytest.mark.parametrize("part", [0, 1, *(pytest.param(part, marks=pytest.mark.slow) for part in range(2, PARTS))])
def test_both_doors_give_the_same(part, made):
    found = set()
    for asked in combinations()[part::PARTS]:
        asked = {name: str(made / "generator") if value == "made" else value for name, value in asked.items()}
        one, other = (outcome(partial(door, "sgnas"), asked) for door in (create_model, timm.create_model))
        assert one == other, asked
        found.add(one[0] if isinstance(one[0], str) else "made")
    assert {"made", "BudgetError", "UnknownNameError"} <= found


def test_a_record_is_there_on_every_network_of_ours():
    for name in (*families(), *zoo_entries()):
        model = timm.create_model(name, device="meta")
        assert SPACES[model.zoo["space"]].parse(model.zoo["arch"])


def test_a_profile_of_another_space_is_used_or_refused_alike_at_both_doors():
    PROFILE = made_up()

    asked = {"latency": "20ms", "profile": PROFILE, "measure": False}
    assert create_model(**asked).zoo == timm.create_model("sgnas", **asked).zoo
    for door in (create_model, timm.create_model):
        with pytest.raises(ArtifactError, match="sgnas_imagenet"):
            door("sgnas", space="sgnas_micro", **asked)


def test_a_budget_with_the_folder_of_a_supernet_of_any_family(bits):
    asked = {"bitops": 160e6, "pretrained": str(bits / "supernet"), "generator": str(bits / "generator")}
    with pytest.warns(UserWarning, match=r"trained on the \d+ classes of noise"):
        model = create_model(**asked)
    assert model.zoo["space"] == BITS.name
    assert model.zoo["weights"] == "inherited"
    assert model.zoo["bitops"] <= 160e6
    with pytest.warns(UserWarning, match=r"trained on the \d+ classes of noise"):
        assert create_model(BITS.family, **asked).zoo == model.zoo
    with pytest.raises(UnknownNameError, match=f"Space {BITS.name} belongs to {BITS.family}, not sgnas"):
        create_model("sgnas", **asked)


def test_generators_answer_to_the_budget_of_their_cost(bits):
    generator = sgnas_zoo.load_generator(bits / "generator")
    assert generator.logits(bitops=[160e6]).shape == (1, *BITS.shape)
    for other in ("flops", "params"):
        with pytest.raises(BudgetError, match=r"answers to bitops; call logits\(bitops="):
            generator.logits(**{other: [160e6]})


def test_cards_of_generators_ask_for_the_budget_of_their_cost(bits, tmp_path):
    assert CliRunner().invoke(main, ["card", str(bits / "generator")]).exit_code == 0
    page = (bits / "generator" / "README.md").read_text()
    line = next(line for line in page.splitlines() if line.startswith("sgnas_zoo.generate("))
    generator = sgnas_zoo.load_generator(bits / "generator")
    found = eval(line.partition("#")[0], {"sgnas_zoo": sgnas_zoo, "generator": generator})
    assert "bitops=" in line
    assert found[0].costs["bitops"] > 0


# --- a bound is an upper bound


def test_a_slack_bound_beside_one_that_binds_is_silent():
    (alone,) = generate(flops=4e6)
    (beside,) = generate(flops=4e6, params=5e6)
    assert alone.arch == beside.arch
    assert beside.requested == {"flops": 4_000_000, "params": 5_000_000}


@pytest.mark.parametrize("space", ["sgnas_micro", "sgnas_imagenet"])
@pytest.mark.parametrize("asked", [{"flops": 1e12}, {"flops": 1e12, "params": 1e11}])
def test_where_no_bound_binds_the_largest_comes_back_and_one_line_says_so(space, asked):
    with pytest.warns(UserWarning, match=f"No network of {space} reaches .*; this is its largest, with") as said:
        (found,) = generate(**asked, space=space)
    assert len(said) == 1
    assert found.macs == table(SPACES[space]).maximum


def test_the_command_line_takes_slack_bounds():
    done = CliRunner().invoke(main, ["generate", "--flops", "4M", "--params", "5M"])
    assert (done.exit_code, done.stderr) == (0, "")
    done = CliRunner().invoke(main, ["generate", "--flops", "600M"])
    assert done.exit_code == 0
    assert done.stderr.count("\n") == 1
    assert "this is its largest, with 561,341,440 MACs" in done.stderr


def test_the_largest_space_that_binds_is_taken():
    assert generate(flops=4e6, params=1e9)[0].space == "sgnas_micro"
    assert generate(flops=1e9, params=4e6)[0].space == "sgnas_imagenet"
    assert generate(flops=[80e6, 300e6])[0].space == "sgnas_imagenet"


@pytest.mark.parametrize(
    "asked", [{"flops": 10e6}, {"flops": 76e6}, {"flops": 30e6, "params": 1e9}, {"flops": [4e6, 300e6]},
              {"params": 1e6}, {"flops": 300e6, "params": 1e6}],
)  # fmt: skip
def test_between_two_spaces_the_error_names_both(asked):
    with pytest.raises(BudgetError, match=r"sgnas_micro ends at .*, sgnas_imagenet begins at .*space='sgnas_micro'"):
        generate(**asked)


def test_below_all_spaces_is_an_error_with_a_range():
    with pytest.raises(BudgetError, match=r"below what sgnas_micro can do.*Choose from"):
        generate(flops=1e6)
    with pytest.raises(BudgetError, match=r"did you mean 350e6"):
        generate(flops=350)


@pytest.mark.parametrize("million", [2, 4, 8, 80, 350, 550, 5000])
def test_the_space_that_is_chosen_spends_most(million):
    names, limit = ["sgnas_micro", "sgnas_imagenet"], million * 1e6
    chosen = choose_space({"flops": [limit]}, names)
    spent = {name: table(SPACES[name]).maximum for name in names if table(SPACES[name]).minimum <= limit}
    assert chosen == max(spent, key=lambda name: min(spent[name], limit))


@pytest.mark.parametrize(("million", "side", "space"), [
    (20, 64, "sgnas_imagenet"), (7, 64, "sgnas_micro"), (2, 16, "sgnas_micro"), (14.5, 96, "sgnas_micro"),
])  # fmt: skip
def test_the_side_counts_when_the_space_is_chosen(million, side, space):
    (answer,) = generate(flops=million * 1e6, resolution=side)
    model = create_model(flops=million * 1e6, resolution=side)
    assert answer.space == model.zoo["space"] == space
    assert count_macs(model, side) == model.zoo["macs"] == answer.macs <= million * 1e6


def test_spaces_that_cannot_take_the_side_are_left_out():
    assert choose_space({"flops": [5e6]}, ["sgnas_imagenet", "sgnas_micro"], resolution=16) == "sgnas_micro"
    assert choose_space({"flops": [5e6]}, ["sgnas_imagenet", "sgnas_micro"], resolution=2) == "sgnas_imagenet"


# --- models say what they are


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    return save_model(create_model(flops=4e6), tmp_path_factory.mktemp("made") / "net", weights="untrained")


def test_untrained_weights_are_told_of_at_every_door(untrained):
    from transformers import AutoModelForImageClassification

    for load in (
        lambda: create_model(untrained, pretrained=True),
        lambda: timm.create_model(f"local-dir:{untrained}", pretrained=True),
        lambda: AutoModelForImageClassification.from_pretrained(untrained),
    ):
        with pytest.warns(UntrainedWarning, match="untrained weights: its answers mean nothing") as said:
            load()
        assert len(said) == 1


def test_once_trained_nothing_is_told(untrained, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UntrainedWarning)
        model = create_model(untrained, pretrained=True)
    folder = save_model(model, tmp_path / "net", weights="fine-tuned")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = timm.create_model(f"local-dir:{folder}", pretrained=True)
    assert again.pretrained_cfg["tag"] == "fine-tuned"
    assert "weights" not in json.loads((folder / "config.json").read_text())["model_args"]


def test_the_tag_is_that_of_the_weights(untrained, made, tmp_path):
    assert json.loads((untrained / "config.json").read_text())["pretrained_cfg"]["tag"] == "untrained"
    assert create_model(flops=4e6, pretrained=True).pretrained_cfg["tag"] == "cifar10"
    with pytest.warns(UserWarning, match=r"trained on the \d+ classes of noise"):
        assert create_model(flops=4e6, pretrained=str(made / "supernet")).pretrained_cfg["tag"] == "inherited"
    save_model(timm.create_model("sgnas_a", num_classes=3), tmp_path / "a", weights="untrained")
    assert json.loads((tmp_path / "a" / "config.json").read_text())["pretrained_cfg"]["tag"] == "untrained"


def test_a_new_head_is_told_of(made):
    for load in (
        lambda: create_model(flops=4e6, pretrained=True, num_classes=37),
        lambda: create_model(f"local-dir:{made / 'model'}", pretrained=True, num_classes=37),
    ):
        with pytest.warns(UserWarning, match=r"classifier is new: it has 37 classes, the weights know \d+; fine-tune"):
            assert load().num_classes == 37


def test_both_sides_are_stated_of_inherited_networks(tmp_path):
    with pytest.warns(UserWarning, match=r"the network has 2\d\d\.\dM MACs at 224 px and \d+\.\dM MACs at 64 px"):
        model = create_model(flops=300e6, pretrained=True)
    arch = IMAGENET.parse(model.zoo["arch"])
    there = native_conditions(IMAGENET, form="search", resolution=64, num_classes=model.num_classes)
    assert model.zoo["macs_trained_at"] == COSTS["macs"].table(IMAGENET, there).measure(arch)
    assert (model.zoo["resolution"], model.zoo["trained_at"]) == (224, 64)
    save_model(model, tmp_path / "net")
    page = (tmp_path / "net" / "README.md").read_text()
    assert f"{model.zoo['macs_trained_at']:,} MACs at the 64 px of the weights" in page


def test_what_timm_itself_exports_after_a_budget_is_read(tmp_path):
    model = timm.create_model("sgnas", flops=4e6)
    save_for_hf(model, tmp_path / "net", safe_serialization=True)
    assert json.loads((tmp_path / "net" / "config.json").read_text())["model_args"]["flops"] == 4e6
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        wanted = model.eval()(images)
        for load in (create_model, lambda place, **k: timm.create_model(f"local-dir:{place}", **k)):
            assert torch.equal(load(tmp_path / "net", pretrained=True).eval()(images), wanted)
    config = json.loads((tmp_path / "net" / "config.json").read_text())
    config["model_args"]["generator"] = "somebody/generator"  # what led to an architecture is not followed
    (tmp_path / "net" / "config.json").write_text(json.dumps(config))
    create_model(tmp_path / "net", pretrained=True)
    timm.create_model(f"local-dir:{tmp_path / 'net'}", pretrained=True)


def test_a_config_of_version_1_is_read(tmp_path):
    model = create_model(flops=4e6)
    save_model(model, tmp_path / "net", weights="retrained")
    config = json.loads((tmp_path / "net" / "config.json").read_text())
    config["sgnas"] = config.pop("zoo")
    (tmp_path / "net" / "config.json").write_text(json.dumps(config))
    assert create_model(tmp_path / "net", pretrained=True).zoo["macs"] == model.zoo["macs"]
    assert CliRunner().invoke(main, ["card", str(tmp_path / "net")]).exit_code == 0
    assert "retrain.py" in (tmp_path / "net" / "README.md").read_text()
    save_model(model, tmp_path / "net", weights="retrained", force=True)
    assert "zoo" in json.loads((tmp_path / "net" / "config.json").read_text())


# --- names


def test_an_unknown_tag_suggests_those_of_its_space():
    with pytest.raises(UnknownNameError, match="tag of sgnas_micro 'cifar100': did you mean cifar10") as error:
        create_model("sgnas", flops=4e6, space="sgnas_micro", pretrained="cifar100")
    assert "cifar10_r64" not in str(error.value)


@pytest.mark.parametrize("name", ["nope.json", "./nope.json"])
def test_a_missing_profile_is_called_one(name):
    with pytest.raises(ArtifactError, match=r"Profile .* does not exist.*sgnas-zoo profile --output"):
        generate(latency="20ms", profile=name)


@pytest.mark.parametrize("family", families())
def test_info_explains_families(family):
    done = CliRunner().invoke(main, ["info", family, "--json"])
    told = json.loads(done.stdout)
    if family not in (*SPACES, *zoo_entries()):
        assert told["spaces"] == [name for name in SPACES if SPACES[name].family == family]
        assert told["use"].startswith(f"timm.create_model('{family}'")
    assert done.exit_code == 0


def test_a_fixed_network_takes_no_request(untrained):
    for name in ("sgnas_a", "resnet18", untrained):
        words = {"flops": 4e6, "arch": ARCH, "space": "sgnas_micro", "generator": "x", "latency": "20ms"}
        for word, value in words.items():
            with pytest.raises(BudgetError, match=f"is one fixed network; leave out {word}"):
                create_model(name, **{word: value})


def test_a_space_registered_later_is_a_model_of_timms_at_once():
    from dataclasses import replace

    space = replace(MICRO, name="later_space", family="later_family")
    with SPACES.temporarily("later_space", space):
        model = timm.create_model("later_family", arch=ARCH)
        assert model.zoo == {"space": "later_space", "arch": ARCH}
        assert create_model("later_family", arch=ARCH).num_classes == 10
        assert "later_family" in timm.list_models("later*")


def test_resolutions_that_no_space_takes_are_refused_alike():
    for door in (create_model, timm.create_model):
        with pytest.raises(SpaceError, match="resolution"):
            door("sgnas", flops=4e6, resolution=0)


# --- searches from Python


def test_a_search_from_python_is_that_of_the_command(made, photos, tmp_path):
    few = {"population": 4, "generations": 1, "seed": 3, "workers": 0}
    found = sgnas_zoo.search_supernet(made / "supernet", photos, flops=4e6, **few)
    options = [part for name, value in few.items() for part in (f"--{name}", str(value))]
    done = CliRunner().invoke(
        main, ["search", "--supernet", str(made / "supernet"), "--dataset", str(photos), "--flops", "4M", "--output",
               str(tmp_path / "found"), *options]
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    written = json.loads((tmp_path / "found" / "result.json").read_text())
    for name in ("best", "requested", "evaluations", "dataset", "weights"):
        assert written[name] == json.loads(json.dumps(found[name])), name
    with pytest.raises(UnknownNameError, match="Unknown cost 'flopz'"):
        sgnas_zoo.search_supernet(made / "supernet", photos, flopz=4e6)
    with pytest.raises(UnknownNameError, match="This supernet is of sgnas_micro, not spos"):
        sgnas_zoo.search_supernet(made / "supernet", photos, space="spos")


def test_a_comparison_from_python_has_a_row_for_each_search(made, photos):
    found = sgnas_zoo.compare_strategies(
        "sgnas_micro", ["random", "generator"], [3e6, 4e6], photos, supernets={"": made / "supernet"},
        generator=made / "generator", population=4, generations=1, images=3, workers=0,
    )  # fmt: skip
    assert [(row["strategy"], row["budget"]) for row in found["rows"]] == [
        ("random", 3e6), ("generator", 3e6), ("random", 4e6), ("generator", 4e6),
    ]  # fmt: skip
    assert {row["macs"] <= row["budget"] for row in found["rows"]} == {True}
    assert len(found["totals"]) == 2
