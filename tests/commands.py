"""Commands of ``sgnas-zoo``, called in this process."""

from pathlib import Path

from click.testing import CliRunner

from sgnas_zoo.cli.main import main


def run(*arguments):
    """Exit code, stdout and stderr."""
    result = CliRunner().invoke(main, list(map(str, arguments)))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def good(*arguments):
    code, out, err = run(*arguments)
    assert code == 0, err
    return out, err


def refused(*arguments):
    """The one line on stderr of a command that is refused and does nothing else."""
    before = sorted(Path().rglob("*"))
    code, out, err = run(*arguments)
    assert code == 2
    assert out == ""
    assert err.startswith("Error:")
    assert len([line for line in err.splitlines() if line.strip()]) == 1
    assert sorted(Path().rglob("*")) == before
    return err
