"""How much memory this process holds, for tests that bound it."""

import re
from pathlib import Path

MOST_MEMORY = 100_000_000  # bytes that handling one hostile request or file may take


def held(what: str) -> int:
    """Return bytes of memory: "VmRSS" is held now, "VmHWM" the most since count_again()."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{what}:\s+(\d+) kB", status)[1]) * 1024


def count_again() -> int:
    """Forget the most memory so far, and return what is held now."""
    Path("/proc/self/clear_refs").write_text("5")
    return held("VmRSS")
