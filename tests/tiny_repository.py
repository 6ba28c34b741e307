"""A complete model repository in miniature, for tests that need a Triton: the contract's tensors, small fixed graphs.

In: a folder and a seed. Out: the files `stratagem export` would write, equal for equal seeds.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import polars as pl
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from kernels.event_history import LENGTH, N_PRICES, EventHistory
from kernels.features import N_CATEGORIES, N_FEATURES, N_TOP_ITEMS, columns
from kernels.ledger import REFUND
from kernels.tag_limits import TagLimits
from server.state.encodings import N_NEXT_KINDS, TENSORS, VECTOR_WIDTH, Encodings, no_encodings
from server.triton.client import HEAD_OUTPUTS, N_SESSION, OUTLOOK_OUTPUTS, SOMETIMES, Outputs

N_ITEMS = 200
CATEGORIES = ("milk", "bread", "fruit", "cheese", "coffee", "soap", "pasta", "snacks")
OFFER_GROUPS = ("milk", "bread", "coffee", "other")
ARMS = ("A", "B", "C")
AS_OF_S = 1_514_764_800  # 2018-01-01
DAY_S = 86_400
EMBEDDING = 8
TAG_LIMITS = TagLimits(
    train_until_s=AS_OF_S - 90 * DAY_S,
    recency_days=(7.0, 14.0, 28.0, 56.0),
    frequency=(0.5, 1.0, 2.0, 4.0),
    monetary=(5.0, 10.0, 20.0, 40.0),
    category_share=tuple(1 / len(CATEGORIES) if slot < len(CATEGORIES) else 0.0 for slot in range(N_CATEGORIES)),
    category_price=(4.0,) * N_CATEGORIES,
    promoted_share=(0.0, 0.0, 0.5, 1.0),
    price_position=(0.5, 0.9, 1.1, 2.0),
    sensitivity=(0.3, 0.6),
    typical_gap_days=14.0,
    at_risk_due=2.0,
    lapsed_due=4.0,
    churn_weeks=4,
    churn_coefficients=(0.5, 0.5, 0.0, -1.0, 0.0, 0.0, 0.0),
    channel_rate=(0.0, 0.1, 0.0, 0.0),
)
SELF_TEST_ROWS = 3

Tensor = tuple[str, str, int]
TYPES = {np.float32: "TYPE_FP32", np.int32: "TYPE_INT32"}
ONNX_TYPES = {"TYPE_FP32": TensorProto.FLOAT, "TYPE_INT32": TensorProto.INT32, "TYPE_INT8": TensorProto.INT8}
Arrays = dict[str, NDArray[np.generic]]


def _tensors_of(outputs: Outputs) -> tuple[Tensor, ...]:
    return tuple((name, TYPES[dtype], width) for name, (dtype, width) in outputs.items())


MODELS: dict[str, tuple[tuple[Tensor, ...], tuple[Tensor, ...]]] = {
    "encoder": (
        (
            ("event_item", "TYPE_INT32", LENGTH),
            ("event_kind", "TYPE_INT8", LENGTH),
            ("event_gap_s", "TYPE_INT32", LENGTH),
            ("event_price", "TYPE_INT8", LENGTH),
        ),
        _tensors_of(TENSORS),
    ),
    "session": ((("session_items", "TYPE_INT32", N_SESSION),), _tensors_of(SOMETIMES["session"])),
    "predictions": (
        (("features", "TYPE_FP32", N_FEATURES), ("shopper_vector", "TYPE_FP32", VECTOR_WIDTH)),
        _tensors_of(OUTLOOK_OUTPUTS),
    ),
    "heads": (
        (("features", "TYPE_FP32", N_FEATURES), ("shopper_vector", "TYPE_FP32", VECTOR_WIDTH)),
        _tensors_of(HEAD_OUTPUTS),
    ),
}


def write_tiny_repository(folder: Path, seed: int = 0) -> None:
    """Write encoder, predictions, heads and session, the catalogue, the items and the manifest.

    folder  made where it is missing; files in it are replaced
    seed    weights and prices follow from it
    """
    rng = np.random.default_rng(seed)
    encoder = _encoder(rng)
    predictions, heads = _heads(rng)
    graphs = {"encoder": encoder, "predictions": predictions, "heads": heads, "session": _session(rng)}
    for name, model in graphs.items():
        version = folder / name / "1"
        version.mkdir(parents=True, exist_ok=True)
        onnx.save(model, version / "model.onnx")
        (folder / name / "config.pbtxt").write_text(_config(name))
    _write_self_tests(folder, rng)
    _items(rng).write_parquet(folder / "items.parquet")
    (folder / "tags.json").write_bytes(TAG_LIMITS.to_json())
    (folder / "catalogue.json").write_text(json.dumps(_catalogue(rng), indent=1))
    _write_manifest(folder)


def tiny_events(batch: int, seed: int = 1) -> EventHistory:
    """Plausible inputs of `encoder`, zeros on the left."""
    rng = np.random.default_rng(seed)
    is_event = np.arange(LENGTH) >= rng.integers(0, LENGTH + 1, (batch, 1))

    def column(low: int, high: int, dtype: type[np.generic]) -> NDArray[np.generic]:
        return np.where(is_event, rng.integers(low, high, (batch, LENGTH)), 0).astype(dtype)

    return EventHistory(
        column(1, N_ITEMS + 1, np.int32),
        column(1, REFUND + 1, np.int8),
        column(0, 30 * DAY_S, np.int32),
        column(0, N_PRICES, np.int8),
    )


def tiny_features(batch: int, seed: int = 1) -> NDArray[np.float32]:
    """Plausible features, (batch, N_FEATURES)."""
    return np.random.default_rng(seed).gamma(1.0, 5.0, (batch, N_FEATURES)).astype(np.float32)


def tiny_encodings(batch: int, seed: int = 1) -> Encodings:
    """Encodings as some encoder might have made them."""
    rng = np.random.default_rng(seed)
    encodings = no_encodings(batch)
    encodings["shopper_vector"] = rng.normal(0.0, 1.0, (batch, VECTOR_WIDTH))
    encodings["item_index"] = np.argsort(rng.random((batch, N_ITEMS)), axis=1)[:, :N_TOP_ITEMS] + 1
    encodings["item_prob"] = -np.sort(-rng.random((batch, N_TOP_ITEMS)), axis=1)
    return encodings


def tiny_inputs(model: str, batch: int, seed: int = 1) -> Arrays:
    """Plausible inputs of a model by tensor name."""
    if model == "session":
        return {"session_items": np.ascontiguousarray(tiny_events(batch, seed).item[:, -N_SESSION:])}
    if model == "encoder":
        return {f"event_{name}": column for name, column in vars(tiny_events(batch, seed)).items()}
    vectors = np.ascontiguousarray(tiny_encodings(batch, seed)["shopper_vector"])
    return {"features": tiny_features(batch, seed), "shopper_vector": vectors}


def local_answers(folder: Path, model: str, inputs: Arrays) -> Arrays:
    """What ONNX Runtime answers in this process."""
    session = onnxruntime.InferenceSession(folder / model / "1" / "model.onnx", providers=["CPUExecutionProvider"])
    wanted = {tensor.name: inputs[tensor.name] for tensor in session.get_inputs()}
    return dict(zip([tensor.name for tensor in session.get_outputs()], session.run(None, wanted), strict=True))


# Of each head: which outputs have a name in this shop, and the log-odds or the size that they have about.
HEADS: dict[str, tuple[list[int], float]] = {
    "category_prob": ([*range(len(CATEGORIES)), N_CATEGORIES - 1], -1.0),
    "tag_prob": (list(range(OUTLOOK_OUTPUTS["tag_prob"][1])), -0.5),
    "redeem_prob": (list(range(len(OFFER_GROUPS))), -2.5),
    "redeem_prob_se": (list(range(len(OFFER_GROUPS))), -5.0),
    "buy_prob": (list(range(len(OFFER_GROUPS))), -1.5),
    "click_prob": ([], 0.0),
    "response_spend": (list(range(len(OFFER_GROUPS))), 1.0),
    "spend_uplift": (list(range(len(ARMS))), 2.0),
    "spend_uplift_se": (list(range(len(ARMS))), 1.0),
    "expected_spend": ([0, 1], 4.0),
    "buy_90d_prob": ([0], 0.5),
}


def _heads(rng: np.random.Generator) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """Calibrated to look like a shop: a category is bought within a week by few, an offer redeemed by fewer.

    returns  `predictions` with every output, and `heads`, which says the very same of what a decision asks
    """
    nodes = [
        helper.make_node("Softsign", ["features"], ["bounded"]),
        helper.make_node("Concat", ["bounded", "shopper_vector"], ["seen"], axis=1),
    ]
    asked, weights = list(nodes), dict[str, NDArray[np.generic]]()
    for output, (used, about) in HEADS.items():
        width = OUTLOOK_OUTPUTS[output][1]
        mask = np.zeros(width, np.float32)
        mask[used] = 1.0
        weights[f"{output}_mask"] = mask
        own = _dense(weights, rng, output, "seen", f"{output}_raw", (N_FEATURES + VECTOR_WIDTH, width), about)
        bend = "Sigmoid" if "_prob" in output else "Identity" if output == "spend_uplift" else "Softplus"
        own.append(helper.make_node(bend, [f"{output}_raw"], [f"{output}_all"]))
        own.append(helper.make_node("Mul", [f"{output}_all", f"{output}_mask"], [output]))
        nodes += own
        asked += own if output in HEAD_OUTPUTS else []
    read = {name for node in asked for name in node.input}
    few = {name: array for name, array in weights.items() if name in read}
    return _model("predictions", nodes, weights), _model("heads", asked, few)


def _encoder(rng: np.random.Generator) -> onnx.ModelProto:
    """Mean embedding of the last items against every item; index 0, padding, is never recommended."""
    weights: Arrays = {
        "embedding": rng.normal(0.0, 1.0, (N_ITEMS + 1, EMBEDDING)).astype(np.float32),
        "axis": np.array([1], np.int64),
        "n_top": np.array([N_TOP_ITEMS], np.int64),
        "first": np.array(0, np.int32),
        "last": np.array(N_ITEMS, np.int32),
        "days": np.array(float(DAY_S), np.float32),
        "no_item": np.zeros((1, N_TOP_ITEMS), np.int32),
    }
    nodes = [
        helper.make_node("Clip", ["event_item", "first", "last"], ["known"]),
        helper.make_node("Gather", ["embedding", "known"], ["embedded"]),
        helper.make_node("ReduceMean", ["embedded", "axis"], ["mean"], keepdims=0),
        # Kinds, gaps and prices move the vector too, so that a door that mixes the tensors up is found out.
        helper.make_node("Cast", ["event_kind"], ["kind"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["kind", "axis"], ["mean_kind"], keepdims=1),
        helper.make_node("Cast", ["event_gap_s"], ["gap_s"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["gap_s", "days"], ["gap"]),
        helper.make_node("ReduceMean", ["gap", "axis"], ["mean_gap"], keepdims=1),
        helper.make_node("Cast", ["event_price"], ["price"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["price", "axis"], ["mean_price"], keepdims=1),
        helper.make_node("Concat", ["mean", "mean_kind", "mean_gap", "mean_price"], ["taste"], axis=1),
        *_dense(weights, rng, "vector", "taste", "shopper_vector", (EMBEDDING + 3, VECTOR_WIDTH), 0.0),
        *_dense(weights, rng, "next", "taste", "next_kind", (EMBEDDING + 3, N_NEXT_KINDS), 0.0),
        helper.make_node("Softmax", ["next_kind"], ["next_kind_prob"], axis=1),
        *_dense(weights, rng, "item", "taste", "log_odds", (EMBEDDING + 3, N_ITEMS + 1), -3.0),
        helper.make_node("Sigmoid", ["log_odds"], ["prob"]),
        helper.make_node("TopK", ["prob", "n_top"], ["item_prob", "index"], axis=1),
        helper.make_node("Cast", ["index"], ["item_index"], to=TensorProto.INT32),
        helper.make_node("Mul", ["item_index", "no_item"], ["item_reason"]),
        helper.make_node("Mul", ["item_index", "no_item"], ["item_because"]),
    ]
    weights["item_bias"][0] = -100.0
    return _model("encoder", nodes, weights)


def _session(rng: np.random.Generator) -> onnx.ModelProto:
    """Items ranked by how far they lie from the session's last one in the vocabulary: plain to check."""
    weights: Arrays = {
        "every": np.arange(N_ITEMS + 1, dtype=np.float32)[None, :],
        "latest": np.array([N_SESSION - 1], np.int64),
        "n_top": np.array([N_TOP_ITEMS], np.int64),
        "padding": np.array([[100.0] + [0.0] * N_ITEMS], np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["session_items"], ["items"], to=TensorProto.FLOAT),
        helper.make_node("Gather", ["items", "latest"], ["last"], axis=1),
        helper.make_node("Sub", ["every", "last"], ["gap"]),
        helper.make_node("Abs", ["gap"], ["far"]),
        helper.make_node("Add", ["far", "padding"], ["distance"]),
        helper.make_node("Neg", ["distance"], ["log_odds"]),
        helper.make_node("TopK", ["log_odds", "n_top"], ["best", "index"], axis=1),
        helper.make_node("Sigmoid", ["best"], ["item_prob"]),
        helper.make_node("Cast", ["index"], ["item_index"], to=TensorProto.INT32),
    ]
    return _model("session", nodes, weights)


