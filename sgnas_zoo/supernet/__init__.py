"""Supernets: every architecture of a space on one set of weights, and what trains and leaves them.

To add a path sampler: a function of (space, seed, step, paths) in ``samplers.py``, registered in ``SAMPLERS``.
To add a supernet for blocks of another kind: a module with ``forward(x, path)`` beside ``unified.py``, and its slice
into timm names in ``inheritance.py``; the tests compare path, slice and stand-alone model.
"""

from __future__ import annotations

from sgnas_zoo.supernet.calibration import calibrate_bn
from sgnas_zoo.supernet.inheritance import inherited_state
from sgnas_zoo.supernet.samplers import SAMPLERS, PathSampler, with_smallest_kernels
from sgnas_zoo.supernet.unified import UnifiedSupernet

__all__ = ["SAMPLERS", "PathSampler", "UnifiedSupernet", "calibrate_bn", "inherited_state", "with_smallest_kernels"]
