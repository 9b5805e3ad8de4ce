"""The sentences of `error_bound` as assertions, for Potstill's own codecs."""

import torch
from torch import Tensor

from potstill.signals import SparseLogits
from potstill.store.codec import Codec
from potstill.store.codecs import DenseLogits, FloatTensor, Int8Tensor, Sampled, TopK, Vocabulary

_RELATIVE = {"bf16": (2.0**-8, 5e-41), "fp16": (2.0**-11, 3e-8), "fp32": (0.0, 0.0)}


def check_bound(codec: Codec, values: Tensor, decoded: Tensor | SparseLogits) -> None:
    """Assert that a codec of ours did what it says."""
    match codec:
        case DenseLogits() | FloatTensor():
            _check_floats(codec.dtype, values.float(), decoded)
        case Int8Tensor():
            _check_int8(codec, values.float(), decoded)
        case Sampled():
            _check_sampled(codec, values.float(), decoded)
        case TopK():
            kept = (min(codec.k, values.shape[1]),) * 2
            _check_kept(codec, values, decoded, fp16=codec.logprobs == "fp16", kept=kept)
        case Vocabulary():
            kept = (min(codec.min_k, values.shape[1]), min(codec.max_k, values.shape[1]))
            _check_kept(codec, values, decoded, fp16=False, kept=kept)
        case _:
            raise AssertionError(codec)


def _check_floats(dtype: str, values: Tensor, decoded) -> None:
    relative, absolute = _RELATIVE[dtype]
    finite = values.isfinite()
    assert torch.equal(finite, decoded.isfinite())
    error = (values - decoded)[finite].double().abs()
    assert (error <= relative * values[finite].double().abs() + absolute).all()


def _check_int8(codec: Int8Tensor, values: Tensor, decoded) -> None:
    flat, back = values.flatten(1).double(), decoded.flatten(1).double()
    for block, got in zip(
        flat.split(codec.block or flat.shape[1], dim=1),
        back.split(codec.block or flat.shape[1], dim=1),
        strict=True,
    ):
        peak = block.abs().amax(1, keepdim=True)
        assert ((block - got).abs() <= peak / 254 + 2e-7 * peak + 3e-45).all()


def _check_kept(codec, values: Tensor, decoded, *, fp16: bool, kept: tuple[int, int]) -> None:
    logprobs = (values.float() / codec.temperature).double().log_softmax(-1)
    best = logprobs.amax(1, keepdim=True)
    there = decoded.logprobs_NK.isfinite()
    true = logprobs.gather(1, decoded.ids_NK)
    got = decoded.logprobs_NK.double()
    ratio, back = (true - best)[there], (got - got.amax(1, keepdim=True))[there]
    if fp16:
        ratio = ratio.clamp(min=-65504)  # where float16 ends; the probability is 0 long before
        assert ((ratio - back).abs() <= 2.0**-11 * ratio.abs() + 5e-6).all()
    else:
        root, root_back = (ratio / 4).exp(), (back / 4).exp()
        assert ((root - root_back).abs() <= (1 / 510 + 2e-6) + (root < 0.5 / 255) / 510).all()
    counts = there.sum(1)
    possible = logprobs.isfinite().sum(1)
    assert (counts <= kept[1]).all()
    assert (counts >= possible.clamp(max=kept[0])).all()
    # What is kept is the best: nothing else is more probable than the least of it.
    one = decoded.ids_NK.gather(1, got.argmax(1, keepdim=True))
    filled = decoded.ids_NK.where(there, one)
    least = true.where(there, torch.inf).amin(1, keepdim=True)
    assert (logprobs.scatter(1, filled, -torch.inf) <= least + 1e-5).all()
    tail = logprobs.exp().scatter(1, filled, 0).sum(1)
    small = torch.minimum(tail, 1 - tail).clamp(min=0)
    assert ((tail - decoded.tail_N.double()).abs() <= 6e-4 * small + 1e-6).all()
    if isinstance(codec, Vocabulary):
        held = 1 - tail
        enough = (held >= codec.top_p - 1e-5) | (counts == min(kept[1], values.shape[1]))
        assert (enough | (counts == possible)).all()


def _check_sampled(codec: Sampled, values: Tensor, decoded) -> None:
    there = decoded.logprobs_NK.isfinite()
    assert (decoded.tail_N == 0).all()
    assert values.gather(1, decoded.ids_NK)[there].isfinite().all(), "a class ruled out was drawn"
    counts = decoded.logprobs_NK.double().exp() * codec.draws
    assert there.sum(1).max() <= codec.draws
    if codec.tau == 1:
        assert (counts - counts.round()).abs().max() < 1e-3
