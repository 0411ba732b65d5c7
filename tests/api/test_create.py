import json
import math
import subprocess
import sys

import pytest
import timm
import torch
import warm
from timm.models import EfficientNet

import sgnas_zoo
from sgnas_zoo import create_model, generate, list_models
from sgnas_zoo.costs import COSTS, native_conditions
from sgnas_zoo.errors import ArtifactError, BudgetError, PretrainedError, UnknownNameError, ZooError
from sgnas_zoo.files import sha256
from sgnas_zoo.hub.generators import save_generator
from sgnas_zoo.models.counting import count_macs, count_params
from sgnas_zoo.search.generator import ArchGenerator
from sgnas_zoo.spaces import SPACES, families
from sgnas_zoo.zoo import default_arch, published, supernet_entries, zoo_entries

IMAGENET, CIFAR = SPACES["sgnas_imagenet"], SPACES["sgnas_cifar"]


@pytest.fixture(scope="module")
def cifar_generator(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("generator")
    conditions = native_conditions(CIFAR)
    table = COSTS["macs"].table(CIFAR, conditions)
    prior = CIFAR.parse("-".join(["353"] * len(CIFAR.layers)))
    save_generator(ArchGenerator(prior, "macs", conditions, (table.minimum, table.maximum), width=8), folder)
    return folder


def macs_of(model):
    return count_macs(model, 224, model.conv_stem.in_channels)


# --- one budget, one model


def test_a_budget_makes_a_timm_model_that_keeps_it():
    model = create_model(flops=350e6)
    assert isinstance(model, EfficientNet)
    assert 0.99 * 350e6 <= macs_of(model) <= 350e6
    record = model.zoo
    assert record["space"] == "sgnas_imagenet"
    assert record["requested"] == {"flops": 350_000_000}
    assert (record["macs"], record["params"]) == (macs_of(model), count_params(model))
    assert len(record["generator"]["sha256"]) == 64
    assert generate(flops=350e6)[0].record() == record
    json.dumps(record)


def test_keywords_reach_timm_and_the_budget_holds_for_the_model_returned():
    model = create_model(flops=350e6, num_classes=10, in_chans=1, drop_path_rate=0.2)
    assert model.classifier.out_features == 10
    assert model.conv_stem.in_channels == 1
    assert any(getattr(m, "drop_prob", 0) > 0.1 for m in model.modules())
    assert 0.99 * 350e6 <= macs_of(model) <= 350e6
    assert model.zoo["macs"] == macs_of(model)


def test_without_a_classifier():
    model = create_model(flops=350e6, num_classes=0)
    assert 0.99 * 350e6 <= macs_of(model) <= 350e6
    assert model(torch.randn(1, 3, 64, 64)).shape == (1, 1280)


def test_the_resolution_is_what_flops_are_stated_for():
    model = create_model(flops=150e6, resolution=128)
    assert 0.99 * 150e6 <= count_macs(model, 128) <= 150e6
    assert model.pretrained_cfg["input_size"] == (3, 128, 128)


def test_unknown_keyword_is_a_type_error():
    with pytest.raises(TypeError):
        create_model(flops=350e6, no_such_keyword=1)


def test_the_same_budget_gives_the_same_architecture():
    assert generate(flops=333e6)[0].arch == generate(flops=[200e6, 333e6])[1].arch


# --- many budgets


def test_results_keep_order_and_length_and_scalars_broadcast():
    budgets = [400e6, 250e6, 330e6]
    results = generate(flops=budgets, params=6e6)
    assert [r.requested for r in results] == [{"flops": f, "params": 6e6} for f in budgets]
    assert all(r.params <= 6e6 and r.macs <= f for r, f in zip(results, budgets, strict=True))
    assert [r.macs for r in generate(flops=tuple(budgets))] == [r.macs for r in generate(flops=budgets)]


def test_lists_that_do_not_pair_up():
    with pytest.raises(BudgetError, match="2 flops and 3 params"):
        generate(flops=[300e6, 350e6], params=[5e6, 6e6, 7e6])


def test_every_budget_of_the_range_is_kept_and_nearly_spent():
    budgets = [m * 1e6 for m in range(180, 551)]
    results = generate(flops=budgets)
    table = COSTS["macs"].table(IMAGENET, native_conditions(IMAGENET))
    assert all(r.macs == table.measure(r.arch) <= budget for r, budget in zip(results, budgets, strict=True))
    near = sum(r.macs >= 0.99 * budget for r, budget in zip(results, budgets, strict=True)) / len(budgets)
    assert near >= 0.99, f"{near:.2%} within 1 %"
    assert len({r.arch for r in results}) > 200


@pytest.mark.parametrize("params", [4.5e6, 6e6, 7.5e6])
def test_parameters_alone(params):
    model = create_model(params=params)
    assert 0.99 * params <= count_params(model) <= params
    assert model.zoo["requested"] == {"params": params}


def test_two_bounds_hold_at_once():
    model = create_model(flops=350e6, params=5e6)
    assert macs_of(model) <= 350e6
    assert count_params(model) <= 5e6
    assert macs_of(model) >= 0.99 * 350e6 or count_params(model) >= 0.99 * 5e6


@pytest.mark.parametrize("flops", [250e6, 350e6, 450e6])
def test_a_bound_that_does_not_bind_changes_nothing(flops):
    alone = generate(flops=flops)[0]
    assert generate(flops=flops, params=alone.params)[0].arch == alone.arch
    assert generate(flops=flops, params=alone.params - 1)[0].arch != alone.arch


# --- bad budgets


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        (350, "350e6"),
        (math.nan, "flops=nan.*positive number"),
        (math.inf, "positive number"),
        (10**400, "."),
        (0, "positive number"),
        (-350e6, "positive number"),
        ("abc", "'abc'.*positive number"),
        ("350e6", "positive number"),
        (True, "positive number"),
        ([], "No budget"),
        ([[350e6]], "positive number"),
        ([350e6, math.nan], "positive number"),
        (1e6, "below .*Choose from .*M to .*M"),
        (20e6, "20 M MACs lies between two spaces: sgnas_micro ends at .* sgnas_imagenet begins at .*space='sgnas_mic"),
    ],
)
@pytest.mark.parametrize("ask", [create_model, generate])
def test_bad_budgets(ask, budget, words):
    with pytest.raises(BudgetError, match=words):
        ask(flops=budget)


