"""``python -m sgnas_zoo.cli`` is ``sgnas-zoo``."""

from sgnas_zoo.cli.main import run

run()
