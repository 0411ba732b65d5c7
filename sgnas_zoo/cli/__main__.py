"""``python -m sgnas_zoo.cli`` is ``sgnas-zoo``."""

from sgnas_zoo.cli.main import run

if __name__ == "__main__":
    run()
