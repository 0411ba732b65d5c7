"""A page to play with: budgets by slider, the network that keeps them, and what it takes a picture for.

``answers`` and ``pictures`` say what is shown, ``networks`` builds and classifies, ``page`` puts components together,
``app`` serves them and ``space`` publishes them. Only ``page`` and ``app`` need gradio.
"""
