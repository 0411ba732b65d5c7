"""Publishing and reading over HTTP: the real client, fresh processes, a local Hub, faults at the flick of a switch."""

import importlib.util
import json
import os
import re
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import warm
from PIL import Image
from places import RECIPES, TESTS
from profiles import made_up

from sgnas_zoo.costs.profile_file import write_profile
from sgnas_zoo.hub.generators import save_generator
from sgnas_zoo.spaces import SPACES

_SPEC = importlib.util.spec_from_file_location("local_hub", (TESTS / "local_hub.py"))
local_hub = importlib.util.module_from_spec(_SPEC)
sys.modules["local_hub"] = local_hub
_SPEC.loader.exec_module(local_hub)

TELL = """
import json, sys
from sgnas_zoo.errors import ZooError
try:
    {code}
except ZooError as error:
    print("REFUSED", error)
"""
RETRY = re.compile("HTTP Error|Retrying in")
"""How huggingface_hub says that it tries again."""
READ = "from sgnas_zoo.hub.remote import *; path = Repo({repo!r}, Access({access})).file({file!r}); "
READ += "print('READ', len(path.read_bytes()))"


@pytest.fixture(scope="module")
def hub():
    with local_hub.LocalHub() as server:
        server.token = server.add_user("me")
        server.stranger = server.add_user("somebody")
        yield server


@pytest.fixture(autouse=True)
def clean(hub):
    hub.forget()
    yield
    hub.clear_faults()


@pytest.fixture
def name(hub, request):
    """A repo id of this test's own."""
    return "me/" + re.sub(r"\W+", "-", request.node.name)[:60].strip("-.")


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def run(hub, home, *command, token=None, timeout=300, **changes):
    return warm.run(*command, env=hub.environment(home, token) | changes, cwd=home, timeout=timeout)


def tell(hub, home, code, token=None, **changes):
    """What a fresh process prints that runs ``code``; it must not fail in any way but a ZooError."""
    done = run(hub, home, "-c", TELL.format(code=code), token=token, **changes)
    assert done.returncode == 0, done.stderr
    said = done.stdout.strip().splitlines()[-1]
    if said.startswith("REFUSED"):
        assert re.search(r"[;:,] .*\.$", said), said  # it ends in a next step
    return said


def read(hub, home, repo, file="model.safetensors", access="", token=None, **changes):
    return tell(hub, home, READ.format(repo=repo, file=file, access=access), token=token, **changes)


HASTY = "import time; time.sleep = lambda seconds: None; from sgnas_zoo.cli.main import run; run()"
"""The command line of who waits for nothing: between two tries."""


def cli(hub, home, *arguments, token=None, program=("-m", "sgnas_zoo.cli"), **changes):
    done = run(hub, home, *program, *arguments, token=token, **changes)
    assert "Traceback" not in done.stderr, done.stderr
    if done.returncode:
        assert done.returncode == 2, done.stderr
        lines = [line for line in done.stderr.splitlines() if line.strip() and not RETRY.match(line)]
        assert len(lines) == 1, done.stderr
    return done


# --- publishing


def test_a_budget_becomes_a_repo(hub, tmp_path, name):
    done = cli(
        hub, tmp_path, "generate", "--flops", "350M", "--push-to-hub", name, "--private", "--json", token=hub.token
    )
    assert done.returncode == 0, done.stderr
    (record,) = json.loads(done.stdout)
    assert record["macs"] <= 350e6
    files = hub.files(name)
    assert {"config.json", "model.safetensors", "README.md", "architecture.svg"} <= set(files)
    assert not any(path.endswith((".bin", ".pkl", ".pt")) for path in files)
    assert hub.repos[name].private
    config = json.loads(files["config.json"])
    assert "num_classes" not in config["model_args"]
    assert config["zoo"]["weights"] == "untrained"
    assert name in files["README.md"].decode()
    assert len(hub.commits(name)) == 2  # the one that made the repo, and ours
    assert not list(tmp_path.glob("*safetensors*"))


