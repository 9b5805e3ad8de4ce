"""`potstill try` in headless Chromium: pictures, texts, sounds, rows, the keyboard, the time."""

import io
import threading
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page
from tests.unit.tryout.tiny import write_run, write_text_run

from potstill.tryout.room import Room
from potstill.tryout.server import TryServer

from .quiet import quiet_browser

pytestmark = pytest.mark.browser

KINDS = ("image", "audio", "table", "signal")
MICROPHONE = (
    "--use-fake-device-for-media-stream",  # one that beeps
    "--use-fake-ui-for-media-stream",
)


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with quiet_browser(chromium, *MICROPHONE) as opened:
        yield opened


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, TryServer]]:
    root = tmp_path_factory.mktemp("tried")
    made = {kind: TryServer(Room(write_run(root / kind, kind=kind))) for kind in KINDS}
    made["text"] = TryServer(Room(write_text_run(root / "text")))
    threads = [threading.Thread(target=server.serve) for server in made.values()]
    for thread in threads:
        thread.start()
    yield made
    for server in made.values():
        server.stop()
    for thread in threads:
        thread.join()


class Opened:
    """A page, what it complained about and asked for, and how often it was answered."""

    def __init__(self, page: Page, address: str) -> None:
        self.page, self.complaints, self.requests = page, list[str](), list[str]()
        page.on("console", lambda m: self.complaints.append(f"{m.type}: {m.text}"))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))
        page.goto(address)

    def answered(self, times: int = 1) -> list[str]:
        """The likeliest class of every model, after so many answers."""
        self.page.wait_for_selector(f"html[data-asked='{times}']", state="attached")
        return self.page.locator(".answers li .guess:first-child span").all_inner_texts()

    def status(self) -> str:
        return self.page.locator("#status").inner_text()


@pytest.fixture
def opener(browser: Browser, servers: dict[str, TryServer]) -> Iterator:
    contexts = []

    def opened(kind: str, *, width: int = 1280, theme: str = "light") -> Opened:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
        contexts.append(context)
        return Opened(context.new_page(), servers[kind].address)

    yield opened
    for context in contexts:
        context.close()


def png(level: int) -> dict[str, object]:
    file = io.BytesIO()
    Image.new("L", (50, 40), level).save(file, "PNG")
    return {"name": "a.png", "mimeType": "image/png", "buffer": file.getvalue()}


def wav(level: float) -> dict[str, object]:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(np.full(8000, 32767 * level).astype("<i2").tobytes())
    return {"name": "a.wav", "mimeType": "audio/wav", "buffer": file.getvalue()}


def test_a_picture_is_answered_side_by_side(opener) -> None:
    opened = opener("image")

    opened.page.set_input_files("#file", [png(255)])

    assert opened.answered() == ["high"] * 3
    assert opened.page.get_by_alt_text("The picture as the models see it").is_visible()
    assert opened.status() == "teacher: high; distilled: high; scratch: high"
    assert opened.complaints == []


def test_a_picture_can_be_inverted_afterwards(opener) -> None:
    opened = opener("image")

    opened.page.set_input_files("#file", [png(255)])
    opened.answered()
    opened.page.get_by_label("Light on dark: invert it").check()

    assert opened.answered(2) == ["low"] * 3


def test_a_picture_is_dropped(opener) -> None:
    opened = opener("image")
    content = list(png(128)["buffer"])

    opened.page.evaluate(
        """(bytes) => {
            const file = new File([new Uint8Array(bytes)], "a.png", { type: "image/png" });
            const dataTransfer = new DataTransfer();
            dataTransfer.items.add(file);
            document.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true }));
        }""",
        content,
    )

    assert opened.answered() == ["middle"] * 3


def test_a_sound_file_is_heard(opener) -> None:
    opened = opener("audio")

    opened.page.set_input_files("#file", [wav(0.999)])

    assert opened.answered() == ["high"] * 3
    assert opened.page.get_by_label("The sound as the models hear it").is_visible()
    assert opened.complaints == []


def test_a_recording_is_heard(opener) -> None:
    opened = opener("audio")
    button = opened.page.locator("#record")

    button.click()
    opened.page.wait_for_selector("#record[aria-pressed='true']")
    opened.page.wait_for_timeout(700)
    button.click()

    assert len(opened.answered()) == 3
    assert button.inner_text() == "Record"


