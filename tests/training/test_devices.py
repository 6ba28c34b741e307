"""Where modules train. torch's device without data stands for a GPU: it too refuses to meet a tensor of the CPU.

The settings' words are checked as well; half precision itself is in test_loop.py.
"""

import numpy as np
import pytest
import torch
from torch import nn

from kernels.checks import InvalidInput
from tests.training.lines import Line, fresh
from training.answering import AnswerTask
from training.answers import RECIPE, actions_of, answers_of, plan_of
from training.dataset import Dataset
from training.devices import beside, chosen_device, chosen_precision, device_of, following
from training.models.response import Response

CPU, AWAY = torch.device("cpu"), torch.device("meta")


def test_without_help_a_batch_of_the_cpu_meets_no_module_elsewhere() -> None:
    with pytest.raises(RuntimeError, match="not on the expected device"):
        Line().loss(fresh().to(AWAY), np.arange(8), 0)


def test_a_batch_of_the_cpu_follows_the_module_and_gradients_reach_every_weight() -> None:
    model = fresh().to(AWAY)
    with following(AWAY):
        loss = Line().loss(model, np.arange(8), 0)
    assert loss.device == AWAY
    loss.backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_a_study_of_the_product_follows_too(dataset: Dataset) -> None:
    asked = answers_of(dataset, *dataset.weekly())
    windows = asked.windows()
    assert windows is not None
    task = AnswerTask(windows.early, windows.late, plan_of(asked, RECIPE))
    model = Response(actions_of(dataset)).to(AWAY)
    with following(AWAY):
        assert task.loss(model, np.arange(8), 0).device == AWAY


def test_tensors_in_lists_and_by_name_follow() -> None:
    near, away = torch.ones(2), torch.ones(2, device=AWAY)
    with following(AWAY):
        assert torch.cat([away, near]).device == AWAY
        assert torch.add(away, other=near).device == AWAY
        assert (near + near).device == CPU


def test_what_is_written_into_stays_where_it_is() -> None:
    near, away = torch.zeros(2), torch.ones(2, device=AWAY)
    # Copying to a copy of `near` would be no error, and lost.
    with following(AWAY), pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):
        near.copy_(away)


def test_on_the_cpu_nothing_is_looked_at() -> None:
    with following(CPU) as nothing:
        assert nothing is None


def test_beside_moves_to_the_module_and_leaves_what_is_there() -> None:
    rows = torch.ones(3)
    assert beside(fresh(), rows)[0] is rows
    assert [tensor.device for tensor in beside(fresh().to(AWAY), rows, rows)] == [AWAY, AWAY]
    assert device_of(nn.ReLU()) == CPU


def test_a_gpu_is_taken_where_there_is_one_and_each_worker_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert chosen_device("auto") == torch.device("cuda", 1)
    assert chosen_device("cpu") == CPU
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(InvalidInput, match="at most one worker for each of 2 GPUs, got worker 2"):
        chosen_device("auto")


def test_a_gpu_computes_in_halves_and_a_cpu_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    assert chosen_precision("auto", gpu) == torch.bfloat16
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    assert chosen_precision("auto", gpu) == torch.float16
    assert chosen_precision("float32", gpu) == chosen_precision("auto", CPU) == torch.float32
