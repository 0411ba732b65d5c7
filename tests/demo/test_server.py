"""The page over HTTP, as a real process: what clients get, and what strangers do not."""

import json
import re
import signal
import threading
import time
import zipfile

import pytest
import warm
from pages import Served, request
from PIL import Image

gradio_client = pytest.importorskip("gradio_client", reason="gradio is not installed: pip install 'sgnas-zoo[demo]'")
MICRO, NAMES = "sgnas_micro.cifar10", ("flops", "params", "memory", "flash")
MOST_WAITING = 64
OPEN = (0.3405, 30.72, 368)
"""Right ends of the other sliders."""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    with Served(tmp_path_factory.mktemp("page")) as page:
        yield page
        code, said = page.stop()
        assert code == 130
        lines = said.splitlines()
        assert lines[0] == f"Serving {page.url} until Ctrl-C."
        assert lines[-1] == "Interrupted."
        assert said.count("Traceback") <= 1, said  # of the path that is not ours; the page says nothing of it
        assert not [*(page.folder / "tmp").glob("sgnas-zoo-demo-*")]


@pytest.fixture
def client(page, tmp_path):
    return gradio_client.Client(page.url, verbose=False, download_files=str(tmp_path / "downloads"))


def text_of(found):
    return [each.get("value") if isinstance(each, dict) else each for each in found]


def test_a_move_is_answered_with_all_that_is_shown(client):
    costs, architecture, place, python, command, kept, *messages, _ = text_of(
        client.predict(MICRO, 4, *OPEN, api_name="/move_flops")
    )
    assert "4M" in costs
    assert "<svg" in architecture
    assert "predicted top-1" in place
    assert 'flops=4e6, pretrained="cifar10"' in python
    assert command == "sgnas-zoo generate --space sgnas_micro --flops 4M --pretrained cifar10 --output my-model"
    assert json.loads(kept) == {"offer": MICRO, "budgets": {"flops": 4e6}}
    assert messages == [""] * 4


@pytest.mark.parametrize(
    ("arguments", "moved", "said"),
    [((MICRO, 1.3, *OPEN), 0, "1.602M MACs or more"), ((MICRO, 4, 0.06, 30, 300), 1, "or more"),
     ((MICRO, "4", *OPEN), 0, "is not a number"), (("nobody", 4, *OPEN), 0, "Unknown space"),
     ((["x"], 4, *OPEN), 0, "Unknown space"), ((MICRO, {"a": 1}, *OPEN), 0, "is not a number")],
)  # fmt: skip
def test_what_cannot_be_answered_is_a_message_and_changes_nothing_else(client, arguments, moved, said):
    found = client.predict(*arguments, api_name=f"/move_{NAMES[moved]}")
    assert said in text_of(found)[6 + moved]
    for other in (*found[:6], found[-1]):
        assert "value" not in other


def test_a_picture_is_named(client, page, tmp_path):
    Image.effect_noise((40, 30), 50).convert("RGB").save(tmp_path / "noise.png")
    kept = json.dumps({"offer": MICRO, "budgets": {"flops": 4e6}})
    seen = client.predict(kept, gradio_client.handle_file(tmp_path / "noise.png"), api_name="/look")
    assert seen.count("<tr>") == 6
    assert "CIFAR-10" in seen


def test_a_hostile_picture_is_a_message(client, tmp_path):
    Image.new("L", (10_000, 5_000)).save(tmp_path / "large.png")
    (tmp_path / "text.png").write_text("hello")
    kept = json.dumps({"offer": MICRO, "budgets": {"flops": 4e6}})
    for name, said in (("large.png", "50.0 megapixels"), ("text.png", "cannot be read as a picture")):
        seen = client.predict(kept, gradio_client.handle_file(tmp_path / name), api_name="/look")
        assert said in seen
        assert "<img" not in seen
    assert "move a slider" in client.predict("{}", gradio_client.handle_file(tmp_path / "large.png"), api_name="/look")
    assert "Choose or drop a picture first." in client.predict(kept, None, api_name="/look")


def test_a_large_upload_is_cut_off(page):
    status, _, body = upload(page, b"\xff\xd8" + bytes(11 * 2**20))
    assert status == 413
    assert b"Traceback" not in body


def upload(page, content):
    form = (
        b'--x\r\nContent-Disposition: form-data; name="files"; filename="../../a.jpg"\r\n\r\n'
        + content
        + b"\r\n--x--\r\n"
    )
    return request(f"{page.url}gradio_api/upload", form, {"Content-Type": "multipart/form-data; boundary=x"})


