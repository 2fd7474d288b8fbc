"""Many visitors at once, good and bad ones, before a real server on this machine.

`python tests/load/visitors.py --visitors 50 --minutes 10` starts a public page, lets them upload, paint,
stop, leave and come back, and prints what became of them: everyone gets a picture of their own or a plain
refusal, and in the end memory, files and threads are as at the start. Exits with 1 where that is not so.
"""

import argparse
import asyncio
import hashlib
import io
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image, ImageOps

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from hostile_files import FILES  # noqa: E402
from served import API_PARAMETERS, free_port, images_of, pressed  # noqa: E402

from nst.engine.images import METADATA_KEYWORD  # noqa: E402

PHOTOS = sorted((ROOT / "examples" / "content").glob("*.jpg"))
PAINTINGS = sorted((ROOT / "examples" / "style").glob("*.jpg"))
KEPT = 60  # seconds that the server keeps files in this test
SPARE = 10  # files, folders, threads or descriptors that may be more in the end
REFUSALS = (
    r"Too many people are waiting: please try again in a few minutes\.",
    r"That was quick: please wait a minute before the next picture\.",
    r"Your other pictures are still in the queue: please wait for one of them\.",
)
NOT_THEIRS = ["app.py", "/etc/passwd", "../../../etc/passwd", "/proc/self/environ"]
HOSTILE_SETTINGS = [
    {"size": 10**9},
    {"size": "NaN"},
    {"iterations": -1},
    {"iterations": [[]]},
    {"style_weight": 1e308},
    {"content_layers": {"<script>": 1}},
    {"style_layers": ["block1_conv1"] * 10_000},
    {"backbone": "../../etc/passwd"},
    {"seed": "x" * 100_000},
    {"preset": {"a": "b"}},
    {"more_styles": "everything"},
]


@dataclass
class Report:
    """What became of everybody."""

    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    begun: list[float] = field(default_factory=list)  # seconds until the first preview, on the page
    finished: list[float] = field(default_factory=list)  # seconds until the picture
    samples: list[dict[str, float]] = field(default_factory=list)  # of the server, one a second

    def fail(self, what: str) -> None:
        self.failures.append(what[:2000])


