"""The names of weights in checkpoints of the field, and the prefixes that training code puts before them.

prefix of any length         backbone.conv1.weight, encoder.conv1.weight: one prefix before all names is removed
CVNet, DELG in PyTorch       pycls's ResNets, as encoder_q.s3.b2.f.a.weight or globalmodel.…; their input is BGR
Landmark Retrieval 2019      the winners' ResNets and SE-ResNeXts, whose children are numbered: backbone.4.0.conv1
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from torch import Tensor

Names = Callable[[str], str]
_PYCLS_LAYERS = {"f.a": "conv1", "f.a_bn": "bn1", "f.b": "conv2", "f.b_bn": "bn2", "f.c": "conv3", "f.c_bn": "bn3"}
_PYCLS_LAYERS |= {"proj": "downsample.0", "bn": "downsample.1"}
_PYCLS_STEM = {"stem.conv": "conv1", "stem.bn": "bn1"}
_SENET_CHILDREN = {str(at): f"layer{at}" for at in range(5)}
_RESNET_CHILDREN = {"0": "conv1", "1": "bn1"} | {str(at + 3): f"layer{at}" for at in range(1, 5)}


def translate_names(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The tensors by the names that a network wants, where they are known under others; else as they are.

    wanted: the network's own tensors by name.
    """
    for translate in (_remove_prefix, _from_pycls, _from_numbered_children):
        found = translate(state, wanted)
        if found is not None:
            return found
    return state


def _remove_prefix(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> Mapping[str, Tensor] | None:
    first = next(iter(wanted))
    for prefix in sorted(name[: -len(first)] for name in state if name == first or name.endswith(f".{first}")):
        if all(prefix + name in state for name in wanted if not name.endswith("num_batches_tracked")):
            return {name[len(prefix) :]: value for name, value in state.items() if name.startswith(prefix)}
    return None


def _from_pycls(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> Mapping[str, Tensor] | None:
    stems = [name for name in state if re.fullmatch(r"(\w+\.)*stem\.conv\.weight", name)]
    if not stems or "layer1.0.conv1.weight" not in wanted:
        return None
    prefix, found = stems[0].removesuffix("stem.conv.weight"), {}
    for name, value in state.items():
        layer, _, kind = name.removeprefix(prefix).rpartition(".")
        block = re.fullmatch(r"s(\d)\.b(\d+)\.(.+)", layer)
        if not name.startswith(prefix):
            continue
        if block is not None and block[3] in _PYCLS_LAYERS:
            found[f"layer{block[1]}.{int(block[2]) - 1}.{_PYCLS_LAYERS[block[3]]}.{kind}"] = value
        elif layer in _PYCLS_STEM:
            found[f"{_PYCLS_STEM[layer]}.{kind}"] = value
    found["conv1.weight"] = found["conv1.weight"].flip(1)  # their images are BGR
    return found


def _from_numbered_children(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> Mapping[str, Tensor] | None:
    if "layer1.0.conv1.weight" not in wanted:
        return None
    children = _SENET_CHILDREN if "layer0.conv1.weight" in wanted else _RESNET_CHILDREN
    found = {}
    for name, value in state.items():
        number, _, rest = name.removeprefix("backbone.").partition(".")
        if name.startswith("backbone.") and number in children:
            found[f"{children[number]}.{rest}"] = value
    return found or None
