"""The page as a Space: its files, and pushing them to a Hub."""

import json
import signal

import pytest
import warm
from local_hub import LocalHub
from pages import Served
from profiles import made_up

import sgnas_zoo
from sgnas_zoo.costs.profile_file import write_profile
from sgnas_zoo.demo.space import space_files
from sgnas_zoo.errors import SettingError

pytest.importorskip("gradio", reason="gradio is not installed: pip install 'sgnas-zoo[demo]'")
REPO = "spaces/me/budgets"


@pytest.fixture
def hub():
    with LocalHub() as hub:
        yield hub


def push(hub, tmp_path, *options, token=None, repo="me/budgets"):
    environment = hub.environment(tmp_path / "home", token or hub.add_user("me"))
    command = ("-m", "sgnas_zoo", "demo", "--push-to-hub", repo, *map(str, options))
    return warm.run(*command, env={**environment, "XDG_CACHE_HOME": str(tmp_path)}, cwd=tmp_path)


def test_a_push_is_one_commit_of_what_a_space_needs(hub, tmp_path):
    done = push(hub, tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"Pushed to {hub.endpoint}/spaces/me/budgets" in done.stderr
    files = hub.files(REPO)
    assert set(files) == {".gitattributes", "README.md", "app.py", "requirements.txt"}
    assert files["requirements.txt"].decode() == f"sgnas-zoo[demo]=={sgnas_zoo.__version__}\n"
    assert "sdk: gradio\n" in files["README.md"].decode()
    compile(files["app.py"], "app.py", "exec")
    assert len(hub.commits(REPO)) == 2
    again = push(hub, tmp_path)
    assert "Nothing has changed" in again.stderr
    assert len(hub.commits(REPO)) == 2


@pytest.mark.slow
def test_a_profile_goes_along_and_leaves_with_the_next_push(hub, tmp_path):
    (tmp_path / "board.json").write_text(write_profile(made_up("sgnas_micro", form="search")))
    assert push(hub, tmp_path, "--profile", tmp_path / "board.json").returncode == 0
    assert json.loads(hub.files(REPO)["profiles/1.json"])["space"] == "sgnas_micro"
    assert push(hub, tmp_path).returncode == 0
    assert "profiles/1.json" not in hub.files(REPO)


def test_a_private_space_is_private_and_installs_what_it_is_told(hub, tmp_path):
    named = "sgnas-zoo[demo] @ git+https://example.org/me/sgnas_zoo"
    assert push(hub, tmp_path, "--private", "--requirement", named).returncode == 0
    assert hub.repos[REPO].private
    assert hub.files(REPO)["requirements.txt"].decode() == f"{named}\n"


@pytest.mark.parametrize("requirement", ["a\nb", "--index-url=http://x", "a\x1b[1m"])
def test_a_requirement_is_one_line(requirement):
    with pytest.raises(SettingError, match="in a line"):
        space_files(requirement=requirement)


def test_what_is_something_else_is_left_alone(hub, tmp_path):
    hub.create(REPO, {"app.py": "import gradio\n"})
    before = hub.files(REPO)
    done = push(hub, tmp_path)
    assert done.returncode == 2
    assert "holds something else" in done.stderr
    assert hub.files(REPO) == before


@pytest.mark.parametrize(
    ("repo", "read_only", "said"),
    [("budgets", False, "USER/NAME"), ("other/budgets", False, "403"), ("me/budgets", True, "403")],
)
def test_a_push_that_is_refused_says_why_in_one_line(hub, tmp_path, repo, read_only, said):
    token = hub.add_user("me")
    done = push(hub, tmp_path, token=hub.add_token("me") if read_only else token, repo=repo)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not hub.repos


@pytest.mark.slow
def test_what_was_pushed_runs(hub, tmp_path):
    from gradio_client import Client

    (tmp_path / "board.json").write_text(write_profile(made_up("sgnas_micro", form="search")))
    assert push(hub, tmp_path, "--profile", tmp_path / "board.json").returncode == 0
    for path, content in hub.files(REPO).items():
        (tmp_path / "space" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "space" / path).write_bytes(content)
    before = sorted((tmp_path / "space").rglob("*"))
    with Served(tmp_path / "space", command=("app.py",)) as page:
        found = Client(page.url, verbose=False).predict("sgnas_micro.cifar10", api_name="/change")
        assert "A board" in str(found[0])
        assert page.stop(signal.SIGTERM)[0] == -signal.SIGTERM
    left = {*(tmp_path / "space").rglob("*")} - {*before}
    assert not [path for path in left if path.relative_to(tmp_path / "space").parts[0] not in ("cache", "tmp")]
