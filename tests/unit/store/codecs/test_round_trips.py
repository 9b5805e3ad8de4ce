"""Whatever is encoded comes back within the stated bound; the bytes of the format do not change."""

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from potstill.store.codecs import DenseLogits, FloatTensor, Int8Tensor, Sampled, TopK, Vocabulary

from .bounds import check_bound

_LOGITS = st.one_of(
    st.floats(-60, 60, width=32),
    st.sampled_from([0.0, -0.0, 1.0, -1e4, 3e4]),  # ties and certainty
    st.just(-np.inf),  # a class ruled out
)
_NUMBERS = st.floats(-60000, 60000, width=32)


@st.composite
def _logits(draw) -> torch.Tensor:
    rows, classes = draw(st.integers(1, 4)), draw(st.integers(1, 40))
    values = draw(arrays(np.float32, (rows, classes), elements=_LOGITS))
    values[np.isneginf(values).all(axis=1), draw(st.integers(0, classes - 1))] = 1.5
    return torch.from_numpy(values)


@st.composite
def _tensors(draw) -> torch.Tensor:
    shape = draw(st.lists(st.integers(1, 5), min_size=2, max_size=4))
    scale = draw(st.sampled_from([1.0, 1e-3, 1e-30, 1e-38]))
    return torch.from_numpy(draw(arrays(np.float32, shape, elements=_NUMBERS)) * np.float32(scale))


_TEMPERATURES = st.sampled_from([0.5, 1.0, 4.0])
_LOGIT_CODECS = st.one_of(
    st.builds(DenseLogits, st.sampled_from(["fp32", "bf16", "fp16"])),
    st.builds(TopK, st.integers(1, 50), _TEMPERATURES, st.sampled_from(["fp16", "8bit"])),
    st.builds(
        lambda p, least, more, t: Vocabulary(p, least, least + more, t),
        st.floats(0.01, 1), st.integers(1, 20), st.integers(0, 30), _TEMPERATURES,
    ),
    st.builds(Sampled, st.integers(1, 70), st.sampled_from([1.0, 0.7]), _TEMPERATURES),
)  # fmt: skip
_TENSOR_CODECS = st.one_of(
    st.builds(FloatTensor, st.sampled_from(["fp32", "bf16", "fp16"])),
    st.builds(Int8Tensor, st.integers(0, 30)),
)


@given(codec=_LOGIT_CODECS, values=_logits(), key=st.integers(-(2**63), 2**63 - 1))
@settings(max_examples=400, deadline=None, derandomize=True)
def test_logits_come_back_within_the_bound(codec, values, key) -> None:
    encoded = codec.encode(values, keys_N=torch.full((len(values),), key))

    decoded = codec.decode(encoded, row_shape=tuple(values.shape[1:]))

    check_bound(codec, values, decoded)
    assert np.diff(encoded.offsets).mean() <= codec.bytes_per_row(tuple(values.shape[1:]))


def test_float16_ends_where_a_probability_is_long_zero() -> None:
    """80,000 nat apart at this temperature: kept as 65,504, not as ruled out."""
    codec, values = TopK(2, 0.5, "fp16"), torch.tensor([[-10000.0, 30000.0]])

    decoded = codec.decode(codec.encode(values, keys_N=torch.zeros(1).long()), row_shape=(2,))

    check_bound(codec, values, decoded)
    assert decoded.logprobs_NK.tolist() == [[0.0, -65504.0]]


@given(codec=_TENSOR_CODECS, values=_tensors())
@settings(max_examples=200, deadline=None, derandomize=True)
def test_tensors_come_back_within_the_bound(codec, values) -> None:
    encoded = codec.encode(values, keys_N=torch.arange(len(values)))

    decoded = codec.decode(encoded, row_shape=tuple(values.shape[1:]))

    check_bound(codec, values, decoded)
    assert len(encoded.data) == len(values) * codec.bytes_per_row(tuple(values.shape[1:]))


