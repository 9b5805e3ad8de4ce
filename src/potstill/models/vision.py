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
    """A model of timm; the options are those of `timm.create_model`, and `new_head`.

    Weights are random unless `pretrained` is true, which fetches them from the hub; with
    `new_head: true` their last layer may be of other classes, and starts anew. The first
    convolution follows the data; the image size too, for models that fix it.

    Raises:
        ModelError: for an unknown name or option, or an input that the model refuses.
        MissingExtra: if timm is not installed.
    """
    timm = need("timm", extra="vision")
    options = dict(config.options)
    pretrained, new_head = (
        _take_flag(options, flag, config) for flag in ("pretrained", "new_head")
    )
    channels, *size = _image(config)
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
            options.setdefault("img_size", size)
        if known is not None and pretrained and not new_head:
            _check_head(config, int(known.num_classes))
    if isinstance(asked := options.get("img_size"), list):
        options["img_size"] = tuple(asked)
    try:
        model: nn.Module = timm.create_model(
            config.name,
            pretrained=pretrained,
            num_classes=config.num_outputs,
            in_chans=channels,
            **options,
        )
    except Exception as error:
        raise _refused("timm", config, error, pretrained=pretrained) from error
    return model


def build_torchvision(config: ModelConfig) -> nn.Module:
    """A classifier of torchvision; the options are its builder's, `pretrained` and `new_head`.

    Weights are random unless `pretrained` is true, which fetches torchvision's default ones; with
    `new_head: true` their last layer may be of other classes, and starts anew. Where the images
    have not three channels, the first convolution is replaced, its weights averaged over the
    colours.

    Raises:
        ModelError: for an unknown name or option, or an input that the model refuses.
        MissingExtra: if torchvision is not installed.
    """
    models = need("torchvision.models", extra="vision")
    options = dict(config.options)
    pretrained, new_head = (
        _take_flag(options, flag, config) for flag in ("pretrained", "new_head")
    )
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
        replace_head(model, config, allowed=new_head)
    if channels != _COLOURS:
        replace_first_conv(model, channels)
    return model


def replace_head(model: nn.Module, config: ModelConfig, *, allowed: bool) -> None:
    """Put a new linear layer in the place of the last one, if the number of outputs differs.

    Raises:
        ModelError: if it differs and that is not allowed, or the last layer is not linear.
    """
    layers = [
        (name, m) for name, m in model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)
    ]
    name, last = layers[-1]
    outputs = last.out_features if isinstance(last, nn.Linear) else last.out_channels
    if outputs == config.num_outputs:
        return
    if not allowed:
        _check_head(config, outputs)
    if not isinstance(last, nn.Linear):
        raise ModelError(
            f"The last layer of `{config.name}` is not linear, so its head cannot be replaced by "
            f"one of {config.num_outputs} outputs: choose another model, or random weights."
        )
    _replace(model, name, nn.Linear(last.in_features, config.num_outputs, last.bias is not None))


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


def _take_flag(options: dict[str, Json], flag: str, config: ModelConfig) -> bool:
    value = options.pop(flag, False)
    if not isinstance(value, bool):
        raise ModelError(
            f"The option `{flag}` of `{config.name}` is {value!r}; it must be true or false."
        )
    return value


def _check_head(config: ModelConfig, outputs: int) -> None:
    if outputs != config.num_outputs:
        raise ModelError(
            f"The pretrained `{config.name}` has {outputs} outputs and {config.num_outputs} are "
            "needed: use data with the same classes, or set `new_head: true` to keep the rest and "
            "start the last layer anew."
        )


def _refused(
    library: str, config: ModelConfig, error: Exception, *, pretrained: bool
) -> ModelError:
    what = f"{library} could not build `{config.name}` with options {dict(config.options)}"
    step = "check the options and the input shape against its documentation."
    if pretrained:
        step = "with `pretrained: true` the network must be reachable or the weights cached."
    return ModelError(f"{what} for inputs {config.input_shape} ({error}): {step}")
