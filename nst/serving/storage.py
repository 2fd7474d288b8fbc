"""Where visitors' files lie while the page is up, and when they are deleted."""

import asyncio
import contextlib
import logging
import os
import re
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from pathlib import Path

from nst.serving.rate_limit import MEGABYTE

LEAST_BYTES = 8192  # that a file takes, with its folder

logger = logging.getLogger("nst")


class Storage:
    """Keep the folder that files are served from within bounds.

    Args:
        folder: the folder; uploads lie in it, and the files of runs in its folder "runs".
        kept: seconds after which no file of a visitor's is left.
        most: megabytes; where there are more, the oldest files go sooner.
    """

    def __init__(self, folder: Path, kept: int, most: int) -> None:
        self._folder = folder
        self._runs = folder / "runs"
        self._most = most * MEGABYTE
        self._interval = min(max(kept // 10, 1), 60)  # seconds
        self._age = kept - self._interval
        self.held = 0  # bytes, as far as they are known

    def new_folder(self) -> Path:
        """Make a folder for one run's files; only those who know its name can see them."""
        folder = self._runs / secrets.token_hex(16)
        folder.mkdir(parents=True)
        return folder

    def find_folder(self, name: str) -> Path | None:
        """Find a folder of `new_folder` by its name, which may be anything; None where it is gone."""
        folder = self._runs / name if re.fullmatch("[0-9a-f]{32}", name) else None
        return folder if folder and folder.is_dir() else None

    def is_full(self) -> bool:
        """Return whether the folder is over its bound, until it is cleared next."""
        return self.held >= self._most

    def clear(self, permanent: Collection[Path] = ()) -> None:
        """Delete files that nobody has touched for long enough, and the oldest where there are too many.

        Args:
            permanent: files of the page itself, which stay.
        """
        entries, own = {*self._entries()}, {folder for file in permanent for folder in file.parents}
        size, now = sum(map(_size, entries & own)), time.time()
        for entry in sorted(entries - own, key=_newest, reverse=True):
            size += (more := _size(entry))
            if size >= self._most or _newest(entry) < now - self._age:
                _delete(entry)
                size -= more
        self.held = size

    def _entries(self) -> Iterator[Path]:
        """List uploads, in folders named by a hash; folders of runs; files of uploads that broke off."""
        yield from self._folder.glob("[0-9a-f]" * 64)
        yield from (path for path in self._folder.glob("*") if path.is_file())
        yield from self._runs.glob("*")

    @contextlib.asynccontextmanager
    async def clearing(self, clear: Callable[[], None]) -> AsyncIterator[None]:
        """Call `clear`, which calls this storage's own, at regular intervals while the context is open."""
        task = asyncio.create_task(self._keep_clear(clear))
        try:
            yield
        finally:
            task.cancel()

    async def _keep_clear(self, clear: Callable[[], None]) -> None:
        while True:
            await asyncio.sleep(self._interval)
            try:
                await asyncio.to_thread(clear)
            except Exception as error:  # or nothing would be deleted any more, and nobody would know
                logger.error("files could not be deleted: %s", type(error).__name__)


def _files(entry: Path) -> Iterator[os.stat_result]:
    """Look at every file in a folder, or at the file itself, but for those that are being deleted."""
    for path in (entry, *entry.rglob("*")):
        with contextlib.suppress(FileNotFoundError):
            if path.is_file():
                yield path.stat()


def _newest(entry: Path) -> float:
    """Tell when the newest file was written, or the folder emptied, in seconds since the epoch."""
    try:
        return max((file.st_ctime for file in _files(entry)), default=entry.stat().st_ctime)
    except FileNotFoundError:
        return time.time()  # it is being deleted


def _size(entry: Path) -> int:
    return sum(max(file.st_size, LEAST_BYTES) for file in _files(entry))


def _delete(entry: Path) -> None:
    if entry.is_dir():
        shutil.rmtree(entry, ignore_errors=True)
    else:
        entry.unlink(missing_ok=True)
