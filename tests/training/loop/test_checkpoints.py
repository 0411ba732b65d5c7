"""Checkpoints under kill -9, SIGTERM, a full disk and damage; options from YAML.

Runs are real processes. To import torch once, ``TOY`` forks one process per rank for each job it reads from stdin.
"""

import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
import torch
import warm
import yaml
from accelerate import Accelerator
from click.testing import CliRunner
from places import ROOT
from torch import nn

from sgnas_zoo.errors import ArtifactError, CheckpointError, SpaceError
from sgnas_zoo.stopping import Stopped
from sgnas_zoo.training.fields import option
from sgnas_zoo.training.loop.checkpoints import MANIFEST, Checkpoints
from sgnas_zoo.training.options import RecipeCommand, resolved, save_settings

STEPS = 12
TOY = '''
import hashlib, json, os, resource, signal, sys, time
from pathlib import Path
import torch
import torch._dynamo  # what the first optimizer would import
from accelerate import Accelerator
from torch import nn
from sgnas_zoo.errors import ArtifactError, CheckpointError
from sgnas_zoo.training.loop.checkpoints import Checkpoints


class Trace:
    def __init__(self):
        self.losses = []

    def state_dict(self):
        return {"losses": self.losses}

    def load_state_dict(self, state):
        self.losses = state["losses"]


def die_at_event(number, folder):
    """kill -9 at the given one of the file operations on checkpoints."""
    seen = 0

    def hook(event, args):
        nonlocal seen
        if event in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.scandir") and folder in str(args[0]):
            seen += 1
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def train(job):
    accelerator = Accelerator(cpu=True)
    rank = accelerator.process_index
    torch.manual_seed(job["seed"])
    net = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 2))
    average = nn.Linear(8, 16)
    model, optimizer = accelerator.prepare(net, torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9))
    average = accelerator.prepare_model(average, evaluation_mode=True)
    trace = Trace()
    accelerator.register_for_checkpointing(trace)
    folder = Path(job["folder"])
    checkpoints = Checkpoints(accelerator, folder, {"seed": job["seed"]}, every_minutes=job.get("every_minutes", 0))
    with checkpoints:
        progress = checkpoints.resume(job.get("resume", "auto")) or {"step": 0}
        accelerator.wait_for_everyone()
        start = progress["step"]
        if "event" in job:
            die_at_event(job["event"], str(folder))
        for step in range(start + 1, job["steps"] + 1):
            random = torch.Generator().manual_seed(1000 * job["seed"] + 10 * step + rank)
            loss = (model(torch.randn(4, 8, generator=random)) - 1).square().mean()
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            with torch.no_grad():
                average.weight.lerp_(net[0].weight, 0.1)
            trace.losses.append(loss.item())
            here = rank == job.get("only_rank", rank)
            if step == job.get("kill") and here:
                os.kill(os.getpid(), signal.SIGKILL)
            if step == job.get("terminate") and here:
                signal.raise_signal(signal.SIGTERM)  # to this thread, which has it before it goes on
            if step == job.get("fill_disk") and here:
                resource.setrlimit(resource.RLIMIT_FSIZE, (job["bytes"], resource.RLIM_INFINITY))
            if checkpoints.due():
                try:
                    saved = checkpoints.save({"step": step})
                except CheckpointError as error:
                    print(f"{rank}: {error}", file=sys.stderr, flush=True)
                    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
                if checkpoints.stopping:
                    checkpoints.stopped(saved)
                    return {"start": start, "step": step}
            if job.get("slow"):
                accelerator.wait_for_everyone()
                signal.sigtimedwait([], 0.05)
    digest = hashlib.sha256()
    for tensors in (net.state_dict(), average.state_dict(), *optimizer.state_dict()["state"].values()):
        for name in sorted(tensors):
            digest.update(tensors[name].numpy().tobytes())
    return {"start": start, "step": step, "digest": digest.hexdigest(), "losses": len(trace.losses)}


def run(job, rank):
    result = train(job)
    Path(f"{job['result']}.{rank}").write_text(json.dumps(result))
    torch.distributed.is_initialized() and torch.distributed.destroy_process_group()


def fork(job, rank):
    if pid := os.fork():
        return pid
    code = 1
    signal.alarm(300)
    try:
        handle = os.open(job["errors"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(handle, 2)
        if job["ranks"] > 1:
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(job["ranks"]),
                           "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(job["port"])}
        run(job, rank)
        code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)


if len(sys.argv) > 1:
    run(json.loads(sys.argv[1]), int(os.environ["RANK"]))
else:
    for line in sys.stdin:
        job = json.loads(line)
        pids = [fork(job, rank) for rank in range(job["ranks"])]
        print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]), flush=True)
'''


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """Path of the toy recipe, and its environment."""
    path = tmp_path_factory.mktemp("toy") / "toy.py"
    path.write_text(TOY)
    return path, {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "true"}