def _dense(
    weights: dict[str, NDArray[np.generic]],
    rng: np.random.Generator,
    name: str,
    source: str,
    target: str,
    shape: tuple[int, int],
    bias: float,
) -> list[onnx.NodeProto]:
    weights[f"{name}_weight"] = rng.normal(0.0, shape[0] ** -0.5, shape).astype(np.float32)
    weights[f"{name}_bias"] = (bias + rng.normal(0.0, 0.5, shape[1])).astype(np.float32)
    return [helper.make_node("Gemm", [source, f"{name}_weight", f"{name}_bias"], [target])]


def _model(name: str, nodes: list[onnx.NodeProto], weights: dict[str, NDArray[np.generic]]) -> onnx.ModelProto:
    def described(tensor: Tensor) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(tensor[0], ONNX_TYPES[tensor[1]], ["batch", tensor[2]])

    sources, targets = MODELS[name]
    constants = [numpy_helper.from_array(array, key) for key, array in weights.items()]
    graph = helper.make_graph(nodes, name, [*map(described, sources)], [*map(described, targets)], constants)
    # IR 10 and opset 18 are read by every ONNX Runtime since 1.18; ReduceMean's axes are an input from opset 18 on.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def _tensors(key: str, tensors: tuple[Tensor, ...]) -> str:
    return "\n".join(f'{key} {{ name: "{name}" data_type: {kind} dims: [ {width} ] }}' for name, kind, width in tensors)


