"""Signals that end what runs: the line that is said, the exit code, and who takes no notice."""

import os
import signal
import subprocess
import sys
import threading

import pytest
from places import ROOT

from sgnas_zoo.stopping import stoppable

SCRIPT = """
import os, signal, sys, time, weakref
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started us deaf to it
import click
from sgnas_zoo.stopping import stoppable
{before}

@click.command()
@stoppable("go on with --resume.")
def main():
    try:
        {work}
        time.sleep({wait})
        print("went on")
    finally:
        {cleanup}
        print("cleaned up", flush=True)

main()
"""
SEND = "os.kill(os.getpid(), signal.{})"
SAID = "Stopped by {}; go on with --resume.\n"


def run(work="pass", before="", cleanup="pass", wait=30):
    script = SCRIPT.format(work=work, before=before, cleanup=cleanup, wait=wait)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, env=environment)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_is_one_line_and_its_exit_code(name, code):
    assert run(SEND.format(name)) == (code, "cleaned up\n", SAID.format(name))


@pytest.mark.parametrize("second", ["SIGINT", "SIGTERM"])
def test_a_second_signal_hurries_nothing(second):
    assert run(SEND.format("SIGINT"), cleanup=SEND.format(second)) == (130, "cleaned up\n", SAID.format("SIGINT"))


def test_no_except_exception_stops_it():
    work = f"exec('try: {SEND.format('SIGTERM')}\\nexcept Exception: pass')"
    assert run(work) == (143, "cleaned up\n", SAID.format("SIGTERM"))


@pytest.mark.parametrize("dropped_in", ["a finaliser", "a weak reference's call"])
def test_a_signal_that_python_drops_comes_again(dropped_in):
    send = SEND.format("SIGINT")
    before = {
        "a finaliser": f"class Thing:\n    def __del__(self): {send}",
        "a weak reference's call": f"class Thing: pass\ndef gone(ref): {send}\nkept = []",
    }[dropped_in]
    work = (
        "thing = Thing(); " + ("" if "fin" in dropped_in else "kept.append(weakref.ref(thing, gone)); ") + "del thing"
    )
    assert run(work, before) == (130, "cleaned up\n", SAID.format("SIGINT"))


def test_other_errors_that_python_drops_are_told_as_ever():
    code, out, err = run("thing = Thing(); del thing", "class Thing:\n    def __del__(self): 1 / 0", wait=0)
    assert (code, out) == (0, "went on\ncleaned up\n")
    assert "ZeroDivisionError" in err


def test_what_was_ignored_from_before_stays_so():
    """As after nohup, or of a shell that starts it in the background."""
    before = "signal.signal(signal.SIGINT, signal.SIG_IGN)"
    assert run(SEND.format("SIGINT"), before, wait=0) == (0, "went on\ncleaned up\n", "")


@pytest.mark.parametrize(("name", "says"), [("SIGINT", "Interrupted."), ("SIGTERM", "Terminated.")])
def test_what_ends_the_process_gives_way_and_comes_back(name, says):
    before = "from sgnas_zoo.stopping import end_on_signals\nend_on_signals()"
    assert run(SEND.format(name), before) == (128 + signal.Signals[name], "cleaned up\n", SAID.format(name))
    at_exit = f"{before}\nimport atexit\natexit.register(lambda: {SEND.format(name)})"
    _, out, err = run(before=at_exit, wait=0)
    assert (out, err.splitlines()[0]) == ("went on\ncleaned up\n", says)


@pytest.mark.parametrize("second", ["SIGINT", "SIGTERM"])
def test_a_signal_after_the_one_line_says_nothing_more(second):
    before = f"""
from sgnas_zoo.stopping import end_on_signals
end_on_signals()
import atexit
atexit.register(lambda: {SEND.format(second)})
"""
    assert run(SEND.format("SIGTERM"), before) == (143, "cleaned up\n", SAID.format("SIGTERM"))


def test_what_ends_the_process_leaves_ignored_signals_ignored():
    before = (
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\nfrom sgnas_zoo.stopping import end_on_signals\nend_on_signals()"
    )
    assert run(SEND.format("SIGINT"), before, wait=0) == (0, "went on\ncleaned up\n", "")


def test_a_forked_process_takes_no_notice():
    work = f"child = os.fork(); child or {SEND.format('SIGTERM')}; child or os._exit(7)"
    cleanup = "print(os.waitpid(child, 0)[1] >> 8)"
    assert run(work, wait=0, cleanup=cleanup) == (0, "went on\n7\ncleaned up\n", "")


def test_outside_the_main_thread_nothing_changes():
    seen = []

    def work():
        with stoppable("go on."):
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]
