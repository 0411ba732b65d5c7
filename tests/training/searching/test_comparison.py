"""Strategies side by side: what each answers, costs, and tells of images that it has not seen."""

import json
import random
import re
import time
from collections import Counter
from dataclasses import replace

import datasets
import pytest
from click.testing import CliRunner
from PIL import Image

from sgnas_zoo.cli.main import main
from sgnas_zoo.errors import DataError
from sgnas_zoo.hub.supernets import load_supernet
from sgnas_zoo.search.strategies import STRATEGIES
from sgnas_zoo.spaces import SPACES
from sgnas_zoo.training.data.sources import LabelledImages
from sgnas_zoo.training.searching.candidates import held_out_images
from sgnas_zoo.training.searching.comparison import Contender, apart, search_all
from sgnas_zoo.training.searching.report import report, totals
from sgnas_zoo.training.searching.search import Search, cost_tables

MICRO = SPACES["sgnas_micro"]
BUDGETS = [4e6, 3e6]


class Scores:
    """A score per architecture, and how often each was asked for."""

    def __init__(self, sign=1):
        self.sign, self.asked = sign, Counter()

    def __call__(self, archs):
        self.asked.update(archs)
        return [self.sign * random.Random(str(arch)).random() for arch in archs]


def contenders(names=("evolution", "random")):
    tables = cost_tables(MICRO, 10, ["flops"])
    return {name: Contender(Search(MICRO, tables, name, {}, population=4, generations=1), Scores(), Scores(-1))
            for name in names}  # fmt: skip


def timeless(rows):
    return [{**row, "seconds": 0} for row in rows]


def test_every_strategy_answers_every_budget_in_turn():
    saved = []
    rows = search_all(contenders(), "flops", BUDGETS, [0], lambda rows: saved.append(len(rows)), quiet=True)
    assert [(row["strategy"], row["budget"]) for row in rows] == [
        ("evolution", 4e6), ("random", 4e6), ("evolution", 3e6), ("random", 3e6),
    ]  # fmt: skip
    assert saved == [1, 2, 3, 4]  # each is kept as soon as it is known
    for row in rows:
        alone = replace(contenders()[row["strategy"]].search, limits={"flops": row["budget"]})
        found = alone.run(Scores())
        assert {name: row[name] for name in found["best"]} == found["best"]
        assert row["evaluations"] == found["evaluations"] == 8
        assert row["macs"] <= row["budget"]
        assert row["unseen_top1"] == -row["top1"]  # measured apart from what the search saw


def test_what_several_searches_score_is_measured_once_and_its_time_counts_for_each():
    scores, unseen = Scores(), Scores(-1)

    def slow(archs):
        time.sleep(0.05 * len(archs))
        return scores(archs)

    made = {name: replace(each, score=slow, unseen=unseen) for name, each in contenders().items()}
    twice = {name: replace(made["random"]) for name in ("random", "again")}
    rows = search_all(twice, "flops", BUDGETS, [0], lambda rows: None, quiet=True)
    assert set(scores.asked.values()) == set(unseen.asked.values()) == {1}
    for first, second in zip(rows[::2], rows[1::2], strict=True):
        assert {**second, "strategy": "random", "seconds": 0} == {**first, "seconds": 0}
        assert min(first["seconds"], second["seconds"]) >= 0.05 * second["evaluations"] - 0.05
    alone = search_all({"evolution": made["evolution"]}, "flops", BUDGETS, [0], lambda rows: None, quiet=True)
    together = search_all(made, "flops", BUDGETS, [0], lambda rows: None, quiet=True)
    assert timeless(alone) == timeless(together)[::2]


def test_what_is_learned_once_counts_with_the_first_budget():
    made = contenders(["additive"])
    rows = search_all(made, "flops", BUDGETS, [0, 1], lambda rows: None, quiet=True)
    assert [(row["budget"], row["seed"], row["evaluations"]) for row in rows] == [
        (4e6, 0, 9), (4e6, 1, 9), (3e6, 0, 1), (3e6, 1, 1),
    ]  # fmt: skip
    for row in rows:  # as if it had been learned for this budget alone
        alone = replace(made["additive"].search, limits={"flops": row["budget"]}, seed=row["seed"]).run(Scores())
        assert (alone["best"]["arch"], alone["evaluations"]) == (row["arch"], 9)
    again = search_all(contenders(["additive"]), "flops", BUDGETS, [0, 1], lambda rows: None, rows[:3], quiet=True)
    assert timeless(again) == timeless(rows)  # what was counted before is not counted twice


