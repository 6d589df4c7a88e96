"""What "auto" means on this machine, found without torch: freshness is judged before anything heavy is loaded.

`pipeline.device` computes by these answers, so that what a cache key says and what is computed cannot differ.
"""

from __future__ import annotations

import ctypes
import importlib.util
import re
from functools import lru_cache
from pathlib import Path

BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}  # of a CPU that multiplies bfloat16
BFLOAT16_CAPABILITY = 8  # the first generation of GPUs that does (Ampere)
CAPABILITY_MAJOR = 75  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR of cuda.h


def resolve_device(setting: str = "auto") -> str:
    """The type of device that the setting runtime.device means: auto is "cuda" where there is one, else "cpu"."""
    if setting != "auto":
        return setting.partition(":")[0]
    return "cuda" if find_cuda_capability() else "cpu"


def resolve_precision(device_type: str, setting: str = "auto") -> str:
    """The precision that a setting means on this type of device: "float32" or "bfloat16".

    auto is bfloat16 where the hardware multiplies it, float32 elsewhere: a CPU without such units emulates it slowly.
    """
    if setting != "auto":
        return setting
    multiplies = {"cuda": find_cuda_capability() >= BFLOAT16_CAPABILITY, "cpu": _cpu_multiplies_bfloat16()}
    return "bfloat16" if multiplies.get(device_type, False) else "float32"


def resolve_training_precision(device_type: str, setting: str = "auto") -> str:
    """The precision of layers that are trained: as `resolve_precision`, but auto is float32 on a CPU.

    A bfloat16 backward pass is 2 to 6 times as slow there as one in float32, for every kind of backbone
    (docs/performance.md).
    """
    return "float32" if (device_type, setting) == ("cpu", "auto") else resolve_precision(device_type, setting)


@lru_cache(maxsize=1)
def find_cuda_capability() -> int:
    """The major compute capability of the first CUDA device that torch can use; 0 where there is none."""
    needed, is_rocm = _read_torch_build()
    if is_rocm:  # no driver to ask by that name: the one kind of torch that has to be loaded
        import torch

        return BFLOAT16_CAPABILITY if torch.cuda.is_available() else 0
    if not needed:
        return 0
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    version, count, major = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    driver.cuDriverGetVersion(ctypes.byref(version))
    if version.value // 1000 < needed or driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return 0
    if not count.value or driver.cuDeviceGetAttribute(ctypes.byref(major), CAPABILITY_MAJOR, 0):
        return 0
    return major.value


@lru_cache(maxsize=1)
def _cpu_multiplies_bfloat16() -> bool:
    """Whether this CPU has units that multiply bfloat16."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    flags = re.search(r"^flags\s*:(.*)$", text, re.MULTILINE)
    return flags is not None and bool(BFLOAT16_FLAGS & set(flags[1].split()))


def _read_torch_build() -> tuple[int, bool]:
    """The major version of CUDA that torch is built for, 0 for none, and whether it is built for ROCm."""
    found = importlib.util.find_spec("torch")  # finds it, and does not load it
    if found is None or found.origin is None:
        return 0, False
    text = (Path(found.origin).parent / "version.py").read_text(encoding="utf-8")
    cuda, hip = (re.search(rf"^{name}\b.*=\s*['\"](\d+)", text, re.MULTILINE) for name in ("cuda", "hip"))
    return int(cuda[1]) if cuda else 0, hip is not None
