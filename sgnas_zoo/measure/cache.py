"""Profiles that this user has made, a file each: found again by device and conditions."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from sgnas_zoo.costs import Conditions
from sgnas_zoo.costs.profile import Profile, Setup
from sgnas_zoo.costs.profile_file import read_profile, write_profile
from sgnas_zoo.errors import ArtifactError
from sgnas_zoo.files import check_writable, new_file, user_cache, write_file
from sgnas_zoo.measure.device import device_name
from sgnas_zoo.measure.profiler import profile_space
from sgnas_zoo.measure.progress import Progress, note, silent
from sgnas_zoo.measure.runtimes import RUNTIMES
from sgnas_zoo.spaces import SearchSpace


def this_setup(
    device: str = "cpu", runtime: str = "torch", threads: int | None = None, dtype: str = "float32", batch_size: int = 1
) -> Setup:
    """The setup of this machine; by default as many threads as torch uses here.

    Raises:
        UnknownNameError: If there is no such runtime.
        ModelError: If it cannot run this here.
    """
    layout = RUNTIMES[runtime].memory_format
    setup = Setup(
        device, device.partition(":")[0], runtime, threads or torch.get_num_threads(), dtype, layout, batch_size
    )
    RUNTIMES[runtime].check(setup)
    return replace(setup, device=device_name(device))


def cached_profile(
    space: SearchSpace,
    conditions: Conditions,
    setup: Setup,
    progress: Progress = silent,
    *,
    anew: bool = False,
) -> Profile:
    """The profile of these conditions from the cache; one is measured and kept where there is none.

    Args:
        space: The space.
        conditions: Form, resolution, classes and channels.
        setup: This machine's, see ``this_setup``.
        progress: As for ``profile_space``.
        anew: Measure it, whatever the cache has.

    Raises:
        ArtifactError: If the cache cannot be written. Several processes may use it at once.
    """
    path = cache_folder() / _name(space, conditions, setup)
    if not anew and (found := _cached(path)) is not None:
        return found
    check_writable(path.parent)
    with _alone(path):
        if not anew and (found := _cached(path)) is not None:  # another process made it meanwhile
            return found
        profile = profile_space(space, conditions, setup, progress=progress, partial=_partial(path))
        write_file(path, write_profile(profile))
    return profile


def new_profile(space: SearchSpace, conditions: Conditions, setup: Setup, progress: Progress = silent) -> Profile:
    """Measure a profile that is kept elsewhere; arguments as for ``cached_profile``.

    What was measured before an interruption waits in the cache, where that can be written.
    """
    path = cache_folder() / _name(space, conditions, setup)
    try:
        check_writable(path.parent)
    except ArtifactError:
        return profile_space(space, conditions, setup, progress=progress)
    with _alone(path):
        return profile_space(space, conditions, setup, progress=progress, partial=_partial(path))


def _partial(path: Path) -> Path:
    """Where the rounds of a profile are kept until it is complete."""
    return path.with_name(f".{path.name}.partial")


def _cached(path: Path) -> Profile | None:
    """The profile in a file of the cache; None, with a warning, where it is damaged."""
    if not path.is_file():
        return None
    try:
        return read_profile(path.read_bytes(), str(path))
    except ArtifactError as error:
        warnings.warn(f"{error} It is made anew.", stacklevel=3)
        return None


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Measure for a file of the cache while no other process does: two at once measure each other.

    The system lifts the lock when its process ends, however it ends.
    """
    lock, holder = (path.with_name(f".{path.name}.{end}") for end in ("lock", "holder"))
    with ExitStack() as held:
        try:
            held.enter_context(FileLock(lock, timeout=0))
        except Timeout:
            who = holder.read_text(encoding="utf-8") if holder.is_file() else "another process"
            note(f"Waiting for {who}, which measures the same profile.")
            held.enter_context(FileLock(lock))
        holder.write_text(f"process {os.getpid()} on {platform.node()}", encoding="utf-8")
        yield


def cached_profiles() -> Iterator[tuple[Path, Profile]]:
    """Every profile in the cache that can be read, with its path."""
    for path in sorted(cache_folder().glob("*.json")):
        try:
            yield path, read_profile(path.read_bytes(), str(path))
        except (ArtifactError, OSError):
            continue


def keep(profile: Profile, path: Path, *, force: bool = False) -> None:
    """Write a profile whole or not at all.

    Args:
        profile: What to write.
        path: The file.
        force: Replace a profile that is there.

    Raises:
        ArtifactError: If something else is there, or the disk refuses.
    """
    with new_file(path, force=force, ours=is_profile) as staging:
        staging.write_text(write_profile(profile), encoding="utf-8")


def is_profile(path: Path) -> bool:
    """Whether a file was written as a profile, also one of a format that cannot be read any more."""
    return b'"artifact": "profile"' in path.read_bytes()[:200]


def cache_folder() -> Path:
    """Where profiles are kept: ``sgnas_zoo/profiles`` in the user's cache (``XDG_CACHE_HOME``)."""
    return user_cache("profiles")


def _name(space: SearchSpace, conditions: Conditions, setup: Setup) -> str:
    """File name of a profile: what it is for in words, and a digest of all of it, versions included."""
    versions = RUNTIMES[setup.runtime].versions()
    whole = json.dumps([space.name, conditions.of_network(), asdict(setup), versions])
    digest = hashlib.sha256(whole.encode()).hexdigest()[:12]
    return f"{space.name}-{conditions.form}-{setup.runtime}-{setup.threads}t-b{setup.batch_size}-{digest}.json"
