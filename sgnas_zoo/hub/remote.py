"""The Hub over the wire: repos at one commit, files checked against their digest, errors in one line.

Only this module, ``push.py`` and ``pages.py`` talk to the Hub; ``HF_ENDPOINT``, ``HF_HUB_OFFLINE`` and the other
variables of huggingface_hub hold.
"""

from __future__ import annotations

import hashlib
import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import ResolvedRevision, constants, file_exists, hf_hub_download, resolve_revision
from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError is not in its __all__
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    RevisionResolutionError,
)

from sgnas_zoo.errors import ArtifactError, ZooError, printable
from sgnas_zoo.files import sha256
from sgnas_zoo.hub.names import neither

HUB_FAILURES = (HTTPError, OSError, HFValidationError, EntryNotFoundError, RevisionResolutionError)
"""All that huggingface_hub raises when the network, the Hub, the cache or a name fails it."""
TOKEN = re.compile(r"\b(hf|api_org)_\w{8,}")
"""What a Hub token looks like."""
CLIENTS = ("huggingface_hub", "httpx", "httpx2", "httpcore", "httpcore2")
"""Packages whose loggers may name an address."""
PATIENCE = (0.5, 1, 2)
"""Seconds between attempts."""
ANSWERS = {
    401: "the token is not valid; log in with `hf auth login`, or pass another token",
    403: "the token has no right to do this; use one that may, or a repo of your own",
    409: "it is taken; choose another name",
    412: "somebody else has changed it meanwhile; look at what is there, then try again",
    413: "it is too large for the Hub",
    429: "too many requests; wait a few minutes, then try again",
}


class Access(NamedTuple):
    """How to reach a repo, as everywhere in the ecosystem.

    Args:
        revision: Branch, tag or commit; by default ``main``.
        token: Hub token; by default the stored one.
        cache_dir: Hub cache.
        local_files_only: Take what the cache holds without asking the Hub.
    """

    revision: str | None = None
    token: str | None = None
    cache_dir: str | Path | None = None
    local_files_only: bool = False

    def __repr__(self) -> str:
        """All but the token: what is shown may be kept."""
        token = self.token and "***"
        return f"Access({self.revision!r}, {token}, {self.cache_dir!r}, {self.local_files_only})"


class Repo:
    """A Hub repo at the one commit that its revision had when it was first looked at.

    Args:
        name: ``USER/NAME`` with an optional ``@revision``.
        access: How to reach it; its revision must not say otherwise than the name.

    Raises:
        ArtifactError: If there is no such repo or revision, or it cannot be reached.
    """

    def __init__(self, name: str, access: Access = Access()) -> None:  # noqa: B008  # immutable
        self.name, revision = split_revision(name, access.revision)
        self.access = access._replace(revision=revision)
        with one_line(self.name, revision):
            self._revision: ResolvedRevision = _patiently(
                resolve_revision, self.name, revision=revision, token=access.token, cache_dir=access.cache_dir,
                local_files_only=access.local_files_only,
            )  # fmt: skip
        self.commit = str(self._revision.resolved)

    def file(self, name: str) -> Path:
        """Path of a file in the cache, fetched if need be.

        Raises:
            ArtifactError: As ``fetch`` does.
        """
        return fetch(self.name, name, self._revision, self.access, self.access.revision or self.commit[:12])

    def holds(self, name: str) -> bool:
        """Whether it has a file, as far as the Hub can be asked."""
        if self.access.local_files_only or constants.HF_HUB_OFFLINE:
            return False
        with one_line(self.name, self.commit[:12], name):
            return bool(file_exists(self.name, name, revision=self.commit, token=self.access.token))


def fetch(repo: str, file: str, revision: str, access: Access, shown: str | None = None) -> Path:
    """Path of a repo's file in the cache, fetched if need be, and once more where it is not what the Hub announced.

    Args:
        repo: ``USER/NAME``.
        file: Path in the repo.
        revision: The commit.
        access: How to reach the repo; its revision does not count.
        shown: What errors call the revision.

    Raises:
        ArtifactError: If there is none, it cannot be fetched, or it is damaged for good. A damaged file is removed.
    """
    offline = access.local_files_only or constants.HF_HUB_OFFLINE
    for _ in range(1 if offline else 2):
        with one_line(repo, shown or revision, file):
            path = Path(_patiently(
                hf_hub_download, repo, file, revision=revision, token=access.token, cache_dir=access.cache_dir,
                local_files_only=access.local_files_only,
            ))  # fmt: skip
        if _is_whole(path.resolve()):
            return path
        path.resolve().unlink()
    then = "fetch it again while connected" if offline else "try again later, or tell who owns the repo"
    raise ArtifactError(f"{file} of {repo} was damaged on its way or in the cache, and is removed there; {then}.")


def _is_whole(blob: Path) -> bool:
    """Whether a file of the cache is what its name says: a SHA-256 of what came over LFS, else a digest as git's.

    Where the file system has no links, the cache names files by their path, and nothing is known of them.
    """
    if re.fullmatch("[0-9a-f]{64}", blob.name):
        return sha256(blob) == blob.name
    if re.fullmatch("[0-9a-f]{40}", blob.name):
        content = blob.read_bytes()
        return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest() == blob.name
    return True