@pytest.mark.parametrize("budget", ["abc", math.nan, [350e6], -1])
def test_bad_budgets_beside_an_architecture(budget):
    with pytest.raises(BudgetError):
        create_model("sgnas", arch=zoo_entries()["sgnas_a"].arch, flops=budget)


def test_one_model_takes_one_budget():
    for make in (create_model, lambda **kwargs: timm.create_model("sgnas", **kwargs)):
        with pytest.raises(BudgetError):
            make(flops=[300e6, 350e6])


def test_the_range_an_error_names_can_be_asked_for():
    with pytest.raises(BudgetError) as error:
        generate(flops=1e6)
    words = str(error.value).split("Choose from ")[1].split(";")[0]
    low, high = (float(word.removesuffix("M")) * 1e6 for word in words.split(" to "))
    assert [r.macs <= b for r, b in zip(generate(flops=[low, high]), [low, high], strict=True)] == [True, True]


def test_both_bounds_at_the_bottom_of_the_range():
    tables = [COSTS[cost].table(IMAGENET, native_conditions(IMAGENET)) for cost in ("macs", "params")]
    flops, params = (table.minimum for table in tables)
    (result,) = generate(flops=flops, params=params)
    assert (result.macs, result.params) == (flops, params)


def test_nothing_asked_for():
    with pytest.raises(BudgetError, match="flops=350e6"):
        create_model()
    with pytest.raises(BudgetError, match="flops=350e6"):
        generate()


# --- names


def test_unknown_names_suggest_near_ones():
    with pytest.raises(UnknownNameError, match="sgnas_imagenet"):
        generate(flops=350e6, space="sgnas_imagnet")
    with pytest.raises(UnknownNameError, match="sgnas_cifar"):
        create_model(flops=350e6, space="sgnas_cifa")


def test_unknown_model_names_near_ones():
    with pytest.raises(UnknownNameError, match="sgnas_a"):
        create_model("sgnas_aa")


def test_a_named_network_takes_no_budget():
    with pytest.raises(BudgetError, match="sgnas_a is one fixed network"):
        create_model("sgnas_a", flops=350e6)