def test_what_is_done_is_not_done_again():
    whole = search_all(contenders(), "flops", BUDGETS, [0], lambda rows: None, quiet=True)
    again = contenders()
    rows = search_all(again, "flops", BUDGETS, [0], lambda rows: None, whole[:3], quiet=True)
    assert rows[:3] == whole[:3]
    assert timeless(rows) == timeless(whole)
    assert not again["evolution"].score.asked
    assert sum(again["random"].score.asked.values()) == 8


def test_totals_add_up_over_the_first_budgets():
    row = {"strategy": "generator", "seed": 0, "top1": 70.0, "unseen_top1": 60.0, "evaluations": 1, "seconds": 2.0}
    rows = [row, {**row, "strategy": "random", "evaluations": 9}, {**row, "top1": 80.0, "seconds": 3.0}]
    assert totals(rows, {"generator": 100.0}) == {
        "generator": [
            {"budgets": 1, "top1": 70.0, "unseen_top1": 60.0, "evaluations": 1, "seconds": 2.0,
             "seconds_with_preparation": 102.0},
            {"budgets": 2, "top1": 75.0, "unseen_top1": 60.0, "evaluations": 2, "seconds": 5.0,
             "seconds_with_preparation": 105.0},
        ],
        "random": [
            {"budgets": 1, "top1": 70.0, "unseen_top1": 60.0, "evaluations": 9, "seconds": 2.0,
             "seconds_with_preparation": 2.0},
        ],
    }  # fmt: skip


def test_no_image_is_both_seen_and_unseen():
    images = LabelledImages(datasets.Dataset.from_dict({"label": list(range(50))}), ("a",), {})
    seen, unseen = apart(images, 20)
    assert len(seen.rows) == 20
    assert sorted([*seen.rows["label"], *unseen.rows["label"]]) == list(range(50))
    assert list(seen.rows["label"]) != list(range(20))  # not the first ones: rows may be in the order of their classes
    assert apart(images, 20)[0].rows["label"] == seen.rows["label"]
    with pytest.raises(DataError, match="50 images were held out; take fewer than that with --images"):
        apart(images, 50)


# --- The command


def arguments(made, photos, output, *more):
    return [
        "compare", "--space", "sgnas_micro", "--supernet", made / "supernet", "--generator", made / "generator",
        "--dataset", photos, "--output", output, "--population", 4, "--generations", 1, "--images", 3, "--workers", 0,
        *more,
    ]  # fmt: skip


def invoke(*args):
    return CliRunner().invoke(main, [str(a) for a in args])


def test_all_strategies_in_one_run(made, photos, tmp_path):
    names = ",".join(STRATEGIES)
    run = invoke(*arguments(made, photos, tmp_path / "out", "--strategies", names, "--budgets", "3M,4M"))
    assert run.exit_code == 0, run.output
    record = json.loads((tmp_path / "out" / "comparison.json").read_text())
    rows = record["rows"]
    assert [(row["strategy"], row["budget"]) for row in rows] == [(n, b) for b in (3e6, 4e6) for n in STRATEGIES]
    assert all(row["macs"] <= row["budget"] for row in rows)
    scored = {row["strategy"]: row["evaluations"] for row in rows}
    assert scored == {name: 1 if name in ("generator", "additive") else 8 for name in STRATEGIES}
    assert [own[-1]["budgets"] for own in record["totals"].values()] == [2] * len(STRATEGIES)
    assert {net["training"]["sampler"] for net in record["supernets"].values()} == {"fair"}
    assert "/" not in json.dumps(record).replace("\\n", "")  # no path of this machine
    page = (tmp_path / "out" / "README.md").read_text()
    assert page == report(record)
    assert page.strip() == run.stdout.strip()
    for name in STRATEGIES:
        assert len(re.findall(rf"^\| {name} ", page, re.MULTILINE)) == 1 + 2 + 2  # supernet, 1 and 2 budgets, searches
    with Image.open(tmp_path / "out" / "comparison.png") as picture:
        assert picture.width > picture.height

    trained = load_supernet(made / "supernet")
    held = held_out_images(trained, str(photos))
    assert len(held.rows) == 6
    for row in rows[:2]:
        model = trained.inherit(MICRO.parse(row["arch"])).eval()
        found = [top1_of(model, part) for part in apart(held, 3)]
        assert found == pytest.approx([row["top1"], row["unseen_top1"]])


