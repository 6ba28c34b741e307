"""Smaller graphs of an exported model: whole numbers of 8 bits for the weights, or half floats throughout.

In: model.onnx. Out: another model.onnx with the same tensors at its doors. Called by tests/benchmarks/serving.py, which
says what each costs in quality.
"""

import logging
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.transformers import float16

# ONNX Runtime adds no half floats in place on a CPU, and rates below 6e-8 have no logarithm as halves.
KEPT_WHOLE = (*float16.DEFAULT_OP_BLOCK_LIST, "ScatterElements", "Exp", "Log")


def int8(file: Path, into: Path) -> None:
    """Write a graph whose weights are 8-bit, each output column with a scale of its own; activations follow each batch.

    file  model.onnx in float32
    into  the new file
    """
    with tempfile.TemporaryDirectory() as folder:
        inferred, graph = Path(folder) / "inferred.onnx", onnx.load(file)
        onnx.save(onnx.shape_inference.infer_shapes(graph), inferred)
        logging.disable(logging.WARNING)  # it advises what was just done
        try:
            quantize_dynamic(
                inferred, into, per_channel=True, weight_type=QuantType.QInt8, nodes_to_exclude=_stacked(graph.graph)
            )
        finally:
            logging.disable(logging.NOTSET)


def _stacked(graph: onnx.GraphProto) -> list[str]:
    """Products with a stack of matrices: ONNX Runtime knows a scale for each column of one matrix only."""
    deep = {tensor.name for tensor in graph.initializer if len(tensor.dims) > 2}
    return [node.name for node in graph.node if node.op_type == "MatMul" and deep & set(node.input)]


def fp16(file: Path, into: Path) -> None:
    """Write a graph that calculates in half floats, with float32 at its doors.

    file  model.onnx in float32
    into  the new file
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="the float32 number", category=UserWarning)
        graph = float16.convert_float_to_float16(onnx.load(file), keep_io_types=True, op_block_list=[*KEPT_WHOLE])
    onnx.save(graph, into)


VARIANTS: Mapping[str, Callable[[Path, Path], None]] = {"int8": int8, "fp16": fp16}