def _config(name: str) -> str:
    sources, targets = MODELS[name]
    most_rows = 1_024 if name == "heads" else 256  # as training/configs.py has them
    return (
        f'name: "{name}"\nbackend: "onnxruntime"\nmax_batch_size: {most_rows}\n{_tensors("input", sources)}\n'
        f"{_tensors('output', targets)}\ninstance_group {{ kind: KIND_AUTO count: 1 }}\n"
        "dynamic_batching { max_queue_delay_microseconds: 0 }\n"
    )


def _write_self_tests(folder: Path, rng: np.random.Generator) -> None:
    """The known tensors that the start-up self-test compares."""
    for name in MODELS:
        inputs = tiny_inputs(name, SELF_TEST_ROWS, seed=int(rng.integers(1 << 30)))
        known = {f"in_{tensor}": array for tensor, array in inputs.items()}
        known |= {f"out_{key}": array for key, array in local_answers(folder, name, inputs).items()}
        np.savez(folder / name / "1" / "self_test.npz", **known)


def _items(rng: np.random.Generator) -> pl.DataFrame:
    """Items 1 to N_ITEMS of the vocabulary and a few outside of it."""
    index = np.array([*range(1, N_ITEMS + 1), 0, 0, 0], np.int32)
    slot = (np.arange(index.size) % len(CATEGORIES)).astype(np.int16)
    return pl.DataFrame(
        {
            "item_index": index,
            "item_id": [f"item-{row + 1}" for row in range(index.size)],
            "title": [f"{CATEGORIES[place]} {row + 1}" for row, place in enumerate(slot)],
            "category": slot,
            "price_micros": rng.integers(50, 1500, index.size) * 10_000,
            "is_showable": np.arange(index.size) % 5 != 0,
        }
    )


