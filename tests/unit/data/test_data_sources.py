"""Sources without a file format of tables: builtin, NumPy archives, a user's own function."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from potstill.data import DataSet, Kind, TargetKind, load
from potstill.errors import DataError, RecipeError, UntrustedCode

RNG = np.random.default_rng(0)


def images(rows: int = 40, *shape: int) -> np.ndarray:
    return RNG.integers(0, 256, (rows, *(shape or (6, 5))), dtype=np.uint8)


def classes(rows: int = 40, *, num: int = 4) -> np.ndarray:
    return np.arange(rows) % num


def saved(folder: Path, **members: np.ndarray) -> str:
    path = folder / "set.npz"
    np.savez_compressed(path, **members)
    return str(path)


def all_ids(data: DataSet) -> torch.Tensor:
    parts = (data.train, data.validation, data.test, data.transfer)
    return torch.cat([part.ids for part in parts if part is not None])


@pytest.mark.parametrize(
    ("name", "kind", "shape", "rows", "outputs"),
    [
        ("digits", Kind.IMAGE, (1, 8, 8), 1797, 10),
        ("breast_cancer", Kind.TABLE, (30,), 569, 2),
        ("wine", Kind.TABLE, (13,), 178, 3),
        ("diabetes", Kind.TABLE, (10,), 442, 1),
    ],
)
def test_builtin_sets_are_whole_and_divided(name, kind, shape, rows, outputs):
    data = load("builtin", {"name": name})

    assert (data.kind, data.input_shape, data.num_outputs) == (kind, shape, outputs)
    assert all_ids(data).sort().values.tolist() == list(range(rows))
    assert len(data.test) == round(0.25 * rows)
    assert len(data.validation) == round(0.1 * (rows - len(data.test)))
    assert (data.target_kind is TargetKind.REGRESSION) == (name == "diabetes")
    assert data.train.inputs.dtype == (torch.uint8 if name == "digits" else torch.float32)


def test_digits_are_what_scikit_learn_has():
    from sklearn.datasets import load_digits

    data = load("builtin", {"name": "digits"})
    pixels, labels = load_digits(return_X_y=True)

    assert torch.equal(data.test.labels, torch.from_numpy(labels)[data.test.ids])
    expected = torch.from_numpy(pixels)[data.test.ids].view(-1, 1, 8, 8) / 16
    torch.testing.assert_close(data.test.inputs.double() / 255, expected, atol=0.5 / 255, rtol=0)
    assert data.test.inputs.max() == 255


def test_dividing_is_stratified_and_follows_the_seed():
    first, again, other = (load("builtin", {"name": "wine"}, seed=s) for s in (0, 0, 1))

    assert torch.equal(first.train.ids, again.train.ids)
    assert torch.equal(first.test.ids, again.test.ids)
    assert not torch.equal(first.test.ids, other.test.ids)
    shares = torch.bincount(first.test.labels) / len(first.test)
    whole = torch.tensor([59, 71, 48]) / 178
    assert (shares - whole).abs().max() < 0.02


def test_a_limit_keeps_identities_and_classes():
    whole, small = (load("builtin", {"name": "digits"}, limit=limit) for limit in (None, 60))

    assert len(small.train) + len(small.validation) == 60
    assert len(small.test) == 60
    assert set(small.test.ids.tolist()) < set(whole.test.ids.tolist())
    assert len(small.test.labels.unique()) == 10


def test_the_normalisation_looks_at_training_rows_alone():
    data = load("builtin", {"name": "breast_cancer"})

    ready = data.normalise(data.train.inputs)

    torch.testing.assert_close(ready.mean(0), torch.zeros(30), atol=1e-4, rtol=0)
    assert data.normalise(data.test.inputs).mean(0).abs().max() > 0.01


def test_normalisation_can_be_switched_off():
    plain = load("builtin", {"name": "digits", "normalise": "none"})
    table = load("builtin", {"name": "wine", "normalise": "none"})

    assert torch.equal(plain.normalise(plain.test.inputs), plain.test.inputs.float() / 255)
    assert torch.equal(table.normalise(table.test.inputs), table.test.inputs)


def test_an_archive_is_read_part_by_part(tmp_path):
    x, y = images(80), classes(80)
    path = saved(
        tmp_path, x_train=x[:40], y_train=y[:40], x_val=x[40:50], y_val=y[40:50],
        x_test=x[50:60], y_test=y[50:60], x_transfer=x[60:],
    )  # fmt: skip

    data = load("npz", {"path": path})

    for part, rows in (
        (data.train, slice(0, 40)),
        (data.validation, slice(40, 50)),
        (data.test, slice(50, 60)),
        (data.transfer, slice(60, 80)),
    ):
        assert np.array_equal(part.inputs[:, 0].numpy(), x[rows])
        assert part.ids.tolist() == list(range(80))[rows]
        if part is not data.transfer:
            assert part.labels.tolist() == y[rows].tolist()
    assert data.transfer.labels is None
    assert data.name == "set"
    assert data.classes == ("0", "1", "2", "3")


@pytest.mark.parametrize(
    ("shape", "options", "expected"),
    [
        ((6, 5), {}, (1, 6, 5)),
        ((6, 5, 3), {}, (3, 6, 5)),
        ((3, 6, 5), {}, (3, 6, 5)),
        ((6, 5, 1), {}, (1, 6, 5)),
        ((3, 6, 3), {"layout": "nhwc"}, (3, 3, 6)),
        ((2, 6, 5), {"layout": "nchw"}, (2, 6, 5)),
        ((6, 5, 3), {"resize": 4}, (3, 4, 4)),
        ((6, 5), {"resize": [12, 7]}, (1, 12, 7)),
        ((7,), {}, (7,)),
        ((7,), {"kind": "signal"}, (1, 7)),
        ((2, 7), {"kind": "signal"}, (2, 7)),
        ((7, 2), {"kind": "signal", "layout": "nlc"}, (2, 7)),
    ],
)
def test_arrays_of_every_layout_become_one_form(tmp_path, shape, options, expected):
    path = saved(tmp_path, x=images(40, *shape), y=classes())

    data = load("npz", {"path": path, **options})

    assert data.input_shape == expected
    assert data.train.inputs.dtype == (torch.uint8 if len(expected) == 3 else torch.float32)


def test_channels_end_up_where_they_belong(tmp_path):
    x = images(40, 6, 5, 3)

    data = load("npz", {"path": saved(tmp_path, x=x, y=classes())})

    row = int(data.test.ids[0])
    assert np.array_equal(data.test.inputs[0].numpy(), x[row].transpose(2, 0, 1))


def test_pixels_in_other_types_are_read_if_nothing_is_lost(tmp_path):
    x = images()
    for other in (x.astype(np.int64), x.astype(np.float32), (x / 255).astype(np.float32)):
        data = load("npz", {"path": saved(tmp_path, x=other, y=classes()), "kind": "image"})
        assert np.array_equal(data.test.inputs[:, 0].numpy(), x[data.test.ids.numpy()])


def test_members_of_other_names_and_lzma_are_read(tmp_path):
    path = tmp_path / "odd.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        for name, array in (("pixels", images()), ("coarse", classes()), ("fine", classes(num=8))):
            with archive.open(f"{name}.npy", "w") as file:
                np.save(file, array)

    data = load("npz", {"path": str(path), "keys": {"x_train": "pixels", "y_train": "fine"}})

    assert data.num_outputs == 8


def test_labels_may_be_names_in_any_order_of_classes(tmp_path):
    names = np.array(["dog", "cat", "eel", "dog"])[classes()]
    path = saved(tmp_path, x=images(), y=names)

    by_alphabet = load("npz", {"path": path})
    as_told = load("npz", {"path": path, "classes": ["eel", "dog", "cat", "yak"]})

    assert by_alphabet.classes == ("cat", "dog", "eel")
    for data in (by_alphabet, as_told):
        got = [data.classes[label] for label in data.test.labels.tolist()]
        assert got == names[data.test.ids.numpy()].tolist()
    assert as_told.num_outputs == 4
    assert as_told.notes == ("No training row has class `yak`.",)


def test_values_that_occur_can_be_numbered(tmp_path):
    quality = np.array([3, 5, 8])[classes(num=3)]

    data = load("npz", {"path": saved(tmp_path, x=images(), y=quality), "remap": True})

    assert data.classes == ("3", "5", "8")
    assert data.test.labels.tolist() == [(3, 5, 8).index(q) for q in quality[data.test.ids]]


@pytest.mark.parametrize(
    ("labels", "kind", "outputs"),
    [
        (classes(), TargetKind.SINGLE_LABEL, 4),
        (classes()[:, None], TargetKind.SINGLE_LABEL, 4),
        (classes() % 2 == 0, TargetKind.SINGLE_LABEL, 2),
        (RNG.integers(0, 2, (40, 3)), TargetKind.MULTI_LABEL, 3),
        (RNG.integers(0, 2, (40, 3)).astype(np.float32), TargetKind.MULTI_LABEL, 3),
        (RNG.random(40), TargetKind.REGRESSION, 1),
        (RNG.random((40, 2)), TargetKind.REGRESSION, 2),
    ],
)
def test_what_labels_mean_is_read_from_their_type(tmp_path, labels, kind, outputs):
    data = load("npz", {"path": saved(tmp_path, x=images(), y=labels)})

    assert (data.target_kind, data.num_outputs) == (kind, outputs)
    expected = torch.as_tensor(labels)[data.test.ids].float().view(len(data.test), -1)
    assert torch.equal(data.test.labels.float().view(len(data.test), -1), expected)
    assert (data.classes is None) == (kind is TargetKind.REGRESSION)


def test_the_task_decides_what_the_type_leaves_open(tmp_path):
    path = saved(tmp_path, x=images(), y=classes().astype(np.float64))

    as_values = load("npz", {"path": path}, target_kind="regression")
    as_classes = load("npz", {"path": path}, target_kind="single_label")

    assert as_values.train.labels.dtype == torch.float32
    assert as_classes.train.labels.dtype == torch.int64


def test_rows_that_stand_in_training_and_test_are_noted(tmp_path):
    x, y = images(50), classes(50)
    x[45:] = x[:5]
    path = saved(tmp_path, x_train=x[:40], y_train=y[:40], x_test=x[40:], y_test=y[40:])

    notes = load("npz", {"path": path}).notes

    assert notes == ("5 of 10 test rows repeat the inputs of a training or validation row.",)


def test_classes_that_the_test_part_lacks_are_noted(tmp_path):
    path = saved(
        tmp_path, x_train=images(), y_train=classes(), x_test=images(6), y_test=classes(6, num=2)
    )

    assert load("npz", {"path": path}).notes == ("No test row has class `2`, `3`.",)


def test_a_function_gives_data_when_it_is_trusted(tmp_path):
    file = tmp_path / "mydata.py"
    file.write_text(
        "import numpy as np\n"
        "def load(rows):\n"
        "    x = np.arange(rows * 3.0).reshape(rows, 3)\n"
        "    return {'x_train': x, 'y_train': np.arange(rows) % 2, 'classes': ['no', 'yes'],\n"
        "            'features': ['a', 'b', 'c']}\n"
    )
    options = {"target": f"{file}:load", "arguments": {"rows": 20}}

    data = load("python", options, trust=True)

    assert (data.classes, data.features) == (("no", "yes"), ("a", "b", "c"))
    assert len(all_ids(data)) == 20
    with pytest.raises(UntrustedCode, match=r"running `.*mydata.py:load`.*`--trust`"):
        load("python", options)


@pytest.mark.parametrize(
    ("body", "target", "message"),
    [
        ("load = 3", "load", "has no function `load`"),
        ("def load(): return 3", "load", "returned int, and a mapping of arrays"),
        ("def load(): return {'x': [[1], [1, 2]], 'y': [0, 1]}", "load", "no array of one shape"),
        ("def load(): return {'x': [None], 'y': [0]}", "load", "holds Python objects"),
        ("def load(): return {'x': [[1.0]]}", "load", "has no member `y_train`"),
        (
            "def load(): return {'x': [[1.0]], 'y': [0], 'x_tset': 1}",
            "load",
            "returned `x_tset`, which is not read",
        ),
        ("", "", "names no function"),
    ],
)
def test_functions_that_give_no_data_are_refused(tmp_path, body, target, message):
    file = tmp_path / "bad.py"
    file.write_text(body)

    with pytest.raises(DataError, match=message):
        load("python", {"target": f"{file}:{target}"}, trust=True)


def test_a_module_that_is_not_there_is_named():
    with pytest.raises(DataError, match=r"`no_such_module` .* cannot be imported"):
        load("python", {"target": "no_such_module:load"}, trust=True)


def test_loading_leaves_the_global_generators_alone():
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()

    load("builtin", {"name": "wine"}, limit=30)

    assert torch.equal(torch.get_rng_state(), torch_before)
    assert np.array_equal(np.random.get_state()[1], numpy_before)


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("buildin", {"name": "digits"}, "no data source `buildin`; did you mean `builtin`"),
        ("builtin", {"name": "digit"}, "no builtin data set `digit`; did you mean `digits`"),
        ("builtin", {}, "needs `name:`"),
        ("builtin", {"nmae": "digits"}, "has no option `nmae`; did you mean `name`"),
        ("builtin", {"name": 3}, "`name` of data source `builtin` must be a string, got 3"),
        ("builtin", {"name": "digits", "kind": "imge"}, "did you mean `image`"),
        ("builtin", {"name": "digits", "resize": "big"}, "must be a positive whole number or"),
        ("builtin", {"name": "digits", "resize": [4, 0]}, "must be a positive whole number or"),
        ("builtin", {"name": "digits", "remap": "yes"}, "must be true or false, got 'yes'"),
        ("builtin", {"name": "wine", "resize": 4}, "`resize:` is for images"),
        ("npz", {}, "needs `path:`"),
    ],
)
def test_wrong_options_are_refused(source, options, message):
    with pytest.raises(RecipeError, match=message):
        load(source, options)
