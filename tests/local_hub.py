"""A local Hugging Face Hub for tests: real HTTP on 127.0.0.1 for real clients, which find it by ``HF_ENDPOINT``.

The API answers at ``http://127.0.0.1:PORT`` and large files at ``http://localhost:PORT``: another origin, as with the
real Hub, to which clients must not send their token. Xet is not spoken, so clients need ``HF_HUB_DISABLE_XET=1``.

    with LocalHub() as hub:
        token = hub.add_user("me")
        subprocess.run(command, env=hub.environment(tmp_path, token))
        assert hub.files("me/model")["config.json"] == b"{}"

To try things by hand: ``python tests/local_hub.py --port 8123 --user me``. Other processes set faults by
``POST /_control/METHOD`` with the arguments as JSON, METHOD being one of ``CONTROLS``, and read ``GET /_control/log``
and ``GET /_control/uploads``.

From top to bottom: faults, the hub as tests hold it, connections, then one short function per route, which is what
makes the file long. What needs no network is in ``local_hub_store.py``.
"""

import argparse
import base64
import hashlib
import hmac
import importlib.util
import json
import os
import re
import secrets
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit


def _sibling(name: str) -> Any:
    """A module beside this one; tests are not a package, and do not lie on ``sys.path``."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


store = _sibling("local_hub_store")
Refused = store.Refused
CONTROLS = (
    "fail_next cut truncate corrupt delay lose_answer conflict_before_commit clear_faults "
    "add_user add_token create commit grant forget"
)


@dataclass
class Request:
    """A request as it came, and the status of the answer (0 until there is one)."""

    method: str
    path: str  # unquoted, without query
    query: dict[str, str]
    headers: dict[str, str]  # names in lower case
    body: bytes
    status: int = 0

    @property
    def authorization(self) -> str | None:
        return self.headers.get("authorization")

    @property
    def json(self) -> Any:
        return json.loads(self.body or b"{}")


class Reply(NamedTuple):
    status: int
    body: bytes
    headers: dict[str, str]
    is_file: bool = False


def reply_json(data: Any = None, status: int = 200, **headers: str) -> Reply:
    headers = {"Content-Type": "application/json; charset=utf-8", **headers}
    return Reply(status, json.dumps(data).encode(), headers)


@dataclass
class Fault:
    kind: str
    pattern: str
    times: int | None  # None: until the faults are cleared
    method: str
    value: Any


class Faults:
    """What goes wrong when a path (unquoted, without query) matches, ``times`` times or, if None, until cleared.

    Large files are fetched from ``/_lfs/REPO/SHA256/NAME`` and put to ``/_lfs/REPO/SHA256/upload``.
    """

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._guard = threading.Lock()

    def fail_next(
        self, method: str, path_regex: str, status: int, times: int | None = 1, headers: Mapping[str, str] | None = None
    ) -> None:
        """Answer with an error; ``method`` may be ``*``, and ``headers`` hold ``X-Error-Code`` or ``Retry-After``."""
        self._add("fail", path_regex, times, (status, dict(headers or {})), method)

    def lose_answer(self, method: str, path_regex: str, times: int | None = 1) -> None:
        """Do what is asked, then hang up without a word."""
        self._add("lose", path_regex, times, True, method)

    def cut(self, path_regex: str, after_bytes: int, times: int | None = 1) -> None:
        """Hang up so many bytes into the content of a file."""
        self._add("cut", path_regex, times, after_bytes)

    def truncate(self, path_regex: str, size: int, times: int | None = None, announced: bool = True) -> None:
        """Serve the first bytes of a file only; if announced, HEAD names that size too, and clients see nothing odd."""
        self._add("truncate", path_regex, times, (size, announced))

    def corrupt(self, path_regex: str, times: int | None = None, at: int = -1) -> None:
        """Serve a file with the bits of one byte flipped."""
        self._add("corrupt", path_regex, times, at)

    def delay(self, path_regex: str, seconds: float, times: int | None = None) -> None:
        """Answer late."""
        self._add("delay", path_regex, times, seconds)

    def conflict_before_commit(self, repo: str, files: Mapping[str, str] | None = None, times: int | None = 1) -> None:
        """Let the owner commit these files just before the next commit that arrives."""
        self._add("conflict", f"^{re.escape(repo)}$", times, dict(files or {"conflict.txt": "somebody was faster"}))

    def clear_faults(self) -> None:
        with self._guard:
            self._faults.clear()

    def _add(self, kind: str, pattern: str, times: int | None, value: Any, method: str = "*") -> None:
        re.compile(pattern)
        with self._guard:
            self._faults.append(Fault(kind, pattern, times, method, value))

    def take(self, kind: str, path: str, method: str = "*", spend: bool = True) -> Any:
        """Value of the first fault of this kind that fits, None if none does."""
        with self._guard:
            for fault in self._faults:
                fits = fault.kind == kind and fault.method in ("*", method) and fault.times != 0
                if fits and re.search(fault.pattern, path):
                    fault.times = fault.times - 1 if fault.times and spend else fault.times
                    return fault.value
        return None


class LocalHub(Faults):
    """The server and what it holds. Stopping keeps repos, users and faults; starting again keeps the port.

    Args:
        port: Port of 127.0.0.1, by default any free one.
        page_size: Entries per page of a tree listing.
    """

    def __init__(self, port: int = 0, page_size: int = 1000) -> None:
        super().__init__()
        self.port, self.page_size = port, page_size
        self.store = store.Store()
        self.repos: dict[str, Any] = self.store.repos
        self.log: list[Request] = []
        self.uploads: list[str] = []  # sha256 of each LFS object that was PUT, in order
        self.errors: list[str] = []  # tracebacks of mistakes of this module
        self.lock = threading.RLock()
        self.stopping = threading.Event()
        self._secret = secrets.token_bytes(16)
        self._server: Server | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def storage(self) -> str:
        """Origin of large files."""
        return f"http://localhost:{self.port}"

    def start(self) -> None:
        if self._server is None:
            self.stopping.clear()
            self._server = Server(self)
            self.port = self._server.server_address[1]
            threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Hang up on everybody and answer nobody."""
        if self._server is not None:
            self.stopping.set()
            self._server.shutdown()
            self._server.server_close()
            self._server.hang_up()
            self._server = None

    def __enter__(self) -> "LocalHub":
        self.start()
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        self.stop()
        if self.errors and kind is None:
            raise AssertionError(self.errors[0])

    def add_user(self, name: str, *orgs: str) -> str:
        """Write token of a new user, who may also write to these organisations."""
        self.store.users[name] = orgs
        return self.store.add_token(name, "write")

    def add_token(self, name: str, role: str = "read") -> str:
        """One more token of a user, by default one that cannot write."""
        return self.store.add_token(name, role)

    def create(
        self, repo: str, files: Mapping[str, bytes | str] | None = None, private: bool = False, gated: bool = False
    ) -> Any:
        """A new repo with one commit of these files, past all rules."""
        with self.lock:
            self.repos[repo] = store.Repo(repo, private, "auto" if gated else False)
        if files:
            self.commit(repo, files)
        return self.repos[repo]

    def commit(
        self, repo: str, files: Mapping[str, bytes | str | None], message: str = "commit", revision: str = "main"
    ) -> str:
        """Id of a new commit by the owner that adds or changes these files; None deletes."""
        with self.lock:
            found = self.repos[repo]
            head = found.find(revision)
            contents = dict(head.files)
            for path, content in files.items():
                data = content.encode() if isinstance(content, str) else content
                contents.pop(path, None)
                if data is not None:
                    contents[path] = store.make_blob(data, found.wants_lfs(path, len(data), data[:512], head))
            return found.add_commit(found.ref(revision), contents, message).oid

    def grant(self, repo: str, user: str) -> None:
        """Let a user read a private or gated repo."""
        self.repos[repo].allowed.add(user)

    def files(self, repo: str, revision: str = "main") -> dict[str, bytes]:
        return {path: blob.content for path, blob in self.repos[repo].find(revision).files.items()}

    def commits(self, repo: str, revision: str = "main") -> list[Any]:
        """History, newest first."""
        return self.repos[repo].history(revision)

    def requests(self, method: str = "*", path_regex: str = "") -> list[Request]:
        """The logged requests that fit, in order of arrival."""
        fits = [request for request in self.log if method in ("*", request.method)]
        return [request for request in fits if re.search(path_regex, request.path)]

    def forget(self) -> None:
        """Empty the log and the list of uploads."""
        self.log.clear()
        self.uploads.clear()

    def environment(self, home: str | Path, token: str | None = None) -> dict[str, str]:
        """A full copy of ``os.environ`` for a fresh process that is to use this Hub, and a cache of its own.

        What it had to say about the Hub, offline modes and proxies is left out, ``HF_HUB_OFFLINE`` included.
        """
        strangers = re.compile(r"HF_|HUGGING_?FACE|TRANSFORMERS_(OFFLINE|CACHE)$|(ALL|HTTPS?|NO)_PROXY$", re.IGNORECASE)
        kept = {name: value for name, value in os.environ.items() if not strangers.match(name)}
        switches = {f"HF_HUB_DISABLE_{name}": "1" for name in ("XET", "PROGRESS_BARS", "TELEMETRY")}
        login = {"HF_TOKEN": token} if token else {}
        return {**kept, **switches, **login, "HF_ENDPOINT": self.endpoint, "HF_HOME": str(home)}

    def sign(self, method: str, path: str) -> str:
        """URL of the storage that is good for one method and path, whoever asks."""
        return f"{self.storage}{quote(path)}?{urlencode({'X-Signature': self.signature(method, path)})}"

    def signature(self, method: str, path: str) -> str:
        return hmac.new(self._secret, f"{method} {path}".encode(), hashlib.sha256).hexdigest()