@pytest.fixture(scope="module")
def train(toy, tmp_path_factory):
    """Run the toy recipe; give exit codes, results and stderr, one rank or a list for several."""
    path, env = toy
    results = tmp_path_factory.mktemp("results")
    with subprocess.Popen([sys.executable, path], env=env, text=True, stdin=-1, stdout=-1) as server:

        def run(folder, ranks=1, **job):
            with socket.create_server(("127.0.0.1", 0)) as free:
                port = free.getsockname()[1]
            for old in results.iterdir():
                old.unlink()
            errors = results / "errors"
            job = {"steps": STEPS, "seed": 1, **job, "folder": str(folder), "ranks": ranks, "port": port}
            job |= {"result": str(results / "result"), "errors": str(errors)}
            server.stdin.write(json.dumps(job) + "\n")
            server.stdin.flush()
            codes = json.loads(server.stdout.readline())
            texts = [results / f"result.{rank}" for rank in range(ranks)]
            found = [json.loads(text.read_text()) if text.exists() else None for text in texts]
            return (codes, found, errors.read_text()) if ranks > 1 else (codes[0], found[0], errors.read_text())

        yield run
        server.stdin.close()


@pytest.fixture(scope="module")
def whole(train, tmp_path_factory):
    """Result of a run that nothing disturbs, and its folder."""
    folder = tmp_path_factory.mktemp("whole")
    code, result, errors = train(folder)
    assert (code, errors) == (0, "")
    assert result["losses"] == STEPS
    return result, folder


def steps(folder):
    return sorted(path.name for path in folder.iterdir())


def copy_of(whole, tmp_path):
    return Path(shutil.copytree(whole[1], tmp_path / "run"))


# --- Processes that die


def test_only_the_newest_are_kept(whole):
    assert steps(whole[1]) == ["step-00000011", "step-00000012"]


def test_kill_at_random_steps_changes_nothing(train, whole, tmp_path):
    for kill in sorted(random.Random(5).sample(range(2, STEPS), 3)):
        code, _, _ = train(tmp_path, kill=kill)
        assert code == -9
        assert steps(tmp_path)[-1] == f"step-{kill - 1:08d}"
    code, result, errors = train(tmp_path)
    assert (code, errors) == (0, "")
    assert result["start"] == kill - 1
    assert result["digest"] == whole[0]["digest"]
    assert result["losses"] == STEPS


def test_another_seed_ends_elsewhere(train, whole, tmp_path):
    """Control: the digest sees what the run did."""
    assert train(tmp_path, seed=2)[1]["digest"] != whole[0]["digest"]


def test_kill_at_any_file_operation_changes_nothing(train, whole, tmp_path):
    draw = random.Random(7)
    newest, codes = 0, []
    for _ in range(12):
        code, result, errors = train(tmp_path, event=draw.randint(1, 60))
        codes.append(code)
        assert "Error" not in errors
        assert "Damaged" not in errors
        found = [int(name[-8:]) for name in steps(tmp_path) if name.startswith("step-")]
        assert max(found, default=0) >= newest
        newest = max(found, default=0)
    assert codes.count(-9) >= 8
    code, result, errors = train(tmp_path, steps=STEPS + 1)
    assert (code, errors) == (0, "")
    straight = train(tmp_path / "straight", steps=STEPS + 1)[1]
    assert result["digest"] == straight["digest"] != whole[0]["digest"]
    assert steps(tmp_path) == ["step-00000012", "step-00000013", "straight"]


