"""What recipes can be told: their options come from dataclasses."""

import dataclasses
from pathlib import Path

import click
import pytest
import yaml
from recipe_runs import RECIPES as RECIPES_FOLDER
from recipe_runs import load_recipe

from sgnas_zoo.spaces import SPACES
from sgnas_zoo.terminal import BadInput
from sgnas_zoo.training.fields import build, flat, group, option, options
from sgnas_zoo.training.options import save_settings

TRAININGS = ("train_supernet", "train_generator", "retrain", "finetune")
RECIPES = (*TRAININGS, "evaluate", "measure_supernet", "rank", "distill_generator")
ALWAYS_FREE = {"output", "resume", "workers", "checkpoint_minutes", "report_to"}
FREE = {
    "train_supernet": ALWAYS_FREE | {"eval_images"},
    "train_generator": ALWAYS_FREE,
    "retrain": ALWAYS_FREE | {"eval_every"},
    "finetune": ALWAYS_FREE | {"eval_every"},
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner:
    """A group."""

    place: Path = option("Where.", free=True)
    rate: float = option("How fast.", 0.5, click.FloatRange(0, 1))
    words: tuple[str, ...] = option("What; repeat it.", ())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outer:
    """A configuration."""

    inner: Inner = group(Inner, rate=0.25)
    count: int | None = option("How many.", None)
    loud: bool = option("Say it.", False)


def values(kind):
    """The defaults of a configuration, by the name of the option."""
    context = click.Context(click.Command("toy"))
    return {each.name: each.process_value(context, each.get_default(context)) for each in options(kind)
            if not each.required}  # fmt: skip


def test_fields_are_options_and_options_make_the_configuration():
    found = {each.name: each for each in options(Outer)}
    assert [*found] == ["place", "rate", "words", "count", "loud"]
    assert found["place"].required
    assert found["loud"].secondary_opts == ["--no-loud"]
    assert (found["rate"].default, found["words"].multiple, found["rate"].help) == (0.25, True, "How fast.")
    made = build(Outer, {"place": Path("x"), **values(Outer)})
    assert made == Outer(inner=Inner(place=Path("x"), rate=0.25, words=()), count=None, loud=False)
    assert flat(made) == {"place": "x", "rate": 0.25, "words": [], "count": None, "loud": False}
    assert flat(made, repeated=True) == {"rate": 0.25, "words": [], "count": None, "loud": False}
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.count = 1


def test_a_default_for_no_field_is_refused():
    with pytest.raises(TypeError, match="Inner has no field rates"):
        group(Inner, rates=1)


@pytest.mark.parametrize("name", RECIPES)
def test_every_field_of_a_recipe_is_told(name):
    found = options(load_recipe(name).Config)
    assert len(found) > 6
    assert len({each.name for each in found}) == len(found)
    for each in found:
        assert each.help[0].isupper() or each.help.startswith(("test and", "auto,"))
        assert each.help.endswith((".", "..."))


@pytest.mark.parametrize("name", TRAININGS)
def test_what_a_resumed_run_may_change_is_said_by_the_fields(name):
    kind = load_recipe(name).Config
    given = {each.name: "x" for each in options(kind) if each.required}
    config = build(kind, {**given, **values(kind)})
    assert flat(config).keys() - flat(config, repeated=True).keys() == FREE[name]


CONFIGS = RECIPES_FOLDER / "configs"
PROVEN = ("nas_bench_macro", "resnet_micro_bits", "sgnas_imagenet_cifar10_r64", "sgnas_imagenet_tiny_imagenet_r64",
          "sgnas_micro")  # fmt: skip
UNPROVEN = ("greedynas", "resnet18_bits", "resnet34_bits", "sgnas_cifar", "sgnas_imagenet", "spos",
            "spos_channel")  # fmt: skip
SECTIONS = [
    (file, name)
    for file in sorted(CONFIGS.rglob("*.yaml"))
    for name in yaml.safe_load(file.read_text(encoding="utf-8"))
]


def test_every_shipped_file_is_known_as_run_or_not():
    assert sorted(file.stem for file in CONFIGS.glob("*.yaml")) == sorted(PROVEN)
    assert sorted(file.stem for file in CONFIGS.glob("unproven/*.yaml")) == sorted(UNPROVEN)
    assert len({file for file, _ in SECTIONS}) == len(PROVEN) + len(UNPROVEN)
    assert len(SECTIONS) > 30


def parsed(recipe, *arguments):
    """What a recipe is told, with something for all that has to be given."""
    given = [word for each in recipe.params if each.required for word in (each.opts[0], "somewhere")]
    return recipe.make_context(recipe.name, [*given, *map(str, arguments)]).params


@pytest.mark.parametrize(("file", "name"), SECTIONS, ids=[f"{file.stem}-{name}" for file, name in SECTIONS])
def test_every_section_is_read_by_its_recipe(file, name, tmp_path):
    recipe, section = load_recipe(name).main, yaml.safe_load(file.read_text(encoding="utf-8"))[name]
    told = parsed(recipe, "--config", file)
    for key, value in section.items():
        own = next(each for each in recipe.params if each.name == key)
        assert told[key] == own.type.convert(str(value) if not isinstance(value, bool) else value, own, None)
    if file.stem in SPACES and "space" in told:
        by_name = parsed(recipe, "--space", file.stem)
        assert {key: by_name[key] for key in section} == {key: told[key] for key in section}
    misspelt, key = tmp_path / "misspelt.yaml", f"{next(iter(section))}s"
    misspelt.write_text(yaml.safe_dump({name: {**section, key: 1}}))
    with pytest.raises(BadInput, match=f"unknown key {key}, did you mean"):
        parsed(recipe, "--config", misspelt)


def test_no_value_is_the_own_default_of_an_option_so_settings_of_a_run_give_them_again(tmp_path):
    recipe, file = load_recipe("finetune").main, tmp_path / "settings.yaml"
    by_space = parsed(recipe, "--space", "sgnas_imagenet")
    assert by_space["eval_split"] == "validation"
    save_settings(tmp_path, {"space": "sgnas_imagenet", "eval_split": None, "epochs": None, "lr": 0.5}, "finetune")
    told = parsed(recipe, "--config", file)
    assert (told["eval_split"], told["epochs"], told["lr"]) == (None, 10, 0.5)
    assert told["batch_size"] == by_space["batch_size"]