@pytest.mark.parametrize("kind", ["model", "generator", "supernet"])
def test_every_kind_makes_the_round_trip_bit_by_bit(hub, made, tmp_path, kind):
    name = f"me/round-trip-{kind}"
    done = cli(hub, tmp_path, "push", made / kind, name, "--tag", "v1", token=hub.token)
    assert done.returncode == 0, done.stderr
    assert f"{name}@v1" in done.stderr
    there = hub.files(name, "v1")
    for file, data in content(made / kind).items():
        assert file == "README.md" or there[file] == data
    for file in ("config.json", "model.safetensors"):
        data = content(made / kind)[file]
        assert read(hub, tmp_path, f"{name}@v1", file) == f"READ {len(data)}"
    hub.forget()
    again = cli(hub, tmp_path, "push", made / kind, name, token=hub.token)
    assert "Nothing has changed" in again.stderr
    assert hub.uploads == []
    assert len(hub.commits(name)) == 2


def test_only_what_has_changed_is_sent(hub, made, tmp_path, name):
    cli(hub, tmp_path, "push", made / "supernet", name, token=hub.token)
    before = hub.commits(name)
    hub.forget()
    folder = tmp_path / "supernet"
    folder.mkdir()
    for file, data in content(made / "supernet").items():
        (folder / file).write_bytes(data)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n\n# My own words\n")
    (folder / "notes.txt").write_text("private")
    (folder / "checkpoints").mkdir()
    done = cli(hub, tmp_path, "push", folder, name, token=hub.token)
    assert done.returncode == 0, done.stderr
    assert hub.uploads == []  # no large file
    files = hub.files(name)
    assert b"My own words" in files["README.md"]  # a card that somebody wrote stays
    assert "notes.txt" not in files
    assert len(hub.commits(name)) == len(before) + 1


def test_the_picture_of_an_earlier_card_goes(hub, made, tmp_path, name):
    cli(hub, tmp_path, "push", made / "model", name, token=hub.token)
    assert "architecture.svg" in hub.files(name)
    hub.commit(name, {"architecture.png": b"a picture", "theirs.png": b"another"}, "as it was once")
    done = cli(hub, tmp_path, "push", made / "model", name, token=hub.token)
    assert done.returncode == 0, done.stderr
    assert {path for path in hub.files(name) if path.endswith((".png", ".svg"))} == {"architecture.svg", "theirs.png"}


def test_branches_tags_and_pull_requests(hub, made, tmp_path, name):
    push = ("push", made / "generator", name)
    cli(hub, tmp_path, *push, token=hub.token)
    main = hub.commits(name)[0].oid
    (branched := tmp_path / "branched").mkdir()
    for file, data in content(made / "generator").items():
        (branched / file).write_bytes(data)
    (branched / "README.md").write_text("---\nlicense: mit\n---\n\n# Another\n")
    cli(hub, tmp_path, "push", branched, name, "--revision", "trial", "--tag", "v2", token=hub.token)
    assert hub.commits(name)[0].oid == main
    assert b"Another" in hub.files(name, "trial")["README.md"]
    assert hub.files(name, "v2") == hub.files(name, "trial")
    done = cli(hub, tmp_path, "push", branched, name, "--create-pr", token=hub.stranger)
    assert done.returncode == 0, done.stderr
    assert "discussions/1" in done.stderr
    assert hub.commits(name)[0].oid == main
    taken = cli(hub, tmp_path, *push, "--tag", "v2", token=hub.token)
    assert "has a tag v2 already; choose another" in taken.stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("somebody/theirs",), "403"),
        (("somebody/new",), "403"),
        (("me/other-kind",), "holds a generator, this is a model; choose another repo"),
        (("me/other-thing",), "not an artifact of sgnas-zoo; choose another repo"),
        (("nonsense",), "write USER/NAME"),
        (("../../etc",), "write USER/NAME"),
        (("me/x@v1",), "names a revision"),
        (("me/x", "--create-pr", "--tag", "v1"), "leave out one of them"),
    ],
)
def test_what_must_not_be_overwritten_is_refused(hub, made, tmp_path, arguments, reason):
    for repo, files in (
        ("somebody/theirs", content(made / "model")),
        ("me/other-kind", content(made / "generator")),
        ("me/other-thing", {"data.csv": b"1,2"}),
    ):
        if repo not in hub.repos:
            hub.create(repo, files)
    before = {repo: hub.commits(repo)[0].oid for repo in list(hub.repos)}
    done = cli(hub, tmp_path, "push", made / "model", *arguments, token=hub.token)
    assert done.returncode == 2
    assert reason in done.stderr
    assert {repo: hub.commits(repo)[0].oid for repo in before} == before
    assert hub.uploads == []


