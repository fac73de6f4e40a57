"""Networks of segmentation_models_pytorch: its decoders on its own encoders and on those of timm.

The library is imported only where such a network is asked for, because that takes seconds.

In the shapes below, B is the number of images, H and W are their height and width, and N is the number of classes.
Iakubovskii, "Segmentation Models Pytorch" (2019); Wightman, "PyTorch Image Models" (2019).
"""

import inspect
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from furnace.errors import InputError, in_short, perhaps
from furnace.network.depthwise import hasten
from furnace.network.resnet import BACKBONES, scaled

TIMM = "tu-"  # what stands before the name of an encoder that comes from timm
RATES = "decoder_atrous_rates"  # the argument of architectures that have them
GROUPED = {"FPN": 32}  # decoders whose group norms divide channels into so many groups
# The library's own encoders whose weights were trained with another mean and deviation than those of ImageNet, and the
# models of timm that were trained with the same. They are those of the library's list of its weights (its file
# encoders/_legacy_pretrained_settings.py), in which all others have ImageNet's. timm's names often look alike, but mean
# other weights: its efficientnet_b1 has another normalisation than timm-efficientnet-b1.
TRAINED_LIKE = {
    "xception": "legacy_xception.tf_in1k",
    "inceptionv4": "inception_v4.tf_in1k",
    "inceptionresnetv2": "inception_resnet_v2.tf_in1k",
    **{name: f"{name}.mx_in1k" for name in ("dpn68", "dpn68b", "dpn92", "dpn98", "dpn107", "dpn131")},
    **{f"timm-tf_efficientnet_lite{size}": f"tf_efficientnet_lite{size}.in1k" for size in range(5)},
}


class PairError(InputError):
    """A decoder and an encoder that do not go together."""


