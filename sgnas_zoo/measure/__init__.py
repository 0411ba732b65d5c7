"""Timing networks on a device: runtimes, profiles of a whole space, networks side by side.

To add a runtime: write a function that makes a callable from a module and an example input, and register a ``Runtime``
with it in ``runtimes.py``. Profiles, benchmarks and the command line take it from there.
"""
