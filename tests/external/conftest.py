"""The command, called as the tests of the commands call it."""

from tests.command.conftest import study

__all__ = ["study"]
