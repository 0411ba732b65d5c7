"""From an ``Arch`` to a timm model.

To add a kind of block: give it a data class with ``convs()`` in ``spaces/blocks.py`` and its timm notation in
``block_strings.py``; a family that is no EfficientNet brings a model class of its own and a branch in ``builder.py``.
Contract tests compare every cost of every space with what torch counts on the built model.
"""
