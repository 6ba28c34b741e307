"""Where a module is trained and in which precision; the same numbers every time on the CPU.

In: a recipe's settings. Out: torch's names for them. Called by training/loop.py; tasks call `beside`.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from kernels.checks import check

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def device_of(model: nn.Module) -> torch.device:
    """Where a module's weights are; the CPU for one that has none."""
    weight = next(iter((*model.parameters(), *model.buffers())), None)
    return torch.device("cpu") if weight is None else weight.device


def beside(model: nn.Module, *tensors: Tensor) -> tuple[Tensor, ...]:
    """Return tensors on the module's device; the same ones where they are there already."""
    device = device_of(model)
    return tuple(tensor.to(device, non_blocking=True) for tensor in tensors)


def chosen_device(setting: str) -> torch.device:
    """Return the device to train on.

    setting  "auto": a GPU of this worker's own where there is one; anything else is torch's name of a device
    raises   InvalidInput  if torchrun started more workers than there are GPUs
    """
    if setting != "auto":
        return torch.device(setting)
    if not torch.cuda.is_available():
        return torch.device("cpu")
    n_gpus, worker = torch.cuda.device_count(), int(os.environ.get("LOCAL_RANK", "0"))
    check(worker < n_gpus, f"torchrun must start at most one worker for each of {n_gpus} GPUs, got worker {worker}")
    return torch.device("cuda", worker)


def chosen_precision(setting: str, device: torch.device) -> torch.dtype:
    """Return the type of products in the forward pass.

    setting  "auto": half a float32 on a GPU; else one of PRECISIONS
    raises   InvalidInput  for any other word
    """
    if setting != "auto":
        check(setting in PRECISIONS, f"precision must be auto or one of {', '.join(PRECISIONS)}, got {setting!r}")
        return PRECISIONS[setting]
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


@contextmanager
def in_precision(device: torch.device, precision: torch.dtype) -> Iterator[None]:
    """Run products in this type, and what needs float32 in float32."""
    is_half = precision != torch.float32
    with torch.autocast(device.type, dtype=precision if is_half else torch.bfloat16, enabled=is_half):
        yield


@contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """Random numbers of its own, and sums in one order.

    On two threads torch otherwise adds the gradients of an indexed weight as they come.
    Test: test_equal_seeds_give_equal_weights_on_two_threads.
    """
    is_gpu = device.type == "cuda"
    was, warned = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    if is_gpu:
        # cuBLAS adds in one order only with a workspace of its own, and reads this before its first product.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    with torch.random.fork_rng(devices=[device] if is_gpu else []):
        # A GPU has operations without an ordered kernel: they warn, and the rest stays ordered.
        torch.use_deterministic_algorithms(True, warn_only=is_gpu)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(was, warn_only=warned)
