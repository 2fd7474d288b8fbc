"""The imports: which names `import nst` offers, and how little it loads."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import nst

pytestmark = pytest.mark.quick

ROOT = Path(__file__).parents[1]
HEAVY = {"tensorflow", "keras", "gradio", "plotly", "h5py", "ray"}


def run(program: str) -> str:
    """Run a program in another Python, and return what it prints."""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_every_name_of_the_stub_is_there():
    stub = ast.parse((ROOT / "nst" / "__init__.pyi").read_text())
    imported = [name for line in stub.body if isinstance(line, ast.ImportFrom) for name in line.names]
    assert all(name.name == name.asname for name in imported)  # which makes them public
    assert sorted(nst.__all__) == sorted({name.asname for name in imported})
    for name in nst.__all__:
        assert getattr(nst, name).__name__ == name
    with pytest.raises(AttributeError):
        _ = nst.no_such_name


def test_the_version_is_the_one_of_the_package():
    assert isinstance(nst.__version__, str)
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" in settings["project"]["dynamic"]
    assert settings["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "nst.__version__"}


@pytest.mark.parametrize("module", ["nst", "nst.config", "nst.errors", "nst.formats", "nst.runs.options"])
def test_the_import_loads_nothing_heavy(module):
    assert run(f"import sys, {module}; print(sorted({HEAVY} & {{*sys.modules}}))") == "[]"


def test_using_the_names_asks_no_network_and_reads_no_weights():
    program = """
import sys
events = []

def listen(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        events.append(event)
    if event == "open" and str(arguments[0]).endswith(".h5"):
        events.append(arguments[0])

sys.addaudithook(listen)
from nst import *
TransferConfig()
print([*events, Backbone.__name__])
"""
    assert run(program) == "['Backbone']"
