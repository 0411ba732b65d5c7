"""The greedy path sampler: what it draws, keeps and remembers, and what other implementations got wrong."""

import math
import random
from collections import Counter

import pytest
import torch
from accelerate import Accelerator
from sampled import paths_of
from scrambled import scramble

from sgnas_zoo.costs import COSTS, native_conditions
from sgnas_zoo.errors import SpaceError, TrainingError
from sgnas_zoo.spaces import SPACES
from sgnas_zoo.supernet import SAMPLERS, GreedySampler, Sampling, make_supernet
from sgnas_zoo.supernet.greedy import DRAWN, KEPT, POOL_PROB, POOL_SIZE
from sgnas_zoo.training.surrogate import surrogate_losses

SPOS, MICRO = SPACES["spos"], SPACES["sgnas_micro"]


def cheap(arch):
    """A loss that is lower the more layers take their first choice; a spread keeps ties apart."""
    return sum(sum(picks) for picks in arch.picks) + random.Random(str(arch)).random() / 10


class Scores:
    """A loss that remembers what it was asked."""

    def __init__(self, score=cheap):
        self.score, self.rounds = score, []

    def __call__(self, archs):
        self.rounds.append(list(archs))
        return [self.score(arch) for arch in archs]


def sampler(scores=None, *, steps=1500, paths=1, seed=0, space=SPOS, **more):
    return GreedySampler(Sampling(space, seed, paths, steps, scores or Scores(), **more))


def run(draw, steps, start=0):
    return [draw(step) for step in range(start, steps)]


def test_a_fifteenth_of_the_steps_is_uniform_and_costs_no_evaluation():
    scores = Scores()
    draw = sampler(scores)
    assert [path for (path,) in run(draw, 100)] == [paths_of("uniform", SPOS, 0, step, 1)[0] for step in range(100)]
    assert (draw.evaluations, draw.pool, scores.rounds) == (0, [], [])
    draw(100)
    assert (draw.evaluations, len(scores.rounds)) == (DRAWN, 1)


def test_a_round_trains_the_better_half_of_what_was_drawn_one_after_the_other():
    scores = Scores()
    draw = sampler(scores)
    trained = [path for (path,) in run(draw, 600)][100:]
    assert len(scores.rounds) == 500 / KEPT  # not one a step
    assert draw.evaluations == sum(map(len, scores.rounds)) == DRAWN * len(scores.rounds)  # nor is the pool scored anew
    for number, drawn in enumerate(scores.rounds):
        assert len(set(drawn)) == DRAWN
        kept = trained[KEPT * number : KEPT * (number + 1)]
        assert kept == sorted(drawn, key=cheap)[:KEPT]  # of the round, though the pool has better ones; none twice
    late = [min(map(cheap, drawn)) for drawn in scores.rounds[50:]]
    assert max(late) > min(map(cheap, draw.pool))  # so the line above can tell a round from the pool


@pytest.mark.parametrize("paths", [2, 4, 7])
def test_steps_of_several_paths_take_them_in_turn(paths):
    one, several = sampler(steps=3000), sampler(steps=3000, paths=paths)
    singly = [path for (path,) in run(one, 200 + paths, 200)]
    assert several(200) == singly[:paths] or paths > KEPT
    assert all(len(drawn) == paths for drawn in run(several, 230, 201))


def test_the_pool_keeps_the_best_that_were_trained():
    scores = Scores()
    draw = sampler(scores, steps=3000)
    trained = {path for (path,) in run(draw, 3000)}
    losses = [cheap(path) for path in draw.pool]
    assert len(draw.pool) == POOL_SIZE
    assert losses == sorted(losses)
    every = {path for drawn in scores.rounds for path in sorted(drawn, key=cheap)[:KEPT]}
    assert set(draw.pool) == set(sorted(every, key=cheap)[:POOL_SIZE]) <= trained | every


def test_a_path_that_is_scored_again_counts_as_it_does_now():
    """Scores of an untrained supernet would otherwise stay for ever."""
    age = Counter()

    def aging(arch):
        age[arch] += 1
        return cheap(arch) + 1000 * (age[arch] > 1)

    draw = sampler(Scores(aging), steps=3000)
    run(draw, 2000)
    again = [arch for arch in draw.pool if age[arch] > 1]
    fresh = [arch for arch in draw.pool if age[arch] == 1]
    assert max(age.values()) > 1
    assert draw.pool == fresh + again


