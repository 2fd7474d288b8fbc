"""Where visitors' files lie while the page is up, and when they are deleted."""

import asyncio
import contextlib
import re
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import gradio as gr


class Storage:
    """The folder that Gradio serves from, where nothing of a visitor's stays longer than `kept` seconds.

    Gradio deletes what it knows of, as `delete_cache` says; this does the rest: the runs' folders, the
    empty ones that uploads leave behind, and what came to nothing.
    """

    def __init__(self, folder: Path, kept: int) -> None:
        self._folder = folder
        self._runs = folder / "runs"
        self._every = max(kept // 10, 1)
        self._age = kept - self._every

    @property
    def delete_cache(self) -> tuple[int, int]:
        """How often Gradio looks, and the age at which it deletes, in seconds."""
        return self._every, self._age

    def new_folder(self) -> Path:
        """A new folder for one run's files; whoever knows its name may see them."""
        folder = self._runs / secrets.token_hex(16)
        folder.mkdir(parents=True)
        return folder

    def folder(self, name: str) -> Path | None:
        """The new_folder() of that name, which may be anything, where it is still there."""
        folder = self._runs / name if re.fullmatch("[0-9a-f]{32}", name) else None
        return folder if folder and folder.is_dir() else None

    def clear(self, page: gr.Blocks) -> None:
        """Delete every folder in which nothing is of `page` itself, or has been touched for long enough."""
        own = {Path(file).parent for block in page.blocks.values() for file in block.keep_in_cache}
        uploads = self._folder.glob("[0-9a-f]" * 64)  # Gradio names them by a hash
        for folder in (*uploads, *self._runs.glob("*")):
            if folder not in own and _newest(folder) < time.time() - self._age:
                shutil.rmtree(folder, ignore_errors=True)

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


def _newest(folder: Path) -> float:
    """When a folder's newest file was written, or it was emptied, in seconds since the epoch."""
    try:
        files = [path.stat().st_ctime for path in folder.rglob("*") if path.is_file()]
        return max(files) if files else folder.stat().st_ctime
    except FileNotFoundError:
        return time.time()  # it is being emptied
