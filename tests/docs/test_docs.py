"""The README and the documentation: their links, tables, examples, and what other files say as well."""

import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from urllib.parse import unquote

import httpx
import pytest
import tensorflow as tf
from served import PAINTING, PHOTO, serving, uploaded

import nst
from nst import save_image
from nst.serving.limits import PUBLIC, Limits

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
API = ROOT / "docs" / "api.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md")), ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
CODE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^()\s]+)\)")


def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def front_matter() -> dict[str, str]:
    lines = text(README).split("---\n")[1].splitlines()
    return dict(re.findall(r'^(\w+): "?([^"\n]*)"?$', "\n".join(lines), re.MULTILINE))


def anchors(page: Path) -> set[str]:
    """Name the fragments of a page as GitHub does: its headings in small letters, with hyphens for spaces."""
    words = CODE.sub("", text(page))
    found: dict[str, int] = {}
    for heading in re.findall(r"^#{1,6} +(.*?) *$", words, re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        count = found.get(slug, 0)
        found[slug] = count + 1
        if count:
            found[f"{slug}-{count}"] = 1
    return {*found}


def run(program: str, folder: Path) -> None:
    """Run a program in a folder, where the package can be imported."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def python_examples(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", text(page), re.MULTILINE | re.DOTALL)


@pytest.mark.quick
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_somewhere(page):
    broken = []
    for link in LINK.findall(CODE.sub("", text(page))):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, fragment = unquote(link).partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (fragment and fragment not in anchors(target)):
            broken.append(link)
    assert not broken


@pytest.mark.quick
def test_links_and_headings_are_found_as_github_does(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# One, two & three\n## The `code`: ⅔\n## The [link](x.md)\n## Twice\n## Twice\n"
        "```sh\n# no heading\n```\n[![a picture](a.jpg)](b.md)",
        encoding="utf-8",
    )
    assert anchors(page) == {"one-two--three", "the-code-⅔", "the-link", "twice", "twice-1"}
    assert LINK.findall("[a](b.md#c), [x [y] z](d.md) and ![p](e.jpg)") == ["b.md#c", "d.md", "e.jpg"]


@pytest.mark.quick
def test_every_page_is_listed_in_the_index():
    index = text(ROOT / "docs" / "README.md")
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "README.md" or f"({page.name})" in index


@pytest.mark.quick
def test_the_map_of_the_code_names_every_module():
    rooms = re.split(r"^(\S+/) ", text(ROOT / "docs" / "architecture.md"), flags=re.MULTILINE)
    listed = dict(zip(rooms[1::2], rooms[2::2], strict=True))
    for module in (ROOT / "nst").rglob("*.py"):
        room = module.parent.relative_to(ROOT).parts[:2]
        if len(room) > 1 and module.name != "__init__.py":
            assert re.search(rf"\b{re.escape(module.name)}\b", listed[f"{'/'.join(room)}/"]), module


@pytest.mark.quick
def test_the_readme_is_short():
    assert README.stat().st_size < 8000


@pytest.mark.quick
def test_the_front_matter_names_the_versions_that_are_tested():
    constraints = dict(re.findall(r"^([\w-]+)==([\w.]+)", text(ROOT / "constraints.txt"), re.MULTILINE))
    project = tomllib.loads(text(ROOT / "pyproject.toml"))
    matter = front_matter()
    assert matter["sdk_version"] == constraints["gradio"]
    assert project["project"]["requires-python"].startswith(f">={matter['python_version']}")
    assert matter["python_version"] == project["tool"]["mypy"]["python_version"]
    assert (ROOT / matter["app_file"]).is_file()


@pytest.mark.quick
def test_one_version_everywhere():
    changes = text(ROOT / "CHANGELOG.md")
    latest, date = re.findall(r"^## \[(\d[^\]]*)\] - (\S+)$", changes, re.MULTILINE)[0]
    citation = dict(re.findall(r"^([\w-]+): (\S+)$", text(ROOT / "CITATION.cff"), re.MULTILINE))
    assert latest == citation["version"] == nst.__version__
    assert date == citation["date-released"]


@pytest.fixture(scope="module")
def tables():
    """The script docs/tables.py as a module."""
    found = importlib.util.spec_from_file_location("tables", ROOT / "docs" / "tables.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.mark.quick
def test_the_tables_are_those_of_the_code(tables, capsys):
    assert tables.main(["--check"]) == 0, capsys.readouterr().out


@pytest.mark.quick
def test_a_table_that_is_out_of_date_fails_the_check_and_is_rewritten(tables, tmp_path, monkeypatch, capsys):
    page = tmp_path / "page.md"
    page.write_text("Before\n\n<!-- table: quality -->\nold\n<!-- end -->\n\nAfter\n", encoding="utf-8")
    monkeypatch.setattr(tables, "DOCS", tmp_path)
    assert tables.main(["--check"]) == 1
    assert "old" in text(page)
    assert "page.md" in capsys.readouterr().out
    assert tables.main([]) == 0
    assert "old" not in text(page)
    assert "| `edge_ssim` |" in text(page)
    assert tables.main(["--check"]) == 0


@pytest.mark.quick
def test_every_table_stands_on_a_page_and_is_complete(tables):
    placed = {match["name"] for page in PAGES for match in tables.MARKS.finditer(text(page))}
    assert placed == {*tables.TABLES}
    for rows in map(list, (table() for table in tables.TABLES.values())):
        assert len(rows) > 1
        assert {len(row) for row in rows} == {len(rows[0])}
        assert all(cell for row in rows for cell in row)


@pytest.mark.quick
def test_the_table_of_limits_has_every_limit():
    hosting = text(ROOT / "docs" / "hosting.md")
    for name, own in vars(Limits()).items():
        flag = f"--max-{name.replace('_', '-')}"
        public = getattr(PUBLIC, name)
        row = rf"^\| `{flag}` \| `NST_MAX_{name.upper()}` \| .+ \| {own:,} \| {public:,} \|$"
        assert re.search(row, hosting, re.MULTILINE)


def test_the_python_examples_run_one_after_the_other(tmp_path):
    """As they stand, at a small size and with the bundled network, which needs no download."""
    readme, examples = (
        [code for code in python_examples(page) if "gradio" not in code] for page in (README, API)
    )
    assert readme == examples[:1]
    record = {"config": {"style_weight": 3}}
    save_image(tf.zeros([1, 32, 32, 3]), tmp_path / "saved.png", metadata=json.dumps(record))
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    program = "\n".join(examples).replace("TransferConfig(", 'TransferConfig(backbone="vgg16", ')
    program = re.sub(r"size=\d+", "size=64", re.sub(r"iterations=\d+, ", "", program))
    program = program.replace("size=64", "size=64, iterations=3")
    run(f"{program}\nassert config.style_weight == 3", tmp_path)
    for written in ("picture.png", "more.png", "losses.html"):
        assert (tmp_path / written).is_file()


def test_the_examples_of_the_api_run_against_a_page(tmp_path):
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (example,), (same,) = (
        [code for code in python_examples(page) if "gradio_client" in code] for page in (README, API)
    )
    assert example == same
    small = {"size": 64, "iterations": 3, "backbone": "vgg16"}
    with serving() as (_, page):
        url = page.local_url
        call = example.replace("http://127.0.0.1:7860", url)
        call = call.replace("style_weight=100,", f"style_weight=100, **{small},")
        run(
            f"{call}\nassert record['config']['style_weight'] == 100 and open(picture, 'rb').read()", tmp_path
        )

        paths = [uploaded(url, path)["path"] for path in (PHOTO, PAINTING)]
        request = re.search(r"7860(/gradio_api/call/v2/stylize) -d '(\{.*?\n\})'", text(API), re.DOTALL)
        address, body = request.groups()
        for placeholder, path in zip(("PATH OF THE PHOTO", "PATH OF THE PAINTING"), paths, strict=True):
            body = body.replace(placeholder, path)
        event = httpx.post(url.rstrip("/") + address, json=json.loads(body) | small).json()["event_id"]
        answer = httpx.get(f"{url}gradio_api/call/stylize/{event}", timeout=60).text
    last, data = answer.strip().splitlines()[-2:]
    assert last == "event: complete"
    picture, record = json.loads(data.removeprefix("data: "))
    assert picture["url"].startswith(url)
    assert record["config"]["style_weight"] == 100
