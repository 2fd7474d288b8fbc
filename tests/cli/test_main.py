"""The command line as a whole, mostly as a user starts it: what it says, and how it ends."""

import json
import os
import pkgutil
import re
import resource
import signal
import subprocess
import sys
import termios
import threading
import time
import tomllib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image

from nst.cli.main import main
from tests.cli.commands import PAINTING, PHOTO, ROOT, SMALL, pixels_of, record_in, shown_in, start

# Start-up

HEAVY = {"tensorflow", "keras", "gradio", "plotly", "h5py", "scipy", "numpy"}


@pytest.mark.quick
@pytest.mark.parametrize(
    "statement",
    [
        "import nst.config",
        "from nst.cli.main import main; main(['--help'])",
        "from nst.cli.main import main; main(['stylize', '--help'])",
        "from nst.cli.main import main; main(['study', '--help'])",
        "from nst.cli.main import main; main(['stylize', '--size'])",
    ],
)
def test_help_and_settings_load_nothing_that_takes_long_to_start(statement: str) -> None:
    code = f"import atexit, sys; atexit.register(lambda: print({HEAVY} & {{*sys.modules}})); {statement}"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "set()"


@pytest.mark.quick
def test_help_takes_under_half_a_second_of_processor_time() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    out, err = start("stylize", "--help").communicate(timeout=60)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert out.startswith("usage: python -m nst stylize [-h] ")
    assert err == ""
    assert (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime) < 0.5


@pytest.mark.quick
def test_the_console_script_says_its_own_name(capsys: pytest.CaptureFixture[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    command = pkgutil.resolve_name(project["scripts"]["nst"])
    assert command(["stylize"]) == 2
    assert capsys.readouterr().err.startswith("nst stylize: ")


# Runs


def test_command_without_vgg19(output: Path, report: Path, tmp_path: Path) -> None:
    """`auto` falls back and says so; off a terminal there are lines, about ten, and none of TensorFlow's."""
    files = ["-o", str(output), "--report", str(report)]
    settings = ["--size", "64", "--iterations", "30"]
    run = start("stylize", PHOTO, PAINTING, *files, *settings, NST_WEIGHTS=str(tmp_path / "none"))
    out, err = run.communicate(timeout=120)
    assert run.returncode == 0
    assert re.fullmatch(rf"Wrote {output} and {report}: 64 x 48 pixels, 30 steps in \d\d:\d\d\.\n", out)

    note, *lines = err.splitlines()
    record = json.loads(report.read_text(encoding="utf-8"))
    assert note == record["backbone"]["note"]
    assert re.fullmatch(r"VGG-19's weights cannot be read from .+/none \(.+\), so VGG-16 is used\.", note)
    line = r"step (\d+) of 30, 64 px, \d\d:\d\d left, content \S+, style \S+, total \S+"
    steps = [int(match[1]) for match in map(re.compile(line).fullmatch, lines) if match]
    assert len(steps) == len(lines)
    assert steps == [1, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30]

    with Image.open(output) as picture:
        assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", (64, 48))
    assert record["ended"] == "finished"
    assert record["config"]["backbone"] == "auto"
    assert record["backbone"]["name"] == "vgg16"
    assert record["versions"].keys() >= {"python", "tensorflow"}
    assert [row["step"] for row in record["history"]] == list(range(1, 31))
    assert record["history"][-1]["style"] < record["history"][0]["style"] / 2
    assert record["seconds"] == record["history"][-1]["seconds"] > 0


def test_bad_input_is_one_line_on_stderr(output: Path) -> None:
    run = start("stylize", "missing.jpg", PAINTING, "-o", str(output))
    out, err = run.communicate(timeout=60)
    assert (run.returncode, out) == (2, "")
    assert re.fullmatch(r"missing\.jpg: .+\n", err)
    assert not output.exists()


def test_ctrl_c_saves_everything_up_to_that_step(output: Path, report: Path) -> None:
    animation, losses = output.with_suffix(".webp"), output.with_suffix(".csv")
    files = [
        "-o",
        str(output),
        "--report",
        str(report),
        "--animation",
        str(animation),
        "--losses",
        str(losses),
    ]
    run = start(
        "stylize", PHOTO, PAINTING, *files, "--size", "96", "--iterations", "1000", "--backbone", "vgg16"
    )
    assert run.stderr is not None
    assert run.stderr.readline().startswith("step 1 of 1000")
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=60)
    assert (run.returncode, out) == (130, "")
    record = json.loads(report.read_text(encoding="utf-8"))
    last = record["history"][-1]["step"]
    assert err.splitlines()[-1] == f"Stopped at step {last} of 1000: the picture so far is in {output}."
    assert all(line.startswith("step ") for line in err.splitlines()[:-1])
    assert record["ended"] == "stopped"
    assert 1 <= last < 1000
    assert record_in(output) == record
    assert losses.read_text(encoding="utf-8").count("\n") == 1 + len(record["history"])
    shown = shown_in(animation)
    assert 2 <= len(shown) <= 33
    assert shown[-1].shape == pixels_of(output).shape == (72, 96, 3)


def test_ctrl_c_while_tensorflow_starts_is_one_line(output: Path) -> None:
    if not Path("/proc/self/maps").exists():
        pytest.skip("only Linux tells what a process has loaded")
    run = start("stylize", PHOTO, PAINTING, "-o", str(output), "--size", "64")
    loaded = Path(f"/proc/{run.pid}/maps")
    deadline = time.monotonic() + 60
    while "libtensorflow" not in loaded.read_text() and time.monotonic() < deadline:
        time.sleep(0.01)
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=60)
    assert (run.returncode, out) == (130, "")
    assert err == "Stopped early: nothing was saved.\n"
    assert not output.exists()