def test_no_file_of_the_machine_is_read(page):
    for path in ("/etc/passwd", "../../etc/passwd", str(page.folder), "http://127.0.0.1:1/x.png"):
        status, _, body = request(f"{page.url}gradio_api/file={path}")
        assert status in (403, 404)
        assert b"root:" not in body
    kept = json.dumps({"offer": MICRO, "budgets": {"flops": 4e6}})
    sent = {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}
    data = json.dumps({"data": [kept, sent]}).encode()
    status, _, body = request(f"{page.url}gradio_api/call/look", data, {"Content-Type": "application/json"})
    event = json.loads(body)["event_id"]
    _, _, answer = request(f"{page.url}gradio_api/call/look/{event}")
    assert b"event: error" in answer
    assert b"Traceback" not in answer
    assert b"root:" not in answer


def test_a_folder_is_made_and_downloaded(client):
    kept = json.dumps({"offer": MICRO, "budgets": {"flops": 4e6}})
    button, message = client.predict(kept, api_name="/make")
    path = button["value"] if isinstance(button, dict) else button
    names = zipfile.ZipFile(path).namelist()
    assert "sgnas_micro-flops-4M/model.safetensors" in names
    assert text_of([message]) == [""]


def test_nothing_is_named_that_lies_elsewhere(page):
    status, headers, body = request(page.url)
    assert status == 200
    assert headers["Content-Security-Policy"].startswith("default-src 'self'")
    links = re.findall(rb"<(?:script|link)[^>]*(?:src|href)=\"(https?://[^\"]+)", body)
    assert not [link for link in links if not link.startswith(page.url.encode())]


def test_many_at_once_each_get_their_own(page):
    found, wrong = {}, []

    def visit(number):
        try:
            client = gradio_client.Client(page.url, verbose=False)
            for step in range(3):
                flops = round(3 + 0.2 * number + 0.01 * step, 2)
                command = text_of(client.predict(MICRO, flops, *OPEN, api_name="/move_flops"))[4]
                assert f"--flops {flops:g}M" in command
                found[number, step] = command
        except Exception as error:
            wrong.append(error)

    visitors = [threading.Thread(target=visit, args=(number,)) for number in range(10)]
    for each in visitors:
        each.start()
    for each in visitors:
        each.join(120)
    assert not wrong
    assert len(found) == 30


@pytest.mark.slow
def test_a_port_that_is_taken_is_one_line(page):
    done = warm.run("-m", "sgnas_zoo", "demo", "--port", page.port, cwd=page.folder)
    assert done.returncode == 2
    assert "choose another --port" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_server_that_is_stopped_while_it_makes_a_network_ends_at_once(tmp_path):
    with Served(tmp_path) as page:
        kept = json.dumps({"offer": "sgnas_imagenet.cifar10_r64", "budgets": {"flops": 500e6}})
        data = json.dumps({"data": [kept]}).encode()
        assert request(f"{page.url}gradio_api/call/make", data, {"Content-Type": "application/json"})[0] == 200
        time.sleep(0.2)
        begun = time.monotonic()
        code, said = page.stop()
    assert code == 130
    assert time.monotonic() - begun < 15
    assert said.splitlines()[-1] == "Interrupted."
    assert not [*(tmp_path / "tmp").glob("sgnas-zoo-demo-*")]


@pytest.mark.slow
def test_a_full_queue_refuses_more_and_serves_those_who_wait(tmp_path):
    with Served(tmp_path) as page:
        kept = json.dumps({"offer": "sgnas_imagenet.cifar10_r64", "budgets": {"flops": 500e6}})
        data, told = json.dumps({"data": [kept]}).encode(), {"Content-Type": "application/json"}
        answers = [request(f"{page.url}gradio_api/call/make", data, told) for _ in range(MOST_WAITING + 20)]
        taken = [json.loads(body)["event_id"] for status, _, body in answers if status == 200]
        refused = [body for status, _, body in answers if status == 503]
        assert len(taken) + len(refused) == len(answers)
        assert MOST_WAITING <= len(taken) < len(answers)
        assert all(b"Queue is full" in body and b"Traceback" not in body for body in refused)
        assert b"event: complete" in request(f"{page.url}gradio_api/call/make/{taken[0]}")[2]
        moved = gradio_client.Client(page.url, verbose=False)
        assert text_of(moved.predict(MICRO, 4, *OPEN, api_name="/move_flops"))[5], "waits for the networks of others"


@pytest.mark.slow
def test_a_proxy_that_is_down_is_not_asked(tmp_path):
    names = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY")
    with Served(tmp_path, **dict.fromkeys(names, "http://127.0.0.1:9")) as page:
        assert page.stop()[0] == 130


@pytest.mark.slow
def test_sigterm_ends_it_too(tmp_path):
    with Served(tmp_path) as page:
        code, said = page.stop(signal.SIGTERM)
    assert code == 143
    assert said.splitlines()[-1] == "Terminated."
    assert not [*(tmp_path / "tmp").glob("sgnas-zoo-demo-*")]
