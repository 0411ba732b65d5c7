"""What a local Hub holds and whom it lets in: git objects, repos, users, model cards. No network here.

Object ids are those git would compute, so clients that hash files themselves come to the same ones.
"""

import base64
import hashlib
import importlib.util
import re
import secrets
import time
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import PurePosixPath
from typing import Any, NamedTuple

LFS_PATTERNS = (  # the real Hub's for a new model repo
    "*.7z *.arrow *.bin *.bz2 *.ckpt *.ftz *.gz *.h5 *.joblib *.lfs.* *.mlmodel *.model *.msgpack *.npy *.npz *.onnx "
    "*.ot *.parquet *.pb *.pickle *.pkl *.pt *.pth *.rar *.safetensors saved_model/**/* *.tar.* *.tar *.tflite *.tgz "
    "*.wasm *.xz *.zip *.zst *tfevents*"
)
PICTURES = ("*.png", "*.jpg", "*.jpeg", "*.gif", "*.webp", "*.pdf")
SDKS = ("gradio", "docker", "static")
COLOURS = ("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray")  # of a Space's card
REGULAR_LIMIT = 10 * 2**20  # bytes; larger files go to LFS whatever they are called


class Refused(Exception):
    """An answer that is not a success: status, message, ``X-Error-Code`` and what else the body says."""

    def __init__(self, status: int, message: str, code: str | None = None, **more: Any) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.more = status, message, code, more
        self.headers: dict[str, str] = {}


class Blob(NamedTuple):
    """A file as git knows it; with a ``sha256`` git holds a pointer, and LFS the content."""

    content: bytes
    oid: str
    sha256: str | None
    pointer_size: int

    @property
    def etag(self) -> str:
        return self.sha256 or self.oid


class Commit(NamedTuple):
    oid: str
    files: Mapping[str, Blob]
    parents: tuple[str, ...]
    author: str
    title: str
    message: str
    time: int

    @property
    def date(self) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(self.time))

    def listed(self) -> dict[str, Any]:
        """The commit as the Hub lists it."""
        who = [{"user": self.author}]
        return {"id": self.oid, "authors": who, "date": self.date, "title": self.title, "message": self.message}


class Caller(NamedTuple):
    """Who asks, and whether their token is a ``write`` or a ``read`` one; nobody without a token."""

    name: str | None
    role: str = "none"


def git_oid(kind: str, data: bytes) -> str:
    return hashlib.sha1(f"{kind} {len(data)}\0".encode() + data).hexdigest()


def make_blob(content: bytes, lfs: bool) -> Blob:
    if not lfs:
        return Blob(content, git_oid("blob", content), None, 0)
    sha256 = hashlib.sha256(content).hexdigest()
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {len(content)}\n".encode()
    return Blob(content, git_oid("blob", pointer), sha256, len(pointer))


def tree_oids(files: Mapping[str, Blob], folder: str = "") -> dict[str, str]:
    """Git id of a folder and of each one below it; the root is ``""``."""
    prefix = f"{folder}/" if folder else ""
    below, entries = {}, {}
    for path in sorted(path for path in files if path.startswith(prefix)):
        name, _, rest = path.removeprefix(prefix).partition("/")
        if not rest:
            entries[name] = ("100644", files[path].oid)
        elif name not in entries:
            below |= tree_oids(files, prefix + name)
            entries[name] = ("40000", below[prefix + name])
    order = sorted(entries, key=lambda name: name + "/" * (entries[name][0] == "40000"))
    data = (f"{entries[name][0]} {name}\0".encode() + bytes.fromhex(entries[name][1]) for name in order)
    return {**below, folder: git_oid("tree", b"".join(data))}


