"""Arrays by conventional names (`x_train`, `y_train`, …): what `npz` files and `python` give."""

from collections.abc import Collection, Mapping

from potstill.data.arrays import Array
from potstill.data.assembly import RawPart
from potstill.data.options import JSON, Options, nearest
from potstill.errors import DataError

ALIASES = {
    "x_train": ("x_train", "x", "X"),
    "y_train": ("y_train", "y"),
    "x_validation": ("x_validation", "x_val", "x_valid"),
    "y_validation": ("y_validation", "y_val", "y_valid"),
    "x_test": ("x_test",),
    "y_test": ("y_test",),
    "x_transfer": ("x_transfer", "x_unlabelled"),
    "group_train": ("group_train", "group"),
    "group_validation": ("group_validation", "group_val", "group_valid"),
    "group_test": ("group_test",),
}
"""Each array that may be there, and the names that it is looked for under, in this order."""


def choose(present: Collection[str], keys: Mapping[str, JSON], *, owner: str) -> dict[str, str]:
    """Which present name holds which array.

    Args:
        present: the names that are there.
        keys: names that differ from convention, e.g. `{y_train: fine}`.
        owner: the file or function, for messages.

    Raises:
        RecipeError: `keys` has a key that is none of `ALIASES`.
        DataError: a member is missing, or inputs stand without labels.
    """
    chosen: dict[str, str] = {}
    given = Options(keys, known=ALIASES, owner="`keys:`")
    for role, names in ALIASES.items():
        name = given.text(role)
        if name is not None and name not in present:
            raise DataError(
                f"{owner} has no member `{name}`, only {_listed(present)}; {nearest(name, present)}"
            )
        found = name or next((n for n in names if n in present), None)
        if found is not None:
            chosen[role] = found
    for part in ("train", "validation", "test"):
        x, y = f"x_{part}", f"y_{part}"
        if (part == "train" or (x in chosen) != (y in chosen)) and not {x, y} <= chosen.keys():
            missing = x if x not in chosen else y
            raise DataError(
                f"{owner} has no member `{missing}`, only {_listed(present)}; name the right one "
                f"with `keys: {{{missing}: ...}}`."
            )
    return chosen


def to_parts(arrays: Mapping[str, Array]) -> dict[str, RawPart]:
    """Parts from arrays by their conventional names."""
    return {
        part: RawPart(
            arrays[f"x_{part}"], arrays.get(f"y_{part}"), groups=arrays.get(f"group_{part}")
        )
        for part in ("train", "validation", "test", "transfer")
        if f"x_{part}" in arrays
    }


def _listed(present: Collection[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(present)) or "nothing"