def test_sigterm_saves_and_ends_well(train, whole, tmp_path):
    code, result, errors = train(tmp_path, terminate=5, every_minutes=60)
    assert code == 0
    assert result == {"start": 0, "step": 5}
    assert errors == f"Stopped by SIGTERM at step 5; saved {tmp_path}/step-00000005; go on with --resume auto.\n"
    assert train(tmp_path)[1]["digest"] == whole[0]["digest"]


@pytest.mark.parametrize(("size", "reason"), [(600, "File too large"), (2600, "the disk takes no more")])
def test_full_disk_keeps_the_last_good_one(train, whole, tmp_path, size, reason):
    """The smaller limit stops safetensors, the larger one torch.save."""
    code, _, errors = train(tmp_path, fill_disk=4, bytes=size, kill=5)
    assert code == -9
    assert errors.startswith(f"0: Cannot save {tmp_path}/step-00000004: {reason}; ")
    assert errors.endswith("the earlier ones stay; make it writable or free space, then go on with --resume auto.\n")
    assert errors.count("\n") == 1
    assert steps(tmp_path) == ["step-00000002", "step-00000003"]
    assert train(tmp_path)[1]["digest"] == whole[0]["digest"]


# --- Two ranks


def test_two_ranks_stop_fail_and_resume_together(train, tmp_path):
    straight = train(tmp_path / "straight", ranks=2)[1]
    job = {"ranks": 2, "only_rank": 1, "fill_disk": 2, "bytes": 600, "terminate": 6}
    codes, results, errors = train(tmp_path / "run", **job)
    assert codes == [0, 0]
    assert results == [{"start": 0, "step": 6}] * 2
    assert sorted(line.partition(" at ")[0][:24] for line in errors.splitlines()) == [
        "0: Cannot save " + str(tmp_path)[:9],
        "1: Cannot save " + str(tmp_path)[:9],
        "Stopped by SIGTERM",
    ]
    assert steps(tmp_path / "run") == ["step-00000005", "step-00000006"]
    codes, results, errors = train(tmp_path / "run", ranks=2)
    assert (codes, errors) == ([0, 0], "")
    assert [result["start"] for result in results] == [6, 6]
    assert [result["digest"] for result in results] == [result["digest"] for result in straight]
    code, _, errors = train(tmp_path / "run")
    assert code == 1
    assert "processes: 2 there, 1 here" in errors


@pytest.mark.slow
def test_torchrun_passes_sigterm_on(toy, tmp_path):
    path, env = toy
    job = {"steps": 400, "seed": 1, "slow": True, "folder": str(tmp_path / "run"), "result": str(tmp_path / "result")}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", path]
    with subprocess.Popen([*command, json.dumps(job)], env=env, text=True, stderr=subprocess.PIPE) as launched:
        while not (tmp_path / "run" / "step-00000003").is_dir():
            assert launched.poll() is None
            time.sleep(0.05)
        launched.terminate()
        errors = launched.communicate(timeout=300)[1]
    assert "Stopped by SIGTERM at step" in errors
    results = [json.loads((tmp_path / f"result.{rank}").read_text()) for rank in (0, 1)]
    assert results[0] == results[1]
    job["steps"] = results[0]["step"] + 2
    subprocess.run([*command, json.dumps(job)], env=env, check=True, timeout=300)
    resumed = [json.loads((tmp_path / f"result.{rank}").read_text()) for rank in (0, 1)]
    assert [result["start"] for result in resumed] == [results[0]["step"]] * 2
    assert [result["step"] for result in resumed] == [job["steps"]] * 2


# --- Damage and refusals, in this process


class Note:
    """A registered object."""

    def __init__(self):
        self.value = 0

    def state_dict(self):
        return {"value": self.value}

    def load_state_dict(self, state):
        self.value = state["value"]