class Repo:
    """A model repo, or a Space if its name begins with ``spaces/``: history, references, and LFS objects."""

    def __init__(self, name: str, private: bool = False, gated: str | bool = False) -> None:
        self.name, self.private, self.gated = name, private, gated
        self.is_space = name.startswith("spaces/")
        self.owner = name.removeprefix("spaces/").partition("/")[0]
        self.allowed: set[str] = set()  # who may read it beside its owner, be it private or gated
        self.commits: dict[str, Commit] = {}
        self.refs: dict[str, str] = {}
        self.opened_by: dict[str, str] = {}  # pull request reference -> who opened it
        self.objects: dict[str, bytes] = {}
        attributes = "".join(f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in LFS_PATTERNS.split())
        files = {".gitattributes": make_blob(attributes.encode(), False)}
        if self.is_space:
            files["README.md"] = make_blob(b"---\ntitle: New\nsdk: gradio\napp_file: app.py\n---\n", False)
        self.add_commit("refs/heads/main", files, "initial commit")

    def ref(self, revision: str) -> str | None:
        """Full name of a branch, tag or pull request, None if there is none so called."""
        names = (revision, f"refs/heads/{revision}", f"refs/tags/{revision}")
        return next((name for name in names if name in self.refs), None)

    def find(self, revision: str) -> Commit:
        ref = self.ref(revision)
        if ref:
            return self.commits[self.refs[ref]]
        found = [oid for oid in self.commits if oid.startswith(revision)] if len(revision) >= 5 else []
        if len(found) != 1:
            raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return self.commits[found[0]]

    def history(self, revision: str) -> list[Commit]:
        """The commits of a revision, newest first."""
        commits = [self.find(revision)]
        while commits[-1].parents:
            commits.append(self.commits[commits[-1].parents[0]])
        return commits

    def add_commit(
        self, ref: str, files: Mapping[str, Blob], title: str, message: str = "", author: str | None = None
    ) -> Commit:
        """Move a reference on to a new commit of exactly these files."""
        parents = (self.refs[ref],) if ref in self.refs else ()
        author, now = author or self.owner, int(time.time())
        signature = f"{author} <{author}@users.noreply.huggingface.co> {now} +0000"
        lines = [f"tree {tree_oids(files)['']}", *(f"parent {oid}" for oid in parents), f"author {signature}"]
        text = "\n".join([*lines, f"committer {signature}", "", title, *(["", message] if message else [])]) + "\n"
        commit = Commit(git_oid("commit", text.encode()), dict(files), parents, author, title, message, now)
        self.commits[commit.oid] = commit
        self.refs[ref] = commit.oid
        self.objects |= {blob.sha256: blob.content for blob in files.values() if blob.sha256}
        return commit

    def open_pull_request(self, start: Commit, author: str) -> str:
        ref = f"refs/pr/{len(self.opened_by) + 1}"
        self.refs[ref], self.opened_by[ref] = start.oid, author
        return ref

    def wants_lfs(self, path: str, size: int, sample: bytes, commit: Commit) -> bool:
        """Whether a file of a commit goes to LFS: by its ``.gitattributes``, its size, or because it is binary."""
        attributes = commit.files.get(".gitattributes")
        lines = attributes.content.decode().splitlines() if attributes else []
        patterns = [line.split()[0] for line in lines if "filter=lfs" in line]
        names = (path, PurePosixPath(path).name)
        by_name = any(fnmatch(name, pattern) for name in names for pattern in (*patterns, *PICTURES))
        return size > 0 and (by_name or size > REGULAR_LIMIT or b"\0" in sample)

    def entries(self, commit: Commit, folder: str = "", recursive: bool = False) -> list[dict[str, Any]]:
        """Files and folders of a folder as the tree listing shows them."""
        prefix = f"{folder}/" if folder else ""
        paths = [path for path in commit.files if path.startswith(prefix)]
        if folder and not paths:
            raise Refused(404, f'"{folder}" does not exist on "{commit.oid}"', "EntryNotFound")
        folders = tree_oids(commit.files)
        inside = {str(parent) for path in paths for parent in PurePosixPath(path).parents} & set(folders)
        shown = [path for path in {*paths, *inside} if path.startswith(prefix)]
        shown = [path for path in shown if recursive or "/" not in path.removeprefix(prefix)]
        return [file_entry(path, commit.files.get(path), folders.get(path)) for path in sorted(shown)]

    def info(self, commit: Commit, blobs: bool = False) -> dict[str, Any]:
        """What the Hub tells of the repo, with the sizes and ids of its files if asked for."""
        card = commit.files.get("README.md")
        metadata = (card_metadata(card.content.decode(errors="replace"))[0] if card else None) or {}
        siblings = [{"rfilename": path} for path in sorted(commit.files)]
        if blobs:
            files = [entry for entry in self.entries(commit, recursive=True) if entry["type"] == "file"]
            siblings = [{"rfilename": file["path"], "size": file["size"], "blobId": file["oid"]} for file in files]
        return {
            "_id": git_oid("repo", self.name.encode())[:24],
            "id": self.name.removeprefix("spaces/"),
            "modelId": self.name.removeprefix("spaces/"),
            "author": self.owner,
            "sha": commit.oid,
            "lastModified": commit.date,
            "private": self.private,
            "gated": self.gated,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": metadata.get("tags", []),
            "library_name": metadata.get("library_name"),
            "pipeline_tag": metadata.get("pipeline_tag"),
            "cardData": metadata,
            "siblings": siblings,
        }

    def changed(self, files: Mapping[str, Blob], operations: list[dict[str, Any]]) -> dict[str, Blob]:
        """The files after the operations of a commit, as the lines of its NDJSON give them.

        Raises:
            Refused: If a path is bad, what is to be deleted does not exist, an LFS object was never uploaded, or the
                model card has front matter that cannot be read.
        """
        files = dict(files)
        for operation in operations:
            key, value = operation["key"], operation["value"]
            path = value["path"].rstrip("/")
            if not path or path.startswith("/") or {"", ".", "..", ".git"} & set(path.split("/")):
                raise Refused(400, f"Invalid path in repo: {path!r}")
            if key == "file":
                files[path] = make_blob(base64.b64decode(value["content"]), False)
            elif key == "lfsFile":
                if value["oid"] not in self.objects:
                    raise Refused(400, "Your push was rejected because an LFS pointer pointed to a missing file.")
                files[path] = make_blob(self.objects[value["oid"]], True)
            elif key in ("deletedFile", "deletedFolder"):
                gone = [name for name in files if name == path or (key[7:] == "Folder" and name.startswith(path + "/"))]
                if not gone:
                    raise Refused(404, "A file with this name doesn't exist", "EntryNotFound")
                files = {name: blob for name, blob in files.items() if name not in gone}
            else:
                raise Refused(400, f"Unknown operation: {key}")
        card = files["README.md"].content.decode(errors="replace") if "README.md" in files else ""
        metadata, mistakes = card_metadata(card)
        mistakes = mistakes or (space_errors(metadata or {}) if self.is_space else [])
        if mistakes:
            raise Refused(400, f"Invalid metadata in README.md: {mistakes[0]}")
        return files


