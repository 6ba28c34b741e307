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

from kernels.features import HISTORY, N_ARMS, N_CATEGORIES, N_FEATURES, N_OFFER_GROUPS, N_TOP_ITEMS, columns
from kernels.tag_limits import TagLimits

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

FEATURES_IN = ("features", "TYPE_FP32", N_FEATURES)
HISTORY_IN = ("item_history", "TYPE_INT32", HISTORY)
Tensor = tuple[str, str, int]
MODELS: dict[str, tuple[Tensor, tuple[Tensor, Tensor]]] = {
    "response": (
        FEATURES_IN,
        (("category_prob", "TYPE_FP32", N_CATEGORIES), ("redeem_prob", "TYPE_FP32", N_OFFER_GROUPS)),
    ),
    "uplift": (FEATURES_IN, (("spend_uplift", "TYPE_FP32", N_ARMS), ("spend_uplift_se", "TYPE_FP32", N_ARMS))),
    "recommendation": (
        HISTORY_IN,
        (("item_index", "TYPE_INT32", N_TOP_ITEMS), ("item_prob", "TYPE_FP32", N_TOP_ITEMS)),
    ),
}
ONNX_TYPES = {"TYPE_FP32": TensorProto.FLOAT, "TYPE_INT32": TensorProto.INT32}
Arrays = dict[str, NDArray[np.float32]]


def write_tiny_repository(folder: Path, seed: int = 0) -> None:
    """Write response, uplift, recommendation, their ensemble predictions, the catalogue, the items and the manifest.

    folder  made where it is missing; files in it are replaced
    seed    weights and prices follow from it
    """
    rng = np.random.default_rng(seed)
    graphs = {"response": _response(rng), "uplift": _uplift(rng), "recommendation": _recommendation(rng)}
    for name, model in graphs.items():
        version = folder / name / "1"
        version.mkdir(parents=True, exist_ok=True)
        onnx.save(model, version / "model.onnx")
        (folder / name / "config.pbtxt").write_text(_config(name))
    (folder / "predictions" / "1").mkdir(parents=True, exist_ok=True)
    (folder / "predictions" / "config.pbtxt").write_text(_ensemble())
    _write_self_tests(folder, rng)
    _items(rng).write_parquet(folder / "items.parquet")
    (folder / "tags.json").write_bytes(TAG_LIMITS.to_json())
    (folder / "catalogue.json").write_text(json.dumps(_catalogue(rng), indent=1))
    _write_manifest(folder)


def tiny_inputs(batch: int, seed: int = 1) -> dict[str, NDArray[np.float32] | NDArray[np.int32]]:
    """Plausible inputs of `predictions`.

    returns  features (batch, N_FEATURES) float32 and item_history (batch, HISTORY) int32, zeros on the left
    """
    rng = np.random.default_rng(seed)
    history = rng.integers(1, N_ITEMS + 1, (batch, HISTORY)).astype(np.int32)
    history[np.arange(HISTORY) < rng.integers(0, HISTORY + 1, (batch, 1))] = 0
    return {"features": rng.gamma(1.0, 5.0, (batch, N_FEATURES)).astype(np.float32), "item_history": history}


