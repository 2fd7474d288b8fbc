"""The page: its title, its two tabs, and the endpoint for programs."""

from pathlib import Path

import gradio as gr
from gradio.utils import is_static_file

from nst.serving.background import BackgroundPool
from nst.serving.queue import RunQueue
from nst.serving.storage import Storage
from nst.study.datasets import Dataset, premade
from nst.web.api import add_endpoint
from nst.web.components import script
from nst.web.guarded_blocks import GuardedBlocks
from nst.web.paint_tab import PaintTab
from nst.web.study_tab import StudyTab
from nst.web.visitor_runs import VisitorRuns


def build_page(queue: RunQueue, datasets: tuple[Dataset, ...], storage: Storage) -> gr.Blocks:
    """Lay out the page, top to bottom as it looks.

    Args:
        queue: where its runs wait.
        datasets: the examples that it offers.
        storage: where the files of runs lie.

    Raises:
        ImageError: an example can't be read.
    """
    background = BackgroundPool(queue.rate_limiter)
    runs = VisitorRuns(queue, background)
    # Served from where they are: copies would be deleted like visitors' files. Gradio's list only ever grows.
    gr.set_static_paths([file for file in _example_files(datasets) if not is_static_file(str(file))])
    page: gr.Blocks = GuardedBlocks(title="Neural style transfer")
    with page:
        gr.Markdown(
            "# Neural style transfer\n"
            "Choose a photo and a painting, and watch the photo being painted like the painting.",
            elem_id="title",
        )
        with gr.Tabs(selected="paint") as tabs:
            with gr.Tab("Paint", id="paint"):
                paint = PaintTab(queue, runs, datasets, storage, background)
            with gr.Tab("Study", id="study"):
                study = StudyTab(queue, datasets, storage.new_folder, background)
        paint.connect(page)
        study.connect(page)
        paint.connect_study(study.sheet, study.shown, tabs)
        page.load(None, js=script("screen_readers.js"), api_visibility="private")
        add_endpoint(runs, storage.new_folder)
    return page


def _example_files(datasets: tuple[Dataset, ...]) -> list[Path]:
    """List the images of the datasets and their premade pictures, each once."""
    pairs = [pair for dataset in datasets for pair in dataset.pairs]
    images = [example.path for pair in pairs for example in pair]
    pictures = [files[0] for pair in pairs if (files := premade(*pair))]
    return list(dict.fromkeys([*images, *pictures]))
