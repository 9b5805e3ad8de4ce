"""What of a student's options depends on real texts: chosen once, written into its config."""

from collections.abc import Callable, Mapping

from torch import Tensor

from potstill.errors import ModelError
from potstill.models.answering import Encoder
from potstill.models.config import Json, ModelConfig
from potstill.models.create import create_model
from potstill.models.importance import importance, influence, most_important, stack_of
from potstill.models.narrowed import check_sizes
from potstill.models.shrunken import kept_layers, shrunken_config

TEXTS = 256
"""So many training texts say what is important."""


def calibrated_config(
    teacher: ModelConfig,
    options: Mapping[str, Json],
    *,
    texts: Callable[[], Tensor],
    frame: Callable[[], tuple[int, ...]],
    trust: bool = False,
) -> ModelConfig:
    """Equivalent to `shrunken_config`, with what `keep: influence` and smaller sizes choose.

    Args:
        teacher: config of the model that the student is made from.
        options: as in `shrunken_config`.
        texts: gives planes `[N, P, T]` int64 of texts to measure on; not asked without need.
        frame: gives the special tokens around a text, the last of which stands after it.
        trust: whether code that the teacher's config names may run.

    Raises:
        ModelError: options that do not fit the teacher.
    """
    made = options.get("make", "layers")
    if made == "bag" and options.get("table") == "distilled":
        return shrunken_config(teacher, {**options, "frame": list(frame())})
    sizes = {name: options[name] for name in ("width", "ffn") if name in options}
    by_influence = options.get("keep") == "influence"
    if made != "layers" or not (by_influence or sizes):
        return shrunken_config(teacher, options)
    model = create_model(teacher, seed=0, trust=trust)
    if not isinstance(model, Encoder):
        return shrunken_config(teacher, options)  # which says why when it is built
    chosen = _chosen(model, options, sizes, texts())
    return shrunken_config(teacher, {**options, "chosen": chosen})


def _chosen(
    model: Encoder,
    options: Mapping[str, Json],
    sizes: Mapping[str, Json],
    planes_NPT: Tensor,
) -> dict[str, Json]:
    total = len(stack_of(model))
    layers, keep = options.get("layers", total), options.get("keep", "every_other")
    if type(layers) is not int or not 0 < layers <= total:
        return {}  # `layers` is refused when the student is built
    if not sizes:
        return {"layers": most_important(influence(model, planes_NPT), layers)}
    for name, value in sizes.items():
        if type(value) is not int:
            raise ModelError(f"The option `{name}` is {value!r}; give a whole number.")
    width, heads, ffn = check_sizes(
        model, width=_whole(sizes.get("width")), ffn=_whole(sizes.get("ffn"))
    )
    scores = importance(model, planes_NPT)
    kept = most_important(scores.layers, layers)
    if keep != "influence":
        kept = kept_layers(total, layers, str(keep))
    return {
        "layers": kept,
        "channels": most_important(scores.channels, width),
        "heads": [most_important(scores.heads[layer], heads) for layer in kept],
        "neurons": [most_important(scores.neurons[layer], ffn) for layer in kept],
    }


def _whole(value: Json) -> int | None:
    return value if type(value) is int else None