def test_a_push_needs_a_valid_token(hub, made, tmp_path, name):
    for token in (None, "hf_" + "a" * 34):
        done = cli(hub, tmp_path, "push", made / "generator", name, token=token)
        assert done.returncode == 2
        assert "hf auth login" in done.stderr
        assert token is None or token not in done.stderr
    assert name not in hub.repos


def test_an_interrupted_push_leaves_the_repo_as_it_was(hub, made, new_generator, tmp_path, name):
    cli(hub, tmp_path, "push", made / "generator", name, token=hub.token)
    head, files = hub.commits(name)[0].oid, hub.files(name)
    (tmp_path / "next").mkdir()
    save_generator(new_generator(1), tmp_path / "next")
    hub.fail_next("POST", f"/api/models/{name}/commit/", 500)
    done = cli(hub, tmp_path, "push", tmp_path / "next", name, token=hub.token)
    assert done.returncode == 2
    assert "500" in done.stderr
    assert "try again" in done.stderr
    assert hub.uploads  # the weights did arrive
    assert (hub.commits(name)[0].oid, hub.files(name)) == (head, files)
    hub.conflict_before_commit(name)
    done = cli(hub, tmp_path, "push", tmp_path / "next", name, token=hub.token)
    assert "changed it meanwhile" in done.stderr
    assert hub.files(name)["model.safetensors"] == files["model.safetensors"]
    (tmp_path / "third").mkdir()
    save_generator(new_generator(2), tmp_path / "third")
    hub.fail_next("PUT", ".*", 500, times=100)
    done = cli(hub, tmp_path, "push", tmp_path / "third", name, token=hub.token, program=("-c", HASTY))
    assert done.returncode == 2
    assert "try again later" in done.stderr
    hub.clear_faults()
    assert cli(hub, tmp_path, "push", tmp_path / "next", name, token=hub.token).returncode == 0
    assert hub.files(name)["model.safetensors"] == (tmp_path / "next" / "model.safetensors").read_bytes()


def test_a_push_killed_between_upload_and_commit_leaves_the_repo_as_it_was(hub, made, tmp_path, name):
    hub.create(name, {})
    hub.delay(f"/api/models/{name}/commit/", 60)
    command = ["-m", "sgnas_zoo.cli", "push", made / "generator", name]
    process = warm.start(*command, env=hub.environment(tmp_path, hub.token))
    deadline = time.monotonic() + 120
    while not hub.requests("POST", f"/api/models/{name}/commit/") and time.monotonic() < deadline:
        time.sleep(0.1)
    process.kill()
    assert hub.uploads
    assert set(hub.files(name)) == {".gitattributes"}


def test_a_link_is_not_published(hub, made, tmp_path, name):
    (tmp_path / "linked").mkdir()
    for file in ("config.json", "README.md"):
        (tmp_path / "linked" / file).write_bytes((made / "model" / file).read_bytes())
    os.symlink("/etc/passwd", tmp_path / "linked" / "model.safetensors")
    done = cli(hub, tmp_path, "push", tmp_path / "linked", name, token=hub.token)
    assert "is a link; put the file itself there" in done.stderr
    assert name not in hub.repos


