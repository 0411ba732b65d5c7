"""Truth tables: what they are checked for, what they say of a search, and who may look at them."""

import ast
import json
import random
from statistics import fmean, stdev
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from PIL import Image
from places import RECIPES, ROOT
from recipe_runs import load_recipe, run_recipe
from truths import ARCHS, MACS, PARAMS, TINY, table, write_supernet, write_table

from sgnas_zoo.cli.main import main
from sgnas_zoo.errors import ArtifactError, BudgetError, SettingError
from sgnas_zoo.spaces import SPACES
from sgnas_zoo.training.searching.comparison import Contender
from sgnas_zoo.training.searching.plans import PlannedComparison, plan_comparison
from sgnas_zoo.training.searching.report import report
from sgnas_zoo.training.searching.search import Search
from sgnas_zoo.training.searching.truth import Truth

TRUE = {str(arch): fmean(table()[str(arch)]["top1"]) for arch in ARCHS}


@pytest.fixture
def truth(tmp_path):
    return Truth.load(write_table(tmp_path / "truth.json"), TINY)


@pytest.mark.parametrize("costs", [MACS, PARAMS], ids=["macs", "params"])
def test_regret_is_what_the_best_network_within_the_budget_has_more(truth, costs):
    for limit in [*map(costs.measure, ARCHS), 1.5 * costs.maximum]:
        within = [arch for arch in ARCHS if costs.measure(arch) <= limit]
        best = max(TRUE[str(arch)] for arch in within)
        assert truth.best(costs, limit) == best
        regrets = [truth.regret(arch, costs, limit) for arch in within]
        assert regrets == [best - TRUE[str(arch)] for arch in within]
        assert min(regrets) == 0
    with pytest.raises(BudgetError, match=f"below what tiny can do; ask for {costs.minimum:,} {costs.unit} or more"):
        truth.best(costs, costs.minimum - 1)


def test_the_front_holds_what_no_cheaper_network_beats(truth):
    points = {(MACS.measure(arch), TRUE[str(arch)]) for arch in ARCHS}
    wanted = [(x, y) for x, y in points if not any(a <= x and b >= y and (a, b) != (x, y) for a, b in points)]
    assert truth.front(MACS) == sorted(wanted)
    assert 1 < len(wanted) < len(points)


def test_a_table_may_lack_what_nobody_asks_for(tmp_path):
    content = table()
    del content["120"], content["222"]
    truth = Truth.load(write_table(tmp_path / "part.json", content), TINY)
    assert truth.top1(TINY.parse("000")) == TRUE["000"]
    with pytest.raises(ArtifactError, match=r"^part\.json lacks 120; name a truth table that holds it\.$"):
        truth.top1(TINY.parse("120"))
    with pytest.raises(
        ArtifactError, match=r"^part\.json lacks 2 of the 27 architectures of tiny, such as 120; name a "
    ):
        truth.check_whole()
    Truth.load(write_table(tmp_path / "whole.json"), TINY).check_whole()


def changed(arch="111", **values):
    content = table()
    content[arch] |= values
    return json.dumps(content)


MACS_OF_111 = int(MACS.measure(TINY.parse("111")))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("top1", "is not a valid JSON object"),
        ("[]", "is not a valid JSON object"),
        (changed(macs=MACS_OF_111 + 1), f"has {MACS_OF_111 + 1:,} MACs for 111 where tiny has {MACS_OF_111:,}; name"),
        (changed(params=7), "has 7 parameters for 111 where tiny has "),
        (changed(macs="1M"), "truth table: 111: macs: Expected `int`, got `str`; name"),
        (changed(top1=[90, 100.5]), "truth table: 111: top1"),
        (changed(top1=[-1]), "truth table: 111: top1"),
        (changed(top1=[]), "truth table: 111: top1"),
        (changed(top1=90.0), "truth table: 111: top1"),
        (changed(top1=[None]), "truth table: 111: top1"),
        (changed(top1=[float("nan")]), "NaN is not a number"),
        (changed(top1=[1]).replace('"top1": [1]', '"top1": [1e400]'), "1e400 is not a number"),
        (json.dumps({**table(), "111": 90.0}), "truth table: 111: "),
        (json.dumps({**table(), "1111": table()["111"]}), "of tiny, which has no architecture '1111'"),
        (json.dumps({**table(), "113": table()["111"]}), "of tiny, which has no architecture '113'"),
    ],
)
def test_what_is_no_truth_of_the_space_is_refused_in_one_line(tmp_path, text, message):
    path = tmp_path / "truth.json"
    path.write_text(text)
    with pytest.raises(ArtifactError) as error:
        Truth.load(path, TINY)
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 1
    assert "; name " in str(error.value)


