"""Artifacts: folders that are written whole or not at all, and read as untrusted data.

To add a kind: write ``hub/<kind>s.py`` with ``save_<kind>`` and ``load_<kind>`` (``config.json`` with ``artifact`` and
``format_version``, its fields and their bounds in a ``msgspec.Struct`` that ``checked`` reads; tensors as safetensors)
and a card template in ``templates/``.
"""
