"""Artifacts: folders that are written whole or not at all, and read as untrusted data.

To add a kind: write ``hub/<kind>s.py`` with ``save_<kind>`` and ``load_<kind>`` (``config.json`` with ``artifact`` and
``format_version``, checked field by field; tensors as safetensors) and a card template in ``templates/``.
"""
