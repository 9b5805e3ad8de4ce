"""Terms, and the objective that adds them up: `0.9 * KD(temperature=4) + 0.1 * CrossEntropy()`."""

from potstill.losses.attention import AttentionKL, AttentionMSE, AttentionTerm
from potstill.losses.batch import BatchTerm
from potstill.losses.binary import BinaryKD, BinaryProbabilityMSE
from potstill.losses.blocks import BlockTerm, HiddenStates
from potstill.losses.catalog import TERMS, create
from potstill.losses.contrastive import CRD, QueueSimilarity
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
from potstill.losses.flow import FSP
from potstill.losses.labels import BinaryCrossEntropy, CrossEntropy
from potstill.losses.layers import LayerTerm
from potstill.losses.matching import LogitMSE, ProbabilityMSE
from potstill.losses.mixed import AdaptiveKL, AlphaBeta
from potstill.losses.objective import Objective, ObjectiveValue, Weighted
from potstill.losses.regression import Follow, Huber, SquaredError
from potstill.losses.relational import (
    PKT,
    CorrelationCongruence,
    RkdAngle,
    RkdDistance,
    SimilarityPreserving,
)
from potstill.losses.relations import Relations
from potstill.losses.rows import RowTerm
from potstill.losses.sampled import MiniLLM, SampledReverseKL
from potstill.losses.skewed import SkewKL, SkewReverseKL, TotalVariation
from potstill.losses.soft import JSD, KD, WTTM, ReverseKL
from potstill.losses.srd import SRD
from potstill.losses.statistics import NST, AttentionTransfer, MapTerm
from potstill.losses.term import ArithmeticTerm, weighted
from potstill.losses.weights import WeightPenalty

__all__ = [
    "CRD",
    "DIST",
    "DKD",
    "FSP",
    "JSD",
    "KD",
    "NKD",
    "NST",
    "PKT",
    "SRD",
    "TERMS",
    "ULD",
    "WTTM",
    "AdaptiveKL",
    "AlphaBeta",
    "ArithmeticTerm",
    "AttentionKL",
    "AttentionMSE",
    "AttentionTerm",
    "AttentionTransfer",
    "BatchTerm",
    "BinaryCrossEntropy",
    "BinaryKD",
    "BinaryProbabilityMSE",
    "BlockTerm",
    "Contrastive",
    "CorrelationCongruence",
    "CrossEntropy",
    "CrossTokenizerKD",
    "Distance",
    "DivergenceTerm",
    "EmbeddingCosine",
    "EmbeddingMSE",
    "EmbeddingTerm",
    "FeatureTerm",
    "Follow",
    "HiddenStates",
    "Hint",
    "Huber",
    "LayerTerm",
    "LogitMSE",
    "MapTerm",
    "MiniLLM",
    "Objective",
    "ObjectiveValue",
    "ProbabilityMSE",
    "QueueSimilarity",
    "Relations",
    "ReverseKL",
    "RkdAngle",
    "RkdDistance",
    "RowTerm",
    "SampledReverseKL",
    "SimilarityKL",
    "SimilarityPreserving",
    "SkewKL",
    "SkewReverseKL",
    "SquaredError",
    "TotalVariation",
    "WeightPenalty",
    "Weighted",
    "create",
    "weighted",
]
