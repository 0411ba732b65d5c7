"""No token reaches a file, a message, a record, a card or what timm keeps with a model."""

import copy
import logging
import pickle
import threading
import traceback
import warnings
from http.server import BaseHTTPRequestHandler, HTTPServer

import local_hub
import pytest
import timm
import warm
from click.testing import CliRunner
from recipe_runs import run_recipe
from timm.models import save_for_hf

from sgnas_zoo import create_model, load_generator, load_supernet, save_model
from sgnas_zoo.api.request import OWN, reach
from sgnas_zoo.cli.main import main
from sgnas_zoo.costs import BUDGETS
from sgnas_zoo.errors import ArtifactError, PretrainedError, ZooError
from sgnas_zoo.hub.model_fields import LOADING, Arguments
from sgnas_zoo.hub.push import push
from sgnas_zoo.hub.remote import Access
from sgnas_zoo.models.record import KEPT, arguments, led_to_it

MARKER = "hf_MARKERmarkerMARKERmarkerMARKER00"
ARCH = "-".join(["3"] * 8)


def assert_no_marker(*things):
    for thing in things:
        assert MARKER not in str(thing)
        assert MARKER not in repr(thing)


def assert_clean(model, folder, caplog):
    """Nothing of a model, of what is written of it or of what was logged holds the marker."""
    assert_no_marker(arguments(model), model.zoo if hasattr(model, "zoo") else "", model.pretrained_cfg)
    assert_no_marker(model.default_cfg, vars(model))
    assert MARKER.encode() not in pickle.dumps([arguments(model), getattr(model, "zoo", {}), model.pretrained_cfg])
    assert_no_marker(vars(copy.deepcopy(model)))
    save_model(model, folder / "ours", weights="unknown")
    save_for_hf(model, folder / "timms")
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) >= 5
    for path in files:
        assert MARKER.encode() not in path.read_bytes(), path
    assert_no_marker(caplog.text)


OURS = {
    "a budget": {"flops": 4e6},
    "inherited": {"flops": 4e6, "pretrained": True},
    "an architecture": {"model_name": "sgnas", "arch": ARCH, "space": "sgnas_micro"},
    "inherited architecture": {"model_name": "sgnas", "arch": ARCH, "space": "sgnas_micro", "pretrained": True},
    "a published network": {"model_name": "sgnas_a"},
}


