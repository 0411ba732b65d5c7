"""Search strategies: every one on every space, against what can be enumerated, as real processes that are killed."""

from __future__ import annotations

import functools
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import sgnas_zoo
from sgnas_zoo.cli.main import main
from sgnas_zoo.costs import BUDGETS, COSTS, CostTable, native_conditions
from sgnas_zoo.errors import ArtifactError, BudgetError, UnknownNameError
from sgnas_zoo.search.additive import fit_to_random
from sgnas_zoo.search.bounds import Bound
from sgnas_zoo.search.evolution import evolve, search_randomly
from sgnas_zoo.search.generator import ArchGenerator
from sgnas_zoo.search.nsga2 import search_front
from sgnas_zoo.search.problem import Problem
from sgnas_zoo.search.strategies import STRATEGIES
from sgnas_zoo.spaces import SPACES, Choice, Form, Kernels, MBConvKind, Row, SearchSpace
from sgnas_zoo.training.searching.candidates import EvaluationLog
from sgnas_zoo.training.searching.search import Search, cost_tables

SMALL = SearchSpace(
    name="small",
    family="sgnas",
    kind=MBConvKind(),
    rows=(Row(16, 1, 1), Row(24, 2, 2), Row(32, 2, 2)),
    choices=(
        Choice("3", Kernels((3,))),
        Choice("5", Kernels((5,))),
        Choice("7", Kernels((7,))),
        Choice("0", Kernels()),
    ),
    slots=2,
    final=Form("relu", "relu"),
    resolution=32,
    num_classes=10,
)
MACS = COSTS["macs"].table(SMALL, native_conditions(SMALL))


def every_arch(space):
    slots = [slot for layer in space.layers for slot in layer.allowed]
    for picks in itertools.product(*slots):
        yield space.arch([picks[i : i + space.slots] for i in range(0, len(picks), space.slots)])


class Landscape:
    """Scores that add up over slots, so that the best architecture is known; it counts what it is asked."""

    def __init__(self, space, seed=0):
        self.values = np.random.default_rng(seed).normal(size=space.shape)
        self.asked = Counter()

    def value(self, arch):
        return float(sum(self.values[n, s, p] for n, picks in enumerate(arch.picks) for s, p in enumerate(picks)))

    def __call__(self, archs):
        self.asked.update(archs)
        return [self.value(arch) for arch in archs]


def middle(table, share=0.5):
    return table.minimum + share * (table.maximum - table.minimum)


def a_generator(space, table):
    torch.manual_seed(0)
    rng = random.Random(0)
    span = (table.minimum, table.maximum)
    return ArchGenerator(space.sample(rng), table.name, native_conditions(space, form="search"), span, width=8)


@functools.cache
def tables_of(space):
    """Tables of all budgets; that of latency has random times, as a device may give any."""
    tables = cost_tables(space, space.num_classes, ["flops"])
    tables["bitops"] = COSTS["bitops"].table(space, native_conditions(space, form="search"))
    rng = random.Random(2)
    times = tuple(tuple(rng.uniform(0.1, 2.0) for _ in layer) for layer in tables["flops"].layers)
    return {**tables, "latency": CostTable("latency_ms", "ms", space, 1.5, times)}


def a_search(space, strategy, **changes):
    tables = tables_of(space)
    rng = random.Random(1)
    pool = [space.sample(rng) for _ in range(5)]
    whole = {"limits": {"flops": middle(tables["flops"])}, "population": 6, "generations": 2}
    return Search(
        space, tables, strategy, generator=a_generator(space, tables[space.budget]), pool=pool, **whole | changes
    )


def priced():
    """Spaces and the budgets that their choices are about: all but FLOPs of bits, and BitOps of what has no bits."""
    tables = {name: tables_of(SPACES[name]) for name in SPACES}
    return [(name, cost) for name in SPACES for cost, table in tables[name].items() if table.minimum < table.maximum]


def each_strategy():
    """Each strategy for each space and budget; one for each in turn is fast, but for times of the longest spaces."""
    names = [*STRATEGIES]
    for number, (space, cost) in enumerate(priced()):
        long = cost == "latency" and len(SPACES[space].layers) * SPACES[space].slots > 50
        for strategy in names:
            fast = strategy == names[number % len(names)] and not long
            yield pytest.param(space, cost, strategy, marks=() if fast else pytest.mark.slow)


