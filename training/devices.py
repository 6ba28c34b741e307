"""Where a module is trained and in which precision; the same numbers every time on the CPU.

In: a recipe's settings. Out: torch's names for them. Called by training/loop.py; tasks may call `beside`.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

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


def following(device: torch.device) -> AbstractContextManager[object]:
    """Within the block, a tensor of the CPU that meets one of the GPU is copied there.

    So a task may keep its tensors on the CPU and a module make its own where it likes, and both run on a GPU
    unchanged; what many operations read is better moved once, by `beside`.
    """
    return nullcontext() if device.type == "cpu" else _Following()


class _Following(TorchFunctionMode):
    """Looks at the arguments of every operation."""

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        """Run one operation, its arguments on one device."""
        named = dict(kwargs or {})
        devices = {tensor.device for tensor in _tensors((args, list(named.values())))}
        away = next((device for device in devices if device.type != "cpu"), None)
        if away is None or len(devices) == 1 or _writes(func.__name__):
            return func(*args, **named)
        moved = [_moved(argument, away) for argument in args]
        return func(*moved, **{name: _moved(argument, away) for name, argument in named.items()})


def _tensors(argument: object) -> Iterator[Tensor]:
    if isinstance(argument, Tensor):
        yield argument
    elif isinstance(argument, list | tuple):
        for part in argument:
            yield from _tensors(part)


def _moved(argument: object, device: torch.device) -> object:
    if isinstance(argument, Tensor):
        return argument.to(device)
    if isinstance(argument, list | tuple):
        parts = [_moved(part, device) for part in argument]
        return parts if isinstance(argument, list) else tuple(parts)
    return argument


def _writes(name: str) -> bool:
    """Whether an operation changes its first argument: a copy of it would be changed instead."""
    return name.startswith(("__i", "__set")) or (name.endswith("_") and not name.endswith("__"))


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


def on_one_thread() -> None:
    """Let torch work on one thread of the CPU, again after every compiled loop that ran on several.

    These models are small: where somebody else holds a core, two threads that wait for each other took 23 minutes for
    what one does in 90 s (LOG.md). Numba's parallel loops share the OpenMP settings and put them back to all cores.
    Results then do not depend on the number of cores either.
    """
    torch.set_num_threads(1)


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
        # Nothing here reads memory that it did not write; filling it first took 8 % of the encoder's training (LOG.md).
        settings: Any = torch.utils.deterministic  # a module whose settings the stub does not know
        filled, settings.fill_uninitialized_memory = settings.fill_uninitialized_memory, False
        try:
            yield
        finally:
            settings.fill_uninitialized_memory = filled
            torch.use_deterministic_algorithms(was, warn_only=warned)
