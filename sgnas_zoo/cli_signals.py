"""How a command ends when it is told to: one line on stderr, and the exit code that a shell expects.

It imports nothing that takes time, so that this holds from the first moment on.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType

ENDS = {signal.SIGINT: "Interrupted.", signal.SIGTERM: "Terminated."}
"""Signals that end a command, and what it says."""


def end_on_signals() -> None:
    """Raise SystemExit in the main thread on Ctrl-C and SIGTERM, so that whoever writes cleans up.

    Training puts handlers of its own in the place of these.
    """
    own = os.getpid()

    def end(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)  # once is enough: clean up in peace
        if os.getpid() == own:  # a worker process that inherits this has nothing to say
            os.write(2, f"{ENDS[signal.Signals(number)]}\n".encode())
        sys.exit(128 + number)

    if threading.current_thread() is threading.main_thread():
        for number in ENDS:
            signal.signal(number, end)
