"""Latency as a budget, on profiles that are made up, so that every number is known."""

import random
from dataclasses import replace

import pytest
import timm
from hypothesis import given, settings
from hypothesis import strategies as st
from profiles import made_up

from sgnas_zoo import create_model, generate
from sgnas_zoo.api import answer as answers
from sgnas_zoo.costs import COSTS
from sgnas_zoo.costs.profile_file import write_profile
from sgnas_zoo.errors import ArtifactError, BudgetError
from sgnas_zoo.spaces import SPACES
from sgnas_zoo.units import milliseconds

IMAGENET = SPACES["sgnas_imagenet"]
PROFILE = made_up()
TABLE = PROFILE.table(IMAGENET, PROFILE.conditions)


def ms(value):
    return f"{value:.6f}ms"


# --- what a latency is


@pytest.mark.parametrize(
    ("text", "value"), [("20ms", 20), ("0.5s", 500), ("900us", 0.9), (" 1.5 ms ", 1.5), ("2e1ms", 20), (".5ms", 0.5)]
)
def test_a_latency_has_a_unit(text, value):
    assert milliseconds("latency", text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["20", 20, "20 m", "ms", "-1ms", "0ms", "nanms", "1e400s", "", None, [], "20ms 30ms"])
def test_what_is_no_latency_is_refused_with_the_spelling_that_would_do(text):
    with pytest.raises(BudgetError, match="such as 20ms"):
        milliseconds("latency", text)


# --- budgets


@settings(max_examples=40, deadline=None)
@given(st.floats(0, 1), st.sampled_from(["sgnas_imagenet", "sgnas_micro"]))
def test_a_latency_is_never_exceeded_and_used(place, space):
    profile = PROFILE if space == "sgnas_imagenet" else made_up(space)
    table = profile.table(SPACES[space], profile.conditions)
    limit = table.minimum + place * (table.maximum - table.minimum)
    limit = min(max(limit, table.minimum * (1 + 1e-6)), table.maximum * (1 - 1e-6))
    (found,) = generate(latency=ms(limit), profile=profile, measure=False)
    assert found.space == space
    assert found.latency.predicted_ms == pytest.approx(table.measure(found.arch))
    assert found.latency.predicted_ms <= limit * (1 + 1e-6)
    assert found.latency.predicted_ms >= 0.97 * limit
    assert found.latency.measured_ms is None


def test_bounds_combine():
    latency = TABLE.minimum + 0.5 * (TABLE.maximum - TABLE.minimum)
    (found,) = generate(latency=ms(latency), flops=350e6, params=5e6, profile=PROFILE, measure=False)
    assert found.latency.predicted_ms <= latency
    assert found.macs <= 350e6
    assert found.params <= 5e6
    assert found.requested == {"flops": 350_000_000, "params": 5_000_000, "latency_ms": pytest.approx(latency)}


def test_several_latencies_at_once():
    limits = [TABLE.minimum + share * (TABLE.maximum - TABLE.minimum) for share in (0.2, 0.5, 0.9)]
    found = generate(latency=[ms(limit) for limit in limits], profile=PROFILE, measure=False)
    assert [result.latency.predicted_ms <= limit for result, limit in zip(found, limits, strict=True)] == [True] * 3
    assert found[0].macs < found[1].macs < found[2].macs


def test_a_model_made_for_a_latency_tells_it():
    limit = 0.6 * TABLE.maximum
    model = create_model(latency=ms(limit), profile=PROFILE, measure=False, num_classes=10)
    assert model.zoo["requested"] == {"latency_ms": pytest.approx(limit)}
    assert model.zoo["latency_ms"] <= limit
    assert model.zoo["latency_conditions"]["device"] == "A board"
    assert "profile" not in model._model_args
    same = timm.create_model("sgnas", latency=ms(limit), profile=PROFILE, measure=False, num_classes=10)
    assert same.zoo == model.zoo


def test_profiles_come_from_files_and_folders(tmp_path):
    (tmp_path / "profile.json").write_text(write_profile(PROFILE))
    limit = ms(0.6 * TABLE.maximum)
    expected = generate(latency=limit, profile=PROFILE, measure=False)[0].record()
    for place in (tmp_path, str(tmp_path / "profile.json")):
        assert generate(latency=limit, profile=place, measure=False)[0].record() == expected


def test_a_latency_that_no_network_of_the_space_takes_is_kept_all_the_same():
    """The same command runs on a fast device, where the budget binds nothing."""
    longest = ms(2 * TABLE.maximum)
    with pytest.warns(UserWarning, match=r"No network of sgnas_imagenet reaches .* ms; this is its largest"):
        (free,) = generate(latency=longest, profile=PROFILE, measure=False)
    assert free.latency.predicted_ms == pytest.approx(TABLE.maximum)
    (bound,) = generate(latency=longest, flops=350e6, profile=PROFILE, measure=False)
    assert bound.arch == generate(flops=350e6)[0].arch


