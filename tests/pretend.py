"""A pretend device: CPU tensors that refuse what tensors on a GPU refuse, so that a forgotten copy fails here too.

Within `pretending()`, a tensor that is made on DEVICE, or copied there, holds its values in a CPU tensor but takes part
only in operations with its like. Reading it needs a copy to the CPU, and each copy or number that the host reads is
counted as a wait for the device.
"""

import contextlib
from dataclasses import dataclass, field

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

DEVICE = torch.device("lazy")  # a type that torch knows and that has no kernels here, and no streams or drivers
CPU = torch.device("cpu")
NUMBERS = ("aten._local_scalar_dense", "aten.equal", "aten.is_nonzero")  # what the host waits for and reads
SIZES = (
    "aten.nonzero",
    "aten.masked_select",
    "aten._unique2",
    "aten.repeat_interleave.Tensor",
)  # shapes that it must know


class OnDevice(torch.Tensor):
    """A tensor on the pretend device; `held` has its values."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held, requires_grad=False):
        made = torch.Tensor._make_wrapper_subclass(
            cls, held.shape, held.stride(), held.storage_offset(), dtype=held.dtype, device=DEVICE,
            requires_grad=requires_grad,
        )  # fmt: skip
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, function, types, given=(), named=None):
        raise RuntimeError(f"{function} on the pretend device after `pretending` ended")

    def tolist(self):
        return self.cpu().tolist()

    def __repr__(self):
        return f"OnDevice({self.held!r})"


@dataclass
class Waits:
    """How often the host waited for the device, by what it waited for."""

    reasons: list[str] = field(default_factory=list)

    def __len__(self):
        return len(self.reasons)


class _Pretend(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.waits = Waits()

    def __torch_dispatch__(self, function, types, given=(), named=None):
        named = dict(named or {})
        tensors = [one for one in tree_flatten((given, named))[0] if isinstance(one, torch.Tensor)]
        here = [one for one in tensors if isinstance(one, OnDevice)]
        target, name = named.get("device"), str(function)
        is_copy = name.startswith(("aten._to_copy", "aten.copy_"))
        if here and not is_copy:
            strangers = [tuple(one.shape) for one in tensors if not isinstance(one, OnDevice) and one.dim()]
            if strangers:
                raise RuntimeError(f"{name}: tensors of shapes {strangers} are not on the device of the others")
        if target is not None and torch.device(target).type == DEVICE.type:
            named["device"] = CPU
        on_device = self._is_on_device(target, here, given, is_copy)
        self._count(name, here, on_device)
        held = tree_map_only(OnDevice, lambda one: one.held, (given, named))
        found = function(*held[0], **held[1])
        known = {id(one.held): one for one in here}  # what is written in place stays the same tensor

        def wrap(one):
            return known[id(one)] if id(one) in known else OnDevice(one)

        return tree_map_only(torch.Tensor, wrap, found) if on_device else found

    @staticmethod
    def _is_on_device(target, here, given, is_copy):
        if target is not None:
            return torch.device(target).type == DEVICE.type
        return bool(here) if not is_copy else isinstance(given[0], OnDevice)

    def _count(self, name, here, on_device):
        leaves = here and not on_device
        if leaves or (here and name.startswith(NUMBERS + SIZES)):
            self.waits.reasons.append(name)


@contextlib.contextmanager
def pretending():
    """Make the pretend device work; yields the `Waits`."""
    mode = _Pretend()
    unwatched = torch.autocast
    torch.autocast = lambda *_, **__: contextlib.nullcontext()  # of this device there is none
    try:
        with mode:
            yield mode.waits
    finally:
        torch.autocast = unwatched