def _patiently(ask: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    """Call huggingface_hub again when the Hub says that the trouble is its own: a download it asks for only once."""
    for wait in PATIENCE:
        try:
            return ask(*arguments, **keywords)
        except HfHubHTTPError as error:
            if (_status(error) or 0) < 500:
                raise
        time.sleep(wait)
    return ask(*arguments, **keywords)


def split_revision(name: str, revision: str | None = None) -> tuple[str, str | None]:
    """Repo id and revision of ``USER/NAME[@REVISION]``.

    Raises:
        ArtifactError: If it is not a repo id, or two revisions contradict each other.
    """
    repo, _, at = name.partition("@")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo) or (not at and name.endswith("@")):
        raise neither(name)
    if at and revision not in (None, at):
        raise ArtifactError(f"{name} names a revision and revision={revision!r} another; leave one out.")
    return repo, at or revision


def repo_id(name: str) -> str:
    """``name`` if it is ``USER/NAME`` alone, which is what a push takes.

    Raises:
        ArtifactError: If it is not a repo id, or names a revision.
    """
    repo, at = split_revision(name)
    if at:
        raise ArtifactError(
            f"{name} names a revision; write {repo}, with --revision {at} (revision={at!r}) for a branch or --tag {at} "
            f"(tag={at!r}) for a tag."
        )
    return repo


@contextmanager
def one_line(repo: str, revision: str | None = None, file: str | None = None) -> Iterator[None]:
    """Turn what huggingface_hub raises into an ArtifactError of one line: which repo, what happened, what to do.

    Raises:
        ArtifactError: For each of ``HUB_FAILURES``. It never holds a token or a signed address, nor does its cause.
    """
    _clean_logs()
    try:
        yield
    except ZooError:
        raise
    except (*HUB_FAILURES, RuntimeError) as error:  # Xet's own errors are RuntimeErrors
        raise ArtifactError(explain(error, repo, revision, file)) from None


class _Printable(logging.Filter):
    """Lets a record pass as ``printable`` text: clients log addresses with signatures, and whatever a server says."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = printable(" ".join(record.getMessage().split())), ()
        return True


_PRINTABLE = _Printable()


def _clean_logs() -> None:
    """Have all loggers of the clients write printable text; those that came since the last call, too."""
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] in CLIENTS:
            logging.getLogger(name).addFilter(_PRINTABLE)


def explain(error: BaseException, repo: str, revision: str | None = None, file: str | None = None) -> str:
    """What happened and the next step, in one line without a token.

    The order matters: some of these classes are children of others.

    Args:
        error: One of ``HUB_FAILURES``.
        repo: ``USER/NAME``.
        revision: What was asked for, if anything was.
        file: The file that was asked for, if it was one.
    """
    at = f"{repo}@{revision}" if revision else repo
    where = constants.ENDPOINT
    if isinstance(error, GatedRepoError):
        return f"{at} is gated; ask for access at {where}/{repo}, then log in with `hf auth login`."
    if isinstance(error, RepositoryNotFoundError):
        return f"{where} shows no repo {repo}: check the name; if it is private, log in with `hf auth login`."
    if isinstance(error, RevisionNotFoundError):
        return f"{repo} has no revision {revision!r}; name a branch, a tag or a commit, or leave it out."
    if isinstance(error, (LocalEntryNotFoundError, RevisionResolutionError)) and _status(error.__cause__):
        error = error.__cause__ or error  # the Hub did answer; huggingface_hub then looked into the cache
    if isinstance(error, (LocalEntryNotFoundError, RevisionResolutionError, OfflineModeIsEnabled)):
        what = f"{file} of {at}" if file else at
        if isinstance(error, OfflineModeIsEnabled) or constants.HF_HUB_OFFLINE:
            why = "HF_HUB_OFFLINE is set"
        else:
            why = f"{where} cannot be reached" if error.__cause__ else "it must not be asked (local_files_only)"
        return f"{what} is not in the cache, and {why}; fetch it once while connected."
    if isinstance(error, EntryNotFoundError):
        return f"{at} does not contain {file}; check that it is an artifact of sgnas-zoo."
    if isinstance(error, HFValidationError):
        return f"{repo!r} is not a Hub repo id; write USER/NAME."
    if status := _status(error):
        reason = ANSWERS.get(status, "try again later" if status >= 500 else "check the name and the arguments")
        return f"{where} answers {status} for {at}: {reason}."
    if isinstance(error, OSError) and error.strerror:
        return f"Cannot keep {at} on disk: {error.strerror}; free space, or name another cache_dir."
    return f"{where} broke off at {at} ({type(error).__name__}); check your connection, then try again."


def _status(error: BaseException | None) -> int | None:
    """Status of the answer that an error is about, if there was one."""
    return getattr(getattr(error, "response", None), "status_code", None)
