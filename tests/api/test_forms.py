"""The form of a network: the one that was asked for, that of a profile or of weights, or the quicker one."""

import json
import random
from dataclasses import replace

import pytest
import timm
import torch
from commands import good, refused
from profiles import csv_of, made_up

from sgnas_zoo import create_model, generate, save_model
from sgnas_zoo.api import forms, resolve
from sgnas_zoo.costs import COSTS, native_conditions
from sgnas_zoo.costs.profile import Validation
from sgnas_zoo.costs.profile_file import write_profile
from sgnas_zoo.errors import ArtifactError, BudgetError, PretrainedError, SpaceError, UnknownNameError
from sgnas_zoo.models.counting import count_macs, count_params
from sgnas_zoo.spaces import SPACES
from sgnas_zoo.training.fronts.plan import plan_front

IMAGENET = SPACES["sgnas_imagenet"]
SLOW = 5e-8
DOORS = pytest.mark.parametrize("make", [create_model, lambda **asked: timm.create_model("sgnas", **asked)])


def profiles(lite=0.5, **changes):
    """Profiles of both forms, where the lite one takes a share of the time for each MAC."""
    made = {"final": SLOW, "lite": lite * SLOW, "search": SLOW}
    return {form: made_up(form=form, ms_per_mac=cost, **changes) for form, cost in made.items()}


def limit_of(profile, place=0.6):
    table = profile.table(IMAGENET, profile.conditions)
    return f"{table.minimum + place * (table.maximum - table.minimum):.6f}ms"


@pytest.fixture
def own(monkeypatch):
    """Puts made-up profiles in the place of this device's; what was asked for is returned."""

    def put(made):
        asked = []

        def own_profile(space, conditions):
            asked.append(conditions.form)
            return replace(made[conditions.form], conditions=conditions)

        for module in (forms, resolve):
            monkeypatch.setattr(module, "own_profile", own_profile)
        return asked

    return put


# --- the form that was asked for


@DOORS
def test_a_lite_network_has_what_was_counted_for_it(make):
    model = make(flops=350e6, form="lite")
    kinds = {type(module).__name__ for module in model.modules()}
    assert not {"SqueezeExcite", "Hardswish"} & kinds
    assert (model.zoo["form"], model.zoo["macs"], model.zoo["params"]) == (
        "lite", count_macs(model, 224), count_params(model),
    )  # fmt: skip
    assert 0.99 * 350e6 <= model.zoo["macs"] <= 350e6
    (found,) = generate(flops=350e6, form="lite")
    assert (str(found.arch), found.macs) == (model.zoo["arch"], model.zoo["macs"])
    assert found.conditions.form == "lite"


def test_a_named_architecture_in_the_lite_form_is_checked_in_that_form():
    arch = IMAGENET.sample(random.Random(1))
    params = {
        form: COSTS["params"].table(IMAGENET, native_conditions(IMAGENET, form=form)).measure(arch)
        for form in ("final", "lite")
    }
    assert params["lite"] < params["final"]
    assert create_model("sgnas", arch=str(arch), params=params["lite"], form="lite") is not None
    with pytest.raises(BudgetError, match="more than"):
        create_model("sgnas", arch=str(arch), params=params["lite"])