def test_ctrl_c_before_the_first_step_saves_nothing(
    tmp_path: Path, output: Path, refused: Callable[..., str]
) -> None:
    """The content image is a pipe that never ends, so that it is being read when Ctrl-C comes."""
    pipe = tmp_path / "pipe.jpg"
    os.mkfifo(pipe)
    done = threading.Event()

    def press() -> None:
        with pipe.open("wb"):  # once it is read at the other end
            os.kill(os.getpid(), signal.SIGINT)
            done.wait(60)

    finger = threading.Thread(target=press)
    finger.start()
    try:
        said = refused("stylize", str(pipe), PAINTING, "-o", str(output), *SMALL, exit_code=130)
    finally:
        done.set()
        finger.join()
    assert said == "Stopped early: nothing was saved.\n"


def test_ctrl_c_is_left_alone_where_the_shell_ignores_it(output: Path, report: Path) -> None:
    """As for a script's background jobs, which go on when Ctrl-C ends the script."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    done = threading.Event()

    def press() -> None:
        while not done.wait(0.05):
            os.kill(os.getpid(), signal.SIGINT)

    finger = threading.Thread(target=press)
    finger.start()
    try:
        assert main(["stylize", PHOTO, PAINTING, "-o", str(output), "--report", str(report), *SMALL]) == 0
    finally:
        done.set()
        finger.join()
    assert json.loads(report.read_text(encoding="utf-8"))["ended"] == "finished"


def test_the_terminals_own_ctrl_c_is_given_back(output: Path) -> None:
    assert main(["stylize", PHOTO, PAINTING, "-o", str(output), *SMALL]) == 0
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_terminal_gets_a_bar_with_losses_and_time_left(output: Path) -> None:
    terminal, end = os.openpty()
    termios.tcsetwinsize(end, (24, 100))
    run = start("stylize", PHOTO, PAINTING, "-o", str(output), *SMALL, "--iterations", "5", stderr=end)
    os.close(end)
    shown = b""
    with suppress(OSError):  # how Linux says that the other end is closed
        while part := os.read(terminal, 65536):
            shown += part
    os.close(terminal)
    out, _ = run.communicate(timeout=60)
    assert run.returncode == 0
    assert out.startswith(f"Wrote {output}: ")
    *frames, cleared, rest = shown.decode().split("\r")
    frame = r"[█▏▎▍▌▋▊▉ ]+\| (\d)/5, 64 px, \d\d:\d\d left, content \S+, style \S+, total \S+ *"
    steps = [int(match[1]) for match in map(re.compile(frame).fullmatch, frames[2:]) if match]
    assert len(steps) == len(frames[2:]) >= 1  # after "", and the bar of no steps
    assert steps == sorted(set(steps))
    assert cleared.strip() == rest == ""
    assert "\n" not in shown.decode()