def test_greedynas_has_no_generator_yet():
    with pytest.raises(ArtifactError, match=r"no embedded generator for greedynas.*generator="):
        create_model("greedynas", flops=350e6)
    with pytest.raises(ArtifactError, match="no embedded generator for greedynas_se"):
        generate(flops=350e6, space="greedynas_se")


def test_a_space_of_another_family():
    with pytest.raises(ZooError, match="belongs to greedynas"):
        create_model("sgnas", flops=350e6, space="greedynas")


# --- published networks


PUBLISHED = [name for name in zoo_entries() if zoo_entries()[name].published]


def test_there_are_eight_published_networks():
    assert len(PUBLISHED) == 8
    assert {*families(), *zoo_entries()} == set(list_models())
    assert {"sgnas", "greedynas", "spos", "resnet18_bits"} <= {*families()}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks_are_what_was_published(name):
    entry = zoo_entries()[name]
    with torch.device("meta"):
        model = timm.create_model(name)
    assert count_macs(model, entry.costs["resolution"]) == entry.costs["macs"]
    assert count_params(model) == entry.costs["params"]
    conditions = native_conditions(
        SPACES[entry.space],
        form=entry.form,
        resolution=entry.costs["resolution"],
        num_classes=entry.costs["num_classes"],
    )
    for cost in ("macs", "params"):
        assert COSTS[cost].table(SPACES[entry.space], conditions).measure(entry.parsed()) == entry.costs[cost]
    assert entry.costs["params"] == pytest.approx(entry.published["params"], abs=0.06e6)
    assert entry.costs["macs"] == pytest.approx(entry.published["flops"], rel=0.015)
    assert str(entry.parsed()) == entry.arch


@pytest.mark.parametrize("name", ["greedynas", "sgnas_a", "greedynas_c"])
def test_pretrained_fails_with_a_next_step_rather_than_random_weights(name):
    for make in (create_model, timm.create_model):
        with pytest.raises(PretrainedError, match=r"No weights are published for .*convert"):
            make(name, pretrained=True)


def test_pretrained_wants_something_to_inherit_from():
    with pytest.raises(PretrainedError, match="say flops=350e6"):
        create_model("sgnas", pretrained=True)
    for make in (create_model, lambda **kwargs: timm.create_model("sgnas", **kwargs)):
        with pytest.raises(PretrainedError, match=r"in1k.*not published yet; train.*train_supernet.*sgnas-zoo push"):
            make(flops=350e6, pretrained="in1k")


@pytest.mark.parametrize("module", ["supernet.unified", "models.builder", "hub.supernets"])
def test_any_module_may_be_imported_first(module):
    """timm is imported somewhere on the way, and registers entry points that need what is being imported."""
    assert warm.run("-c", f"import sgnas_zoo.{module}, timm; print(timm.is_model('sgnas'))").stdout == "True\n"


# --- through timm


def test_timm_makes_the_same():
    model = timm.create_model("sgnas", flops=350e6)
    assert model.zoo == create_model(flops=350e6).zoo
    again = timm.create_model("sgnas", arch=model.zoo["arch"])
    assert count_params(again) == model.zoo["params"]


def test_an_architecture_beside_a_budget():
    arch = zoo_entries()["sgnas_a"].arch
    model = timm.create_model("sgnas", arch=arch, flops=380e6)
    assert macs_of(model) == zoo_entries()["sgnas_a"].costs["macs"]
    for limit in ({"flops": 370e6}, {"params": 6e6}):
        with pytest.raises(BudgetError, match="more than"):
            timm.create_model("sgnas", arch=arch, **limit)


def test_keywords_that_make_a_model_dearer_cannot_break_a_budget():
    budget = zoo_entries()["sgnas_a"].costs["params"]
    arch = zoo_entries()["sgnas_a"].arch
    assert count_params(create_model("sgnas", arch=arch, params=budget)) == budget
    with pytest.raises(BudgetError, match="the model has"):
        create_model("sgnas", arch=arch, params=budget, global_pool="catavgmax")
    with pytest.raises(BudgetError, match="the model has"):
        create_model(params=6e6, global_pool="catavgmax")
    with pytest.raises(BudgetError, match="the model has"):
        create_model(flops=350e6, output_stride=8)
    assert count_params(create_model("sgnas", arch=arch, params=budget, global_pool="max")) == budget


