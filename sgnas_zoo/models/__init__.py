"""From an ``Arch`` to a timm model.

To add a kind of block: a folder in ``spaces/kinds/``, whose docstring says how. A model class that timm does not have
stands here (see ``shufflenet.py``); what networks like timm's EfficientNet share is in ``efficientnets.py``.
Contract tests compare every cost of every space with what torch counts on the built model.
"""
