"""What makes a time doubtful: other processes, a speed that drifts, repeats that spread, an interruption."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from sgnas_zoo.costs.profile import Setup
from sgnas_zoo.measure import load
from sgnas_zoo.measure.load import drift, note_drift, note_load, other_load
from sgnas_zoo.measure.partial import Partial
from sgnas_zoo.measure.timing import AGAIN, Timing, interleaved, steadiest

# --- load

linux = pytest.mark.skipif(not os.path.exists("/proc/stat"), reason="the system does not say its load")


@linux
def test_another_process_is_load_and_this_one_is_none(monkeypatch):
    def spin(seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pass

    def measured(seconds):
        before = load._cpu_seconds()
        monkeypatch.setattr(load.time, "sleep", spin)
        try:
            return other_load(seconds), load._cpu_seconds()[2] - before[2]
        finally:
            monkeypatch.undo()

    alone, own = measured(0.5)
    cores = os.cpu_count()
    assert own > 0
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
        time.sleep(0.3)
        try:
            shared = other_load(0.5)
        finally:
            other.kill()
    assert 0 <= alone <= 1 - 0.9 * own / (0.5 * cores) + 0.05  # what this process took is not counted
    assert shared > 0.05


def stat(monkeypatch, tmp_path, *lines):
    """Two looks at a system's clocks."""
    shown = iter(lines)

    class Stat:
        def __init__(self, path):
            assert path == "/proc/stat"

        def read_text(self, **_):
            return next(shown)

    monkeypatch.setattr(load, "Path", Stat)
    monkeypatch.setattr(load.os, "sysconf", lambda _: 100)
    monkeypatch.setattr(load.time, "sleep", lambda _: None)


def test_the_share_of_others_is_what_is_busy_but_not_ours(monkeypatch, tmp_path):
    stat(monkeypatch, tmp_path, "cpu  0 0 0 1000 0 0 0 0 0 0\ncpu0", "cpu  30 10 10 1040 10 0 0 0 7 0\ncpu0")
    own = iter([0.0, 0.2])
    monkeypatch.setattr(load.os, "times", lambda: type("Times", (), {"user": next(own), "system": 0.0}))
    assert other_load() == pytest.approx((50 - 20) / 100)


@pytest.mark.parametrize("text", ["", "cpu", "cpu a b c d e f g h", "intr 1 2 3"])
def test_a_system_that_does_not_say_its_load_is_not_spoken_of(text, monkeypatch, tmp_path, capsys):
    stat(monkeypatch, tmp_path, text, text)
    assert other_load() is None
    stat(monkeypatch, tmp_path, text, text)
    note_load(Setup("x"))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("share", "device", "said"),
    [
        (0.63, "cpu", "Other processes take 63% of this machine's CPU time: times will be too long and vary; "),
        (0.02, "cpu", "Other processes take 2% of this machine's CPU time.\n"),
        (0.63, "cuda", ""),
    ],
)
def test_the_load_is_a_line(share, device, said, monkeypatch, capsys):
    monkeypatch.setattr(load, "other_load", lambda: share)
    note_load(Setup("x", device))
    err = capsys.readouterr().err
    assert err.startswith(said)
    assert len(err.splitlines()) == bool(said)


# --- drift


@pytest.mark.parametrize("calls", [1, 5])
def test_a_speed_that_drifts_between_repeats_is_said(calls, capsys):
    rng = np.random.default_rng(0)
    steady = [own * rng.uniform(0.9, 1.1, 600) for own in range(1, calls + 1)]
    slowing = [times * np.linspace(1, 1.5, 600) for times in steady]
    assert drift(steady) < 0.05 < 0.2 < drift(slowing) < 0.5
    note_drift(steady)
    assert capsys.readouterr().err == ""
    note_drift(slowing)
    assert "speed drifted by " in capsys.readouterr().err


def test_too_few_repeats_say_nothing_of_drift():
    assert drift([np.array([1.0, 2.0])]) == 0


# --- repeats that spread

STEADY, WIDE, WIDER = np.linspace(0.95, 1.05, 11), np.linspace(0.5, 1.5, 11), np.linspace(0.1, 1.9, 11)


def test_a_timing_is_one_number_or_a_range():
    assert str(Timing.of(STEADY)) == "1.00 ms"
    wide = Timing.of(WIDE)
    assert wide.spread == pytest.approx(0.5)
    assert str(wide) == "0.75 to 1.25 ms"
    assert wide.range_ms == (0.75, 1.25)
    assert Timing(1.0, 0.91, 1.1, 9).steady
    assert not Timing(1.0, 0.89, 1.1, 9).steady


