"""Publishing a page: a Space of the Hub, its files in one commit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants

from sgnas_zoo.errors import ArtifactError
from sgnas_zoo.hub.push import Pushed, writing
from sgnas_zoo.hub.remote import repo_id

APP = "app.py"
MADE_BY_HUB = {".gitattributes", "README.md"}
"""What a Space has before anybody has put something there."""


def push_page(
    files: Mapping[str, bytes], repo: str, mark: str, *, private: bool | None = None, token: str | None = None
) -> Pushed:
    """Publish the files of a page that gradio serves as one commit on a Space, which is made if there is none.

    Args:
        files: Content by path; ``app.py`` among them.
        repo: ``USER/NAME``.
        mark: Text in ``app.py`` by which an earlier page of this kind is known, and may be replaced as a whole.
        private: Visibility of a Space that is made; by default the account's.
        token: Hub token; the stored one if left out.

    Raises:
        ArtifactError: If the Space holds something else, or the Hub refuses. The Space then is as it was.
    """
    repo_id(repo)
    api = HfApi(token=token)
    with writing(repo):
        api.create_repo(repo, repo_type="space", space_sdk="gradio", private=private, exist_ok=True)
        head = api.repo_info(repo, repo_type="space").sha
        there = _look(api, repo, str(head), mark)
        adding = [CommitOperationAdd(path, content) for path, content in files.items()]
        stale = [CommitOperationDelete(path) for path in sorted(there - {*files, *MADE_BY_HUB})]
        done = api.create_commit(
            repo, [*adding, *stale], repo_type="space", commit_message="Upload page with sgnas_zoo", parent_commit=head
        )
    changed = done.oid != head
    return Pushed(f"{constants.ENDPOINT}/spaces/{repo}", done.oid, changed)


def _look(api: HfApi, repo: str, head: str, mark: str) -> set[str]:
    """Paths in a Space at a commit.

    Raises:
        ArtifactError: If it holds something that is not such a page.
    """
    there = set(api.list_repo_files(repo, repo_type="space", revision=head))
    is_ours = not there - MADE_BY_HUB
    if APP in there:
        path = api.hf_hub_download(repo, APP, repo_type="space", revision=head)
        is_ours = mark in Path(path).read_text(encoding="utf-8", errors="replace")
    if not is_ours:
        raise ArtifactError(f"The Space {repo} holds something else than this page; choose another name.")
    return there
