"""The endpoint /stylize, for programs: gradio_client, or any HTTP client."""

import asyncio
import inspect
import json
from collections.abc import Callable
from dataclasses import Field
from pathlib import Path
from typing import Any

import gradio as gr

from nst.config import DEFAULT_PRESET, PRESETS, SETTINGS
from nst.engine.images import save_image
from nst.errors import TransferError
from nst.serving.queue import POLL_SECONDS, Run
from nst.web.uploads import RunRequest
from nst.web.visitor_runs import VisitorRuns, raise_failure

_TYPES: dict[Any, Any] = {
    float: float | None,
    int: int | None,
    str: str | None,
    tuple[float, ...]: list[float] | None,
}
_LAYERS = list[str] | dict[str, float] | None


def add_endpoint(runs: VisitorRuns, new_folder: Callable[[], Path]) -> None:
    """Add the endpoint to the Blocks around this call.

    Args:
        runs: where its runs go.
        new_folder: makes a folder for a picture.
    """

    async def stylize(*values: Any) -> tuple[Any, dict[str, Any]]:
        given = dict(_SIGNATURE.bind(*values).arguments)
        request = given.pop("request")
        settings = {name: given[name] for name in SETTINGS if given.get(name) is not None}
        more_styles = given.get("more_styles")
        run = await runs.join(
            request,
            RunRequest(
                content=given["content"],
                styles=_join_styles(given["style"], more_styles),
                settings=settings,
                preset=DEFAULT_PRESET if given.get("preset") is None else given["preset"],
                mask=given.get("mask"),
                start=given.get("start"),
            ),
        )
        try:
            while not run.future.done():
                await asyncio.sleep(POLL_SECONDS)
            raise_failure(run)
            if run.recorder.progress is None:
                raise TransferError("The run was stopped before its first step.")
            file = new_folder() / "picture.png"
            record = await asyncio.to_thread(_save, run, file)
            return gr.FileData(path=str(file)).model_dump(), record
        finally:
            runs.leave(request, run)

    # Gradio makes the API's parameters and its page from these.
    endpoint: Any = stylize
    endpoint.__signature__ = _SIGNATURE
    endpoint.__annotations__ = {name: one.annotation for name, one in _SIGNATURE.parameters.items()}
    endpoint.__doc__ = _describe()
    gr.events.api(endpoint, api_name="stylize", concurrency_limit=None)


def _save(run: Run, file: Path) -> dict[str, Any]:
    """Write the picture with its record, and return the record."""
    record = run.recorder.record(run.job, run.backbone)
    save_image(run.recorder.result(run.job), file, metadata=json.dumps(record))
    return record


def _join_styles(style: Any, more: Any) -> Any:
    """Join all paintings into one list; RunRequest refuses what is no list."""
    return [style, *more] if isinstance(more, list) else more if more is not None else [style]


def _sign() -> inspect.Signature:
    """Make the endpoint's signature: images, every setting by its name, a preset; None is "not given"."""
    file = gr.FileData | None
    parameters: dict[str, tuple[Any, Any]] = {
        "request": (gr.Request, inspect.Parameter.empty),
        "content": (gr.FileData, inspect.Parameter.empty),
        "style": (gr.FileData, inspect.Parameter.empty),
        **{name: (_TYPES.get(setting.type, _LAYERS), None) for name, setting in SETTINGS.items()},
        "more_styles": (list[gr.FileData] | None, None),
        "mask": (file, None),
        "start": (file, None),
        "preset": (str | None, None),
    }
    return inspect.Signature(
        [
            inspect.Parameter(
                name, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=annotation, default=default
            )
            for name, (annotation, default) in parameters.items()
        ],
        return_annotation=tuple[gr.FileData, dict[str, Any]],
    )


_SIGNATURE = _sign()


def _describe() -> str:
    settings = "; ".join(f"{name}: {_values(setting)}" for name, setting in SETTINGS.items())
    return (
        "Stylize a photo (content) in the style of a painting (style); get the picture (PNG) and the run "
        "record, which is in the picture's metadata as well. Every setting means what it means on the page. "
        f"One that is not given is the preset's; presets are {', '.join(PRESETS)} ({DEFAULT_PRESET} where "
        "none is given). Layers are a list of names, for losses that are divided by the energy of their "
        "targets and averaged, or {name: weight}, for mean squared errors times weights. Further paintings, "
        "a mask and a picture to continue from are optional. Settings, with what they are in the preset "
        f"{DEFAULT_PRESET}: {settings}."
    )


def _values(setting: Field[Any]) -> str:
    """Describe the values of a setting, and its default, in a few words."""
    default: Any = setting.default
    if "range" in setting.metadata:
        low, high = setting.metadata["range"]
        return f"{low:,} to {high:,} ({default:g})"
    if "choices" in setting.metadata:
        return f"{', '.join(setting.metadata['choices'])} ({default})"
    return f"{setting.metadata['help']} ({', '.join(map(str, default)) or 'none'})"
