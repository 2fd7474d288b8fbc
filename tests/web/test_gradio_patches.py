"""What the page needs of Gradio beyond its public interface: it is there, or the start fails loudly."""

import re
from pathlib import Path

import gradio as gr
import gradio.component_meta
import gradio.queueing
import gradio.state_holder
import pytest

from nst.web import gradio_patches, mask_editor
from nst.web.gradio_patches import check_gradio, without_stub_file


@pytest.fixture
def page():
    with gr.Blocks() as page:
        gr.Button("Press").click(lambda: None)
    return page


def test_this_version_of_gradio_has_all_that_is_needed(page):
    check_gradio(page)


@pytest.mark.parametrize("name", ["pending_messages_per_session", "active_jobs", "alive", "session_hash"])
def test_a_gradio_that_lacks_a_name_is_refused_before_the_page_is_served(page, monkeypatch, name):
    owner = gradio.queueing.Queue if "_" in name and name != "session_hash" else gradio.queueing.Event
    begin = owner.__init__

    def begin_without(self, *arguments, **named):
        begin(self, *arguments, **named)
        delattr(self, name)

    monkeypatch.setattr(owner, "__init__", begin_without)
    if owner is gradio.queueing.Queue:
        page.queue()
    with pytest.raises(RuntimeError, match=rf"^Gradio {gr.__version__} has no gradio\.queueing\.\w+\.{name}"):
        check_gradio(page)


def test_a_gradio_that_keeps_files_elsewhere_is_refused(page, monkeypatch):
    """Or visitors' files would never be deleted."""
    del page.temp_file_sets
    with pytest.raises(RuntimeError, match=r"has no gr\.Blocks\.temp_file_sets"):
        check_gradio(page)


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (gr.Blocks, "process_api"),
        (gr.Blocks, "preprocess_data"),
        (gr.ImageEditor, "accept_blobs"),
        (gr.ImageEditor, "preprocess"),
    ],
)
def test_a_gradio_that_lacks_an_overridden_method_is_refused(page, monkeypatch, owner, name):
    """The base class is looked at, so that the page's own method does not hide that nothing calls it."""
    for base in owner.__mro__:
        if name in vars(base):
            monkeypatch.delattr(base, name)
    with pytest.raises(RuntimeError, match=rf"has no gr\.{owner.__name__}\.{name}"):
        check_gradio(page)


def test_a_gradio_whose_sessions_keep_values_elsewhere_is_refused(page, monkeypatch):
    begin = gradio.state_holder.SessionState.__init__

    def begin_without(self, blocks):
        begin(self, blocks)
        del self.config_values

    monkeypatch.setattr(gradio.state_holder.SessionState, "__init__", begin_without)
    with pytest.raises(RuntimeError, match=r"SessionState\.config_values"):
        check_gradio(page)


def test_a_gradio_without_the_queue_of_a_page_is_refused(page):
    del page._queue
    with pytest.raises(RuntimeError, match=r"has no gr\.Blocks\._queue, which nst/web/gradio_patches\.py"):
        check_gradio(page)


def test_a_gradio_that_writes_stub_files_otherwise_is_refused(monkeypatch):
    monkeypatch.delattr(gradio.component_meta, "create_or_modify_pyi")
    with pytest.raises(RuntimeError, match="create_or_modify_pyi"), without_stub_file():
        pass


def test_a_component_of_ones_own_leaves_no_file_and_others_are_as_before():
    original = gradio.component_meta.create_or_modify_pyi
    with without_stub_file():
        assert gradio.component_meta.create_or_modify_pyi is not original
    assert gradio.component_meta.create_or_modify_pyi is original
    assert not list(Path(mask_editor.__file__).parent.glob("*.pyi"))


def test_nothing_else_of_the_package_uses_a_private_name_of_gradio():
    package = Path(gradio_patches.__file__).parents[1]
    private = r"(?<!self)\._queue|pending_messages|active_jobs|component_meta|_update_value_in_config"
    for file in package.rglob("*.py"):
        if file.name != "gradio_patches.py":
            assert not re.search(private, file.read_text(encoding="utf-8")), file
