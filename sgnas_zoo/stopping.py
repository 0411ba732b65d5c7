"""Ctrl-C and SIGTERM: one line that says how to go on, and the exit code that a shell gives for the signal."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import click

SIGNALS = (signal.SIGINT, signal.SIGTERM)
AGAIN = 0.05
"""Seconds until a signal that came to nothing is sent again."""


class Stopped(BaseException):
    """A signal, on its way out of what it stops; no ``Exception``, which libraries catch."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def stoppable(advice: str) -> Iterator[None]:
    """Let the first SIGINT or SIGTERM end the block, with what it cleans up; those that follow hurry nothing.

    Processes that the block forks, such as decoding workers, take no notice of a signal that goes to the whole group:
    this one decides when they end. A signal that is ignored from before, as after ``nohup``, stays so.

    Args:
        advice: The next step, for the one line.

    Raises:
        Exit: With 128 plus the signal's number. Not outside the main thread, where Python handles no signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    process, ending = os.getpid(), False

    def stop(number: int, frame: object) -> None:
        nonlocal ending
        if os.getpid() == process and not ending:
            ending = True
            raise Stopped(number)

    def unraisable(caught: sys.UnraisableHookArgs) -> None:
        """Send the signal again if it was raised where Python drops it: in a finaliser or a weak reference's call."""
        nonlocal ending
        if isinstance(caught.exc_value, Stopped):
            ending = False
            threading.Timer(AGAIN, os.kill, (process, caught.exc_value.number)).start()
        else:
            hook(caught)

    hook, sys.unraisablehook = sys.unraisablehook, unraisable
    listened = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, stop) or signal.SIG_DFL for number in listened}
    try:
        yield
    except Stopped as stopped:
        click.echo(f"Stopped by {signal.Signals(stopped.number).name}; {advice}", err=True)
        raise click.exceptions.Exit(128 + stopped.number) from None
    finally:
        ending = True
        for number, handler in before.items():
            signal.signal(number, handler)
        sys.unraisablehook = hook