def test_a_table_that_is_not_there_is_named(tmp_path):
    for place in (tmp_path / "none.json", tmp_path):
        with pytest.raises(ArtifactError, match=f"Cannot read {place}: .*; name the JSON file of a truth table"):
            Truth.load(place, TINY)


# --- Comparisons


LIMITS = (8e6, 12.6e6)


def scored(archs):
    return [random.Random(str(arch)).random() for arch in archs]


def planned(truth, seeds=(0, 1, 2), limits=LIMITS):
    search = {
        name: Search(TINY, {"flops": MACS}, name, population=2, generations=1) for name in ("random", "evolution")
    }
    contenders = {name: Contender(each, scored, scored) for name, each in search.items()}
    process = SimpleNamespace(is_main_process=True, end_training=lambda: None)
    return PlannedComparison(contenders, "flops", limits, seeds, {"preparation": {"random": 5.0}}, process, truth)


def without_truth(record):
    rows = [{k: v for k, v in row.items() if k not in ("true_top1", "regret", "seconds")} for row in record["rows"]]
    assert len(rows) == 12
    return rows


def test_the_truth_says_nothing_to_a_search(truth):
    judged, alone = planned(truth).run(), planned(None).run()
    assert without_truth(judged) == without_truth(alone)
    assert not [row for row in alone["rows"] if "regret" in row or "true_top1" in row]
    for row in judged["rows"]:
        assert row["true_top1"] == TRUE[row["arch"]]
        assert row["regret"] == truth.best(MACS, row["budget"]) - row["true_top1"] >= 0


def test_every_seed_answers_every_budget(truth):
    rows = planned(truth).run()["rows"]
    turns = [(row["budget"], row["seed"], row["strategy"]) for row in rows]
    assert turns == [(b, seed, name) for b in LIMITS for seed in (0, 1, 2) for name in ("random", "evolution")]
    own = [row["arch"] for row in rows if row["strategy"] == "random"]
    assert len(set(own)) > 2  # a seed finds its own
    (alone,) = planned(None, seeds=(1,), limits=LIMITS[1:]).run()["rows"][:1]
    assert alone["arch"] == rows[8]["arch"]


def test_totals_are_means_over_seeds_with_their_standard_errors(truth):
    record = planned(truth).run()
    for count in (1, 2):
        total = record["totals"]["random"][count - 1]
        runs = [[row for row in record["rows"] if (row["strategy"], row["seed"]) == ("random", seed)][:count]
                for seed in (0, 1, 2)]  # fmt: skip
        assert [len(run) for run in runs] == [count] * 3
        for key in ("top1", "unseen_top1", "true_top1", "regret"):
            means = [fmean(row[key] for row in run) for run in runs]
            assert total[key] == pytest.approx(fmean(means))
            assert total["standard_errors"][key] == pytest.approx(stdev(means) / 3**0.5)
        assert total["standard_errors"]["regret"] > 0
        assert total["budgets"] == count
        assert total["evaluations"] == pytest.approx(
            fmean(sum(r["evaluations"] for r in run) for run in runs), abs=0.05
        )
        assert total["seconds_with_preparation"] == total["seconds"] + 5
    assert "standard_errors" not in planned(truth, seeds=(0,)).run()["totals"]["random"][0]


def test_a_comparison_goes_on_at_the_seed_where_it_was(truth):
    whole = planned(truth).run()
    saved = []
    again = planned(truth).run(saved.append, whole["rows"][:5])
    assert without_truth(again) == without_truth(whole)
    assert again["rows"][:5] == whole["rows"][:5]
    assert len(saved) == 12 - 5 + 1
    assert [own[-1]["budgets"] for own in saved[0]["totals"].values()] == [1, 1]


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ([0, 1, 0], "Seed 0 is there more than once, and finds the same again; give each once"),
        ([0, -1], "-1 is not a seed; give whole numbers from 0, such as 0,1,2"),
        ([0.5], "0.5 is not a seed"),
        ([True], "True is not a seed"),
        ([], "No seed was given; give one or several"),
    ],
)
def test_what_are_no_different_seeds_is_refused(seeds, message):
    with pytest.raises(SettingError, match=message):
        plan_comparison("sgnas_micro", ["random"], [4e6], "nowhere", seeds=seeds)


