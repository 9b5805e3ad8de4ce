"""Data that cannot be used: one sentence each, with the place and the next step."""

from pathlib import Path

import numpy as np
import pytest

from potstill.data import load
from potstill.errors import DataError, PotstillError

RNG = np.random.default_rng(0)
X = RNG.random((40, 3))
Y = np.arange(40) % 4
PIXELS = RNG.integers(0, 256, (40, 6, 5), dtype=np.uint8)


def refused(folder: Path, match: str, *, options=None, sizes=None, **members: object) -> str:
    """Load an archive of these members, and give back the sentence it is refused with."""
    path = folder / "set.npz"
    np.savez(path, **members)
    with pytest.raises(PotstillError, match=match) as caught:
        load("npz", {"path": str(path), **(options or {})}, **(sizes or {}))
    message = str(caught.value)
    assert message.endswith((".", "?"))
    assert "\n" not in message
    return message


def changed(array: np.ndarray, place: object, value: object) -> np.ndarray:
    array = array.copy()
    array[place] = value
    return array


def test_a_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"There is no file `.*none.npz`; check `path:`"):
        load("npz", {"path": str(tmp_path / "none.npz")})


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x05\x06" + b"\0" * 4])
def test_a_file_that_is_no_archive(tmp_path, content):
    path = tmp_path / "set.npz"
    path.write_bytes(content)

    with pytest.raises(DataError, match="cannot be read as a NumPy archive"):
        load("npz", {"path": str(path)})


def test_an_archive_cut_short(tmp_path):
    path = tmp_path / "set.npz"
    np.savez(path, x=X, y=Y)
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[200:400] = bytes(200)
    path.write_bytes(bytes(damaged))

    with pytest.raises(DataError, match="cannot be read as a NumPy archive"):
        load("npz", {"path": str(path)})


def test_unknown_and_missing_members_list_what_there_is(tmp_path):
    refused(tmp_path, r"no member `y_train`, only `x`, `z`; name the right one", x=X, z=Y)
    refused(
        tmp_path,
        r"no member `yy`, only `x`, `y`; did you mean `y`",
        options={"keys": {"y_train": "yy"}},
        x=X,
        y=Y,
    )
    refused(tmp_path, "has no option `ytrain`", options={"keys": {"ytrain": "y"}}, x=X, y=Y)
    refused(tmp_path, "no member `y_test`", x=X, y=Y, x_test=X)


def test_python_objects_are_not_read(tmp_path):
    message = refused(tmp_path, "cannot be read without running code", x=X, y=np.array([{}] * 40))

    assert "Member `y`" in message


def test_inputs_and_labels_of_unequal_length(tmp_path):
    refused(tmp_path, "40 inputs and 39 labels", x=X, y=Y[:-1])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_numbers_that_are_not_finite_say_where(tmp_path, value):
    bad = changed(X, (17, 2), value)

    refused(tmp_path, r"row 17, column 2 \(1 such values", x=bad, y=Y)
    refused(tmp_path, "row 17, column `c`", options={"features": ["a", "b", "c"]}, x=bad, y=Y)
    refused(tmp_path, "row 17, channel 0, time 2", options={"kind": "signal"}, x=bad, y=Y)
    refused(tmp_path, "The test inputs", x=X, y=Y, x_test=bad, y_test=Y)


def test_numbers_whose_sum_alone_overflows_are_fine(tmp_path):
    path = tmp_path / "set.npz"
    np.savez(path, x=np.full((40, 3), 3e38), y=Y)

    assert len(load("npz", {"path": str(path)}).test) == 10


def test_a_single_class(tmp_path):
    refused(tmp_path, "All 40 training labels are `0`, and a classifier needs two", x=X, y=Y * 0)
    refused(tmp_path, "All 40 training labels are `cat`", x=X, y=np.array(["cat"] * 40))


def test_labels_out_of_range(tmp_path):
    refused(tmp_path, r"class -3 in row 5, .* numbered 0 to 3", x=X, y=changed(Y, 5, -3))
    refused(tmp_path, r"-1 often marks rows without a label", x=X, y=changed(Y, 5, -1))
    refused(tmp_path, "go from 0 to 9, but no row has class 4", x=X, y=changed(Y, 5, 9))
    refused(tmp_path, "go from 1 to 4, but no row has class 0", x=X, y=Y + 1)
    refused(
        tmp_path,
        "The test labels hold class 4 in row 7, and the 4 classes are numbered 0 to 3",
        x=X,
        y=Y,
        x_test=X,
        y_test=changed(Y, 7, 4),
    )
    refused(tmp_path, "class 3 in row 3", options={"classes": ["a", "b", "c"]}, x=X, y=Y)