def test_the_pool_is_drawn_from_more_and_more():
    draw = sampler()
    probs = [draw.pool_prob(step) for step in range(1500)]
    assert probs[:101] == [0.0] * 101
    assert probs[-1] == POOL_PROB
    assert probs == sorted(probs)
    assert probs[800] == pytest.approx(POOL_PROB / 2, abs=1e-3)
    scores, known, shares = Scores(), set(), []
    draw = sampler(scores)
    for step in range(1500):
        before = len(scores.rounds)
        draw(step)
        if len(scores.rounds) > before:
            shares.append(sum(arch in known for arch in scores.rounds[-1]) / DRAWN)
            known = set(draw.pool)
    third = len(shares) // 3
    early, middle, late = (sum(part) / len(part) for part in (shares[:third], shares[third:-third], shares[-third:]))
    assert early < 0.2 < middle < 0.5 < late < 0.8


def test_good_paths_are_trained_more_often():
    greedy = [path for (path,) in run(sampler(), 1500)]
    uniform = [paths_of("uniform", SPOS, 0, step, 1)[0] for step in range(1500)]
    mean = lambda paths: sum(map(cheap, paths)) / len(paths)  # noqa: E731
    assert mean(greedy[1000:]) < mean(greedy[100:400]) < mean(uniform) - 3


def test_a_resumed_sampler_goes_on_as_if_nothing_had_happened():
    whole = sampler()
    expected = run(whole, 1000)
    first = sampler()
    assert run(first, 633) == expected[:633]  # in the middle of a round
    state = first.state_dict()
    again = sampler()
    again.load_state_dict(state)
    assert run(again, 1000, 633) == expected[633:]
    assert again.state_dict() == whole.state_dict()
    forgetful = sampler()
    assert run(forgetful, 1000, 633) != expected[633:]


def test_the_pool_renews_itself_less_and_less():
    draw = sampler(steps=4000)
    shares = []
    for step in range(4000):
        draw(step)
        if step % 500 == 499:
            shares.append(draw.renewed())
    assert shares[:3] == [1.0] * 3  # not full yet, then full for the first time
    assert 0.08 < shares[4] < shares[3] < 1
    assert shares[-1] < 0.08
    assert draw.renewed() == 0.0


def test_a_limit_holds_for_every_path():
    table = COSTS["macs"].table(SPOS, native_conditions(SPOS))
    fits = lambda path: table.measure(path) <= 320e6  # noqa: E731
    paths = [path for (path,) in run(sampler(fits=fits), 600)]
    assert all(map(fits, paths))
    assert not all(fits(path) for (path,) in run(sampler(), 600))
    with pytest.raises(SpaceError, match=r"None of 500 random paths of spos keeps the limit; raise --flops"):
        sampler(fits=lambda path: False)
    with pytest.raises(SpaceError, match=r"uniform sampler keeps no limit.*--sampler greedy"):
        SAMPLERS["uniform"](Sampling(SPOS, fits=fits))


def test_without_held_out_images_there_is_nothing_to_rank_by():
    with pytest.raises(SpaceError, match=r"ranks paths by their loss on held-out images; add --holdout"):
        GreedySampler(Sampling(SPOS))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_names_step_and_path(value):
    draw = sampler(Scores(lambda arch: value), steps=150)
    with pytest.raises(TrainingError, match=r"The loss of [0-3]{20} on the surrogate images at step 10 is not finite"):
        run(draw, 11)


# --- Surrogate losses


def batches(space, count=2, seed=0):
    drawn = torch.Generator().manual_seed(seed)
    shape = (6, 3, space.resolution, space.resolution)
    return [(torch.randn(shape, generator=drawn), torch.randint(3, (6,), generator=drawn), 0) for _ in range(count)]


@pytest.mark.parametrize("name", ["sgnas_micro", "spos_channel"])
def test_surrogate_losses_are_those_of_training_and_change_nothing(name):
    space = SPACES[name]
    net = scramble(make_supernet(space, 3)).eval()
    archs = [space.sample(random.Random(i)) for i in range(3)]
    images = [(x[..., :64, :64], y, unread) for x, y, unread in batches(space)]
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    found = surrogate_losses(net, images, Accelerator(cpu=True), resize=lambda images: images)(archs)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert not net.training
    with torch.no_grad():
        trained, evaluated = (
            [
                sum(torch.nn.functional.cross_entropy(net.train(mode)(x, arch), y).item() for x, y, _ in images) / 2
                for arch in archs
            ]
            for mode in (True, False)
        )
    assert found == pytest.approx(trained, rel=1e-5)
    assert found != pytest.approx(evaluated, rel=1e-2)


def test_the_images_are_read_once():
    asked = []

    def once():
        asked.append(1)
        yield from batches(MICRO)

    net = make_supernet(MICRO, 3)
    losses = surrogate_losses(net, once(), Accelerator(cpu=True), resize=lambda images: images)
    archs = [MICRO.sample(random.Random(0))]
    assert losses(archs) == losses(archs)
    assert asked == [1]