class Server(ThreadingHTTPServer):
    """Remembers its connections, so that it can close those that clients keep alive."""

    daemon_threads = True

    def __init__(self, hub: LocalHub) -> None:
        self.hub = hub
        self.connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", hub.port), Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        for connection in list(self.connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # the client was faster

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], (OSError, ValueError)):  # no client that left, no socket that was closed
            self.hub.errors.append(traceback.format_exc())


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet, or each answer would wait for the client's delayed acknowledgement
    disable_nagle_algorithm = True
    server: Server

    def log_message(self, *_: object) -> None:
        """Silence."""

    def answer(self) -> None:
        hub, url = self.server.hub, urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query, keep_blank_values=True).items()}
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, unquote(url.path), query, headers, self._body())
        if request.path.startswith("/_control/"):
            return self._send(control(hub, request))
        hub.log.append(request)
        hub.stopping.wait(hub.take("delay", request.path, self.command) or 0)
        reply = respond(hub, request, url.path)
        request.status = reply.status
        if hub.take("lose", request.path, self.command):
            return self._hang_up()
        cut = hub.take("cut", request.path) if reply.is_file and self.command == "GET" else None
        self._send(reply, cut)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer  # http.server's names

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _send(self, reply: Reply, cut: int | None = None) -> None:
        self.send_response(reply.status)
        for name, value in {**reply.headers, "Content-Length": str(len(reply.body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body[:cut])
        if cut is not None:
            self._hang_up()

    def _hang_up(self) -> None:
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_WR)


def control(hub: LocalHub, request: Request) -> Reply:
    """What other processes ask of the Hub itself."""
    name = request.path.removeprefix("/_control/")
    if request.method == "GET" and name in ("uploads", "errors"):
        return reply_json(getattr(hub, name))
    if request.method == "GET" and name == "log":
        shown = ("method", "path", "query", "authorization", "status")
        return reply_json([{key: getattr(entry, key) for key in shown} for entry in hub.log])
    if request.method == "POST" and name in CONTROLS.split():
        try:
            result = getattr(hub, name)(**request.json)
        except (TypeError, ValueError, LookupError, re.error, Refused) as error:
            return reply_json({"error": repr(error)}, 400)
        return reply_json(result if isinstance(result, str) else None)
    return reply_json({"error": f"no such control: {request.method} {name}"}, 404)


def respond(hub: LocalHub, request: Request, raw_path: str) -> Reply:
    """Answer of the Hub to a request, be it a fault, a refusal or a success."""
    failure = hub.take("fail", request.path, request.method)
    if failure:
        return reply_json({"error": "made to fail"}, failure[0], **failure[1])
    try:
        with hub.lock:
            return route(hub, request, raw_path)
    except Refused as no:
        code = {"X-Error-Code": no.code} if no.code else {}
        headers = {"X-Error-Message": no.message.encode("ascii", "replace").decode(), **code, **no.headers}
        return reply_json({"error": no.message, **no.more}, no.status, **headers)
    except Exception:
        hub.errors.append(traceback.format_exc())
        return reply_json({"error": "the local hub made a mistake, see its errors"}, 500)


ROUTES: list[tuple[str, re.Pattern[str], Callable[..., Reply]]] = []


def on(method: str, path: str) -> Callable[[Callable[..., Reply]], Callable[..., Reply]]:
    """Make a function the one that answers a path; what stands in braces becomes its arguments, unquoted."""
    space = "" if "{kind}" in path else "(?:spaces/)?"
    named = {"kind": "models|spaces", "repo": f"{space}[^/]+/[^/]+", "rev": r"refs/pr/\d+|[^/]+", "path": ".+",
             "name": "[^/]+"}  # fmt: skip
    pattern = path
    for name, text in named.items():
        pattern = pattern.replace(f"{{{name}}}", f"(?P<{name}>{text})")

    def register(function: Callable[..., Reply]) -> Callable[..., Reply]:
        ROUTES.append((method, re.compile(pattern), function))
        return function

    return register


def route(hub: LocalHub, request: Request, raw_path: str) -> Reply:
    method = "GET" if request.method == "HEAD" else request.method
    for wanted, pattern, function in ROUTES:
        match = pattern.fullmatch(raw_path) if wanted == method else None
        if match:
            groups = {key: unquote(value) for key, value in match.groupdict().items() if value is not None}
            if groups.pop("kind", "models") == "spaces":
                groups["repo"] = f"spaces/{groups['repo']}"
            caller = hub.store.caller(request.authorization) if "/_lfs/" not in raw_path else None
            return function(hub, request, caller, **groups)
    named = re.match(r"/api/(?:models|spaces)/([^/]+(?:/[^/]+)?)|/([^/]+(?:/[^/]+)?)/resolve/", raw_path)
    if named:  # a repo that does not exist is worse than a route that does not
        hub.store.readable(hub.store.caller(request.authorization), unquote(named[1] or named[2]))
    raise Refused(404, "Sorry, we can't find the page you are looking for.")


@on("GET", "/api/whoami-v2")
def whoami(hub: LocalHub, request: Request, caller: Any) -> Reply:
    if caller.name is None:
        raise Refused(401, "Invalid username or password.")
    orgs = [{"type": "org", "name": org, "roleInOrg": "write"} for org in hub.store.users[caller.name]]
    auth = {"type": "access_token", "accessToken": {"displayName": "local", "role": caller.role}}
    return reply_json({"type": "user", "name": caller.name, "fullname": caller.name, "orgs": orgs, "auth": auth})


@on("GET", "/api/agent-harnesses")
def agent_harnesses(hub: LocalHub, request: Request, caller: Any) -> Reply:
    """Asked by clients that print in colour, once a day per cache."""
    return reply_json({"standardEnvVars": [], "harnesses": {}})


@on("POST", "/api/repos/create")
def create_repo(hub: LocalHub, request: Request, caller: Any) -> Reply:
    wanted = request.json
    namespace = wanted.get("organization") or caller.name
    kind = wanted.get("type") or "model"
    url = f"{hub.endpoint}/{'spaces/' * (kind == 'space')}{namespace}/{wanted['name']}"
    if kind == "space" and wanted.get("sdk") not in store.SDKS:
        raise Refused(400, '"sdk" must be one of [gradio, docker, static]')
    try:
        repo = hub.store.create(caller, namespace, wanted["name"], wanted.get("visibility") == "private", kind)
    except Refused as no:
        no.more = {"url": url} if no.status == 409 else {}
        raise
    return reply_json({"url": url, "name": repo.name})


@on("DELETE", "/api/repos/delete")
def delete_repo(hub: LocalHub, request: Request, caller: Any) -> Reply:
    wanted = request.json
    repo = hub.store.writable(caller, f"{wanted.get('organization') or caller.name}/{wanted['name']}")
    del hub.repos[repo.name]
    return reply_json("OK")


@on("POST", "/api/validate-yaml")
def validate_yaml(hub: LocalHub, request: Request, caller: Any) -> Reply:
    metadata, mistakes = store.card_metadata(request.json["content"])
    if request.json.get("repoType") == "space":
        mistakes += store.space_errors(metadata or {})
    errors = [{"message": mistake} for mistake in mistakes]
    empty = [{"message": "empty or missing yaml metadata in repo card"}] if not metadata and not errors else []
    return reply_json({"errors": errors, "warnings": empty}, 400 if errors else 200)


@on("GET", "/api/{kind}/{repo}")
@on("GET", "/api/{kind}/{repo}/revision/{rev}")
def model_info(hub: LocalHub, request: Request, caller: Any, repo: str, rev: str = "main") -> Reply:
    found = hub.store.readable(caller, repo)
    return reply_json(found.info(found.find(rev), "blobs" in request.query))


@on("GET", "/api/{kind}/{repo}/tree/{rev}")
@on("GET", "/api/{kind}/{repo}/tree/{rev}/{path}")
def list_tree(hub: LocalHub, request: Request, caller: Any, repo: str, rev: str, path: str = "") -> Reply:
    found = hub.store.readable(caller, repo)
    entries = found.entries(found.find(rev), path, request.query.get("recursive", "").lower() == "true")
    size, start = int(request.query.get("limit", hub.page_size)), int(request.query.get("cursor", 0))
    query = urlencode({**request.query, "cursor": str(start + size)})
    more = {"Link": f'<{hub.endpoint}{quote(request.path)}?{query}>; rel="next"'} if start + size < len(entries) else {}
    return reply_json(entries[start : start + size], 200, **more)


@on("POST", "/api/{kind}/{repo}/paths-info/{rev}")
def paths_info(hub: LocalHub, request: Request, caller: Any, repo: str, rev: str) -> Reply:
    found = hub.store.readable(caller, repo)
    paths = parse_qs(request.body.decode()).get("paths", [])
    return reply_json([entry for entry in found.entries(found.find(rev), "", True) if entry["path"] in paths])


@on("GET", "/api/{kind}/{repo}/commits/{rev}")
def list_commits(hub: LocalHub, request: Request, caller: Any, repo: str, rev: str) -> Reply:
    return reply_json([commit.listed() for commit in hub.store.readable(caller, repo).history(rev)])


@on("GET", "/api/{kind}/{repo}/refs")
def list_refs(hub: LocalHub, request: Request, caller: Any, repo: str) -> Reply:
    refs = hub.store.readable(caller, repo).refs
    kinds = {"branches": "refs/heads/", "tags": "refs/tags/", "pullRequests": "refs/pr/"}
    listed = {
        kind: [
            {"name": ref if kind == "pullRequests" else ref.removeprefix(prefix), "ref": ref, "targetCommit": oid}
            for ref, oid in refs.items()
            if ref.startswith(prefix)
        ]
        for kind, prefix in kinds.items()
        if kind != "pullRequests" or "include_prs" in request.query
    }
    return reply_json({**listed, "converts": []})


@on("POST", "/api/{kind}/{repo}/branch/{name}")
def create_branch(hub: LocalHub, request: Request, caller: Any, repo: str, name: str) -> Reply:
    found = hub.store.writable(caller, repo)
    return _new_ref(found, "heads", name, request.json.get("startingPoint", "main"))


@on("POST", "/api/{kind}/{repo}/tag/{rev}")
def create_tag(hub: LocalHub, request: Request, caller: Any, repo: str, rev: str) -> Reply:
    found = hub.store.writable(caller, repo)
    return _new_ref(found, "tags", request.json["tag"], rev)


def _new_ref(repo: Any, kind: str, name: str, start: str) -> Reply:
    if name.startswith("refs/") or not re.fullmatch(r"[\w./-]+", name):
        raise Refused(400, f"Invalid reference name: {name}")
    commit = repo.find(start)
    if f"refs/{kind}/{name}" in repo.refs:
        raise Refused(409, f"Reference refs/{kind}/{name} already exists")
    repo.refs[f"refs/{kind}/{name}"] = commit.oid
    return reply_json({"ref": f"refs/{kind}/{name}"})


@on("DELETE", "/api/{kind}/{repo}/(?P<reference>branch|tag)/{name}")
def delete_ref(hub: LocalHub, request: Request, caller: Any, repo: str, reference: str, name: str) -> Reply:
    found = hub.store.writable(caller, repo)
    ref = f"refs/{'heads' if reference == 'branch' else 'tags'}/{name}"
    if ref == "refs/heads/main":
        raise Refused(403, "The main branch cannot be deleted")
    if found.refs.pop(ref, None) is None:
        raise Refused(404, f"Invalid rev id: {name}", "RevisionNotFound")
    return reply_json({})


@on("PUT", "/api/{kind}/{repo}/settings")
def change_settings(hub: LocalHub, request: Request, caller: Any, repo: str) -> Reply:
    found = hub.store.writable(caller, repo)
    found.gated = request.json.get("gated", found.gated)
    found.private = request.json.get("visibility", "private" if found.private else "public") == "private"
    return reply_json({"gated": found.gated, "private": found.private})


@on("GET", "/api/{kind}/{repo}/auth-check(?P<write>/write)?")
def auth_check(hub: LocalHub, request: Request, caller: Any, repo: str, write: str = "") -> Reply:
    found = hub.store.writable(caller, repo) if write else hub.store.readable(caller, repo)
    hub.store.past_gate(caller, found)
    return reply_json({})


@on("POST", "/api/{kind}/{repo}/preupload/{rev}")
def preupload(hub: LocalHub, request: Request, caller: Any, repo: str, rev: str) -> Reply:
    found = hub.store.writable(caller, repo, rev, "create_pr" in request.query)
    head = found.find(rev)
    modes = []
    for file in request.json["files"]:
        lfs = found.wants_lfs(file["path"], file["size"], base64.b64decode(file["sample"]), head)
        held = head.files.get(file["path"])
        oid = {"oid": held.etag} if held else {}
        modes.append({"path": file["path"], "uploadMode": "lfs" if lfs else "regular", "shouldIgnore": False, **oid})
    return reply_json({"files": modes, "commitOid": head.oid})


@on("POST", "/{repo}.git/info/lfs/objects/batch")
def lfs_batch(hub: LocalHub, request: Request, caller: Any, repo: str) -> Reply:
    # without a reference the objects are for a pull request, which whoever may read the repo may open
    ref = request.json.get("ref", {}).get("name")
    found = hub.store.writable(caller, repo, ref, ref is None)
    objects = []
    for wanted in request.json["objects"]:
        target = f"/_lfs/{repo}/{wanted['oid']}/upload"
        verify = {"href": f"{hub.endpoint}/{repo}.git/info/lfs/verify"}
        actions = {"actions": {"upload": {"href": hub.sign("PUT", target)}, "verify": verify}}
        objects.append({**wanted, **({} if wanted["oid"] in found.objects else actions)})
    return reply_json({"transfer": "basic", "objects": objects})


@on("POST", "/{repo}.git/info/lfs/verify")
def lfs_verify(hub: LocalHub, request: Request, caller: Any, repo: str) -> Reply:
    found = hub.store.writable(caller, repo, pull_request=True)
    content = found.objects.get(request.json["oid"])
    if content is None or len(content) != request.json["size"]:
        raise Refused(404, "The object was not uploaded, or not as a whole")
    return reply_json({})


@on("POST", "/api/{kind}/{repo}/commit/{rev}")
def commit(hub: LocalHub, request: Request, caller: Any, repo: str, rev: str) -> Reply:
    proposed = "create_pr" in request.query
    found = hub.store.writable(caller, repo, rev, proposed)
    header, *operations = [json.loads(line) for line in request.body.splitlines() if line.strip()]
    ref, parent = found.ref(rev), header["value"].get("parentCommit")
    if ref is None or ref.startswith("refs/tags/"):
        raise Refused(404, f"Invalid rev id: {rev}, not a branch", "RevisionNotFound")
    surprise = hub.take("conflict", repo)
    if surprise:
        hub.commit(repo, surprise, "somebody was faster", rev)
    if proposed:
        ref = found.open_pull_request(found.find(parent or rev), caller.name)
    elif parent and not found.refs[ref].startswith(parent):
        raise Refused(412, "A commit has happened since. Please refresh and try again.")
    files = found.changed(found.find(ref).files, operations)
    made = found.add_commit(ref, files, header["value"]["summary"], header["value"]["description"], caller.name)
    page = f"{hub.endpoint}/{repo}"
    request_page = {"pullRequestUrl": f"{page}/discussions/{ref.removeprefix('refs/pr/')}"} if proposed else {}
    return reply_json(
        {"success": True, "commitOid": made.oid, "commitUrl": f"{page}/commit/{made.oid}", **request_page}
    )


@on("GET", "/{repo}/resolve/{rev}/{path}")
def resolve(hub: LocalHub, request: Request, caller: Any, repo: str, rev: str, path: str) -> Reply:
    found = hub.store.readable(caller, repo)
    hub.store.past_gate(caller, found)
    held = found.find(rev)
    headers, blob = {"X-Repo-Commit": held.oid, "Accept-Ranges": "bytes"}, held.files.get(path)
    if blob is None:
        missing = Refused(404, "Entry not found", "EntryNotFound")
        missing.headers = headers
        raise missing
    headers["ETag"] = f'"{blob.etag}"'
    if blob.sha256 is None:
        return file_reply(hub, request, blob.content, headers)
    target = f"/_lfs/{repo}/{blob.sha256}/{path}"
    size = len(bent(hub, target, blob.content, announcing=True))
    linked = {"X-Linked-Size": str(size), "X-Linked-Etag": headers["ETag"], "Location": hub.sign("GET", target)}
    return Reply(302, b"", {**headers, **linked})


def bent(hub: LocalHub, path: str, content: bytes, announcing: bool = False) -> bytes:
    """Content as the faults leave it; announcing it uses none of them up."""
    size, announced = hub.take("truncate", path, spend=not announcing) or (len(content), True)
    content = content if announcing and not announced else content[:size]
    at = hub.take("corrupt", path, spend=not announcing)
    if at is not None and content:
        changed = bytearray(content)
        changed[at] ^= 0xFF
        content = bytes(changed)
    return content


def file_reply(hub: LocalHub, request: Request, content: bytes, headers: dict[str, str]) -> Reply:
    """A file, or the range of it that was asked for."""
    content = bent(hub, request.path, content, request.method == "HEAD")
    asked = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("range", ""))
    if not asked or not any(asked.groups()):
        return Reply(200, content, headers, True)
    size = len(content)
    first, last = (int(group) if group else None for group in asked.groups())
    start, end = (
        (max(0, size - last), size) if first is None else (first, size if last is None else min(size, last + 1))
    )
    if start >= size:
        return Reply(416, b"", {**headers, "Content-Range": f"bytes */{size}"})
    return Reply(206, content[start:end], {**headers, "Content-Range": f"bytes {start}-{end - 1}/{size}"}, True)


