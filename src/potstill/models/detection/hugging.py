"""Detectors of Transformers that ask with queries: YOLOS, DETR and Conditional DETR.

B samples, Q queries, C classes, M boxes.
"""

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Final, final

import torch
from torch import Tensor, nn

from potstill.errors import ModelError, need
from potstill.models.config import ModelConfig
from potstill.models.detection.finding import Finding, listed
from potstill.models.options import nearest, refuse_unknown
from potstill.signals import Places

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

TYPES: Final = ("conditional_detr", "detr", "yolos")
_OPTIONS = ("model_type", "config", "pretrained", "keep", "threshold")
_EXCLUSIVE = frozenset({"detr", "yolos"})  # one softmax with a last column for nothing


def build_hugging(config: ModelConfig) -> nn.Module:
    """A detector of Transformers; no code of a hub is run.

    With `model_type` (and `config`, its settings) the weights are random; otherwise the name is a
    folder or, with `pretrained: true`, a hub id, and its head must have the data's classes.

    Raises:
        ModelError: a type that is not supported, settings that it refuses, no such folder.
        MissingExtra: Transformers is not installed.
    """
    refuse_unknown(config.options, _OPTIONS, model=config.name or "hf")
    transformers = need("transformers", extra="text")
    wanted = config.options.get("model_type")
    if wanted is None:
        settings, model = _read(transformers, config)
    else:
        settings = _settings(transformers, config)
        try:
            model = transformers.AutoModelForObjectDetection.from_config(settings)
            model.requires_grad_(True)  # DETR's first stages are frozen, which random ones must not
        except (ValueError, TypeError, ImportError, RuntimeError) as error:
            raise ModelError(
                f"Transformers could not build a `{wanted}` ({str(error).splitlines()[0]}); check "
                "`config:` against its documentation."
            ) from error
    keep, threshold = config.options.get("keep", 100), config.options.get("threshold", 0.05)
    finding = Finding(
        size=(config.input_shape[1], config.input_shape[2]),
        keep=int(str(keep)),
        threshold=float(str(threshold)),
        overlap=1.0,
    )
    return Queries(model, exclusive=settings.model_type in _EXCLUSIVE, finding=finding)


def _settings(transformers: ModuleType, config: ModelConfig) -> "PretrainedConfig":
    kind = config.options["model_type"]
    if kind not in TYPES:
        raise ModelError(
            f"Detectors of Transformers are of `model_type` {', '.join(TYPES)}; for `{kind}`: "
            f"{nearest(str(kind), TYPES)}"
        )
    given = config.options.get("config", {})
    if not isinstance(given, Mapping):
        raise ModelError(f"`config` of `{kind}` is {given!r}; a mapping of settings is expected.")
    extra: dict[str, object] = {"num_labels": config.num_outputs, "auxiliary_loss": False}
    if kind == "yolos":
        extra["image_size"] = list(config.input_shape[1:])
    elif "backbone_config" in given:
        extra |= {"use_timm_backbone": False, "use_pretrained_backbone": False, "backbone": None}
    try:
        return transformers.AutoConfig.for_model(str(kind), **{**extra, **given})
    except (ValueError, TypeError, KeyError) as error:
        raise ModelError(f"The settings of `{kind}` are refused ({error}).") from error


def _read(
    transformers: ModuleType, config: ModelConfig
) -> tuple["PretrainedConfig", "PreTrainedModel"]:
    fetch = config.options.get("pretrained") is True
    if not fetch and not Path(config.name).is_dir():
        raise ModelError(
            f"There is no folder `{config.name}`; give one, or `pretrained: true` for the hub, or "
            f"`model_type` ({', '.join(TYPES)}) for random weights."
        )
    try:
        settings = transformers.AutoConfig.from_pretrained(config.name, local_files_only=not fetch)
        if settings.model_type not in TYPES:
            raise ModelError(
                f"`{config.name}` is a `{settings.model_type}`, and detectors of Transformers here "
                f"are of type {', '.join(TYPES)}."
            )
        settings.num_labels, settings.auxiliary_loss = config.num_outputs, False
        model = transformers.AutoModelForObjectDetection.from_pretrained(
            config.name, config=settings, local_files_only=not fetch, ignore_mismatched_sizes=True
        )
    except (OSError, ValueError) as error:
        raise ModelError(
            f"`{config.name}` cannot be read ({str(error).splitlines()[0]})."
        ) from error
    return settings, model


@final
class Queries(nn.Module):
    """A model of Transformers as a detector; its places are its queries.

    Args:
        model: an `AutoModelForObjectDetection`.
        exclusive: whether its scores are one softmax.
        finding: how detections are chosen.
    """

    def __init__(self, model: "PreTrainedModel", *, exclusive: bool, finding: Finding) -> None:
        super().__init__()
        self.model, self.exclusive, self.finding = model, exclusive, finding
        height, width = finding.size
        self.register_buffer(
            "scale", torch.tensor([width, height] * 2, dtype=torch.float32), persistent=False
        )

    def places(self, images_BCHW: Tensor) -> Places:
        """What the queries answer; `state` holds their boxes as the losses take them."""
        said = self.model(pixel_values=images_BCHW)
        x, y, width, height = said.pred_boxes.float().unbind(-1)
        corners = torch.stack(
            [x - width / 2, y - height / 2, x + width / 2, y + height / 2], dim=-1
        )
        return Places(
            scores_BAC=said.logits,
            boxes_BA4=corners * self.get_buffer("scale"),
            reader=self,
            grid=f"{said.logits.shape[1]} queries",
            exclusive=self.exclusive,
            state={"logits": said.logits, "boxes": said.pred_boxes},
        )

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """`[B, Q, 4 + C]`: corners in pixels, and scores between 0 and 1."""
        said = self.places(images_BCHW)
        return torch.cat([said.boxes_BA4, self._scores(said)], dim=-1)

    def _scores(self, places: Places) -> Tensor:
        if self.exclusive:
            return places.scores_BAC.softmax(-1)[..., :-1]
        return places.scores_BAC.sigmoid()

    def found(self, places: Places) -> Tensor:
        """See `signals.BoxReader`; queries need no suppression."""
        return self.finding(self._scores(places), places.boxes_BA4)

    def losses(self, places: Places, labels_BM6: Tensor) -> Mapping[str, Tensor]:
        """The loss of Transformers of each picture, `[B]`, after Hungarian matching."""
        logits, boxes = places.state["logits"].float(), places.state["boxes"].float()
        totals = []
        for number, row in enumerate(labels_BM6):
            corners, classes = listed(row)
            unit = corners / self.get_buffer("scale")
            centred = torch.cat([(unit[:, :2] + unit[:, 2:]) / 2, unit[:, 2:] - unit[:, :2]], dim=1)
            one = slice(number, number + 1)
            total, *_ = self.model.loss_function(
                logits[one],
                [{"class_labels": classes, "boxes": centred}],
                logits.device,
                boxes[one],
                self.model.config,
            )
            totals.append(total)
        return {"set": torch.stack(totals)}
