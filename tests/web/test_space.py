"""A start as on a Hugging Face Space: its variables, no home, no place to write but the temporary folder."""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from gradio_client import Client, handle_file
from served import free_port, opened

from nst.serving.limits import PUBLIC

ROOT = Path(__file__).parents[2]
MOST_BYTES = 10_000_000
# In a mount namespace of its own; two cores and 16 GB of address space, as the free tier has.
START = """
set -e
mount -o remount,bind,ro /
mount -t tmpfs tmpfs "$TMPDIR"
chmod 1777 "$TMPDIR"
! touch "$OUTSIDE/written" 2> /dev/null
ulimit -v 16000000
ulimit -Sn 256
exec setpriv $NOBODY taskset -c 0,1 "$PYTHON" app.py
"""
SPACE = {
    "SYSTEM": "spaces",
    "SPACE_ID": "somebody/neural-style-transfer",
    "SPACE_HOST": "somebody-neural-style-transfer.hf.space",
    "SPACE_AUTHOR_NAME": "somebody",
    "SPACE_REPO_NAME": "neural-style-transfer",
    "SPACE_TITLE": "Neural Style Transfer",
    "CPU_CORES": "2",
    "MEMORY": "16Gi",
    "ACCELERATOR": "none",
    "GRADIO_SERVER_NAME": "0.0.0.0",
    "GRADIO_ALLOW_FLAGGING": "never",
    "HOME": "/nonexistent",
}


# May read all that root may, wherever this Python lies, and write nothing.
NOBODY = (
    "--reuid=65534 --regid=65534 --clear-groups "
    "--inh-caps=-all,+dac_read_search --ambient-caps=-all,+dac_read_search"
)


def test_it_starts_as_a_space_with_public_limits_and_paints(tmp_path):
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("no right to a mount namespace (unshare -m)")
    with tempfile.TemporaryDirectory() as temporary:
        start(temporary, tmp_path)


def start(temporary: str, tmp_path: Path) -> None:
    """Start it, let it paint, and stop it."""
    Path(temporary).chmod(0o755)
    port = free_port()
    environment = SPACE | {
        "PATH": os.environ["PATH"],
        "PYTHON": sys.executable,
        "TMPDIR": temporary,
        "OUTSIDE": str(tmp_path),
        "GRADIO_SERVER_PORT": str(port),
        "NST_WEIGHTS": "",
        "NOBODY": NOBODY,
    }
    command = ["unshare", "-m", "sh", "-c", START]
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
    try:
        page = f"http://127.0.0.1:{port}/"
        while True:
            assert process.poll() is None, log.read_text()
            try:
                health = httpx.get(f"{page}health").raise_for_status().json()
            except httpx.HTTPError:
                time.sleep(0.2)
                continue
            if health["state"] == "ready":
                break
            time.sleep(0.2)
        assert health["places"] == PUBLIC.places
        status = Path(f"/proc/{process.pid}/status").read_text()
        assert re.search(r"^Uid:\t65534\t65534", status, re.MULTILINE)
        client = Client(page, verbose=False, download_files=tmp_path)
        files = [
            handle_file(ROOT / "examples" / name)
            for name in ("content/chenonceau.jpg", "style/munch-the-scream.jpg")
        ]
        with ExitStack() as streams:  # more than the files that it may have open at first
            for number in range(400):
                address = f"10.0.0.{number // 50}"
                streams.enter_context(opened(page, f"/gradio_api/heartbeat/{number}", address))
            _, record = client.predict(*files, size=64, iterations=3, api_name="/stylize")
        assert record["ended"] == "finished"
    finally:
        process.terminate()
        process.wait()
    before, _, after = log.read_text().partition("Open http://")
    assert "cannot be written: Read-only file system" in before  # the weights could not be downloaded there
    assert "Traceback" not in after  # Gradio's watcher asks before for a package that a Space has installed


def test_no_file_is_over_what_a_space_takes_without_lfs():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    sizes = {name: (ROOT / name).stat().st_size for name in listed.decode().split("\0") if name}
    assert max(sizes.values()) < MOST_BYTES, json.dumps(sizes)
