"""Checkpoints of a training run: whole or not there, and verified before anything is loaded.

accelerate writes and reads the tensors; here the folder is made to appear at once, with a manifest of its files, and
all ranks, which share the folder, agree on what is saved, loaded or refused.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import broadcast_object_list, gather_object
from accelerate.utils import load as load_plain
from safetensors import SafetensorError
from tqdm import tqdm

from sgnas_zoo.errors import CheckpointError
from sgnas_zoo.files import reason, sha256, write_json
from sgnas_zoo.training.loop.accumulation import launched

if TYPE_CHECKING:
    from accelerate import Accelerator

FORMAT = 1
MANIFEST = "manifest.json"
FAILURES = (OSError, RuntimeError, ValueError, LookupError, pickle.UnpicklingError, SafetensorError)
"""What a full disk, a damaged file or a foreign state raises in safetensors, torch and accelerate."""
SAVE_ADVICE = "the earlier ones stay; make it writable or free space, then go on with --resume auto."


class DamagedError(CheckpointError):
    """A checkpoint whose files are not those its manifest lists; an older one may be whole."""


class Checkpoints:
    """The checkpoints ``step-00001234/`` in a folder, for one process or several (DDP); the highest step is the newest.

    As a context manager it also catches SIGTERM, which then only sets ``stopping`` at the next ``due()``.

    Args:
        accelerator: Holds what to save: all that was prepared with it or registered for checkpointing.
        folder: Where the checkpoints are; nothing else should be.
        settings: Plain JSON that a resumed run must repeat; leave out what may change, such as the output folder.
        every_minutes: Time between two checkpoints.
        keep: How many of the newest to keep.

    Raises:
        CheckpointError: If the settings are not plain JSON.
    """

    def __init__(self, accelerator: Accelerator, folder: Path, settings: Mapping[str, Any], *,
                 every_minutes: float = 5.0, keep: int = 2) -> None:  # fmt: skip
        self.folder = folder
        self.stopping = False
        self._accelerator = accelerator
        self._settings = {**_plain("settings", settings), **launched(accelerator)}
        self._seconds = 60 * every_minutes
        self._keep = max(keep, 1)
        self._damaged: set[Path] = set()
        self._signalled = False
        self._saved_at = time.monotonic()

    def __enter__(self) -> Checkpoints:
        """Catch SIGTERM from here on; outside the main thread Python cannot, and nothing changes."""
        self._in_main_thread = threading.current_thread() is threading.main_thread()
        if self._in_main_thread:
            self._previous = signal.signal(signal.SIGTERM, self._on_signal)
            if hasattr(signal, "sigwaitinfo"):  # held back, so that a decoding worker starts with it held back too
                signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        return self

    def __exit__(self, *error: object) -> None:
        """Handle SIGTERM as before; one that came after the last ``due()`` is handled so now."""
        if not self._in_main_thread:
            return
        signal.signal(signal.SIGTERM, self._previous or signal.SIG_DFL)
        if hasattr(signal, "sigwaitinfo"):
            self._signalled |= signal.sigtimedwait({signal.SIGTERM}, 0) is not None
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        if self._signalled and not self.stopping and error == (None, None, None):
            signal.raise_signal(signal.SIGTERM)

    def _on_signal(self, number: int, frame: object) -> None:
        self._signalled = True

    def due(self) -> bool:
        """Whether to save now, as time is up or a rank got SIGTERM; all ranks call it at every step."""
        late = self._accelerator.is_main_process and time.monotonic() - self._saved_at >= self._seconds
        stop = self._signalled or (hasattr(signal, "sigpending") and signal.SIGTERM in signal.sigpending())
        if self._accelerator.num_processes > 1:
            flags = torch.tensor([float(stop), float(late)], device=self._accelerator.device)
            stop, late = (flag > 0 for flag in self._accelerator.reduce(flags, "sum").tolist())
        self.stopping = self.stopping or stop
        return self.stopping or late

    def save(self, progress: Mapping[str, Any]) -> Path:
        """Save everything the accelerator holds; all ranks call it.

        Args:
            progress: Plain JSON that ``resume`` gives back; ``step`` is a whole number and names the folder.

        Raises:
            CheckpointError: If it cannot be written; then on all ranks, and the earlier checkpoints stay.
        """
        progress = _plain("progress", progress)
        step = progress.get("step")
        if type(step) is not int or step < 0:
            raise CheckpointError(f"progress holds step {step!r}; give the number of steps done as `step`.")
        target = self.folder / f"step-{step:08d}"
        staging = self.folder / f".{target.name}.partial"
        main, doing = self._accelerator.is_main_process, f"Cannot save {target}"
        try:
            with self._agreed(doing, SAVE_ADVICE):
                if main:
                    shutil.rmtree(staging, ignore_errors=True)
                    staging.mkdir(parents=True)
            with self._agreed(doing, SAVE_ADVICE):
                self._accelerator.save_state(str(staging))
            with self._agreed(doing, SAVE_ADVICE):
                if main:
                    _check_custom(staging)
                    self._seal(staging, progress)
                    self._publish(staging, target)
        except BaseException:  # a signal, too
            if main:
                self._clean()
            raise
        self._saved_at = time.monotonic()
        return target

    def resume(self, mode: str) -> dict[str, Any] | None:
        """Load a checkpoint and give back its progress, or None to start from the beginning; all ranks call it.

        Args:
            mode: ``auto`` for the newest whole checkpoint, if there is any; ``never``; or the path of a checkpoint.

        Raises:
            CheckpointError: If the settings differ, nothing whole is left, or two runs would share the folder.
        """
        outcome: dict[str, Any] = {}
        if self._accelerator.is_main_process:
            try:
                outcome = self._choose(mode)
            except CheckpointError as error:
                outcome = {"refused": str(error)}
            except OSError as error:
                outcome = {"refused": f"Cannot read {self.folder}: {reason(error)}; choose another --output."}
        (outcome,) = broadcast_object_list([outcome])
        if "refused" in outcome:
            raise CheckpointError(outcome["refused"])
        if outcome["from"] is None:
            return None
        with self._agreed(f"Cannot load {outcome['from']}", "resume with the code and versions that saved it."):
            _check_custom(Path(outcome["from"]))
            self._accelerator.load_state(outcome["from"])
        if self._accelerator.is_main_process and outcome["damaged"]:
            warnings.warn(f"Damaged: {'; '.join(outcome['damaged'])}; falling back to {outcome['from']}.", stacklevel=2)
        elif self._accelerator.is_main_process and mode == "auto":  # a kill right after saving came before this
            self._prune(Path(outcome["from"]))
        progress: dict[str, Any] = outcome["progress"]
        return progress

    def stopped(self, saved: Path) -> str:
        """Say on the main process's stderr that SIGTERM ended the run at ``saved``; the recipe then exits with 0."""
        note = f"Stopped by SIGTERM at step {_step(saved)}; saved {saved}; go on with --resume auto."
        if self._accelerator.is_main_process:
            tqdm.write(note, file=sys.stderr)  # above the progress bar, on a line of its own
        return note

    def _choose(self, mode: str) -> dict[str, Any]:
        """Decide on the main process, which alone looks at the folder."""
        found = _checkpoints(self.folder)
        named = None if mode in ("auto", "never") else Path(mode)
        if found and (mode == "never" or (named and named.resolve().parent != self.folder.resolve())):
            raise CheckpointError(f"{self.folder} already holds checkpoints; use --resume auto or another --output.")
        if named and not named.is_dir():
            raise CheckpointError(f"No checkpoint {named}; name a step-… folder, or use --resume auto.")
        self._clean()
        damaged = []
        for path in [named] if named else reversed(_checkpoints(self.folder)):
            try:
                manifest = _verified(path)
            except DamagedError as error:
                damaged.append(f"{path}: {error}")
                self._damaged.add(path)
                continue
            self._compare(path, manifest["settings"])
            return {"from": str(path), "progress": manifest["progress"], "damaged": damaged}
        if damaged:
            raise CheckpointError(f"No whole checkpoint: {'; '.join(damaged)}. Start anew with another --output.")
        return {"from": None, "damaged": []}

    def _compare(self, path: Path, saved: dict[str, Any]) -> None:
        names = [*saved, *(name for name, value in self._settings.items() if name not in saved and value is not None)]
        there, here = ({name: json.dumps(s[name]) if name in s else "absent" for name in names}
                       for s in (saved, self._settings))  # fmt: skip
        differing = [f"{name}: {there[name]} there, {here[name]} here" for name in names if there[name] != here[name]]
        if differing:
            raise CheckpointError(
                f"{path} was saved with other settings ({'; '.join(differing)}); repeat those, or use another --output."
            )

    def _seal(self, staging: Path, progress: dict[str, Any]) -> None:
        """List every file with its digest, and have all of it on disk."""
        found = sorted(staging.iterdir())
        files = {file.name: {"bytes": file.stat().st_size, "sha256": sha256(file)} for file in found}
        content = {"format": FORMAT, "settings": self._settings, "progress": progress, "files": files}
        write_json(staging / MANIFEST, content)
        for path in [*staging.iterdir(), staging]:
            _sync(path)

    def _publish(self, staging: Path, target: Path) -> None:
        """Give the checkpoint its name, then drop what it makes obsolete."""
        if target.exists():  # a damaged one, or the same step again; `_clean` puts it back if we die in between
            target.rename(self.folder / f".{target.name}.replaced")
        staging.rename(target)
        _sync(self.folder)
        self._damaged.discard(target)
        self._prune(target)
        shutil.rmtree(self.folder / f".{target.name}.replaced", ignore_errors=True)

    def _prune(self, target: Path) -> None:
        """Keep the newest up to ``target``."""
        # Later steps are those that this run, resumed from an older checkpoint, does again.
        kept = [path for path in _checkpoints(self.folder) if _step(path) <= _step(target) and self._is_whole(path)]
        for path in _checkpoints(self.folder):
            if path not in kept[-self._keep :]:
                with suppress(OSError):
                    shutil.rmtree(path.rename(self.folder / f".{path.name}.partial"))

    def _is_whole(self, path: Path) -> bool:
        return path not in self._damaged and (path / MANIFEST).is_file()

    def _clean(self) -> None:
        """Remove what a killed run left half done."""
        for path in self.folder.glob(".step-*.replaced"):
            target = self.folder / path.name[1:].removesuffix(".replaced")
            if not target.exists():
                path.rename(target)
        for pattern in (".step-*.partial", ".step-*.replaced"):
            for path in self.folder.glob(pattern):
                shutil.rmtree(path, ignore_errors=True)

    @contextmanager
    def _agreed(self, doing: str, advice: str) -> Iterator[None]:
        """Wait for all ranks at the end of the block; if it failed on one, fail on all in the same words."""
        failure = ""
        try:
            yield
        except FAILURES as error:
            failure = reason(error)
        failures = [text for text in gather_object([failure]) if text]
        if failures:
            raise CheckpointError(f"{doing}: {failures[0]}; {advice}")


