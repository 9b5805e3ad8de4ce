"""How models of Transformers answer: about images, about texts, about every token of a text.

Shapes: B samples, P planes, L positions, D features of a position, C labels.
"""

from collections.abc import Mapping
from typing import Any, cast, final

import torch
from torch import Tensor, nn

from potstill.errors import ModelError
from potstill.models.config import Json
from potstill.models.text import TextModel
from potstill.signals import Batch


class Described(nn.Module):
    """A wrapper that says what it takes to build its model again."""

    model: nn.Module

    def settings(self) -> Mapping[str, Json]:
        """What of the Transformers config differs from the defaults of its type."""
        return cast("Any", self.model).config.to_diff_dict()  # type: ignore[no-any-return]


class Encoder(Described, TextModel):
    """A text model of Transformers: planes of tokens by their names."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def answer(self, ids_BL: Tensor, mask_BL: Tensor, types_BL: Tensor | None = None) -> Tensor:
        """As in `TextModel`: the model's logits."""
        return torch.as_tensor(self.model(**self.told(ids_BL, mask_BL, types_BL)).logits)

    def sized(self, name: str) -> int:
        """A number in the model's config, such as `hidden_size`."""
        return int(getattr(cast("Any", self.model).config, name))

    def told(
        self, ids_BL: Tensor, mask_BL: Tensor, types_BL: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The planes by the names of Transformers; models without token types are given none."""
        told = {"input_ids": ids_BL, "attention_mask": mask_BL}
        if types_BL is not None and getattr(self.model.config, "type_vocab_size", 0) > 1:
            told["token_type_ids"] = types_BL
        return told


@final
class HuggingFaceTextClassifier(Encoder):
    """Planes of tokens to `[B, C]`: `model(input_ids, attention_mask, …).logits`."""


@final
class HuggingFaceTagger(Encoder):
    """Planes of tokens to `[B, L, C]`, and a model of tokens (`protocols.TokenModel`).

    Args:
        model: for token classification, with a linear layer `classifier` at its end.

    Raises:
        ModelError: its last layer is something else.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        if not isinstance(getattr(model, "classifier", None), nn.Linear):
            raise ModelError(
                f"{type(model).__name__} has no linear layer `classifier` at its end, which "
                "tagging needs; choose another type, such as bert or distilbert."
            )

    @property
    def head(self) -> nn.Linear:
        """From states to logits."""
        return cast("nn.Linear", self.model.classifier)

    def states(self, batch: Batch) -> Tensor:
        """`[B, L, D]`: what goes into the head, with the model's dropout."""
        seen: list[Tensor] = []
        handle = self.head.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        try:
            self(batch.inputs)
        finally:
            handle.remove()
        return seen[0]


@final
class HuggingFaceClassifier(Described):
    """`[B, C, H, W]` to `[B, num_labels]`: `model(pixel_values=x).logits`."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """The logits of a Transformers classifier."""
        return torch.as_tensor(self.model(pixel_values=x_BCHW).logits)
