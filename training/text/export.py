"""Sentence models become folders of the model repository, once torch, ONNX Runtime and Triton agree on real texts.

In: what was fitted, texts to compare on, a way to start a Triton (cli.py gives it: training knows no server). Out:
text_embedding (English, all-MiniLM-L6-v2) and text_embedding_zh (the shop's own word vectors). Called by
training/text/embedding.py. Neither is in the manifest of `stratagem export`, and neither is loaded to serve decisions.
"""

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path

import numpy as np
import orjson
import torch
from numpy.typing import NDArray
from torch import nn

from training.configs import described
from training.graphs import trace
from training.parity import Parity, largest_difference
from training.staging import N_SELF_TEST, VERSION, onnxruntime_answers
from training.tensors import Signature, Tensor
from training.text.fitted import FittedText
from training.text.normal import CHINESE, ENGLISH
from training.text.sentences import LICENCE, MINILM_WIDTH, Pooled, has_minilm, minilm
from training.text.vectors import WIDTH

MODEL_OF = {ENGLISH: "text_embedding", CHINESE: "text_embedding_zh"}
MOST_ROWS = 64
INPUTS = {
    ENGLISH: Tensor("token_ids", "TYPE_INT32", -1, "word pieces of all-MiniLM-L6-v2, at most 128; 0 pads"),
    CHINESE: Tensor("token_ids", "TYPE_INT32", -1, "word indexes of training/text/fitted.py; 0 pads"),
}
OUTPUTS = {
    ENGLISH: Tensor("embedding", "TYPE_FP32", MINILM_WIDTH, "length 1; cosines are dot products"),
    CHINESE: Tensor("embedding", "TYPE_FP32", WIDTH, "length 1, or 0 where no word is known"),
}

# A model's name and token ids (batch, length) in, vectors (batch, width) out.
Ask = Callable[[str, NDArray[np.int32]], NDArray[np.float32]]
# Starts a Triton on a repository, with these models loaded.
Serve = Callable[[Path, Sequence[str]], AbstractContextManager[Ask]]


def languages_of(fitted: FittedText) -> list[str]:
    """Return the languages that have a sentence model here: English needs its weights, Chinese a fit."""
    chinese = fitted.vectors.get(CHINESE)
    is_there = {ENGLISH: has_minilm(), CHINESE: chinese is not None and len(chinese.words) > 0}
    return [language for language in MODEL_OF if is_there[language]]


def export_text(
    fitted: FittedText, examples: Mapping[str, NDArray[np.int32]], repository: Path, serve: Serve
) -> dict[str, Parity]:
    """Write the sentence models, once all runtimes agree on the examples.

    fitted      word vectors for Chinese
    examples    token ids (n_texts, length) by language; a language without any is not written
    repository  other models in it stay as they are; untouched on any failure
    serve       starts a Triton on a staged repository
    returns     parity by model
    raises      Disagreement  if two runtimes differ
    """
    repository.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(prefix=f".{repository.name}-text-", dir=repository.parent))
    try:
        expected = {language: _stage(staged, language, fitted, rows) for language, rows in examples.items()}
        parity = {}
        with serve(staged, [MODEL_OF[language] for language in examples]) as ask:
            for language, rows in examples.items():
                model = MODEL_OF[language]
                known = {"embedding": expected[language]}
                local = onnxruntime_answers(staged / model, _signature(language), {"token_ids": rows})
                served = {"embedding": ask(model, rows)}
                parity[model] = Parity(
                    largest_difference(model, "ONNX Runtime", known, local),
                    largest_difference(model, "Triton", known, served),
                )
        for language in examples:
            _move_into_place(staged, repository, language, _about(language, fitted, parity[MODEL_OF[language]]))
        return parity
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def is_exported(repository: Path, language: str, fitted: FittedText) -> bool:
    """Whether the repository holds this very model."""
    folder = repository / MODEL_OF[language] / str(VERSION)
    if not ((folder / "about.json").exists() and (folder / "model.onnx").exists()):
        return False
    told: dict[str, object] = orjson.loads((folder / "about.json").read_bytes())
    return told["origin"] == origin_of(language, fitted)


def origin_of(language: str, fitted: FittedText) -> str:
    """Return the name of the weights that a language's model is made of: equal names give equal vectors."""
    return LICENCE if language == ENGLISH else f"word vectors {fitted.digest} of this shop"


def config_text(language: str) -> str:
    """Return the config.pbtxt of a language's model, the same text every time."""
    origin = "# Written by `stratagem features`; edit training/text/export.py instead.\n"
    told = described(
        MODEL_OF[language], [INPUTS[language]], [OUTPUTS[language]], MOST_ROWS, "training/text/embedding.py"
    )
    if language != ENGLISH:
        return origin + told
    # A transformer gains from every core where the small graphs of decisions lose; 0 is all of them.
    threads = 'parameters { key: "intra_op_thread_count" value: { string_value: "0" } }  # 0: every core\n'
    return origin + told + threads


def _stage(staged: Path, language: str, fitted: FittedText, rows: NDArray[np.int32]) -> NDArray[np.float32]:
    """Write graph, config and self-test; returns torch's answers."""
    model = MODEL_OF[language]
    folder = staged / model / str(VERSION)
    folder.mkdir(parents=True)
    (staged / model / "config.pbtxt").write_text(config_text(language))
    module: nn.Module = minilm() if language == ENGLISH else Pooled(fitted.vectors[language]).eval()
    with torch.no_grad():
        answers: NDArray[np.float32] = module(torch.from_numpy(rows)).numpy()
    # Two rows, so that no axis of one is taken for a constant.
    example = np.resize(rows, (2, rows.shape[1]))
    trace(module, model, _signature(language), [example], folder / "model.onnx")
    np.savez(folder / "self_test.npz", in_token_ids=rows[:N_SELF_TEST], out_embedding=answers[:N_SELF_TEST])
    return answers


def _signature(language: str) -> Signature:
    return Signature((INPUTS[language],), (OUTPUTS[language],))


def _about(language: str, fitted: FittedText, parity: Parity) -> bytes:
    told: dict[str, object] = {"origin": origin_of(language, fitted), "parity": asdict(parity)}
    if language != ENGLISH:
        told["train_until_s"] = fitted.train_until_s
    return orjson.dumps(told, option=orjson.OPT_INDENT_2)


def _move_into_place(staged: Path, repository: Path, language: str, about: bytes) -> None:
    """Rename every file over its old one; about.json, by which a model is known again, goes first and comes last."""
    model = MODEL_OF[language]
    target = repository / model / str(VERSION)
    target.mkdir(parents=True, exist_ok=True)
    (target / "about.json").unlink(missing_ok=True)
    for file in sorted((staged / model).rglob("*")):
        if file.is_file():
            file.replace(repository / file.relative_to(staged))
    fresh = staged / "about.json"
    fresh.write_bytes(about)
    fresh.replace(target / "about.json")
