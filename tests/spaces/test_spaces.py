import dataclasses
import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgnas_zoo.errors import ArchError, SpaceError, UnknownNameError
from sgnas_zoo.registry import Registry
from sgnas_zoo.spaces import SPACES, Choice, Form, Kernels, MBConvKind, Row, SearchSpace, arch_from_json

EVERY = [SPACES[name] for name in SPACES]
every_space = pytest.mark.parametrize("space", EVERY, ids=list(SPACES))

FIVE = Choice("5", Kernels((5,)))
SMALL = SearchSpace(
    name="small",
    family="sgnas",
    kind=MBConvKind(),
    rows=(Row(16, 1, 1), Row(24, 2, 2)),
    choices=(Choice("3", Kernels((3,))), FIVE, Choice("0", Kernels())),
    slots=2,
    final=Form("relu", "relu"),
)
GREEDY = SPACES["greedynas"]
SGNAS = SPACES["sgnas_imagenet"]
SGNAS_A = "573733-7333-353-77375-7533-75557-73377-73333-75573-7553-5735-7737-7353-7735-3733-33373-7337-777-33737"


def test_the_contract_below_covers_the_published_spaces():
    assert {space.name for space in EVERY} >= {"sgnas_imagenet", "sgnas_cifar", "greedynas", "greedynas_se"}
    assert len(EVERY) >= 4
    assert all(SPACES[space.name] is space for space in EVERY)


@every_space
def test_strings_and_json_lose_nothing(space):
    rng = random.Random(0)
    for _ in range(50):
        arch = space.sample(rng)
        assert space.parse(str(arch)) == arch
        assert arch_from_json(arch.to_json()) == arch


@every_space
def test_samples_differ_and_follow_the_seed(space):
    assert space.sample(random.Random(1)) == space.sample(random.Random(1))
    assert len({space.sample(random.Random(seed)) for seed in range(20)}) == 20


@every_space
def test_several_samples_are_different_and_as_many_as_there_are(space):
    found = space.sample_several(random.Random(0), 30)
    assert len(found) == len({*found}) == 30
    assert found == space.sample_several(random.Random(0), 30)


def test_no_more_different_samples_come_than_there_are():
    assert len({*SMALL.sample_several(random.Random(0), 5000)}) == SMALL.size


@every_space
def test_samples_reach_every_choice_of_every_slot(space):
    rng = random.Random(0)
    archs = [space.sample(rng) for _ in range(300)]
    for number, layer in enumerate(space.layers):
        for slot, allowed in enumerate(layer.allowed):
            assert {arch.picks[number][slot] for arch in archs} == set(allowed)


@every_space
def test_mutate_stays_in_the_space_and_follows_the_seed(space):
    arch, copies = space.sample(random.Random(0)), 0
    for seed in range(30):
        child = space.mutate(arch, random.Random(seed), prob=0.5)
        assert child == space.mutate(arch, random.Random(seed), prob=0.5)
        copies += child == arch
        assert space.parse(str(child)) == child
    assert copies < 4  # of eight layers with three choices each, every 26th draws what it had
    assert space.mutate(arch, random.Random(0), prob=0.0) == arch


@every_space
def test_crossover_takes_layers_whole_from_both_parents(space):
    first, second = space.sample(random.Random(0)), space.sample(random.Random(1))
    copies, differing = 0, sum(one != other for one, other in zip(first.picks, second.picks, strict=True))
    for seed in range(30):
        child = space.crossover(first, second, random.Random(seed))
        assert child == space.crossover(first, second, random.Random(seed))
        assert all(own in pair for own, *pair in zip(child.picks, first.picks, second.picks, strict=True))
        copies += child in (first, second)
    assert copies < 5 + 60 / 2**differing  # where few layers differ, all come from one parent now and then


@every_space
def test_an_arch_is_a_frozen_hashable_value(space):
    arch = space.sample(random.Random(0))
    assert len({arch, space.parse(str(arch)), space.arch(arch.picks)}) == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        arch.picks = ()


def test_equal_picks_of_two_spaces_are_two_archs():
    other = SPACES["sgnas_cifar"]
    assert SGNAS.parse(SGNAS_A) != other.parse(SGNAS_A)
    assert arch_from_json(other.parse(SGNAS_A).to_json()).space is other


def texts(space):
    """Any text, and architecture strings with one token replaced."""
    labels = st.sampled_from([choice.label for choice in space.choices])
    slots = space.layers[0].allowed
    fitting = st.tuples(*(st.sampled_from([space.choices[pick].label for pick in slot]) for slot in slots))
    tokens = (st.lists(labels, max_size=space.slots + 1) | fitting).map("".join)

    def edited(seed, layer, token):
        text = str(space.sample(random.Random(seed)))
        parts = text.split(space.separator) if space.separator else [*text]
        parts[layer] = token
        return space.separator.join(parts)

    return st.text() | st.builds(edited, st.integers(0, 99), st.integers(0, len(space.layers) - 1), tokens)


