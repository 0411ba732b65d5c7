"""The local Hub of the tests, asked by the real client of huggingface_hub and by timm."""

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import textwrap
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import warm
from huggingface_hub import HfApi, ModelCard, hf_hub_download, snapshot_download
from huggingface_hub import errors as hub_errors

WEIGHTS = bytes(range(256)) * 40
CARD = "---\nlicense: mit\ntags: [a, b]\n---\n# A model\n"


def module_from(path):
    """A module that is not a part of a package, as siblings of tests are not."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SOURCE = Path(__file__).with_name("local_hub.py")
LOCAL_HUB = module_from(SOURCE)
LocalHub, STORE = LOCAL_HUB.LocalHub, LOCAL_HUB.store


@pytest.fixture
def hub():
    with LocalHub() as hub:
        yield hub


@pytest.fixture
def me(hub):
    return HfApi(endpoint=hub.endpoint, token=hub.add_user("me", "my-org"))


@pytest.fixture
def other(hub):
    return HfApi(endpoint=hub.endpoint, token=hub.add_user("other"))


def in_process(hub, home, token, code, *arguments):
    """What ``result`` is after running the code in a fresh process, where xet is off as the environment says."""
    script = f"import json, sys\n{textwrap.dedent(code)}\nprint(json.dumps(result))"
    odd = "ignore:Use 'content=<...>':DeprecationWarning"  # of httpx2, at huggingface_hub 2.4's own PUT of LFS objects
    command = ["-W", "error", "-W", odd, "-c", script, *arguments]
    done = warm.run(*command, env=hub.environment(home, token))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def download(hub, cache, file="model.safetensors", token=False, **kwargs):
    path = hf_hub_download("me/model", file, cache_dir=cache, endpoint=hub.endpoint, token=token, **kwargs)
    return Path(path).read_bytes()


def status_of(caught):
    return caught.value.response.status_code


def test_users_and_tokens(hub, me):
    assert me.whoami()["name"] == "me"
    assert [org["name"] for org in me.whoami()["orgs"]] == ["my-org"]
    with pytest.raises(hub_errors.HfHubHTTPError, match="Invalid user token"):
        HfApi(endpoint=hub.endpoint, token="hf_wrong").whoami()
    assert [request.authorization for request in hub.log] == [f"Bearer {me.token}"] * 2 + ["Bearer hf_wrong"]


def test_create(hub, me, other):
    assert me.create_repo("me/model") == f"{hub.endpoint}/me/model"
    assert me.create_repo("model", exist_ok=True).repo_id == "me/model"
    assert me.create_repo("my-org/model", private=True).repo_id == "my-org/model"
    with pytest.raises(hub_errors.HfHubHTTPError) as caught:
        me.create_repo("me/model")
    assert status_of(caught) == 409
    with pytest.raises(hub_errors.HfHubHTTPError) as caught:
        other.create_repo("me/theirs", exist_ok=True)
    assert status_of(caught) == 403
    assert hub.repos["my-org/model"].private
    assert set(hub.repos) == {"me/model", "my-org/model"}
    me.delete_repo("me/model")
    assert not me.repo_exists("me/model")


def test_pushing_to_somebody_else(hub, other, tmp_path):
    hub.create("me/model")
    code = """
        from huggingface_hub import create_repo, errors, upload_file
        result = [create_repo("me/model", exist_ok=True).repo_id]  # refused, but there is one: the client is content
        try:
            upload_file(path_or_fileobj=b"", path_in_repo="a.txt", repo_id="me/model")
        except errors.HfHubHTTPError as error:
            result.append(error.response.status_code)
    """
    assert in_process(hub, tmp_path, other.token, code) == ["me/model", 403]
    assert [request.status for request in hub.log] == [403, 200, 403]


def test_round_trip(hub, me, tmp_path):
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    files = {"README.md": CARD.encode(), "model.safetensors": WEIGHTS, "sub/a.png": b"\x89PNG", "sub/empty.bin": b""}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    code = """
        from huggingface_hub import HfApi, snapshot_download
        api = HfApi()
        api.create_repo("me/model", private=True)
        commits = [api.upload_folder(repo_id="me/model", folder_path=sys.argv[1]).oid for _ in range(2)]
        result = [*commits, snapshot_download("me/model")]
    """
    first, second, snapshot = in_process(hub, tmp_path / "home", me.token, code, folder)
    assert first == second == hub.commits("me/model")[0].oid
    stored = hub.files("me/model")
    assert stored.pop(".gitattributes").count(b"*.safetensors filter=lfs") == 1
    assert stored == files
    assert {name: Path(snapshot, name).read_bytes() for name in files} == files
    lfs = [hashlib.sha256(files[name]).hexdigest() for name in ("model.safetensors", "sub/a.png")]
    assert sorted(hub.uploads) == sorted(lfs)  # once each: the second upload finds nothing changed
    assert len(hub.requests("POST", "/commit/")) == 1
    assert {request.authorization for request in hub.requests(path_regex="^/_lfs/")} == {None}
    assert len(hub.requests("GET", "^/_lfs/")) == 2


def test_known_lfs_object_is_not_uploaded_again(hub, me, tmp_path):
    hub.create("me/model", {"model.safetensors": WEIGHTS})
    (tmp_path / "renamed.safetensors").write_bytes(WEIGHTS)
    code = """
        from huggingface_hub import upload_file
        result = upload_file(path_or_fileobj=sys.argv[1], path_in_repo="b.safetensors", repo_id="me/model").oid
    """
    assert in_process(hub, tmp_path / "home", me.token, code, tmp_path / "renamed.safetensors")
    assert hub.files("me/model")["b.safetensors"] == WEIGHTS
    assert hub.uploads == []


def test_objects_are_git_s(hub, tmp_path):
    hub.create("me/model", {"b/c.txt": "Hello, World!", "b.txt": "", "a.bin": b"12"})
    commit = hub.commits("me/model")[0]
    assert commit.files["b/c.txt"].oid == "b45ef6fec89518d314f546fd6c3025367b721684"
    for name, blob in commit.files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(blob.content)
    (tmp_path / "a.bin").write_text(
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{hashlib.sha256(b'12').hexdigest()}\nsize 2\n"
    )
    run = {"cwd": tmp_path, "capture_output": True, "text": True, "check": True}
    subprocess.run(["git", "init"], **run)
    hooks = ["-c", "filter.lfs.process=", "-c", "filter.lfs.clean=cat", "-c", "filter.lfs.required=false"]
    subprocess.run(["git", *hooks, "add", "."], **run)
    tree = subprocess.run(["git", "write-tree"], **run).stdout.strip()
    assert STORE.tree_oids(commit.files)[""] == tree


def test_revisions(hub, me, tmp_path):
    old = hub.create("me/model", {"a.txt": "old"}).refs["refs/heads/main"]
    me.create_tag("me/model", tag="v1", revision=old)
    me.create_branch("me/model", branch="dev/x")
    me.upload_file(path_or_fileobj=b"new", path_in_repo="a.txt", repo_id="me/model", revision="dev/x")
    contents = {rev: download(hub, tmp_path, "a.txt", revision=rev) for rev in ("main", "v1", "dev/x", old)}
    assert contents == {"main": b"old", "v1": b"old", "dev/x": b"new", old: b"old"}
    refs = me.list_repo_refs("me/model")
    assert {branch.name for branch in refs.branches} == {"main", "dev/x"}
    assert [tag.target_commit for tag in refs.tags] == [old]
    assert [commit.title for commit in me.list_repo_commits("me/model")] == ["commit", "initial commit"]
    with pytest.raises(hub_errors.HfHubHTTPError) as caught:
        me.create_tag("me/model", tag="v1")
    assert status_of(caught) == 409
    with pytest.raises(hub_errors.RevisionNotFoundError):
        me.upload_file(path_or_fileobj=b"", path_in_repo="a.txt", repo_id="me/model", revision="nowhere")
    me.delete_tag("me/model", tag="v1")
    with pytest.raises(hub_errors.RevisionNotFoundError):
        me.delete_tag("me/model", tag="v1")


def test_pull_request(hub, me, other):
    hub.create("me/model", {"a.txt": "main"})
    opened = other.upload_file(path_or_fileobj=b"1", path_in_repo="a.txt", repo_id="me/model", create_pr=True)
    assert (opened.pr_num, opened.pr_revision) == (1, "refs/pr/1")
    other.upload_file(path_or_fileobj=b"2", path_in_repo="b.txt", repo_id="me/model", revision="refs/pr/1")
    assert hub.files("me/model")["a.txt"] == b"main"
    proposed = hub.files("me/model", "refs/pr/1")
    assert (proposed["a.txt"], proposed["b.txt"]) == (b"1", b"2")
    third = HfApi(endpoint=hub.endpoint, token=hub.add_user("third"))
    for revision in ("refs/pr/1", "main"):
        with pytest.raises(hub_errors.HfHubHTTPError) as caught:
            third.upload_file(path_or_fileobj=b"3", path_in_repo="a.txt", repo_id="me/model", revision=revision)
        assert status_of(caught) == 403
    refs = me.list_repo_refs("me/model", include_pull_requests=True)
    assert [ref.name for ref in refs.pull_requests] == ["refs/pr/1"]


def test_read_token_cannot_write(hub, me):
    hub.create("me/model")
    reader = HfApi(endpoint=hub.endpoint, token=hub.add_token("me"))
    assert reader.whoami()["name"] == "me"
    with pytest.raises(hub_errors.HfHubHTTPError, match="write token") as caught:
        reader.upload_file(path_or_fileobj=b"", path_in_repo="a.txt", repo_id="me/model")
    assert status_of(caught) == 403


@pytest.mark.parametrize("missing", ["repo", "private", "gated", "revision", "entry"])
def test_errors_are_the_client_s(hub, me, other, tmp_path, missing):
    hub.create("me/model", {"a.txt": "a"}, private=missing == "private", gated=missing == "gated")
    expected = {"gated": "GatedRepo", "revision": "RevisionNotFound", "entry": "RemoteEntryNotFound"}
    kind = getattr(hub_errors, f"{expected.get(missing, 'RepositoryNotFound')}Error")
    repo = "me/nothing" if missing == "repo" else "me/model"
    file, revision = ("b.txt" if missing == "entry" else "a.txt"), ("v9" if missing == "revision" else "main")
    for token in (False, other.token):
        with pytest.raises(kind) as caught:
            hf_hub_download(repo, file, revision=revision, cache_dir=tmp_path, endpoint=hub.endpoint, token=token)
        assert type(caught.value) is kind
        strangers = {"repo": 404, "private": 404, "gated": 403}
        assert status_of(caught) == (401 if token is False and missing in strangers else strangers.get(missing, 404))
    if missing in ("private", "gated"):
        hub.grant("me/model", "other")
        assert download(hub, tmp_path, "a.txt", token=other.token) == b"a"
        assert download(hub, tmp_path, "a.txt", token=me.token) == b"a"


def test_gating_by_settings(hub, me, other):
    hub.create("me/model")
    other.auth_check("me/model")
    me.update_repo_settings("me/model", gated="auto")
    me.auth_check("me/model", write=True)
    assert other.model_info("me/model").gated == "auto"  # who is kept out may still see that there is something
    with pytest.raises(hub_errors.GatedRepoError):
        other.auth_check("me/model")
    me.update_repo_settings("me/model", gated=False, private=True)
    with pytest.raises(hub_errors.RepositoryNotFoundError):
        other.auth_check("me/model")


def test_invalid_token_is_refused_where_none_is_needed(hub, me, tmp_path):
    hub.create("me/model", {"a.txt": "a"})
    with pytest.raises(hub_errors.HfHubHTTPError, match="Invalid credentials") as caught:
        download(hub, tmp_path, "a.txt", token="hf_wrong")
    assert not isinstance(caught.value, hub_errors.RepositoryNotFoundError)


def test_stale_parent_commit(hub, me):
    base = hub.create("me/model").refs["refs/heads/main"]
    upload = {"path_or_fileobj": b"", "path_in_repo": "a.txt", "repo_id": "me/model"}
    head = me.upload_file(**upload, parent_commit=base).oid
    with pytest.raises(hub_errors.HfHubHTTPError, match="commit has happened since") as caught:
        me.upload_file(**{**upload, "path_in_repo": "b.txt"}, parent_commit=base)
    assert status_of(caught) == 412
    hub.conflict_before_commit("me/model", {"a.txt": "theirs"})
    with pytest.raises(hub_errors.HfHubHTTPError) as caught:
        me.upload_file(**{**upload, "path_in_repo": "b.txt"}, parent_commit=head)
    assert status_of(caught) == 412
    assert hub.commits("me/model")[0].title == "somebody was faster"
    assert hub.files("me/model")["a.txt"] == b"theirs"
    me.upload_file(**{**upload, "path_in_repo": "b.txt"})
    assert "b.txt" in hub.files("me/model")


def test_wrong_sha256_is_refused(hub, me, tmp_path):
    hub.create("me/model")
    code = """
        from huggingface_hub import CommitOperationAdd, HfApi
        operation = CommitOperationAdd("a.bin", b"content")
        operation.upload_info.sha256 = bytes(32)
        try:
            HfApi().create_commit("me/model", [operation], commit_message="lie")
        except RuntimeError as error:
            result = [type(error.__cause__).__name__, str(error.__cause__)]
    """
    kind, message = in_process(hub, tmp_path / "home", me.token, code)
    assert kind == "BadRequestError"
    assert "BadDigest" in message
    assert (hub.uploads, len(hub.commits("me/model"))) == ([], 1)


def test_deletions(hub, me):
    hub.create("me/model", {"a/b.txt": "b", "a/c.txt": "c", "ab.txt": "ab"})
    me.delete_folder("a", "me/model")
    assert set(hub.files("me/model")) == {".gitattributes", "ab.txt"}
    with pytest.raises(hub_errors.RemoteEntryNotFoundError):
        me.delete_file("a.txt", "me/model")


def test_tree_in_pages(hub, me):
    hub.page_size = 2
    hub.create("me/model", {f"{folder}/{name}.txt": name for folder in "xy" for name in "abc"})
    listed = list(me.list_repo_tree("me/model", recursive=True))
    assert len(hub.requests("GET", "/tree/")) == 5
    assert sum(not hasattr(entry, "blob_id") for entry in listed) == 2
    assert len(me.list_repo_files("me/model")) == 7
    assert [entry.path for entry in me.list_repo_tree("me/model", "x")] == ["x/a.txt", "x/b.txt", "x/c.txt"]
    with pytest.raises(hub_errors.RemoteEntryNotFoundError):
        list(me.list_repo_tree("me/model", "z"))


@pytest.mark.parametrize(
    ("card", "mistake"),
    [
        ("---\na: 1\n", "no end"),
        ("---\na:\n\tb: 1\n---\n", "tabs"),
        ("---\na: [1\n---\n", "expected"),
        ("---\ntags: a\n---\n", "array of strings"),
        ("---\nmodel-index:\n- name: x\n  results: [{task: {type: t}}]\n---\n", "dataset.type"),
    ],
)
def test_bad_cards_are_refused(hub, me, card, mistake):
    hub.create("me/model")
    with pytest.raises(ValueError, match=mistake):
        me.upload_file(path_or_fileobj=card.encode(), path_in_repo="README.md", repo_id="me/model")
    assert len(hub.commits("me/model")) == 1


def test_cards_without_pyyaml(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert STORE.card_metadata(CARD) == ({"license": "mit"}, [])
    assert STORE.card_metadata("---\nno key\n---\n")[1] == ["not a key and a value: no key"]


def test_cards(hub, me, tmp_path):
    hub.create("me/model")
    with pytest.warns(UserWarning, match="empty or missing yaml"):
        me.upload_file(path_or_fileobj=b"# No metadata", path_in_repo="README.md", repo_id="me/model")
    code = """
        from huggingface_hub import ModelCard
        card = ModelCard(sys.argv[1])
        card.validate()
        result = card.push_to_hub("me/model").oid
    """
    assert in_process(hub, tmp_path, me.token, code, CARD) == hub.commits("me/model")[0].oid
    assert me.model_info("me/model").tags == ["a", "b"]
    assert me.model_info("me/model").card_data.license == "mit"
    assert hub.files("me/model")["README.md"].decode() == str(ModelCard(CARD))


def test_cut_download_is_resumed(hub, tmp_path):
    content = os.urandom(1 << 20) * 12  # the client keeps what came in whole chunks of 10 MiB
    hub.create("me/model", {"model.safetensors": content})
    hub.cut(r"^/_lfs/.*model", len(content) - 5)
    assert download(hub, tmp_path) == content
    assert [request.headers.get("range") for request in hub.requests("GET", "^/_lfs/")] == [None, "bytes=10485760-"]
    assert [request.status for request in hub.requests("GET", "^/_lfs/")] == [200, 206]


def test_damaged_downloads(hub, tmp_path):
    hub.create("me/model", {"model.safetensors": WEIGHTS, "a.json": "{}"})
    hub.truncate("model", 100)
    assert download(hub, tmp_path / "1") == WEIGHTS[:100]  # the client does not look at the digest
    hub.clear_faults()
    hub.truncate("model", 100, announced=False)
    with pytest.raises(OSError, match="Consistency check failed"):
        download(hub, tmp_path / "2")
    hub.clear_faults()
    hub.corrupt("model|a.json", times=2)
    assert download(hub, tmp_path / "3") == WEIGHTS[:-1] + bytes([WEIGHTS[-1] ^ 0xFF])
    assert download(hub, tmp_path / "3", "a.json") == b"{" + bytes([ord("}") ^ 0xFF])
    assert download(hub, tmp_path / "4") == WEIGHTS


def test_ranges(hub):
    hub.create("me/model", {"a.txt": "0123456789"})
    url = f"{hub.endpoint}/me/model/resolve/main/a.txt"
    for asked, expected in {"2-4": b"234", "7-": b"789", "-2": b"89", "0-0": b"0", "5-99": b"56789"}.items():
        with urllib.request.urlopen(urllib.request.Request(url, headers={"Range": f"bytes={asked}"})) as answer:
            assert (answer.status, answer.read()) == (206, expected)


def test_storage_takes_no_token(hub, me):
    hub.create("me/model", {"model.safetensors": WEIGHTS})
    target = f"/_lfs/me/model/{hashlib.sha256(WEIGHTS).hexdigest()}/model.safetensors"
    wrong = [
        (hub.storage + target, {}, 403),
        (hub.sign("GET", target), {"Authorization": f"Bearer {me.token}"}, 400),
    ]
    for url, headers, status in wrong:
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(urllib.request.Request(url, headers=headers))
        caught.value.close()
        assert caught.value.code == status


def test_failures(hub, me):
    hub.create("me/model")
    hub.fail_next("GET", "/api/models/me/model$", 404, headers={"X-Error-Code": "RepoNotFound"})
    assert not me.repo_exists("me/model")
    assert me.repo_exists("me/model")
    hub.fail_next("POST", "/preupload/", 503, headers={"Retry-After": "0"})
    me.upload_file(path_or_fileobj=b"a", path_in_repo="a.txt", repo_id="me/model")
    assert [request.status for request in hub.requests("POST", "/preupload/")] == [503, 200]
    hub.lose_answer("POST", "/commit/")
    with pytest.raises(Exception, match="disconnected without sending a response"):
        me.upload_file(path_or_fileobj=b"b", path_in_repo="a.txt", repo_id="me/model")
    assert hub.files("me/model")["a.txt"] == b"b"
    hub.delay("/api/models/me/model$", 0.2, times=1)
    start = time.monotonic()
    me.model_info("me/model")
    assert time.monotonic() - start >= 0.2


def test_control_by_other_processes(hub):
    def call(control, **arguments):
        data = json.dumps(arguments).encode() if arguments else None
        with urllib.request.urlopen(f"{hub.endpoint}/_control/{control}", data) as answer:
            return json.load(answer)

    token = call("add_user", name="me")
    call("create", repo="me/model", files={"a.bin": "a"})
    call("fail_next", method="*", path_regex="whoami", status=403)
    with pytest.raises(hub_errors.HfHubHTTPError) as caught:
        HfApi(endpoint=hub.endpoint, token=token).whoami()
    assert status_of(caught) == 403
    assert [(entry["path"], entry["status"]) for entry in call("log")] == [("/api/whoami-v2", 403)]
    assert call("uploads") == []
    with pytest.raises(urllib.error.HTTPError) as refused:
        call("cut", path_regex="(")
    refused.value.close()
    assert refused.value.code == 400
    assert hub.files("me/model")["a.bin"] == b"a"


def test_stop_and_start(hub, me, tmp_path):
    hub.create("me/model", {"a.txt": "a"})
    me.model_info("me/model")  # leaves a connection open
    port = hub.port
    hub.stop()
    with pytest.raises(Exception, match=r"refused|disconnected|reset"):
        me.model_info("me/model")
    hub.start()
    assert hub.port == port
    assert download(hub, tmp_path, "a.txt") == b"a"


def test_environment(hub, tmp_path, monkeypatch):
    for name in ("HF_HUB_OFFLINE", "HF_TOKEN", "HF_HUB_CACHE", "TRANSFORMERS_OFFLINE", "https_proxy"):
        monkeypatch.setenv(name, "1")
    environment = hub.environment(tmp_path)
    removed = {name for name in os.environ if name not in environment}
    assert {"HF_HUB_OFFLINE", "HF_TOKEN", "HF_HUB_CACHE", "TRANSFORMERS_OFFLINE", "https_proxy"} <= removed
    assert environment["PATH"] == os.environ["PATH"]
    assert environment["HF_ENDPOINT"] == hub.endpoint
    assert hub.environment(tmp_path, "hf_x")["HF_TOKEN"] == "hf_x"


def test_mistakes_of_the_hub_do_not_pass(me):
    with pytest.raises(AssertionError, match="KeyError"), LocalHub() as broken:  # noqa: PT012  # raised on leaving
        token = broken.add_user("me")
        del broken.store.users["me"]
        HfApi(endpoint=broken.endpoint, token=token).repo_exists("me/model")
        with pytest.raises(hub_errors.HfHubHTTPError):
            HfApi(endpoint=broken.endpoint, token=token).whoami()


def test_by_hand(tmp_path):
    command = [sys.executable, str(SOURCE), "--user", "me"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            endpoint = server.stdout.readline().strip().removeprefix("HF_ENDPOINT=")
            token = server.stdout.readline().strip().removeprefix("me: HF_TOKEN=")
            assert HfApi(endpoint=endpoint, token=token).whoami()["name"] == "me"
        finally:
            server.terminate()


def test_snapshot_at_a_moved_head(hub, tmp_path):
    hub.create("me/model", {"a.txt": "1", "model.safetensors": WEIGHTS})
    first = hub.commits("me/model")[0].oid
    hub.commit("me/model", {"a.txt": "2", "model.safetensors": None})
    here = {"cache_dir": tmp_path, "endpoint": hub.endpoint, "token": False}
    assert Path(snapshot_download("me/model", **here), "a.txt").read_text() == "2"
    assert Path(snapshot_download("me/model", revision=first, **here), "model.safetensors").read_bytes() == WEIGHTS


def test_timm(hub, me, tmp_path):
    code = """
        import timm, torch
        model = timm.create_model("test_byobnet", num_classes=3)
        timm.models.push_to_hf_hub(model, "me/net", private=True, safe_serialization=True)
        again = timm.create_model("hf-hub:me/net", pretrained=True)
        result = all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values()))
    """
    assert in_process(hub, tmp_path, me.token, code)
    assert {"README.md", "config.json", "model.safetensors"} <= set(hub.files("me/net"))
    assert len(hub.uploads) == 1
