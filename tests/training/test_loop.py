"""The one training loop: equal for equal seeds, continued after a kill, stopped on later data, one or two workers."""

import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kernels.checks import InvalidInput
from tests.training.lines import RECIPE, Line, Rising, fresh, weights_of
from training import loop
from training.loop import fit, save

ROOT = Path(__file__).resolve().parents[2]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
# Sums of the same numbers in another order: 1e-6 of a weight near 1 was the worst seen after 48 steps.
SAME = 1e-5


class Killed(BaseException):
    """Stands for a process that ends between two passes."""


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two real processes under torchrun ended with."""
    folder = tmp_path_factory.mktemp("workers")
    ran = subprocess.run(
        [*TORCHRUN, "-m", "tests.training.lines", "workers", str(folder)],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-3_000:]
    return [torch.load(folder / f"worker_{place}.pt", weights_only=True) for place in range(2)]


def test_equal_seeds_give_equal_weights_and_others_do_not() -> None:
    one, same, other = fresh(), fresh(), fresh()
    fit(one, Line(), RECIPE, lambda _: None)
    fit(same, Line(), RECIPE, lambda _: None)
    fit(other, Line(), replace(RECIPE, seed=4), lambda _: None)
    assert weights_of(one) == weights_of(same) != weights_of(other)


def test_equal_seeds_give_equal_weights_on_two_threads() -> None:
    class Looked(Line):
        """Every row looks up many shared weights, so their gradients meet in one place."""

        def loss(self, model: nn.Module, rows: np.ndarray, seed: int) -> Tensor:
            places = torch.from_numpy(np.random.default_rng(seed).integers(0, 3, (rows.size, 20_000)))
            weights = next(model.parameters())[0]
            return super().loss(model, rows, seed) + (weights[places].sin() * torch.linspace(0, 1, 20_000)).mean()

    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        runs = []
        for _ in range(3):
            model = fresh()
            fit(model, Looked(), replace(RECIPE, n_epochs=2), lambda _: None)
            runs.append(weights_of(model))
    finally:
        torch.set_num_threads(threads)
    assert runs[0] == runs[1] == runs[2]


def test_a_killed_run_continues_to_the_weights_of_one_that_was_not(tmp_path: Path) -> None:
    whole, killed, continued = fresh(), fresh(), fresh()
    expected = fit(whole, Line(), RECIPE, lambda _: None)

    def kill(step: str) -> None:
        if step.startswith("pass 4"):
            raise Killed

    with pytest.raises(Killed):
        fit(killed, Line(), RECIPE, kill, tmp_path / "checkpoint.pt")
    told: list[str] = []
    found = fit(continued, Line(), RECIPE, told.append, tmp_path / "checkpoint.pt")
    assert told[0].startswith("pass 4")
    assert found.validation_losses == expected.validation_losses
    assert weights_of(continued) == weights_of(whole)


def test_a_checkpoint_of_other_data_is_not_continued(tmp_path: Path) -> None:
    fit(fresh(), Line(), RECIPE, lambda _: None, tmp_path / "checkpoint.pt")
    told: list[str] = []
    fit(fresh(), Line(), replace(RECIPE, fingerprint="other"), told.append, tmp_path / "checkpoint.pt")
    assert told[0].startswith("pass 1")


def test_training_stops_when_later_data_stop_improving_and_keeps_the_best_pass() -> None:
    fitted = fit(fresh(), Rising(), replace(RECIPE, patience=2), lambda _: None)
    assert fitted.validation_losses == (3.0, 1.0, 2.0, 2.0)
    assert fitted.best_epoch == 1


def test_no_pass_starts_after_the_time_is_over() -> None:
    fitted = fit(fresh(), Line(), replace(RECIPE, seconds=-1.0), lambda _: None)
    assert fitted.validation_losses == ()


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    save(tmp_path / "model.pt", {"weight": torch.ones(2)})
    with pytest.raises(AttributeError):
        save(tmp_path / "model.pt", {"weight": lambda: None})
    assert torch.load(tmp_path / "model.pt", weights_only=True)["weight"].tolist() == [1.0, 1.0]


def test_a_process_killed_in_the_middle_of_a_pass_continues_to_the_same_weights(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.training.lines", "killed", str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = [next(process.stdout) for _ in range(4)]
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert told[2].startswith("pass 3 of at most 6")
    assert told[3] == "in the fourth pass\n"
    whole, continued, again = fresh(), fresh(seed=9), []
    expected = fit(whole, Line(), RECIPE, lambda _: None)
    found = fit(continued, Line(), RECIPE, again.append, tmp_path / "checkpoint.pt")
    assert again[0].startswith("pass 4 of at most 6")
    assert found.validation_losses == expected.validation_losses
    assert weights_of(continued) == weights_of(whole)


def test_two_workers_equal_one_up_to_rounding(two_workers: list[dict[str, Any]]) -> None:
    one = fresh(0.0)
    fitted = fit(one, Line(0.0), RECIPE, lambda _: None)
    assert two_workers[0]["exact"] == pytest.approx(weights_of(one), abs=SAME)
    assert two_workers[0]["losses"] == pytest.approx(fitted.validation_losses, abs=SAME)


def test_two_workers_with_dropout_equal_one_within_the_noise_of_seeds(two_workers: list[dict[str, Any]]) -> None:
    def loss_of(weights: list[float]) -> float:
        model = fresh()
        torch.nn.utils.vector_to_parameters(torch.tensor(weights), model.parameters())
        return Line().validation_loss(model.eval())

    losses = []
    for seed in range(10):
        model = fresh()
        fit(model, Line(), replace(RECIPE, seed=seed), lambda _: None)
        losses.append(loss_of(weights_of(model)))
    # Other dropout is another draw: it must fall where ten seeds of one worker fall, give or take three deviations.
    assert abs(loss_of(two_workers[0]["noisy"]) - np.mean(losses)) < 3 * np.std(losses, ddof=1)


def test_workers_end_with_the_same_weights_losses_and_buffers(two_workers: list[dict[str, Any]]) -> None:
    first, second = two_workers
    for name in ("exact", "noisy", "stopped", "counting", "losses", "rising", "late"):
        assert first[name] == second[name], name
    assert first["rising"] == Rising.LOSSES[:4]
    assert first["late"] == ()


def test_only_the_first_worker_tells_progress(two_workers: list[dict[str, Any]]) -> None:
    assert len(two_workers[0]["told"]) == RECIPE.n_epochs
    assert two_workers[1]["told"] == []


def test_stopped_workers_continue_to_the_weights_of_workers_that_were_not(two_workers: list[dict[str, Any]]) -> None:
    assert two_workers[0]["stopped"] == two_workers[0]["noisy"]


def test_a_weight_that_no_worker_uses_is_left_alone(two_workers: list[dict[str, Any]]) -> None:
    assert two_workers[0]["spare"] == [1.0] * 4


def test_only_the_first_worker_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"MASTER_ADDR": "localhost", "WORLD_SIZE": "2", "RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    save(tmp_path / "model.pt", {})
    assert list(tmp_path.iterdir()) == []


def test_a_pass_is_told_with_its_losses_and_the_time_left() -> None:
    told: list[str] = []
    fit(fresh(), Line(), RECIPE, told.append)
    assert len(told) == RECIPE.n_epochs
    for n_pass, sentence in enumerate(told, start=1):
        losses = r"training loss \d\.\d{4}, validation loss \d\.\d{4}"
        assert re.fullmatch(rf"pass {n_pass} of at most 6: {losses}, \d s left at most", sentence)
    assert told[-1].endswith(", 0 s left at most")


def test_a_long_pass_says_in_between_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock:
        now = 0.0

        def monotonic(self) -> float:
            return self.now

    class Slow(Line):
        def loss(self, model: nn.Module, rows: np.ndarray, seed: int) -> Tensor:
            clock.now += 100.0
            return super().loss(model, rows, seed)

    clock, told = Clock(), list[str]()
    monkeypatch.setattr(loop, "time", clock)
    fit(fresh(), Slow(), replace(RECIPE, n_epochs=3, seconds=1e6), told.append)
    # Eight steps of 100 s in each of three passes.
    assert told[0] == "pass 1 of at most 3, 12% of it, 38 min left at most"
    assert told[7].startswith("pass 1 of at most 3, 100% of it, 27 min left")
    assert told[8].endswith(", 27 min left at most")
    assert told[-1].endswith(", 0 s left at most")


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_trains_to_nearly_the_same_loss(precision: str) -> None:
    whole, half, told = fresh(0.0), fresh(0.0), list[str]()
    exact = fit(whole, Line(0.0), RECIPE, lambda _: None).validation_losses[-1]
    fitted = fit(half, Line(0.0), replace(RECIPE, precision=precision), told.append)
    # The loss began at 5. A product of halves is right to 2^-8 (bfloat16) or 2^-11 (float16) of itself, and float16
    # skips a step or two until its scale is found.
    assert fitted.validation_losses[-1] == pytest.approx(exact, abs=0.05)
    assert weights_of(half) != weights_of(whole)
    assert {parameter.dtype for parameter in half.parameters()} == {torch.float32}


def test_scaled_gradients_continue_after_a_kill_too(tmp_path: Path) -> None:
    recipe = replace(RECIPE, precision="float16")
    whole, continued = fresh(), fresh()
    fit(whole, Line(), recipe, lambda _: None)

    def kill(step: str) -> None:
        if step.startswith("pass 4"):
            raise Killed

    with pytest.raises(Killed):
        fit(fresh(), Line(), recipe, kill, tmp_path / "checkpoint.pt")
    fit(continued, Line(), recipe, lambda _: None, tmp_path / "checkpoint.pt")
    assert weights_of(continued) == weights_of(whole)


def test_a_loss_that_is_no_number_is_named_with_its_pass() -> None:
    with pytest.raises(InvalidInput, match=r"loss must be finite, got .*\(pass 1 of at most 6, learning rate 1e\+20\)"):
        fit(fresh(), Line(), replace(RECIPE, learning_rate=1e20), lambda _: None)


def test_an_unknown_precision_is_named() -> None:
    with pytest.raises(InvalidInput, match="precision must be auto or one of float32, bfloat16, float16, got 'int8'"):
        fit(fresh(), Line(), replace(RECIPE, precision="int8"), lambda _: None)
