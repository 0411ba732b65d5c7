"""The cost in docs/extend.md: a keyword, an option, an objective and a row of cards without a line more."""

import inspect
import json
import re

import pytest
import timm
import warm
from click.testing import CliRunner
from places import RECIPES, ROOT

from sgnas_zoo import create_model, generate, save_model
from sgnas_zoo.cli.main import main
from sgnas_zoo.costs import BUDGETS, COSTS, Budget, native_conditions
from sgnas_zoo.errors import BudgetError
from sgnas_zoo.spaces import SPACES
from sgnas_zoo.training.searching.search import Search, cost_tables

PAGE = (ROOT / "docs" / "extend.md").read_text(encoding="utf-8")
OWN = re.search(r"```python\n(.*?)```", PAGE.partition("## Add a cost")[2], re.DOTALL)[1]


@pytest.fixture
def storage(monkeypatch):
    for registry in (COSTS, BUDGETS):
        monkeypatch.setattr(registry, "_values", dict(registry._values))
    exec(OWN, {"__name__": "own"})


@pytest.mark.usefixtures("storage")
def test_it_is_a_bound_of_both_doors_and_in_the_record():
    asked, counted = generate(storage=16e6)[0], generate(params=4e6)[0]
    assert asked.arch == counted.arch
    assert asked.record()["requested"] == {"storage": 16_000_000}
    assert asked.record()["storage_bytes"] == 4 * counted.params <= 16e6
    ours, theirs = create_model(storage=16e6), timm.create_model("sgnas", storage=16e6)
    assert ours.zoo == theirs.zoo == asked.record()
    with pytest.raises(BudgetError, match=r"storage=0 is not a budget"):
        generate(storage=0)


@pytest.mark.usefixtures("storage")
def test_it_combines_with_others_and_a_named_architecture_has_to_keep_it():
    both = generate(storage=24e6, flops=300e6)[0]
    assert both.macs <= 300e6
    assert both.costs["storage_bytes"] <= 24e6
    with pytest.raises(BudgetError, match=f"has {both.costs['storage_bytes']:,} storage, more than 10,000,000"):
        create_model("sgnas", arch=str(both.arch), storage=10e6)


@pytest.mark.usefixtures("storage")
def test_a_saved_model_keeps_what_was_asked_for_and_its_card_shows_it(tmp_path):
    save_model(create_model(storage=16e6), tmp_path / "model", weights="untrained")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert "storage" not in config["model_args"]
    assert config["zoo"]["requested"] == {"storage": 16_000_000}
    card = (tmp_path / "model" / "README.md").read_text()
    assert f"| storage, bytes | 16,000,000 | {config['zoo']['storage_bytes']:,} |" in card
    assert f"{config['zoo']['storage_bytes']:,} bytes" in card
    assert timm.create_model(f"local-dir:{tmp_path / 'model'}", pretrained=True).num_classes == 1000


@pytest.mark.usefixtures("storage")
def test_keywords_that_nobody_can_count_are_refused_beside_it():
    with pytest.raises(BudgetError, match="With pad_type nobody can count storage"):
        create_model(storage=16e6, pad_type="same")


@pytest.mark.usefixtures("storage")
def test_a_search_may_bound_it_and_be_over_it():
    space = SPACES["sgnas_micro"]
    tables = cost_tables(space, 10, ["storage"])
    most = (tables["storage"].minimum + tables["storage"].maximum) / 2
    search = Search(space, tables, "random", {"storage": most}, ("accuracy", "storage"), 8, 1)
    result = search.run(lambda archs: [float(sum(map(sum, arch.picks))) for arch in archs])
    assert 0 < result["best"]["storage_bytes"] <= most
    assert "storage_bytes" not in cost_tables(space, 10, ["flops"])


@pytest.mark.usefixtures("storage")
def test_its_amounts_may_be_written_with_a_unit():
    def kilobytes(name, text):
        if not str(text).endswith("KB"):
            raise BudgetError(f"{name}={text} is not a {name}; give it with its unit, such as 600KB.")
        return float(text[:-2]) * 1e3

    told = ("Most bytes of weights", "600KB", "KB", 1e3, kilobytes)
    with BUDGETS.temporarily("room", Budget("room", "storage_bytes", "room, bytes", *told)):
        assert generate(room="16000KB")[0].arch == generate(storage=16e6)[0].arch
        assert create_model(room="600KB").zoo["requested"] == {"storage_bytes": 600_000}
        with pytest.raises(BudgetError, match=r"room=16 is not a room; give it with its unit"):
            generate(room=16)
        said = CliRunner().invoke(main, ["generate", "--room", "600KB"]).output
        assert said.startswith("room <= 600KB: ")


def test_commands_take_it_from_a_module(tmp_path):
    (tmp_path / "my_costs.py").write_text(OWN)
    command = ["-m", "sgnas_zoo.cli", "generate", "--storage", "600K", "--space", "sgnas_micro"]
    done = warm.run(*command, "--import", "my_costs", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "storage <= 0.6M: " in done.stdout
    assert "M bytes, sgnas_micro " in done.stdout
    assert "--storage COUNT" in warm.run(*command[:3], "--import=my_costs", "--help", cwd=tmp_path).stdout
    assert "No such option" in warm.run(*command, cwd=tmp_path).stderr


def test_recipes_take_it_from_a_module(tmp_path):
    (tmp_path / "my_costs.py").write_text(OWN)
    recipe = [RECIPES / "evaluate.py", "--import", "my_costs"]
    assert "--storage COUNT" in warm.run(*recipe, "--help", cwd=tmp_path).stdout
    done = warm.run(*recipe, "--storage", "0", "--dataset", "none", cwd=tmp_path)
    assert "Invalid value for '--storage'" in done.stderr


# --- the budgets there are


@pytest.mark.parametrize("function", [generate, create_model])
def test_signature_and_docstring_name_every_budget(function):
    assert set(BUDGETS) < set(inspect.signature(function).parameters)
    for name in BUDGETS:
        assert f"        {name}: {BUDGETS[name].told}" in function.__doc__
    assert "{" not in function.__doc__


@pytest.mark.parametrize("command", ["generate", "search"])
def test_commands_have_an_option_for_every_budget(command):
    shown = CliRunner().invoke(main, [command, "--help"]).output
    assert all(f"  --{name} " in shown for name in BUDGETS)


def test_a_keyword_that_is_no_budget_is_a_type_error():
    with pytest.raises(TypeError, match=r"generate\(\) got an unexpected keyword argument 'flop'"):
        generate(flop=350e6)


def test_every_budget_bounds_a_cost_that_is_counted_or_profiled():
    assert {BUDGETS[name].cost for name in BUDGETS if not BUDGETS[name].profiled} <= set(COSTS)
    assert {COSTS[name].budget for name in COSTS} <= set(BUDGETS)
    for name in SPACES:
        assert COSTS[BUDGETS[SPACES[name].budget].cost].table(SPACES[name], native_conditions(SPACES[name])).maximum