@pytest.mark.parametrize(
    ("runs", "asked", "kept"),
    [
        ([[STEADY, STEADY]], 1, 0),
        ([[STEADY, WIDE], [STEADY, STEADY]], 2, 1),
        ([[WIDER, STEADY], [WIDE, STEADY], [WIDER, WIDER]], 3, 1),
    ],
)
def test_what_spreads_is_timed_again_a_few_times_and_one_run_is_kept_whole(runs, asked, kept):
    left = iter(runs)
    timings = steadiest(lambda: next(left))
    assert asked <= 1 + AGAIN
    assert len([*left]) == len(runs) - asked
    assert timings == [Timing.of(times) for times in runs[kept]]


# --- rounds that are kept


def sleeping(seen):
    return [lambda name=name: seen.append(name) for name in "abc"]


def test_a_run_goes_on_after_the_rounds_that_were_kept(tmp_path):
    path, every, seen = tmp_path / "some" / "rounds", [1, 1, 2], []
    whole = interleaved(sleeping([]), 4, 1, every=every, log=Partial(path, every))
    text = json.loads(path.read_text())
    text["rounds"] = text["rounds"][:3]
    path.write_text(json.dumps(text))
    rounds = []
    again = interleaved(
        sleeping(seen), 4, 1, every=every, log=Partial(path, every), progress=lambda: rounds.append(len(seen))
    )
    assert [list(own[:3]) for own in again[:2]] == [list(own[:3]) for own in whole[:2]]
    assert list(again[2]) == list(whole[2])  # it sits the fourth round out
    assert rounds[:3] == [0, 0, 0]
    assert set(seen) == {"a", "b"}
    assert len(json.loads(path.read_text())["rounds"]) == 4
    Partial(path, every).remove()
    assert [*path.parent.iterdir()] == []


def test_each_round_has_an_order_of_its_own_wherever_a_run_begins(tmp_path):
    def orders(log):
        seen, rounds = [], []
        interleaved(sleeping(seen), 6, 1, log=log, progress=lambda: rounds.append(len(seen)))
        return [seen[start:end] for start, end in zip([0, *rounds], rounds, strict=False)]

    every = [1, 1, 1]
    whole = orders(Partial(tmp_path / "one", every))
    text = json.loads((tmp_path / "one").read_text())
    (tmp_path / "one").write_text(json.dumps({**text, "rounds": text["rounds"][:2]}))
    assert orders(Partial(tmp_path / "one", every)) == [[], [], *whole[2:]]
    assert len({tuple(order) for order in whole}) > 1


GOOD = {"artifact": "partial profile", "rounds": [[1.0, 2.0, 3.0], [1.0, 2.0, None]]}


@pytest.mark.parametrize(
    "damaged",
    [
        "", "{", "[]", "null", "[" * 100_000, b"\xff\xfe", json.dumps(GOOD)[:-5],
        json.dumps(GOOD | {"artifact": "profile"}),
        json.dumps(GOOD | {"rounds": [[1.0, 2.0]]}),
        json.dumps(GOOD | {"rounds": [[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]}),
        json.dumps(GOOD | {"rounds": [[1.0, 2.0, None]]}),
        json.dumps(GOOD | {"rounds": [[1.0, -2.0, 3.0]]}),
        json.dumps(GOOD | {"rounds": [[1.0, True, 3.0]]}),
        json.dumps(GOOD | {"rounds": [[1.0, float("nan"), 3.0]]}),
        json.dumps(GOOD | {"rounds": [[1.0, 1e300, 3.0]]}),
    ],
)  # fmt: skip
def test_damaged_rounds_are_ignored_with_a_line(tmp_path, capsys, damaged):
    path = tmp_path / "rounds"
    path.write_bytes(damaged if isinstance(damaged, bytes) else damaged.encode())
    log = Partial(path, [1, 1, 2])
    assert log.rounds == []
    assert "damaged and is ignored; all rounds are timed anew." in capsys.readouterr().err
    log.add([1.0, 2.0, 3.0])
    assert Partial(path, [1, 1, 2]).rounds == [[1.0, 2.0, 3.0]]
    path.write_text(json.dumps(GOOD))
    assert Partial(path, [1, 1, 2]).rounds == GOOD["rounds"]
    assert capsys.readouterr().err == ""