def _catalogue(rng: np.random.Generator) -> dict[str, object]:
    names = [*CATEGORIES, *[""] * (N_CATEGORIES - len(CATEGORIES) - 1), "other"]
    offers = []
    for place in range(6):
        group = place % len(OFFER_GROUPS)
        category = CATEGORIES.index(OFFER_GROUPS[group]) if OFFER_GROUPS[group] in CATEGORIES else N_CATEGORIES - 1
        campaign = 1 + place // 2
        offers.append(
            {
                "offer_id": f"{campaign}:{names[category]}",
                "campaign_id": str(campaign),
                "arm": ARMS[(campaign - 1) % len(ARMS)],
                "offer_group": group,
                "category": category,
                "kind": "amount",
                "title": f"{names[category]}: money off",
                "discount_micros": 500_000 + 100_000 * place,
                "starts_s": AS_OF_S - 7 * DAY_S,
                "ends_s": AS_OF_S + 28 * DAY_S,
                "group_share": 0.5,
                "usual_prob": 0.0,
                "arm_redemptions": 0.2,
            }
        )
    spend = [int(rng.integers(2, 12)) * 1_000_000 if name else 0 for name in names]
    return {
        "shop": "tiny",
        "currency_code": "USD",
        "as_of_s": AS_OF_S,
        "categories": names,
        "offer_groups": list(OFFER_GROUPS),
        "arms": list(ARMS),
        "offers": offers,
        "category_spend_micros": spend,
        "ad_slots": list(range(len(CATEGORIES))),
        "placements": {
            "ads": {"lift": 1.6, "lower": 1.4, "upper": 1.8, "n": 1000},
            "content": {"lift": 1.3, "lower": 1.1, "upper": 1.5, "n": 1000},
        },
    }


def _write_manifest(folder: Path) -> None:
    names = ["catalogue.json", "items.parquet", "tags.json"]
    names += [f"{model}/{file}" for model in MODELS for file in ("config.pbtxt", "1/model.onnx", "1/self_test.npz")]
    files = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in sorted(names)}
    manifest = {
        "release": hashlib.sha256(json.dumps(files).encode()).hexdigest()[:12],
        "created_s": AS_OF_S,
        "shop": "tiny",
        "training_window": {
            "first_s": AS_OF_S - 365 * DAY_S,
            "train_until_s": AS_OF_S - 90 * DAY_S,
            "valid_until_s": AS_OF_S - 55 * DAY_S,
            "last_s": AS_OF_S,
        },
        "features": list(columns()),
        "models": {
            name: {"version": 1, "metrics": {}, "parity": {"onnxruntime": 0.0, "triton": 0.0}} for name in MODELS
        },
        "files": files,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1))