@pytest.mark.parametrize("shape", [(5, 1), (5, 10), (3, 2, 4)])
def test_fp32_is_exact(shape) -> None:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values.view(-1)[0] = -torch.inf if len(shape) == 2 and shape[1] > 1 else 0.0
    codec = DenseLogits() if len(shape) == 2 else FloatTensor("fp32")

    encoded = codec.encode(values, keys_N=torch.arange(len(values)))

    assert torch.equal(codec.decode(encoded, row_shape=shape[1:]), values)


# Rows with bytes that are easy to write down: a store is read by later versions on other machines.
_ROW = torch.tensor([[2.0, -1.0, -torch.inf, 0.5]])
_GOLDEN = {
    DenseLogits(): "00000040 000080bf 000080ff 0000003f",
    DenseLogits("bf16"): "0040 80bf 80ff 003f",
    FloatTensor(): "0040 00bc 0038",
    Int8Tensor(block=2): "00000040 0000003f 7fc0 7f",
    TopK(k=2): "0229 0000 00be 00 03",  # tail 0.039, 0 and -1.5 nat, classes 0 and 3
    TopK(k=2, logprobs="8bit"): "0229 ff af 00 03",
    Vocabulary(min_k=1, max_k=2): "01 0229 ffaf 16",  # low bits 0 and 1, then bits 0 and 2
    Sampled(draws=9): "c100 25",  # 6 times class 0, once 1, twice 3: bits 0, 2 and 5
}


@pytest.mark.parametrize(("codec", "expected"), _GOLDEN.items(), ids=lambda x: str(x)[:30])
def test_the_bytes_of_the_format_do_not_change(codec, expected: str) -> None:
    row = _ROW if codec.signal == "logits" else _ROW[:, [0, 1, 3]]

    encoded = codec.encode(row, keys_N=torch.tensor([7]))

    assert encoded.data.tobytes().hex() == expected.replace(" ", "")


def test_the_bytes_of_a_vocabulary_do_not_change() -> None:
    logits = 4 * torch.sin(torch.arange(3 * 151_936).float() ** 1.3).view(3, -1)
    logits[:, ::977] += 5 * torch.cos(torch.arange(3 * 156).float()).view(3, -1)

    data = Vocabulary().encode(logits, keys_N=torch.arange(3)).data

    assert (len(data), hashlib.blake2b(data, digest_size=4).hexdigest()) == (412, "66ebd9a9")


@pytest.mark.parametrize("classes", [256, 257, 65_536, 65_537, 151_936])
@pytest.mark.parametrize("codec", [TopK(k=3), Vocabulary(min_k=3, max_k=3), Sampled(draws=4)])
def test_the_first_and_the_last_class_survive(codec, classes: int) -> None:
    logits = torch.full((2, classes), -torch.inf)
    logits[:, 0], logits[:, -1] = 1.0, 1.0

    encoded = codec.encode(logits, keys_N=torch.tensor([1, 2]))
    decoded = codec.decode(encoded, row_shape=(classes,))

    kept = decoded.ids_NK[decoded.logprobs_NK.isfinite()]
    assert set(kept.tolist()) == {0, classes - 1}


@pytest.mark.parametrize("codec", [TopK(k=50), TopK(k=50, logprobs="8bit"), Vocabulary(max_k=50)])
def test_a_uniform_teacher_over_a_vocabulary_keeps_its_mass(codec) -> None:
    decoded = codec.decode(
        codec.encode(torch.zeros(2, 151_936), keys_N=torch.arange(2)), row_shape=(151_936,)
    )

    kept = decoded.logprobs_NK.double().exp().sum(-1)
    torch.testing.assert_close(kept, torch.full((2,), 50 / 151_936).double(), rtol=1e-2, atol=0)


def test_all_classes_kept_leave_no_tail() -> None:
    logits = torch.randn(6, 30, generator=torch.Generator().manual_seed(0))
    codec = TopK(k=30, temperature=2)

    decoded = codec.decode(codec.encode(logits, keys_N=torch.arange(6)), row_shape=(30,))

    dense = torch.full((6, 30), -torch.inf).scatter(1, decoded.ids_NK, decoded.logprobs_NK)
    assert (decoded.tail_N == 0).all()
    torch.testing.assert_close(dense, (logits / 2).log_softmax(-1), rtol=1e-3, atol=1e-3)
