"""timm's networks: convolutional ones by their maps at stride 16 and 32, transformers by their patch tokens."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import PipelineError
from pipeline.network.backbones.body import Body

PREFIX = "timm/"  # before the name of one of timm's models
STRIDES = (16, 32)  # of the maps of a network that shrinks them step by step
ANY_SIZE: tuple[dict[str, Any], ...] = (
    {"dynamic_img_size": True},
    {"strict_img_size": False},
    {},
)  # what lets a family take images of any size
SHOWN = 5  # names that resemble an unknown one


class MapLayers(nn.Module):
    """A network that shrinks its maps step by step: the last map at stride 16, and what its classifier would pool."""

    def __init__(self, network: Any):
        super().__init__()
        self.network = network
        reductions = [stage["reduction"] for stage in network.feature_info]
        self.shallow_stage = max(at for at, reduction in enumerate(reductions) if reduction == STRIDES[0])
        self.channels_last = getattr(network, "output_fmt", "NCHW") == "NHWC"

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) normalised pixels  ->  both maps by name."""
        deep, (shallow,) = self.network.forward_intermediates(x, indices=[self.shallow_stage])
        norm = getattr(getattr(self.network, "head", None), "norm", None)  # ConvNeXt's, of every cell
        deep = deep.permute(0, 3, 1, 2) if self.channels_last else deep
        return {"shallow": shallow, "deep": deep if norm is None else norm(deep)}

    def shallow(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) normalised pixels  ->  only the shallow map."""
        found = self.network.forward_intermediates(
            x, indices=[self.shallow_stage], stop_early=True, intermediates_only=True
        )
        return found[0]


class TokenLayers(nn.Module):
    """A transformer of one stride: the patch tokens of its middle block and of its last one, as maps.

    Both are normalised by the network's last LayerNorm, as DINOv2 gives intermediate layers. class_token: whether its
    class token stands beside every patch of the deep map, as further channels: pooled, it is the token itself.
    """

    def __init__(self, network: Any, class_token: bool = False):
        super().__init__()
        self.network, self.class_token = network, class_token
        self.patch_px = network.feature_info[-1]["reduction"]
        self.middle_block = (len(network.feature_info) - 1) // 2
        if class_token and getattr(network, "cls_token", None) is None:
            raise PipelineError(
                "this network has no class token", "models.<name>.class_token", "set it to false, or leave it out"
            )

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) normalised pixels, sides multiples of the patch  ->  both maps by name."""
        tokens, (shallow,) = self.network.forward_intermediates(x, indices=[self.middle_block], norm=True)
        norm = getattr(self.network, "fc_norm", None)  # in place of the last one, in some
        tokens = tokens if norm is None else norm(tokens)
        height, width = (side // self.patch_px for side in x.shape[-2:])
        patches = tokens[:, -height * width :]  # class and register tokens stand before them
        if self.class_token:
            patches = torch.cat([patches, tokens[:, :1].expand_as(patches)], 2)
        return {"shallow": shallow, "deep": patches.transpose(1, 2).unflatten(2, (height, width))}

    def shallow(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) normalised pixels  ->  only the shallow map."""
        found = self.network.forward_intermediates(
            x, indices=[self.middle_block], norm=True, stop_early=True, intermediates_only=True
        )
        return found[0]


def build_timm(name: str, class_token: bool = False, **options: Any) -> Body:
    """The network of a name such as timm/convnext_tiny, with random weights.

    options: of its architecture, as timm.create_model takes them. Raises PipelineError: an unknown name, a network
    without maps at stride 16 and 32 or patches of one size, a class token of one that has none.
    """
    network = _create(name, **options)
    settings = network.pretrained_cfg
    mean, std = (tuple(255.0 * value for value in settings[key]) for key in ("mean", "std"))
    reductions = sorted({stage["reduction"] for stage in getattr(network, "feature_info", [])})
    if len(reductions) == 1 and hasattr(network, "forward_intermediates"):
        patch_px, strides = reductions[0], dict.fromkeys(("shallow", "deep"), reductions[0])
        tokens = TokenLayers(network, class_token)
        return Body(tokens, network, strides, mean, std, settings["interpolation"], patch_px)
    if tuple(reductions[-2:]) != STRIDES or not hasattr(network, "forward_intermediates"):
        raise PipelineError(
            f"{name} has no maps at strides 16 and 32, nor patches of one size", "backbone", "take another network"
        )
    if class_token:
        raise PipelineError(f"{name} has no class token", "models.<name>.class_token", "leave it out")
    return Body(MapLayers(network), network, dict(zip(("shallow", "deep"), STRIDES, strict=True)), mean, std)


def download_timm(name: str) -> Mapping[str, Tensor]:
    """The published weights of a network, from the hub that timm names. Raises PipelineError where there are none."""
    try:
        return _create(name, pretrained=True).state_dict()
    except PipelineError:
        raise
    except Exception as error:  # the hub's client raises classes of its own
        where = _create(name).pretrained_cfg
        address = where.get("url") or f"https://huggingface.co/{where.get('hf_hub_id')}"
        raise PipelineError(
            f"the weights of {name} could not be downloaded: {error}", address,
            "fetch them elsewhere and set weights to the file or folder",
        ) from error  # fmt: skip


def translate_timm(state: Mapping[str, Tensor], network: nn.Module) -> Mapping[str, Tensor]:
    """Published weights as timm's own loading would rename and resize them for this network."""
    translate = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    try:
        return state if translate is None else translate(dict(state), network)
    except (LookupError, AttributeError, ValueError, RuntimeError):  # weights of something else, which load refuses
        return state


def number_blocks(network: Any) -> dict[str, int]:
    """The number of the block that each parameter belongs to, from the input on, by its name."""
    from timm.models import group_parameters

    return group_parameters(network, network.group_matcher(coarse=False), reverse=True)


def _create(name: str, **options: Any) -> Any:
    """timm's model without what comes after its maps or tokens."""
    import timm

    bare = name.removeprefix(PREFIX)
    if not timm.is_model(bare):
        known = timm.list_models() + timm.list_pretrained()
        near = difflib.get_close_matches(bare, known, SHOWN, cutoff=0.5)
        hint = f"similar: {', '.join(PREFIX + one for one in near)}" if near else "timm.list_models() gives all names"
        raise PipelineError(f"timm has no model {bare!r}", "backbone", hint)
    for any_size in ANY_SIZE:
        try:
            network: Any = timm.create_model(bare, num_classes=0, **any_size, **options)
            break
        except TypeError as error:  # an option that this family does not take
            refused = error
    else:
        raise refused
    if type(network).__name__ == "MobileNetV3":  # pools before its last layers: no map reaches them
        network.conv_head = network.norm_head = nn.Identity()
    if getattr(network, "attn_pool", None) is not None:
        network.attn_pool = None  # pools the tokens of some for their classifier
    return network
