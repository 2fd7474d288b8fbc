"""Files of visitors: how long they stay, and what goes first where there are too many."""

import asyncio
import os
import time

import pytest
from loops import run_in_loop

from nst.serving.storage import LEAST_BYTES, Storage

pytestmark = pytest.mark.quick


def test_a_folder_is_found_by_its_name_and_by_no_other(tmp_path):
    storage = Storage(tmp_path, kept=60, most=1)
    folder = storage.new_folder()
    assert storage.find_folder(folder.name) == folder
    for name in ("", "..", f"../runs/{folder.name}", folder.name[:-1], "0" * 32):
        assert storage.find_folder(name) is None


def test_old_files_go_and_the_pages_own_stay(tmp_path):
    storage = Storage(tmp_path, kept=2, most=1000)
    own, old = tmp_path / ("a" * 64), tmp_path / ("b" * 64)
    for folder in (own, old, run := storage.new_folder()):
        folder.mkdir(exist_ok=True)
        (folder / "file.png").write_bytes(b"x")
    (tmp_path / "broken off").write_bytes(b"x")
    time.sleep(1.1)
    new = storage.new_folder()
    storage.clear(permanent=[own / "file.png"])
    assert own.exists()
    assert new.exists()
    assert not old.exists()
    assert not run.exists()
    assert not (tmp_path / "broken off").exists()


def test_the_oldest_goes_where_there_is_too_much(tmp_path):
    storage = Storage(tmp_path, kept=60, most=1)
    folders = []
    for _ in range(3):
        folders.append(storage.new_folder())
        (folders[-1] / "file.png").write_bytes(bytes(400_000))
        os.sync()
        time.sleep(0.02)
    storage.clear()
    assert [folder.exists() for folder in folders] == [False, True, True]
    assert storage.held == 800_000
    assert not storage.is_full()


def test_small_files_count_for_what_they_take(tmp_path):
    storage = Storage(tmp_path, kept=60, most=1)
    (storage.new_folder() / "file.png").write_bytes(b"x")
    storage.clear()
    assert storage.held == LEAST_BYTES


def test_it_is_cleared_again_and_again_while_the_server_lives(tmp_path):
    storage = Storage(tmp_path, kept=2, most=1000)
    (storage.new_folder() / "file.png").write_bytes(b"x")

    async def main() -> None:
        async with storage.clearing(storage.clear):
            while [*(tmp_path / "runs").iterdir()]:
                await asyncio.sleep(0.05)

    run_in_loop(asyncio.wait_for(main(), 5))


def test_it_is_cleared_again_after_a_failure(tmp_path, caplog):
    storage, tries = Storage(tmp_path, kept=2, most=1000), []

    def clear() -> None:
        tries.append(None)
        if len(tries) == 1:
            raise OSError("/secret/path")

    async def main() -> None:
        async with storage.clearing(clear):
            while len(tries) < 2:
                await asyncio.sleep(0.05)

    run_in_loop(asyncio.wait_for(main(), 10))
    assert caplog.messages == ["files could not be deleted: OSError"]
