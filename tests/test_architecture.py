"""The house: imports run one way, the numeric rooms are empty of files and settings, scripts are alike."""

import ast
from pathlib import Path

import pytest

ROOMS = [
    "competition",
    "images",
    "network",
    "features",
    "matching",
    "ranking",
    "report",
]  # each may use those before it
GROUND = {"errors", "sections", "steps", "config", "artifacts", "workplace", "processes", "console", "runner"}
COMMANDS = {"score"}  # scoring two files needs no run, so its command stands beside the library; it only calls it
NUMERIC = [
    "competition/metrics",
    "competition/benchmark_metrics",
    "network/cosine_softmax",
    "network/heads",
    "network/pooling",
    "features/whitening",
    "matching/knn",
    "matching/mutual",
    "matching/geometry",
    "matching/cleaning",
    "ranking/ranking",
    "ranking/voting",
    "ranking/two_stage",
    "ranking/verified",
    "ranking/candidates",
    "ranking/shortlist",
    "ranking/expansion",
    "ranking/diffusion",
    "ranking/graph_traversal",
    "ranking/k_reciprocal",
    "ranking/superglobal",
    "ranking/soft",
    "ranking/label_vector",
    "ranking/recognition",
    "ranking/head_cosines",
    "ranking/non_landmarks",
]


def imported(path: Path) -> set[str]:
    """The modules of the pipeline that a file imports, anywhere in it, such as images.decode."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "pipeline":
            names |= (
                {f"{node.module}.{alias.name}" for alias in node.names} if node.module == "pipeline" else {node.module}
            )
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names if alias.name.split(".")[0] == "pipeline"}
    return {name.removeprefix("pipeline.") for name in names}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_itself_and_the_rooms_before_it(room):
    allowed = GROUND - {"console", "runner"} | set(ROOMS[: ROOMS.index(room) + 1])
    for path in Path("pipeline", room).rglob("*.py"):
        for name in imported(path):
            assert name.split(".")[0] in allowed, f"{path} imports {name}"


def test_the_ground_imports_the_ground_alone():
    for path in Path("pipeline").glob("*.py"):
        if path.stem not in COMMANDS:
            assert {name.split(".")[0] for name in imported(path)} <= GROUND, path


def test_only_the_demo_world_imports_the_demo_world_and_it_needs_only_the_ground():
    for path in Path("pipeline").rglob("*.py"):
        rooms = {name.split(".")[0] for name in imported(path)}
        if path.parent.name == "demo_world":
            assert rooms <= GROUND | {"demo_world"}, path
        else:
            assert "demo_world" not in rooms, path


def test_no_other_file_of_the_library_reads_a_command_line():
    reading = {
        path.stem
        for path in Path("pipeline").rglob("*.py")
        if any(word in path.read_text() for word in ("argparse", "sys.argv", "__main__"))
    }
    assert reading == COMMANDS | {"runner", "console"}  # what the stages share; console logs the command
    for name in COMMANDS:
        assert len(Path("pipeline", f"{name}.py").read_text().splitlines()) < 60, name


@pytest.mark.parametrize("module", NUMERIC)
def test_a_numeric_module_knows_no_file_no_setting_and_no_stage(module):
    path = Path("pipeline", f"{module}.py")
    assert not {name.split(".")[0] for name in imported(path)} & GROUND
    for node in ast.walk(ast.parse(path.read_text())):
        called = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
        assert called not in ("open", "Path"), f"{path}:{node.lineno} touches files"


def test_stage_scripts_are_short_and_alike():
    for path in Path("stages").glob("[0-9]*.py"):
        text = path.read_text()
        assert len(text.splitlines()) <= 140, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert (node.end_lineno or 0) - node.lineno < 35, f"{path}: {node.name}"
        assert f'STAGE = Stage("{path.stem}", version=' in text, path
        assert text.endswith('if __name__ == "__main__":\n    sys.exit(main(STAGE.name))\n'), path
        assert ast.get_docstring(ast.parse(text)).startswith(f"Stage {path.stem[:2]}: "), path


def test_nothing_is_ever_unpickled_but_as_plain_data():
    for path in Path("pipeline").rglob("*.py"):
        assert "import pickle" not in path.read_text() or path.stem == "plain_pickle", path
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name, arguments = ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}
            assert name not in ("pickle.load", "pickle.loads", "joblib.load", "pd.read_pickle"), path
            assert arguments.get("allow_pickle") != "True", path
            assert name != "torch.load" or arguments.get("weights_only") == "True", path