def test_tokens_are_nowhere(hub, made, tmp_path, name):
    done = cli(hub, tmp_path, "generate", "--flops", "4M", "--push-to-hub", name, token=hub.token, HF_DEBUG="1")
    assert done.returncode == 0, done.stderr
    assert hub.token not in done.stdout
    assert not any(hub.token.encode() in data for data in hub.files(name).values())
    assert not any(r.authorization for r in hub.requests("*", "/_lfs/"))
    assert any(r.authorization for r in hub.requests("POST"))
    hub.fail_next("GET", ".*", 403, times=20)
    hub.fail_next("HEAD", ".*", 403, times=20)
    assert hub.token not in read(hub, tmp_path, name, token=hub.token)


# --- consuming

CONSUME = """
    import sgnas_zoo, torch, warnings
    warnings.simplefilter("ignore")
    model = sgnas_zoo.create_model({arguments})
    print(json.dumps([model.zoo, float(model.eval()(torch.ones(1, 3, 32, 32)).sum())]))
"""


def consume(hub, home, arguments, **changes):
    said = tell(hub, home, CONSUME.strip().replace("{arguments}", arguments), **changes)
    return said if said.startswith("REFUSED") else json.loads(said)


def test_somebodys_own_supernet_is_read_at_one_commit(hub, made, tmp_path, name):
    commit = hub.create(name, content(made / "supernet"), private=True).refs["refs/heads/main"]
    generator = f"{name}-generator"
    hub.create(generator, content(made / "generator"), private=True)
    what = f"flops=4e6, pretrained={name!r}, generator={generator!r}"
    record, output = consume(hub, tmp_path, what, token=hub.token)
    assert record["supernet"]["revision"] == commit
    assert record["macs"] <= 4e6
    assert record["generator"]["revision"] == hub.commits(generator)[0].oid
    assert len(hub.requests("GET", f"/api/models/{name}(/revision/.*)?$")) == 1
    assert all(commit in r.path for r in hub.requests("*", f"/{name}/resolve/"))
    hub.commit(name, {"config.json": b"{}"}, "break it")
    assert consume(hub, tmp_path, what.replace(name, f"{name}@{commit}", 1), token=hub.token) == [
        record | {"supernet": record["supernet"] | {"id": f"{name}@{commit}"}},
        output,
    ]
    hub.forget()
    again = consume(hub, tmp_path, f"{what}, revision={commit!r}, local_files_only=True", HF_HUB_OFFLINE="1")
    assert again[1] == output
    assert hub.requests() == []


def test_a_pushed_model_loads_everywhere(hub, tmp_path, name):
    made = cli(hub, tmp_path, "generate", "--flops", "4M", "--pretrained", "--push-to-hub", name, token=hub.token)
    assert made.returncode == 0, made.stderr
    code = f"""
    import timm, torch, sgnas_zoo
    from transformers import AutoModelForImageClassification, AutoImageProcessor, pipeline
    from PIL import Image
    torch.manual_seed(0)
    image = torch.rand(1, 3, 32, 32)
    first = timm.create_model("hf-hub:{name}", pretrained=True).eval()
    other = timm.create_model("hf-hub:{name}", pretrained=True, num_classes=37)
    assert other.num_classes == 37 and torch.equal(other.conv_stem.weight, first.conv_stem.weight)
    mine = sgnas_zoo.create_model("hf-hub:{name}", pretrained=True).eval()
    theirs = AutoModelForImageClassification.from_pretrained("{name}").eval()
    with torch.no_grad():
        expected = first(image)
        assert torch.equal(mine(image), expected)
        torch.testing.assert_close(theirs(image).logits, expected)  # weights may lie in memory otherwise
    assert mine.zoo["loaded_from"]["revision"] == "{{commit}}"
    labels = first.pretrained_cfg["label_names"]
    assert labels[:2] == ["airplane", "automobile"] and list(theirs.config.id2label.values()) == labels
    answers = pipeline("image-classification", "{name}")(Image.new("RGB", (32, 32)))
    assert {{answer["label"] for answer in answers}} < set(labels)
    print("LOADED")
    """
    code = code.strip().replace("{commit}", hub.commits(name)[0].oid)
    assert tell(hub, tmp_path, code, token=hub.token) == "LOADED"


