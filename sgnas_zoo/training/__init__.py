"""What the recipes share. Needs the extra ``recipes``.

A recipe is its configuration (a frozen dataclass of ``fields.option`` and of groups of ``config``), its step (a
``loop.Task``), and what leads to both; ``options.recipe`` makes it a command, and ``loop.Loop`` does the rest.
"""