def test_a_lite_network_comes_back_from_its_folder_and_is_exported(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    out, _ = good("generate", "--flops", "140M", "--form", "lite", "--resolution", 64, "--output", "net")
    assert out.rstrip().endswith(", lite form")
    config = json.loads((tmp_path / "net" / "config.json").read_text())
    assert (config["zoo"]["form"], config["model_args"]["form"]) == ("lite", "lite")
    assert "`lite` (ReLU6, no squeeze-and-excitation)" in (tmp_path / "net" / "README.md").read_text()
    assert "lite" in good("info", "net")[0]
    model = create_model("local-dir:net", pretrained=True).eval()
    again = save_model(model, tmp_path / "again")
    images = torch.randn(1, 3, 64, 64)
    assert torch.equal(timm.create_model(f"local-dir:{again}", pretrained=True).eval()(images), model(images))
    good("export", "net", "--format", "pt2", "--output", "net.pt2", "--resolution", 64)


@pytest.mark.parametrize(
    ("request_", "error", "named"),
    [
        ({"form": "light"}, UnknownNameError, "lite"),
        ({"form": ["lite"]}, UnknownNameError, "form"),
        ({"form": ""}, UnknownNameError, "form"),
        ({"form": "lite", "space": "greedynas_se"}, SpaceError, "greedynas_se has no lite form"),
        ({"form": "lite", "space": "resnet18_bits"}, SpaceError, r"say form='final' \(--form final\), or take a space"),
    ],
)
def test_forms_that_there_are_not(request_, error, named):
    with pytest.raises(error, match=named):
        generate(flops=350e6, **request_)


def test_commands_refuse_them_too():
    assert "final" in refused("generate", "--flops", "350M", "--form", "light")
    assert "has no lite form" in refused("profile", "--space", "spos", "--form", "lite")


# --- the form of weights


@DOORS
@pytest.mark.parametrize("form", ["lite", "final"])
def test_weights_are_inherited_in_their_own_form_only(make, form):
    asked = {"flops": 350e6, "space": "sgnas_imagenet", "pretrained": True}
    with pytest.raises(PretrainedError, match=rf"in the search form, not {form}: .*recipes/retrain.py --form {form}"):
        make(**asked, form=form)


def test_weights_are_inherited_in_a_form_that_is_the_same_by_another_name():
    plain, lite = (create_model(flops=3e6, pretrained=True, **form).eval() for form in ({}, {"form": "lite"}))
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(plain(images), lite(images))
    assert (plain.zoo["form"], lite.zoo["form"]) == ("search", "lite")


# --- the form of a profile


@pytest.mark.parametrize("form", ["lite", "search", "final"])
def test_a_profile_that_is_given_decides_the_form(form, tmp_path):
    profile = profiles()[form]
    (tmp_path / "profile.json").write_text(write_profile(profile))
    (found,) = generate(latency=limit_of(profile), profile=tmp_path, measure=False)
    assert found.conditions.form == found.record()["form"] == form
    model = create_model(latency=limit_of(profile), profile=tmp_path, measure=False)
    assert model._model_args.get("form", "final") == form


def test_the_command_line_makes_and_takes_a_profile_of_the_lite_form(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    profile = profiles()["lite"]
    (tmp_path / "table.csv").write_text(csv_of(profile))
    elsewhere = ("--from-csv", "table.csv", "--device", "board", "--runtime", "mine", "--output", "board.json")
    good("profile", "--form", "lite", *elsewhere)
    asked = ("generate", "--latency", limit_of(profile), "--profile", "board.json", "--no-measure", "--json")
    (record,) = json.loads(good(*asked)[0])
    assert record["form"] == "lite"
    assert "form lite, not final" in refused(*asked, "--form", "final")


def test_a_profile_of_another_form_than_was_asked_for_is_refused():
    with pytest.raises(ArtifactError, match="form lite, not final"):
        generate(latency="20ms", profile=profiles()["lite"], form="final", measure=False)


def test_a_front_over_a_latency_is_of_the_form_of_its_profile():
    profile = profiles()["lite"]
    planned = plan_front("sgnas_imagenet", cost="latency", profile=profile, points=3)
    assert planned.resolved.conditions.form == planned.run()["conditions"]["form"] == "lite"
    assert plan_front("sgnas_imagenet", cost="flops", form="lite").resolved.conditions.form == "lite"


# --- the form with more in the same time


def test_a_latency_takes_the_form_with_more_macs_in_that_time(own, capsys):
    made = profiles(lite=0.5)
    asked = own(made)
    limit = limit_of(made["final"], 0.4)
    (found,) = generate(latency=limit, measure=False)
    assert asked == ["final", "lite"]
    assert found.conditions.form == found.latency.profile.conditions.form == "lite"
    (final,) = generate(latency=limit, measure=False, form="final")
    assert (asked[2:], final.conditions.form) == (["final"], "final")
    assert found.macs > 1.2 * final.macs
    (said,) = capsys.readouterr().err.splitlines()
    assert said == (
        f"Form lite: within the bounds final has {final.macs / 1e6:,.1f}M MACs and lite has "
        f"{found.macs / 1e6:,.1f}M MACs; --form (form=) decides otherwise."
    )
    model = create_model(latency=limit, measure=False)
    assert (model.zoo["form"], model.zoo["arch"]) == ("lite", str(found.arch))


def test_the_final_form_stays_where_lite_is_not_quicker(own, capsys):
    made = profiles(lite=1.3)
    own(made)
    assert generate(latency=limit_of(made["final"]), measure=False)[0].conditions.form == "final"
    assert capsys.readouterr().err.startswith("Form final: ")


def test_the_final_form_stays_where_another_bound_binds_both(own):
    made = profiles(lite=0.5)
    own(made)
    (found,) = generate(latency=limit_of(made["final"]), flops=200e6, measure=False)
    assert found.conditions.form == "final"


def test_a_form_that_cannot_keep_a_latency_is_no_candidate(own, capsys):
    made = profiles(lite=0.1)
    own(made)
    quick = limit_of(made["lite"], 0.3)
    with pytest.raises(BudgetError, match="below"):
        generate(latency=quick, form="final", measure=False)
    assert generate(latency=quick, measure=False)[0].conditions.form == "lite"
    assert "final has" not in capsys.readouterr().err
    with pytest.raises(BudgetError, match="below"):
        generate(latency="0.001ms", measure=False)


def test_one_form_answers_all_latencies_of_a_call(own):
    made = profiles(lite=0.5)
    own(made)
    found = generate(latency=[limit_of(made["final"], share) for share in (0.2, 0.4)], measure=False)
    assert [each.conditions.form for each in found] == ["lite", "lite"]
    assert found[0].macs < found[1].macs


def test_nothing_is_chosen_where_something_else_decides(own, capsys):
    made = profiles(lite=0.5)
    asked = own(made)
    arch, longest = str(IMAGENET.sample(random.Random(0))), "1s"
    assert create_model("sgnas", arch=arch, latency=longest)._model_args.get("form") is None
    assert create_model("sgnas", arch=arch, latency=longest, form="lite")._model_args["form"] == "lite"
    assert asked == ["final", "lite"]
    assert capsys.readouterr().err == ""


def test_a_poor_profile_of_a_form_says_how_to_make_that_one_anew(own):
    made = profiles(lite=0.5)
    made["lite"] = replace(made["lite"], validation=Validation(24, 0.5, 0.6, 0.5))
    own(made)
    with pytest.raises(ArtifactError, match=r"`sgnas-zoo profile --force --form lite`"):
        generate(latency=limit_of(made["final"], 0.4), measure=False)