@pytest.mark.parametrize("strategy", ["generator", "additive"])
@pytest.mark.parametrize("cost", ["flops", "params"])
def test_the_best_of_several_candidates_wins(strategy, cost):
    space, landscape = SPACES["nas_bench_macro"], Landscape(SPACES["nas_bench_macro"])
    table = tables_of(space)[cost]
    search = a_search(space, strategy, limits={cost: middle(table)}, candidates=7)
    one, seven = replace(search, candidates=1).run(landscape), search.run(landscape)
    asked = [*landscape.asked]
    assert seven["evaluations"] == one["evaluations"] + 6
    assert len(set(asked[-6:])) == 6
    assert all(table.measure(arch) <= middle(table) for arch in asked[-6:])
    assert seven["best"]["top1"] == max(one["best"]["top1"], *(landscape.value(arch) for arch in asked[-6:]))


def test_an_additive_model_answers_any_bounds_without_further_scores():
    space, landscape = SPACES["nas_bench_macro"], Landscape(SPACES["nas_bench_macro"])
    problem = Problem(space, [], landscape)
    model = fit_to_random(problem, 200)
    for share in (0.2, 0.5, 0.8):
        limits = {cost: middle(tables_of(space)[cost], share) for cost in ("flops", "params")}
        found = a_search(space, "additive", limits=limits, additive=model).run(landscape)
        assert found["evaluations"] == 1
        fits = [arch for arch in every_arch(space)
                if all(tables_of(space)[cost].measure(arch) <= limit for cost, limit in limits.items())]  # fmt: skip
        assert found["best"]["top1"] == max(map(landscape.value, fits))


def test_an_additive_model_is_fitted_to_as_many_paths_as_asked_for():
    space = SPACES["nas_bench_macro"]
    for paths, count in ((40, 40), (None, 19 - 1)):
        landscape = Landscape(space)
        search = a_search(space, "additive", limits={"flops": middle(tables_of(space)["flops"])}, paths=paths)
        learned, spent = search.learn(landscape)
        assert spent["evaluations"] == len(landscape.asked) == count
        assert learned.run(landscape)["evaluations"] == 1
        found = search.run(Landscape(space))
        assert count <= found["evaluations"] <= count + 1 == search.most_scores()


@pytest.mark.parametrize(("name", "cost", "strategy"), [*each_strategy()])
def test_every_strategy_on_every_space_keeps_the_budget_of_every_cost(name, strategy, cost):
    space, landscape = SPACES[name], Landscape(SPACES[name])
    table = tables_of(space)[cost]
    most = middle(table)
    asked = {"limits": {cost: most}, "objectives": ("accuracy", cost)}
    search = a_search(space, strategy, **asked)
    result = search.run(landscape)
    assert result["evaluations"] == len(landscape.asked)
    assert result["evaluations"] == 1 if strategy == "generator" else 6 < result["evaluations"] <= 19
    assert result["evaluations"] <= search.most_scores()
    assert max(landscape.asked.values()) == 1  # nothing is scored twice
    candidates = [*landscape.asked][-1:] if strategy == "additive" else [*landscape.asked]
    assert all(table.measure(arch) <= most for arch in candidates)
    best = max(candidates, key=landscape.value)
    assert result["best"] == result["front"][0]
    assert result["best"]["top1"] == landscape.value(best)
    assert result["best"][BUDGETS[cost].cost] == table.measure(space.parse(result["best"]["arch"]))
    again = a_search(space, strategy, **asked).run(Landscape(space))
    assert {**again, "seconds": 0} == {**result, "seconds": 0}


@pytest.mark.parametrize("strategy", ["evolution", "random", "nsga2", "greedy"])
def test_the_seed_decides(strategy):
    runs = [a_search(SMALL, strategy, seed=seed).run(Landscape(SMALL)) for seed in (0, 0, 1)]
    assert runs[0]["front"] == runs[1]["front"]
    assert runs[0]["front"] != runs[2]["front"]


