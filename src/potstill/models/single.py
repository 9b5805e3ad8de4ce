"""One safetensors file of a student: its weights, and in the header the config that builds it."""

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from potstill.errors import ModelError
from potstill.models.config import ModelConfig
from potstill.models.create import create_model
from potstill.models.saved import load_model
from potstill.models.weights import fit_weights, read_weights, tied
from potstill.runtime.files import write_with

CONFIG = "potstill"
"""The entry of the header that holds the config as JSON."""


def write_safetensors(model: nn.Module, config: ModelConfig, path: Path) -> Path:
    """Write weights and config into one file, which `read_safetensors` builds the model from.

    Args:
        model: the student.
        config: how to build it with random weights; as `save_model` writes it.
        path: an older file is replaced.

    Raises:
        StorageError: the file cannot be written.
    """
    state = model.state_dict()
    kept = {names[0]: state[names[0]].detach().cpu().contiguous().clone() for names in tied(state)}
    header = {"format": "pt", CONFIG: json.dumps(config.to_json())}
    content = save(kept, metadata=header)
    write_with(path, lambda draft: _write(draft, content))
    return path


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def read_safetensors(path: Path, *, trust: bool = False) -> nn.Module:
    """The student that `write_safetensors` wrote, in eval mode on the CPU.

    Args:
        path: the file.
        trust: whether code that its config names may run.

    Raises:
        ModelError: the file is missing or corrupt, or holds no config.
        UntrustedCode: the model is Python code and `trust` is false.
    """
    weights = read_weights(path)
    try:
        with safe_open(path, framework="pt") as file:
            described = (file.metadata() or {}).get(CONFIG)
    except SafetensorError as error:
        raise ModelError(f"{path} cannot be read ({error}); export the student again.") from error
    if described is None:
        raise ModelError(
            f"{path} holds weights and no config of Potstill; give a file that `potstill export "
            "--format safetensors` wrote, or the folder of a model."
        )
    config = ModelConfig.from_json(json.loads(described))
    model = create_model(config, trust=trust)
    fit_weights(model, weights, origin=str(path), num_outputs=config.num_outputs)
    return model.eval()


def load(path: Path | str, *, trust: bool = False) -> nn.Module:
    """A student from a safetensors file that was exported, or a model from its folder in a run.

    Args:
        path: `export/distilled.safetensors`, or `models/distilled/seed-0`.
        trust: whether code that its config names may run.

    Returns:
        The module with its weights, in eval mode on the CPU. Its inputs are normalised ones, as
        `preprocessing.json` beside the file says.

    Raises:
        ModelError: nothing readable is there.
        UntrustedCode: the model is Python code and `trust` is false.
    """
    where = Path(path)
    if where.is_dir():
        return load_model(where, trust=trust)[0].eval()
    return read_safetensors(where, trust=trust)
