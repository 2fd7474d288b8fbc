"""What stays in memory after many runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

STYLIZE = """
import nst

photo = nst.load_image("examples/content/chenonceau.jpg", long_side=128)
painting = nst.load_image("examples/style/munch-the-scream.jpg", long_side=128)
backbone = nst.load_backbone("vgg16")


def run(size, height, width):
    config = nst.TransferConfig(size=size, iterations=1)
    for progress in nst.stylize(photo[:, :height, :width], painting, config, backbone):
        pass
"""
SERVER = """
from gradio_client import Client, handle_file
from PIL import Image
from served import serving

server = serving()
_, page = server.__enter__()
client = Client(page.local_url, verbose=False)
photo = Image.open("examples/content/chenonceau.jpg").resize((128, 96))
painting = handle_file("examples/style/munch-the-scream.jpg")


def run(size, height, width):
    photo.crop((0, 0, width, height)).save(folder / "photo.png")
    settings = {"size": size, "iterations": 1, "backbone": "vgg16"}
    client.predict(handle_file(folder / "photo.png"), painting, **settings, api_name="/stylize")
"""
RUNS = """
import os
import random
import resource
import sys
from pathlib import Path

folder = Path(sys.argv[1])
PREPARE
random.seed(0)
held = []
for _ in range(90):
    run(random.randint(32, 96), random.randint(48, 96), random.randint(48, 128))
    held.append(int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize())
print(*held, flush=True)
os._exit(0)
"""


@pytest.mark.parametrize("prepare", [STYLIZE, SERVER], ids=["stylize", "server"])
def test_ninety_runs_at_changing_sizes_and_aspect_ratios_leave_memory_flat(prepare, tmp_path):
    script = RUNS.replace("PREPARE", prepare)
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", script, str(tmp_path)]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    held = [int(number) for number in ran.stdout.splitlines()[-1].split()]
    assert len(held) == 90
    assert max(held[-30:]) < 1.1 * max(held[:30]), [number // 2**20 for number in held[::10]]
