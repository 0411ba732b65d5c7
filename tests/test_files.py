"""What a user named is written whole or not at all, by one at a time, and never over what others wrote."""

import ast
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
import warm
from click.testing import CliRunner
from places import ROOT
from written import CARD, tree, write

from sgnas_zoo import files, folders, locks
from sgnas_zoo.cli.main import main
from sgnas_zoo.errors import ArtifactError

SCRIPT = Path(__file__).parent / "written.py"


def python(*arguments, **options):
    return subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, timeout=300, **options
    )


def left(*places):
    return [name for place in places for name in os.listdir(place) if name.startswith(".")]


@pytest.fixture
def artifact(tmp_path):
    write(tmp_path / "net", "old", False)
    return tmp_path / "net"


# --- folders


def places(tmp_path, monkeypatch, where, target):
    """Name a folder as a user may, and say what it is."""
    target.mkdir(exist_ok=True)
    (target / "below").mkdir() if where == ".." else None
    monkeypatch.chdir(target / "below" if where == ".." else target if where == "." else tmp_path)
    if where == "link":
        (tmp_path / "link").symlink_to(target)
        return tmp_path / "link"
    return {"~": "~/" + target.name, "a/../b": f"nothing/../{target.name}", "x/": f"{target}/"}.get(where, where)


@pytest.mark.parametrize("where", [".", "link", "~", "a/../b", "x/"])
@pytest.mark.parametrize("force", [False, True])
def test_a_folder_is_written_wherever_its_name_leads(tmp_path, monkeypatch, where, force):
    monkeypatch.setenv("HOME", str(tmp_path))
    target = tmp_path / "target"
    if force:
        write(target, "old", False)
    place, inode = places(tmp_path, monkeypatch, where, target), target.stat().st_ino
    write(place, "new", force)
    assert sorted(os.listdir(target)) == ["README.md", "config.json", "model.safetensors"]
    assert (target / "model.safetensors").read_text() == "new"
    assert (target.stat().st_ino == inode) == (where == "." or not force)  # a shell that is there stays there
    assert not left(tmp_path)
    if where == "link":
        assert place.is_symlink()


@pytest.mark.parametrize("where", [".", "..", "link", "~", "x/"])
@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("foreign", ["thesis.txt", "README.md", "config.json", "folder", "link", ".eval_results"])
def test_what_others_put_there_is_named_and_stays(tmp_path, monkeypatch, where, force, foreign):
    monkeypatch.setenv("HOME", str(tmp_path))
    target = tmp_path / "target"
    if foreign not in ("config.json", "README.md"):
        write(target, "new", False)
    target.mkdir(exist_ok=True)
    if foreign == "link":
        (target / "link").symlink_to(SCRIPT)
    elif foreign in ("folder", ".eval_results"):
        (target / foreign / "notes").mkdir(parents=True)
    else:
        (target / foreign).write_text("mine")
    place = places(tmp_path, monkeypatch, where, target)
    before = tree(target)
    with pytest.raises(ArtifactError, match=foreign):
        write(place, "newer", force)
    assert tree(target) == before
    assert not left(tmp_path)


def test_a_readme_of_the_users_is_no_card(artifact):
    (artifact / "README.md").write_text("# Mine, about\n- sgnas-zoo\n")
    with pytest.raises(ArtifactError, match=r"README\.md would be lost"):
        write(artifact, "new", True)
    with pytest.raises(ArtifactError, match=r"README\.md would be lost"), folders.among_others(artifact) as staging:
        (staging / "README.md").write_text(CARD)
    assert (artifact / "README.md").read_text().startswith("# Mine")
    (artifact / "README.md").write_text(CARD)
    write(artifact, "new", True)


@pytest.mark.parametrize("picture", ["architecture.svg", "architecture.png"])
def test_the_picture_of_a_model_is_replaced_as_it_was_once_too(artifact, picture):
    (artifact / picture).write_bytes(b"drawn before")
    write(artifact, "new", True)
    assert not (artifact / picture).exists()
    (artifact / "config.json").write_text('{"artifact": "supernet"}')
    (artifact / picture).write_bytes(b"mine")  # no supernet has one
    with pytest.raises(ArtifactError, match=rf"{picture} would be lost"):
        write(artifact, "newer", True)
    assert (artifact / picture).read_bytes() == b"mine"


