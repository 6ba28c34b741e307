"""The repository keeps its own rules: import directions, one name from proto to tensor, sizes, documents."""

import ast
import importlib
import inspect
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from kernels import event_history, features
from server.state.encodings import TENSORS
from server.triton.client import HEAD_OUTPUTS, OUTLOOK_OUTPUTS, SOMETIMES
from tests.benchmarks import gateway_sheet, models_sheet, scaling_sheet, serving_sheet
from tests.benchmarks.readme import rendered
from tests.faults import sheet as fault_sheet

ROOT = Path(__file__).resolve().parents[1]
OURS = {"kernels", "training", "server", "evaluation", "cli", "stratagem", "tests"}
# design.md, section 2: what each folder may import of ours, itself aside.
MAY_IMPORT = {
    "kernels": set(),
    "training": {"kernels"},
    "server": {"kernels", "stratagem"},
    "evaluation": {"kernels", "server.strategy"},
}
DOCUMENTED = ("kernels",)
LONGEST_FILE, LONGEST_FUNCTION = 400, 60


def sources(*folders: str) -> list[Path]:
    """Python files that git knows or would add, generated stubs aside."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    return [
        ROOT / name
        for name in listed
        if "_pb2" not in name and (ROOT / name).exists() and (not folders or name.split("/")[0] in folders)
    ]


def imported_modules(path: Path) -> Iterator[str]:
    """Full dotted names of what `path` imports, submodules of `from` imports included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_folder_imports_only_what_the_design_allows(folder: str) -> None:
    wrong = []
    for path in sources(folder):
        for module in imported_modules(path):
            top = module.split(".")[0]
            allowed = MAY_IMPORT[folder] | {folder}
            if top in OURS and not any(module == name or module.startswith(name + ".") for name in allowed):
                wrong.append(f"{path.relative_to(ROOT)} imports {module}")
    assert wrong == []


def test_server_never_imports_torch() -> None:
    assert [
        path.name for path in sources("server") if any(m.split(".")[0] == "torch" for m in imported_modules(path))
    ] == []


def test_kernels_import_numpy_and_numba_only() -> None:
    allowed = {"numpy", "numba", "kernels"} | sys.stdlib_module_names
    assert {m.split(".")[0] for path in sources("kernels") for m in imported_modules(path)} - allowed == set()


def test_the_strategy_does_no_input_or_output() -> None:
    forbidden = {"os", "pathlib", "time", "datetime", "lmdb", "grpc", "stratagem", "random", "asyncio"}
    strategy = [path for path in sources("server") if path.parent.name == "strategy"]
    assert strategy
    assert {m.split(".")[0] for path in strategy for m in imported_modules(path)} & forbidden == set()


def test_files_and_functions_keep_the_house_size() -> None:
    lengths = {}
    for path in sources():
        text, name = path.read_text(), str(path.relative_to(ROOT))
        lengths[name] = (text.count("\n"), LONGEST_FILE)
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
                lengths[f"{name}:{node.lineno} {node.name}"] = (node.end_lineno - node.lineno + 1, LONGEST_FUNCTION)
    assert {name: length for name, (length, most) in lengths.items() if length > most} == {}


def test_features_have_one_list_from_proto_to_tensor() -> None:
    from stratagem.v1 import profile_pb2

    fields = [field.name for field in profile_pb2.ShopperFeatures.DESCRIPTOR.fields]
    assert fields == [feature.name for feature in features.FEATURES]
    floats = [feature.width for feature in features.FEATURES if feature.dtype == "float32"]
    assert sum(floats) == features.N_FEATURES
    for model in ("tags", "response", "uplift", "lifetime", "predictions", "heads"):
        widths = {entry.name: list(entry.dims) for entry in config_of(model).input}
        assert widths["features"] == [features.N_FEATURES]
    widths = {entry.name: list(entry.dims) for entry in config_of("encoder").input}
    assert widths == {f"event_{name}": [event_history.LENGTH] for name in event_history.COLUMNS}


def test_what_the_gateway_asks_is_what_the_configs_promise() -> None:
    asked = {"encoder": TENSORS, "heads": HEAD_OUTPUTS, "predictions": OUTLOOK_OUTPUTS, **SOMETIMES}
    for model, outputs in asked.items():
        promised = {entry.name: (entry.data_type, list(entry.dims)) for entry in config_of(model).output}
        types = {np.float32: model_config_pb2.TYPE_FP32, np.int32: model_config_pb2.TYPE_INT32}
        assert promised == {name: (types[dtype], [width]) for name, (dtype, width) in outputs.items()}


