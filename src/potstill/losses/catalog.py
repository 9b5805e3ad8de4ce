"""The terms that recipes may name, and the one way from a name and options to a term."""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from difflib import get_close_matches
from types import MappingProxyType

from potstill.errors import RecipeError
from potstill.losses.attention import AttentionKL, AttentionMSE
from potstill.losses.binary import BinaryKD, BinaryProbabilityMSE
from potstill.losses.blocks import HiddenStates
from potstill.losses.boundaries import ActivationBoundaries
from potstill.losses.contrastive import CRD, QueueSimilarity
from potstill.losses.correlation import DIST
from potstill.losses.cross import ULD, CrossTokenizerKD
from potstill.losses.decoupled import DKD, NKD
from potstill.losses.embedding import Contrastive, EmbeddingCosine, EmbeddingMSE, SimilarityKL
from potstill.losses.exits import OFA, OFAExits
from potstill.losses.factors import FactorTransfer
from potstill.losses.features import Hint
from potstill.losses.flow import FSP
from potstill.losses.hard import HardKD
from potstill.losses.labels import BinaryCrossEntropy, CrossEntropy
from potstill.losses.maps import CWD, MGD, PKD
from potstill.losses.matching import LogitMSE, ProbabilityMSE
from potstill.losses.mixed import AdaptiveKL, AlphaBeta
from potstill.losses.regression import Huber, SquaredError
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
from potstill.losses.sampled import MiniLLM, SampledReverseKL
from potstill.losses.skewed import SkewKL, SkewReverseKL, TotalVariation
from potstill.losses.soft import JSD, KD, WTTM, ReverseKL
from potstill.losses.srd import SRD
from potstill.losses.statistics import NST, AttentionTransfer
from potstill.losses.term import ArithmeticTerm
from potstill.losses.tokens import ViTKD
from potstill.losses.variational import VID
from potstill.losses.weights import WeightPenalty

TERMS: Mapping[str, type[ArithmeticTerm]] = MappingProxyType(
    {
        "cross_entropy": CrossEntropy,
        "kd": KD,
        "probability_mse": ProbabilityMSE,
        "logit_mse": LogitMSE,
        "dkd": DKD,
        "nkd": NKD,
        "wttm": WTTM,
        "jsd": JSD,
        "reverse_kl": ReverseKL,
        "skew_kl": SkewKL,
        "skew_reverse_kl": SkewReverseKL,
        "total_variation": TotalVariation,
        "alpha_beta": AlphaBeta,
        "adaptive_kl": AdaptiveKL,
        "cross_tokenizer_kd": CrossTokenizerKD,
        "uld": ULD,
        "sampled_reverse_kl": SampledReverseKL,
        "mini_llm": MiniLLM,
        "dist": DIST,
        "binary_cross_entropy": BinaryCrossEntropy,
        "binary_kd": BinaryKD,
        "binary_probability_mse": BinaryProbabilityMSE,
        "squared_error": SquaredError,
        "huber": Huber,
        "hint": Hint,
        "vid": VID,
        "factor_transfer": FactorTransfer,
        "activation_boundaries": ActivationBoundaries,
        "review": Review,
        "simkd": SimKD,
        "pkd": PKD,
        "cwd": CWD,
        "mgd": MGD,
        "vitkd": ViTKD,
        "hard_kd": HardKD,
        "ofa": OFA,
        "ofa_exits": OFAExits,
        "attention_transfer": AttentionTransfer,
        "fsp": FSP,
        "nst": NST,
        "similarity_preserving": SimilarityPreserving,
        "correlation_congruence": CorrelationCongruence,
        "rkd_distance": RkdDistance,
        "rkd_angle": RkdAngle,
        "pkt": PKT,
        "crd": CRD,
        "queue_similarity": QueueSimilarity,
        "srd": SRD,
        "hidden_states": HiddenStates,
        "attention_kl": AttentionKL,
        "attention_mse": AttentionMSE,
        "relations": Relations,
        "embedding_cosine": EmbeddingCosine,
        "embedding_mse": EmbeddingMSE,
        "similarity_kl": SimilarityKL,
        "contrastive": Contrastive,
        "weight_penalty": WeightPenalty,
    }
)


def options(name: str) -> Mapping[str, object]:
    """The options of a term and their defaults; `None` for those that must be given.

    Raises:
        RecipeError: there is no such term.
    """
    return {
        option.name: None if option.default is MISSING else option.default
        for option in fields(_term_class(name))
        if option.init
    }


def create(name: str, options: Mapping[str, object]) -> ArithmeticTerm:
    """The term of that name with these options.

    Equivalent to `TERMS[name](**options)`, with a sentence for each mistake.

    Args:
        name: in snake case, for example "kd".
        options: as in the term's docstring; what is left out keeps its default.

    Raises:
        RecipeError: no such term, no such option, an option missing, or a value that cannot teach.
    """
    term_class = _term_class(name)
    known = [option for option in fields(term_class) if option.init]
    names = [option.name for option in known]
    for given in options:
        if given not in names:
            listed = f"its options: {', '.join(names)}" if names else "it has none"
            raise RecipeError(
                f"`{name}` has no option `{given}`;{_nearest(given, names)} {listed}."
            )
    missing = [o.name for o in known if o.default is MISSING and o.name not in options]
    if missing:
        raise RecipeError(f"`{name}` needs {' and '.join(f'`{m}`' for m in missing)}; add it.")
    return term_class(**options)


def _term_class(name: str) -> type[ArithmeticTerm]:
    if name not in TERMS:
        listed = ", ".join(TERMS)
        raise RecipeError(
            f"There is no term `{name}`;{_nearest(name, list(TERMS))} known: {listed}."
        )
    return TERMS[name]


def _nearest(given: str, known: list[str]) -> str:
    close = get_close_matches(given, known, n=1)
    return f" did you mean `{close[0]}`?" if close else ""
