"""A torch module becomes an ONNX file with named tensors and a dynamic batch axis.

In: a module whose forward is served. Out: model.onnx. Called by training/staging.py and training/export.py.
"""

import io
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx.compose
import torch
from numpy.typing import NDArray
from onnx.utils import Extractor
from torch import nn

from training.tensors import Signature

# Read by every ONNX Runtime since 1.15 and by Triton's images since 2023; 18 is the first with ScatterElements' sums.
OPSET = 18


def trace(module: nn.Module, model: str, signature: Signature, rows: Sequence[NDArray[np.generic]], file: Path) -> None:
    """Write a module as a graph with its signature's tensors, checked; a width of -1 is an axis of its own.

    module     in eval mode; its forward takes the inputs in order and returns the outputs in order
    model      name of the graph
    signature  of the module
    rows       an example of each input, (2, width); two rows, so that no axis of one is taken for a constant
    file       model.onnx
    """
    written = io.BytesIO()
    axes = {tensor.name: {0: "batch"} for tensor in (*signature.inputs, *signature.outputs)}
    for tensor in signature.inputs:
        if tensor.width < 0:
            axes[tensor.name][1] = "length"
    with warnings.catch_warnings():
        # torch.export-based export needs onnxscript and names tensors itself; the tracer is deprecated, and keeps ours.
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"torch\.onnx|training")
        torch.onnx.export(
            module,
            tuple(torch.from_numpy(example) for example in rows),
            written,  # type: ignore[arg-type]  # the stub knows paths only
            input_names=[tensor.name for tensor in signature.inputs],
            output_names=[tensor.name for tensor in signature.outputs],
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )
    graph = onnx.load_from_string(written.getvalue())
    graph.graph.name = model
    for output, tensor in zip(graph.graph.output, signature.outputs, strict=True):
        output.type.tensor_type.shape.dim[1].dim_value = tensor.width
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, file)


def join_graphs(graphs: Mapping[str, Path], name: str, file: Path) -> None:
    """Write several graphs as one: inputs of one name are one input, the rest keeps its prefix.

    One model is one message between Triton and its backend where an ensemble is one for each step.
    graphs  model.onnx by model; no two may share an output's name
    name    of the joined graph
    file    model.onnx
    """
    joined = onnx.GraphProto(name=name)
    parts = [
        onnx.compose.add_prefix(onnx.load(graph), f"{model}/", rename_inputs=False, rename_outputs=False)
        for model, graph in graphs.items()
    ]
    for part in parts:
        known = {tensor.name for tensor in joined.input}
        joined.input.extend(tensor for tensor in part.graph.input if tensor.name not in known)
        joined.output.extend(part.graph.output)
        joined.node.extend(part.graph.node)
        joined.initializer.extend(part.graph.initializer)
    model = onnx.helper.make_model(joined, opset_imports=parts[0].opset_import, ir_version=parts[0].ir_version)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, file)


def part_of(graph: Path, name: str, outputs: Sequence[str], file: Path) -> None:
    """Write what of a graph leads to some of its outputs, from all of its inputs.

    graph    model.onnx
    name     of the part
    outputs  names
    file     model.onnx of the part
    """
    whole = onnx.load(graph)
    part = Extractor(whole).extract_model([tensor.name for tensor in whole.graph.input], list(outputs))
    part.graph.name = name
    onnx.checker.check_model(part, full_check=True)
    onnx.save(part, file)
