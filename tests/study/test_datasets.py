"""The bundled datasets are whole, and other folders are read or refused with a reason."""

import json
import re
import shutil
from pathlib import Path

import pytest

from nst.engine.images import load_image, to_uint8
from nst.errors import DatasetError
from nst.study.datasets import BUNDLED, find_dataset, load_datasets, premade

pytestmark = pytest.mark.quick

PHOTO = BUNDLED / "content" / "chenonceau.jpg"
PAINTING = BUNDLED / "style" / "munch-the-scream.jpg"


@pytest.fixture(autouse=True)
def _no_other_examples(monkeypatch):
    monkeypatch.delenv("NST_EXAMPLES", raising=False)


def refusal(folder: Path) -> str:
    """The sentence that a person reads, without the folder's own path."""
    with pytest.raises(DatasetError) as caught:
        load_datasets(folder)
    sentence = str(caught.value).replace(str(folder.resolve()), "FOLDER")
    assert re.fullmatch(r"Please [^\n]+[^.\s]\.", sentence)
    assert ". " not in sentence
    return sentence


# The bundled datasets


def test_the_small_dataset_is_1_by_4_and_the_large_2_by_8():
    datasets = load_datasets()
    assert [(data.name, len(data.contents), len(data.styles)) for data in datasets] == [
        ("small", 1, 4),
        ("large", 2, 8),
    ]
    for dataset in datasets:
        assert len({*dataset.pairs}) == len(dataset.contents) * len(dataset.styles)
    small, large = datasets
    assert {*small.styles} <= {*large.styles}


def test_every_bundled_image_loads_and_has_its_credit():
    table = (BUNDLED / "CREDITS.md").read_text(encoding="utf-8")
    examples = {example for dataset in load_datasets() for example in dataset.contents + dataset.styles}
    assert len(examples) == 11
    for example in examples:
        assert to_uint8(load_image(example.path, long_side=64)).std() > 10
        assert example.title
        assert example.credit
        assert f"| {example.path.parent.name}/{example.path.name} |" in table
        assert example.title in table


def test_no_bundled_image_is_left_out():
    listed = {example.path for data in load_datasets() for example in data.contents + data.styles}
    assert listed == {path.resolve() for role in ("content", "style") for path in (BUNDLED / role).iterdir()}


# A folder with content/ and style/


@pytest.fixture
def folder(tmp_path) -> Path:
    for role, name in (("content", "my_house.JPG"), ("content", "b.jpg"), ("style", "the-scream.jpg")):
        (tmp_path / role).mkdir(exist_ok=True)
        shutil.copy(PHOTO if role == "content" else PAINTING, tmp_path / role / name)
    return tmp_path


def test_a_folder_is_one_dataset_under_its_name(folder):
    (dataset,) = load_datasets(folder)
    assert dataset.name == folder.name
    assert [example.title for example in dataset.contents] == ["b", "my house"]
    assert [(example.title, example.credit) for example in dataset.styles] == [("the scream", "")]
    assert [(content.path.name, style.path.name) for content, style in dataset.pairs] == [
        ("b.jpg", "the-scream.jpg"),
        ("my_house.JPG", "the-scream.jpg"),
    ]


def test_a_folder_is_named_by_an_argument_its_text_or_the_environment(folder, monkeypatch):
    by_argument = load_datasets(folder)
    assert load_datasets(str(folder)) == by_argument
    monkeypatch.setenv("NST_EXAMPLES", str(folder))
    assert load_datasets() == by_argument
    assert load_datasets(BUNDLED)[0].name == "small"
    monkeypatch.setenv("HOME", str(folder.parent))
    monkeypatch.setenv("NST_EXAMPLES", f"~/{folder.name}")
    assert load_datasets() == by_argument
    monkeypatch.setenv("NST_EXAMPLES", "")
    assert load_datasets()[0].name == "small"


def test_an_installed_package_without_examples_still_takes_a_folder(folder, monkeypatch, tmp_path):
    monkeypatch.setattr("nst.study.datasets.BUNDLED", tmp_path / "examples")
    with pytest.raises(DatasetError, match="please let NST_EXAMPLES name a folder"):
        find_dataset("small")
    assert find_dataset(str(folder)).contents == load_datasets(folder)[0].contents


def test_other_files_are_passed_over(folder):
    before = load_datasets(folder)
    for name in (
        ".hidden.jpg",
        "._b.jpg",
        ".DS_Store",
        "notes.txt",
        "README.md",
        "photo.jpg.part",
        "song.mp3",
    ):
        shutil.copy(PHOTO, folder / "content" / name)
    (folder / "content" / "album.jpg").mkdir()
    shutil.copy(PHOTO, folder / "beside.jpg")
    assert load_datasets(folder) == before