def config_of(model: str) -> model_config_pb2.ModelConfig:
    """The committed config.pbtxt of `model`, parsed as Triton parses it."""
    text = (ROOT / "model_repository" / model / "config.pbtxt").read_text()
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def test_committed_configs_are_those_a_gpu_image_would_serve() -> None:
    shop = ("encoder", "tags", "response", "uplift", "lifetime", "heads")
    for model in (*shop, "session", "risk_transaction", "risk_review"):
        config = config_of(model)
        assert (config.name, config.backend) == (model, "onnxruntime")
        assert config.HasField("dynamic_batching")
        assert [group.kind for group in config.instance_group] == [model_config_pb2.ModelInstanceGroup.KIND_AUTO]


def test_generated_stubs_equal_their_protos(tmp_path: Path) -> None:
    generate = importlib.import_module("protos.generate")
    generate.generate(tmp_path)
    fresh = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*_pb2*")}
    committed = {
        path.relative_to(ROOT / "protos"): path.read_text()
        for path in (ROOT / "protos").rglob("*_pb2*.py*")
        if "__pycache__" not in path.parts
    }
    assert fresh.keys() == committed.keys()
    assert [str(name) for name, text in fresh.items() if committed[name] != text] == []


@pytest.mark.parametrize("path", sources(*DOCUMENTED), ids=lambda path: path.stem)
def test_docstring_rows_name_the_parameters(path: Path) -> None:
    module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"))
    drifted = []
    for name, function in vars(module).items():
        if name.startswith("_") or not inspect.isfunction(function) or function.__module__ != module.__name__:
            continue
        parameters = list(inspect.signature(function).parameters)
        rows = documented_names(inspect.getdoc(function) or "")
        if parameters and [row for row in rows if row not in ("returns", "raises", "source")] != parameters:
            drifted.append(f"{name}: parameters {parameters}, rows {rows}")
    assert drifted == []


def documented_names(docstring: str) -> list[str]:
    """First words of the rows below a docstring's prose; one row may name several parameters, parted by commas."""
    names = []
    for line in docstring.splitlines()[1:]:
        row = re.match(r"^(\w+(?:, \w+)*)(?: \(.*?\).*?|  ).+", line)
        if row:
            names += row[1].split(", ")
    return names


def test_nothing_names_the_workshop_outside_tests_and_ci() -> None:
    workshop = "../" + "shared"
    told = subprocess.run(
        ["git", "grep", "-lF", workshop, "--", ":!tests", ":!.ci"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split()
    assert told == []


def test_readme_tree_is_the_tree() -> None:
    block = re.search(r"```text\n(README\.md.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert block, "README.md lost its tree"
    named = re.findall(r"^(?:  )?([\w./]+?)/?(?=\s|$)", block[1], re.M)
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    tops = {name.split("/")[0] for name in tracked if not name.startswith(".git")}
    assert tops - {".ci"} <= {name.split("/")[0] for name in named}, (
        "a top-level entry is missing from the README's tree"
    )


def test_readme_commands_exist() -> None:
    readme = (ROOT / "README.md").read_text()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"`make ([a-z-]+)`", readme)) <= targets
    cli = importlib.import_module("cli")
    verbs = {command.name or command.callback.__name__ for command in cli.app.registered_commands}
    verbs |= {group.name for group in cli.app.registered_groups}
    assert set(re.findall(r"\bstratagem ([a-z-]+)\b", readme)) <= verbs


def test_readme_tables_come_from_committed_results() -> None:
    readme = (ROOT / "README.md").read_text()
    assert rendered(readme) == readme, "run `python -m tests.benchmarks.readme`"


def test_the_scaling_sheet_comes_from_its_record() -> None:
    assert scaling_sheet.SHEET.read_text() == scaling_sheet.sheet(json.loads(scaling_sheet.RECORD.read_text()))


def test_the_gateway_and_fault_sheets_come_from_their_records() -> None:
    for page in (gateway_sheet, fault_sheet):
        assert page.SHEET.read_text() == page.sheet(json.loads(page.RECORD.read_text()))


def test_the_models_sheet_comes_from_its_record() -> None:
    assert models_sheet.SHEET.read_text() == models_sheet.sheet(json.loads(models_sheet.RECORD.read_text()))


def test_the_serving_sheet_comes_from_its_record() -> None:
    assert serving_sheet.SHEET.read_text() == serving_sheet.sheet(json.loads(serving_sheet.RECORD.read_text()))
