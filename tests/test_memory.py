"""What stays in memory after many runs."""

import subprocess
import sys

RUNS = """
import random
import resource
from pathlib import Path

import nst

photo = nst.load_image("examples/content/chenonceau.jpg", long_side=256)
painting = nst.load_image("examples/style/munch-the-scream.jpg", long_side=256)
backbone = nst.load_backbone("vgg16-hed")
random.seed(0)
held = []
for run in range(200):
    height, width = random.randint(64, 170), random.randint(64, 256)
    config = nst.TransferConfig(size=random.randint(64, 256), iterations=3)
    for progress in nst.stylize(photo[:, :height, :width], painting, config, backbone):
        pass
    held.append(int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize())
print(*held)
"""


def test_two_hundred_runs_at_changing_sizes_and_aspect_ratios_leave_memory_flat():
    ran = subprocess.run([sys.executable, "-c", RUNS], capture_output=True, text=True, check=True)
    held = [int(number) for number in ran.stdout.split()]
    assert len(held) == 200
    assert max(held[180:]) < 1.05 * max(held[:20]), [number // 2**20 for number in held[::10]]