def test_a_folder_without_images_of_both_kinds_is_refused(folder, tmp_path):
    needs = "Please put at least one image each into FOLDER/content and FOLDER/style."
    (folder / "style" / "the-scream.jpg").rename(folder / "style" / "the-scream.txt")
    assert refusal(folder) == needs
    shutil.rmtree(folder / "style")
    assert refusal(folder) == needs
    (tmp_path / "empty").mkdir()
    assert refusal(tmp_path / "empty") == needs
    assert refusal(tmp_path / "missing") == needs
    assert refusal(PHOTO) == needs


def test_a_dataset_is_found_by_its_name_or_its_folder(folder, tmp_path):
    assert find_dataset("large").name == "large"
    dataset = find_dataset(str(folder))
    assert [example.title for example in dataset.contents] == ["b", "my house"]
    with pytest.raises(DatasetError, match=r"Please name a dataset \(small, large\) or a folder"):
        find_dataset("nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="at least one image each"):
        find_dataset(str(tmp_path / "empty"))


# A folder with a datasets.json


def listing() -> dict:
    return {
        "images": {
            "content/b.jpg": {"title": "B", "credit": "me"},
            "content/my_house.JPG": {"title": "My house"},
            "style/the-scream.jpg": {"title": "The Scream", "credit": "Munch"},
        },
        "datasets": [
            {
                "name": "mine",
                "content": ["content/my_house.JPG", "content/b.jpg"],
                "style": ["style/the-scream.jpg"],
            },
            {"name": "one", "content": ["content/b.jpg"], "style": ["style/the-scream.jpg"]},
        ],
    }


def write(folder: Path, listed: object) -> None:
    (folder / "datasets.json").write_text(json.dumps(listed), encoding="utf-8")


def test_a_listing_says_what_belongs_together(folder):
    write(folder, listing())
    mine, one = load_datasets(folder)
    assert [(example.title, example.credit) for example in mine.contents] == [("My house", ""), ("B", "me")]
    assert mine.contents[1] == one.contents[0]
    assert one.pairs == ((one.contents[0], one.styles[0]),)
    assert one.styles[0].path == folder.resolve() / "style" / "the-scream.jpg"


def without(listed: dict, *path) -> dict:
    *parents, key = path
    target = listed
    for parent in parents:
        target = target[parent]
    del target[key]
    return listed


WRONG = {
    "a list": [],
    "a number": 3,
    "nothing": None,
    "empty": {},
    "no images": without(listing(), "images"),
    "no datasets": without(listing(), "datasets"),
    "no name": without(listing(), "datasets", 0, "name"),
    "no styles": without(listing(), "datasets", 0, "style"),
    "no title": without(listing(), "images", "content/b.jpg", "title"),
    "an image that is not described": without(listing(), "images", "content/b.jpg"),
    "another field": {**listing(), "images": {"content/b.jpg": {"title": "B", "author": "me"}}},
    "a list of images": {**listing(), "images": ["content/b.jpg"]},
    "images without descriptions": {**listing(), "images": {"content/b.jpg": "B"}},
    "datasets by name": {**listing(), "datasets": {"mine": ["content/b.jpg"]}},
    "an empty list of datasets": {**listing(), "datasets": []},
    "a dataset without styles": {
        **listing(),
        "datasets": [{"name": "mine", "content": ["content/b.jpg"], "style": []}],
    },
    "a name for a list": {
        **listing(),
        "datasets": [{"name": "mine", "content": "content/b.jpg", "style": ["style/the-scream.jpg"]}],
    },
}


@pytest.mark.parametrize("listed", WRONG.values(), ids=WRONG)
def test_a_listing_that_is_laid_out_otherwise_is_refused(folder, listed):
    write(folder, listed)
    assert refusal(folder) == (
        "Please correct FOLDER/datasets.json, which is not laid out as the bundled one."
    )


@pytest.mark.parametrize("text", [b"", b"{", b'{"images": {}, ', b"\xff\xfe\x00", b"\x00"])
def test_a_damaged_listing_is_refused(folder, text):
    (folder / "datasets.json").write_bytes(text)
    assert refusal(folder).startswith("Please correct FOLDER/datasets.json")


def test_an_image_that_is_listed_but_missing_is_named(folder):
    write(folder, listing())
    (folder / "content" / "b.jpg").unlink()
    assert refusal(folder) == "Please add FOLDER/content/b.jpg, which FOLDER/datasets.json lists."


# Premade pictures


def test_a_premade_picture_is_found_with_its_record(folder):
    ((content, style), _) = load_datasets(folder)[0].pairs
    assert premade(content, style) is None
    (folder / "results").mkdir()
    picture = folder.resolve() / "results" / "b--the-scream.jpg"
    picture.touch()
    assert premade(content, style) is None
    picture.with_suffix(".json").touch()
    assert premade(content, style) == (picture, picture.with_suffix(".json"))