def test_evolution_comes_near_the_best_and_random_search_does_not():
    space = SPACES["sgnas_micro"]
    table = COSTS["macs"].table(space, native_conditions(space))
    bound = Bound(table, middle(table))
    found = {}
    for method in (evolve, search_randomly):
        problem = Problem(space, [bound], Landscape(space))
        method(problem, 20, 15)
        assert len(problem.scores) == 320
        found[method] = max(problem.scores.values())
    possible = Landscape(space).values.max(-1).sum()
    assert possible > found[evolve] > 0.7 * possible
    assert found[search_randomly] < 0.6 * possible


def test_a_good_pool_is_a_head_start():
    space = SPACES["greedynas"]
    landscape = Landscape(space)
    best = space.arch([[int(np.argmax([v if i in layer.allowed[0] else -9 for i, v in enumerate(row[0])]))]
                       for layer, row in zip(space.layers, landscape.values, strict=True)])  # fmt: skip
    rng = random.Random(0)
    pool = [space.mutate(best, rng, 0.2) for _ in range(8)]
    results = []
    for initial in ([], pool):
        problem = Problem(space, [], landscape)
        evolve(problem, 10, 3, initial)
        results.append(max(problem.scores.values()))
    assert results[1] > results[0]


def test_a_space_that_is_used_up_ends_the_search():
    tiny = SearchSpace(
        name="tiny", family="greedynas", kind=MBConvKind(), rows=(Row(16, 2, 2),),
        choices=(Choice("a", Kernels((3,))), Choice("b", Kernels((5,)))),
        final=Form("relu", "relu"),
    )  # fmt: skip
    problem = Problem(tiny, [], Landscape(tiny))
    evolve(problem, 10, 50)
    assert len(problem.scores) == 4


def test_bounds_that_nothing_keeps_are_refused_before_anything_is_scored():
    landscape = Landscape(SMALL)
    against = CostTable("against", "ms", SMALL, 0.0, tuple(tuple(max(c) + 1 - x for x in c) for c in MACS.layers))
    with pytest.raises(BudgetError, match="below what small can do"):
        Problem(SMALL, [Bound(MACS, MACS.minimum - 1)], landscape)
    with pytest.raises(BudgetError, match="No architecture of small keeps"):
        Problem(SMALL, [Bound(MACS, MACS.minimum + 1), Bound(against, against.minimum)], landscape)
    assert not landscape.asked


def test_tight_bounds_are_met_where_luck_does_not():
    """One architecture in a thousand keeps this bound; drawing has to find such ones all the same."""
    space = SPACES["sgnas_imagenet"]
    table = COSTS["macs"].table(space, native_conditions(space))
    problem = Problem(space, [Bound(table, middle(table, 0.03))], Landscape(space))
    assert not any(problem.fits(space.sample(random.Random(seed))) for seed in range(200))
    drawn = {problem.draw() for _ in range(20)}
    assert len(drawn) == 20
    assert all(problem.fits(arch) for arch in drawn)


def test_the_front_is_what_nothing_dominates():
    landscape = Landscape(SMALL)
    rng = random.Random(0)
    problem = Problem(SMALL, [], landscape)
    problem.evaluate([SMALL.sample(rng) for _ in range(200)])
    front = problem.front([MACS])
    points = {arch: (problem.scores[arch], MACS.measure(arch)) for arch in problem.scores}
    for arch, (score, cost) in points.items():
        beaten = any(s >= score and c <= cost and (s, c) != (score, cost) for s, c in points.values())
        assert (arch in front) == (not beaten)
    assert 3 < len(front) < 100


def test_nsga2_finds_the_front_of_a_space_that_can_be_enumerated():
    landscape = Landscape(SMALL)
    whole = Problem(SMALL, [], landscape)
    whole.evaluate([*every_arch(SMALL)][::97])
    searched, drawn = Problem(SMALL, [], landscape), Problem(SMALL, [], landscape)
    search_front(searched, 30, 20, [MACS])
    search_randomly(drawn, 30, 20)

    def area(problem):
        """Share of the rectangle above the front that it leaves (hypervolume)."""
        scores = [problem.scores[a] for a in problem.front([MACS])]
        costs = [MACS.measure(a) for a in problem.front([MACS])]
        points = sorted(zip(costs, scores, strict=True))
        edges = [*(c for c, _ in points[1:]), MACS.maximum]
        return sum((right - cost) * (score + 20) for (cost, score), right in zip(points, edges, strict=True))

    assert area(searched) > area(drawn)
    assert len(searched.front([MACS])) >= 10


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strategy": "evolutoin"}, "Unknown strategy 'evolutoin': did you mean evolution"),
        ({"objectives": ("accuracy", "flop")}, "Unknown objective 'flop': did you mean flops"),
        ({"objectives": ("flops", "params")}, "Objectives are accuracy and one of flops, params, latency"),
        ({"objectives": ("accuracy",)}, "Objectives are accuracy and one of"),
    ],
)
def test_unknown_names_are_refused(changes, message):
    with pytest.raises(UnknownNameError, match=message):
        a_search(SMALL, **{"strategy": "evolution"} | changes)


