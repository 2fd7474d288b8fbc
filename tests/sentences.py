"""The form that all error messages for people share."""

import re

from nst.errors import ConfigError


def one_sentence(error: BaseException) -> str:
    """Return the text of an error, after checking that it is one sentence, and a request where it can be."""
    text = str(error)
    assert re.fullmatch(r"[A-Z][^\n<>]+[^.\s]\.", text)
    assert ". " not in text
    assert "lease " in text or not isinstance(error, ConfigError)
    return text
