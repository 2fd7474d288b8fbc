"""Where visitors' files lie while the page is up, and when they are deleted."""

import asyncio
import contextlib
import os
import re
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.data_classes import FileData

LEAST_BYTES = 8192  # that a file takes, with its folder


class Storage:
    """The folder that Gradio serves from, where nothing of a visitor's stays longer than `kept` seconds.

    Where there are more than `most` megabytes, the oldest goes sooner.
    """

    def __init__(self, folder: Path, kept: int, most: int) -> None:
        self._folder = folder
        self._runs = folder / "runs"
        self._most = most * 1_000_000
        self._every = min(max(kept // 10, 1), 60)
        self._age = kept - self._every
        self.held = 0  # bytes, as far as they are known

    def new_folder(self) -> Path:
        """A new folder for one run's files; whoever knows its name may see them."""
        folder = self._runs / secrets.token_hex(16)
        folder.mkdir(parents=True)
        return folder

    def folder(self, name: str) -> Path | None:
        """The new_folder() of that name, which may be anything, where it is still there."""
        folder = self._runs / name if re.fullmatch("[0-9a-f]{32}", name) else None
        return folder if folder and folder.is_dir() else None

    def is_full(self) -> bool:
        """Whether there is more than may be, until the next time it is cleared."""
        return self.held >= self._most

    def clear(self, page: gr.Blocks) -> None:
        """Delete what nobody has touched for long enough, and the oldest of what is too much.

        What is of `page` itself stays.
        """
        kept = [Path(file) for block in page.blocks.values() for file in block.keep_in_cache]
        entries, own = {*self._entries()}, {folder for file in kept for folder in file.parents}
        size, now = sum(map(_size, entries & own)), time.time()
        for entry in sorted(entries - own, key=_newest, reverse=True):
            size += (more := _size(entry))
            if size >= self._most or _newest(entry) < now - self._age:
                _delete(entry)
                size -= more
        self.held = size
        for files in page.temp_file_sets:  # which Gradio would keep in mind for ever
            files -= {file for file in tuple(files) if not Path(file).exists()}

    def _entries(self) -> Iterator[Path]:
        """Uploads, in folders that Gradio names by a hash; runs' folders; files of what came to nothing."""
        yield from self._folder.glob("[0-9a-f]" * 64)
        yield from (path for path in self._folder.glob("*") if path.is_file())
        yield from self._runs.glob("*")

    def lifespan(self, page: gr.Blocks) -> Callable[[Any], contextlib.AbstractAsyncContextManager[None]]:
        """Keep it clear for as long as the server of `page` lives: an ASGI lifespan."""

        @contextlib.asynccontextmanager
        async def clearing(app: Any) -> AsyncIterator[None]:
            task = asyncio.create_task(self._keep_clear(page))
            yield
            task.cancel()

        return clearing

    async def _keep_clear(self, page: gr.Blocks) -> None:
        while True:
            await asyncio.sleep(self._every)
            await asyncio.to_thread(self.clear, page)


def uploaded(file: Any, role: str) -> Path:
    """Where an uploaded file lies. Gradio has checked that it was uploaded, if it is marked as a file."""
    if file is None:
        raise gr.Error(f"Please add a {role} first.", print_exception=False)
    try:
        path = Path(FileData.model_validate(file, context={"validate_meta": True}).path)
    except ValueError as error:
        sentence = f"Please send the {role} as a file (with gradio_client: handle_file)."
        raise gr.Error(sentence, print_exception=False) from error
    if not path.exists():
        sentence = f"The {role} is no longer kept: please add it again."
        raise gr.Error(sentence, print_exception=False)
    return path


def _files(entry: Path) -> Iterator[os.stat_result]:
    """Of each file in a folder, or of the file that it is; without those that are deleted meanwhile."""
    for path in (entry, *entry.rglob("*")):
        with contextlib.suppress(FileNotFoundError):
            if path.is_file():
                yield path.stat()


def _newest(entry: Path) -> float:
    """When the newest file was written, or the folder emptied, in seconds since the epoch."""
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
