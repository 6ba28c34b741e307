"""What one protocol found: a line for every figure, ours beside its rivals and the published number.

In: numbers of a study. Out: frozen lines. Every module of tests.benchmarks.published returns a Study.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from training.evidence import Figure
from training.parity import Parity

# What `fit` keeps; a study has a folder of its own in it.
CACHE = Path("build/published")


@dataclass(frozen=True)
class Published:
    """A number that somebody printed.

    source        who and where, as a reader would cite it
    like_for_like  whether protocol, data and metric are ours
    remark        what differs, in a few words; empty where nothing does
    """

    value: float
    source: str
    like_for_like: bool
    remark: str = ""


@dataclass(frozen=True)
class Line:
    """One figure of one model.

    name       of the figure, as in the contract of design figures; unique in the whole table
    ours       mean over seeds with its 95 % interval
    n_seeds    seeds behind `ours`; an interval of several seeds spans seeds and cases, of one seed cases alone
    rivals     simple rivals, measured on the same cases
    published  printed numbers
    least      what the figure must reach; None where it only has to stand beside its rivals
    """

    name: str
    ours: Figure
    n_seeds: int
    rivals: Mapping[str, Figure] = field(default_factory=dict)
    published: Sequence[Published] = ()
    least: float | None = None


@dataclass(frozen=True)
class Study:
    """One model under one protocol.

    model         as in training.models
    protocol      data, split, metric, what is filtered, in two or three sentences
    n             test cases
    train_s       seconds of one training, as timed by `fit`
    n_parameters  of one seed's module
    onnx_bytes    size of the exported graph
    parity        torch against ONNX Runtime and a real Triton, on held-out rows
    notes         what a reader must know: what is not like for like, what was lost
    """

    model: str
    protocol: str
    lines: Sequence[Line]
    n: int
    train_s: float
    n_parameters: int
    onnx_bytes: int
    parity: Parity
    notes: Sequence[str] = ()
