"""Devices and the precision of matrix products."""

import platform
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from dbn.errors import InputError
from dbn.training import distributed


def pick_device(name: str) -> torch.device:
    """The device of that name; `auto` is CUDA, else MPS, else the CPU. InputError if it is not available.

    Of several processes on a host each takes a GPU of its own, or all take the CPU.
    """
    if distributed.started() > 1:
        gpus, processes = torch.cuda.device_count(), distributed.started_here()
        if name == "cpu" or (name == "auto" and not gpus):
            return torch.device("cpu")
        if name not in ("auto", "cuda"):
            raise InputError(f"--device {name} serves one process, not {processes}: use --device auto, cuda or cpu")
        if processes > gpus:
            raise InputError(
                f"{processes} processes cannot share {gpus} GPUs: start as many as there are, or --device cpu"
            )
        return torch.device("cuda", distributed.local_rank())
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {name} is not available here: use --device auto") from error
    return device


def matmul_dtype(name: str, device: torch.device) -> torch.dtype:
    """float32 or bfloat16, the type of matrix products; tf32 is float32 within `tf32_products`.

    InputError where the device has no such products.
    """
    if name == "float32":
        return torch.float32
    if name == "tf32":
        nvidia = device.type == "cuda" and torch.version.hip is None
        if not nvidia or torch.cuda.get_device_capability(device) < (8, 0):
            raise InputError(
                f"--precision tf32 needs an NVIDIA GPU of compute capability 8.0 or more, which {device} is not: "
                "leave it out"
            )
        return torch.float32
    if device.type == "cuda":
        there = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        probe = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
        there = device.type == "cpu" and bool(probe() or platform.machine() in ("aarch64", "arm64"))
    if not there:
        raise InputError(f"--precision bf16 needs products in bfloat16, which {device} does not have: leave it out")
    return torch.bfloat16


def tf32_products(wanted: bool) -> AbstractContextManager[None]:
    """In this context, if wanted, float32 products on a GPU round factors to TF32's 10 bits and sum in float32."""
    return _tf32_products() if wanted else nullcontext()


@contextmanager
def _tf32_products() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def synchronize(device: torch.device) -> None:
    """Wait for the device, before a clock is read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
