"""Recipes and commands as real processes that import nothing anew: a server that has imported it all forks them.

Run as a script it is the server, which reads jobs from stdin; ``Forks`` starts it and talks to it. A process can be
told to signal itself, with SIGKILL for one, at a moment that a busy machine does not move: some file operations, or
some seconds of its own CPU time, after it has saved something.
"""

from __future__ import annotations

import atexit
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from sgnas_zoo.stopping import end_on_signals

ROOT = Path(__file__).parents[1]
RECIPES = ("train_supernet", "train_generator", "retrain", "finetune")
OPERATIONS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.scandir", "os.listdir")
PATIENCE = 120.0
"""Seconds within which what a dead process started has to end."""


class Moment(NamedTuple):
    """When a process signals itself, counted from its first look at what is saved.

    Args:
        operation: At this file operation, before it is done; 0 for none.
        cpu: After so many seconds of CPU time, whatever it is doing then; 0 for none.
        number: The signal.
        times: How often, without a pause.
        group: Also to its decoding workers, as Ctrl-C in a terminal; at a file operation only.
    """

    operation: int = 0
    cpu: float = 0.0
    number: int = signal.SIGKILL
    times: int = 1
    group: bool = False


class Ended(NamedTuple):
    """How a process ended: exit code, negative for a signal; its output; and operations and CPU seconds until then."""

    code: int
    out: str
    err: str
    counted: tuple[int, float] | None


