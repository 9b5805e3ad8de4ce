"""Samples as pictures: what was drawn is read back."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from potstill.report import pictures


def read_back(picture: pictures.Picture) -> np.ndarray:
    head, _, body = picture.image.partition(",")
    assert head == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(body))) as image:
        image.verify()
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(body))))


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_is_read_back_as_it_was(channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (channels, 9, 14), dtype=np.uint8)

    found = read_back(pictures.image_picture(pixels))

    expected = pixels[0] if channels == 1 else pixels.transpose(1, 2, 0)
    np.testing.assert_array_equal(found, expected)


def test_floats_in_zero_to_one_become_bytes() -> None:
    found = read_back(pictures.image_picture(np.array([[[0.0, 1.0], [0.5, 0.25]]])))

    assert found.tolist() == [[0, 255], [127, 63]]


def test_other_numbers_of_channels_show_the_first() -> None:
    pixels = np.stack([np.full((4, 4), i * 50, dtype=np.uint8) for i in range(1, 5)])

    assert (read_back(pictures.image_picture(pixels)) == 50).all()


def test_a_large_image_is_averaged_down() -> None:
    pixels = np.zeros((3, 300, 400), dtype=np.uint8)
    pixels[:, :, 200:] = 200

    found = read_back(pictures.image_picture(pixels))

    assert found.shape == (75, 100, 3)
    assert found[0, 0, 0] == 0
    assert found[0, -1, 0] == 200


def test_a_signal_fills_its_box() -> None:
    (line,) = pictures.signal_picture(np.array([[0.0, 1.0, -1.0]])).lines

    assert line == "0.0,20.0 50.0,2.0 100.0,38.0"


def test_a_flat_signal_is_a_line_and_not_a_crash() -> None:
    (line,) = pictures.signal_picture(np.full((1, 4), 3.0)).lines

    assert len(line.split()) == 4


def test_the_most_unusual_feature_comes_first() -> None:
    rows = np.random.default_rng(0).normal(size=(50, 6))
    rows[7, 4] = 9.0
    rows[:, 5] = 1.0  # constant: never unusual

    facts = pictures.table_picture(7, rows_MF=rows, names=("a", "b", "c", "d", "e", "f")).facts

    assert facts[0].name == "e"
    assert facts[0].value == "9"
    assert facts[0].deviation > 5
    assert len(facts) == 4


def test_a_text_line_rises_with_its_values() -> None:
    assert pictures.text_line(np.array([0.0, 0.5, 1.0, np.nan])) == "▁▅█"
    assert pictures.text_line(np.array([np.nan])) == ""
