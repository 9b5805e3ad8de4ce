"""Terms, and the objective that adds them up: `0.9 * KD(temperature=4) + 0.1 * CrossEntropy()`."""

from potstill.losses.attention import AttentionKL, AttentionMSE, AttentionTerm
from potstill.losses.batch import BatchTerm
from potstill.losses.binary import BinaryKD, BinaryProbabilityMSE
from potstill.losses.blocks import BlockTerm, HiddenStates
from potstill.losses.boundaries import ActivationBoundaries
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
from potstill.losses.exits import OFA, OFAExits
from potstill.losses.factors import FactorTransfer
from potstill.losses.features import Distance, FeatureTerm, Hint
from potstill.losses.flow import FSP
from potstill.losses.hard import HardKD
from potstill.losses.labels import BinaryCrossEntropy, CrossEntropy
from potstill.losses.layers import LayerTerm
from potstill.losses.maps import CWD, MGD, PKD
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
from potstill.losses.reused import SimKD
from potstill.losses.review import Review
from potstill.losses.rows import RowTerm
from potstill.losses.sampled import MiniLLM, SampledReverseKL
from potstill.losses.several import LayersTerm
from potstill.losses.skewed import SkewKL, SkewReverseKL, TotalVariation
from potstill.losses.soft import JSD, KD, WTTM, ReverseKL
from potstill.losses.srd import SRD
from potstill.losses.statistics import NST, AttentionTransfer, MapTerm
from potstill.losses.term import ArithmeticTerm, weighted
from potstill.losses.tokens import ViTKD
from potstill.losses.variational import VID
from potstill.losses.weights import WeightPenalty

__all__ = [
    "CRD",
    "CWD",
    "DIST",
    "DKD",
    "FSP",
    "JSD",
    "KD",
    "MGD",
    "NKD",
    "NST",
    "OFA",
    "PKD",
    "PKT",
    "SRD",
    "TERMS",
    "ULD",
    "VID",
    "WTTM",
    "ActivationBoundaries",
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
    "FactorTransfer",
    "FeatureTerm",
    "Follow",
    "HardKD",
    "HiddenStates",
    "Hint",
    "Huber",
    "LayerTerm",
    "LayersTerm",
    "LogitMSE",
    "MapTerm",
    "MiniLLM",
    "OFAExits",
    "Objective",
    "ObjectiveValue",
    "ProbabilityMSE",
    "QueueSimilarity",
    "Relations",
    "ReverseKL",
    "Review",
    "RkdAngle",
    "RkdDistance",
    "RowTerm",
    "SampledReverseKL",
    "SimKD",
    "SimilarityKL",
    "SimilarityPreserving",
    "SkewKL",
    "SkewReverseKL",
    "SquaredError",
    "TotalVariation",
    "ViTKD",
    "WeightPenalty",
    "Weighted",
    "create",
    "weighted",
]