def file_entry(path: str, blob: Blob | None, folder: str | None) -> dict[str, Any]:
    if blob is None:
        return {"type": "directory", "oid": folder, "size": 0, "path": path}
    lfs = {"lfs": {"oid": blob.sha256, "size": len(blob.content), "pointerSize": blob.pointer_size}}
    return {"type": "file", "oid": blob.oid, "size": len(blob.content), "path": path, **(lfs if blob.sha256 else {})}


class Store:
    """Users, tokens and repos, and the rules of who may do what."""

    def __init__(self) -> None:
        self.users: dict[str, tuple[str, ...]] = {}  # name -> organisations
        self.tokens: dict[str, Caller] = {}
        self.repos: dict[str, Repo] = {}

    def add_token(self, user: str, role: str) -> str:
        token = f"hf_{secrets.token_hex(17)}"
        self.tokens[token] = Caller(user, role)
        return token

    def caller(self, authorization: str | None) -> Caller:
        if authorization is None:
            return Caller(None)
        token = authorization.removeprefix("Bearer ")
        if token not in self.tokens:
            raise Refused(401, "Invalid credentials in Authorization header")
        return self.tokens[token]

    def owns(self, caller: Caller, namespace: str) -> bool:
        return caller.name is not None and namespace in (caller.name, *self.users[caller.name])

    def readable(self, caller: Caller, name: str) -> Repo:
        """The repo, if there is one that this caller may know of."""
        repo = self.repos.get(name)
        if repo and (not repo.private or self.owns(caller, repo.owner) or caller.name in repo.allowed):
            return repo
        if caller.name is None:  # the Hub does not tell strangers a missing repo from a private one
            raise Refused(401, "Invalid username or password.", "RepoNotFound")
        raise Refused(404, "Repository not found", "RepoNotFound")

    def past_gate(self, caller: Caller, repo: Repo) -> None:
        """Let only those in who were granted access, if the repo is gated."""
        if not repo.gated or self.owns(caller, repo.owner) or caller.name in repo.allowed:
            return
        restricted = f"Access to model {repo.name} is restricted"
        if caller.name is None:
            raise Refused(401, f"{restricted}. You must be authenticated to access it.", "GatedRepo")
        raise Refused(403, f"{restricted} and you are not in the authorized list.", "GatedRepo")

    def writable(self, caller: Caller, name: str, ref: str | None = None, pull_request: bool = False) -> Repo:
        """The repo, if this caller may write to it, to this reference of it, or open a pull request."""
        repo = self.readable(caller, name)
        if caller.name is None:
            raise Refused(401, "Invalid username or password.")
        if caller.role != "write":
            raise Refused(403, "Forbidden: you must use a write token to upload to a repository.")
        mine = repo.opened_by.get(repo.ref(ref) or "") == caller.name if ref else False
        if not (self.owns(caller, repo.owner) or mine or pull_request):
            raise Refused(403, "Forbidden: pass `create_pr=1` as a query parameter to create a Pull Request")
        return repo

    def create(self, caller: Caller, namespace: str, name: str, private: bool, kind: str = "model") -> Repo:
        if caller.name is None:
            raise Refused(401, "Invalid username or password.")
        if caller.role != "write" or not self.owns(caller, namespace):
            message = f'You don\'t have the rights to create a {kind} under the namespace "{namespace}"'
            raise Refused(403, message)
        if not re.fullmatch(r"[\w.-]{1,96}", name) or re.search(r"--|\.\.|^[.-]|[.-]$|\.git$", name):
            raise Refused(400, f"Invalid repo name: {name}")
        full = f"{'spaces/' * (kind == 'space')}{namespace}/{name}"
        if full in self.repos:
            raise Refused(409, f"You already created this {kind} repo")
        self.repos[full] = Repo(full, private)
        return self.repos[full]