def small(folder, settings=None, **options):
    """Checkpoints of a tiny model, and the model."""
    accelerator = Accelerator(cpu=True)
    model = accelerator.prepare_model(nn.Linear(2, 2))
    note = Note()
    accelerator.register_for_checkpointing(note)
    return Checkpoints(accelerator, folder, settings or {"lr": 0.1, "space": "a"}, **options), model, note


@pytest.fixture
def saved(tmp_path):
    """A folder with steps 1 and 2, the bias holding the step."""
    checkpoints, model, note = small(tmp_path / "run")
    assert checkpoints.resume("auto") is None
    for step in (1, 2):
        nn.init.constant_(model.bias, step)
        note.value = step
        checkpoints.save({"step": step, "epoch": 0, "history": [{"loss": 0.5}]})
    return tmp_path / "run"


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "shorter": (lambda path: truncate(path / "model.safetensors"), "model.safetensors is not as long as it was"),
    "flipped": (lambda path: flip(path / "model.safetensors"), "model.safetensors is not what was saved"),
    "missing": (lambda path: (path / "random_states_0.pkl").unlink(), "random_states_0.pkl is missing"),
    "foreign": (lambda path: (path / "pytorch_model.bin").touch(), "pytorch_model.bin was not saved with it"),
    "no manifest": (lambda path: (path / MANIFEST).unlink(), f"{MANIFEST} is missing"),
    "half a manifest": (lambda path: truncate(path / MANIFEST) or flip(path / MANIFEST), f"{MANIFEST} is unreadable"),
    "other manifest": (lambda path: (path / MANIFEST).write_text("[]"), f"{MANIFEST} is unreadable"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_damaged_newest_falls_back(saved, kind):
    damage, reason = DAMAGES[kind]
    damage(saved / "step-00000002")
    checkpoints, model, note = small(saved)
    with pytest.warns(UserWarning, match=r"falling back to .*step-00000001") as caught:
        progress = checkpoints.resume("auto")
    assert f"step-00000002: {reason};" in str(caught[0].message)
    assert progress == {"step": 1, "epoch": 0, "history": [{"loss": 0.5}]}
    assert (model.bias[0].item(), note.value) == (1, 1)
    with pytest.raises(CheckpointError, match="step-00000002: "):
        checkpoints.resume(str(saved / "step-00000002"))
    checkpoints.save({"step": 3})  # and the damaged one is not taken for one of the two to keep
    assert steps(saved) == ["step-00000001", "step-00000003"]


def test_all_damaged(saved):
    for path in saved.iterdir():
        flip(path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"No whole checkpoint: .*2: .*1: .* with another --output.$"):
        small(saved)[0].resume("auto")


def test_differing_settings_are_named_before_anything_is_loaded(saved):
    checkpoints, model, _ = small(saved, {"lr": 0.2, "space": "a", "epochs": (1, 2)})
    before = model.bias.clone()
    message = r"other settings \(lr: 0.1 there, 0.2 here; epochs: absent there, \[1, 2\] here\); repeat those"
    with pytest.raises(CheckpointError, match=message):
        checkpoints.resume("auto")
    assert torch.equal(model.bias, before)


def test_an_option_that_is_newer_than_the_run_and_not_given_does_not_end_it(saved):
    assert small(saved, {"lr": 0.1, "space": "a", "image_column": None})[0].resume("auto")


def test_other_format_is_refused_not_skipped(saved):
    path = saved / "step-00000002" / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 2}))
    with pytest.raises(CheckpointError, match="has format 2, not 1; resume with the sgnas_zoo that saved it"):
        small(saved)[0].resume("auto")


def test_never_and_foreign_paths_do_not_mix_runs(saved, tmp_path):
    checkpoints = small(saved)[0]
    with pytest.raises(CheckpointError, match="already holds checkpoints; use --resume auto or another --output"):
        checkpoints.resume("never")
    with pytest.raises(CheckpointError, match="already holds checkpoints"):
        checkpoints.resume(str(tmp_path / "elsewhere"))
    with pytest.raises(CheckpointError, match=r"No checkpoint .*step-00000009; name a step"):
        checkpoints.resume(str(saved / "step-00000009"))
    assert small(tmp_path / "new")[0].resume("never") is None
    assert small(tmp_path / "new")[0].resume(str(saved / "step-00000001"))["step"] == 1


