"""Reading the outputs of named modules while a model runs, without leaving a trace in it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import fields, is_dataclass
from difflib import get_close_matches

from torch import Tensor, nn

from potstill.errors import ModelError
from potstill.features.blocks import Part, find_part, part_names

_WRAPPERS = frozenset({"module", "_orig_mod", "_forward_module", "_original_module"})


def layer_names(model: nn.Module) -> tuple[str, ...]:
    """The names of all modules inside a model, as `tapped` takes them.

    Names are those of the model itself, also when it is wrapped for several devices or compiled.
    """
    return tuple(name for name, _ in unwrapped(model).named_modules() if name)


def known_layers(model: nn.Module) -> tuple[str, ...]:
    """All that `tapped` takes: `layer_names`, and of transformers the names of their parts.

    See `potstill.features.blocks` for these.
    """
    return (*layer_names(model), *part_names(unwrapped(model)))


@contextmanager
def tapped(model: nn.Module, names: Sequence[str]) -> Iterator[Mapping[str, Tensor]]:
    """Collect the outputs of some layers of every forward pass inside the `with` block.

    The mapping is empty until the model has run. Tensors keep their graph, and are copies: a later
    layer that works in place does not change them. Of a tuple, dictionary or record, the first
    tensor in it is taken. Of a layer that runs several times, the last output counts. The hooks
    are gone after the block, whatever happened in it.

    A model that was compiled as one graph may skip hooks that are set later; tap it first.

    Args:
        model: any module, wrapped or not.
        names: from `known_layers`.

    Raises:
        ModelError: the model has no such layer, or a layer gives no tensor.
    """
    inner = unwrapped(model)
    modules = dict(inner.named_modules())
    parts = {name: find_part(inner, name) for name in names if name not in modules}
    plain = [name for name in names if parts.get(name) is None]
    _check_names(plain, [name for name in modules if name], type(model).__name__)
    features: dict[str, Tensor] = {}
    with ExitStack() as hooks:
        for name in dict.fromkeys(plain):
            hooks.callback(modules[name].register_forward_hook(_keep(features, name)).remove)
        for name, part in parts.items():
            if part is not None:
                seen: dict[str, Tensor] = {}
                for each in part.modules:
                    hook = _gather(seen, each, features, name, part)
                    hooks.callback(modules[each].register_forward_hook(hook).remove)
        yield features


def _keep(features: dict[str, Tensor], name: str) -> Callable[..., None]:
    def hook(_module: nn.Module, _inputs: object, output: object) -> None:
        tensor = first_tensor(output)
        if tensor is None:
            raise ModelError(
                f"The layer `{name}` gives a {type(output).__name__} without a tensor in it; "
                "choose a layer inside it."
            )
        features[name] = tensor.clone()

    return hook


def _gather(
    seen: dict[str, Tensor], module: str, features: dict[str, Tensor], name: str, part: Part
) -> Callable[..., None]:
    """A hook that makes the part once all of its modules have run."""
    keep = _keep(seen, module)

    def hook(ran: nn.Module, inputs: object, output: object) -> None:
        keep(ran, inputs, output)
        if len(seen) == len(part.modules):
            features[name] = part.read(*(seen[each] for each in part.modules))
            seen.clear()

    return hook


def first_tensor(output: object) -> Tensor | None:
    """The first tensor in what a module gives, if there is one."""
    if isinstance(output, Tensor):
        return output
    inside: Sequence[object] = ()
    if isinstance(output, Mapping):
        inside = list(output.values())
    elif isinstance(output, list | tuple):
        inside = output
    elif is_dataclass(output):
        inside = [getattr(output, field.name) for field in fields(output)]
    return next((found for part in inside if (found := first_tensor(part)) is not None), None)


def _check_names(names: Sequence[str], known: list[str], model: str) -> None:
    problems = []
    for name in names:
        if name in known:
            continue
        close = get_close_matches(name, known, n=3) or known[:3]
        nearest = ", ".join(f"`{other}`" for other in close) or "none at all"
        problems.append(f"`{name}` (nearest: {nearest})")
    if problems:
        raise ModelError(
            f"{model} has no layer {'; '.join(problems)}; "
            "`potstill.features.layer_names(model)` lists all."
        )


def unwrapped(model: nn.Module) -> nn.Module:
    """The model itself, out of the wrappers of devices and compilers."""
    while True:
        inner = dict(model.named_children())
        if len(inner) != 1 or not _WRAPPERS.issuperset(inner):
            return model
        (model,) = inner.values()
