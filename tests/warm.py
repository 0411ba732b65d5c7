"""Python processes that need not import torch, which takes seconds: a server that has imported it forks them.

Run as a script it is the server, which reads jobs from stdin; ``run`` and ``start`` talk to it. Beyond these imports,
which look at no variable that tests set, a process is as any that ``python`` starts: it has an environment, a folder,
an output and a group of its own, and signals as a shell leaves them.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import functools
import gc
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
import time
import types
import warnings
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).parents[1]
IMPORTED = ("torch", "torchvision", "torch._dynamo", "pandas", "pyarrow.parquet")
FORBIDDEN = ("sgnas_zoo", "huggingface_hub", "datasets", "accelerate", "timm")
"""What reads the environment when it is imported, and what is tested."""


class Server:
    """Starts the processes of one process of tests; made when it is asked for the first time."""

    def __init__(self) -> None:
        self.folder, self._lock = tempfile.TemporaryDirectory(prefix="warm-"), threading.Lock()
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(
            [sys.executable, __file__], env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def ask(self, job: dict[str, Any]) -> Any:
        """Give it a job, or a process to look after; gives its answer. Threads may ask at once."""
        with self._lock:
            self._process.stdin.write(json.dumps(job) + "\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """End it."""
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()
        self.folder.cleanup()


@functools.cache
def server() -> Server:
    """The server of this process."""
    found = Server()
    atexit.register(found.close)
    return found


def start(*arguments: object, env: dict[str, str] | None = None, cwd: Path | None = None) -> Started:
    """Start a process.

    Args:
        arguments: As those of ``python``: ``-W`` and what to do with warnings, then ``-c PROGRAM``, ``-m MODULE`` or
            the path of a script, and its own.
        env: All its variables; by default those of this process.
        cwd: Its working directory; by default that of this process.
    """
    place = Path(tempfile.mkdtemp(dir=server().folder.name))
    job = {"argv": [*map(str, arguments)], "env": {**(os.environ if env is None else env)},
           "cwd": str(cwd or Path.cwd()), "out": str(place / "out"), "err": str(place / "err")}  # fmt: skip
    (place / "out").touch()
    (place / "err").touch()
    return Started(server().ask(job), place)


def run(*arguments: object, timeout: float = 300, **place: Any) -> subprocess.CompletedProcess[str]:
    """Run a process to its end, as ``start`` does; gives its code and its output."""
    return start(*arguments, **place).finish(timeout)


class Started:
    """A process, with as much of ``subprocess.Popen`` as tests use."""

    def __init__(self, pid: int, place: Path) -> None:
        self.pid, self.out, self.err, self.returncode = pid, place / "out", place / "err", None

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        if self.returncode is None:
            self.returncode = server().ask({"pid": self.pid})
        return self.returncode

    def wait(self, timeout: float = 300) -> int:
        """Wait so many seconds for its end."""
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
            time.sleep(0.01)
        return self.returncode

    def communicate(self, timeout: float = 300) -> tuple[str, str]:
        """Its output, once it has ended."""
        done = self.finish(timeout)
        return done.stdout, done.stderr

    def finish(self, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """Wait for its end, which is hurried when the time is over; gives its code and its output."""
        try:
            self.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        return subprocess.CompletedProcess([], self.returncode, self.out.read_text(), self.err.read_text())

    def send_signal(self, number: int) -> None:
        """Signal it, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once and with all that it started."""
        if self.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)
            self.wait(60)


# --- The server


def become(job: dict[str, Any]) -> None:
    """Be the process of a job."""
    os.setpgid(0, 0)
    os.environ.clear()
    os.environ.update(job["env"])
    os.chdir(job["cwd"])
    for number, place in enumerate((os.devnull, job["out"], job["err"])):
        handle = os.open(place, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(handle, number)
        os.close(handle)
    faulthandler.enable()  # else a crash says nothing
    signal.signal(signal.SIGINT, signal.default_int_handler)


def perform(argv: list[str]) -> None:
    """Do what ``python`` does with these arguments."""
    while argv[0] == "-W":
        warnings._setoption(argv[1])
        argv = argv[2:]
    if argv[0] == "-c":
        sys.argv, sys.path[0] = ["-c", *argv[2:]], ""
        sys.modules["__main__"] = main = types.ModuleType("__main__")
        exec(compile(argv[1], "<string>", "exec"), main.__dict__)
    elif argv[0] == "-m":
        sys.argv, sys.path[0] = argv[1:], os.getcwd()
        runpy.run_module(argv[1], run_name="__main__", alter_sys=True)
    else:
        assert not argv[0].startswith("-"), f"no option of python: {argv[0]}"
        sys.argv, sys.path[0] = argv, str(Path(argv[0]).resolve().parent)
        runpy.run_path(argv[0], run_name="__main__")


def leave(argv: list[str]) -> NoReturn:
    """Do it and end as ``python`` does, but for taking all that was imported apart, which takes half a second."""
    code: Any = 0
    try:
        perform(argv)
    except SystemExit as end:
        code = end.code
    except BaseException:
        code = 1
        sys.excepthook(*sys.exc_info())
    threading._shutdown()
    atexit._run_exitfuncs()
    if isinstance(code, str):
        print(code, file=sys.stderr)
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)


def ended(pid: int) -> int | None:
    """Exit code of a process, if it has ended."""
    found, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def serve() -> list[str]:
    """Do the jobs that come; in the process of a job, return its arguments."""
    for name in IMPORTED:
        importlib.import_module(name)
    assert not [name for name in FORBIDDEN if name in sys.modules]
    threads = {task.read_text().strip() for task in Path("/proc/self/task").glob("*/comm")}
    assert len(threads - {"jemalloc_bg_thd"}) == 1, threads  # which a forked process would lack; jemalloc makes its own
    gc.freeze()  # else each process looks at all that was imported, and copies it
    for line in sys.stdin:
        job = json.loads(line)
        if "pid" in job:
            answer = ended(job["pid"])
        elif not (answer := os.fork()):
            become(job)
            return job["argv"]
        else:
            with contextlib.suppress(PermissionError):
                os.setpgid(answer, answer)  # for whoever signals the group at once
        print(json.dumps(answer), flush=True)
    return ["-c", ""]


if __name__ == "__main__":
    leave(serve())