@pytest.mark.slow
def test_a_pushed_model_is_fine_tuned_end_to_end_and_pushed_again(hub, made, tmp_path, name):
    assert cli(hub, tmp_path, "push", made / "model", name, "--private", token=hub.token).returncode == 0
    colours = np.random.default_rng(0)
    for split, number in (("train", 24), ("test", 8)):
        for label, colour in (("dark", 40), ("light", 210)):
            (tmp_path / "data" / split / label).mkdir(parents=True)
            for index in range(number):
                pixels = colours.integers(colour - 30, colour + 30, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "data" / split / label / f"{index}.png")
    recipe = RECIPES / "finetune.py"
    options = ("--model", f"hf-hub:{name}", "--dataset", tmp_path / "data", "--output", tmp_path / "tuned")
    options += ("--epochs", 20, "--batch-size", 8, "--workers", 0, "--crop", "pad", "--ema-decay", 0, "--lr", 0.05)
    done = run(hub, tmp_path, recipe, *options, token=hub.token, HF_DATASETS_CACHE=str(tmp_path / "cache"))
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "tuned" / "config.json").read_text())["zoo"]
    assert record["started_from"]["loaded_from"]["revision"] == hub.commits(name)[0].oid
    assert record["metrics"]["top1"] > 80
    tuned = f"{name[:50]}-tuned"
    assert cli(hub, tmp_path, "push", tmp_path / "tuned", tuned, token=hub.token).returncode == 0
    files = hub.files(tuned)
    assert f"base_model: {name}" in files["README.md"].decode()
    assert not {"settings.yaml", "metrics.json"} & set(files)
    assert not any(str(tmp_path).encode() in data for data in files.values())
    assert read(hub, tmp_path, tuned).startswith("READ")


def test_transformers_loads_without_our_import_where_remote_code_is_allowed(hub, made, tmp_path, name):
    folder = shutil.copytree(made / "model", tmp_path / "model")
    assert cli(hub, tmp_path, "shim", folder).returncode == 0
    assert cli(hub, tmp_path, "push", folder, name, token=hub.token).returncode == 0
    assert "modeling_sgnas_zoo.py" in hub.files(name)
    code = """
    from transformers import AutoModelForImageClassification
    model = AutoModelForImageClassification.from_pretrained("{name}", trust_remote_code=True)
    print(type(model).__name__, model.num_labels)
    """
    said = tell(hub, tmp_path, code.strip().replace("{name}", name), token=hub.token)
    assert said == "SgnasZooForImageClassification 3"
    assert cli(hub, tmp_path, "push", made / "model", name, token=hub.token).returncode == 0
    assert "modeling_sgnas_zoo.py" not in hub.files(name)
    (folder / "modeling_sgnas_zoo.py").write_text("import os")
    assert "remote code of others" in cli(hub, tmp_path, "push", folder, f"{name}-2", token=hub.token).stderr


# --- faults, each in a fresh process


@pytest.fixture(scope="module")
def repo(hub, made):
    hub.create("me/gen", content(made / "generator"))
    return "me/gen"


@pytest.fixture(scope="module")
def size(made):
    return len((made / "generator" / "model.safetensors").read_bytes())


