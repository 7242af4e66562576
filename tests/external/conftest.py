"""The command, called as the tests of the commands call it."""

from tests.command.conftest import fit_of, study

__all__ = ["fit_of", "study"]