# --- a generator of one's own


def test_a_generator_of_ones_own(cifar_generator):
    for generator in (cifar_generator, str(cifar_generator), sgnas_zoo.load_generator(cifar_generator)):
        (result,) = generate(flops=80e6, generator=generator)
        assert result.space == "sgnas_cifar"
        assert 0.99 * 80e6 <= result.macs <= 80e6
        assert result.generator.sha256 == sha256(cifar_generator / "model.safetensors")
        assert result.generator.id == str(cifar_generator)
    model = create_model(flops=80e6, generator=cifar_generator)
    assert 0.99 * 80e6 <= count_macs(model, 32) <= 80e6
    assert model.num_classes == 100
    assert model.zoo["generator"]["sha256"] == sha256(cifar_generator / "model.safetensors")


def test_a_generator_of_another_space(cifar_generator):
    with pytest.raises(ZooError, match="sgnas_cifar, not sgnas_imagenet"):
        generate(flops=350e6, space="sgnas_imagenet", generator=cifar_generator)


# --- imports


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("imports", ["sgnas_zoo, timm", "timm, sgnas_zoo"])
def test_names_are_registered_in_either_order_of_imports(imports):
    names = ["sgnas", "greedynas", *zoo_entries()]
    done = warm.run("-c", f"import {imports}; print([timm.is_model(name) for name in {names!r}])")
    assert done.stdout == f"{[True] * len(names)}\n"


def test_names_are_registered_after_somebody_looked_whether_timm_is_there():
    look = "import importlib.util, sgnas_zoo; assert importlib.util.find_spec('timm')"
    assert warm.run("-c", f"{look}; import timm; print(timm.is_model('sgnas_a'))").stdout == "True\n"


@pytest.mark.parametrize("module", ["sgnas_zoo", "sgnas_zoo.cli.main"])
def test_import_loads_neither_torch_nor_timm(module):
    assert python(f"import sys, {module}; print({{'torch', 'timm', 'numpy'}} & set(sys.modules))").strip() == "set()"


def test_help_loads_neither_torch_nor_timm():
    code = (
        "import sys\nfrom sgnas_zoo.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as end: print(end.code, {'torch', 'timm'} & set(sys.modules))"
    )
    assert python(code).strip().splitlines()[-1] == "0 set()"


@pytest.mark.parametrize("space", SPACES)
def test_a_family_without_a_request_is_a_network_of_the_space_that_was_named(space):
    space = SPACES[space]
    model = timm.create_model(space.family, space=space.name, device="meta")
    wanted = default_arch(space.family, space)
    assert wanted.space == space
    assert len(space.kind.networks().layers(model)) == sum(map(len, space.blocks(wanted, "final")))
    assert model.num_classes == space.num_classes


# --- what pretrained may say


def test_a_tag_that_nobody_knows_gets_near_matches():
    with pytest.raises(UnknownNameError, match=r"Unknown tag.*'cifar100'.*did you mean.*cifar10"):
        create_model(flops=350e6, pretrained="cifar100")
    with pytest.raises(ArtifactError, match="me/none is not in the cache"):
        create_model(flops=350e6, pretrained="me/none", local_files_only=True)


@pytest.mark.parametrize("name", ["sgnas_a", "resnet18", "hf-hub:me/model"])
def test_a_fixed_network_takes_no_supernet(name):
    with pytest.raises(UnknownNameError, match="one fixed network and takes pretrained=True"):
        create_model(name, pretrained="cifar10")


def test_a_saved_model_takes_no_budget():
    with pytest.raises(BudgetError, match="one fixed network; leave out flops"):
        create_model("hf-hub:me/model", flops=350e6)


def test_every_supernet_entry_has_a_place_and_one_default_per_space():
    entries = supernet_entries()
    assert {"sgnas_imagenet.cifar10_r64", "sgnas_imagenet.in1k", "sgnas_micro.cifar10"} <= {
        f"{entry.space}.{entry.tag}" for entry in entries
    }
    for space in {entry.space for entry in entries}:
        assert sum(entry.default for entry in entries if entry.space == space) == 1
    for place in (place for entry in entries for place in (entry.supernet, entry.generator) if place):
        assert "/" in place or (published(place) / "config.json").is_file()
