"""Write a folder in a process that ends, or fails, at its n-th call of the operating system; run by test_files.py.

    python written.py kill|fail TARGET force|new swap|inside

prints what was left after each n: "old" or "new" as a reader finds it, or else what is wrong.
"""

import json
import os
import signal
import sys
from pathlib import Path

from sgnas_zoo import files, folders, locks
from sgnas_zoo.errors import ArtifactError

CALLS = {
    "os.rename",
    "os.remove",
    "os.mkdir",
    "os.rmdir",
    "os.chmod",
    "open",
    "os.utime",
    "shutil.move",
    "ctypes.dlsym",
}
CARD = "---\ntags:\n- sgnas-zoo\n---\n"


def write(path: Path, content: str, force: bool) -> None:
    with folders.new_folder(path, force) as staging:
        (staging / "model.safetensors").write_text(content)
        (staging / "README.md").write_text(CARD + content)
        files.write_json(staging / "config.json", {"zoo": {}, "content": content})
        if content == "old":
            (staging / ".eval_results").mkdir()
            (staging / ".eval_results" / "sgnas_zoo_x.yaml").write_text(content)


def tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (path.lstat().st_mode, b"" if path.is_dir() else path.read_bytes())
        for path in sorted(folder.rglob("*"))
    }


def broken(how: str, at: int, target: Path, force: bool) -> int:
    """Write in a child; its exit status."""
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1]
    seen = 0

    def hook(event: str, args: tuple) -> None:
        nonlocal seen
        if event in CALLS:
            seen += 1
            if seen == at:
                if how == "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                raise OSError(28, "No space left on device")

    sys.addaudithook(hook)
    try:
        write(target, "new", force)
    except ArtifactError as error:
        os._exit(3 if "\n" not in str(error) else 4)
    except BaseException:
        os._exit(5)
    os._exit(0 if seen < at else 6)


def main(how: str, target: Path, force: bool, inside: bool) -> None:
    if inside:
        folders._can_swap = lambda target: False
    write(target, "old", True) if force else None
    before = tree(target) if target.exists() else None
    for at in range(1, 1000):
        with locks.workplace(target.parent):  # removes what dead writers left: every n then means the same call
            pass
        folders.check_free(target, True)
        status = broken(how, at, target, force)
        if status == 0:
            break
        if how == "fail" and status not in (3 << 8, 6 << 8):
            sys.exit(f"{at}: status {status}")
        if how == "kill" and not os.WIFSIGNALED(status):
            sys.exit(f"{at}: not killed, {status}")
        there = None
        if target.exists():
            try:
                files.read_config(target / "config.json")
            except ArtifactError:
                if force:
                    raise
            there = {name: part for name, part in tree(target).items() if locks.WORK not in name}
        if status == 3 << 8 and there != before and (there or before):
            sys.exit(f"{at}: failed, but not as before: {there}")
        if there == before or not (there or before):
            print("old")
        else:
            there = {name: part for name, part in there.items() if name != ".eval_results"}  # its removal failed
            assert {name: part[1] for name, part in there.items() if name != "config.json"} == {
                "model.safetensors": b"new", "README.md": (CARD + "new").encode(),
            }, (at, there)  # fmt: skip
            assert json.loads(there["config.json"][1])["content"] == "new", at
            print("new")
            folders.check_free(target, True)
            for name in sorted(tree(target), reverse=True):
                path = target / name
                path.rmdir() if path.is_dir() else path.unlink()
            if force:
                write(target, "old", True)
                before = tree(target)
            else:
                target.rmdir()
    write(target, "last", True)
    left = [name for place in (target, target.parent) for name in os.listdir(place) if name.startswith(locks.WORK)]
    assert not left, left
    assert (target / "model.safetensors").read_text() == "last"


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3] == "force", sys.argv[4] == "inside")
