"""The conditions that a recipe puts its data under."""

from potstill.data import Conditions, LabelNoise, LongTail, NoiseKind, Of, Samples, Transfer, load
from potstill.errors import RecipeError
from potstill.recipe import DataSpec, TransferSpec


def conditions_of(spec: DataSpec, *, trust: bool = False) -> Conditions:
    """What `data` of a recipe says beyond its source."""
    tail, noise = spec.long_tail, spec.label_noise
    return Conditions(
        long_tail=None if tail is None else LongTail(ratio=tail.ratio, of=Of(tail.of)),
        label_noise=None
        if noise is None
        else LabelNoise(share=noise.share, kind=NoiseKind(noise.kind), of=Of(noise.of)),
        omit=spec.omit,
        transfer=None if spec.transfer is None else _transfer(spec.transfer, trust=trust),
        seed=spec.seed,
    )


def _transfer(spec: TransferSpec, *, trust: bool) -> Transfer:
    if spec.source is None:
        if spec.options or spec.limit is not None:
            given = ", ".join([*spec.options, *(["limit"] if spec.limit is not None else [])])
            raise RecipeError(f"`data.transfer` has {given} and no `source`; name the source.")
        return Transfer(weight=spec.weight, only=spec.only)
    found = load(spec.source, spec.options, trust=trust, limit=spec.limit)
    samples: Samples = found.train.concat(found.validation)
    return Transfer(samples=samples, weight=spec.weight, only=spec.only, name=found.name)