def test_an_architecture_beside_a_latency_is_checked():
    arch = str(IMAGENET.sample(random.Random(0)))
    takes = TABLE.measure(IMAGENET.parse(arch))
    assert create_model("sgnas", arch=arch, latency=ms(takes * 1.01), profile=PROFILE) is not None
    with pytest.raises(BudgetError, match="more than"):
        create_model("sgnas", arch=arch, latency=ms(takes * 0.99), profile=PROFILE)


@pytest.mark.parametrize(
    ("request_", "error", "named"),
    [
        ({"latency": 20}, BudgetError, "20ms"),
        ({"latency": "0.01ms"}, BudgetError, r"below .* the nearest network is [-\d]+ with [\d.]+ ms"),
        ({"latency": "20ms", "resolution": 192}, ArtifactError, "resolution 224, not 192"),
        ({"latency": "20ms", "space": "sgnas_micro"}, ArtifactError, "space sgnas_imagenet, not sgnas_micro"),
        ({"latency": "20ms", "num_classes": 2000}, ArtifactError, "num_classes 1000, not 2000"),
    ],
)
def test_requests_that_cannot_be_met(request_, error, named):
    with pytest.raises(error, match=named):
        generate(profile=PROFILE, measure=False, **request_)


def test_keywords_that_take_unknown_time_are_refused():
    with pytest.raises(BudgetError, match="time that no profile knows"):
        create_model(latency=ms(0.6 * TABLE.maximum), profile=PROFILE, measure=False, act_layer="gelu")


# --- measuring what was made


class Clock:
    """Stands in for this machine: a network takes ``factor`` times what is predicted."""

    def __init__(self, *factors):
        self.factors, self.measured = list(factors), []

    def __call__(self, arch, conditions, profile):
        factor = self.factors.pop(0) if len(self.factors) > 1 else self.factors[0]
        self.measured.append(arch)
        return factor * profile.table(arch.space, conditions).measure(arch)


LIMIT = TABLE.minimum + 0.6 * (TABLE.maximum - TABLE.minimum)


def test_what_is_measured_within_the_error_of_the_profile_is_kept(monkeypatch):
    monkeypatch.setattr(answers, "measure_here", clock := Clock(1.05))
    (found,) = generate(latency=ms(LIMIT), profile=PROFILE)
    assert len(clock.measured) == 1
    assert found.latency.measured_ms == pytest.approx(1.05 * found.latency.predicted_ms)
    assert found.record()["measured_ms"] == round(found.latency.measured_ms, 3)


def test_what_measures_too_slow_is_given_up_for_something_quicker(monkeypatch):
    monkeypatch.setattr(answers, "measure_here", clock := Clock(1.3))
    (found,) = generate(latency=ms(LIMIT), profile=PROFILE)
    assert len(clock.measured) == 2
    assert found.latency.measured_ms <= LIMIT * (1 + PROFILE.tolerance)
    assert found.arch == clock.measured[-1] != clock.measured[0]


def test_when_nothing_is_quick_enough_it_says_so_after_a_few_networks(monkeypatch):
    monkeypatch.setattr(answers, "measure_here", clock := Clock(50))
    with pytest.warns(UserWarning, match=r"Measured .* ms at a budget of .* ms, after up to 4 networks"):
        generate(latency=ms(LIMIT), profile=PROFILE)
    assert len(clock.measured) == answers.ATTEMPTS


def test_other_bounds_hold_while_a_quicker_one_is_looked_for(monkeypatch):
    monkeypatch.setattr(answers, "measure_here", Clock(1.3))
    (found,) = generate(latency=ms(LIMIT), flops=340e6, profile=PROFILE)
    assert COSTS["macs"].table(IMAGENET, found.conditions).measure(found.arch) <= 340e6


def test_a_device_that_is_not_here_is_not_measured():
    with pytest.raises(ArtifactError, match=r"The profile is of A board.*--no-measure"):
        generate(latency=ms(LIMIT), profile=PROFILE)


def test_a_profile_without_a_known_error_allows_none(monkeypatch):
    monkeypatch.setattr(answers, "measure_here", clock := Clock(1.01))
    with pytest.warns(UserWarning, match="Measured"):
        generate(latency=ms(TABLE.minimum * (1 + 1e-6)), profile=replace(PROFILE, validation=None))
    assert len(clock.measured) == answers.ATTEMPTS
