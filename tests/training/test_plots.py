"""Plots of fronts: what they show, that it survives grey printing, and that the same panels are the same bytes."""

import itertools
import os
import re
from xml.etree import ElementTree

import numpy as np
import pytest
import warm
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image
from places import ROOT

from sgnas_zoo.costs import BUDGETS
from sgnas_zoo.errors import ArtifactError
from sgnas_zoo.training.evidence import binomial_error, plot_evidence
from sgnas_zoo.training.plots import BUDGET, COLOURS, KNEE, LINES, MARKERS, Panel, Series, plot_panels
from sgnas_zoo.training.searching.report import plot_comparison

POINTS = [(1.0, 50.0), (2.0, 60.0), (3.0, 62.0)]
FRONT = Panel("M MACs", "top-1, %", {"found": Series(POINTS, [1.0, 1.0, 2.0], "straight")}, [1.1, 2.2, 3.3], POINTS[1])


@pytest.fixture
def drawn(monkeypatch):
    """Every figure that is saved, by the name of its file's suffix."""
    figures, save = [], Figure.savefig

    def keep(figure, *args, **kwargs):
        figures.append(figure)
        return save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


def lightness(colour):
    """L* of a colour: what is left of it in grey, from 0 to 100."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return 116 * (0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]) ** (1 / 3) - 16


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_any_two_series_differ_in_grey_in_mark_and_in_line():
    assert len(COLOURS) == len(set(MARKERS)) == len(set(LINES)) == 7
    assert min(abs(lightness(a) - lightness(b)) for a, b in itertools.combinations(COLOURS, 2)) > 6
    assert max(map(lightness, COLOURS)) < 85  # and all of them from paper


def test_a_front_shows_its_budgets_standard_errors_and_knee(tmp_path, drawn):
    plot_panels(tmp_path / "front.png", [FRONT])
    (axes,) = drawn[0].axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("M MACs", "top-1, %")
    upright = [line.get_xdata()[0] for line in axes.lines if list(line.get_ydata()) == [0, 1]]
    assert upright == [1.1, 2.2, 3.3]
    (bars,) = axes.containers
    assert [(low[1], high[1]) for low, high in bars[2][0].get_segments()] == [(49, 51), (59, 61), (60, 64)]
    assert [text.get_text() for text in axes.texts] == [KNEE]
    assert axes.texts[0].xy == (2.0, 60.0)
    assert sorted(legend(drawn[0])) == sorted([BUDGET, KNEE, "found"])


def test_a_long_label_is_broken_into_lines_that_fit(tmp_path, drawn):
    told = "top-1 at 224 px with inherited weights of a supernet on 2,000 images, % (± standard error)"
    plot_panels(tmp_path / "a.png", [Panel("x", told, {"found": Series(POINTS)})])
    (axes,) = drawn[0].axes
    assert axes.get_ylabel().replace("\n", " ") == told
    box = axes.yaxis.label.get_window_extent()
    assert box.y0 >= 0
    assert box.y1 <= drawn[0].bbox.y1


def test_the_legend_lies_outside_of_all_data_and_names_a_series_once(tmp_path, drawn):
    other = Panel("budgets", "seconds", {"more": Series(POINTS), "found": Series(POINTS)}, log=True)
    plot_panels(tmp_path / "two.png", [FRONT, other])
    assert sorted(legend(drawn[0])) == sorted([BUDGET, KNEE, "found", "more"])
    box = drawn[0].legends[0].get_window_extent()
    assert len(drawn[0].axes) == 2
    assert not any(box.overlaps(axes.get_window_extent()) for axes in drawn[0].axes)
    first, second = ({c.get_label(): c[0] for c in axes.containers} for axes in drawn[0].axes)
    assert first["found"].get_color() == second["found"].get_color() != second["more"].get_color()
    assert first["found"].get_marker() == second["found"].get_marker() != second["more"].get_marker()
    assert [axes.get_yscale() for axes in drawn[0].axes] == ["linear", "log"]


def test_a_line_of_reference_is_black_without_marks_and_takes_no_colour(tmp_path, drawn):
    own = {"true": Series(POINTS, line="steps", marked=False), "found": Series(POINTS)}
    plot_panels(tmp_path / "a.png", [Panel("x", "y", own)])
    true, found = (container[0] for container in drawn[0].axes[0].containers)
    assert (true.get_color(), true.get_marker(), true.get_drawstyle()) == ("black", "None", "steps-post")
    assert (found.get_color(), found.get_marker(), found.get_linestyle()) == (COLOURS[0], MARKERS[0], "None")


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_the_same_panels_are_the_same_bytes_whenever_and_wherever(tmp_path, suffix):
    for place in ("one", "other"):
        (tmp_path / place).mkdir()
        plot_panels(tmp_path / place / f"front.{suffix}", [FRONT])
    one, other = (tmp_path / place / f"front.{suffix}" for place in ("one", "other"))
    assert one.read_bytes() == other.read_bytes()
    assert str(tmp_path).encode() not in one.read_bytes()
    plot_panels(other, [Panel("M MACs", "another", FRONT.series)])
    assert one.read_bytes() != other.read_bytes()


def test_an_svg_has_its_texts_and_no_date(tmp_path):
    plot_panels(tmp_path / "front.svg", [FRONT])
    content = (tmp_path / "front.svg").read_text()
    ElementTree.fromstring(content)
    for text in ("M MACs", "top-1, %", BUDGET, "found", KNEE):
        assert f"<!-- {text} -->" in content
    assert not re.search(r"20\d\d-\d\d-\d\d|dc:date", content)


def test_a_disk_that_refuses_is_named(tmp_path):
    (tmp_path / "front.png").mkdir()
    with pytest.raises(ArtifactError, match="is a folder; name a file"):
        plot_panels(tmp_path / "front.png", [FRONT])


def test_evidence_is_drawn_from_its_record_alone(tmp_path, drawn):
    rows = [
        {"requested": 2e6, "achieved": 1.9e6, "top1": 50.0, "random_top1": [40.0, 44.0]},
        {"requested": 4e6, "achieved": 3.9e6, "top1": 80.0, "random_top1": [70.0, 78.0]},
    ]
    plot_evidence(tmp_path, {"budgets": rows, "images": 100, "dataset": {}}, BUDGETS["flops"])
    front, budgets = (figure.axes[0] for figure in drawn)
    generated, random = front.containers
    assert [*map(tuple, generated[0].get_xydata())] == [(1.9, 50), (3.9, 80)]
    assert [*map(tuple, random[0].get_xydata())] == [(2, 42), (4, 74)]
    heights = [[high[1] - low[1] for low, high in each[2][0].get_segments()] for each in (generated, random)]
    assert heights == [pytest.approx([10, 8]), pytest.approx([4, 8])]  # twice a standard error
    assert [*map(tuple, budgets.containers[0][0].get_xydata())] == [(2, 1.9), (4, 3.9)]
    assert {file.name for file in tmp_path.iterdir()} == {"front.png", "budgets.png"}


def test_the_standard_error_of_a_share_of_images():
    assert binomial_error(50, 100) == pytest.approx(5)
    assert binomial_error(80, 2000) == pytest.approx(0.894, abs=1e-3)
    assert binomial_error(100, 10) == 0


def test_a_comparison_shows_means_over_seeds_by_rising_cost(tmp_path, drawn):
    rows = [
        {"strategy": "random", "budget": budget, "seed": seed, "macs": macs, "unseen_top1": top1}
        for budget, seed, macs, top1 in [(4e6, 0, 3e6, 70), (4e6, 1, 4e6, 74), (2e6, 0, 1e6, 50), (2e6, 1, 1e6, 52)]
    ]
    paid = {"random": [{"budgets": 1, "seconds_with_preparation": 5}]}
    plot_comparison(tmp_path / "a.png", {"cost": "flops", "rows": rows, "totals": paid})
    found, _ = (axes.containers[0] for axes in drawn[0].axes)
    assert [*map(tuple, found[0].get_xydata())] == [(1, 51), (3.5, 72)]
    assert [high[1] - low[1] for low, high in found[2][0].get_segments()] == pytest.approx([2, 4])
    assert "± standard error" in drawn[0].axes[0].get_ylabel().replace("\n", " ")
    plot_comparison(tmp_path / "b.png", {"cost": "flops", "rows": rows[::2], "totals": paid})  # one seed: no bars
    assert drawn[1].axes[0].containers[0][2] == ()
    assert "standard error" not in drawn[1].axes[0].get_ylabel()


@pytest.mark.parametrize("number", [1, 2])
def test_the_legend_fits_into_the_picture(number, tmp_path):
    names = [f"{name} networks of as many MACs" for name in ("generated", "random", "searched")]
    panel = Panel("million MACs", "top-1, %", {name: Series([(1, 1), (2, 2)]) for name in names}, (1.5,))
    plot_panels(tmp_path / "plot.png", [panel] * number)
    pixels = np.asarray(Image.open(tmp_path / "plot.png").convert("L"))
    assert pixels.min() == 0
    assert (pixels[:, [0, 1, -2, -1]] == 255).all()


def test_a_notebook_keeps_its_backend():
    code = (
        "import matplotlib, sgnas_zoo\nmatplotlib.use('pdf')\nsgnas_zoo.compare_strategies, sgnas_zoo.generate_front\n"
        "import sgnas_zoo.training.plots\nprint(matplotlib.get_backend())"
    )
    done = warm.run("-c", code, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert (done.returncode, done.stdout) == (0, "pdf\n"), done.stderr