def card_metadata(text: str) -> tuple[dict[str, Any] | None, list[str]]:
    """Front matter of a model card (None if there is none) and what is wrong with it; little of it without PyYAML."""
    lines = text.lstrip().splitlines()
    if not lines or lines[0].rstrip() != "---":
        return None, []
    end = next((at for at, line in enumerate(lines[1:], 1) if line.rstrip() == "---"), None)
    if end is None:
        return None, ["the front matter has no end: a line of --- is missing"]
    indented_by_tab = [at for at, line in enumerate(lines[1:end], 2) if re.match(r"\s*\t", line)]
    if indented_by_tab:
        return None, [f"line {indented_by_tab[0]}: tabs must not be used for indentation"]
    if importlib.util.find_spec("yaml") is None:
        odd = [line for line in lines[1:end] if not re.match(r"\s*(#|$|- |[\w.-]+:(\s|$))|\s+\S", line)]
        plain = (re.fullmatch(r"([\w-]+): *([\w.-]+)", line) for line in lines[1:end])
        return dict(match.groups() for match in plain if match), [f"not a key and a value: {line}" for line in odd]
    return _parsed("\n".join(lines[1:end]))


def space_errors(metadata: Mapping[str, Any]) -> list[str]:
    """The mistakes that the real Hub looks for in the card of a Space."""
    errors = [] if metadata.get("sdk") in SDKS else [f'"sdk" must be one of {SDKS}']
    errors += [
        f'"{key}" must be one of {COLOURS}'
        for key in ("colorFrom", "colorTo")
        if metadata.get(key, "red") not in COLOURS
    ]
    too_long = len(metadata.get("short_description", "")) > 60
    return errors + ['"short_description" must have at most 60 characters'] * too_long


def _parsed(front_matter: str) -> tuple[dict[str, Any] | None, list[str]]:
    import yaml

    try:
        metadata = yaml.safe_load(front_matter)
    except yaml.YAMLError as error:
        return None, [" ".join(str(error).split())]
    if metadata is None:
        return None, []
    if not isinstance(metadata, dict):
        return None, ["the metadata must be an object"]
    return metadata, _card_errors(metadata)


def _card_errors(metadata: dict[str, Any]) -> list[str]:
    """The mistakes that the real Hub looks for in the fields that this library writes."""
    errors = [
        f'"{key}" must be a string'
        for key in ("library_name", "pipeline_tag", "license_name")
        if not isinstance(metadata.get(key, ""), str)
    ]
    tags = metadata.get("tags", [])
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        errors.append('"tags" must be an array of strings')
    models = metadata.get("model-index", [])
    if not isinstance(models, list):
        return [*errors, '"model-index" must be an array']
    for number, model in enumerate(models):
        errors += [f'"model-index[{number}].{error}' for error in _index_errors(model)]
    return errors


def _index_errors(model: Any) -> list[str]:
    if not isinstance(model, dict) or not model.get("name"):
        return ['name" is required']
    if not isinstance(model.get("results"), list):
        return ['results" must be an array']
    errors = []
    for at, result in enumerate(model["results"]):
        wanted = [("task", "type"), ("dataset", "type"), ("dataset", "name")]
        errors += [f'results[{at}].{a}.{b}" is required' for a, b in wanted if not (result.get(a) or {}).get(b)]
        for where, metric in enumerate(result.get("metrics") or [{}]):
            errors += [
                f'results[{at}].metrics[{where}].{key}" is required' for key in ("type", "value") if key not in metric
            ]
    return errors
