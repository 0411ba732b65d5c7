"""timm's own model tests, taken from the sdist of the installed version and run over our models."""

from __future__ import annotations

import importlib.util
import itertools
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

import pytest
import timm
from places import TESTS

import sgnas_zoo

PATTERNS = ("sgnas_*", "greedynas_*", "spos*", "resnet18_bits", "resnet34_bits", "resnet_micro_bits", "nas_bench_macro")

# What timm 1.0.31 asks of every model. The list is spelled out so that a check which vanishes from our run, renamed or
# filtered away, is noticed; a timm that adds one adds a line here.
CHECKS = (
    "test_model_forward",
    "test_model_backward",
    "test_model_default_cfgs",
    "test_model_forward_torchscript",
    "test_model_forward_features",
    "test_model_forward_intermediates_features",
    "test_model_forward_intermediates",
    "test_prune_intermediate_layers_contract",
    "test_model_forward_fx",
    "test_model_backward_fx",
    "test_model_forward_fx_torchscript",
)

MARKERS = ("base", "forward", "backward", "cfg", "cfg_nonstd", "torchscript", "features", "fxforward", "fxbackward")

# timm's tests change their cases and limits by these; PYTEST_* would carry this run's options into the child.
FOREIGN_SETTINGS = re.compile(r"GITHUB_ACTIONS|TIMEOUT|TORCH_BACKEND|TORCH_DEVICE|PYTEST_.*")


def download_sdist(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:", "--retries", "1"]
    command += [f"timm=={timm.__version__}", "-d", str(folder)]
    download = subprocess.run(command, capture_output=True, text=True)
    if download.returncode != 0:
        reason = f"no sdist of timm {timm.__version__}: {download.stderr.strip()}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    (sdist,) = folder.glob("timm-*.tar.gz")
    return sdist


def unpack_tests(sdist: Path, folder: Path) -> Path:
    """Unpack the tests alone, for the timm beside them would shadow the installed one; return where they stand."""
    with tarfile.open(sdist) as archive:
        members = [member for member in archive if PurePosixPath(member.name).parts[1:2] == ("tests",)]
        archive.extractall(folder, members, filter="data")
    (root,) = folder.iterdir()
    (root / "pytest.ini").write_text("[pytest]\nmarkers =\n" + "".join(f"    {name}\n" for name in MARKERS))
    return root


def run_suite(root: Path, report: Path) -> subprocess.CompletedProcess[str]:
    packages = [TESTS / "timm_suite", Path(sgnas_zoo.__file__).parents[1]]
    environment = {name: value for name, value in os.environ.items() if not FOREIGN_SETTINGS.fullmatch(name)}
    environment |= {
        "PYTHONPATH": os.pathsep.join([*map(str, packages), os.environ.get("PYTHONPATH", "")]),
        "HF_HUB_OFFLINE": "1",
        "TIMM_EXT_IMPORT": "sgnas_zoo",
        "TIMM_EXT_FILTER": ",".join(PATTERNS),
        "OMP_NUM_THREADS": "1",  # two workers already fill two cores
    }
    # Naming our models drops the tests that fix a model of timm's; the pretrained ones need weights on a hub.
    names = " or ".join(pattern.rstrip("*") for pattern in PATTERNS)
    command = [sys.executable, "-m", "pytest", "tests/test_models.py", "-c", "pytest.ini", "-p", "timm_ext_plugin"]
    command += ["-k", f"({names}) and not pretrained", "--timeout=1800", f"--junitxml={report}", "-q", "--tb=short"]
    if importlib.util.find_spec("xdist"):
        command += ["-n", "2", "--dist", "worksteal"]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=5400)


def read_cases(report: Path) -> Iterator[tuple[str, str, str]]:
    """Yield check, model (without its tag) and outcome of each case in a junit report."""
    for case in ElementTree.parse(report).iter("testcase"):
        check, _, parameters = case.attrib["name"].partition("[")
        model = parameters.rstrip("]").rpartition("-")[2].partition(".")[0]
        outcomes = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
        yield check, model, outcomes[0] if outcomes else "passed"


@pytest.mark.slow
@pytest.mark.timeout(6000)  # far above what it takes on a busy machine
def test_timm_accepts_every_model(tmp_path: Path) -> None:
    root = unpack_tests(download_sdist(tmp_path), tmp_path / "suite")
    report = tmp_path / "report.xml"
    run = run_suite(root, report)
    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr[-5_000:]

    cases = list(read_cases(report))
    assert [case for case in cases if case[2] != "passed"] == []  # a skip counts too: no check may pass us by
    passed = {(check, model) for check, model, _ in cases}
    models = {name for pattern in PATTERNS for name in timm.list_models(pattern)}
    assert passed == set(itertools.product(CHECKS, models))
    assert len(models) >= 11
    assert len(passed) >= 121  # 11 checks of the eight networks that the papers publish, and of three of bits