def test_going_on_from_an_older_one_drops_the_later(saved):
    checkpoints, model, _ = small(saved)
    for step in (3, 4):
        checkpoints.save({"step": step})
    assert checkpoints.resume(str(saved / "step-00000003"))["step"] == 3
    nn.init.constant_(model.bias, 7)
    checkpoints.save({"step": 3})
    assert steps(saved) == ["step-00000003"]
    assert small(saved)[0].resume("auto") == {"step": 3}


def test_leftovers_are_cleared_and_replaced_ones_put_back(saved):
    (saved / ".step-00000003.partial").mkdir()
    (saved / "step-00000002").rename(saved / ".step-00000002.replaced")
    assert small(saved)[0].resume("auto")["step"] == 2
    assert steps(saved) == ["step-00000001", "step-00000002"]


def test_unwritable_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=r"Cannot save .*: Not a directory; the earlier ones stay"):
        small(tmp_path / "file")[0].save({"step": 1})


@pytest.mark.parametrize("progress", [{}, {"step": -1}, {"step": True}, {"step": 1, "model": object()}, {"step": {1}}])
def test_progress_must_be_plain(tmp_path, progress):
    with pytest.raises(CheckpointError, match=r"step|plain JSON"):
        small(tmp_path / "run")[0].save(progress)
    assert not (tmp_path / "run").exists()


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_nothing_in_a_checkpoint_runs(saved, tmp_path):
    path = saved / "step-00000002"
    torch.save(Bomb(str(tmp_path / "ran")), path / "custom_checkpoint_0.pkl")
    content = json.loads((path / MANIFEST).read_text())
    data = (path / "custom_checkpoint_0.pkl").read_bytes()
    content["files"]["custom_checkpoint_0.pkl"] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (path / MANIFEST).write_text(json.dumps(content))
    checkpoints = small(saved)[0]
    with pytest.raises(CheckpointError, match=r"custom_checkpoint_0.pkl holds more than tensors and plain values; "):
        checkpoints.resume("auto")
    assert not (tmp_path / "ran").exists()
    with pytest.raises(TypeError):  # control: accelerate alone would run it
        checkpoints._accelerator.load_state(str(path))
    assert (tmp_path / "ran").exists()


def test_state_that_could_not_be_read_back_is_not_saved(tmp_path):
    checkpoints, _, note = small(tmp_path)
    note.value = Path("x")
    with pytest.raises(CheckpointError, match=r"custom_checkpoint_0.pkl holds more than tensors"):
        checkpoints.save({"step": 1})
    assert steps(tmp_path) == []


def test_due_after_the_time_is_up(tmp_path, monkeypatch):
    now = 1000.0
    monkeypatch.setattr("sgnas_zoo.training.loop.checkpoints.time.monotonic", lambda: now)
    assert small(tmp_path, every_minutes=0)[0].due()
    checkpoints = small(tmp_path, every_minutes=2)[0]
    now += 119
    assert not checkpoints.due()
    now += 1
    assert checkpoints.due()
    checkpoints.save({"step": 1})
    assert not checkpoints.due()
    assert not checkpoints.stopping


@pytest.mark.parametrize("answered", [True, False])
def test_a_sigterm_that_no_save_answers_is_handled_as_before(tmp_path, answered):
    before, seen = signal.getsignal(signal.SIGTERM), []
    signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:
        with small(tmp_path)[0] as checkpoints:
            signal.raise_signal(signal.SIGTERM)
            assert not answered or checkpoints.due()
        assert seen == ([] if answered else [signal.SIGTERM])
        signal.raise_signal(signal.SIGTERM)
        assert seen[-1] == signal.SIGTERM
    finally:
        signal.signal(signal.SIGTERM, before)


