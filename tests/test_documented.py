"""README and docs say what is true: their code runs, prints what they show, and their commands have these options."""

import json
import os
import re
import shutil

import documented
import pytest
import warm
from documented import PAGES, ROOT, blocks
from local_hub import LocalHub

from sgnas_zoo.zoo import ARTIFACTS

SLOW = {"docs/train.md", "docs/fine-tuning.md", "docs/memory.md"}
"""Pages that train or export."""
RUN = {
    "README.md": 1, "docs/index.md": 5, "docs/budgets.md": 6, "docs/latency.md": 2, "docs/memory.md": 3,
    "docs/weights.md": 4, "docs/fine-tuning.md": 4, "docs/train.md": 4, "docs/hub.md": 1, "docs/extend.md": 6,
}  # fmt: skip
"""How many blocks of a page run; those of the other pages, none."""
RUNNING = [pytest.param(page, marks=pytest.mark.slow if page in SLOW else ()) for page in RUN]


def read(page):
    return (ROOT / page).read_text(encoding="utf-8")


def run(page, folder):
    """Run a page in a process of its own, offline."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true",
                   "HF_DATASETS_CACHE": str(folder / ".cache"), "XDG_CACHE_HOME": str(folder / ".cache"),
                   "PYTHONPATH": str(ROOT)}  # fmt: skip
    done = warm.run(ROOT / "tests" / "documented.py", page, cwd=folder, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("page", RUNNING)
def test_what_a_page_shows_runs_and_prints_what_it_says(page, tmp_path):
    found = run(ROOT / page, tmp_path)
    assert not found["mistakes"], "\n".join(found["mistakes"])
    assert found["ran"] == RUN[page]


@pytest.mark.slow
def test_what_needs_an_account_runs_against_a_local_hub(tmp_path):
    for artifact, name in (("sgnas_imagenet_supernet", "supernet"), ("sgnas_micro_8m", "model"),
                           ("sgnas_imagenet_supernet_generator", "generator")):  # fmt: skip
        shutil.copytree(ARTIFACTS / artifact, tmp_path / "runs" / name)
    with LocalHub() as hub:
        environment = {**hub.environment(tmp_path / "home", hub.add_user("me")), "PYTHONPATH": str(ROOT)}
        page = [ROOT / "tests" / "documented.py", ROOT / "docs" / "hub.md", "needs a Hub account"]
        done = warm.run(*page, cwd=tmp_path, env=environment)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout.splitlines()[-1]) == {"ran": 3, "mistakes": []}
        assert {"me/sgnas-350m", "me/sgnas-supernet", "me/sgnas-generator"} == set(hub.repos)


def test_every_block_is_known():
    assert {page: sum(block.runs for block in blocks(read(page))) for page in PAGES} == {
        **dict.fromkeys(PAGES, 0), **RUN,
    }  # fmt: skip
    for page in PAGES:
        for block in blocks(read(page)):
            assert block.language in ("python", "console", "text", "sh"), f"{page}, line {block.line}"
            if block.language == "python":
                compile(block.text, f"{page}, line {block.line}", "exec")
        marks = re.findall(r"^<!--.*-->$", read(page), re.MULTILINE)
        assert len(marks) == sum(block.not_run is not None for block in blocks(read(page))), page


def test_every_command_has_the_options_it_is_shown_with():
    shown = [(page, words, True) for page in PAGES for block in blocks(read(page)) for words, _ in block.commands]
    shown += [(page, words, False) for page in PAGES for words in documented.inline_commands(read(page))]
    assert len(shown) > 70
    own = {"--storage", "my_strategies"}  # of modules that the page writes
    mistakes = [(page, words, wrong) for page, words, whole in shown
                if not own & set(words) and (wrong := documented.wrong(words, whole))]  # fmt: skip
    assert not mistakes


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("sgnas-zoo generate --flops 4M --colour red", "colour"),
        ("sgnas-zoo generate --precision int9", "int9"),
        ("sgnas-zoo make", "make"),
        ("sgnas-zoo front --output x", "space"),
        ("accelerate launch recipes/finetune.py --dataset x --output y --lrr 1", "lrr"),
        ("accelerate launch --fast recipes/finetune.py --dataset x --output y", "fast"),
        ("python recipes/train_supernet.py --dataset x", "output"),
        ("pip install '.[everything]'", "everything"),
    ],
)
def test_a_command_that_is_made_up_is_found(command, said):
    (block,) = blocks(f"```console\n$ {command}\n```")
    assert said in documented.wrong(block.commands[0][0])


def test_what_is_untrue_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "```python\nprint(1 + 1)\n```\n\n```text\n3\n```\n\n```python\nnothing\n```\n\n"
        "```console\n$ sgnas-zoo list --pretrained\nspace ... cifar1000 ...\n$ sgnas-zoo info nobody\n```\n\n"
        "<!-- not run: is wrong -->\n```python\nnothing\n```\n\n```python\nprint('a  b')\n```\n\n```text\na ...\n```\n"
    )
    found = run(page, tmp_path)
    assert found["ran"] == 4
    said = found["mistakes"]
    assert [re.match(r"line (\d+)", line)[1] for line in said] == ["2", "10", "14", "14"]
    assert "prints:\n2" in said[0]
    assert "NameError" in said[1]
    assert "nobody" in said[3]


def test_links_lead_somewhere():
    links = [(page, link) for page in PAGES for link in re.findall(r"\]\(([^)\s]+)\)", read(page))]
    assert len(links) > 80
    for page, link in links:
        path, _, anchor = link.partition("#")
        if link.startswith("https://"):
            continue
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.is_file(), f"{page}: {link}"
        lines = target.read_text(encoding="utf-8").splitlines() if anchor else []
        titles = [line.lstrip("#").strip().lower() for line in lines if line.startswith("#")]
        headings = {re.sub(r"[^\w -]", "", title).replace(" ", "-") for title in titles}
        assert not anchor or anchor in headings, f"{page}: {link}"


def test_readme_is_short():
    assert len(read("README.md").splitlines()) <= 130