def test_what_a_strategy_lacks_is_named():
    tables = cost_tables(SMALL, 10, ["flops"])
    for strategy, message in (("generator", "name one with --generator"), ("greedy", "has no candidate pool")):
        search = Search(SMALL, tables, strategy, {"flops": middle(MACS)})
        with pytest.raises(ArtifactError, match=message):
            search.run(Landscape(SMALL))
    other = SPACES["sgnas_micro"]
    makes = a_generator(other, COSTS["macs"].table(other, native_conditions(other)))
    with pytest.raises(ArtifactError, match="The generator is of sgnas_micro, the search of small; name a pair"):
        Search(SMALL, tables, "generator", {"flops": middle(MACS)}, generator=makes)


# --- The file of scores


def test_what_is_in_the_file_is_not_scored_again(tmp_path):
    path, landscape = tmp_path / "scores.jsonl", Landscape(SMALL)
    archs = [SMALL.sample(random.Random(seed)) for seed in range(6)]
    first = EvaluationLog(path, SMALL, landscape)(archs[:4])
    with path.open("a") as file:
        file.write('{"arch": "3-3-')  # killed in the middle of a line
    assert EvaluationLog(path, SMALL, landscape)(archs) == first + [landscape.value(a) for a in archs[4:]]
    assert max(landscape.asked.values()) == 1
    assert len(path.read_text().splitlines()) == 6


def test_what_earlier_runs_took_is_known_once(tmp_path):
    path, archs = tmp_path / "scores.jsonl", [SMALL.sample(random.Random(seed)) for seed in range(4)]
    lines = [{"arch": str(archs[0]), "top1": 1.0, "seconds": 5.0}, {"arch": str(archs[1]), "top1": 2.0}]
    lines.append({"arch": str(archs[2]), "top1": 3.0, "seconds": 7.0})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    log = EvaluationLog(path, SMALL, Landscape(SMALL))
    log([archs[0], archs[1], archs[3]])
    log([archs[0], archs[3]])
    assert log.earlier == 5.0  # not what nobody asked for, nor what this run took
    (own,) = (json.loads(line) for line in path.read_text().splitlines()[3:])
    assert own["seconds"] >= 0


@pytest.mark.parametrize("line", ["{}", "[]", "no json", '{"arch": "9-9", "top1": 1}', '{"arch": 3, "top1": 1}'])
def test_a_file_of_something_else_is_refused(tmp_path, line):
    path = tmp_path / "scores.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(ArtifactError, match="does not hold scores of small; choose another --output"):
        EvaluationLog(path, SMALL, Landscape(SMALL))


# --- The command


def arguments(made, photos, output, *more):
    return [
        "search", "--supernet", str(made / "supernet"), "--dataset", str(photos), "--output", str(output),
        "--workers", "0", "--population", "4", "--generations", "2", "--flops", "4M", *map(str, more),
    ]  # fmt: skip


def invoke(*args):
    return CliRunner().invoke(main, [str(a) for a in args])


def results(folder):
    return {name: json.loads((folder / name).read_text()) for name in ("result.json", "front.json")}


