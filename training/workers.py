"""Several processes that torchrun started train as one: shares of a batch, gradients added up, one of them writes.

In: torchrun's environment. Out: nothing where there is one worker. Called by training/loop.py; whoever writes a file
asks `is_first_worker`.
"""

import atexit
import os
from collections.abc import Iterable
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn

Rows = NDArray[np.int64]
Content = TypeVar("Content")


def n_workers() -> int:
    """Processes that train together; 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "MASTER_ADDR" in os.environ else 1


def place() -> int:
    """This process among them, from 0."""
    return int(os.environ.get("RANK", "0")) if n_workers() > 1 else 0


def is_first_worker() -> bool:
    """Whether this process writes files and tells progress; one process alone does."""
    return place() == 0


def meet() -> None:
    """Wait for the other workers, once; nothing happens where there is one."""
    if n_workers() > 1 and not distributed.is_initialized():
        distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
        atexit.register(distributed.destroy_process_group)


def all_here() -> None:
    """Wait until every worker has come this far: what one wrote, the others may read."""
    if n_workers() > 1:
        meet()
        distributed.barrier()


def share_of(rows: Rows) -> Rows:
    """Return this worker's rows of a batch; the shares of all are the batch, and one may be empty.

    rows  (n,) int64
    """
    return rows[place() :: n_workers()]


def said_by_first(content: Content) -> Content:
    """Return what worker 0 holds, on every worker."""
    if n_workers() == 1:
        return content
    told = [content]
    distributed.broadcast_object_list(told, src=0, device=torch.device("cpu"))
    return told[0]


def total(value: float) -> float:
    """Add up a number over all workers."""
    if n_workers() == 1:
        return value
    told = torch.tensor(value, dtype=torch.float64)
    distributed.all_reduce(told)
    return told.item()


def take_weights_of_first(model: nn.Module) -> None:
    """Overwrite weights and buffers with worker 0's: what rounds or counts on its own share cannot drift."""
    if n_workers() > 1:
        for value in model.state_dict().values():
            # A view of a larger tensor is no tensor that can be received into.
            received = value.contiguous()
            distributed.broadcast(received, src=0)
            value.copy_(received)


def add_up_gradients(parameters: Iterable[nn.Parameter], weight: float) -> None:
    """Replace gradients by their weighted sum over all workers, in one message.

    weight  of this worker's gradients: its part of the batch
    """
    if n_workers() == 1:
        return
    learned = [parameter for parameter in parameters if parameter.requires_grad]
    # A weight that no worker used keeps no gradient, so that the optimiser skips it as it would on one worker.
    used = learned[0].new_tensor([float(parameter.grad is not None) for parameter in learned])
    parts = [
        torch.zeros_like(parameter) if parameter.grad is None else parameter.grad * weight for parameter in learned
    ]
    message: Tensor = torch.cat([used, *(part.flatten() for part in parts)])
    distributed.all_reduce(message)
    at = len(learned)
    for count, parameter in zip(message[:at].tolist(), learned, strict=True):
        summed = message[at : at + parameter.numel()].view_as(parameter)
        parameter.grad = summed.clone() if count else None
        at += parameter.numel()