@every_space
def test_any_text_parses_to_a_stable_arch_or_is_refused(space):
    outcomes = set()

    @settings(deadline=None, derandomize=True, max_examples=200)
    @given(texts(space))
    def check(text):
        try:
            arch = space.parse(text)
        except ArchError:
            outcomes.add("refused")
        else:
            outcomes.add("parsed")
            assert space.parse(str(arch)) == arch

    check()
    assert outcomes == {"parsed", "refused"}


def with_layer(number, token):
    """SGNAS-A with the token of one layer, counted from 1, replaced."""
    parts = SGNAS_A.split("-")
    parts[number - 1] = token
    return "-".join(parts)


def test_an_inner_skip_survives_and_a_trailing_skip_is_left_out():
    inner = SGNAS.parse(with_layer(4, "353050"))
    assert str(inner) == with_layer(4, "35305")
    assert SGNAS.parse(str(inner)) == inner
    assert inner != SGNAS.parse(with_layer(4, "3535"))
    assert SGNAS.parse(with_layer(4, "353000")) == SGNAS.parse(with_layer(4, "353"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3-3-3", r"sgnas_imagenet has 19 layers, this one 3; for example '3-3-.*-3'"),
        ("", "has 19 layers, this one 1"),
        (None, "has 19 layers, this one 0"),
        (SGNAS_A + "-3", "has 19 layers, this one 20"),
        (with_layer(3, "39"), "Layer 3 has '9'; sgnas_imagenet takes 3, 5, 7, 0 there"),
        (with_layer(3, ""), "Layer 3 is empty; sgnas_imagenet takes 3, 5, 7, 0 there"),
        (with_layer(3, "3333333"), "Layer 3 '3333333' decides 7 slots; sgnas_imagenet has 6"),
        (with_layer(3, "035"), "Layer 3 of sgnas_imagenet cannot take '0' in slot 0; choose from 3, 5, 7"),
    ],
)
def test_a_string_that_does_not_fit_is_refused_by_name(text, message):
    with pytest.raises(ArchError, match=message):
        SGNAS.parse(text)


def test_the_example_in_the_message_parses():
    with pytest.raises(ArchError) as error:
        SGNAS.parse("3")
    assert SGNAS.parse(str(error.value).split("'")[1])


def test_a_string_of_another_space_is_refused():
    with pytest.raises(ArchError, match="greedynas has 21 layers, this one 19"):
        GREEDY.parse(SGNAS_A)
    with pytest.raises(ArchError, match=r"Layer 20 has '35'; greedynas takes k3e3, .*, id there"):
        GREEDY.parse("-".join(["k3e3"] * 19 + ["35", "k3e3"]))


def test_a_layer_that_changes_shape_cannot_vanish():
    changing = [i for i, layer in enumerate(GREEDY.layers) if GREEDY.skip not in layer.allowed[0]]
    assert changing == [0, 4, 8, 12, 16, 20]
    with pytest.raises(ArchError, match="Layer 1 of greedynas cannot take 'id' in slot 0"):
        GREEDY.parse("-".join(["id"] * len(GREEDY.layers)))


@pytest.mark.parametrize(
    ("picks", "message"),
    [
        ([[0] * 6] * 18, "has 19 layers, this one 18"),
        ([[0] * 6] * 18 + [[0] * 5], "Layer 19 decides 5 slots; sgnas_imagenet has 6 per layer"),
        ([[0] * 6] * 18 + [[0, 0, 4, 0, 0, 0]], "Layer 19 of sgnas_imagenet cannot take choice 4 in slot 2"),
        ([[0] * 6] * 18 + [[-1] + [0] * 5], "Layer 19 of sgnas_imagenet cannot take choice -1 in slot 0"),
    ],
)
def test_picks_that_do_not_fit_are_refused(picks, message):
    with pytest.raises(ArchError, match=message):
        SGNAS.arch(picks)


@pytest.mark.parametrize("text", ["", "[]", "null", "3", '{"space": "greedynas"}', '{"space": [], "arch": "3"}'])
def test_json_of_another_form_is_refused(text):
    with pytest.raises(ArchError, match=r'write {"space": NAME, "arch": STRING}'):
        arch_from_json(text)