def test_what_a_kill_right_after_saving_left_too_many_goes_at_resuming(saved):
    shutil.copytree(saved / "step-00000001", saved / "step-00000000")
    checkpoints, *_ = small(saved)
    assert checkpoints.resume("auto")["step"] == 2
    assert steps(saved) == ["step-00000001", "step-00000002"]


@pytest.mark.parametrize("state", ["new", "replaced"])
def test_a_signal_in_the_middle_of_saving_leaves_what_was_there(saved, monkeypatch, state):
    checkpoints, *_ = small(saved)
    step = 3 if state == "new" else 2
    rename = Path.rename

    def interrupted(path, target):
        if path.name == f".step-0000000{step}.partial":
            raise Stopped(signal.SIGINT)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(Stopped):
        checkpoints.save({"step": step})
    assert steps(saved) == ["step-00000001", "step-00000002"]


# --- Options


@dataclass(frozen=True, kw_only=True)
class Toy:
    """What the toy recipe is told."""

    space: str = option("Search space.", "large")
    lr: float = option("Learning rate.", 0.1)
    epochs: int = option("Epochs.", 5, click.IntRange(min=1))
    sizes: tuple[int, ...] = option("Sizes; repeat it.", ())
    output: Path = option("Folder.")
    ema: bool = option("An average.", False)
    fail: bool = option("Fail.", False)


@pytest.fixture
def recipe(tmp_path):
    """Run a recipe with the given arguments; give its settings, or the one line on stderr."""
    configs = tmp_path / "configs"
    configs.mkdir()
    (configs / "small.yaml").write_text("toy: {lr: 1e-2, epochs: 7, sizes: [3, 4]}\nother: [1]\n")
    (configs / "greedynas.yaml").write_text("toy: {epochs: 9}\n")

    def callback(**options):
        if options["fail"]:
            raise SpaceError("No such space; choose another.")
        click.echo(json.dumps(resolved(click.get_current_context())))

    command = RecipeCommand("toy", callback=callback, config=Toy, configs=configs)

    def run(*args, config=None):
        if config is not None:
            (tmp_path / "my.yaml").write_text(config)
            args = (*args, "--config", str(tmp_path / "my.yaml"))
        result = CliRunner().invoke(command, args)
        if result.exit_code:
            assert isinstance(result.exception, SystemExit)
            assert result.exit_code == 2
            assert result.stderr.count("\n") == 1
            return result.stderr.replace(f"{tmp_path}/", "")
        return result.stdout if "--help" in args else json.loads(result.stdout)

    return run


def test_command_line_beats_config_beats_space_beats_default(recipe):
    plain = {"space": "large", "lr": 0.1, "epochs": 5, "sizes": [], "output": "o", "ema": False, "fail": False}
    assert recipe("--output", "o") == plain
    small_space = {**plain, "space": "small", "lr": 0.01, "epochs": 7, "sizes": [3, 4]}
    assert recipe("--output", "o", "--space", "small") == small_space
    config = "toy:\n  space: small\n  epochs: 8\n  ema: true\n  output: p\n  lr:\n"
    expected = {**small_space, "epochs": 8, "ema": True, "output": "p", "lr": 0.1}
    assert recipe(config=config) == expected
    assert recipe("--epochs", "9", "--no-ema", config=config) == {**expected, "epochs": 9, "ema": False}
    assert list(recipe("--lr", "1", "--output", "o")) == list(plain)


def test_a_space_without_settings_of_its_own_takes_those_of_its_family(recipe):
    assert [recipe("--output", "o", "--space", name)["epochs"] for name in ("greedynas_se", "spos")] == [9, 5]


