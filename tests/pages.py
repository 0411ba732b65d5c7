"""The page of ``sgnas-zoo demo`` as a real process, for clients and browsers."""

import contextlib
import os
import signal
import socket
import time
import urllib.error
import urllib.request

import warm
from places import ROOT


def free_port():
    """A port that nobody listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Served:
    """A page that is served; ``start`` again after ``stop`` keeps the port.

    Args:
        folder: Working directory and home of all caches.
        options: More of the command line, or another script with its arguments.
    """

    def __init__(self, folder, *options, command=("-m", "sgnas_zoo", "demo"), **environment):
        self.folder, self.port, self.process = folder, free_port(), None
        self.command, self.environment = (*command, *options), environment

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/"

    def start(self):
        (self.folder / "tmp").mkdir(exist_ok=True)
        own = {"XDG_CACHE_HOME": str(self.folder / "cache"), "TMPDIR": str(self.folder / "tmp"), "HF_HUB_OFFLINE": "1",
               "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "GRADIO_SERVER_PORT": str(self.port)}  # fmt: skip
        port = () if "demo" not in self.command else ("--port", self.port)
        environment = {**os.environ, **own, **self.environment}
        self.process = warm.start(*self.command, *port, env=environment, cwd=self.folder)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(urllib.error.URLError, OSError), urllib.request.urlopen(self.url, timeout=5):
                return self
            time.sleep(0.2)
        raise AssertionError(self.process.err.read_text())

    def stop(self, number=signal.SIGINT):
        """Exit code, and what was said on stderr."""
        self.process.send_signal(number)
        done = self.process.finish(30)
        return done.returncode, done.stderr

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        if self.process is not None:
            self.process.kill()


def request(url, data=None, headers=None):
    """Status, headers and body of an answer, be it an error."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers or {}), timeout=60) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()
