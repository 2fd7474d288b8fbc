"""What the page allows: from flags and the environment."""

import argparse

import pytest

from nst.errors import ConfigError
from nst.serving.limits import PUBLIC, Limits, add_limit_options, limits_from

pytestmark = pytest.mark.quick


def limits(*flags, **environment):
    parser = argparse.ArgumentParser()
    add_limit_options(parser)
    return limits_from(parser.parse_args(flags), environment)


def test_options_come_before_the_environment_and_that_before_the_defaults():
    assert limits() == Limits()
    assert limits("--public") == limits(NST_PUBLIC="1") == PUBLIC != Limits()
    assert limits(NST_PUBLIC="0") == Limits()
    assert limits("--public", "--max-size", "768", NST_MAX_SIZE="512", NST_MAX_PLACES="3").size == 768
    assert limits("--public", "--max-size", "768", NST_MAX_SIZE="512", NST_MAX_PLACES="3").places == 3


def test_a_space_is_public_unless_it_says_otherwise():
    assert limits(SPACE_ID="somebody/style") == PUBLIC
    assert limits(SPACE_ID="somebody/style", NST_PUBLIC="0") == Limits()


@pytest.mark.parametrize("given", ["0", "-1", "many", "1.5", "4097", "²"])
def test_a_limit_out_of_range_gets_one_plain_sentence(given):
    with pytest.raises(ConfigError, match=r"^Please set --max-size to a whole number from 32 to 4,096\.$"):
        limits("--max-size=" + given)
    with pytest.raises(ConfigError, match=r"^Please set --max-size to"):
        limits(NST_MAX_SIZE=given)
