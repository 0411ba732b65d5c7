"""Publishing: one folder, one atomic commit; what is there already is not sent again."""

from __future__ import annotations

import logging
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants
from huggingface_hub.errors import OfflineModeIsEnabled

from sgnas_zoo.errors import ArtifactError, ZooError
from sgnas_zoo.files import read_config
from sgnas_zoo.hub.artifacts import CONFIG, PROFILE
from sgnas_zoo.hub.cards import CARD, CURVES, EVALUATION, OLD_PICTURE, PICTURE, PLOTS, card_files
from sgnas_zoo.hub.cards.results import OURS
from sgnas_zoo.hub.kinds import Kind, check_folder, kind_of
from sgnas_zoo.hub.remote import HUB_FAILURES, TOKEN, Access, explain, fetch, one_line, repo_id
from sgnas_zoo.hub.shim import SHIM, has_shim
from sgnas_zoo.hub.supernets import POOL

EXTRAS = (EVALUATION, POOL, CURVES, *PLOTS)
"""What an artifact may have beside the files of its kind; nothing else in the folder is published."""
Files = dict[str, Path | bytes]


class Pushed(NamedTuple):
    """What a push came to.

    Args:
        url: Page of the commit or of the pull request; of the repo where nothing changed.
        commit: The commit that holds the files now.
        changed: Whether there was anything to send.
    """

    url: str
    commit: str
    changed: bool


def push(
    folder: str | Path,
    repo: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    tag: str | None = None,
    token: str | None = None,
) -> Pushed:
    """Publish a model, a generator, a supernet or a device profile as one commit on the Hub.

    The folder is loaded first, so that nothing broken is published, and its card is rendered for the repo unless
    somebody has written another. The repo is made if there is none.

    Args:
        folder: Folder of the artifact, or the file of a profile.
        repo: ``USER/NAME``.
        private: Visibility of a repo that is made; by default the account's.
        revision: Branch to commit to, made if there is none; by default ``main``.
        create_pr: Open a pull request instead.
        tag: Tag for the commit, such as ``v1``.
        token: Hub token; the stored one if left out.

    Raises:
        ArtifactError: If the folder is not an artifact, the repo holds another kind, or the Hub refuses. The repo
            then is as it was.
    """
    repo_id(repo)
    if create_pr and (tag or revision):
        raise ArtifactError("A pull request goes to main and is tagged once merged; leave out one of them.")
    if Path(folder).is_file():
        with TemporaryDirectory() as temporary:
            shutil.copyfile(folder, Path(temporary) / PROFILE)
            return push(temporary, repo, private=private, revision=revision, create_pr=create_pr, tag=tag, token=token)
    kind = check_folder(Path(folder))
    files = _files(Path(folder), kind, repo)
    api = HfApi(token=token)
    with writing(repo, revision):
        api.create_repo(repo, private=private, exist_ok=True)
        if tag and tag in {ref.name for ref in api.list_repo_refs(repo).tags}:
            raise ArtifactError(f"{repo} has a tag {tag} already; choose another, as tags do not move.")
        if revision and not create_pr:
            api.create_branch(repo, branch=revision, exist_ok=True)
        head = api.repo_info(repo, revision=revision).sha
        there = _look(api, repo, str(head), kind)
        adding = [CommitOperationAdd(path, content) for path, content in files.items()]
        stale = [CommitOperationDelete(path) for path in sorted(there) if path not in files and _ours(path)]
        done = api.create_commit(
            repo, [*adding, *stale], commit_message=f"Upload {kind.name} with sgnas_zoo", revision=revision,
            create_pr=create_pr, parent_commit=head,
        )  # fmt: skip
        if tag:
            api.create_tag(repo, tag=tag, revision=done.oid)
    changed = done.oid != head
    url = done.pr_url or done.commit_url if changed else f"{constants.ENDPOINT}/{repo}"
    return Pushed(str(url), done.oid, changed)


def _files(folder: Path, kind: Kind, repo: str) -> Files:
    """What is published of a folder, by its path in the repo: nothing that is a link, nothing that is not known."""
    files: Files = {name: folder / name for name in (*kind.files, *EXTRAS) if (folder / name).is_file()}
    if links := [name for name in files if (folder / name).is_symlink()]:
        raise ArtifactError(f"{folder / links[0]} is a link; put the file itself there.")
    if has_shim(folder):
        files[SHIM] = folder / SHIM
    files |= card_files(folder, repo)
    own = folder / CARD
    if own.is_file() and not own.is_symlink() and own.read_bytes() != card_files(folder)[CARD]:
        files[CARD] = own
    return files


def _ours(path: str) -> bool:
    """Whether a file of a repo belongs to what earlier pushes made: it goes when the artifact no longer has it."""
    return path in (*EXTRAS, PICTURE, OLD_PICTURE, SHIM) or path.startswith(OURS)


def _look(api: HfApi, repo: str, head: str, kind: Kind) -> list[str]:
    """Paths in a repo at a commit.

    Raises:
        ArtifactError: If it holds something else than an artifact of this kind.
    """
    there = api.list_repo_files(repo, revision=head)
    described = next((name for name in (CONFIG, PROFILE) if name in there), None)
    if described:
        path = fetch(repo, described, head, Access(token=api.token if isinstance(api.token, str) else None))
        try:
            found = kind_of(read_config(path), repo).name
        except ArtifactError:
            found = "something else"
        if found != kind.name:
            raise ArtifactError(f"{repo} holds a {found}, this is a {kind.name}; choose another repo.")
    elif any(not path.startswith(".git") and path != CARD for path in there):
        raise ArtifactError(f"{repo} holds something that is not an artifact of sgnas-zoo; choose another repo.")
    return list(there)


@contextmanager
def writing(repo: str, revision: str | None = None) -> Iterator[None]:
    """As ``one_line``, for writing; huggingface_hub's word that nothing changed is left to our own."""
    quiet = logging.getLogger("huggingface_hub.hf_api")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        with one_line(repo, revision), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Use 'content=", DeprecationWarning)  # huggingface_hub's own upload
            try:
                yield
            except OfflineModeIsEnabled:
                raise ArtifactError(f"Cannot push to {repo}: HF_HUB_OFFLINE is set; unset it.") from None
            except ZooError:
                raise
            except (RuntimeError, ValueError) as error:  # an upload that failed, or a card that the Hub refuses
                if isinstance(error.__cause__, HUB_FAILURES):
                    raise ArtifactError(explain(error.__cause__, repo, revision)) from None
                reason = TOKEN.sub("***", next(iter(str(error).splitlines()), ""))[:200].rstrip(".")
                raise ArtifactError(f"The Hub refuses this for {repo}: {reason}; fix this and push again.") from None
    finally:
        quiet.setLevel(level)
