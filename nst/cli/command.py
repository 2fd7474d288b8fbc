"""Helpers of all commands: how they end early, and what they ask of the system."""

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self


class CommandError(Exception):
    """End the command with a line for the person who typed it.

    Args:
        message: the line.
        exit_code: 2 for a bad input, 1 where a run failed, 130 on Ctrl-C.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@contextmanager
def silence_tensorflow() -> Iterator[None]:
    """Keep TensorFlow's start-up messages from stderr while it is imported.

    C++ writes the first of them before it heeds TF_CPP_MIN_LOG_LEVEL (tensorflow/tensorflow#100442).
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    stderr = os.dup(2)
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


class CtrlC:
    """Take note of Ctrl-C within a `with` block, so that it interrupts neither a step nor the saving."""

    def __init__(self) -> None:
        self._pressed = False

    def pressed(self) -> bool:
        """Return whether Ctrl-C was pressed."""
        return self._pressed

    def _note(self, *_: object) -> None:
        self._pressed = True

    def __enter__(self) -> Self:
        self._before = signal.getsignal(signal.SIGINT)
        if self._before != signal.SIG_IGN:  # which a shell sets for a script's background jobs
            signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        signal.signal(signal.SIGINT, self._before)


def check_destination(path: Path, endings: Sequence[str]) -> None:
    """Find out before the run, not after it, whether a file can be written.

    Raises:
        CommandError: where it cannot, or has another ending.
    """
    if path.suffix.lower() not in endings:
        raise CommandError(f"{path}: please use the ending {' or '.join(endings)}.", 2)
    try:
        new = not path.exists()
        path.open("ab").close()
        if new:
            path.resolve().unlink()  # the file that a link points to, and not the link
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}.", 2) from error
