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
from sgnas_zoo.api import latency as answers_latency
from sgnas_zoo.costs import COSTS
from sgnas_zoo.costs.profile import Validation
from sgnas_zoo.costs.profile_file import write_profile
from sgnas_zoo.errors import ArtifactError, BudgetError
from sgnas_zoo.measure.timing import Timing
from sgnas_zoo.spaces import SPACES
from sgnas_zoo.training.searching.search import cost_tables
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
    with pytest.raises(BudgetError, match="cannot be guaranteed with"):
        create_model(latency=ms(0.6 * TABLE.maximum), profile=PROFILE, measure=False, act_layer="gelu")


# --- measuring what was made


class Clock:
    """Stands in for this machine: a network takes ``factor`` times what is predicted, with repeats that spread."""

    def __init__(self, *factors, spread=0.0):
        self.factors, self.spread, self.measured = list(factors), spread, []

    def __call__(self, conditions, profile):
        def measure(arch):
            factor = self.factors.pop(0) if len(self.factors) > 1 else self.factors[0]
            self.measured.append(arch)
            took = factor * profile.table(arch.space, conditions).measure(arch)
            return Timing(took, took * (1 - self.spread / 2), took * (1 + self.spread / 2), 25)

        return measure


@pytest.fixture
def clock(monkeypatch):
    """Puts a clock in the place of this machine's."""

    def put(*factors, **spread):
        made = Clock(*factors, **spread)
        monkeypatch.setattr(answers, "stopwatch", made)
        return made

    return put


LIMIT = TABLE.minimum + 0.6 * (TABLE.maximum - TABLE.minimum)


def test_what_is_measured_as_predicted_is_kept(clock):
    used = clock(0.97)  # within the 8 % that the profile's own error allows
    (found,) = generate(latency=ms(LIMIT), profile=PROFILE)
    assert len(used.measured) == 1
    assert found.latency.measured_ms == pytest.approx(0.97 * found.latency.predicted_ms)
    assert found.record()["measured_ms"] == round(found.latency.measured_ms, 3)


def test_what_measures_a_little_too_slow_is_given_up_without_a_word(clock):
    used = clock(1.05)
    (found,) = generate(latency=ms(LIMIT), profile=PROFILE)
    assert len(used.measured) == 2
    assert 0.92 * LIMIT <= found.latency.measured_ms <= LIMIT
    assert found.arch == used.measured[-1] != used.measured[0]


@pytest.mark.parametrize("factor", [0.5, 0.7, 0.85, 1.2, 1.3])
def test_the_ratio_of_measured_to_predicted_corrects_the_next_try_in_both_directions(clock, factor):
    used, limit = clock(factor), TABLE.minimum + 0.4 * (TABLE.maximum - TABLE.minimum)
    if factor < 1:
        limit *= factor
    first = generate(latency=ms(limit), profile=PROFILE, measure=False)[0].latency.predicted_ms
    with pytest.warns(UserWarning, match=r"the machine or the profile has changed.*sgnas-zoo profile --force") as said:
        (found,) = generate(latency=ms(limit), profile=PROFILE)
    assert f"Measured {factor * first:.2f} ms where the profile predicts {first:.2f} ms (its error is 8%)" in str(
        said[0].message
    )
    assert len(said) == 1
    assert 0.92 * limit <= found.latency.measured_ms <= limit
    assert 1 < len(used.measured) <= answers_latency.ATTEMPTS
    assert found.arch != used.measured[0]


def test_a_network_that_is_too_quick_is_not_changed_where_another_bound_binds(clock):
    used = clock(0.5)
    with pytest.warns(UserWarning, match="changed"):
        (found,) = generate(latency=ms(LIMIT), flops=300e6, profile=PROFILE)
    assert found.macs <= 300e6
    assert len(used.measured) <= answers_latency.ATTEMPTS


def test_of_the_networks_within_the_budget_the_one_that_uses_most_of_it_is_kept(clock):
    """A machine that changes while it is measured: too quick, then twice too slow, and so on."""
    used = clock(0.5, 1.6, 0.7, 1.5, 0.8)
    with pytest.warns(UserWarning, match="changed"):
        (found,) = generate(latency=ms(LIMIT), profile=PROFILE)
    assert found.latency.measured_ms <= LIMIT
    assert found.arch in used.measured
    assert len(used.measured) <= answers_latency.ATTEMPTS


def test_when_nothing_is_quick_enough_nothing_is_returned(clock):
    used = clock(50)
    with pytest.raises(BudgetError, match=r"Measured .* ms at a budget of .* ms, the quickest of .*sgnas-zoo profile"):
        generate(latency=ms(LIMIT), profile=PROFILE)
    assert 1 < len(used.measured) <= answers_latency.ATTEMPTS


