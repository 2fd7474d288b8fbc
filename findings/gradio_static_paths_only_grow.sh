#!/usr/bin/env bash
# gradio 6.31.0: set_static_paths() adds to the list of static paths; it never replaces it.
#
# Its docstring says that the paths hold "until it is called again or the session ends". In fact each call appends
# all its paths to the earlier ones, duplicates too, and every path of every call is served for as long as the process
# lives. Each file is compared with the whole list, so that a process which builds several apps (a test suite, a
# reloading server) slows down a little with each of them.
#
# Seen: 3 paths after the first call (2 are Gradio's own), 4 after the same call again, 5 after a call with another path.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check gradio==6.31.0
cd "$folder"
mkdir one two
GRADIO_ANALYTICS_ENABLED=False "$folder/venv/bin/python" - <<'PYTHON'
import gradio as gr
from gradio.data_classes import _StaticFiles
from gradio.utils import is_static_file

assert "until it is called again" in gr.set_static_paths.__doc__
numbers = []
for path in ("one", "one", "two"):
    gr.set_static_paths([path])
    numbers.append(len(_StaticFiles.all_paths))
print(f"gradio {gr.__version__}: {numbers} static paths after each call")
assert [number - numbers[0] for number in numbers] == [0, 1, 2], numbers
PYTHON
