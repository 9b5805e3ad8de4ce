"""How models learn: settings, augmentation, objectives, and what students learn on."""

from typing import Literal

from pydantic import Field

from potstill.recipe.forms import Open, Strict


class StepSpec(Open):
    """One operation of an augmentation; further keys are its options."""

    op: str = Field(description="Which operation.")


class MixSpec(Strict):
    """Mixing of samples, seen alike by teacher and student."""

    kind: Literal["mixup", "cutmix"] = Field(
        "mixup", description="Blend two images, or paste a part of one into the other."
    )
    alpha: float = Field(
        1.0,
        gt=0,
        description="Both parameters of the Beta distribution that shares are drawn from.",
    )
    probability: float = Field(1.0, ge=0, le=1, description="That a batch is mixed.")


class TrainSpec(Strict):
    """How a model is trained. The same fields and defaults as `potstill.TrainSettings`."""

    epochs: int = Field(20, ge=1, description="Passes over the training data.")
    batch_size: int = Field(128, ge=1, description="Rows of an optimiser step, over all processes.")
    accumulate: int = Field(
        1, ge=1, description="Parts that a batch is computed in: less memory, same gradient."
    )
    optimizer: Literal["adamw", "adam", "sgd"] = Field(
        "adamw", description="sgd has Nesterov momentum."
    )
    lr: float = Field(1e-3, gt=0, description="Peak learning rate.")
    weight_decay: float = Field(0.0, ge=0, description="Of the optimiser, on every parameter.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Of sgd.")
    max_norm: float | None = Field(None, gt=0, description="Upper bound of each unit's weights.")
    schedule: Literal["cosine", "constant", "step"] = Field(
        "cosine",
        description="Of the rate after warm-up: cosine to zero; step: times 0.1 at each milestone.",
    )
    warmup: float = Field(
        0.0, ge=0, lt=1, description="Share of all steps in which the rate rises from zero."
    )
    milestones: tuple[float, ...] = Field(
        (0.625, 0.75, 0.875), description="Of step: shares of all steps."
    )
    eps: float = Field(1e-8, gt=0, description="Of Adam: larger damps weights rarely in use.")
    clip_norm: float | None = Field(
        None, gt=0, description="Gradients are scaled to at most this norm."
    )
    ema: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Decay of an average of the weights, which is then the result (0.999).",
    )
    patience: int | None = Field(
        None, ge=1, description="Stop after so many epochs without a better validation."
    )
    select: Literal["best", "last"] = Field(
        "best",
        description="Whose weights are the result: the best epoch's by validation, or the last.",
    )
    validate_every: int = Field(1, ge=1, description="Epochs from one validation to the next.")
    checkpoint_seconds: float = Field(
        30.0, ge=0, description="The state is saved at least this often."
    )


class LearnSpec(TrainSpec):
    """Training settings and what is done to the inputs meanwhile."""

    augment: tuple[StepSpec, ...] = Field(
        (), description="Operations on inputs, in order, alike for teacher and student."
    )
    mix: MixSpec | None = Field(None, description="Mixing of samples.")


class TermSpec(Open):
    """One term of the objective; further keys are its options (temperature, layers, …)."""

    term: str = Field(description="Its name in the catalogue of losses.")
    weight: float | dict[str, float | str] = Field(
        1.0,
        description="A number, or one that moves: {from: 1, to: 0, shape: linear or cosine, begin: "
        "0, until: 1}, shares of the run. So may other numbers among its options.",
    )


class ReplaySpec(Strict):
    """What a student wrote is learnt from again. The fields of `potstill.train.Replay`."""

    capacity: int = Field(1000, ge=1, description="Samples kept.")
    rise: float = Field(0.1, ge=0, le=1, description="Of the fraction, when validation gets worse.")
    tolerance: float = Field(0.1, ge=0, description="In nats a token, until it counts as worse.")


