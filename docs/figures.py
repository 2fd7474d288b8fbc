"""Make the figures of the documentation.

- `python docs/figures.py readme` makes examples/results/all.jpg from the example results,
- `settings` paints examples/guide/settings.jpg,
- `page` paints a pair on the page, in Debian's Chromium, for examples/page.jpg,
- `compare DATASET SHEET TITLE=GALLERY …` shows each pair of a dataset with its picture in each gallery (see
  `nst study --gallery`).
"""

import argparse
import io
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

sys.path.insert(0, str(Path(__file__).parents[1]))  # the package need not be installed

from nst import TransferConfig, load_image, stylize
from nst.config import PRESETS
from nst.engine.images import resize, to_uint8
from nst.study.datasets import find_dataset

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
GAP = 8  # pixels between cells
CAPTION = 28  # pixels
README_PAIRS = (
    ("chenonceau", "munch-the-scream"),
    ("berlin-cathedral", "van-gogh-village-street-in-auvers"),
    ("chenonceau", "kandinsky-composition-viii"),
)
SETTINGS_PAIR = ("chenonceau", "munch-the-scream")
SETTINGS = {
    **PRESETS,
    "style_weight = 1": TransferConfig(style_weight=1),
    "style_weight = 100": TransferConfig(style_weight=100),
    "style_scale = 2": TransferConfig(style_scale=2),
    "colors = matched": TransferConfig(colors="matched"),
    "with block5_conv1": TransferConfig(style_layers=PRESETS["dissolved"].style_layers),
}


def read(path: Path, height: int) -> Image.Image:
    """Read an image, and resize it to a height in pixels."""
    image = Image.open(path).convert("RGB")
    return image.resize((round(image.width * height / image.height), height), Image.Resampling.LANCZOS)


def example(kind: str, name: str) -> Path:
    """Return the path of an example image, "content" or "style"."""
    return EXAMPLES / kind / f"{name}.jpg"


def captioned(image: Image.Image, text: str) -> Image.Image:
    """Put a line of text under an image."""
    cell = Image.new("RGB", (image.width, image.height + CAPTION), "white")
    cell.paste(image)
    font = ImageFont.load_default(size=16)
    ImageDraw.Draw(cell).text((image.width / 2, image.height + 4), text, "black", font, anchor="ma")
    return cell


def rows(cells: Iterable[Sequence[Image.Image]]) -> Image.Image:
    """Lay out rows of images, each column as wide as its widest image."""
    table = [list(row) for row in cells]
    widths = [
        max(row[column].width for row in table if column < len(row)) for column in range(max(map(len, table)))
    ]
    heights = [max(image.height for image in row) for row in table]
    sheet = Image.new(
        "RGB", (sum(widths) + GAP * (len(widths) - 1), sum(heights) + GAP * (len(table) - 1)), "white"
    )
    top = 0
    for row, height in zip(table, heights, strict=True):
        left = 0
        for image, width in zip(row, widths, strict=False):
            sheet.paste(image, (left + (width - image.width) // 2, top))
            left += width + GAP
        top += height + GAP
    return sheet


def readme() -> None:
    """Show photo, painting and result of each pair, side by side, under one another."""
    height = 320
    sheet = rows(
        [
            read(example("content", content), height),
            ImageOps.pad(read(example("style", style), height), (430, height), color="white"),
            read(EXAMPLES / "results" / f"{content}--{style}.jpg", height),
        ]
        for content, style in README_PAIRS
    )
    sheet.save(EXAMPLES / "results" / "all.jpg", quality=88, optimize=True)


def settings() -> None:
    """Paint one pair with every preset and with some settings."""
    content, style = SETTINGS_PAIR
    photo, painting = load_image(example("content", content)), load_image(example("style", style))
    height = 288
    cells = [
        captioned(read(example("content", content), height), "the photo"),
        captioned(read(example("style", style), height), "the painting"),
    ]
    for name, config in SETTINGS.items():
        *_, last = stylize(photo, painting, replace(config, backbone="vgg16"))
        picture = last.image
        picture = config.strength * picture + (1 - config.strength) * resize(photo, *picture.shape[1:3])
        image = Image.fromarray(to_uint8(picture))
        cells.append(captioned(ImageOps.contain(image, (10_000, height)), name))
    (EXAMPLES / "guide").mkdir(exist_ok=True)
    sheet = rows([cells[start : start + 3] for start in range(0, len(cells), 3)])
    sheet.save(EXAMPLES / "guide" / "settings.jpg", quality=85, optimize=True)


def page(port: int = 7861, patience: float = 300) -> None:
    """Paint a pair on the page, and take a picture of it."""
    from playwright.sync_api import sync_playwright  # one of the tests' requirements

    address = f"http://127.0.0.1:{port}"
    server = subprocess.Popen(
        [sys.executable, "app.py"],
        cwd=ROOT,
        env={**os.environ, "GRADIO_SERVER_PORT": str(port)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(round(patience)):
            with suppress(OSError):
                urllib.request.urlopen(f"{address}/health").close()
                break
            time.sleep(1)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-dev-shm-usage"]
            )
            view = browser.new_page(viewport={"width": 1400, "height": 1000}, color_scheme="light")
            view.goto(address)
            view.locator(".pairs:visible button.thumbnail-item").nth(1).click()
            view.locator("#style img[src*=village-street]").wait_for()
            view.get_by_role("button", name="Stylize", exact=True).click()
            status = view.locator(".status").filter(has_text="Done")
            status.wait_for(timeout=1000 * patience)
            view.locator("#comparison img").nth(1).wait_for()
            view.wait_for_timeout(2000)  # for the chart's last update
            shot = view.screenshot(full_page=True)
            browser.close()
    finally:
        server.terminate()
        server.wait()
    Image.open(io.BytesIO(shot)).convert("RGB").save(EXAMPLES / "page.jpg", quality=85, optimize=True)


def compare(dataset: str, sheet: Path, galleries: Sequence[str], height: int = 224) -> None:
    """Show each pair that all galleries have a picture of, one a row."""
    images = find_dataset(dataset)
    titles, folders = zip(*(gallery.split("=", 1) for gallery in galleries), strict=True)
    table = []
    for content in images.contents:
        for style in images.styles:
            name = f"{content.name}--{style.name}"
            found = [next(Path(folder).glob(f"{name}.[jp][pn]g"), None) for folder in folders]
            paths = [content.path, style.path, *(path for path in found if path)]
            if len(paths) == 2 + len(folders):
                table.append([read(path, height) for path in paths])
    captions = ("photo", "painting", *titles)
    table[-1] = [captioned(image, text) for image, text in zip(table[-1], captions, strict=True)]
    sheet.parent.mkdir(parents=True, exist_ok=True)
    rows(table).save(sheet, quality=80, optimize=True)


def main() -> None:
    """Make the figure that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    commands = parser.add_subparsers(dest="figure", required=True)
    commands.add_parser("readme")
    commands.add_parser("settings")
    commands.add_parser("page")
    comparison = commands.add_parser("compare")
    comparison.add_argument("dataset")
    comparison.add_argument("sheet", type=Path)
    comparison.add_argument("galleries", nargs="+", metavar="TITLE=GALLERY")
    arguments = parser.parse_args()
    match arguments.figure:
        case "readme":
            readme()
        case "settings":
            settings()
        case "page":
            page()
        case _:
            compare(arguments.dataset, arguments.sheet, arguments.galleries)


if __name__ == "__main__":
    main()
