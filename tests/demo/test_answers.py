"""What the page answers and shows: no server, no gradio."""

import asyncio
import io
import json
import math
import re
import shlex
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from commands import good, refused
from PIL import Image
from profiles import made_up

import sgnas_zoo
from sgnas_zoo import extras
from sgnas_zoo.costs import BUDGETS
from sgnas_zoo.costs.profile import Validation
from sgnas_zoo.costs.profile_file import write_profile
from sgnas_zoo.demo import answers, guard, networks, pictures
from sgnas_zoo.demo.profiles import load_profiles, profiles_in
from sgnas_zoo.demo.sliders import SLIDERS
from sgnas_zoo.errors import ArtifactError, BudgetError, DataError, UnknownNameError

OFFERS = answers.offers()
MICRO = OFFERS["sgnas_micro.cifar10"]


def asked(offer=MICRO, **values):
    """A request in the units of sliders."""
    found, problems = answers.ask(offer, values)
    assert found, problems
    return found


def test_everything_that_comes_with_the_package_is_offered():
    assert list(OFFERS) == [
        "sgnas_imagenet.cifar10_r64", "sgnas_imagenet.tiny_imagenet_r64", "sgnas_micro.cifar10",
    ]  # fmt: skip


@pytest.mark.parametrize("offer", OFFERS.values(), ids=list(OFFERS))
def test_a_slider_goes_from_below_what_is_possible_to_no_limit(offer):
    for name, own in answers.ranges(offer).items():
        assert 0 < own.least < own.low < own.high <= own.most
        assert own.low <= own.start <= own.most
        assert 100 <= (own.most - own.least) / own.step <= 1500
        for end in (own.least, own.most, own.start):
            assert end == float(f"{end:.4g}")
            assert math.isclose(end / own.step, round(end / own.step), abs_tol=1e-6)
        low, high = map(float, re.search(r"have ([\d.]+) to ([\d.]+)", own.told).groups())
        assert low == pytest.approx(own.low, rel=1e-3)
        assert own.low <= low < high <= own.high
        assert answers.ask(offer, {name: low})[0]
        assert answers.ask(offer, {name: own.least})[1].keys() == {name}


@pytest.mark.parametrize("offer", OFFERS.values(), ids=list(OFFERS))
def test_what_is_shown_keeps_every_budget(offer):
    own = answers.ranges(offer)
    for share in (0.1, 0.5, 0.9):
        values = {name: each.low + share * (each.most - each.low) for name, each in own.items()}
        request = asked(offer, **values)
        assert request.budgets.keys() == set(SLIDERS)
        costs = answers.find(request).network.costs
        for name, limit in request.budgets.items():
            assert costs[BUDGETS[name].cost] <= limit


def test_a_slider_at_its_right_end_sets_no_limit():
    own = answers.ranges(MICRO)
    assert asked(flops=4, **{name: own[name].most for name in SLIDERS[1:]}).budgets == {"flops": 4e6}
    assert asked(flops=1e9).budgets == {"flops": own["flops"].most * 1e6}


@pytest.mark.parametrize("value", [None, True, "4", [4], math.nan, math.inf, -math.inf, 10**400, -1, 0, {}])
def test_what_is_no_amount_is_a_message_and_no_more(value):
    found, problems = answers.ask(MICRO, {"flops": value, "params": 0.2})
    assert found is None
    assert problems.keys() == {"flops"}
    assert "choose" in problems["flops"]


def test_the_code_that_is_shown_makes_the_network_that_is_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    request = asked(flops=4.03, params=0.2, memory=20.5, flash=200)
    network = answers.find(request).network
    names = {}
    exec(request.python, names)
    assert names["model"].zoo["arch"] == str(network.arch)
    out, _ = good(*shlex.split(request.command)[1:], "--json")
    (record,) = json.loads(out)
    assert record["arch"] == str(network.arch)
    assert record["requested"] == dict(network.requested)
    assert {name: record[name] for name in network.costs} == dict(network.costs)


def test_what_the_page_keeps_comes_back():
    request = asked(flops=4.03, memory=20.5)
    assert answers.read_asked(request.text) == request


