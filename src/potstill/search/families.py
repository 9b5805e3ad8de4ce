"""Families of students, small ones for what samples are, and the teacher's own.

A family is a branch of the choice `family`: its knobs are depth, width and resolution. What the
knobs mean as options of a model is in `shapes`, beside which nothing else knows names of models.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

from potstill.errors import RecipeError
from potstill.models.options import nearest
from potstill.search.space import Choice, Knob, Value

FAMILY, TERMS = "family", "terms"
OWN = "recipe"
"""The family of one: the recipe's own student. Of terms, the recipe's own objective."""

_LEAST_SIDE = 12  # pixels, of images that are made smaller


@final
@dataclass(frozen=True, kw_only=True)
class About:
    """What decides which families there are.

    Args:
        kind: of the samples: image, signal, table, text or audio.
        input_shape: of one.
        teacher: source and name of the teacher's model; empty if it is none by name.
        options: of the teacher's model.
        layers: of a teacher of texts, how many layers it has; 0 if that is not known.
        siblings: names of the teacher's source that are of its family, small ones first.
    """

    kind: str
    input_shape: tuple[int, ...]
    teacher: tuple[str, str] = ("", "")
    options: Mapping[str, object] | None = None
    layers: int = 0
    siblings: tuple[str, ...] = ()


def families(about: About, *, only: Sequence[str] = (), own: bool = True) -> Choice:
    """The choice of a family, with the knobs of each.

    Args:
        about: the data and the teacher.
        only: names, if not all that suit.
        own: whether the recipe's own student is one of them.

    Raises:
        RecipeError: `only` has a name that does not suit these data.
    """
    found = _suited(about)
    for name in only:
        if name not in found:
            raise RecipeError(
                f"There is no family `{name}` for samples of kind {about.kind}; "
                f"{nearest(name, found)}"
            )
    chosen = {name: knobs for name, knobs in found.items() if not only or name in only}
    if not chosen and not own:
        raise RecipeError(f"There are no families of students for samples of kind {about.kind}.")
    return Choice(name=FAMILY, branches={**({OWN: ()} if own else {}), **chosen})


def _suited(about: About) -> dict[str, tuple[Knob, ...]]:
    match about.kind:
        case "image":
            found = _images(about)
        case "text":
            found = _texts(about)
        case "audio":
            found = _sounds()
        case "signal":
            found = {"mlp": _mlp(), "cnn": _cnn(64)}
        case _:
            found = {"mlp": _mlp()}
    if about.siblings:
        found = {f"{about.teacher[0]}": (_pick("name", *about.siblings),), **found}
    return found


def _images(about: About) -> dict[str, tuple[Knob, ...]]:
    side = min(about.input_shape[1:])
    sizes = [size for size in (side // 2, 3 * side // 4, side) if size >= _LEAST_SIDE] or [side]
    resolution = (_pick("resolution", *sizes),) if side <= 128 else ()
    widest = _number((about.options or {}).get("width"), 48) if about.teacher[1] == "cnn" else 48
    found = {
        "mlp": _mlp(),
        "cnn": (*_cnn(max(widest, 16)), *resolution),
        "resnet": (_whole("blocks", 1, 3), _whole("width", 4, 32, log=True), *resolution),
    }
    if side >= 2 * _LEAST_SIDE:
        scaled = _pick("width", 0.125, 0.25, 0.35, 0.5, 0.75, 1.0)
        found["MobileNetV2"] = (scaled,)
        found["ShuffleV2"] = (scaled, *resolution)
    return found


def _texts(about: About) -> dict[str, tuple[Knob, ...]]:
    width = _whole("width", 8, 256, log=True)
    if about.teacher[0] != "hf":
        return {"bag": (width,), "bilstm": (width, _whole("hidden", 8, 256, log=True))}
    layers = about.layers or 6
    return {
        "bilstm": (_whole("hidden", 8, 256, log=True),),
        "bag": (width,),
        "transformer": (
            _whole("layers", 1, max(1, min(layers, 4))),
            _pick("width", 32, 64, 128, 192, 256),
        ),
        "layers": (_whole("layers", 1, max(1, layers - 1)), _pick("keep", "every_other", "first")),
    }


def _sounds() -> dict[str, tuple[Knob, ...]]:
    mels = _pick("mels", 20, 40)
    return {
        "ds_cnn": (_whole("width", 8, 96, log=True), _whole("depth", 1, 5), mels),
        "tc_resnet": (_whole("width", 6, 32, log=True), _whole("depth", 1, 3), mels),
    }


def _mlp() -> tuple[Knob, ...]:
    return (_whole("depth", 1, 3), _whole("width", 8, 512, log=True))


def _cnn(widest: int) -> tuple[Knob, ...]:
    return (_whole("depth", 2, 4), _whole("convs", 1, 2), _whole("width", 2, widest, log=True))


def shape(family: str, knobs: Mapping[str, Value], about: About) -> dict[str, Value | list[int]]:
    """A student as a recipe's `student.model` says it: `source`, `name` and options."""
    if family == about.teacher[0] and about.siblings:
        return {"source": family, **knobs}
    if about.kind == "text" and about.teacher[0] == "hf":
        return _of_text(family, knobs)
    known: dict[str, Value | list[int]] = {"source": "builtin", "name": family}
    given = dict(knobs)
    if given.get("resolution") == min(about.input_shape[1:], default=0):
        del given["resolution"]
    if family in ("bag", "bilstm"):
        vocabulary = (about.options or {}).get("vocabulary")
        return {**known, **given, "vocabulary": _number(vocabulary, 0)}
    width, depth = _number(given.get("width"), 0), _number(given.get("depth"), 0)
    match family:
        case "mlp":
            return {**known, "hidden": [width] * depth}
        case "tc_resnet":
            widths = [width + width // 2 * number for number in range(depth + 1)]
            return {**known, "widths": widths, "mels": given["mels"]}
        case _:
            return {**known, **given}


def _of_text(family: str, knobs: Mapping[str, Value]) -> dict[str, Value | list[int]]:
    """Students that are made from the teacher's model (`source: teacher`)."""
    made: dict[str, Value | list[int]] = {"source": "teacher", "make": family, **knobs}
    if family == "transformer":
        made["heads"] = max(1, _number(knobs["width"], 32) // 32)
    return made


def _number(value: object, usual: int) -> int:
    return value if isinstance(value, int) else usual


def _whole(name: str, low: int, high: int, *, log: bool = False) -> Knob:
    return Knob(name=name, low=low, high=high, log=log, whole=True)


def _pick(name: str, *choices: Value) -> Knob:
    return Knob(name=name, choices=tuple(dict.fromkeys(choices)))
