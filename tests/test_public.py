"""What `import nst` gives, and what it does not do."""

import subprocess
import sys

import pytest

import nst


def python(program: str) -> str:
    """What another Python prints that runs this program."""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_every_public_name_is_there():
    assert len({*nst.__all__}) == len(nst.__all__)
    for name in nst.__all__:
        assert getattr(nst, name).__name__ == name
    with pytest.raises(AttributeError):
        _ = nst.no_such_name


def test_the_import_starts_no_tensorflow():
    assert python("import sys, nst; print('tensorflow' in sys.modules)") == "False"


def test_using_the_names_asks_no_network_and_reads_no_weights():
    program = """
import sys
told = []

def listen(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        told.append(event)
    if event == "open" and str(arguments[0]).endswith(".h5"):
        told.append(arguments[0])

sys.addaudithook(listen)
from nst import *
TransferConfig()
print([*told, Backbone.__name__])
"""
    assert python(program) == "['Backbone']"
