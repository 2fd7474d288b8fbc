"""The API, as gradio_client and other programs use it: pictures, records, settings, and bad input."""

import re
import threading
from pathlib import Path

import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from served import API_PARAMETERS, EXAMPLES, OTHER_PAINTING, PAINTING, PHOTO, raw_error, serving

from nst.config import PRESETS, SETTINGS, TransferConfig
from nst.engine.images import load_image, to_uint8
from nst.runs.record import restored_config
from nst.serving.limits import Limits

QUICK = {"size": 64, "iterations": 3, "backbone": "vgg16", "api_name": "/stylize"}
DEFAULTS = TransferConfig()


@pytest.fixture(scope="module")
def server():
    with serving() as (_, page):
        yield page.local_url


@pytest.fixture
def client(server, tmp_path):
    return Client(server, verbose=False, download_files=tmp_path)


def stylize(client, content=PHOTO, style=PAINTING, **settings):
    return client.predict(handle_file(content), handle_file(style), **{**QUICK, **settings})


def test_stylize_gives_the_picture_and_its_record(client):
    picture, record = stylize(client, seed=5)
    assert Image.open(picture).format == "PNG"
    assert Image.open(picture).size == (64, 48)
    assert record["ended"] == "finished"
    assert record["config"]["seed"] == 5
    assert [row["step"] for row in record["history"]] == [1, 2, 3]
    assert record["backbone"]["name"] == "vgg16"


def test_every_setting_has_a_name_in_the_api_and_need_not_be_given(client):
    endpoint = client.view_api(return_format="dict", print_info=False)["named_endpoints"]["/stylize"]
    parameters = {one["parameter_name"]: one for one in endpoint["parameters"]}
    assert [*parameters] == ["content", "style", *API_PARAMETERS]
    assert {*SETTINGS} <= {*API_PARAMETERS}
    for name in API_PARAMETERS:
        assert parameters[name]["parameter_has_default"]
        assert parameters[name]["parameter_default"] is None
    types = {name: parameters[name]["python_type"]["type"] for name in parameters}
    assert types["size"] == "None | int"
    assert types["style_blend"] == "None | list[float]"
    assert types["style_layers"] == "list[str] | dict(str, float) | None"
    for text in ("run record", "light-wash", "size: 32 to 4,096 (512)", "optimizer: lbfgs, adam (lbfgs)"):
        assert text in endpoint["description"]


def test_every_setting_reaches_the_run(client):
    settings = {
        "content_weight": 2.0,
        "style_weight": 300.0,
        "tv_weight": 3.0,
        "style_blend": [1.0, 3.0],
        "style_scale": 0.5,
        "colors": "matched",
        "mask_mode": "styles",
        "strength": 0.5,
        "size": 72,
        "iterations": 2,
        "backbone": "vgg16",
        "precision": "float32",
        "pooling": "avg",
        "content_layers": ["block3_conv1"],
        "style_layers": {"block1_conv1": 0.5, "block2_conv1": 2.0},
        "optimizer": "adam",
        "init": "noise",
        "seed": 9,
    }
    assert settings.keys() == SETTINGS.keys()
    assert all(value != getattr(DEFAULTS, name) for name, value in settings.items())
    _, record = stylize(client, more_styles=[handle_file(OTHER_PAINTING)], **settings)
    assert record["config"] == settings
    assert record["precision"] == "float32"


def test_further_images_reach_the_run_and_its_record(client, tmp_path):
    mask = np.zeros((48, 64), np.uint8)
    mask[:, 32:] = 255
    Image.fromarray(mask).save(tmp_path / "half.png")
    start, _ = stylize(client, iterations=1)
    picture, record = stylize(
        client,
        more_styles=[handle_file(OTHER_PAINTING)],
        mask=handle_file(tmp_path / "half.png"),
        start=handle_file(start),
    )
    photo = np.asarray(to_uint8(load_image(PHOTO, long_side=64)))
    painted = np.asarray(Image.open(picture))
    assert np.array_equal(painted[:, :32], photo[:, :32])
    assert np.abs(painted[:, 32:].astype(int) - photo[:, 32:]).mean() > 5
    images = record["images"]
    assert images["content"]["name"] == PHOTO.name
    assert [entry["name"] for entry in images["styles"]] == [PAINTING.name, OTHER_PAINTING.name]
    assert images["mask"]["name"] == "half.png"
    assert re.fullmatch("[0-9a-f]{64}", images["start"]["sha256"])


def test_a_preset_gives_what_is_not_set(client):
    preset = PRESETS["light-wash"]
    assert preset.style_weight not in (DEFAULTS.style_weight, 333)
    assert stylize(client, preset="light-wash")[1]["config"]["style_weight"] == preset.style_weight
    _, record = stylize(client, preset="light-wash", style_weight=333)
    assert record["config"]["style_weight"] == 333
    _, record = stylize(client, preset="detail-keeper")
    assert record["config"]["content_layers"] == [*PRESETS["detail-keeper"].content_layers]


def test_a_setting_that_is_given_counts_even_where_it_is_the_default(client):
    _, record = stylize(client, preset="light-wash", style_weight=10)
    assert record["config"]["style_weight"] == DEFAULTS.style_weight == 10
    assert record["config"]["colors"] == PRESETS["light-wash"].colors == "matched"
    _, record = stylize(client, preset="poster", style_layers=[*DEFAULTS.style_layers], tv_weight=None)
    assert record["config"]["style_layers"] == [*DEFAULTS.style_layers]
    assert record["config"]["tv_weight"] == PRESETS["poster"].tv_weight


