"""A supernet's ranking against the truth: ``recipes/rank.py``."""

import json
import random
from statistics import fmean

import pytest
from PIL import Image
from recipe_runs import load_recipe, run_recipe
from scipy.stats import kendalltau, spearmanr
from truths import MACS, PARAMS, TINY, table, write_supernet, write_table

from sgnas_zoo.hub.supernets import load_supernet
from sgnas_zoo.spaces import SPACES


@pytest.fixture
def tiny(once):
    with SPACES.temporarily("tiny", TINY):
        yield once("tiny", write_supernet)


@pytest.fixture
def asked(tiny, photos, tmp_path):
    truth = write_table(tmp_path / "truth.json")
    return [
        "--supernet", tiny, "--truth", truth, "--dataset", photos, "--output", tmp_path / "out", "--images", 20,
        "--number", 12, "--workers", 0,
    ]  # fmt: skip


def test_the_ranking_is_that_of_inherited_and_true_accuracy(asked, tiny, tmp_path):
    said = run_recipe("rank", *asked)
    record = json.loads((tmp_path / "out" / "ranking.json").read_text())
    rows = record["rows"]
    assert len({row["arch"] for row in rows}) == 12
    for row in rows:
        arch, known = TINY.parse(row["arch"]), table()[row["arch"]]
        assert row["true_top1"] == fmean(known["top1"])
        assert (row["macs"], row["params"]) == (known["macs"], known["params"])
        assert (row["macs"], row["params"]) == (MACS.measure(arch), PARAMS.measure(arch))
        assert 0 <= row["top1"] <= 100
    columns = {name: [row[name] for row in rows] for name in ("top1", "true_top1", "macs", "params")}
    for found, name in ((record, "top1"), (record["macs_alone"], "macs"), (record["params_alone"], "params")):
        assert found["kendall_tau"] == pytest.approx(kendalltau(columns[name], columns["true_top1"]).statistic)
        assert found["spearman"] == pytest.approx(spearmanr(columns[name], columns["true_top1"]).statistic)
    assert record["mean_top1"] == pytest.approx(fmean(columns["top1"]))
    assert f"kendall_tau {record['kendall_tau']}" in said
    assert record["dataset"]["part"] == "held"
    weights = load_supernet(tiny)
    assert record["weights"] == {**weights.origin(), "supernet": weights.source.named()}
    assert str(tiny) not in json.dumps(record["weights"])
    assert record["truth"]["networks"] == 27
    assert record["settings"] == {"image_column": None, "label_column": None, "number": 12, "images": 20, "seed": 0}
    with Image.open(tmp_path / "out" / "ranking.png") as picture:
        assert picture.width > 500


def test_the_same_command_goes_on_where_it_was(asked, tmp_path, monkeypatch):
    run_recipe("rank", *asked)
    whole = (tmp_path / "out" / "ranking.json").read_bytes()
    scores = tmp_path / "out" / "evaluations.jsonl"
    lines = scores.read_text().splitlines(keepends=True)
    assert len(lines) == 12
    scores.write_text("".join(lines[:7]) + lines[7][:9])  # killed in the middle of a line
    (tmp_path / "out" / "ranking.json").unlink()
    run_recipe("rank", *asked)
    assert (tmp_path / "out" / "ranking.json").read_bytes() == whole
    assert scores.read_text().splitlines(keepends=True)[:7] == lines[:7]
    told = [[json.loads(line)["top1"] for line in text] for text in (lines, scores.read_text().splitlines())]
    assert told[0] == told[1]
    said = run_recipe("rank", *asked, "--seed", 1, code=2)
    assert "has other settings (seed: 0 there, 1 here); repeat them." in said


def test_what_is_the_same_for_all_has_no_rank():
    assert load_recipe("rank").agreement([1.0, 1.0], [1.0, 2.0]) == {"kendall_tau": None, "spearman": None}
    found = load_recipe("rank").agreement([1.0, 3.0], [1.0, 2.0])
    assert found == pytest.approx({"kendall_tau": 1.0, "spearman": 1.0})


def test_an_architecture_that_the_table_lacks_is_named_before_anything_is_scored(asked, tmp_path):
    content = table()
    lacking = [str(arch) for arch in TINY.sample_several(random.Random(0), 12)][4]
    del content[lacking]
    write_table(tmp_path / "truth.json", content)
    said = run_recipe("rank", *asked, code=2)
    assert said == f"Error: truth.json lacks {lacking}; name a truth table that holds it.\n"
    assert not (tmp_path / "out").exists()
    other = next(arch for arch in table() if arch not in {*map(str, TINY.sample_several(random.Random(0), 12))})
    write_table(tmp_path / "truth.json", {arch: row for arch, row in table().items() if arch != other})
    run_recipe("rank", *asked)


def test_more_networks_than_the_space_has_are_refused(asked):
    said = run_recipe("rank", *asked, "--number", 28, code=2)
    assert said == "Error: tiny has 27 architectures; give no larger --number.\n"
