"""Measuring one network, as its budget's profile was measured."""

from __future__ import annotations

from sgnas_zoo.costs import Conditions
from sgnas_zoo.costs.profile import Setup
from sgnas_zoo.measure.blocks import images, network
from sgnas_zoo.measure.runtimes import RUNTIMES
from sgnas_zoo.measure.timing import Timing, interleaved, steadiest
from sgnas_zoo.plain_torch import plain_torch
from sgnas_zoo.spaces import Arch

REPEATS = 25


@plain_torch()
def measure(arch: Arch, conditions: Conditions, setup: Setup) -> Timing:
    """Time a network's deploy form on this machine, with random weights.

    Repeats that spread by more than 20 % (interquartile range over median) are timed again.

    Raises:
        ModelError: If the setup's runtime is missing or cannot run this here.
    """
    runtime = RUNTIMES[setup.runtime]
    runtime.check(setup)
    call = runtime.prepare(network(arch, conditions), images(conditions, setup.batch_size), setup)
    return steadiest(lambda: interleaved([call], REPEATS, setup.threads))[0]
