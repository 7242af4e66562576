"""Words of a command line: negative numbers of every form reach their option, all else stays where it is.

Reference: what argparse makes of a number that it knows, -3.
"""

import argparse

import pytest

from pipeline.command.options import joined

PARSER = argparse.ArgumentParser()
PARSER.add_argument("--flops")
PARSER.add_argument("--apply", action="store_true")
PARSER.add_argument("names", nargs="*")


@pytest.mark.parametrize("number", ["-3", "-3.5", "-1e9", "-1E+9", "-.5e-3", "-inf", "-nan", "1e9"])
def test_a_number_is_that_of_the_option_before_it(number):
    expected = PARSER.parse_args(["--flops", "-3", "--apply"])
    found = PARSER.parse_args(joined(["--flops", number, "--apply"]))
    assert vars(found) == vars(expected) | {"flops": number}


@pytest.mark.parametrize("text", ["", "--flops", "--flops --apply", "--flops=1 -1", "a -1e9", "-- -1e9", "--apply a"])
def test_other_words_stay(text):
    assert joined(text.split()) == text.split()