@on("GET", "/_lfs/{repo}/(?P<sha256>[0-9a-f]{64})/{path}")
def send_object(hub: LocalHub, request: Request, caller: None, repo: str, sha256: str, path: str) -> Reply:
    _check_signature(hub, request)
    return file_reply(hub, request, hub.repos[repo].objects[sha256], {"ETag": f'"{sha256}"', "Accept-Ranges": "bytes"})


@on("PUT", "/_lfs/{repo}/(?P<sha256>[0-9a-f]{64})/upload")
def receive_object(hub: LocalHub, request: Request, caller: None, repo: str, sha256: str) -> Reply:
    _check_signature(hub, request)
    if hashlib.sha256(request.body).hexdigest() != sha256:
        raise Refused(400, "BadDigest: the content does not have the announced sha256")
    hub.repos[repo].objects[sha256] = request.body
    hub.uploads.append(sha256)
    return Reply(200, b"", {})


def _check_signature(hub: LocalHub, request: Request) -> None:
    """Like the real storage: only signed URLs, no token besides."""
    if request.authorization is not None:
        raise Refused(400, "Only one auth mechanism allowed: a token was sent to the storage")
    method = "GET" if request.method == "HEAD" else request.method
    if not hmac.compare_digest(request.query.get("X-Signature", ""), hub.signature(method, request.path)):
        raise Refused(403, "SignatureDoesNotMatch")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--user", action="append", default=[], help="may be given more than once")
    options = parser.parse_args()
    with LocalHub(options.port) as hub:
        sys.stdout.write(f"HF_ENDPOINT={hub.endpoint}\n")
        for user in options.user or ["me"]:
            sys.stdout.write(f"{user}: HF_TOKEN={hub.add_user(user)}\n")
        sys.stdout.flush()
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            sys.stdout.write("stopped\n")


if __name__ == "__main__":
    main()
