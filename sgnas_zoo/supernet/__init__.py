"""Supernets: every architecture of a space on one set of weights, and what trains and leaves them.

To add a path sampler: a function of (space, seed, step, paths) in ``samplers.py``, registered in ``SAMPLERS``; or, if
it learns from the training, a class such as that of ``greedy.py``.
To add a supernet for blocks of another kind: a ``Supernet`` that ``networks.py`` of the kind names (``spaces/kinds``);
the tests compare path, slice and stand-alone model.
"""

from __future__ import annotations

from sgnas_zoo.supernet.calibration import calibrate_bn
from sgnas_zoo.supernet.choice_blocks import ChoiceSupernet
from sgnas_zoo.supernet.greedy import GreedySampler
from sgnas_zoo.supernet.inheritance import inherit_model, inherited_state
from sgnas_zoo.supernet.samplers import SAMPLERS, PathSampler, Sampling, with_smallest_kernels
from sgnas_zoo.supernet.supernet import Supernet, make_supernet
from sgnas_zoo.supernet.unified import UnifiedSupernet

__all__ = [
    "SAMPLERS", "ChoiceSupernet", "GreedySampler", "PathSampler", "Sampling", "Supernet",
    "UnifiedSupernet", "calibrate_bn", "inherit_model", "inherited_state", "make_supernet", "with_smallest_kernels",
]  # fmt: skip
