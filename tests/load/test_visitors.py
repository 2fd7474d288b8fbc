"""The load test in a short form, by its command."""

import re
import subprocess
import sys
from pathlib import Path

VISITORS = Path(__file__).with_name("visitors.py")


def test_a_dozen_visitors_and_a_hostile_one_get_pictures_or_plain_refusals_and_leave_nothing():
    command = [sys.executable, str(VISITORS), "--visitors", "12", "--minutes", "0.3"]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert re.search(r"until the picture: median [\d.]+ s, 95th percentile [\d.]+ s", ran.stdout)
    assert "hostile, refused" in ran.stdout