@pytest.mark.parametrize("asked", OURS.values(), ids=list(OURS))
def test_our_door_keeps_no_token(asked, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        model = create_model(**asked, token=MARKER)
    assert_clean(model, tmp_path, caplog)
    assert_no_marker(*(warning.message for warning in seen))


def test_our_door_keeps_no_token_with_artifacts_of_ones_own(made, tmp_path, caplog):
    for number, asked in enumerate((
        {"flops": 4e6, "pretrained": str(made / "supernet"), "generator": str(made / "generator")},
        {"model_name": f"local-dir:{made / 'model'}", "pretrained": True},
    )):  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = create_model(**asked, token=MARKER)
        assert_clean(model, tmp_path / str(number), caplog)


@pytest.mark.parametrize("name", ["sgnas", "greedynas", "spos", "sgnas_a", "resnet_micro_bits"])
def test_timms_door_refuses_a_token_and_says_how_to_log_in(name):
    budget = {"bitops": 14e6} if "bits" in name else {}
    with pytest.raises(PretrainedError, match=r"hf auth login.*HF_TOKEN.*create_model\(token=") as error:
        timm.create_model(name, token=MARKER, **budget)
    assert_no_marker(error.value)


def test_a_token_does_not_outlive_its_call():
    create_model(flops=4e6, token=MARKER)
    assert reach({}).token is None
    with pytest.raises(ZooError):
        create_model("nonsense", token=MARKER)
    assert reach({}).token is None


def test_access_does_not_show_its_token():
    assert_no_marker(Access(token=MARKER), [Access("main", MARKER)])
    assert "***" in repr(Access(token=MARKER))
    assert "***" not in repr(Access())


def test_what_is_kept_is_what_the_reader_checks():
    assert set(Arguments.__struct_fields__) == set(KEPT)
    assert not set(KEPT) & {*led_to_it(), *LOADING, "token"}
    assert set(BUDGETS) < set(led_to_it())
    assert set(OWN) == {*OWN} & {*KEPT, *led_to_it(), "token"}  # a keyword of ours is kept, or led to it, or refused


def test_what_a_saved_model_cannot_state_is_refused_when_it_is_saved(tmp_path):
    model = create_model("sgnas", arch=ARCH, space="sgnas_micro", pad_type="same")
    with pytest.raises(ArtifactError, match="made with pad_type, which a saved model cannot state"):
        save_model(model, tmp_path / "model")
    assert not (tmp_path / "model").exists()


class Echo(BaseHTTPRequestHandler):
    """A Hub that fails and repeats what it was sent, in its headers and its body."""

    def answer(self):
        secret = self.headers.get("Authorization", "none")
        self.send_response(self.server.status)
        self.send_header("X-Error-Message", f"no good: {secret}")
        self.send_header("X-Request-Id", secret)
        self.end_headers()
        self.wfile.write(b'{"error": "no good: %s"}' % secret.encode())
        self.server.heard.append(secret)

    do_GET = do_HEAD = do_POST = do_PUT = answer

    def log_message(self, *_):
        pass


@pytest.fixture(params=[401, *(pytest.param(s, marks=pytest.mark.slow) for s in (400, 403, 404))])
def echo(request, monkeypatch):
    with HTTPServer(("127.0.0.1", 0), Echo) as server:
        server.status, server.heard = request.param, []
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


PROGRAM = """
import sys, traceback, logging
logging.basicConfig(level=logging.INFO)
import sgnas_zoo
from sgnas_zoo.hub.push import push
token = sys.argv[1] if len(sys.argv) > 1 else None
for call in (
    lambda: sgnas_zoo.create_model(flops=4e6, pretrained="me/supernet", token=token),
    lambda: sgnas_zoo.create_model(flops=4e6, generator="me/generator", token=token),
    lambda: sgnas_zoo.create_model("hf-hub:me/model", pretrained=True, token=token),
    lambda: sgnas_zoo.create_model(latency="20ms", profile="me/profile", token=token),
    lambda: sgnas_zoo.load_generator("me/generator", token=token),
    lambda: sgnas_zoo.load_supernet("me/supernet", token=token),
    lambda: push(sys.argv[2] if len(sys.argv) > 2 else "MODEL", "me/model", token=token),
):
    try:
        call()
    except sgnas_zoo.errors.ZooError:
        traceback.print_exc()
    else:
        raise SystemExit("nothing failed")
"""


@pytest.mark.parametrize("given", ["argument", "environment"])
def test_a_hub_that_echoes_the_token_in_its_error_does_not_get_it_shown(given, echo, made, tmp_path):
    hub = local_hub.LocalHub.environment
    token = MARKER if given == "environment" else None
    stub = type("Stub", (), {"endpoint": f"http://127.0.0.1:{echo.server_port}"})()
    program = PROGRAM.replace('"MODEL"', repr(str(made / "model")))
    command = ["-c", program, *([MARKER] if given == "argument" else [])]
    done = warm.run(*command, env=hub(stub, tmp_path, token), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert any(MARKER in secret for secret in echo.heard)
    assert done.stderr.count("ArtifactError") >= 7
    assert MARKER not in done.stdout + done.stderr
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or MARKER.encode() not in path.read_bytes(), path


@pytest.mark.slow
@pytest.mark.parametrize("command", ["generate", "push", "search", "export", "benchmark", "profile"])
def test_no_command_shows_the_token_of_the_environment(command, made, tmp_path):
    with HTTPServer(("127.0.0.1", 0), Echo) as server:
        server.status, server.heard = 400, []
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        stub = type("Stub", (), {"endpoint": f"http://127.0.0.1:{server.server_port}"})()
        arguments = {
            "generate": ["--flops", "4M", "--pretrained", "me/supernet", "--output", "out"],
            "push": [str(made / "model"), "me/model"],
            "search": ["--supernet", "me/supernet", "--flops", "4M", "--dataset", "me/data", "--output", "out"],
            "export": ["hf-hub:me/model"],
            "benchmark": ["hf-hub:me/model"],
            "profile": ["--push-to-hub", "me/profile"],
        }[command]
        environment = local_hub.LocalHub.environment(stub, tmp_path / "home", MARKER)
        done = warm.run("-m", "sgnas_zoo.cli", command, *arguments, env=environment, cwd=tmp_path)
        server.shutdown()
        thread.join()
    assert done.returncode, done.stdout
    assert MARKER not in done.stdout + done.stderr
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or MARKER.encode() not in path.read_bytes(), path


@pytest.mark.slow
def test_no_run_keeps_the_token_of_the_environment(made, photos, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("HF_TOKEN", MARKER)
    few = ("--dataset", photos, "--workers", 0)
    train = (*few, "--epochs", 1, "--batch-size", 8, "--limit", 16, "--holdout", 0.25)
    scored = ("--supernet", made / "supernet", *few, "--population", 4, "--generations", 1)
    network = ("--space", "sgnas_micro", "--arch", ARCH, "--resolution", 16)
    for name, options in {
        "train_supernet": (*train, "--space", "sgnas_micro", "--resolution", 16),
        "train_generator": ("--supernet", made / "supernet", *few, "--epochs", 1, "--batch-size", 2),
        "retrain": (*train, *network),
        "finetune": (*train, "--model", f"local-dir:{made / 'model'}"),
        "evaluate": (*few, "--split", "train", "--model", f"local-dir:{made / 'model'}"),
        "measure_supernet": (*few, "--split", "train", "--supernet", made / "supernet", "--generator",
                             made / "generator", "--budgets", 2, "--randoms", 1),
        "distill_generator": ("--steps", 1, "--constraint-batch", 2),
    }.items():  # fmt: skip
        assert MARKER not in run_recipe(name, *options, "--output", tmp_path / name)
    for name, options in {
        "search": (*scored, "--flops", "4M"),
        "compare": (*scored, "--space", "sgnas_micro", "--generator", made / "generator", "--images", 3,
                    "--strategies", "random,generator", "--budgets", "3M,4M"),
    }.items():  # fmt: skip
        done = CliRunner().invoke(main, [name, *map(str, (*options, "--output", tmp_path / name))])
        assert done.exit_code == 0, done.output
        assert MARKER not in done.output
    assert MARKER not in "".join(capfd.readouterr())
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.relative_to(tmp_path).parts[0] for path in written} >= {"train_supernet", "evaluate", "compare"}
    for path in written:
        assert MARKER.encode() not in path.read_bytes(), path


@pytest.mark.parametrize(
    "call",
    [
        lambda place: load_generator("me/x", token=MARKER, local_files_only=True, cache_dir=place),
        lambda place: load_supernet("me/x", token=MARKER, local_files_only=True, cache_dir=place),
        lambda place: push(place, "me/x", token=MARKER),
    ],
)
def test_errors_do_not_show_the_token(call, tmp_path):
    with pytest.raises(ZooError) as error:
        call(tmp_path)
    assert "\n" not in str(error.value)
    assert_no_marker(error.value, *traceback.format_exception_only(error.value))
