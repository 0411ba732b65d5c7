"""Generators that learn by imitation: of what an additive model of a supernet answers."""

import json
import random

import numpy as np
import pytest
from recipe_runs import run_recipe

from sgnas_zoo.hub.generators import load_generator
from sgnas_zoo.hub.supernets import load_supernet
from sgnas_zoo.search.generator import ArchGenerator
from sgnas_zoo.search.propose import propose
from sgnas_zoo.spaces import SPACES
from sgnas_zoo.supernet import make_supernet
from sgnas_zoo.training.generators import costs
from sgnas_zoo.training.lessons import ask_supernet, read_answers

FEW = ("--constraint-batch", 4, "--paths", 6, "--images", 8, "--budgets", 7)


def test_a_supernet_teaches_what_its_additive_model_answers(started, colours, tmp_path):
    supernet, scores = started / "supernet", tmp_path / "scores.jsonl"
    asked = ("--supernet", supernet, "--dataset", colours, *FEW, "--scores", scores)
    run_recipe("distill_generator", *asked, "--steps", 150, "--output", tmp_path / "made")
    told = json.loads((tmp_path / "made" / "evaluation.json").read_text())
    space = SPACES["sgnas_micro"]
    assert told["supernet"]["id"] == "supernet"
    assert told["additive"]["paths"] == len(scores.read_text().splitlines()) == 6
    assert str(colours) not in json.dumps(told)
    assert -0.1 < told["lost"] < 20
    assert {"paths": 6, "steps": 150, "processes": 1}.items() <= told["training"].items()
    assert told["training"]["hours"] >= 0
    generator = load_generator(tmp_path / "made")
    table, conditions = costs(load_supernet(supernet).supernet)
    assert generator.conditions == conditions
    taught = {space.parse(answer) for answer in told["answers"]}
    agree = [
        np.mean(np.array(propose(generator, {table: [table.measure(arch)]})[0].arch.picks) == np.array(arch.picks))
        for arch in taught
    ]
    stranger = space.sample(random.Random(0))
    assert np.mean(agree) > 0.8 > np.mean([np.array(stranger.picks) == np.array(arch.picks) for arch in taught])

    rows = [{**json.loads(line), "seconds": 3600} for line in scores.read_text().splitlines()]
    scores.write_text("".join(json.dumps(row) + "\n" for row in rows))
    before = scores.read_bytes()
    run_recipe("distill_generator", *asked, "--steps", 1, "--output", tmp_path / "again")
    assert scores.read_bytes() == before  # nothing was scored twice
    told = json.loads((tmp_path / "again" / "evaluation.json").read_text())
    assert 6 <= told["training"]["hours"] < 6.5  # what earlier runs took counts


def test_a_supernet_without_its_images_is_refused(started, tmp_path):
    said = run_recipe("distill_generator", "--supernet", started / "supernet", "--output", tmp_path / "made", code=2)
    assert "add --dataset, what it was trained on" in said
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("name", ["nas_bench_macro", "sgnas_micro", "resnet_micro_bits"])
def test_each_answer_is_the_best_within_its_budget(name):
    space = SPACES[name]
    worths = np.random.default_rng(0).normal(size=space.shape)

    def score(archs):
        return [float(np.take_along_axis(worths, np.array(arch.picks)[..., None], 2).sum()) for arch in archs]

    class Trained:
        supernet, source = make_supernet(space, 10), None

    lesson = ask_supernet(Trained, score, paths=400, budgets=9, spend=0.99, seed=0)
    low, high = lesson.cost_range
    assert lesson.targets == [lesson.table.measure(answer) for answer in lesson.answers]
    free = ask_supernet(Trained, score, paths=400, budgets=9, spend=0, seed=0)
    assert (free.answers, free.targets) == (lesson.answers, np.linspace(low, high, 9).tolist())
    assert len(lesson.answers) == 9
    rng = random.Random(1)
    others = [space.sample(rng) for _ in range(500)]
    for limit, answer in zip(np.linspace(low, high, 9), lesson.answers, strict=True):
        assert lesson.table.measure(answer) <= limit
        fits = [arch for arch in others if lesson.table.measure(arch) <= limit]
        assert score([answer])[0] > max(score(fits), default=-np.inf) - 0.1
    lost = lesson.lost(ArchGenerator(others[0], lesson.table.name, lesson.conditions, lesson.cost_range))
    assert lost > 0.5  # it was taught nothing


def test_published_answers_are_read_with_their_space():
    from places import RECIPES

    lesson = read_answers(RECIPES / "data" / "sgnas_imagenet_answers.json")
    assert lesson.table.space is SPACES["sgnas_imagenet"]
    assert len(lesson.answers) == 180
    assert lesson.targets == [lesson.table.measure(answer) for answer in lesson.answers]