@pytest.mark.parametrize(
    "text",
    [None, 7, "", "{", "[]", "{}", '{"offer": "sgnas_micro.cifar10", "budgets": 3}', "[" * 900, "x" * 2000,
     '{"offer": "sgnas_micro.cifar10", "budgets": {"flops": 1}}', '{"offer": "sgnas_micro.cifar10", "budgets": [1]}',
     '{"offer": "sgnas_micro.cifar10", "budgets": {"flops": "4e6"}}',
     '{"offer": "sgnas_micro.cifar10", "budgets": {"flops": 1' + "0" * 400 + "}}",
     '{"offer": "sgnas_micro.cifar10", "budgets": {"flops": NaN}}'],
)  # fmt: skip
def test_what_somebody_else_sends_is_refused(text):
    with pytest.raises(BudgetError):
        answers.read_asked(text)


@pytest.mark.parametrize("name", ["", "sgnas_micro", None, [], {}, "../x"])
def test_an_unknown_space_is_refused(name):
    with pytest.raises(UnknownNameError):
        answers.offer_of(name)


def test_only_what_is_known_of_a_network_is_predicted():
    record = answers.front(MICRO)["recorded"]
    macs = [row["macs"] / 1e6 for row in record]
    assert answers.find(asked(flops=answers.ranges(MICRO)["flops"].most)).top1 is None
    middle = answers.find(asked(flops=(min(macs) + max(macs)) / 2)).top1
    assert min(row["top1"] for row in record) <= middle <= max(row["top1"] for row in record)


def test_latency_is_predicted_for_profiles_of_these_networks_only():
    fits = made_up("sgnas_micro", form="search")
    poor = made_up("sgnas_micro", form="search", validation=Validation(24, 0.3, 0.5, 0.5))
    others = [made_up("sgnas_micro"), made_up("sgnas_imagenet", form="search"), poor]
    answer = answers.find(asked(flops=4), [fits, *others])
    ((profile, time),) = answer.latencies
    assert profile is fits
    base = answers.resolved(MICRO)
    assert time == fits.table(base.space, base.conditions).measure(answer.network.arch)
    assert "A board" in pictures.costs(answer)
    assert "latency" not in pictures.costs(answers.find(asked(flops=4), others))


def test_a_profile_of_other_networks_is_refused_by_name(tmp_path):
    for name, profile in (("a", made_up("sgnas_micro", form="search")), ("b", made_up("sgnas_micro"))):
        (tmp_path / f"{name}.json").write_text(write_profile(profile))
    assert len(load_profiles([str(tmp_path / "a.json")])) == 1
    with pytest.raises(ArtifactError, match=r"--space sgnas_micro --form search"):
        profiles_in(tmp_path)
    assert profiles_in(tmp_path / "nowhere") == []


@pytest.mark.parametrize("offer", OFFERS.values(), ids=list(OFFERS))
def test_what_is_drawn_is_sound_and_of_this_network(offer):
    answer = answers.find(asked(offer, flops=answers.ranges(offer)["flops"].start, params=1e9))
    drawn = [pictures.costs(answer), pictures.architecture(answer), pictures.place(answer)]
    for page in drawn:
        ElementTree.fromstring(f"<div>{page}</div>")
        assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
    assert str(answer.network.arch) in drawn[1]
    assert f"{answer.top1:.1f} %" in drawn[2]
    assert BUDGETS["flops"].shown(answer.network.macs) in drawn[0]
    other = answers.find(asked(offer, flops=answers.ranges(offer)["flops"].most))
    assert "Nothing is predicted" in pictures.place(other)


def test_what_others_wrote_is_escaped():
    hostile = made_up("sgnas_micro", form="search")
    hostile = made_up("sgnas_micro", form="search", setup=type(hostile.setup)("<script>alert(1)</script>"))
    assert "<script" not in pictures.costs(answers.find(asked(flops=4), [hostile]))
    assert "<b>" not in pictures.problem("<b>")


def picture(path, size=(64, 48), mode="RGB", **how):
    noise = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)
    Image.fromarray(noise).convert(mode).save(path, **how)
    return path


