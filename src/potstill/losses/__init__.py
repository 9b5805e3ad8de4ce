"""Terms, and the objective that adds them up: `0.9 * KD(temperature=4) + 0.1 * CrossEntropy()`."""

from potstill.losses.attention import AttentionKL, AttentionMSE, AttentionTerm
from potstill.losses.binary import BinaryKD, BinaryProbabilityMSE
from potstill.losses.blocks import BlockTerm, HiddenStates
from potstill.losses.catalog import TERMS, create
from potstill.losses.correlation import DIST
from potstill.losses.cross import ULD, CrossTokenizerKD
from potstill.losses.decoupled import DKD, NKD
from potstill.losses.divergence import DivergenceTerm
from potstill.losses.embedding import (
    Contrastive,
    EmbeddingCosine,
    EmbeddingMSE,
    EmbeddingTerm,
    SimilarityKL,
)
from potstill.losses.features import Distance, FeatureTerm, Hint
from potstill.losses.labels import BinaryCrossEntropy, CrossEntropy
from potstill.losses.matching import LogitMSE, ProbabilityMSE
from potstill.losses.mixed import AdaptiveKL, AlphaBeta
from potstill.losses.objective import Objective, ObjectiveValue, Weighted
from potstill.losses.regression import Follow, Huber, SquaredError
from potstill.losses.relations import Relations
from potstill.losses.rows import RowTerm
from potstill.losses.sampled import MiniLLM, SampledReverseKL
from potstill.losses.skewed import SkewKL, SkewReverseKL, TotalVariation
from potstill.losses.soft import JSD, KD, WTTM, ReverseKL
from potstill.losses.term import ArithmeticTerm, weighted
from potstill.losses.transcripts import CTC, FrameKD
from potstill.losses.weights import WeightPenalty

__all__ = [
    "CTC",
    "DIST",
    "DKD",
    "JSD",
    "KD",
    "NKD",
    "TERMS",
    "ULD",
    "WTTM",
    "AdaptiveKL",
    "AlphaBeta",
    "ArithmeticTerm",
    "AttentionKL",
    "AttentionMSE",
    "AttentionTerm",
    "BinaryCrossEntropy",
    "BinaryKD",
    "BinaryProbabilityMSE",
    "BlockTerm",
    "Contrastive",
    "CrossEntropy",
    "CrossTokenizerKD",
    "Distance",
    "DivergenceTerm",
    "EmbeddingCosine",
    "EmbeddingMSE",
    "EmbeddingTerm",
    "FeatureTerm",
    "Follow",
    "FrameKD",
    "HiddenStates",
    "Hint",
    "Huber",
    "LogitMSE",
    "MiniLLM",
    "Objective",
    "ObjectiveValue",
    "ProbabilityMSE",
    "Relations",
    "ReverseKL",
    "RowTerm",
    "SampledReverseKL",
    "SimilarityKL",
    "SkewKL",
    "SkewReverseKL",
    "SquaredError",
    "TotalVariation",
    "WeightPenalty",
    "Weighted",
    "create",
    "weighted",
]
