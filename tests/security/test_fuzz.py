"""Whatever is sent: an image or a sentence, a config or a sentence, a picture or a sentence, and no more."""

import io
import json
import re

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin
from served import API_PARAMETERS, JSON, PHOTO, called, serving

from nst.config import SETTINGS, TransferConfig
from nst.engine.images import METADATA_KEYWORD, load_image
from nst.errors import ConfigError, ImageError, RecordError
from nst.runs.record import restored_config
from nst.serving.limits import Limits

bounded = settings(max_examples=300, deadline=None, derandomize=True)
names = st.sampled_from([*SETTINGS])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner, max_size=4),
    max_leaves=8,
)


def check_sentence(error: Exception | str) -> None:
    assert re.fullmatch(r"[A-Z][^\n<>]*\.", str(error))


def whole(format: str) -> bytes:
    file = io.BytesIO()
    Image.open(PHOTO).resize((64, 48)).save(file, format, exif=Image.Exif())
    return file.getvalue()


WHOLE = {format: whole(format) for format in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")}


@st.composite
def damaged(draw) -> bytes:
    """A picture with some of its bytes changed, cut off, or repeated."""
    data = bytearray(WHOLE[draw(st.sampled_from([*WHOLE]))])
    for at in draw(st.lists(st.integers(0, len(data) - 1) | st.integers(0, 63), max_size=6)):
        patch = draw(st.binary(min_size=1, max_size=8) | st.sampled_from([b"\xff" * 4, bytes(4)]))
        data[at : at + len(patch)] = patch
    end = draw(st.just(len(data)) | st.integers(0, len(data)))
    return bytes(data[:end]) * draw(st.integers(1, 2))


@bounded
@given(damaged() | st.binary(max_size=200))
def test_a_damaged_file_is_an_image_or_a_sentence(data):
    try:
        image = load_image(io.BytesIO(data), long_side=64)
    except ImageError as error:
        check_sentence(error)
    else:
        assert max(image.shape[1:3]) == 64
        assert 0 <= float(image.numpy().min()) <= float(image.numpy().max()) <= 1


@bounded
@given(st.dictionaries(names, values, max_size=3))
def test_settings_of_any_type_are_a_config_or_a_sentence(given_settings):
    try:
        config = TransferConfig(**given_settings)
    except ConfigError as error:
        check_sentence(error)
    else:
        assert TransferConfig(**{name: getattr(config, name) for name in given_settings}) == config


@bounded
@given(
    st.dictionaries(names | st.text(max_size=30), values, max_size=3).map(
        lambda config: json.dumps({"config": config})
    )
    | values.map(json.dumps)
    | st.text(max_size=50)
)
def test_a_record_of_anything_is_a_config_or_a_sentence(text):
    try:
        restored_config(io.BytesIO(with_record(text)))
    except (RecordError, ImageError) as error:
        check_sentence(error)


def with_record(text: str) -> bytes:
    chunks = PngImagePlugin.PngInfo()
    chunks.add_itxt(METADATA_KEYWORD, text.encode("utf-8", "replace").decode(), zip=True)
    file = io.BytesIO()
    Image.new("RGB", (64, 48)).save(file, "PNG", pnginfo=chunks)
    return file.getvalue()


@bounded
@given(st.sampled_from([*Limits.__dataclass_fields__]), values)
def test_a_limit_of_any_type_is_taken_or_refused_in_a_sentence(name, value):
    try:
        Limits(**{name: value})
    except ConfigError as error:
        check_sentence(error)


@pytest.fixture(scope="module")
def server():
    with serving(Limits(size=64, iterations=2)) as (_, page):
        yield page.local_url


@settings(bounded, max_examples=100)
@given(st.dictionaries(st.sampled_from([*API_PARAMETERS]), values, max_size=3))
def test_settings_of_any_type_get_a_picture_or_a_sentence_from_the_api(server, given_settings):
    quick = {"size": 32, "iterations": 1, "backbone": "vgg16"}
    answer = httpx.get(called(server, {**quick, **given_settings}), timeout=60).text.strip().splitlines()
    event, data = (line.partition(": ")[2] for line in answer[-2:])
    if event == "error":
        check_sentence(json.loads(data)["error"])
    else:
        assert event == "complete"


@bounded
@given(
    st.sampled_from(["queue/join", "call/stylize", "run/predict", "run/stylize", "cancel", "reset"]),
    values.map(json.dumps)
    | st.dictionaries(
        st.sampled_from(["data", "fn_index", "session_hash", "event_id", "event_data", "trigger_id"]), values
    ).map(json.dumps)
    | st.text(max_size=50),
)
def test_a_request_of_anything_gets_json_that_no_browser_takes_for_a_page(server, path, body):
    answer = httpx.post(f"{server}gradio_api/{path}", content=body.encode("utf-8", "replace"), headers=JSON)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Type"].startswith(("application/json", "text/plain"))
