"""The server of the page: what it is made of, and its life from start to Ctrl-C."""

import argparse
import contextlib
import logging
import os
import re
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi.exceptions import RequestValidationError
from gradio.utils import get_upload_folder
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse

if sys.platform != "win32":
    import resource

from nst.errors import ConfigError, DatasetError, ImageError, RunnerError
from nst.runs.ray_runner import runner_from
from nst.serving.limits import limits_from
from nst.serving.middleware import (
    HEADERS,
    UNREADABLE,
    FairShare,
    FormLimits,
    KnownPaths,
    SecurityHeaders,
    SessionNames,
    Uploads,
)
from nst.serving.queue import RunQueue
from nst.serving.rate_limit import MEGABYTE
from nst.serving.storage import Storage
from nst.study.datasets import load_datasets
from nst.web.gradio_patches import check_gradio
from nst.web.guarded_blocks import FAILED, WithoutWords
from nst.web.page import build_page
from nst.web.theme import CSS, THEME

SESSIONS = 1000  # that Gradio remembers, with a fifth of a megabyte for each
# All that the page and its API need. Gradio answers to much else: it stores states behind links, converts
# recordings, keeps histories elsewhere.
PATHS = re.compile(
    "/(|config/?|theme.css|favicon.ico|manifest.json|robots.txt|openapi.json|log(in|out)/?|health|metrics"
    "|(assets|static|svelte)/.*"
    "|gradio_api/(info/?|openapi.json|upload|upload_progress|queue/(join|data)|cancel|reset/?|component_server/?"
    "|(login_check|token|user|app_id)/?|startup-events|file=.*|(run|call|api|heartbeat)/.*))"
)
FREE_PATHS = re.compile("/(health|metrics|((assets|static|svelte)/|gradio_api/file=).*)$")
UPLOADS = Uploads(
    {"/gradio_api/upload": float("inf"), "/gradio_api/component_server": MEGABYTE}  # a drawing is short
)

_WITHOUT_WORDS = WithoutWords()  # one, which logging adds only once

logger = logging.getLogger("nst")


def launch(queue: RunQueue, *, metrics: bool = False, **options: Any) -> gr.Blocks:
    """Serve the page.

    Args:
        queue: where its runs wait.
        metrics: whether /metrics answers.
        **options: of Gradio's launch().

    Raises:
        DatasetError, ImageError: the examples can't be used.
    """
    logging.getLogger("uvicorn.error").addFilter(_WITHOUT_WORDS)
    datasets, limits = load_datasets(), queue.limits
    storage = Storage(Path(get_upload_folder()), limits.kept, limits.storage)
    page = build_page(queue, datasets, storage)
    check_gradio(page)
    page.queue(max_size=100, api_open=False, default_concurrency_limit=None)  # the handlers have limits
    page.launch(
        theme=THEME,
        css_paths=CSS,
        max_file_size="50mb",
        footer_links=["api"],
        state_session_capacity=SESSIONS,
        enable_monitoring=False,  # it would keep who came when
        run_history=False,  # and this, what they did
        app_kwargs={
            "middleware": [
                Middleware(SecurityHeaders),
                Middleware(KnownPaths, known=PATHS),
                Middleware(
                    FairShare,
                    rate_limiter=queue.rate_limiter,
                    storage=storage,
                    uploads=UPLOADS,
                    free=FREE_PATHS,
                ),
                Middleware(FormLimits),
                Middleware(SessionNames, uploads=UPLOADS),
            ],
            "exception_handlers": {RequestValidationError: _refuse_unreadable, Exception: _answer_failure},
            "lifespan": _lifespan_of(storage, page),
        },
        **options,
    )
    page.app.add_api_route("/health", queue.state)
    if metrics:
        page.app.add_api_route("/metrics", lambda: PlainTextResponse(queue.telemetry.text()))
    return page


def serve(arguments: argparse.Namespace) -> None:
    """Serve the page until Ctrl-C or SIGTERM, and leave no file behind.

    Args:
        arguments: the flags of app.py.
    """
    logging.basicConfig(format="%(message)s")
    logger.setLevel(logging.INFO)
    auth = _read_auth(arguments.auth or os.environ.get("NST_AUTH", ""))
    metrics = arguments.metrics or os.environ.get("NST_METRICS", "") not in ("", "0")
    try:
        limits = limits_from(arguments)
        queue = RunQueue(runner_from(arguments, limits.at_once), limits)
    except (ConfigError, RunnerError) as error:
        sys.exit(str(error))
    _raise_file_limit()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    where = os.environ.get("GRADIO_TEMP_DIR", tempfile.gettempdir())
    Path(where).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="nst-", dir=where, ignore_cleanup_errors=True) as folder:
        os.environ["GRADIO_TEMP_DIR"] = tempfile.tempdir = folder  # with what Gradio leaves elsewhere
        port = os.environ.get("GRADIO_SERVER_PORT")  # which Gradio takes for the first of a hundred to try
        try:  # Gradio has checked that it is a number
            options = {"share": arguments.share, "auth": auth, "quiet": True, "prevent_thread_lock": True}
            page = launch(queue, metrics=metrics, server_port=int(port) if port else None, **options)
            print(f"Open {page.share_url or page.local_url} in a browser. Ctrl-C stops it.", flush=True)
            page.block_thread()
        except (DatasetError, ImageError) as error:
            sys.exit(str(error))
        except OSError as error:
            if port and "empty port" in str(error):
                sys.exit(
                    f"Port {port} is taken, or may not be used here: please free it, or set "
                    "GRADIO_SERVER_PORT to another one."
                )
            raise
        finally:
            queue.close()


def _read_auth(text: str) -> tuple[str, str] | None:
    name, _, password = text.partition(":")
    if bool(name) != bool(password):
        sys.exit("Please give --auth a name and a password, with a colon between them.")
    return (name, password) if name else None


async def _refuse_unreadable(request: Request, error: Exception) -> JSONResponse:
    """Answer a request that can't be read, without repeating what was sent."""
    return JSONResponse({"error": UNREADABLE}, 422)


async def _answer_failure(request: Request, error: Exception) -> JSONResponse:
    """Answer a request that failed; Starlette's own answer would bypass the middleware with its headers."""
    return JSONResponse({"error": FAILED}, 500, HEADERS)


def _lifespan_of(storage: Storage, page: gr.Blocks) -> Any:
    """Make an ASGI lifespan in which visitors' files are deleted when it is time."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        async with storage.clearing(partial(clear_files, storage, page)):
            yield

    return lifespan


def clear_files(storage: Storage, page: gr.Blocks) -> None:
    """Delete visitors' files whose time is up, and let Gradio forget them; the page's own stay."""
    storage.clear({Path(file) for block in page.blocks.values() for file in block.keep_in_cache})
    for files in page.temp_file_sets:  # which Gradio would remember for ever
        files -= {file for file in tuple(files) if not Path(file).exists()}


def _raise_file_limit(files: int = 65_536) -> None:
    """Let this process have so many files open, or as many as it may: every connection is one."""
    if sys.platform == "win32":  # which has no such limit
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft = files if most == resource.RLIM_INFINITY else min(files, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, most))
