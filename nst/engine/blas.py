"""NumPy's products on one thread: idle threads of BLAS spin, on cores that the network needs."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ContextDecorator, ExitStack, suppress
from threading import Lock

from threadpoolctl import ThreadpoolController


class _OneThread(ContextDecorator):
    """Keep BLAS to one thread while any thread of the process is inside.

    BLAS has one limit for the whole process. The first thread inside asks for it, and the last to leave gives
    it back; a thread of its own does both, because threadpoolctl heeds only the thread that set a limit.
    """

    def __init__(self) -> None:
        self._blas = ThreadpoolController().select(user_api="blas")
        self._start()
        os.register_at_fork(after_in_child=self._start)  # a child has no thread but the one that forked

    def _start(self) -> None:
        self._keeper = ThreadPoolExecutor(max_workers=1, thread_name_prefix="blas-limit")
        self._lock, self._inside, self._limit = Lock(), 0, ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._keep(lambda: self._limit.enter_context(self._blas.limit(limits=1)))
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._keep(self._limit.close)

    def _keep(self, change: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # the main thread has ended; a run in another goes on without a limit
            self._keeper.submit(change).result()


one_blas_thread = _OneThread()