@dataclass
class Visitor:
    """Somebody with an address and a photo of their own."""

    number: int
    server: str
    config: dict[str, Any]  # of the page
    report: Report
    others: dict[int, np.ndarray]  # by number, what each one's photo looks like

    def __post_init__(self) -> None:
        self.random = random.Random(self.number)
        self.photo = _own_photo(self.random)
        self.sha = hashlib.sha256(self.photo).hexdigest()
        self.others[self.number] = _looks(self.photo)
        address = f"10.1.{self.number // 250}.{self.number % 250 + 1}"
        headers = {"X-Forwarded-For": address, "Content-Type": "application/json"}
        self.client = httpx.AsyncClient(base_url=self.server, headers=headers, timeout=120)

    async def send(self, data: bytes, name: str) -> httpx.Response:
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        head = f'--x\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
        body = head.encode() + data + b"\r\n--x--\r\n"
        return await self.client.post("gradio_api/upload", content=body, headers=headers)

    async def upload(self, data: bytes, name: str) -> dict[str, Any]:
        answer = (await self.send(data, name)).raise_for_status()
        return {"path": answer.json()[0], "meta": {"_type": "gradio.FileData"}}

    async def images(self) -> list[dict[str, Any]]:
        painting = self.random.choice(PAINTINGS)
        photo = await self.upload(self.photo, "photo.png")
        return [photo, await self.upload(painting.read_bytes(), painting.name)]

    def settings(self) -> dict[str, Any]:
        return {
            "size": 32 * self.random.randint(2, 6),
            "iterations": self.random.randint(4, 40),
            "seed": self.random.randrange(2**31),
            "style_weight": 50.0,
        }

    # What one does over the network.

    async def call(self, images: list[Any], settings: dict[str, Any]) -> str:
        """Ask for a picture; the address of the answer."""
        data = [*images, *(settings.get(name) for name in API_PARAMETERS)]
        answer = await self.client.post("gradio_api/call/stylize", content=json.dumps({"data": data}))
        answer.raise_for_status()
        return f"gradio_api/call/stylize/{answer.json()['event_id']}"

    async def answer(self, address: str) -> tuple[str, Any]:
        """The last event, and its data."""
        event, data = "", None
        async with self.client.stream("GET", address) as stream:
            async for line in stream.aiter_lines():
                name, _, rest = line.partition(": ")
                if name == "event":
                    event = rest
                elif name == "data" and event != "heartbeat":
                    data = json.loads(rest)
        return event, data

    async def paint_by_api(self) -> None:
        settings, began = self.settings(), time.monotonic()
        event, data = await self.answer(await self.call(await self.images(), settings))
        if event == "complete":
            self.report.finished.append(time.monotonic() - began)
            await self.check(data[0]["path"], settings)
            self.report.outcomes["picture, by the API"] += 1
        else:
            self.refused(data["error"] if data else "")

    async def cancel_by_api(self) -> None:
        """Hang up in the middle of the answer."""
        address = await self.call(await self.images(), self.settings() | {"iterations": 300, "size": 256})
        try:
            await asyncio.wait_for(self.answer(address), self.random.uniform(0.2, 4))
        except TimeoutError:
            self.report.outcomes["hung up, on the API"] += 1

    async def read_nothing(self) -> None:
        """Ask for a picture and never come for it."""
        await self.call(await self.images(), self.settings() | {"iterations": 300, "size": 256})
        self.report.outcomes["never came for the answer"] += 1
        await asyncio.sleep(20)

    # What one does on the page.

    async def press(self, label: str, session: str, *images: Any, **settings: Any) -> None:
        queued = "queue/join" if images else "run/predict"
        given = images_of(*images) if images else {}
        body = pressed(self.config, label, session, **given, **settings)
        (await self.client.post(f"gradio_api/{queued}", content=json.dumps(body))).raise_for_status()

    async def messages(self, session: str) -> AsyncIterator[dict[str, Any]]:
        params = {"session_hash": session}
        async with self.client.stream("GET", "gradio_api/queue/data", params=params) as stream:
            async for line in stream.aiter_lines():
                if line.startswith("data: "):
                    message = json.loads(line.removeprefix("data: "))
                    yield message
                    if message["msg"] == "process_completed":
                        return

    async def paint_on_page(self, *, stop: bool = False, leave: bool = False) -> None:
        session, settings, began = f"{self.random.getrandbits(64):x}", self.settings(), time.monotonic()
        if stop or leave:
            settings |= {"iterations": 300, "size": 256}
        await self.press("Stylize", session, *await self.images(), **settings)
        painting, last = False, {}
        async with aclosing(self.messages(session)) as messages:
            async for message in messages:
                text = json.dumps(message)
                if not painting and "step" in text and message["msg"] == "process_generating":
                    painting = True
                    self.report.begun.append(time.monotonic() - began)
                    if leave:
                        break
                    if stop:
                        await self.press("Stop", session)
                last = message
        if leave and painting:
            self.report.outcomes["left the page"] += 1
        elif not last.get("success"):
            self.refused((last.get("output") or {}).get("error") or "")
        else:
            text = json.dumps(last)
            said = re.search(r"<p>(Done|Stopped): (\d+) steps in", text)
            saved = re.search(r'"path": "([^"]+--[^"]+\.png)"', text)
            if not said or not saved or (said[1] == "Done" and int(said[2]) != settings["iterations"]):
                self.report.fail(f"the page ended with {text}")
                return
            if not stop:
                self.report.finished.append(time.monotonic() - began)
            await self.check(saved[1], settings)
            self.report.outcomes[f"picture, on the page ({said[1].lower()})"] += 1

    async def stop_on_page(self) -> None:
        await self.paint_on_page(stop=True)

    async def leave_page(self) -> None:
        await self.paint_on_page(leave=True)

    # What one may be told.

    async def check(self, path: str, settings: dict[str, Any]) -> None:
        """It is one's own picture: the photo, the settings, and what it looks like."""
        answer = await self.client.get(f"gradio_api/file={path}")
        answer.raise_for_status()
        with Image.open(io.BytesIO(answer.content)) as picture:
            record = json.loads(picture.text[METADATA_KEYWORD])
        likeness = {
            number: float((_looks(answer.content) * photo).mean()) for number, photo in self.others.items()
        }
        if record["images"]["content"]["sha256"] != self.sha or record["config"]["seed"] != settings["seed"]:
            self.report.fail(f"visitor {self.number} got another's picture")
        if max(likeness, key=likeness.__getitem__) != self.number:
            self.report.fail(f"visitor {self.number} got a picture that looks like another's: {likeness}")

    def refused(self, sentence: str) -> None:
        if any(re.fullmatch(refusal, sentence) for refusal in REFUSALS):
            self.report.outcomes[f"refused: {sentence}"] += 1
        else:
            self.report.fail(f"visitor {self.number} was told {sentence!r}")

    async def visit(self, until: float) -> None:
        """Come, do something, leave, and come back after a while."""
        ways: list[Callable[[], Awaitable[None]]] = [self.paint_by_api, self.paint_on_page, self.stop_on_page]
        ways += [self.leave_page, self.cancel_by_api, self.read_nothing]
        await asyncio.sleep(self.random.uniform(0, 5))
        while time.monotonic() < until:
            (way,) = self.random.choices(ways, [6, 6, 2, 2, 2, 1])
            try:
                await way()
            except Exception as error:
                self.report.fail(f"visitor {self.number}, {way.__name__}: {type(error).__name__}: {error}")
            await asyncio.sleep(self.random.uniform(1, 10))

    async def harm(self, until: float) -> None:
        """Send bad files and settings; each gets a sentence, or a status that says no."""
        while time.monotonic() < until:
            kind = self.random.randrange(8)
            try:
                images = await self.images()
                if kind == 0:
                    name = self.random.choice([*FILES])
                    images[self.random.randrange(2)] = await self.upload(FILES[name], "<b>../../x.png")
                    await self.expect_sentence(images, {})
                elif kind == 1:
                    await self.expect_sentence(images, self.random.choice(HOSTILE_SETTINGS))
                elif kind == 2:
                    path = self.random.choice([*NOT_THEIRS, "http://127.0.0.1"])
                    await self.expect_sentence([{**images[0], "path": path}, images[1]], {}, plain=False)
                elif kind == 3:
                    await self.expect_refused(self.random.choice(NOT_THEIRS))
                elif kind == 4:
                    await asyncio.gather(*(self.flood() for _ in range(100)))
                elif kind == 5:
                    await self.hold_open()
                elif kind == 6:
                    await self.fill_up()
                else:
                    await self.leave_study()
            except httpx.HTTPStatusError as error:
                self.expect_status(error.response, 429, 507)
            except Exception as error:
                self.report.fail(f"hostile {kind}: {type(error).__name__}: {error}")
            await asyncio.sleep(self.random.uniform(0, 1))

    async def flood(self) -> None:
        """Ask for one of too many things in a minute."""
        answer = await self.client.post("gradio_api/cancel", content="{}")
        self.expect_status(answer, 422, 429)

    async def hold_open(self) -> None:
        """Open as many streams as one may, and read none of them."""
        async with AsyncExitStack() as held:
            for number in range(50):
                await held.enter_async_context(self.client.stream("GET", f"gradio_api/heartbeat/{number}"))
            await asyncio.sleep(self.random.uniform(1, 5))
        self.report.outcomes["hostile, held streams open"] += 1

    async def fill_up(self) -> None:
        """Upload much that is no picture."""
        answer = await self.send(self.random.randbytes(10_000_000), "much.png")
        self.expect_status(answer, 200, 429, 507)

    async def leave_study(self) -> None:
        """Begin a study, and go."""
        session = f"{self.random.getrandbits(64):x}"
        body = pressed(self.config, "Start", session)
        (await self.client.post("gradio_api/queue/join", content=json.dumps(body))).raise_for_status()
        async with aclosing(self.messages(session)) as messages:
            async for message in messages:
                if message["msg"] == "process_generating":
                    break
        self.report.outcomes["hostile, left a study"] += 1

    def expect_status(self, answer: httpx.Response, *statuses: int) -> None:
        if answer.status_code not in statuses:
            self.report.fail(f"hostile: {answer.status_code} {answer.text}")
        refused = "" if answer.status_code == 200 else ", refused"
        self.report.outcomes[f"hostile{refused}"] += 1

    async def expect_sentence(
        self, images: list[Any], settings: dict[str, Any], *, plain: bool = True
    ) -> None:
        event, data = await self.answer(await self.call(images, settings))
        sentence = data["error"] if event == "error" and data else ""
        if event != "error" or (plain and not re.fullmatch(r"[A-Z][^\n<>]*\.", sentence or "")):
            self.report.fail(f"hostile {settings} got {event} {data}")
        self.report.outcomes["hostile, refused"] += 1

    async def expect_refused(self, path: str) -> None:
        answer = await self.client.get(f"gradio_api/file={path}")
        self.expect_status(answer, 403, 404)