@pytest.mark.parametrize(
    "name", ["", "a\0b", "broken", "loop", "~nobody-of-this-name/x", "file/below", "x" * 300, "pipe"]
)
def test_names_that_lead_nowhere_are_refused_in_one_line(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    Path("broken").symlink_to("nothing")
    Path("loop").symlink_to("loop")
    Path("file").write_text("mine")
    os.mkfifo("pipe")
    before = sorted(os.listdir())
    for make in (folders.new_folder, lambda name: files.new_file(name, force=True)):
        with pytest.raises(ArtifactError) as caught, make(name) as staging:
            (staging / "x").write_text("x") if staging.is_dir() else staging.write_text("x")
        assert "\n" not in str(caught.value)
        assert str(caught.value).endswith(".")
    assert sorted(os.listdir()) == before


@pytest.mark.parametrize("how", ["kill", "fail"])
@pytest.mark.parametrize("force", ["force", "new"])
@pytest.mark.parametrize("where", ["swap", "inside"])
def test_dying_or_failing_at_any_call_leaves_the_old_or_the_new(tmp_path, how, force, where):
    done = python(SCRIPT, how, tmp_path / "net", force, where)
    assert done.returncode == 0, done.stdout + done.stderr
    answers = done.stdout.split()
    if how == "kill":
        assert answers == sorted(answers, reverse=True)  # old, old, ... new: never back
    assert answers.count("old") > 10
    assert answers.count("new") > 2


def test_a_mount_point_is_written_in_place(tmp_path):
    code = (
        "import sys; from pathlib import Path; from written import write; from sgnas_zoo import folders\n"
        "at = Path(sys.argv[1])\n"
        "write(at, 'old', False); write(at, 'new', True); (at / 'notes').write_text('mine')\n"
        "try: write(at, 'newer', True)\n"
        "except Exception as error: print(error)\n"
        "print(sorted(p.name for p in at.iterdir()), (at / 'model.safetensors').read_text())\n"
        "print(sorted(p.name for p in at.parent.iterdir()))"
    )
    (tmp_path / "at").mkdir()
    (tmp_path / "real").mkdir()
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{SCRIPT.parent}"}
    for mount in ("-t tmpfs none", f"--bind {tmp_path}/real"):
        for namespace in ("-m", "-rm"):
            if subprocess.run(
                ["unshare", namespace, "sh", "-c", "mount -t tmpfs none /mnt"], capture_output=True
            ).returncode:
                continue
            shell = f'mount {mount} {tmp_path}/at && exec {sys.executable} -c "$CODE" {tmp_path}/at'
            done = subprocess.run(
                ["unshare", namespace, "sh", "-c", shell], capture_output=True, text=True, timeout=300,
                env=environment | {"CODE": code},
            )  # fmt: skip
            assert "notes would be lost" in done.stdout, done.stderr
            assert "['README.md', 'config.json', 'model.safetensors', 'notes'] new\n['at', 'real']" in done.stdout
            break
        shutil.rmtree(tmp_path / "real")
        (tmp_path / "real").mkdir()


def test_what_cannot_be_renamed_to_its_place_is_moved_in(artifact, tmp_path, monkeypatch):
    """As on a mount of the same disk, which looks like a folder until one renames it."""
    rename = os.rename

    def apart(one, other, **more):
        if ".sgnas-zoo-" in str(one) and "/net/" in str(other):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        rename(one, other, **more)

    monkeypatch.setattr(folders, "renamed", lambda *arguments: False)
    monkeypatch.setattr(os, "rename", apart)
    write(artifact, "new", True)
    assert (artifact / "model.safetensors").read_text() == "new"
    assert not left(tmp_path, artifact)


def test_what_appears_while_a_folder_is_written_stays(tmp_path):
    with pytest.raises(ArtifactError, match="notes"), folders.new_folder(tmp_path / "net"):  # noqa: PT012
        (tmp_path / "net").mkdir()
        (tmp_path / "net" / "notes").write_text("mine")
    assert os.listdir(tmp_path / "net") == ["notes"]
    write(tmp_path / "other", "old", False)
    with pytest.raises(ArtifactError, match="notes"), folders.new_folder(tmp_path / "other", force=True):
        (tmp_path / "other" / "notes").write_text("mine")
    assert (tmp_path / "other" / "notes").read_text() == "mine"
    assert (tmp_path / "other" / "model.safetensors").read_text() == "old"
    assert not left(tmp_path)


def test_of_four_who_write_one_folder_one_wins(tmp_path):
    code = (
        "import sys; sys.stdin.readline()\n"
        "from pathlib import Path; from written import write\n"
        "from sgnas_zoo.errors import ArtifactError\n"
        "try: write(Path(sys.argv[1]), sys.argv[2], False)\n"
        "except ArtifactError: sys.exit(2)"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{SCRIPT.parent}"}
    for target in (tmp_path / "new", tmp_path / "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        runs = [
            subprocess.Popen([sys.executable, "-c", code, str(target), str(i)], stdin=subprocess.PIPE, env=environment)
            for i in range(4)
        ]
        for run in runs:
            run.stdin.write(b"\n")
            run.stdin.flush()
        codes = [run.wait(300) for run in runs]
        for run in runs:
            run.stdin.close()
        assert sorted(codes) == [0, 2, 2, 2]
        assert (target / "model.safetensors").read_text() == str(codes.index(0))
        assert not left(tmp_path, target)


def test_every_file_of_every_kind_is_known_as_ours():
    from sgnas_zoo.hub.cards import CARD, OLD_PICTURE, PICTURE, PLOTS
    from sgnas_zoo.hub.cards.results import OURS
    from sgnas_zoo.hub.kinds import KINDS
    from sgnas_zoo.hub.shim import SHIM
    from sgnas_zoo.hub.supernets import POOL
    from sgnas_zoo.training.runs import METRICS

    for kind in ("model", "generator", "supernet"):
        assert {*KINDS[kind].files, CARD, METRICS, "evaluation.json"} <= folders.OURS[kind]
    assert {PICTURE, OLD_PICTURE, SHIM} <= folders.OURS["model"]
    assert {POOL, *PLOTS} <= folders.OURS["supernet"]
    assert folders._is_result(Path(f"{OURS}_x.yaml").name)


# --- locks


def holder(folder):
    code = (
        "import sys, time; from pathlib import Path; from sgnas_zoo.folders import alone\n"
        "with alone(Path(sys.argv[1])): print('in', flush=True); time.sleep(600)"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert run.stdout.readline() == "in\n"
    return run


def test_a_second_writer_is_told_who_the_first_is_and_takes_over_when_it_is_dead(tmp_path):
    run = holder(tmp_path / "run")
    try:
        for _ in range(2):
            with pytest.raises(ArtifactError, match=rf"process {run.pid} on .*wait.*If it is dead, remove"):
                folders.check_free(tmp_path / "run", True)
            with pytest.raises(ArtifactError, match=f"process {run.pid}"), folders.alone(tmp_path / "run"):
                pass
    finally:
        run.send_signal(signal.SIGKILL)
        run.wait()
        run.stdout.close()
    with folders.alone(tmp_path / "run"), folders.alone(tmp_path / "run") as work:
        assert json.loads((work / locks.OWNER).read_text())["pid"] == os.getpid()
    assert not [*(tmp_path / "run").iterdir()]
    with folders.alone(tmp_path / "a" / "b"):
        pass
    assert not (tmp_path / "a").exists()  # it was made for the run, and nothing is in it


def test_hidden_folders_of_dead_writers_are_swept_and_those_of_the_living_stay(tmp_path):
    dead, living = tmp_path / ".sgnas-zoo-00000000dead", tmp_path / ".sgnas-zoo-00000000beef"
    (dead / "new" / "net").mkdir(parents=True)
    (dead / "new" / "net" / "model.safetensors").write_text("x")
    theirs = tmp_path / ".sgnas-zoo-notes"
    theirs.mkdir()
    run = subprocess.Popen(
        [sys.executable, "-c", "import sys, time; from pathlib import Path; from sgnas_zoo.locks import locked\n"
         "with locked(Path(sys.argv[1]), Path()): print('in', flush=True); time.sleep(600)", str(living)],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert run.stdout.readline() == "in\n"
    try:
        write(tmp_path / "net", "new", False)
        assert not dead.exists()
        assert living.exists()
        assert theirs.exists()
    finally:
        run.kill()
        run.wait()
        run.stdout.close()
    write(tmp_path / "net", "newer", True)
    assert not living.exists()


# --- files


def test_a_file_is_replaced_only_by_force_and_only_if_it_is_ours(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    for force, ours in ((False, None), (True, lambda file: False)):
        with pytest.raises(ArtifactError, match=r"file\.txt"), files.new_file(path, force=force, ours=ours):
            pytest.fail("it should be refused before the work")
    with pytest.raises(ZeroDivisionError), files.new_file(path, force=True) as staging:  # noqa: PT012
        staging.write_text("half")
        raise ZeroDivisionError
    with pytest.raises(ArtifactError, match="exists"), files.new_file(tmp_path / "late") as staging:  # noqa: PT012
        staging.write_text("new")
        (tmp_path / "late").write_text("theirs")
    assert (path.read_text(), (tmp_path / "late").read_text()) == ("old", "theirs")
    (tmp_path / "link").symlink_to(path)
    files.write_file(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert path.read_text() == "new"
    with pytest.raises(ArtifactError, match="is a folder"):
        files.write_file(tmp_path, "new")
    with pytest.raises(ArtifactError, match="regular"):
        files.write_file("/dev/null", "new")
    assert sorted(os.listdir(tmp_path)) == ["file.txt", "late", "link"]


def test_every_writer_tells_of_a_full_disk_in_one_line(tmp_path):
    code = (
        "import resource, signal, sys, torch; from pathlib import Path; from safetensors.torch import save_file\n"
        "from sgnas_zoo import files, folders; from sgnas_zoo.errors import ArtifactError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))\n"
        "big = {'a': torch.zeros(100000)}\n"
        "writers = {'safetensors': lambda p: save_file(big, p), 'torch': lambda p: torch.save(big, p),\n"
        "           'json': lambda p: files.write_json(p, {'a': 'x' * 20000})}\n"
        "for name, writer in writers.items():\n"
        "    for make in (folders.new_folder, folders.among_others, files.new_file):\n"
        "        try:\n"
        "            with make(Path(sys.argv[1])) as staging: writer(staging / name if staging.is_dir() else staging)\n"
        "        except ArtifactError as error: print(str(error).count(chr(10)), str(error).endswith('place.'))"
    )
    done = python("-c", code, tmp_path / "target", env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.stdout == "0 True\n" * 9, done.stdout + done.stderr
    assert os.listdir(tmp_path) == []


# --- commands


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.mark.parametrize("place", [".", "..", "~/w", "w"])
def test_generate_loses_nothing_of_the_users(tmp_path, monkeypatch, place):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "thesis.txt").write_text("x")
    monkeypatch.chdir(tmp_path / "w" if place.startswith(".") else tmp_path)
    for force in ([], ["--force"]):
        result = run("generate", "--flops", "4M", f"--output={place}", *force)
        assert result.exit_code == 2
        assert "thesis.txt" in result.output or place == ".."
    assert tree(tmp_path) == {"w": tree(tmp_path)["w"], "w/thesis.txt": tree(tmp_path)["w/thesis.txt"]}


def test_generate_writes_where_the_users_name_leads(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "w").mkdir()
    monkeypatch.chdir(tmp_path / "w")
    for arguments in (["--output=~/x"], ["--output=."], ["--output=.", "--force"], ["--output=-dash"]):
        if arguments == ["--output=-dash"]:
            monkeypatch.chdir(tmp_path)
        assert run("generate", "--flops", "4M", "--space", "sgnas_micro", *arguments).exit_code == 0
    for name in ("x", "w", "-dash"):
        assert (tmp_path / name / "config.json").is_file()
        assert f"# {name}\n" in (tmp_path / name / "README.md").read_text()
    assert sorted(os.listdir(tmp_path)) == ["-dash", "w", "x"]


def test_an_export_is_called_as_its_folder_is(tmp_path, monkeypatch):
    from sgnas_zoo.hub.names import read_name

    (tmp_path / "net" / "v1.2").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "net")
    assert [read_name(name).name for name in (".", "..", "v1.2", "local-dir:.", "me/net@v1", "hf-hub:me/n")] == [
        "net", tmp_path.name, "v1.2", "net", "net", "n",
    ]  # fmt: skip


def test_the_check_of_an_earlier_search_begins_after_a_kill_and_refuses_what_is_no_search(tmp_path):
    from sgnas_zoo.cli.search import SCORES, open_search

    def opened(resume, settings=(("strategy", "random"),)):
        with click.Context(click.Command("search")):
            open_search(tmp_path / "out", dict(settings), resume, ("result.json", SCORES, "README.md"))

    opened(True)  # nothing is there: it begins
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".sgnas-zoo").mkdir()
    opened(True)
    (tmp_path / "out" / SCORES).write_text("mine")
    for resume in (False, True):
        with pytest.raises(ArtifactError, match=SCORES):
            opened(resume)
    files.write_whole(tmp_path / "out" / "settings.json", {"strategy": "random"})
    opened(True)
    with pytest.raises(click.UsageError, match="already holds"):
        opened(False)
    (tmp_path / "out" / "README.md").write_text("mine")
    with pytest.raises(ArtifactError, match=r"README\.md"):
        opened(True)
    (tmp_path / "out" / "README.md").unlink()
    (tmp_path / "out" / "settings.json").write_text('{"editor": "mine"}')
    with pytest.raises(ArtifactError, match=r"settings\.json"):
        opened(True)


@pytest.mark.parametrize("cut", [b'{"arch": "3', b"\xff\xfe\x00", b"\x00\x00", b'{"arch": "\xc3', b"[]", b"9"])
def test_a_cut_line_of_scores_is_scored_again_and_one_in_the_middle_is_named(tmp_path, cut):
    from sgnas_zoo.spaces import SPACES
    from sgnas_zoo.training.searching.candidates import EvaluationLog, read_evaluations

    space, path = SPACES["sgnas_micro"], tmp_path / "evaluations.jsonl"
    archs = [space.parse("-".join([token] * len(space.layers))) for token in ("33", "35", "55")]
    log = EvaluationLog(path, space, lambda asked: [50.0 for _ in asked])
    log(archs[:2])
    whole = path.read_bytes()
    path.write_bytes(whole + cut)
    assert {arch: found.score for arch, found in read_evaluations(path, space).items()} == dict.fromkeys(
        archs[:2], 50.0
    )
    log = EvaluationLog(path, space, lambda asked: [50.0 for _ in asked])
    assert path.read_bytes() == whole
    log(archs)
    assert len(read_evaluations(path, space)) == 3
    path.write_bytes(cut + b"\n" + whole)
    with pytest.raises(
        ArtifactError, match=r"^Line 1 of .* does not hold scores of sgnas_micro; .* --output or remove it\.$"
    ):
        read_evaluations(path, space)


# --- recipes


def claimed(output, resume="never", recipe="finetune"):
    from sgnas_zoo.training.outputs import check_output

    with click.Context(click.Command(recipe)):
        check_output(output, resume, recipe)


@pytest.mark.parametrize("resume", ["never", "auto"])
@pytest.mark.parametrize(
    "name", ["README.md", "metrics.json", "config.json", "settings.yaml", "curves.png", "checkpoints", ".eval_results"]
)
def test_a_training_refuses_what_it_would_replace_and_did_not_write(tmp_path, name, resume):
    (tmp_path / name).write_text("mine: true")
    with pytest.raises(ArtifactError, match=name):
        claimed(tmp_path, resume)
    assert os.listdir(tmp_path) == [name]


def test_a_training_goes_on_in_its_own_folder(tmp_path):
    from sgnas_zoo.training.options import save_settings

    (tmp_path / "notes.txt").write_text("mine")
    claimed(tmp_path)
    save_settings(tmp_path, {"lr": 1}, "finetune")
    (tmp_path / "checkpoints").mkdir()
    claimed(tmp_path, "auto")
    with pytest.raises(ArtifactError, match=r"settings\.yaml"):
        claimed(tmp_path, "auto", "retrain")
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(ArtifactError, match=r"README\.md"):
        claimed(tmp_path, "auto")
    (tmp_path / "README.md").unlink()
    with folders.among_others(tmp_path) as staging:
        files.write_json(staging / "config.json", {"zoo": {}})
        (staging / "README.md").write_text(CARD)
    claimed(tmp_path, "auto")
    with pytest.raises(ArtifactError, match="already holds a model"):
        claimed(tmp_path)


def test_a_second_training_into_one_folder_names_the_first(tmp_path):
    run = holder(tmp_path)
    try:
        with pytest.raises(ArtifactError, match=f"process {run.pid} on "):
            claimed(tmp_path, "auto")
    finally:
        run.kill()
        run.wait()
        run.stdout.close()
    claimed(tmp_path, "auto")
    assert not [*tmp_path.iterdir()]


def test_a_distilled_generator_takes_no_folder_of_the_users(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    done = warm.run(ROOT / "recipes" / "distill_generator.py", "--output", tmp_path, "--steps", 1)
    assert done.returncode == 2
    assert "notes.txt" in done.stderr
    assert "Traceback" not in done.stderr
    assert os.listdir(tmp_path) == ["notes.txt"]


# --- nothing else writes

WRITES = {
    "rmtree", "rename", "unlink", "rmdir", "write_text", "write_bytes", "mkdir", "makedirs", "move", "copytree",
    "copyfile", "savefig", "mkdtemp", "mkstemp", "symlink_to", "touch", "removedirs",
}  # fmt: skip
ALLOWED = {
    "sgnas_zoo/files.py": "this is it",
    "sgnas_zoo/folders.py": "this is it",
    "sgnas_zoo/locks.py": "this is it",
    "sgnas_zoo/training/loop/checkpoints.py": "its own sub-folder of a run's folder, which check_output has claimed",
    "sgnas_zoo/measure/partial.py": "its own file in the user's cache",
    "sgnas_zoo/hub/remote.py": "a damaged file in the cache of huggingface_hub",
    "sgnas_zoo/hub/cards/__init__.py": "a staging folder of among_others",
    "sgnas_zoo/hub/shim.py": "a staging folder of among_others",
    "sgnas_zoo/hub/push.py": "a temporary folder",
    "sgnas_zoo/measure/cache.py": "a staging file of new_file",
    "sgnas_zoo/training/plots.py": "a staging file of new_file",
    "sgnas_zoo/training/data/cache.py": "its own folder in the user's cache, and a staging folder of among_others",
    "sgnas_zoo/export/__init__.py": "a staging file of new_file",
    "sgnas_zoo/export/onnx_format.py": "a temporary folder, for the quantiser",
    "sgnas_zoo/demo/networks.py": "the temporary folder of its server",
    "recipes/render_cards.py": "a temporary folder",
}
"""Files that may call these, and on what."""
REMOVES = {"rmtree", "rename", "unlink", "rmdir", "move", "removedirs"}
MAY_REMOVE = [*ALLOWED][:6]


def calls(source):
    """Names of what is called that writes or removes; ``replace`` only of os, as text has one too."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        of = getattr(getattr(function, "value", None), "id", "")
        mode = [
            word.value for word in (*node.args, *(k.value for k in node.keywords)) if isinstance(word, ast.Constant)
        ]
        if name in WRITES or (name in ("replace", "remove") and of == "os"):
            yield name
        elif name == "open" and any(
            isinstance(word, str) and set(word) & set("wax+") and len(word) < 4 for word in mode
        ):
            yield "open"


def test_nothing_else_writes_where_a_user_may_point():
    found = {}
    for path in [*(ROOT / "sgnas_zoo").rglob("*.py"), *(ROOT / "recipes").glob("*.py")]:
        if names := {*calls(path.read_text(encoding="utf-8"))}:
            found[str(path.relative_to(ROOT))] = names
    assert {*found} == {*ALLOWED}
    assert not {path: names & REMOVES for path, names in found.items() if path not in MAY_REMOVE and names & REMOVES}
    assert [*calls("import os; os.replace(a, b); 'a'.replace('b', 'c'); p.open('wb'); open(p, mode='a'); open(p)")] == [
        "replace", "open", "open",
    ]  # fmt: skip


BUSY = """
import sys
from pathlib import Path
from sgnas_zoo.files import write_file
for number in range(150):
    write_file(Path(sys.argv[1]) / "same.json", str(number))
"""


def test_writers_that_begin_at_once_take_no_living_one_for_dead(tmp_path):
    """Each looks through the others' hidden folders as they come and go."""
    writers = [warm.start("-c", BUSY, tmp_path) for _ in range(4)]
    assert [writer.wait() for writer in writers] == [0] * 4
    assert [file.name for file in tmp_path.iterdir()] == ["same.json"]