def test_missing_things_are_named(hub, repo, tmp_path):
    assert "shows no repo me/none: check the name" in read(hub, tmp_path, "me/none")
    assert "me/gen has no revision 'v9'; name a branch" in read(hub, tmp_path, "me/gen@v9")
    assert "does not contain other.safetensors" in read(hub, tmp_path, repo, "other.safetensors")
    assert "names a revision and revision=" in read(hub, tmp_path, "me/gen@v9", access="revision='v8'")


def test_closed_repos_say_how_to_get_in(hub, made, tmp_path):
    hub.create("somebody/private", content(made / "generator"), private=True)
    hub.create("somebody/gated", content(made / "generator"), gated=True)
    for token in (None, hub.token):
        assert "log in with `hf auth login`" in read(hub, tmp_path, "somebody/private", token=token)
        assert "somebody/gated" in (said := read(hub, tmp_path, "somebody/gated", token=token))
        assert "is gated; ask for access at" in said
    hub.grant("somebody/gated", "me")
    assert read(hub, tmp_path, "somebody/gated", token=hub.token).startswith("READ")
    assert "REFUSED" in read(hub, tmp_path, "somebody/private", access="token='hf_wrong'")


@pytest.mark.parametrize("status", [401, 403, 429, 500])
def test_refusals_are_named(hub, repo, tmp_path, status):
    hub.fail_next("*", ".*", status, times=100)
    said = read(hub, tmp_path, repo)
    assert str(status) in said or "log in" in said
    assert hub.endpoint in said
    assert "me/gen" in said


def test_a_server_that_stumbles_is_asked_again(hub, repo, size, tmp_path):
    hub.fail_next("GET", "/_lfs/", 503, times=2)
    assert read(hub, tmp_path, repo) == f"READ {size}"


