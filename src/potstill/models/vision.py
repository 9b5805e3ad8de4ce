"""Models of timm and torchvision by name, fitted to the data's channels, size and classes."""

import copy
from collections.abc import Mapping

from torch import nn

from potstill.errors import ModelError, need
from potstill.models.config import Json, ModelConfig
from potstill.models.options import nearest

_HUB = ("hf-hub:", "hf_hub:")
_COLOURS = 3

# These answer with a tuple while training unless told otherwise.
_TORCHVISION: Mapping[str, Mapping[str, bool]] = {
    "googlenet": {"aux_logits": False, "init_weights": True},
    "inception_v3": {"aux_logits": False, "init_weights": True},
}


def timm_names() -> tuple[str, ...]:
    """All models of the installed timm."""
    return tuple(need("timm", extra="vision").list_models())


def torchvision_names() -> tuple[str, ...]:
    """All classifiers of the installed torchvision."""
    models = need("torchvision.models", extra="vision")
    return tuple(models.list_models(module=models))


def build_timm(config: ModelConfig) -> nn.Module:
    """A model of timm; the options are those of `timm.create_model`, `pretrained` among them.

    Weights are random unless `pretrained` is true, which fetches them from the hub. The first
    convolution and the head follow the data; the image size too, for models that fix it.

    Raises:
        ModelError: for an unknown name or option, or an input that the model refuses.
        MissingExtra: if timm is not installed.
    """
    timm = need("timm", extra="vision")
    options = dict(config.options)
    pretrained = _take_pretrained(options, model=config.name)
    if config.name.startswith(_HUB):
        if not pretrained:
            raise ModelError(
                f"`{config.name}` is on the hub, and nothing is fetched without being asked for: "
                "set `pretrained: true`."
            )
    elif not timm.is_model(config.name):
        close = nearest(config.name, timm.list_models())
        raise ModelError(f"timm {timm.__version__} has no model `{config.name}`: {close}")
    else:
        known = timm.get_pretrained_cfg(config.name)
        if known is not None and known.fixed_input_size:
            options.setdefault("img_size", list(_image(config)[1:]))
    if isinstance(size := options.get("img_size"), list):
        options["img_size"] = tuple(size)
    try:
        model: nn.Module = timm.create_model(
            config.name,
            pretrained=pretrained,
            num_classes=config.num_outputs,
            in_chans=_image(config)[0],
            **options,
        )
    except Exception as error:
        raise _refused("timm", config, error, pretrained=pretrained) from error
    return model


def build_torchvision(config: ModelConfig) -> nn.Module:
    """A classifier of torchvision; the options are its builder's, and `pretrained`.

    Weights are random unless `pretrained` is true, which fetches torchvision's default ones and
    gives them a new head. Where the images have not three channels, the first convolution is
    replaced, its weights averaged over the colours.

    Raises:
        ModelError: for an unknown name or option, or an input that the model refuses.
        MissingExtra: if torchvision is not installed.
    """
    models = need("torchvision.models", extra="vision")
    options = dict(config.options)
    pretrained = _take_pretrained(options, model=config.name)
    names = torchvision_names()
    if config.name not in names:
        raise ModelError(f"torchvision has no model `{config.name}`: {nearest(config.name, names)}")
    channels, height, width = _image(config)
    if config.name.startswith("vit_"):
        options.setdefault("image_size", _square(config.name, height, width))
    options = {**_TORCHVISION.get(config.name, {}), **options}
    if pretrained:
        options["weights"] = "DEFAULT"
    else:
        options["num_classes"] = config.num_outputs
    try:
        model: nn.Module = models.get_model(config.name, **options)
    except Exception as error:
        raise _refused("torchvision", config, error, pretrained=pretrained) from error
    if pretrained:
        replace_head(model, config.num_outputs)
    if channels != _COLOURS:
        replace_first_conv(model, channels)
    return model


def replace_head(model: nn.Module, num_outputs: int) -> None:
    """Put a new linear layer of `num_outputs` in the place of the last one, if they differ.

    Raises:
        ModelError: if the model's last layer with weights is not linear.
    """
    layers = [
        (name, m) for name, m in model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)
    ]
    name, last = layers[-1]
    if not isinstance(last, nn.Linear):
        raise ModelError(
            f"The last layer of this {type(model).__name__} is not linear, so its head cannot be "
            f"replaced by one of {num_outputs} outputs: choose another model, or random weights."
        )
    if last.out_features != num_outputs:
        new = nn.Linear(last.in_features, num_outputs, bias=last.bias is not None)
        _replace(model, name, new)


def replace_first_conv(model: nn.Module, channels: int) -> None:
    """Make the first convolution of colour images take `channels` channels.

    Each new channel gets the mean of the three colours' weights times 3 / channels, so that a
    grey image is answered as its copy in three colours was.
    """
    convs = [(name, m) for name, m in model.named_modules() if isinstance(m, nn.Conv2d)]
    name, conv = next(((n, m) for n, m in convs if m.in_channels == _COLOURS), ("", None))
    if conv is None:
        raise ModelError(
            f"This {type(model).__name__} has no convolution over {_COLOURS} channels to replace "
            f"by one over {channels}: give images of {_COLOURS} channels, or choose another model."
        )
    new = copy.deepcopy(conv)
    new.in_channels = channels
    mean = conv.weight.detach().mean(dim=1, keepdim=True) * (_COLOURS / channels)
    new.weight = nn.Parameter(mean.repeat(1, channels, 1, 1))
    _replace(model, name, new)


def _replace(model: nn.Module, name: str, new: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, new)


def _image(config: ModelConfig) -> tuple[int, int, int]:
    match config.input_shape:
        case (channels, height, width):
            return channels, height, width
    raise ModelError(
        f"`{config.name}` of {config.source} takes images (channels, height, width), and the "
        f"input shape is {config.input_shape}: use the builtin `mlp` or `cnn`."
    )


def _square(name: str, height: int, width: int) -> int:
    if height != width:
        raise ModelError(
            f"`{name}` of torchvision takes square images and these have {height}x{width} pixels: "
            "cut or resize them, or use a model of timm."
        )
    return height


def _take_pretrained(options: dict[str, Json], *, model: str) -> bool:
    pretrained = options.pop("pretrained", False)
    if not isinstance(pretrained, bool):
        raise ModelError(
            f"The option `pretrained` of `{model}` is {pretrained!r}; it must be true or false."
        )
    return pretrained


def _refused(
    library: str, config: ModelConfig, error: Exception, *, pretrained: bool
) -> ModelError:
    what = f"{library} could not build `{config.name}` with options {dict(config.options)}"
    step = "check the options and the input shape against its documentation."
    if pretrained:
        step = "with `pretrained: true` the network must be reachable or the weights cached."
    return ModelError(f"{what} for inputs {config.input_shape} ({error}): {step}")
