"""Weights on disk: read without running code, written whole or not at all, fitted name by name."""

import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from zipfile import BadZipFile

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from potstill.errors import ModelError, StorageError
from potstill.runtime.files import write_with

_NESTED = ("state_dict", "model_state_dict", "model", "net")
_PREFIXES = ("module.", "_orig_mod.")
_SHOWN = 3


def write_weights(model: nn.Module, path: Path) -> None:
    """Write the state to a safetensors file; tied tensors are written once.

    Raises:
        StorageError: if the file cannot be written; an earlier one is left as it was.
        ModelError: if the model's state holds something that is not a tensor.
    """
    state = model.state_dict()
    if strange := [name for name, value in state.items() if not isinstance(value, Tensor)]:
        raise ModelError(
            f"The state of this {type(model).__name__} holds {strange[:_SHOWN]}, which are not "
            "tensors and cannot be saved: keep only tensors in it."
        )
    kept: dict[str, Tensor] = {}
    storages: set[int] = set()
    for name, *_ in tied(state):
        value = state[name].detach().cpu().contiguous()
        storage = value.untyped_storage().data_ptr()
        kept[name] = value.clone() if storage in storages else value
        storages.add(storage)
    write_with(path, lambda temporary: _save(kept, temporary))


def _save(kept: dict[str, Tensor], path: Path) -> None:
    try:
        save_file(kept, path, metadata={"format": "pt"})
    except SafetensorError as error:  # the file system failed
        raise StorageError(
            f"{path} could not be written ({error}): check the space and the permissions there."
        ) from error


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a `.safetensors`, `.pt` or `.pth` file, on the CPU.

    A state inside a training checkpoint (`model`, `state_dict`, …) is found, and the prefixes of
    DDP and `torch.compile` are taken off.

    Raises:
        ModelError: if the file is missing, of another kind, corrupt, or holds more than weights.
    """
    if not path.is_file():
        raise ModelError(f"There is no file of weights {path}: check the path.")
    match path.suffix.lower():
        case ".safetensors":
            found: object = _read_safetensors(path)
        case ".pt" | ".pth" | ".bin" | ".ckpt":
            found = _read_torch(path)
        case suffix:
            raise ModelError(
                f"Weights are read from .safetensors, .pt, .pth, .bin or .ckpt files, and {path} "
                f"is `{suffix}`: save a state dict in one of those."
            )
    state = _find_state(found)
    if not state:
        raise ModelError(
            f"{path} holds no state dict (names with tensors): save `model.state_dict()` in it."
        )
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def fit_weights(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    *,
    origin: str,
    num_outputs: int,
    new_head: bool = False,
) -> None:
    """Copy weights into a model, name by name.

    Args:
        model: takes the weights, in its own dtype and on its own device.
        weights: by the model's names; of tied ones, one is enough.
        origin: where they are from, for the sentence.
        num_outputs: of the model; tells a head of other classes from other misfits.
        new_head: leave a head of other classes at its random start instead of refusing.

    Raises:
        ModelError: if names are missing or too many, or shapes differ.
    """
    state = model.state_dict()
    given = dict(weights)
    for group in tied(state):
        present = next((name for name in group if name in given), None)
        for name in group if present is not None else ():
            given.setdefault(name, given[present or name])
    head = _head_of_other_classes(state, given, num_outputs)
    if head and new_head:
        given.update({name: state[name] for name in head})
    elif head:
        raise ModelError(
            f"{origin} is for {len(given[head[0]])} outputs (`{head[0]}`), and {num_outputs} are "
            "needed: use data with the same classes, or the option `new_head: true` to keep the "
            "rest and start the last layer anew."
        )
    if problems := _misfits(state, given):
        raise ModelError(
            f"The weights of {origin} do not fit this {type(model).__name__}: "
            f"{'; '.join(problems)}. Build the model with the options it was saved with."
        )
    model.load_state_dict(given)


def tied(state: Mapping[str, Tensor]) -> list[list[str]]:
    """The names, grouped by the tensor they stand for: tied ones lie in one group."""
    groups: dict[tuple[object, ...], list[str]] = {}
    for name, value in state.items():
        same = (value.data_ptr(), value.shape, value.stride(), value.dtype)
        groups.setdefault(same if value.numel() else (name,), []).append(name)
    return list(groups.values())


def _misfits(state: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> list[str]:
    """What is wrong, in three phrases at most."""
    missing = [f"`{name}` {list(state[name].shape)}" for name in state if name not in given]
    extra = [f"`{name}` {list(given[name].shape)}" for name in given if name not in state]
    shapes = [
        f"`{name}` {list(given[name].shape)} instead of {list(state[name].shape)}"
        for name in state
        if name in given and given[name].shape != state[name].shape
    ]
    found = {"missing": missing, "unexpected": extra, "of another shape": shapes}
    return [f"{len(names)} {what}, {_first(names)}" for what, names in found.items() if names]


def _first(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _head_of_other_classes(
    state: Mapping[str, Tensor], given: Mapping[str, Tensor], num_outputs: int
) -> list[str]:
    """The tensors of the last layer, if they alone differ, and only in the number of outputs."""
    differ = [n for n in state if n in given and state[n].shape != given[n].shape]
    only_outputs = all(
        state[n].dim() == given[n].dim() > 0
        and state[n].shape[0] == num_outputs
        and state[n].shape[1:] == given[n].shape[1:]
        for n in differ
    )
    is_last = bool(differ) and differ[-1] == list(state)[-1]
    return differ if only_outputs and is_last else []


def _find_state(found: object) -> dict[str, Tensor]:
    """The first mapping from names to tensors, here or under a usual key."""
    if not isinstance(found, Mapping):
        return {}
    tensors = {str(name): value for name, value in found.items() if isinstance(value, Tensor)}
    if len(tensors) == len(found):
        return tensors
    states: Iterable[dict[str, Tensor]] = (_find_state(found.get(key)) for key in _NESTED)
    return next((state for state in states if state), {})


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise _corrupt(path, error) from error


def _read_torch(path: Path) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path} is corrupt or holds more than weights, and code in it is never run: load it "
            "where you trust it and save `model.state_dict()`."
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, BadZipFile) as error:
        raise _corrupt(path, error) from error


def _corrupt(path: Path, error: Exception) -> ModelError:
    first = str(error).strip().partition("\n")[0]
    return ModelError(f"The weights {path} cannot be read ({first}): copy or train them again.")
