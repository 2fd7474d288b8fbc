"""Progress on stderr: a bar on a terminal, lines elsewhere."""

import sys
import time
from collections.abc import Iterator

from tqdm import tqdm

from nst.config import TransferConfig
from nst.engine.stylize import Progress
from nst.runs.record import has_plateaued, printable
from nst.runs.recorder import Recorder
from nst.study.execute import Outcome
from nst.study.plan import Plan


def show_steps(steps: Iterator[Progress], config: TransferConfig, recorder: Recorder) -> Iterator[Progress]:
    """Show the steps of a run as they come: as a bar, or as a line for each tenth of the run.

    Once the losses have levelled off, a line says so.

    Args:
        steps: the steps.
        config: the settings of the run.
        recorder: has the history of the steps so far.

    Yields:
        The steps.
    """
    total, tenths, level = config.iterations, -1, False
    look = {"bar_format": "{bar}| {n_fmt}/{total_fmt}{postfix}", "dynamic_ncols": True, "leave": False}
    with tqdm(total=total, miniters=1, disable=None, **look) as bar:
        for progress in steps:
            losses, left = progress.losses, tqdm.format_interval(progress.seconds_left)
            state = (
                f"{progress.size} px, {left} left, content {losses.content:.3g}, "
                f"style {losses.style:.3g}, total {losses.total:.3g}"
            )
            bar.set_postfix_str(state, refresh=False)
            bar.update(progress.step - bar.n)
            if bar.disable and tenths < (tenths := 10 * progress.step // total):
                print(f"step {progress.step} of {total}, {state}", file=sys.stderr)
            if not level and progress.size == config.size and has_plateaued(recorder.history):
                level = True
                at = f"Step {progress.step} of {total}"
                bar.write(f"{at}: the losses have levelled off. Ctrl-C keeps this picture.", file=sys.stderr)
            yield progress


def show_outcomes(outcomes: Iterator[Outcome], plan: Plan) -> tuple[int, int]:
    """Show the runs of a study as they end: as a bar, or as a line for each run.

    Returns:
        How many runs are made, and how many failed.
    """
    made = failed = 0
    cost_left, cost_spent, seconds, last = plan.cost, 0.0, 0.0, time.perf_counter()
    look = {"bar_format": "{bar}| {n_fmt}/{total_fmt} runs{postfix}", "dynamic_ncols": True}
    with tqdm(total=len(plan), miniters=1, disable=None, **look) as bar:
        for outcome in outcomes:
            now = time.perf_counter()
            cost_left -= outcome.run.cost
            if outcome.new and outcome.reason is None:
                cost_spent, seconds = cost_spent + outcome.run.cost, seconds + now - last
            last = now
            failed += outcome.reason is not None
            made += outcome.reason is None
            left = tqdm.format_interval(seconds * cost_left / cost_spent) if cost_spent else "?"
            bar.set_postfix_str(f"{left} left", refresh=False)
            bar.update()
            title = printable(plan.title(outcome.run))
            if outcome.reason:
                bar.write(f"{title} failed: {outcome.reason}", file=sys.stderr)
            elif bar.disable and outcome.new:
                line = f"{made + failed} of {len(plan)}, {left} left: {title}"
                print(line, file=sys.stderr, flush=True)
    return made, failed
