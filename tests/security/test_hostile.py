"""Hostile and broken files: each is refused in one plain sentence, in a second and 100 MB of memory."""

import io
import re
import time

import pytest
from hostile_files import FILES, ODD
from memory import MOST_MEMORY, count_again, held

from nst.engine.images import load_image
from nst.errors import ImageError

MOST_SECONDS = 1  # of the processor


@pytest.mark.parametrize("name", FILES)
def test_a_hostile_file_is_refused_in_a_sentence(name, tmp_path):
    path = tmp_path / "<img src=x onerror=alert(1)>.png"
    path.write_bytes(FILES[name])
    before, began = count_again(), time.thread_time()
    with pytest.raises(ImageError) as error:
        load_image(path, long_side=512)
    assert time.thread_time() - began < MOST_SECONDS
    assert held("VmHWM") - before < MOST_MEMORY
    assert re.fullmatch(r"[A-Z][^\n<>]*: please [^\n<>]*\.", str(error.value))


@pytest.mark.parametrize("name", ODD)
def test_an_odd_file_that_holds_a_picture_is_read_within_the_same_bounds(name):
    before, began = count_again(), time.thread_time()
    assert load_image(io.BytesIO(ODD[name]), long_side=64).shape[2] == 64
    assert time.thread_time() - began < MOST_SECONDS
    assert held("VmHWM") - before < MOST_MEMORY
