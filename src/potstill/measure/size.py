"""How big a model is: parameters, bytes, FLOPs of one sample, memory for the backward pass."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from potstill.errors import StorageError
from potstill.runtime.modes import evaluating

BYTES_PER_FLOAT32 = 4


def num_parameters(model: nn.Module) -> int:
    """Trainable or not, each shared parameter once."""
    return sum(p.numel() for p in model.parameters())


def weight_bytes(model: nn.Module) -> int:
    """Bytes of the weights in float32: parameters and persistent floating-point buffers.

    Buffers are the running statistics of batch normalisation and their like: they ship too.
    """
    numbers = num_parameters(model)
    state = model.state_dict(keep_vars=True)
    parameters = {id(p) for p in model.parameters()}
    buffers = {
        id(v): v.numel()
        for v in state.values()
        if isinstance(v, Tensor) and id(v) not in parameters and v.is_floating_point()
    }
    return BYTES_PER_FLOAT32 * (numbers + sum(buffers.values()))


def file_bytes(path: Path) -> int:
    """Size of a file on disk.

    Raises:
        StorageError: there is no such file.
    """
    try:
        return path.stat().st_size
    except OSError as error:
        raise StorageError(
            f"The size of {path} cannot be read ({error.strerror}); export the model first."
        ) from error


def flops(model: nn.Module, sample: Tensor) -> int:
    """Floating-point operations of one forward pass, per sample.

    One multiply-add counts as two. Counted are matrix products, convolutions and attention, which
    is where the time goes; element-wise work, normalisation and pooling are not.

    Args:
        model: left as it was found (training flags, gradients).
        sample: `[B, ...]` on the model's device; the count is divided by B.
    """
    counter = FlopCounterMode(display=False)
    # The fused encoder layer of `nn.TransformerEncoder` is one operator that no counter knows.
    with evaluating(model), torch.no_grad(), _without_fast_path(), counter:
        model(sample)
    return int(counter.get_total_flops()) // len(sample)


def saved_bytes(model: nn.Module, sample: Tensor) -> int:
    """Bytes per sample that a training step keeps between the forward and the backward pass.

    What autograd saves, each storage once and without the parameters: an estimate of how memory
    grows with the batch. Measured in eval mode, so without masks of dropout; the model is left as
    it was found.
    """
    known = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with evaluating(model), torch.enable_grad():
        with torch.autograd.graph.saved_tensors_hooks(pack, _as_it_is):
            outputs = model(sample)
        del outputs  # held until here, so that no address was used twice
    return sum(kept.values()) // len(sample)


@contextmanager
def _without_fast_path() -> Iterator[None]:
    was_enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(was_enabled)


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor
