"""From budgets to architectures: generator, relaxation, losses, and the decode that keeps every budget.

To add a search strategy: write a function of ``strategies.Setting`` that lets its problem evaluate architectures, and
register it in ``STRATEGIES``; decode through ``decode.decode`` whatever has to keep a budget. Contract tests run it on
every space.
"""