@pytest.mark.parametrize(
    ("name", "mode"),
    [("a.jpg", "RGB"), ("a.png", "RGBA"), ("a.png", "L"), ("a.gif", "P"), ("a.webp", "RGB"), ("a.bmp", "RGB"),
     ("a.tiff", "RGB"), ("a.jpg", "CMYK")],
)  # fmt: skip
def test_a_picture_is_named_as_classify_names_it(tmp_path, name, mode):
    guesses, preview = networks.name_picture(asked(flops=4), picture(tmp_path / name, mode=mode))
    assert len(guesses) == 5
    model = sgnas_zoo.create_model(space="sgnas_micro", flops=4e6, pretrained="cifar10")
    (found,) = networks.classify(model, [str(tmp_path / name)])
    assert [guess.name for guess in guesses] == [guess.name for guess in found.guesses]
    assert [g.probability for g in guesses] == pytest.approx([g.probability for g in found.guesses], abs=1e-5)
    assert Image.open(io.BytesIO(preview)).size == (64, 48)
    assert guesses[0].name in pictures.names(asked(flops=4), guesses, preview)


def hostile(folder):
    """Files that no network should see, each with what is said of it."""
    Image.new("L", (10_000, 5_000)).save(folder / "large.png")
    yield folder / "large.png", "50.0 megapixels"
    Image.new("1", (20_000, 20_000)).save(folder / "bomb.png")
    yield folder / "bomb.png", "more than 8 megapixels"
    content = {"text.png": b"hello", "empty.jpg": b"", "script.svg": b"<svg onload='alert(1)'/>",
               "program.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"}  # fmt: skip
    for name, each in content.items():
        (folder / name).write_bytes(each)
        yield folder / name, "cannot be read as a picture"
    whole = picture(folder / "whole.png", (300, 300)).read_bytes()
    (folder / "half.png").write_bytes(whole[: len(whole) // 2])
    yield folder / "half.png", "cannot be read as a picture"
    (folder / "heavy.jpg").write_bytes(b"\xff\xd8" + bytes(11 * 2**20))
    yield folder / "heavy.jpg", "more than 10 MB"


def test_a_hostile_file_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    looked = [*hostile(tmp_path)]
    assert len(looked) == 8
    decoded = []
    monkeypatch.setattr(Image.Image, "convert", lambda self, *_: decoded.append(self))
    for path, said in looked:
        with pytest.raises(DataError, match=said):
            networks.name_picture(asked(flops=4), path)
    assert not decoded


def test_the_folder_is_what_generate_writes(tmp_path):
    request = asked(flops=4, params=0.2)
    path = networks.zip_folder(request, tmp_path)
    assert [*tmp_path.iterdir()] == [path]
    shutil.unpack_archive(path, tmp_path / "out")
    (folder,) = (tmp_path / "out").iterdir()
    assert folder.name == "sgnas_micro-flops-4M-params-0.2M"
    model = sgnas_zoo.create_model(folder, pretrained=True)
    assert model.zoo["arch"] == str(answers.find(request).network.arch)
    assert model.zoo["weights"] == "inherited"


def test_few_networks_are_kept():
    networks._network.cache_clear()
    for flops in (3, 3.5, 4, 4.5, 5, 5.5):
        networks._network(asked(flops=flops).text)
    assert networks._network.cache_info().currsize == networks.KEPT


def test_a_full_folder_takes_no_uploads(tmp_path, monkeypatch):
    passed, sent = [], []

    async def app(scope, receive, send):
        passed.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message):
        sent.append(message)

    def ask(path):
        sent.clear()
        asyncio.run(guard.Guard(app, str(tmp_path))({"type": "http", "path": path}, None, send))
        return sent[0]["status"]

    (tmp_path / "file").write_bytes(bytes(9000))
    assert ask("/gradio_api/upload") == 200
    assert b"default-src 'self'" in dict(sent[0]["headers"])[b"content-security-policy"]
    monkeypatch.setattr(guard, "MOST_KEPT", 8000)
    assert ask("/gradio_api/upload") == 503
    assert ask("/") == 200
    assert passed == ["/gradio_api/upload", "/"]


def test_a_missing_package_is_named_with_the_line_that_installs_it(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    find = extras.find_spec
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "gradio" else find(name))
    assert "pip install 'sgnas-zoo[demo]'" in refused("demo")
    assert "gradio" in refused("demo", "--push-to-hub", "me/page")


def test_help_loads_neither_gradio_nor_torch():
    code = (
        "import sys\nfrom sgnas_zoo.cli.main import main\n"
        "try: main(['demo', '--help'])\n"
        "except SystemExit as end: print(end.code, {'torch', 'timm', 'gradio'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "0 set()"


def test_private_needs_something_to_push(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "--push-to-hub" in refused("demo", "--private")
