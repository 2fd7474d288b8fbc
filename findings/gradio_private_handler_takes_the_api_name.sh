#!/usr/bin/env bash
# gradio 6.31.0: a private event takes the endpoint's name from a public one.
#
# An event with api_visibility="private" is not in the API, but the name of its function is reserved all the same. A
# public gr.api() function of that name, added later, is served as "/name_1" without a word, so that clients which call
# "/name" are told that there is none. An explicit api_name="name" changes nothing; renaming the handler helps.
#
# Seen: the public function `stylize`, after a private handler `stylize`, is the endpoint /stylize_1, named or not.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check gradio==6.31.0
cd "$folder"
GRADIO_ANALYTICS_ENABLED=False "$folder/venv/bin/python" - <<'PYTHON'
import gradio as gr


def private():
    def stylize(text):
        return text

    return stylize


def stylize(text: str) -> str:
    return text


for named in ({}, {"api_name": "stylize"}):
    with gr.Blocks() as page:
        box = gr.Textbox()
        box.change(private(), box, box, api_visibility="private")
        gr.api(stylize, **named)
    names = list(page.get_api_info()["named_endpoints"])
    print(f"gradio {gr.__version__}, gr.api(stylize, {named}): {names}")
    assert names == ["/stylize_1"], names
PYTHON
