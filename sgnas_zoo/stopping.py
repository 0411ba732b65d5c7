"""Ctrl-C and SIGTERM: one line on stderr, and the exit code that a shell gives for the signal.

``end_on_signals`` is for a whole process, from before its imports; ``stoppable`` is for what can be gone on with, and
takes the place of the former while it lasts. Nothing that takes time is imported here.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType

ENDS = {signal.SIGINT: "Interrupted.", signal.SIGTERM: "Terminated."}
"""Signals that end a process, and what it says where there is nothing to go on with."""
AGAIN = 0.05
"""Seconds until a signal that came to nothing is sent again."""


def end_on_signals() -> None:
    """Raise SystemExit in the main thread on Ctrl-C and SIGTERM, so that whoever writes cleans up.

    A signal that is ignored from before, as after ``nohup``, stays so.
    """
    if threading.current_thread() is threading.main_thread():
        for number in listened():
            signal.signal(number, partial(_end, os.getpid()))


def _end(process: int, number: int, _: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # once is enough: clean up in peace
    if os.getpid() == process:  # a worker process that inherits this has nothing to say
        os.write(2, f"{ENDS[signal.Signals(number)]}\n".encode())
    sys.exit(128 + number)


def _ends(handler: object) -> bool:
    return isinstance(handler, partial) and handler.func is _end


def listened() -> list[signal.Signals]:
    """The signals that nobody has told this process to ignore."""
    return [number for number in ENDS if signal.getsignal(number) != signal.SIG_IGN]


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
        SystemExit: With 128 plus the signal's number. Not outside the main thread, where Python handles no signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    process, ending = os.getpid(), False

    def stop(number: int, _: FrameType | None) -> None:
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
    before = {number: signal.signal(number, stop) or signal.SIG_DFL for number in listened()}
    try:
        yield
    except Stopped as stopped:
        print(f"Stopped by {signal.Signals(stopped.number).name}; {advice}", file=sys.stderr)
        before |= dict.fromkeys((n for n, handler in before.items() if _ends(handler)), signal.SIG_IGN)  # it is ending
        raise SystemExit(128 + stopped.number) from None
    finally:
        ending = True
        for number, handler in before.items():
            signal.signal(number, handler)
        sys.unraisablehook = hook