def test_all_mistakes_at_once(recipe):
    config = "toy: {epoch: 3, epochs: 2.5, sizes: 3, lr: [1], ema: {}}"
    assert recipe("--space", "small", "--ouptut", "x", "--lr=fast", config=config) == (
        "Error: unknown option --ouptut, did you mean --output?; my.yaml: unknown key epoch, did you mean epochs?; "
        "my.yaml: sizes takes a list; my.yaml: lr takes one value; my.yaml: ema takes one value; "
        "Invalid value for '--lr': 'fast' is not a valid float; "
        "Invalid value for '--epochs': '2.5' is not a valid integer range (in my.yaml); Missing option '--output'.\n"
    )


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("- 1", "my.yaml does not hold a mapping, write `toy:` and below it `option: value`"),
        ("toy: [1]", "my.yaml: toy is not a mapping, write `option: value` below it"),
        ("toys: {lr: 1}", "my.yaml has no section toy, it has toys"),
        ("toy: {lr: 1", "my.yaml is not valid YAML, see line 1"),
        ("toy: !!python/object/apply:os.getcwd []", "my.yaml is not valid YAML, see line 1"),
    ],
)
def test_bad_config(recipe, config, message):
    assert recipe("--output", "o", config=config) == f"Error: {message}.\n"


def test_missing_config_and_library_errors_are_one_line(recipe, tmp_path):
    line = recipe("--output", "o", "--epochs", "0", "--config", f"{tmp_path}/none.yaml")
    assert line.startswith(
        "Error: none.yaml: No such file or directory, name a YAML file; Invalid value for '--epochs'"
    )
    assert recipe("--output", "o", "--fail") == "Error: No such space; choose another.\n"


def test_help_needs_nothing(recipe):
    assert "--config PATH" in recipe("--help", "--lr", "x")


def test_saved_settings_are_a_config(recipe, tmp_path):
    settings = recipe("--space", "small", "--output", "o", "--ema")
    path = save_settings(tmp_path / "out", settings, "toy")
    assert steps(tmp_path / "out") == ["settings.yaml"]
    assert recipe(config=path.read_text()) == settings
    save_settings(tmp_path / "out", settings)
    assert yaml.safe_load(path.read_text()) == settings
    with pytest.raises(ArtifactError, match=r"Cannot write .*; free space or choose another place"):
        save_settings(path, settings)


# --- Decoding workers


WORKERS = """
import sys, tempfile
from pathlib import Path
import torch
from accelerate import Accelerator
from sgnas_zoo.training.loop.checkpoints import Checkpoints
from sgnas_zoo.training.data.loaders import make_loader


class Images(torch.utils.data.Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        if sys.argv[2:] == ["fail"]:
            raise ValueError("an image at fault")
        return torch.zeros(1), 0


with Checkpoints(Accelerator(cpu=True), Path(tempfile.mkdtemp()), {}) as checkpoints:
    loader = make_loader(Images(), 2, shuffle=False, workers=2)
    print("ready", flush=True)
    for epoch in range(int(sys.argv[1])):
        for batch in loader:
            pass
    print(checkpoints.due() and checkpoints.stopping, flush=True)
"""
DIES_AT_A_FORK = """
import os, time


def wait_for_the_end():
    while os.getppid() == training:
        time.sleep(0.01)


training = os.getpid()
os.register_at_fork(after_in_parent=lambda: os.kill(training, 9), after_in_child=wait_for_the_end)
"""


def test_signals_to_the_whole_group_end_no_decoding_worker():
    """Whenever it comes: also while a worker starts."""
    training = warm.start("-c", WORKERS, "15")
    while not training.out.read_text():
        assert training.poll() is None, training.err.read_text()
    while training.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(training.pid, signal.SIGTERM)
        time.sleep(0.003)
    assert training.out.read_text() == "ready\nTrue\n", training.err.read_text()
    assert training.returncode in (0, -signal.SIGTERM)  # the last ones come after the training


def test_a_training_that_fails_ends_its_workers():
    done = warm.run("-c", WORKERS, "1", "fail")
    assert done.returncode == 1
    assert "ValueError: an image at fault" in done.stderr


def test_a_training_that_is_killed_while_a_worker_starts_leaves_none():
    """Torch's worker looks whether its parent changes, so it has to have seen it; the last one closes the pipe."""
    command = [sys.executable, "-c", DIES_AT_A_FORK + WORKERS, "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as training:
        assert training.wait(300) == -signal.SIGKILL
        said, _ = training.communicate(timeout=300)
    assert said == "ready\n"
