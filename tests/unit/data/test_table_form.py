"""Tables with codes, words and missing cells, from csv files."""

import numpy as np
import pytest
import torch

from potstill.data import TableForm, load
from potstill.errors import DataError, RecipeError

HEAD = "age,colour,code,dose,label\n"
ROWS = [f"{20 + i},{'red' if i % 3 else 'blue'},{i % 4},{i / 2},{i % 2}" for i in range(40)]
ROWS[3] = "23,,3,?,1"
ROWS[8] = "28,red,0,NA,0"


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(HEAD + "\n".join(ROWS) + "\n")
    return str(path)


def _load(path: str, **options):
    asked = {"missing_values": ["?", "NA"], "categorical": ["code"], **options}
    return load("hf", {"path": path, **asked}, test=0.25, validation=0.2)


def test_codes_and_words_become_columns_and_gaps_are_flagged(path) -> None:
    data = _load(path)

    assert data.features == (
        *("age", "colour=blue", "colour=missing", "colour=red"),
        *("code=0", "code=1", "code=2", "code=3", "dose", "dose=missing"),
    )
    assert data.table is not None
    assert data.table.groups == (0, 1, 1, 1, 2, 2, 2, 2, 3, 3)


def test_missing_numbers_are_the_median_of_the_training_part_alone(path) -> None:
    data = _load(path)
    parts = (data.train, data.validation, data.test)
    every = torch.cat([part.inputs for part in parts])
    ids = torch.cat([part.ids for part in parts])
    flagged = every[:, 9] == 1

    assert set(ids[flagged].tolist()) == {3, 8}
    present = data.train.inputs[data.train.inputs[:, 9] == 0, 8]
    fill = data.table.columns[3].fill
    assert fill == present.median().item()
    assert (every[flagged, 8] == fill).all()


def test_new_rows_are_brought_to_the_same_form(path, tmp_path) -> None:
    data = _load(path)
    data.table.save(tmp_path / "columns.json")

    again = TableForm.load(tmp_path / "columns.json")
    rows = again.encode(
        {
            "age": [21, 23, 99],
            "colour": ["red", "", "green"],
            "code": [1, "3", 3.0],
            "dose": [0.5, "?", None],
        }
    )

    assert again == data.table
    fill = data.table.columns[3].fill
    every = torch.cat([data.train.inputs, data.validation.inputs, data.test.inputs])
    ids = torch.cat([data.train.ids, data.validation.ids, data.test.ids])
    np.testing.assert_allclose(rows[0], every[ids == 1][0])
    assert rows[1].tolist() == [23, 0, 0, 0, 0, 0, 0, 1, fill, 1]
    assert rows[2].tolist() == [99, 0, 0, 0, 0, 0, 0, 1, fill, 1]


def test_zeros_of_one_column_may_stand_for_nothing(path) -> None:
    data = _load(path, missing_values={"age": "20", "dose": ["?", "NA"]})

    assert "age=missing" in data.features
    assert "code=missing" not in data.features


def test_columns_may_be_left_out(path) -> None:
    assert _load(path, leave_out=["colour", "dose"]).features[0] == "age"
    with pytest.raises(DataError, match="did you mean `colour`"):
        _load(path, leave_out=["color"])


def test_a_headless_file_gets_names(tmp_path) -> None:
    (tmp_path / "bare.csv").write_text("".join(f"{i},{i * i},{i % 2}\n" for i in range(40)))
    options = {"path": str(tmp_path / "bare.csv"), "columns": ["one", "square", "y"]}

    data = load("hf", {**options, "headerless": True}, test=0.25)

    assert data.features == ("one", "square")
    with pytest.raises(RecipeError, match="add `headerless: true`"):
        load("hf", options, test=0.25)


def test_gaps_are_refused_unless_they_are_to_be_filled(path) -> None:
    with pytest.raises(DataError, match="`missing: impute`"):
        load("hf", {"path": path, "leave_out": ["dose"]}, test=0.25)


def test_names_that_are_no_inputs_are_refused(path) -> None:
    with pytest.raises(RecipeError, match="did you mean `code`"):
        _load(path, categorical=["codes"])


def test_a_gap_where_training_had_none_is_refused(path) -> None:
    data = _load(path)
    table = {"age": [None], "colour": ["red"], "code": [1], "dose": [2.0]}

    with pytest.raises(DataError, match="`age` has no value in row 0"):
        data.table.encode(table)
    with pytest.raises(DataError, match="no column `dose`"):
        data.table.encode({"age": [1], "colour": ["red"], "code": [1]})
