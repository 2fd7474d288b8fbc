#!/usr/bin/env bash
# limits 5.8.0: a hit that FixedWindowRateLimiter refuses is counted all the same, cost and all.
#
# One request that costs too much therefore uses up the whole window: smaller ones that would have fitted are refused
# until it ends. SlidingWindowCounterRateLimiter and MovingWindowRateLimiter take a hit as a whole or not at all.
# For quotas of bytes or megabytes, where costs differ, the choice of the strategy changes who gets in.
#
# Seen, with 10 an hour and hits that cost 4, 8, 4: fixed window True, False, False; the others True, False, True.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check limits==5.8.0
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

from limits import RateLimitItemPerHour
from limits.storage import MemoryStorage
from limits.strategies import STRATEGIES

seen = {}
for name, strategy in STRATEGIES.items():
    limiter, item = strategy(MemoryStorage()), RateLimitItemPerHour(10)
    seen[name] = [limiter.hit(item, "visitor", cost=cost) for cost in (4, 8, 4)]
    print(f"limits {version('limits')}, {name}: {seen[name]}, left {limiter.get_window_stats(item, 'visitor').remaining}")
assert seen.pop("fixed-window") == [True, False, False]
assert set(map(tuple, seen.values())) == {(True, False, True)}
PYTHON
