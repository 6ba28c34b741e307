"""One served module becomes a folder that Triton can load, and is asked the same rows in ONNX Runtime.

In: a module, its Signature, and examples of its inputs. Out: config.pbtxt, model.onnx and self_test.npz.
Called by training/export.py and training/text/export.py.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn

from training.graphs import trace
from training.tensors import Signature

N_SELF_TEST = 8
VERSION = 1

Arrays = dict[str, NDArray[np.generic]]


def stage(
    folder: Path, module: nn.Module, signature: Signature, inputs: Mapping[str, NDArray[np.generic]], config: str
) -> Arrays:
    """Write graph, config and self-test of one model.

    folder     of the model; its name is the model's
    module     in eval mode
    signature  of its forward
    inputs     (n, width) example rows by tensor name, two or more
    config     text of config.pbtxt
    returns    torch's answers by tensor name
    """
    version = folder / str(VERSION)
    version.mkdir(parents=True)
    (folder / "config.pbtxt").write_text(config)
    rows = [inputs[tensor.name] for tensor in signature.inputs]
    with torch.no_grad():
        answers = module(*(torch.from_numpy(array) for array in rows))
    expected = {tensor.name: answer.numpy() for tensor, answer in zip(signature.outputs, answers, strict=True)}
    trace(module, folder.name, signature, [array[:2] for array in rows], version / "model.onnx")
    known = {f"in_{tensor.name}": inputs[tensor.name][:N_SELF_TEST] for tensor in signature.inputs}
    known |= {f"out_{name}": answer[:N_SELF_TEST] for name, answer in expected.items()}
    np.savez(version / "self_test.npz", **known)  # type: ignore[arg-type]  # numpy's stub takes its own keywords only
    return expected


def onnxruntime_answers(folder: Path, signature: Signature, inputs: Mapping[str, NDArray[np.generic]]) -> Arrays:
    """Return what ONNX Runtime, in this process, says of the same rows.

    folder     of the model, as staged
    signature  of it
    inputs     (n, width) by tensor name
    """
    session = onnxruntime.InferenceSession(folder / str(VERSION) / "model.onnx", providers=["CPUExecutionProvider"])
    names = [tensor.name for tensor in signature.outputs]
    asked = {tensor.name: inputs[tensor.name] for tensor in signature.inputs}
    return dict(zip(names, session.run(names, asked), strict=True))