def _own_photo(chance: random.Random) -> bytes:
    """Part of an example, turned and perhaps inverted: a PNG like no other's."""
    with Image.open(chance.choice(PHOTOS)) as photo:
        part = photo.convert("RGB").resize((480, 360))
    left, top, side = chance.randint(0, 160), chance.randint(0, 100), chance.randint(180, 260)
    part = part.crop((left, top, left + side, top + side)).rotate(chance.choice([0, 90, 180, 270]))
    part = ImageOps.invert(part) if chance.random() < 0.5 else part
    part = ImageOps.mirror(part) if chance.random() < 0.5 else part
    file = io.BytesIO()
    part.save(file, "PNG")
    return file.getvalue()


def _looks(data: bytes) -> np.ndarray:
    """A picture's lightness on a coarse grid, with mean 0 and variance 1."""
    with Image.open(io.BytesIO(data)) as picture:
        small = np.asarray(picture.convert("L").resize((24, 24)), np.float32)
    return (small - small.mean()) / (small.std() + 1e-6)


def _sample(process: subprocess.Popen[bytes], folder: Path) -> dict[str, float]:
    status = Path(f"/proc/{process.pid}/status").read_text()
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {
        "memory, MB": int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024,
        "threads": int(re.search(r"Threads:\s+(\d+)", status)[1]),
        "descriptors": len([*Path(f"/proc/{process.pid}/fd").iterdir()]),
        "files": len(files),
        "folders": sum(path.is_dir() for path in folder.rglob("*")),
    }