def local_answers(folder: Path, model: str, inputs: dict[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
    """What ONNX Runtime answers in this process; for `predictions`, what its three models do together."""
    if model == "predictions":
        return {name: array for part in MODELS for name, array in local_answers(folder, part, inputs).items()}
    session = onnxruntime.InferenceSession(folder / model / "1" / "model.onnx", providers=["CPUExecutionProvider"])
    wanted = {tensor.name: inputs[tensor.name] for tensor in session.get_inputs()}
    return dict(zip([tensor.name for tensor in session.get_outputs()], session.run(None, wanted), strict=True))


def _response(rng: np.random.Generator) -> onnx.ModelProto:
    """Calibrated to look like a shop: a category is bought within a week by few, an offer redeemed by fewer."""
    nodes, weights = [helper.make_node("Softsign", ["features"], ["bounded"])], {}
    for output, width, used, bias in (
        ("category_prob", N_CATEGORIES, [*range(len(CATEGORIES)), N_CATEGORIES - 1], -1.0),
        ("redeem_prob", N_OFFER_GROUPS, list(range(len(OFFER_GROUPS))), -2.5),
    ):
        mask = np.zeros(width, np.float32)
        mask[used] = 1.0
        weights[f"{output}_mask"] = mask
        nodes += _dense(weights, rng, output, "bounded", f"{output}_log_odds", (N_FEATURES, width), bias)
        nodes.append(helper.make_node("Sigmoid", [f"{output}_log_odds"], [f"{output}_all"]))
        nodes.append(helper.make_node("Mul", [f"{output}_all", f"{output}_mask"], [output]))
    return _model("response", nodes, weights)


def _uplift(rng: np.random.Generator) -> onnx.ModelProto:
    weights = {"used": np.array([arm < len(ARMS) for arm in range(N_ARMS)], np.float32)}
    nodes = [
        helper.make_node("Softsign", ["features"], ["bounded"]),
        *_dense(weights, rng, "mean", "bounded", "mean_all", (N_FEATURES, N_ARMS), 2.0),
        helper.make_node("Mul", ["mean_all", "used"], ["spend_uplift"]),
        *_dense(weights, rng, "spread", "bounded", "spread_log", (N_FEATURES, N_ARMS), 1.0),
        helper.make_node("Softplus", ["spread_log"], ["spread_all"]),
        helper.make_node("Mul", ["spread_all", "used"], ["spend_uplift_se"]),
    ]
    return _model("uplift", nodes, weights)


def _recommendation(rng: np.random.Generator) -> onnx.ModelProto:
    """Mean embedding of the last items against every item; index 0, padding, is never recommended."""
    weights: dict[str, NDArray[np.generic]] = {
        "embedding": rng.normal(0.0, 1.0, (N_ITEMS + 1, EMBEDDING)).astype(np.float32),
        "axis": np.array([1], np.int64),
        "n_top": np.array([N_TOP_ITEMS], np.int64),
        "first": np.array(0, np.int32),
        "last": np.array(N_ITEMS, np.int32),
    }
    nodes = [
        helper.make_node("Clip", ["item_history", "first", "last"], ["known"]),
        helper.make_node("Gather", ["embedding", "known"], ["embedded"]),
        helper.make_node("ReduceMean", ["embedded", "axis"], ["taste"], keepdims=0),
        *_dense(weights, rng, "item", "taste", "log_odds", (EMBEDDING, N_ITEMS + 1), -3.0),
        helper.make_node("Sigmoid", ["log_odds"], ["prob"]),
        helper.make_node("TopK", ["prob", "n_top"], ["item_prob", "index"], axis=1),
        helper.make_node("Cast", ["index"], ["item_index"], to=TensorProto.INT32),
    ]
    weights["item_bias"][0] = -100.0
    return _model("recommendation", nodes, weights)


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

    source, targets = MODELS[name]
    constants = [numpy_helper.from_array(array, key) for key, array in weights.items()]
    graph = helper.make_graph(nodes, name, [described(source)], [described(target) for target in targets], constants)
    # IR 10 and opset 18 are read by every ONNX Runtime since 1.18; ReduceMean's axes are an input from opset 18 on.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def _tensors(key: str, tensors: tuple[Tensor, ...]) -> str:
    return "\n".join(f'{key} {{ name: "{name}" data_type: {kind} dims: [ {width} ] }}' for name, kind, width in tensors)


def _config(name: str) -> str:
    source, targets = MODELS[name]
    return (
        f'name: "{name}"\nbackend: "onnxruntime"\nmax_batch_size: 256\n{_tensors("input", (source,))}\n'
        f"{_tensors('output', targets)}\ninstance_group {{ kind: KIND_AUTO count: 1 }}\n"
        "dynamic_batching { max_queue_delay_microseconds: 0 }\n"
    )


def _ensemble() -> str:
    steps = []
    for name, (source, targets) in MODELS.items():
        maps = [f'input_map {{ key: "{source[0]}" value: "{source[0]}" }}']
        maps += [f'output_map {{ key: "{target[0]}" value: "{target[0]}" }}' for target in targets]
        steps.append(f'  step {{ model_name: "{name}" model_version: -1 {" ".join(maps)} }}')
    outputs = tuple(target for _, targets in MODELS.values() for target in targets)
    return (
        'name: "predictions"\nplatform: "ensemble"\nmax_batch_size: 256\n'
        f"{_tensors('input', (FEATURES_IN, HISTORY_IN))}\n"
        f"{_tensors('output', outputs)}\nensemble_scheduling {{\n" + "\n".join(steps) + "\n}\n"
    )


def _write_self_tests(folder: Path, rng: np.random.Generator) -> None:
    """The known tensors that the start-up self-test compares."""
    inputs = tiny_inputs(SELF_TEST_ROWS, seed=int(rng.integers(1 << 30)))
    for name, (source, _) in MODELS.items():
        known = {f"in_{source[0]}": inputs[source[0]]}
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
    names = ["catalogue.json", "items.parquet", "tags.json", "predictions/config.pbtxt"]
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
