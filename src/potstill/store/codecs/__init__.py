"""Codecs: how rows of logits, features and embeddings become bytes. The catalogue is by name."""

from potstill.store.codecs.catalog import codec_names, make_codec, register
from potstill.store.codecs.floats import DenseLogits, FloatTensor
from potstill.store.codecs.int8 import Int8Tensor
from potstill.store.codecs.sampled import Sampled
from potstill.store.codecs.top import TopK
from potstill.store.codecs.vocabulary import Vocabulary

__all__ = [
    "DenseLogits",
    "FloatTensor",
    "Int8Tensor",
    "Sampled",
    "TopK",
    "Vocabulary",
    "codec_names",
    "make_codec",
    "register",
]