def test_a_cut_download_is_taken_up_again(hub, repo, size, tmp_path):
    hub.cut("/_lfs/", size // 2)
    assert read(hub, tmp_path, repo) == f"READ {size}"
    assert len(hub.requests("GET", "/_lfs/")) == 2


@pytest.mark.parametrize("fault", ["truncate", "corrupt"])
def test_what_came_otherwise_than_announced_is_refused(hub, repo, size, tmp_path, fault):
    if fault == "truncate":
        hub.truncate("/_lfs/", size // 2)
    else:
        hub.corrupt("/_lfs/")
    assert "REFUSED" in (said := read(hub, tmp_path, repo))
    assert "me/gen" in said
    hub.clear_faults()
    assert read(hub, tmp_path, repo) == f"READ {size}"  # nothing of it was kept


SMALL = "config.json"


@pytest.mark.parametrize("file", [SMALL, "model.safetensors"])
def test_what_came_damaged_is_fetched_once_more(hub, repo, size, tmp_path, file):
    hub.corrupt(f"{file}|/_lfs/", times=1)
    whole = len(hub.files(repo)[file])
    assert read(hub, tmp_path, repo, file) == f"READ {whole}"
    assert len(hub.requests("GET", f"{file}$")) >= 2
    hub.forget()
    assert read(hub, tmp_path, repo, file, HF_HUB_OFFLINE="1") == f"READ {whole}"  # and that is what was kept


def test_a_small_file_that_stays_damaged_is_refused(hub, repo, tmp_path):
    hub.corrupt(SMALL)
    said = read(hub, tmp_path, repo, SMALL)
    assert said.startswith("REFUSED config.json of me/gen was damaged")
    hub.clear_faults()
    assert read(hub, tmp_path, repo, SMALL).startswith("READ")


@pytest.mark.parametrize("file", [SMALL, "model.safetensors"])
@pytest.mark.parametrize("offline", [{"HF_HUB_OFFLINE": "1"}, {"access": "local_files_only=True"}])
def test_a_file_that_went_bad_in_the_cache(hub, repo, tmp_path, file, offline):
    read(hub, tmp_path, repo, file)
    (cached,) = (tmp_path / "hub").rglob(f"snapshots/*/{file}")
    content = cached.read_bytes()
    cached.resolve().write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert read(hub, tmp_path, repo, file) == f"READ {len(content)}"  # the Hub has it whole
    assert cached.read_bytes() == content
    cached.resolve().write_bytes(content[:-1])
    said = read(hub, tmp_path, repo, file, **offline)
    assert said.startswith(f"REFUSED {file} of me/gen was damaged")
    assert said.endswith("fetch it again while connected.")


LOUD = """
import logging, sys, traceback
logging.basicConfig(level=0)
from huggingface_hub import logging as its_own
its_own.set_verbosity_debug()
from sgnas_zoo.hub.push import push
from sgnas_zoo.hub.remote import Access, Repo
try:
    {code}
except Exception:
    traceback.print_exc()
"""


@pytest.mark.parametrize("fault", ["cut", "refused", "upload"])
def test_a_signed_address_is_never_told(hub, repo, size, made, tmp_path, fault):
    """Neither in errors, nor in their causes, nor in anybody's logs, however loud."""
    code, asked = f"print('READ', Repo({repo!r}).file('model.safetensors'))", "GET"
    if fault == "cut":
        hub.cut("/_lfs/", size // 2)
    elif fault == "refused":
        hub.fail_next("GET", "/_lfs/", 403, times=5)
    else:
        hub.fail_next("PUT", "/_lfs/", 403, times=5)
        code, asked = f"push({str(made / 'generator')!r}, 'me/loud-upload', token={hub.token!r})", "PUT"
    done = run(hub, tmp_path, "-c", LOUD.format(code=code), token=hub.token)
    said = done.stdout + done.stderr
    assert ("READ" in said) == (fault == "cut"), said
    assert "/_lfs/" in said  # the address is told, what opens it is not
    assert "X-Signature" not in said
    for request in hub.requests(asked, "/_lfs/"):
        assert request.query["X-Signature"] not in said


def test_what_a_server_says_does_not_reach_the_terminal(hub, repo, tmp_path):
    hub.fail_next("*", ".*", 404, times=9, headers={"X-HF-Warning": "topic; \x9b2Jpwned"})  # a CSI in one character
    said = run(hub, tmp_path, "-c", LOUD.format(code=f"Repo({repo!r}).file('config.json')"))
    assert r"\x9b2Jpwned" in said.stderr
    assert "\x9b" not in said.stderr + said.stdout


def test_a_hub_that_is_down(hub, repo, size, tmp_path):
    home = tmp_path / "warm"
    home.mkdir()
    assert read(hub, home, repo) == f"READ {size}"
    hub.stop()
    try:
        assert read(hub, home, repo) == f"READ {size}"
        started = time.monotonic()
        said = read(hub, tmp_path, repo)
        assert "is not in the cache, and" in said
        assert "cannot be reached; fetch it once while connected" in said
        assert time.monotonic() - started < 20  # to try again takes 23 seconds
    finally:
        hub.start()


def test_offline_by_choice(hub, repo, size, tmp_path):
    assert "HF_HUB_OFFLINE is set" in read(hub, tmp_path, repo, HF_HUB_OFFLINE="1")
    assert "it must not be asked" in read(hub, tmp_path, repo, access="local_files_only=True")
    assert read(hub, tmp_path, repo) == f"READ {size}"
    hub.forget()
    assert read(hub, tmp_path, repo, HF_HUB_OFFLINE="1") == f"READ {size}"
    assert read(hub, tmp_path, repo, access="local_files_only=True") == f"READ {size}"
    assert hub.requests() == []


def test_another_cache(hub, repo, size, tmp_path):
    assert read(hub, tmp_path, repo, access=f"cache_dir={str(tmp_path / 'mine')!r}") == f"READ {size}"
    assert list((tmp_path / "mine").glob("models--me--gen/snapshots/*/model.safetensors"))


def test_a_full_disk_is_named(hub, repo, tmp_path):
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000)); "
    limit += "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    said = tell(hub, tmp_path, limit + READ.format(repo=repo, file="model.safetensors", access=""))
    assert "Cannot keep me/gen@" in said
    assert "free space" in said
    assert read(hub, tmp_path, repo).startswith("READ")


def test_two_processes_may_fetch_at_once(hub, repo, size, tmp_path):
    hub.delay("/_lfs/", 0.5)
    with ThreadPoolExecutor(3) as pool:
        assert set(pool.map(lambda _: read(hub, tmp_path, repo), range(3))) == {f"READ {size}"}


def test_a_push_without_a_hub(hub, made, tmp_path, name):
    done = cli(hub, tmp_path, "push", made / "generator", name, token=hub.token, HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE is set; unset it" in done.stderr
    hub.stop()
    try:
        done = cli(hub, tmp_path, "push", made / "generator", name, token=hub.token)
        assert "check your connection" in done.stderr
    finally:
        hub.start()


# --- device profiles

GENERATED = "import sgnas_zoo; model = sgnas_zoo.create_model(latency='{ms}ms', profile={repo!r}, measure=False); "
GENERATED += "print('MADE', json.dumps(model.zoo))"


@pytest.fixture(scope="module")
def profile_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("profile") / "my-cpu.json"
    file.write_text(write_profile(made_up("sgnas_micro")))
    return file


def test_a_profile_is_published_pinned_and_predicts_offline_too(hub, tmp_path, name, profile_file):
    done = cli(hub, tmp_path, "push", profile_file, name, "--tag", "v1", token=hub.token)
    assert done.returncode == 0, done.stderr
    files = hub.files(name, "v1")
    assert set(files) - {".gitattributes"} == {"profile.json", "README.md"}
    assert files["profile.json"] == profile_file.read_bytes()
    card = files["README.md"].decode()
    assert name in card
    assert "A board" in card
    assert "0.980" in card
    profile = made_up("sgnas_micro")
    table = profile.table(SPACES["sgnas_micro"], profile.conditions)
    code = GENERATED.format(ms=0.8 * table.maximum, repo=f"{name}@v1")
    said = tell(hub, tmp_path, code, token=hub.token)
    record = json.loads(said.removeprefix("MADE "))
    assert record["latency_ms"] <= 0.8 * table.maximum
    assert record["latency_conditions"]["profile"] == f"{name}@{hub.commits(name)[0].oid}"
    assert tell(hub, tmp_path, code, HF_HUB_OFFLINE="1") == said
    again = cli(hub, tmp_path, "push", profile_file, name, token=hub.token)
    assert "Nothing has changed" in again.stderr


def test_a_profile_keeps_out_of_a_repo_of_another_kind_and_others_out_of_its_own(
    hub, made, tmp_path, name, profile_file
):
    cli(hub, tmp_path, "push", profile_file, name, token=hub.token)
    refused = cli(hub, tmp_path, "push", made / "model", name, token=hub.token)
    assert refused.returncode == 2
    assert "holds a profile, this is a model" in refused.stderr
    cli(hub, tmp_path, "push", made / "model", f"{name}-2", token=hub.token)
    refused = cli(hub, tmp_path, "push", profile_file, f"{name}-2", token=hub.token)
    assert "holds a model, this is a profile" in refused.stderr


def test_a_hostile_profile_is_neither_published_nor_used(hub, tmp_path, name, profile_file):
    data = json.loads(profile_file.read_text())
    data["blocks"][0]["median_ms"] = float("nan")
    hostile = tmp_path / "hostile.json"
    hostile.write_text(json.dumps(data))
    refused = cli(hub, tmp_path, "push", hostile, name, token=hub.token)
    assert refused.returncode == 2
    assert "is not valid JSON" in refused.stderr
    assert name not in hub.repos
    said = tell(hub, tmp_path, GENERATED.format(ms=5, repo=str(hostile)))
    assert said.startswith("REFUSED")
    assert "not a valid profile" in said or "is not valid JSON" in said