class LibraryNetwork(nn.Module):
    """A network of segmentation_models_pytorch, whose parts are called as those of this program's own network.

    Args:
        decoder: an architecture by its own name, such as `UPerNet`.
        backbone: an encoder by its own name, such as `resnet50` or `tu-convnext_tiny`.
        num_classes: N.
        width: multiplies the decoder's channel counts, where the architecture takes them as arguments.
        atrous_rates: the dilations of the three convolutions of a DeepLab's ASPP; None for the library's.

    Attributes:
        multiple: what the library wants the sides of images to be multiples of.

    Raises:
        InputError: there is no such decoder or encoder, they do not go together, the decoder has no ASPP whose rates
            could be set, or the library is not installed.
    """

    input_scale: Tensor  # (3, 1, 1), and so is the shift
    input_shift: Tensor

    def __init__(
        self,
        decoder: str,
        backbone: str,
        num_classes: int,
        width: float = 1.0,
        atrous_rates: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        model = _model(decoder, backbone, num_classes, width, atrous_rates)
        hasten(model)
        self.backbone: nn.Module = model.encoder
        self.head: nn.Module = model.decoder
        self.classifier: nn.Module = model.segmentation_head
        self.multiple: int = model.encoder.output_stride if model.requires_divisible_input_shape else 1
        scale, shift = _renormalization(backbone)
        self.register_buffer("input_scale", scale, persistent=False)
        self.register_buffer("input_shift", shift, persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Maps images (B, 3, H, W), normalised as those of ImageNet, to logits (B, N, H, W)."""
        features = self.backbone(image * self.input_scale + self.input_shift)
        # An encoder for DPT gives class and register tokens beside its features.
        feature = self.head(*features) if isinstance(features, tuple) else self.head(features)
        logits: Tensor = self.classifier(feature)
        return logits


def architectures() -> dict[str, Callable[..., Any]]:
    """Returns the library's architectures by their names."""
    with _library():
        import segmentation_models_pytorch as smp  # type: ignore[import-untyped]  # it ships no types
    return {architecture.__name__: architecture for architecture in smp.MODEL_ARCHITECTURES_MAPPING.values()}


def encoders() -> list[str]:
    """Returns the names of all encoders: the library's own, and those of timm, with and without the weights'."""
    with _library():
        import timm
        from segmentation_models_pytorch.encoders import get_encoder_names  # type: ignore[import-untyped]
    return [*get_encoder_names(), *(TIMM + name for name in (*timm.list_models(), *timm.list_pretrained()))]


@contextmanager
def _library() -> Iterator[None]:
    """A context in which the library is imported.

    Raises:
        InputError: it is not installed, or too old.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except ImportError as error:
        raise InputError(
            f"decoder: expected segmentation_models_pytorch 0.5 or newer and timm for others than published, found "
            f"{in_short(error)}; pip install -r requirements.txt"
        ) from None


def _model(decoder: str, backbone: str, num_classes: int, width: float, atrous_rates: Sequence[int] | None) -> Any:
    """Returns the library's own model, with random weights."""
    _require_names(decoder, backbone)
    architecture = architectures()[decoder]
    options = {"encoder_weights": None, "classes": num_classes, **_channels(architecture, width)}
    if atrous_rates is not None:
        _require_rates(decoder)
        options[RATES] = tuple(atrous_rates)
    if decoder == "DPT":
        options["num_classes"] = 0  # timm's classifier
    with warnings.catch_warnings():  # of names that are deprecated, and of tokens that an encoder lacks
        warnings.simplefilter("ignore")
        try:
            try:
                # Vision transformers of timm take images of one size alone, unless they are asked for more.
                flexible = {"dynamic_img_size": True} if backbone.startswith(TIMM) else {}
                return architecture(backbone, **options, **flexible)
            except TypeError:  # this encoder knows no such option
                return architecture(backbone, **options)
        except (ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
            raise PairError(f"decoder={decoder} does not take backbone={backbone} ({in_short(error)})") from error


def _require_names(decoder: str, backbone: str) -> None:
    decoders, known = architectures(), encoders()
    if decoder not in decoders:
        raise InputError(
            f"decoder: expected published or one of {', '.join(decoders)}, found {decoder!r}"
            f"{perhaps(decoder, decoders)}; set one of them"
        )
    if backbone not in known:
        plain = backbone.partition("_")[0]
        hint = f" (of decoder=published; set backbone={plain})" if backbone in BACKBONES else perhaps(backbone, known)
        raise InputError(
            f"backbone: expected an encoder of segmentation_models_pytorch for decoder={decoder}, such as resnet50, "
            f"mit_b2 or tu-convnext_tiny, found {backbone!r}{hint}; set one of them"
        )


def _require_rates(decoder: str) -> None:
    """Raises InputError if the convolutions of a decoder have no rates that could be set."""
    able = [
        name for name, architecture in architectures().items() if RATES in inspect.signature(architecture).parameters
    ]
    if decoder not in able:
        raise InputError(
            f"atrous_rates: expected a decoder with dilated convolutions (published, {', '.join(able)}), found "
            f"decoder={decoder}; leave them out"
        )


def _channels(architecture: Callable[..., Any], width: float) -> dict[str, Any]:
    """Returns the arguments that say how wide a decoder is, multiplied by `width`."""
    found: dict[str, Any] = {}
    step = GROUPED.get(architecture.__name__, 1)

    def wide(channels: int) -> int:
        return step * scaled(channels // step, width)

    for name, parameter in inspect.signature(architecture).parameters.items():
        if name.endswith("_channels") and name != "in_channels":
            default = parameter.default
            several = not isinstance(default, int)
            found[name] = tuple(map(wide, default)) if several else wide(default)
    return found


def _renormalization(backbone: str) -> tuple[Tensor, Tensor]:
    """Returns by what images are multiplied and what is added, (3, 1, 1) each, to normalise them as the encoder wants.

    They come with the mean and deviation of ImageNet, with which most encoders were trained. timm knows which of its
    own were trained with others, and `TRAINED_LIKE` which of the library's own.
    """
    with _library():
        from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
        from timm.models import get_pretrained_cfg
    name = backbone.removeprefix(TIMM) if backbone.startswith(TIMM) else TRAINED_LIKE.get(backbone)
    known = get_pretrained_cfg(name) if name else None
    came = torch.tensor((IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD), dtype=torch.float64)
    wanted = torch.tensor((known.mean, known.std), dtype=torch.float64) if known else came
    scale, shift = came[1] / wanted[1], (came[0] - wanted[0]) / wanted[1]
    return scale[:, None, None].float(), shift[:, None, None].float()