def _checkpoints(folder: Path) -> list[Path]:
    """Checkpoints in ``folder``, whole or not, oldest first."""
    found = folder.iterdir() if folder.is_dir() else []
    return sorted((path for path in found if re.fullmatch(r"step-\d+", path.name) and path.is_dir()), key=_step)


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _verified(path: Path) -> dict[str, Any]:
    """The manifest of a checkpoint whose files are all there and as they were written."""
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            raise CheckpointError(
                f"{path} has format {manifest['format']!r}, not {FORMAT}; resume with the sgnas_zoo that saved it."
            )
        for name, listed in manifest["files"].items():
            if Path(name).name != name or (path / name).stat().st_size != listed["bytes"]:
                raise DamagedError(f"{name} is not as long as it was")
            if sha256(path / name) != listed["sha256"]:
                raise DamagedError(f"{name} is not what was saved")
        if foreign := {file.name for file in path.iterdir()} - {MANIFEST, *manifest["files"]}:
            raise DamagedError(f"{min(foreign)} was not saved with it")
        return {"settings": dict(manifest["settings"]), "progress": dict(manifest["progress"])}
    except FileNotFoundError as error:
        raise DamagedError(f"{Path(str(error.filename)).name} is missing") from None
    except OSError as error:
        raise DamagedError(reason(error)) from None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise DamagedError(f"{MANIFEST} is unreadable") from None


def _check_custom(path: Path) -> None:
    """Refuse states of registered objects that are more than data: accelerate would unpickle them without a check."""
    for file in path.glob("custom_checkpoint_*.pkl"):
        try:
            load_plain(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:
            raise ValueError(f"{file.name} holds more than tensors and plain values") from None


def _plain(name: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """Copy a mapping as JSON gives it back, so that a tuple equals the list it becomes."""
    try:
        copy = json.loads(json.dumps(dict(content)))
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{name} is not plain JSON ({reason(error)}); pass a dict of plain values.") from None
    return dict(copy)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