def test_a_row_is_filled_in_and_asked_with_the_keyboard(opener) -> None:
    opened = opener("table")

    for number in range(4):
        opened.page.get_by_label(f"f{number}", exact=True).fill("1")
    opened.page.keyboard.press("Enter")

    assert opened.answered() == ["high"] * 3


def test_a_text_is_typed_and_asked_with_the_keyboard(opener) -> None:
    opened = opener("text")

    opened.page.get_by_label("Text", exact=True).fill("the film was great")
    opened.page.keyboard.press("Control+Enter")

    assert opened.answered() == ["good", "good"]
    opened.page.get_by_label("Text", exact=True).fill("awful music")
    opened.page.get_by_role("button", name="Ask").click()
    assert opened.answered(2) == ["bad", "bad"]
    assert opened.complaints == []


def test_numbers_of_a_signal_are_asked(opener) -> None:
    opened = opener("signal")

    opened.page.locator("#values").fill(", ".join(["0.5"] * 60))
    opened.page.keyboard.press("Control+Enter")

    assert opened.answered() == ["middle"] * 3


@pytest.mark.parametrize("kind", KINDS)
def test_test_samples_are_asked_from_the_keyboard_alone(opener, kind: str) -> None:
    opened = opener(kind)

    for _ in range(30):
        opened.page.keyboard.press("Tab")
        if opened.page.evaluate("document.activeElement.dataset.sample") == "2":
            break
    opened.page.keyboard.press("Enter")

    assert opened.answered() == ["high"] * 3
    assert opened.page.locator("[aria-current='true']").get_attribute("data-sample") == "2"
    assert "high" in opened.page.locator("#seen-truth").inner_text()


def test_answers_are_shown_within_100_ms_beyond_the_models(opener) -> None:
    opened = opener("image")
    beyond = []

    for number in range(9):
        opened.page.locator(f"[data-sample='{number}']").click()
        opened.answered(number + 1)
        beyond.append(float(opened.page.evaluate("document.documentElement.dataset.beyond")))

    assert np.median(beyond) < 100


def test_what_goes_wrong_is_said(opener, servers: dict[str, TryServer]) -> None:
    opened = opener("image")

    broken = {"name": "a.png", "mimeType": "image/png", "buffer": b"nothing"}
    opened.page.set_input_files("#file", [broken])
    opened.page.wait_for_selector("#status.wrong")

    assert "PNG or JPEG" in opened.status()


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_asks_nobody_else_and_everything_has_a_name(
    opener, servers: dict[str, TryServer], kind: str
) -> None:
    opened = opener(kind)
    opened.page.locator("[data-sample]").first.click()
    opened.answered()

    from_elsewhere = [
        url
        for url in opened.requests
        if not url.startswith((servers[kind].address, "data:", "blob:"))
    ]
    assert from_elsewhere == []
    nameless = """() => [...document.querySelectorAll("button, input, textarea, select, audio")]
        .filter((e) => !(e.labels?.length || e.ariaLabel || e.textContent.trim())).length"""
    assert opened.page.evaluate(nameless) == 0
    assert opened.page.locator("[role=status][aria-live]").count() == 1


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_wider_than_a_phone(opener, kind: str) -> None:
    opened = opener(kind, width=360, theme="dark")
    opened.page.locator("[data-sample]").first.click()
    opened.answered()

    assert opened.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert opened.page.evaluate("getComputedStyle(document.body).backgroundColor") == (
        "rgb(22, 20, 18)"
    )


def test_names_of_classes_stay_text(
    browser: Browser, servers: dict[str, TryServer], tmp_path: Path
) -> None:
    folder = write_run(tmp_path)
    results = (folder / "results.json").read_text()
    evil = "<img src=x onerror=document.title='evil'>"
    (folder / "results.json").write_text(results.replace('"high"', f'"{evil}"'))
    server = TryServer(Room(folder))
    thread = threading.Thread(target=server.serve)
    thread.start()
    context = browser.new_context()

    opened = Opened(context.new_page(), server.address)
    opened.page.locator("[data-sample='2']").click()
    shown = opened.answered()
    title = opened.page.title()
    context.close()
    server.stop()
    thread.join()

    assert shown == [evil] * 3
    assert title == "tiny: try it"