@pytest.mark.parametrize("strategy", ["generator", "random", "evolution", "nsga2"])
def test_the_same_command_and_output_for_all(made, photos, tmp_path, strategy):
    output = tmp_path / "search"
    more = ("--generator", made / "generator") if strategy == "generator" else ()
    run = invoke(*arguments(made, photos, output, "--strategy", strategy, *more))
    assert run.exit_code == 0, run.output
    found = results(output)
    best = found["result.json"]["best"]
    assert best["macs"] <= 4e6
    assert f"sgnas_micro {best['arch']} (" in run.stdout
    assert found["front.json"]["front"][0] == best
    lines = (output / "evaluations.jsonl").read_text().splitlines()
    assert len(lines) == found["result.json"]["evaluations"]
    with Image.open(output / "front.png") as picture:
        assert picture.width > 500
    arch = sgnas_zoo.SPACES["sgnas_micro"].parse(best["arch"])
    assert str(arch) == best["arch"]
    assert found["result.json"]["dataset"]["part"] == "held"  # never the test split


def test_a_search_is_not_begun_twice_in_one_folder(made, photos, tmp_path):
    output = tmp_path / "search"
    assert invoke(*arguments(made, photos, output)).exit_code == 0
    again = invoke(*arguments(made, photos, output))
    assert again.exit_code == 2
    assert again.stderr == f"Error: {output} already holds a search; choose another --output, or add --resume.\n"
    other = invoke(*arguments(made, photos, output, "--resume", "--seed", "7"))
    assert other.exit_code == 2
    assert "has other settings (seed: 0 there, 7 here); repeat them." in other.stderr
    before = results(output)
    assert invoke(*arguments(made, photos, output, "--resume")).exit_code == 0
    after = results(output)
    assert before["front.json"] == after["front.json"]
    begun = invoke(*arguments(made, photos, tmp_path / "none", "--resume"))  # killed before it wrote anything
    assert begun.exit_code == 0
    assert results(tmp_path / "none")["front.json"] == before["front.json"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--strategy", "evolutoin"), "Unknown strategy 'evolutoin': did you mean evolution"),
        (("--space", "spos"), "This supernet is of sgnas_micro, not spos; leave space out"),
        (("--objectives", "accuracy,flop"), "Unknown objective 'flop': did you mean flops"),
        (("--flops", "100K"), "is below what sgnas_micro can do"),
        (("--profile", "x.json"), "A profile is about latency; add a latency such as 20ms"),
        (("--latency", "20"), "'20' is not a latency; give a time with its unit, such as 20ms"),
        (("--supernet", "nowhere"), "nowhere"),
        (("--dataset", "nowhere"), "nowhere"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(made, photos, tmp_path, more, message):
    run = invoke(*arguments(made, photos, tmp_path / "out", *more))
    assert run.exit_code == 2, run.output
    assert message in run.stderr
    assert len(run.stderr.splitlines()) == 1
    assert not (tmp_path / "out" / "result.json").exists()


def launched(command, **kwargs):
    env = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(command, env=env, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **kwargs)


@pytest.mark.slow
def test_killed_and_resumed_it_finds_the_same(made, photos, tmp_path):
    straight, cut = tmp_path / "straight", tmp_path / "cut"
    command = [sys.executable, "-m", "sgnas_zoo.cli"]
    with launched([*command, *arguments(made, photos, straight)]) as process:
        assert process.wait(300) == 0, process.stderr.read()
    killed = 0
    while killed < 3:
        scores = cut / "evaluations.jsonl"
        had = len(scores.read_text().splitlines()) if scores.exists() else 0
        more = ("--resume",) if (cut / "settings.json").exists() else ()
        with launched([*command, *arguments(made, photos, cut, *more)]) as process:
            deadline = time.monotonic() + 300
            while not (scores.exists() and len(scores.read_text().splitlines()) > had):
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
        killed += 1
    with launched([*command, *arguments(made, photos, cut, "--resume")]) as process:
        assert process.wait(300) == 0, process.stderr.read()
    assert (straight / "front.json").read_bytes() == (cut / "front.json").read_bytes()
    told = [(folder / "evaluations.jsonl").read_text().splitlines() for folder in (straight, cut)]
    one, other = ([{**json.loads(line), "seconds": 0} for line in lines] for lines in told)
    assert one == other


@pytest.mark.slow
def test_two_processes_find_what_one_finds(made, photos, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    assert invoke(*arguments(made, photos, one)).exit_code == 0
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "sgnas_zoo.cli"]
    with launched([sys.executable, *torchrun, *arguments(made, photos, two)]) as process:
        said, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert said.count("evolution: ") == 1
    assert (one / "front.json").read_bytes() == (two / "front.json").read_bytes()
