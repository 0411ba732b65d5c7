"""From an ``Arch`` to a timm model.

To add a kind of block: give it a data class with ``convs()`` in ``spaces/blocks.py`` and, where timm builds it, its
notation in ``block_strings.py``; else a model class of its own (see ``shufflenet.py``) and a branch in ``builder.py``.
Contract tests compare every cost of every space with what torch counts on the built model.
"""
