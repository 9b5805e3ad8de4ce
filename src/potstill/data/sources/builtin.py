"""Small real data sets that come with scikit-learn: no download, no file."""

from collections.abc import Callable

import numpy as np

from potstill.data.arrays import Array
from potstill.data.assembly import Raw, RawPart
from potstill.data.options import nearest
from potstill.data.samples import Kind
from potstill.data.sources.request import Request
from potstill.errors import RecipeError

OPTIONS = frozenset({"name"})


def read(request: Request) -> Raw:
    """The data set that `name:` says.

    - `digits`: 1,797 images of 8 x 8, 10 classes.
    - `breast_cancer`: 569 rows of 30 features, 2 classes.
    - `wine`: 178 rows of 13 features, 3 classes.
    - `diabetes`: 442 rows of 10 features, a value.

    Raises:
        RecipeError: another name.
    """
    name = request.options.required("name", why=f"one of {', '.join(f'`{n}`' for n in READERS)}")
    if name not in READERS:
        raise RecipeError(f"There is no builtin data set `{name}`; {nearest(name, READERS)}")
    return READERS[name]()


def _digits() -> Raw:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    pixels = np.rint(images * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
    return Raw(name="digits", parts=_all_rows(pixels, labels), kind=Kind.IMAGE, layout="nchw")


def _breast_cancer() -> Raw:
    from sklearn.datasets import load_breast_cancer

    return _table("breast_cancer", load_breast_cancer())


def _wine() -> Raw:
    from sklearn.datasets import load_wine

    return _table("wine", load_wine())


def _diabetes() -> Raw:
    from sklearn.datasets import load_diabetes

    return _table("diabetes", load_diabetes(scaled=False))


def _table(name: str, bunch: object) -> Raw:
    """A scikit-learn table with its names."""
    classes = getattr(bunch, "target_names", None)
    return Raw(
        name=name,
        parts=_all_rows(getattr(bunch, "data"), getattr(bunch, "target")),  # noqa: B009
        kind=Kind.TABLE,
        classes=None if classes is None else tuple(str(c) for c in classes),
        features=tuple(str(f) for f in getattr(bunch, "feature_names")),  # noqa: B009
    )


def _all_rows(inputs: Array, labels: Array) -> dict[str, RawPart]:
    return {"train": RawPart(inputs, labels)}


READERS: dict[str, Callable[[], Raw]] = {
    "breast_cancer": _breast_cancer,
    "diabetes": _diabetes,
    "digits": _digits,
    "wine": _wine,
}