def test_labels_that_are_no_classes(tmp_path):
    task = {"target_kind": "single_label"}

    refused(
        tmp_path,
        r"hold 0.5 in row 3, and a class is a",
        sizes=task,
        x=X,
        y=changed(Y * 1.0, 3, 0.5),
    )
    refused(tmp_path, "hold nan in row 3", sizes=task, x=X, y=changed(Y * 1.0, 3, np.nan))
    refused(tmp_path, r"shape \(40, 3\), and one class a row", sizes=task, x=X, y=X)
    refused(tmp_path, "a class of its own", x=X, y=np.arange(40))
    refused(tmp_path, "neither numbers nor names", x=X, y=Y.astype("datetime64[s]"))
    refused(tmp_path, "of no known form", x=X, y=np.zeros((40, 2, 2), dtype=int))


def test_names_that_no_training_row_has(tmp_path):
    names = np.array(["a", "b"])[Y % 2]

    refused(
        tmp_path,
        r"test labels hold `z` in row 1, which is none of the 2 classes \(`a`, `b`\)",
        x=X,
        y=names,
        x_test=X,
        y_test=changed(names, 1, "z"),
    )
    refused(tmp_path, "give names in both or numbers", x=X, y=names, x_test=X, y_test=Y)
    refused(tmp_path, "are names such as `a`", x=X, y=Y, x_test=X, y_test=names)
    refused(tmp_path, "hold `b` in row 1", options={"classes": ["a", "c"]}, x=X, y=names)
    refused(tmp_path, "has a name twice", options={"classes": ["a", "b", "a"]}, x=X, y=names)


def test_multi_label_rows_that_are_not_zero_and_one(tmp_path):
    task = {"target_kind": "multi_label"}
    rows = np.eye(4, dtype=int)[Y]

    refused(tmp_path, "hold 2 in row 6, column 1", sizes=task, x=X, y=changed(rows, (6, 1), 2))
    refused(tmp_path, r"one 0 or 1 for each of 1 labels", sizes=task, x=X, y=Y % 2)
    refused(
        tmp_path, "has 2 names for 4 label columns", options={"classes": ["a", "b"]}, x=X, y=rows
    )


def test_targets_that_teach_nothing(tmp_path):
    refused(tmp_path, "All 40 training targets are equal", x=X, y=np.full(40, 2.5))
    refused(tmp_path, "targets hold nan in row 4", x=X, y=changed(X[:, 0], 4, np.nan))


def test_parts_that_would_be_empty(tmp_path):
    refused(tmp_path, "leaves the validation part empty", sizes={"validation": 0}, x=X, y=Y)
    refused(tmp_path, "leaves the validation part empty", sizes={"validation": 0.0}, x=X, y=Y)
    refused(tmp_path, "leaves none to train on", sizes={"validation": 30}, x=X, y=Y)
    refused(tmp_path, "`test: 0` of 40 rows leaves the test part", sizes={"test": 0}, x=X, y=Y)
    refused(tmp_path, "`limit` must be 2 rows or more, got 1", sizes={"limit": 1}, x=X, y=Y)
    refused(tmp_path, "The validation inputs are empty", x=X, y=Y, x_val=X[:0], y_val=Y[:0])
    refused(tmp_path, "training part of `set` is empty", x=X[:0], y=Y[:0])
    refused(
        tmp_path,
        "has a test part of 40 rows of its own",
        sizes={"test": 0.5},
        x=X,
        y=Y,
        x_test=X,
        y_test=Y,
    )


def test_parts_of_unequal_shape(tmp_path):
    refused(
        tmp_path,
        r"test samples have shape \(1, 6, 4\) and the training samples \(1, 6, 5\); set `resize:`",
        x=PIXELS,
        y=Y,
        x_test=PIXELS[:, :, :4],
        y_test=Y,
    )
    refused(tmp_path, r"shape \(2,\).*make them equal", x=X, y=Y, x_test=X[:, :2], y_test=Y)


def test_resize_brings_parts_to_one_size(tmp_path):
    path = tmp_path / "set.npz"
    np.savez(path, x=PIXELS, y=Y, x_test=PIXELS[:, :, :4], y_test=Y)

    assert load("npz", {"path": str(path), "resize": [4, 4]}).test.inputs.shape[1:] == (1, 4, 4)


def test_arrays_of_no_known_form(tmp_path):
    refused(tmp_path, r"Inputs of shape \(40,\) are no table", x=Y, y=Y)
    refused(tmp_path, "hold <U1 values, and numbers are expected", x=X.astype("U1"), y=Y)
    refused(tmp_path, "`kind: signal` needs 2 or 3 axes", options={"kind": "signal"}, x=Y, y=Y)
    refused(tmp_path, "could have their channels in axis 1 or", x=np.zeros((40, 3, 5, 3)), y=Y)
    refused(tmp_path, "could have their channels in axis 1 or", x=np.zeros((40, 7, 5, 7)), y=Y)
    refused(tmp_path, "pixels are whole numbers", x=np.full((40, 1, 2, 2), 0.1234), y=Y)
    refused(tmp_path, "values from 0 to 300", x=np.full((40, 1, 2, 2), 300) * np.eye(2), y=Y)
    refused(tmp_path, "pixels are whole numbers", x=np.full((40, 1, 2, 2), np.nan), y=Y)
    refused(tmp_path, "2 names for 3 columns", options={"features": ["a", "b"]}, x=X, y=Y)
