"""From budgets to architectures: generator, relaxation, losses, and the decode that keeps every budget.

To add a search strategy: write ``search/<name>.py`` with a function from log-probabilities or an evaluation to an
``Arch``, and decode through ``decode.decode`` whatever has to keep a budget. Contract tests run it on every space.
"""