async def _watch(process: subprocess.Popen[bytes], folder: Path, report: Report) -> None:
    while True:
        with suppress(FileNotFoundError):  # a file was deleted in between
            report.samples.append(_sample(process, folder))
        await asyncio.sleep(1)


async def load(
    server: str, process: subprocess.Popen[bytes], folder: Path, visitors: int, seconds: float
) -> Report:
    """Let them loose on `server` for that many seconds, and look at it until their files are deleted."""
    report, others = Report(), {}
    async with httpx.AsyncClient(base_url=server, timeout=120) as client:
        config = (await client.get("config")).json()
        while (await client.get("health")).json()["state"] == "starting":
            await asyncio.sleep(0.2)
        good = [Visitor(number, server, config, report, others) for number in range(visitors)]
        numbers = range(visitors, visitors + max(visitors // 10, 1))
        bad = [Visitor(number, server, config, report, {}) for number in numbers]
        await good[0].paint_by_api()
        report.samples.append(_sample(process, folder))
        watching = asyncio.create_task(_watch(process, folder, report))
        until = time.monotonic() + seconds
        visits = [*(visitor.visit(until) for visitor in good), *(visitor.harm(until) for visitor in bad)]
        await asyncio.gather(*visits)
        while (await client.get("health")).json()["painted"]:
            await asyncio.sleep(0.2)
        for visitor in good + bad:
            await visitor.client.aclose()
        start, until = report.samples[0], time.monotonic() + 2.3 * KEPT
        while time.monotonic() < until:  # a folder is deleted when it has been empty for as long
            await asyncio.sleep(1)
            if all(report.samples[-1][name] <= start[name] + SPARE for name in ("files", "folders")):
                break
        watching.cancel()
        report.samples.append(_sample(process, folder))
    return report


def run(visitors: int, seconds: float) -> Report:
    """Start the page as a public one, load it, and stop it."""
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        environment = os.environ | {"GRADIO_SERVER_PORT": str(port), "TMPDIR": folder, "NST_PUBLIC": "1"}
        environment.pop("GRADIO_TEMP_DIR", None)
        command = [sys.executable, "app.py", "--max-kept", str(KEPT)]
        log = Path(folder, "log")
        with log.open("wb") as output:
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
        server = f"http://127.0.0.1:{port}/"
        try:
            while process.poll() is None:
                try:
                    httpx.get(f"{server}health").raise_for_status()
                    break
                except httpx.HTTPError:
                    time.sleep(0.2)
            report = asyncio.run(load(server, process, Path(folder), visitors, seconds))
        finally:
            process.terminate()
            process.wait()
            told = re.search(r"(?m)^.*(Traceback|10\.1\.|passwd|photo\.)[\s\S]*", log.read_text())
        if told:
            report.fail(f"the log says {told[0]}")
        check_flat(report)
    return report


def check_flat(report: Report) -> None:
    """Memory, files and threads at the end are those of the start."""
    start, end = report.samples[0], report.samples[-1]
    early = max(sample["memory, MB"] for sample in report.samples[: len(report.samples) // 3])
    if end["memory, MB"] > 1.1 * early:
        report.fail(f"memory was {early:.0f} MB at first and is {end['memory, MB']:.0f} MB in the end")
    for name in ("files", "folders", "threads", "descriptors"):
        if end[name] > start[name] + SPARE:
            report.fail(f"{name}: {start[name]} at the start, {end[name]} in the end")


def print_report(report: Report) -> None:
    for outcome, count in report.outcomes.most_common():
        print(f"{count:6}  {outcome}")
    for name, waits in (("until the first preview", report.begun), ("until the picture", report.finished)):
        if len(waits) > 1:
            median, most = statistics.median(waits), statistics.quantiles(waits, n=20)[-1]
            print(f"{name}: median {median:.1f} s, 95th percentile {most:.1f} s, of {len(waits)}")
    for name in report.samples[0]:
        values = [sample[name] for sample in report.samples]
        first, *_, last = values
        print(f"{name}: {first:.0f} at the start, {max(values):.0f} at the most, {last:.0f} in the end")
    for failure in report.failures[:40]:
        print("FAILED:", failure)


def main() -> None:
    parser = argparse.ArgumentParser(description="Load a public page with visitors, good and bad ones.")
    parser.add_argument("--visitors", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=10)
    arguments = parser.parse_args()
    report = run(arguments.visitors, 60 * arguments.minutes)
    print_report(report)
    sys.exit(bool(report.failures))


if __name__ == "__main__":
    main()