def test_the_picture_holds_its_settings(client):
    picture, record = stylize(client, style_weight=50, colors="luminance")
    assert restored_config(picture) == TransferConfig(**record["config"])
    assert restored_config(picture).colors == "luminance"


def test_strength_zero_gives_the_photo(client):
    picture, _ = stylize(client, strength=0)
    assert np.array_equal(np.asarray(Image.open(picture)), to_uint8(load_image(PHOTO, long_side=64)))


@pytest.mark.parametrize(("shade", "word"), [(0, "black"), (255, "white")])
def test_a_mask_without_a_use_gets_one_plain_sentence(client, tmp_path, shade, word):
    Image.new("L", (64, 48), shade).save(tmp_path / "flat.png")
    with pytest.raises(AppError) as error:
        stylize(
            client,
            mask=handle_file(tmp_path / "flat.png"),
            mask_mode="styles",
            more_styles=[handle_file(OTHER_PAINTING)],
        )
    assert re.fullmatch(rf"The mask is {word} all over: please [^\n<]*\.", str(error.value))


def test_the_example_images_are_turned_scaled_and_kept_apart(client):
    """Two visitors at once get their own pictures."""
    pictures = {}

    def visit(name, content):
        pictures[name] = stylize(client, content=content)[0]

    contents = {"castle": PHOTO, "sunset": EXAMPLES / "content" / "mountain-sunset.jpg"}
    visits = [threading.Thread(target=visit, args=item) for item in contents.items()]
    for visit_ in visits:
        visit_.start()
    for visit_ in visits:
        visit_.join()
    assert Image.open(pictures["castle"]).size == (64, 48)
    assert Image.open(pictures["sunset"]).size == (64, 43)


BAD_SETTINGS = [
    ("size", -1),
    ("size", 10**9),
    ("size", "large"),
    ("size", 100.5),
    ("iterations", 0),
    ("content_weight", -0.5),
    ("content_weight", "NaN"),
    ("style_weight", 1e300),
    ("style_weight", [100]),
    ("tv_weight", {"a": 1}),
    ("backbone", "resnet"),
    ("optimizer", 3),
    ("precision", "float64"),
    ("init", "<b>photo</b>"),
    ("seed", 2**40),
    ("style_layers", []),
    ("style_layers", ["block9_conv9"]),
    ("style_layers", ["block1_conv1"] * 2),
    ("content_layers", {"block4_conv2": -1}),
    ("content_layers", "block4_conv2"),
    ("size", Limits().size + 1),
    ("style_blend", [1, 2]),
    ("style_blend", [0]),
    ("style_blend", [-1]),
    ("style_blend", "1,2"),
    ("style_scale", 3),
    ("colors", "sepia"),
    ("mask_mode", ""),
    ("strength", 1.5),
    ("preset", "masterpiece"),
    ("preset", ["poster"]),
    ("more_styles", "many"),
    ("more_styles", [handle_file(OTHER_PAINTING)] * 4),
]


@pytest.mark.parametrize(("name", "value"), BAD_SETTINGS)
def test_a_bad_setting_gets_one_plain_sentence(client, name, value):
    with pytest.raises(AppError) as error:
        stylize(client, **{name: value})
    sentence = str(error.value)
    assert sentence.startswith("Please ")
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert "<" not in sentence


@pytest.mark.parametrize("value", ["[null]", "NaN", "-Infinity", '"<b>many</b>"'])
@pytest.mark.parametrize("name", ["size", "style_weight", "backbone", "style_layers"])
def test_what_python_would_not_send_gets_one_plain_sentence(server, name, value):
    sentence = raw_error(server, {**QUICK, name: "VALUE"}, value)
    assert re.fullmatch(r"Please [^\n<]*\.", sentence)


def bad_file(folder: Path, kind: str) -> Path:
    path = folder / f"{kind}.png"
    whole = PHOTO.read_bytes()
    contents = {
        "empty": b"",
        "truncated": whole[: len(whole) // 2],
        "text": b"not an image",
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="99" height="99"></svg>',
        "pdf": b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n",
    }
    if kind in contents:
        path.write_bytes(contents[kind])
    else:
        sizes = {"tiny": (31, 31), "narrow": (900, 100), "oversized": (8000, 7000)}
        Image.new("1", sizes[kind]).save(path)
    return path


@pytest.mark.parametrize("kind", ["empty", "truncated", "text", "svg", "pdf", "tiny", "narrow", "oversized"])
def test_a_bad_image_gets_one_plain_sentence_and_the_next_run_works(client, tmp_path, kind):
    with pytest.raises(AppError) as error:
        stylize(client, content=bad_file(tmp_path, kind))
    sentence = str(error.value)
    assert sentence.startswith("Photo: ")
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert kind + ".png" not in sentence
    assert stylize(client)[1]["ended"] == "finished"


def test_an_animated_gif_is_painted_by_its_first_frame(client, tmp_path):
    first = Image.open(PHOTO).resize((96, 72))
    first.save(tmp_path / "a.gif", save_all=True, append_images=[Image.new("RGB", (96, 72))])
    picture, _ = stylize(client, content=tmp_path / "a.gif")
    assert np.asarray(Image.open(picture)).std() > 20
