"""A page to play with: budgets by slider, the network that keeps them, and what it takes a picture for.

``answers`` and ``pictures`` say what is shown, ``networks`` builds and classifies, ``app`` is the page and ``space``
publishes it. Only ``app`` needs gradio.
"""
