"""The colours of the page: enough contrast to read by, in light and in dark."""

import re
from importlib.resources import files

import pytest

TEXT_ON = [
    (name, ground)
    for ground in ("paper", "card")
    for name in ("ink", "muted", "accent", "teacher", "scratch", "distilled", "other")
] + [(tone, f"{tone}-wash") for tone in ("yes", "no", "unclear")]
STYLE = files("potstill.report").joinpath("templates/style.css").read_text(encoding="utf-8")


def palette(theme: str) -> dict[str, str]:
    light, dark = re.findall(r":root \{(.*?)\}", STYLE, re.S)[:2]
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", dark if theme == "dark" else light))


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(("name", "ground"), TEXT_ON)
def test_text_can_be_read(theme: str, name: str, ground: str) -> None:
    colours = palette(theme)

    assert contrast(colours[name], colours[ground]) >= 4.5  # WCAG AA


def test_every_colour_has_a_dark_twin() -> None:
    assert set(palette("light")) == set(palette("dark"))


def test_every_colour_that_is_used_exists() -> None:
    templates = files("potstill.report").joinpath("templates").iterdir()
    used = {name for t in templates for name in re.findall(r"var\(--([\w-]+)", t.read_text())}
    local = {"c", "p", "band", "tone", "wash"}

    defined = set(re.findall(r"--([\w-]+):", STYLE))
    assert used <= defined | local