class Forks:
    """Starts the server, in an environment that is offline and has its own cache; a context manager.

    Args:
        folder: For the cache and the output of the processes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        environment = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT),
                       "HF_DATASETS_CACHE": str(folder / "cache"), "ACCELERATE_USE_CPU": "true"}  # fmt: skip
        self._server = subprocess.Popen(
            [sys.executable, __file__], env={**os.environ, **environment}, text=True, stdin=-1, stdout=-1
        )

    def __enter__(self) -> Forks:
        return self

    def __exit__(self, *error: object) -> None:
        self._server.stdin.close()
        self._server.wait(2 * PATIENCE)
        self._server.stdout.close()

    def run(self, name: str, *arguments: object, saved: str = "", moment: Moment | None = None) -> Ended:
        """Run a recipe or a command to its end.

        Args:
            name: Of the recipe, or of the command.
            arguments: Its command line; ``--output`` is the folder that is watched.
            saved: Pattern of a file in it that is not empty once something is saved.
            moment: When to send the signal.
        """
        argv = [str(argument) for argument in arguments]
        files = {kind: str(self._folder / kind) for kind in ("out", "err", "counted")}
        for file in files.values():
            Path(file).unlink(missing_ok=True)
        watched = argv[argv.index("--output") + 1]
        code = self._ask({"name": name, "argv": argv, "watched": watched, "saved": saved, "moment": moment, **files})
        counted = Path(files["counted"])
        out, err = (Path(files[kind]).read_text() for kind in ("out", "err"))
        return Ended(code, out, err, tuple(json.loads(counted.read_text())) if counted.exists() else None)

    def left(self) -> list[str]:
        """Processes that outlive, by more than their patience, the one that started them; they are ended then."""
        return self._ask({})

    def _ask(self, job: dict[str, Any]) -> Any:
        self._server.stdin.write(json.dumps(job) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())


# --- The server


class Watch:
    """Counts file operations and CPU time from when something is saved, and signals its process at the moment."""

    def __init__(self, folder: str, saved: str, moment: Moment | None) -> None:
        self.folder, self.pattern, self.moment, self.process = folder, saved, moment, os.getpid()
        self.operations, self.since, self.looking = 0, 0.0, False

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if event not in OPERATIONS or self.looking or os.getpid() != self.process:
            return
        if event in ("open", "os.scandir", "os.listdir") and self.folder not in str(args[0]):
            return
        self.looking = True
        try:
            self.see()
        finally:
            self.looking = False

    def see(self) -> None:
        if not self.since and any(file.stat().st_size for file in Path(self.folder).glob(self.pattern)):
            self.since = time.process_time()
            if self.moment and self.moment.cpu:
                after_cpu_time(self.moment.cpu, self.moment.number)
        if self.since:
            self.operations += 1
            if self.moment and self.operations == self.moment.operation:
                for _ in range(self.moment.times):
                    self.send(self.moment.number)

    def send(self, number: int) -> None:
        """Signal the process, or from a process of its own the whole group: workers look who sends it."""
        if not self.moment.group:
            os.kill(self.process, number)
        elif not (sender := os.fork()):
            os.setpgid(0, 0)
            os.killpg(self.process, number)
            os._exit(0)
        else:
            os.waitpid(sender, 0)

    def write(self, path: str) -> None:
        if os.getpid() == self.process:
            self.looking = True
            Path(path).write_text(json.dumps([self.operations, time.process_time() - self.since]))


class SignalEvent(ctypes.Structure):
    """``struct sigevent``, here to say which signal a timer sends."""

    _fields_ = (("value", ctypes.c_void_p), ("number", ctypes.c_int), ("rest", ctypes.c_int * 13))


def after_cpu_time(seconds: float, number: int) -> None:
    """Have the kernel signal this process; unlike ``setitimer`` it can send SIGKILL."""
    libc, timer = ctypes.CDLL(None), ctypes.c_void_p()
    event = SignalEvent(number=number)
    assert libc.timer_create(time.CLOCK_PROCESS_CPUTIME_ID, ctypes.byref(event), ctypes.byref(timer)) == 0
    value = (ctypes.c_long * 4)(0, 0, int(seconds), int(seconds % 1 * 1e9) + 1)
    assert libc.timer_settime(timer, 0, value, None) == 0


def commands() -> dict[str, Any]:
    """Everything that can be run, imported, with all that it imports when it runs."""
    sys.path.insert(0, str(ROOT / "recipes"))
    import importlib

    import sgnas_zoo.cli.main

    for name in ("sgnas_zoo.training.searching.report", "sgnas_zoo.training.searching.search", "pymoo.core.problem",
                 "torch._dynamo", "matplotlib.pyplot", "sgnas_zoo.training.searching.candidates"):  # fmt: skip
        importlib.import_module(name)
    found = {name: importlib.import_module(name).main for name in RECIPES}
    return {**found, "search": sgnas_zoo.cli.main.main, "compare": sgnas_zoo.cli.main.main}


def become(job: dict[str, Any]) -> list[str]:
    """Be the process of a job: a group of its own, its own output, signals as a shell leaves them."""
    os.setpgid(0, 0)
    for number, place in enumerate((os.devnull, job["out"], job["err"])):
        handle = os.open(place, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(handle, number)
        os.close(handle)
    moment = Moment(*job["moment"]) if job["moment"] else None
    watch = Watch(job["watched"], job["saved"], moment)
    atexit.register(watch.write, job["counted"])
    if job["saved"]:
        sys.addaudithook(watch)
    end_on_signals()  # as the programs do, before their imports
    return [*([] if job["name"] in RECIPES else [job["name"]]), *job["argv"]]


def reap(patience: float) -> list[str]:
    """Wait for all that is left of dead processes, which the server inherits; kill and name what does not end."""
    deadline, left = time.monotonic() + patience, []
    with suppress(ChildProcessError):
        while True:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | (0 if left else os.WNOHANG))
            if found is None and time.monotonic() > deadline:
                for pid in Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split():
                    left.append(Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ") + pid)
                    os.kill(int(pid), signal.SIGKILL)
            elif found is None:
                time.sleep(0.01)
    return left


def serve() -> None:
    """Run the jobs that come, one after the other; in the process of a job, return to run it as any script."""
    known = commands()
    assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0  # PR_SET_CHILD_SUBREAPER: orphans become children of this one
    threads = {task.read_text().strip() for task in Path("/proc/self/task").glob("*/comm")}
    assert len(threads - {"jemalloc_bg_thd"}) == 1, threads  # which a forked process would lack; jemalloc makes its own
    for line in sys.stdin:
        job = json.loads(line)
        if not job:
            answer: Any = reap(PATIENCE)
        elif pid := os.fork():
            answer = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        else:
            known[job["name"]](become(job), prog_name=job["name"])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve()