# --- The command


@pytest.fixture
def tiny(once):
    with SPACES.temporarily("tiny", TINY):
        yield once("tiny", write_supernet)


def compare(tiny, photos, output, *more):
    words = [
        "compare", "--space", "tiny", "--supernet", tiny, "--dataset", photos, "--output", output, "--population", 2,
        "--generations", 1, "--images", 20, "--workers", 0, "--strategies", "random,evolution", *more,
    ]  # fmt: skip
    return CliRunner().invoke(main, [str(word) for word in words])


def test_the_command_tells_true_accuracy_and_regret(tiny, photos, tmp_path):
    asked = ("--budgets", "4M:12M:4M", "--seeds", "0,1", "--truth", write_table(tmp_path / "truth.json"))
    run = compare(tiny, photos, tmp_path / "out", *asked)
    assert run.exit_code == 0, run.output
    record = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert [row["budget"] for row in record["rows"]] == [b for b in (4e6, 8e6, 12e6) for _ in range(4)]
    assert [row["true_top1"] for row in record["rows"]] == [TRUE[row["arch"]] for row in record["rows"]]
    truth = Truth.load(tmp_path / "truth.json", TINY)
    assert record["truth"] == {**truth.record, "front": [list(point) for point in truth.front(MACS)]}
    assert "/" not in json.dumps(record).replace("\\n", "")  # no path of this machine
    page = (tmp_path / "out" / "README.md").read_text()
    assert page == report(record)
    assert page.count("true top-1, % ") == page.count("regret ") == 2
    assert "`truth.json`, which holds 27 trained networks" in page
    total = record["totals"]["random"][-1]
    assert f"| {total['regret']:.2f} ± {total['standard_errors']['regret']:.2f} " in page
    assert "seeds 0, 1." in page
    with Image.open(tmp_path / "out" / "comparison.png") as picture:
        assert picture.width > picture.height
    again = compare(tiny, photos, tmp_path / "out", *asked, "--resume")
    assert again.exit_code == 0, again.output
    assert json.loads((tmp_path / "out" / "comparison.json").read_text()) == record


def test_a_table_that_cannot_judge_is_refused_before_anything_is_scored(tiny, photos, tmp_path):
    content = table()
    del content["020"]
    run = compare(
        tiny, photos, tmp_path / "out", "--budgets", "8M", "--truth", write_table(tmp_path / "t.json", content)
    )
    assert run.exit_code == 2
    assert run.stderr == (
        "Error: t.json lacks 1 of the 27 architectures of tiny, such as 020; name a table that holds all of them.\n"
    )
    assert not (tmp_path / "out").exists()


# --- Who may look


def looks(source):
    """Whether a module imports the truth, inside a function too."""
    for node in ast.walk(ast.parse(source)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        module = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
        if any("truth" in f"{module}{name}".split(".") for name in names):
            return True
    return False


def test_only_what_judges_looks_at_the_truth():
    files = [path for part in ("sgnas_zoo", "recipes", "benchmarks") for path in (ROOT / part).rglob("*.py")]
    looking = {str(path.relative_to(ROOT)) for path in files if looks(path.read_text(encoding="utf-8"))}
    assert looking == {"sgnas_zoo/training/searching/plans.py", "recipes/rank.py"}
    assert looks("def f():\n    from sgnas_zoo.training.searching import report, truth")
    assert looks("import sgnas_zoo.training.searching.truth as t")
    assert looks("from .truth import Truth")
    assert not looks("from sgnas_zoo.training.searching import report")


def test_no_training_takes_a_truth():
    recipes = {path.stem for path in RECIPES.glob("*.py")} - {"render_cards"}
    takes = {name for name in recipes if "truth" in {each.name for each in load_recipe(name).main.params}}
    assert takes == {"rank"}
    assert {"train_supernet", "train_generator", "retrain", "finetune"} < recipes
    said = run_recipe("train_supernet", "--truth", "x", "--dataset", "x", "--output", "x", code=2)
    assert "unknown option --truth" in said
    assert len(said.splitlines()) == 1