def test_times_that_spread_are_a_range_whose_end_keeps_the_budget(clock):
    clock(1.0, spread=0.4)
    (found,) = generate(latency=ms(LIMIT), profile=PROFILE)
    record = found.record()
    assert record["spread"] == 0.4
    assert record["low_ms"] < record["measured_ms"] < record["high_ms"] <= LIMIT
    clock(1.0, spread=0.1)  # steady enough: the median counts
    (found,) = generate(latency=ms(LIMIT), profile=PROFILE)
    assert found.record()["high_ms"] > LIMIT >= found.record()["measured_ms"]


def test_other_bounds_hold_while_a_quicker_one_is_looked_for(clock):
    clock(1.3)
    with pytest.warns(UserWarning, match="changed"):
        (found,) = generate(latency=ms(LIMIT), flops=340e6, profile=PROFILE)
    assert COSTS["macs"].table(IMAGENET, found.conditions).measure(found.arch) <= 340e6


def test_a_device_that_is_not_here_is_not_measured():
    with pytest.raises(ArtifactError, match=r"The profile is of A board.*--no-measure"):
        generate(latency=ms(LIMIT), profile=PROFILE)


def test_what_a_machine_does_besides_is_said_once_before_it_measures(monkeypatch, capsys):
    from sgnas_zoo.api import profiles as measured

    own = {"device": measured.device_name(), "device_type": "cpu", "runtime": "torch"}
    here = replace(PROFILE, setup=replace(PROFILE.setup, **own))
    seen = []
    monkeypatch.setattr("sgnas_zoo.measure.load.other_load", lambda: seen.append("load") or 0.42)
    monkeypatch.setattr(measured, "measure", lambda arch, *_: seen.append("time") or Timing(1e-3, 1e-3, 1e-3, 1))
    with pytest.warns(UserWarning, match="changed"):
        generate(latency=[ms(LIMIT), ms(0.9 * LIMIT)], profile=here)
    assert seen.count("load") == 1
    assert seen[0] == "load"
    assert "Other processes take 42% of this machine's CPU time: times will be" in capsys.readouterr().err


# --- profiles that predict poorly


def known_to_be_off_by(share, **changes):
    return replace(PROFILE, validation=Validation(24, share, 1.5 * share, 0.8), **changes)


def test_a_profile_that_predicts_poorly_is_used_only_by_force():
    poor, fair = known_to_be_off_by(0.101), known_to_be_off_by(0.1)
    limit = ms(LIMIT)
    with pytest.raises(ArtifactError, match=r"off by 10\.1% \(median\), more than 10%: .*--force \(force=True\)"):
        generate(latency=limit, profile=poor, measure=False)
    for make in (create_model, lambda **kwargs: timm.create_model("sgnas", **kwargs)):
        with pytest.raises(ArtifactError, match="measure it again on an idle machine"):
            make(latency=limit, profile=poor, measure=False)
        model = make(latency=limit, profile=poor, measure=False, force=True)
        assert model.zoo["latency_ms"] <= LIMIT
    assert "force" not in create_model(latency=limit, profile=poor, measure=False, force=True)._model_args
    assert generate(latency=limit, profile=fair, measure=False) == [
        replace(found, latency=replace(found.latency, profile=fair))
        for found in generate(latency=limit, profile=poor, measure=False, force=True)
    ]


def test_a_search_refuses_a_profile_that_predicts_poorly():
    poor = known_to_be_off_by(0.5, conditions=replace(PROFILE.conditions, form="search"))
    with pytest.raises(ArtifactError, match=r"off by 50\.0%.*or name another one"):
        cost_tables(IMAGENET, 1000, ["latency"], poor)
    fair = replace(poor, validation=PROFILE.validation)
    assert cost_tables(IMAGENET, 1000, ["latency"], fair)["latency"].maximum > 0


def test_a_forced_profile_is_corrected_all_the_same(clock):
    """Its own error is 90 %, which would allow anything."""
    clock(0.3)
    limit = 0.3 * LIMIT + 0.7 * TABLE.minimum
    with pytest.warns(UserWarning, match="its error is 90%"):
        (found,) = generate(latency=ms(limit), profile=known_to_be_off_by(0.6), force=True)
    assert found.latency.predicted_ms > limit
    assert found.latency.measured_ms <= limit


def test_a_profile_without_a_known_error_is_used_and_said_to_be_one(clock):
    used = clock(0.95)
    with pytest.warns(UserWarning, match="error of the profile of A board is not known"):
        (found,) = generate(latency=ms(LIMIT), profile=replace(PROFILE, validation=None))
    assert len(used.measured) == 1
    assert found.latency.measured_ms <= LIMIT
