"""Commands that the tests of the command line give, and what they look at afterwards."""

import json
import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
from PIL import Image

from nst.cli.main import main
from nst.engine.images import read_metadata

ROOT = Path(__file__).parents[2]
PHOTO = str(ROOT / "examples/content/chenonceau.jpg")  # 4:3
PAINTING = str(ROOT / "examples/style/hokusai-great-wave.jpg")
OTHER = str(ROOT / "examples/style/munch-the-scream.jpg")
SMALL = ["--size", "64", "--iterations", "2", "--backbone", "vgg16"]
EXACT = [*SMALL, "--precision", "float32"]  # repeats to the last bit

FLAGS = {  # for each setting: what is typed, and what the run record then says; no value is a default
    "content_weight": ("2.5", 2.5),
    "style_weight": ("1e3", 1000.0),
    "tv_weight": ("0", 0.0),
    "style_blend": ("2,0.5", [2.0, 0.5]),
    "style_scale": ("0.5", 0.5),
    "colors": ("luminance", "luminance"),
    "mask_mode": ("styles", "styles"),
    "strength": ("0.75", 0.75),
    "size": ("80", 80),
    "iterations": ("3", 3),
    "backbone": ("vgg16", "vgg16"),
    "precision": ("float32", "float32"),
    "pooling": ("avg", "avg"),
    "content_layers": ("block2_conv1,block3_conv2", ["block2_conv1", "block3_conv2"]),
    "style_layers": ("block1_conv2:0.5,block2_conv2:2", {"block1_conv2": 0.5, "block2_conv2": 2.0}),
    "optimizer": ("adam", "adam"),
    "init": ("noise", "noise"),
    "seed": ("2147483647", 2147483647),
}


def flag(name: str) -> str:
    """Name the flag of a setting."""
    return "--" + name.replace("_", "-")


TYPED = [part for name, (typed, _) in FLAGS.items() for part in (flag(name), typed)]


def start(*arguments: str, stderr: int = subprocess.PIPE, **environment: str) -> subprocess.Popen[str]:
    """Start the command in a process of its own, without what the tests have set for TensorFlow."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TF_CPP_")}
    return subprocess.Popen(
        [sys.executable, "-m", "nst", *arguments],
        cwd=ROOT,
        env={**inherited, **environment},
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )


def stylized(path: Path, *arguments: str) -> np.ndarray:
    """Run from the photo, and return the pixels (H, W, 3) of the picture that is written."""
    assert main(["stylize", PHOTO, *arguments, "-o", str(path)]) == 0
    return pixels_of(path)


def pixels_of(path: Path) -> np.ndarray:
    """Read a picture (H, W, 3)."""
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def record_in(path: Path) -> dict:
    """Read the run record that a picture holds."""
    return json.loads(read_metadata(path) or "")


def shown_in(path: Path) -> list[np.ndarray]:
    """List the frames of an animation, (H, W, 3) each; a video repeats them."""
    if path.suffix == ".mp4":
        with av.open(str(path)) as video:
            return [frame.to_ndarray(format="rgb24").astype(int) for frame in video.decode(video=0)]
    with Image.open(path) as file:
        frames = []
        for number in range(file.n_frames):
            file.seek(number)
            frames.append(np.asarray(file.convert("RGB")).astype(int))
        return frames
