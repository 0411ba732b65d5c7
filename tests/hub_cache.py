"""A Hub cache made by hand, as huggingface_hub lays it out: repos are then read offline, in this process."""

import hashlib
from pathlib import Path


def digest(content, large):
    """How the cache names a file: SHA-256 of what came over LFS, git's digest of others."""
    if large:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def keep(cache, repo, folder, *revisions):
    """Put the files of a folder into the cache as a commit of a repo that these revisions name; give the commit."""
    root = cache / f"models--{repo.replace('/', '--')}"
    commit = hashlib.sha1(f"{repo}{revisions}".encode()).hexdigest()
    for file in (path for path in Path(folder).iterdir() if path.is_file()):
        content = file.read_bytes()
        blob = root / "blobs" / digest(content, file.suffix in (".safetensors", ".png"))
        link = root / "snapshots" / commit / file.name
        for path in (blob, link):
            path.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(content)
        link.symlink_to(blob)
    (root / "refs").mkdir(exist_ok=True)
    for revision in revisions:
        (root / "refs" / revision).write_text(commit)
    return commit
