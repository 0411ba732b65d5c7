"""Long-lived processes: memory stays flat, and threads get what one would."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import warm

from sgnas_zoo import create_model, generate

FLAT = """
import gc, resource, sys, warnings
import sgnas_zoo
warnings.simplefilter("ignore")

def once(i):
    if i % 10 == 0:
        sgnas_zoo.create_model(flops=2e6 + 20e3 * (i % 300), space="sgnas_micro", num_classes=10 + i % 7)
    side = 32 + i // 10 % 100 * (i % 10 == 0)  # more conditions than any cache holds
    budget = (4e6 + 500 * (i % 1000)) * (side / 32) ** 2
    sgnas_zoo.generate(flops=budget, resolution=side, space="sgnas_micro")

def resident():
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20

for i in range(1000):
    once(i)
before = resident()
for i in range(1000, 4000):
    once(i)
print(resident() - before)
"""


@pytest.mark.slow
def test_memory_over_many_calls_stays_flat():
    done = subprocess.run([sys.executable, "-c", FLAT], capture_output=True, text=True, check=True, timeout=600)
    assert float(done.stdout) < 40


def test_threads_get_the_answers_of_one():
    budgets = [2e6 + 100e3 * i for i in range(16)]

    def ask(budget):
        model = create_model(flops=budget, space="sgnas_micro", num_classes=10)
        return [result.record() for result in generate(flops=budget, params=1.5e5, space="sgnas_micro")], model.zoo

    alone = [ask(budget) for budget in budgets]
    with ThreadPoolExecutor(16) as pool:
        assert [*pool.map(ask, budgets)] == alone


def test_threads_that_come_first_get_the_answers_of_one():
    program = """
import sys
from concurrent.futures import ThreadPoolExecutor
import sgnas_zoo
def ask(budget):
    model = sgnas_zoo.create_model(flops=budget, pretrained=True, token="hf_" + "x" * 30)
    return model.zoo["arch"], sgnas_zoo.generate(flops=budget)[0].arch
budgets = [3e6 + 100e3 * (i % 4) for i in range(16)]
with ThreadPoolExecutor(16) as pool:
    first = list(pool.map(ask, budgets))
assert first == [ask(budget) for budget in budgets]
"""
    done = warm.run("-W", "ignore", "-c", program)
    assert done.returncode == 0, done.stderr