def top1_of(model, images):
    from accelerate import Accelerator

    from sgnas_zoo.training.evaluation import evaluate
    from sgnas_zoo.training.runs import measuring_loader

    accelerator = Accelerator(cpu=True)
    return evaluate(model, measuring_loader(images, model, accelerator), accelerator)["top1"]


def test_a_comparison_goes_on_where_it_was(made, photos, tmp_path):
    make = arguments(made, photos, tmp_path, "--strategies", "evolution,generator", "--budgets", "3M,4M")
    assert invoke(*make).exit_code == 0
    whole = json.loads((tmp_path / "comparison.json").read_text())
    cut = {**whole, "rows": whole["rows"][:1]}
    (tmp_path / "comparison.json").write_text(json.dumps(cut))
    assert "already holds a search; choose another --output, or add --resume" in invoke(*make).stderr
    assert "population: 4 there, 6 here" in invoke(*make, "--population", 6, "--resume").stderr
    assert invoke(*make, "--resume").exit_code == 0
    after = json.loads((tmp_path / "comparison.json").read_text())
    assert after["rows"][0] == whole["rows"][0]
    assert timeless(after["rows"]) == timeless(whole["rows"])


def test_strategies_may_have_a_supernet_each(made, photos, tmp_path):
    own = ("--supernet", f"random={made / 'supernet'}", "--strategies", "random,evolution", "--budgets", "3M")
    command = arguments(made, photos, tmp_path / "out", *own)
    command[command.index(made / "supernet")] = made / "model"  # what evolution would take
    assert "model" in invoke(*command).stderr
    command[command.index("random,evolution")] = "random"
    assert invoke(*command).exit_code == 0


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--strategies", "evolutoin"), "Unknown strategy 'evolutoin': did you mean evolution"),
        (("--space", "sgnas_mikro"), "did you mean sgnas_micro"),
        (("--space", "spos"), "A supernet is of sgnas_micro, not spos; name one of spos"),
        (("--budgets", "3M,100K"), "is below what sgnas_micro can do"),
        (("--budgets", "3M,,4M"), "is not a budget; write a positive count such as 350M"),
        (("--budgets", "3M:4M"), "'3M:4M' is not a valid range: it takes a first amount, a last one and a step"),
        (("--budgets", "3M:4M:300K"), "is not a valid range: its step does not lead from its first"),
        (("--seeds", "0,1,0"), "Seed 0 is there more than once"),
        (("--seeds", "0,x"), "--seeds 0,x are none; give whole numbers from 0, such as 0,1,2"),
        (("--truth", "nowhere"), "Cannot read nowhere: No such file or directory; name the JSON file of a truth table"),
        (("--cost", "latency", "--budgets", "20"), "'20' is not a latency; give a time with its unit, such as 20ms"),
        (("--cost", "flop"), "Unknown cost 'flop': did you mean flops"),
        (("--supernet", "greedy=x"), "The supernet of greedy is of none of the strategies"),
        (("--images", "6"), "6 images were held out; take fewer than that with --images"),
        (("--dataset", "nowhere"), "nowhere"),
        (("--generator", "nowhere", "--strategies", "generator"), "nowhere"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(made, photos, tmp_path, more, message):
    command = arguments(made, photos, tmp_path / "out", "--strategies", "random", "--budgets", "3M", *more)
    run = invoke(*command)
    assert run.exit_code == 2
    assert message in run.stderr
    assert len(run.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()