class OnPolicySpec(Strict):
    """A share of every batch that the student writes itself. See `potstill.train.OnPolicy`."""

    fraction: float = Field(0.5, ge=0, le=1, description="Of the samples of every batch.")
    after: float = Field(0.0, ge=0, le=1, description="Share of all steps before it begins.")
    max_new_tokens: int = Field(128, ge=1, description="Length of what is written, at most.")
    temperature: float = Field(1.0, ge=0, description="0 takes the most probable token.")
    top_p: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Draw from the most probable tokens that together have this probability.",
    )
    top_k: int | None = Field(None, ge=1, description="Draw from the so many most probable tokens.")
    prompt_tokens: int | None = Field(
        None, ge=1, description="Of plain texts, how many first tokens are the prompt; 1 if empty."
    )
    replay: ReplaySpec | None = Field(None, description="Learn again from what was written before.")
    engine: Literal["transformers", "vllm"] = Field(
        "transformers", description="Who writes; vllm where it is installed."
    )


class SequencesSpec(Strict):
    """Sequence-level distillation: students learn on texts that the teacher wrote."""

    beams: int = Field(4, ge=1, description="Of the teacher's search.")
    keep: Literal["likeliest", "nearest"] = Field(
        "likeliest", description="nearest: of all beams the one nearest to the data's text."
    )
    share: float = Field(1.0, gt=0, le=1, description="Of the training texts.")
    max_wer: float | None = Field(
        None,
        ge=0,
        description="Of asr: leave out samples whose text by the teacher has a higher word error "
        "rate.",
    )


class CurriculumSpec(Strict):
    """Easy samples first, by the teacher's confidence. The fields of `potstill.data.Curriculum`."""

    how: Literal["pick", "weigh"] = Field(
        "pick", description="Leave out what is too hard yet, or let it count less."
    )
    start: float = Field(0.3, gt=0, le=1, description="Share of the samples in the first epoch.")
    until: float = Field(0.5, gt=0, le=1, description="Share of the epochs until all are in.")
    floor: float = Field(0.1, ge=0, le=1, description="Of weigh: what a hard sample counts.")


class DataFreeSpec(Strict):
    """Images made from the teacher alone. The fields of `potstill.synthesis.DataFree`."""

    method: Literal["generator", "inversion"] = Field(
        "generator", description="A network that makes images is trained, or their pixels are."
    )
    images: int = Field(20_000, ge=1, description="How many are made.")
    chunks: int = Field(4, ge=1, description="In how many parts; a stopped run goes on after one.")
    steps: int = Field(300, ge=1, description="For each generator, or each batch of pixels.")
    batch_size: int = Field(128, ge=1, description="Images made at a time.")
    lr: float = Field(4e-3, gt=0, description="Of Adam; 0.1 suits pixels.")
    statistics: float = Field(1.0, ge=0, description="Weight of the batch norms' statistics.")
    smooth: float = Field(0.01, ge=0, description="Weight of total variation, of pixels.")
    seed: int = Field(0, description="Of the draws.")


class DistillSpec(LearnSpec):
    """How the student learns. Scratch learns alike, on labels alone."""

    on_policy: OnPolicySpec | None = Field(None, description="Of language models.")
    reduction: Literal["token", "sequence"] = Field(
        "token",
        description="Of language models: losses are means over all tokens, or every text counts "
        "alike. For all that the run trains.",
    )

    objective: tuple[TermSpec, ...] = Field(
        (
            TermSpec(term="kd", weight=0.9, temperature=4.0),
            TermSpec(term="cross_entropy", weight=0.1),
        ),
        description="Terms that are added up.",
    )
    sequences: SequencesSpec | None = Field(
        None, description="Of seq2seq, and of asr by tokens: learn on what the teacher writes."
    )
    curriculum: CurriculumSpec | None = Field(
        None, description="Of the distilled students: easy samples first."
    )
    data_free: DataFreeSpec | None = Field(
        None, description="Learn on images made from the teacher, and on no others."
    )
    correct_bias: Literal["propose", "auto", "off"] = Field(
        "propose",
        description="Where students see classes less often than the teacher knows them: propose a "
        "correction of their output biases; auto: and ship it.",
    )