def test_json_of_an_unknown_space_suggests_a_known_one():
    with pytest.raises(UnknownNameError, match="Unknown space 'sgnas_imagnet': did you mean sgnas_imagenet"):
        arch_from_json(json.dumps({"space": "sgnas_imagnet", "arch": SGNAS_A}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": ()}, "every row repeats at least once"),
        ({"rows": (Row(16, 1, 0),)}, "every row repeats at least once"),
        ({"rows": (Row(20, 1, 1),)}, "multiples of 8"),
        ({"rows": (Row(0, 1, 1),)}, "multiples of 8"),
        ({"rows": (Row(-8, 1, 1),)}, "multiples of 8"),
        ({"stem_chs": 12}, "multiples of 8"),
        ({"rows": (Row(16, 3, 1),)}, "strides are 1 or 2"),
        ({"stem_stride": 4}, "strides are 1 or 2"),
        ({"choices": (Choice("3", Kernels((3,))),)}, "at least two choices with different labels"),
        (
            {"choices": (Choice("3", Kernels((3,))), Choice("3", Kernels((5,))))},
            "at least two choices with different labels",
        ),
        ({"choices": (Choice("", Kernels((3,))), FIVE)}, "labels are not empty"),
        ({"choices": (Choice("-", Kernels((3,))), FIVE)}, "hold no '-'"),
        ({"choices": (Choice("k3", Kernels((3,))), FIVE)}, "one character"),
        (
            {"choices": (Choice("3", Kernels((3,))), Choice("0", Kernels()), Choice("x", Kernels()))},
            "at most one choice is without kernels",
        ),
        ({"choices": (Choice("4", Kernels((4,))), FIVE)}, "kernels are odd"),
        ({"choices": (Choice("3", Kernels((3, -1))), FIVE)}, "kernels are odd"),
        ({"slots": 0}, "at least one slot"),
        ({"slots": 11}, "at most 100,000 ways"),
        ({"resolution": 0}, "resolution and classes are counts"),
        ({"num_classes": -1}, "resolution and classes are counts"),
    ],
)
def test_what_makes_no_space_is_refused(changes, message):
    with pytest.raises(SpaceError, match=f"Search space 'small': .*{message}"):
        dataclasses.replace(SMALL, **changes)


def test_all_mistakes_of_a_space_are_named_at_once():
    with pytest.raises(SpaceError, match=r"multiples of 8.*strides are 1 or 2.*at least one slot"):
        dataclasses.replace(SMALL, rows=(Row(20, 3, 1),), slots=0)


def test_a_space_of_ones_own_works_without_registration():
    assert SMALL.shape == (3, 2, 3)
    assert [(layer.in_chs, layer.out_chs, layer.stride, layer.stage) for layer in SMALL.layers] == [
        (16, 16, 1, 0), (16, 24, 2, 1), (24, 24, 1, 1),
    ]  # fmt: skip
    assert [layer.allowed for layer in SMALL.layers] == [((0, 1), (0, 1, 2))] * 3
    assert str(SMALL.arch([[0, 2], [1, 0], [0, 1]])) == "3-53-35"
    assert len({SMALL.sample(random.Random(seed)) for seed in range(2000)}) == 6**3


def test_json_reads_a_space_while_it_is_registered():
    text = SMALL.parse("3-53-35").to_json()
    with SPACES.temporarily("small", SMALL):
        assert arch_from_json(text) == SMALL.parse("3-53-35")
    with pytest.raises(UnknownNameError, match="Unknown space 'small'"):
        arch_from_json(text)


def test_a_name_is_registered_once():
    registry = Registry("fruit")
    assert registry.register("apple", 1) == 1
    with pytest.raises(ValueError, match="fruit 'apple' is registered already"):
        registry.register("apple", 2)
    assert (registry["apple"], list(registry), len(registry)) == (1, ["apple"], 1)


def test_an_unknown_name_lists_near_matches_or_all_names():
    registry = Registry("fruit")
    with pytest.raises(UnknownNameError, match="Unknown fruit 'apple': choose from none yet"):
        registry["apple"]
    registry.register("apple", 1)
    registry.register("kiwi", 2)
    with pytest.raises(UnknownNameError, match=r"Unknown fruit 'aple': did you mean apple\?"):
        registry["aple"]
    with pytest.raises(UnknownNameError, match="Unknown fruit 'xyz': choose from apple, kiwi"):
        registry["xyz"]


def test_a_temporary_name_goes_even_after_an_error_and_cannot_hide_another():
    registry = Registry("fruit")
    with registry.temporarily("apple", 1) as value:
        assert value == registry["apple"] == 1
    with pytest.raises(UnknownNameError), registry.temporarily("apple", 1):
        registry["kiwi"]
    assert "apple" not in registry
    registry.register("apple", 2)
    with pytest.raises(ValueError, match="registered already"), registry.temporarily("apple", 3):
        pass
    assert registry["apple"] == 2
