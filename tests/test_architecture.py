"""The structure: imports run one way, rooms know no stage, scripts are short and alike, nothing is unpickled."""

import ast
import re
from pathlib import Path

import pytest

PIPELINE = Path("pipeline")
ROOMS = [
    "competition",
    "images",
    "network",
    "features",
    "matching",
    "ranking",
    "report",
]  # each may use those before it
ON_TOP = {
    "config",
    "rehearsal",
    "run_folder",
    "run_settings",
    "runner",
    "status",
}  # they know the settings of all rooms, and run the stages
COMMANDS = {path.stem for path in PIPELINE.glob("*.py") if "__main__" in path.read_text()}
ASKING = "query"  # a command with rooms of its own, above the others: it goes through all of them as the stages do
GROUND = {path.stem for path in PIPELINE.glob("*.py")} - ON_TOP - COMMANDS - {"__init__"}
OF_STAGES = {"layout", "console"}  # ground that only the top and the stages use: names of stages, the process
STAGE_NAME = re.compile(r"\b(0[1-9]|1[0-2])_[a-z]+_")


def modules() -> list[Path]:
    """All files of the library."""
    return sorted(PIPELINE.rglob("*.py"))


def imported(path: Path) -> set[str]:
    """The modules of the pipeline that a file imports, anywhere in it, such as images.decode."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "pipeline":
            is_package = PIPELINE.joinpath(*node.module.split(".")[1:]).is_dir()
            names |= {f"{node.module}.{alias.name}" for alias in node.names} if is_package else {node.module}
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names if alias.name.split(".")[0] == "pipeline"}
    return {name.removeprefix("pipeline.") for name in names}


def rooms_of(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imported(path)}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_the_ground_and_the_rooms_before_it(room):
    allowed = GROUND - OF_STAGES | set(ROOMS[: ROOMS.index(room) + 1])
    for path in (PIPELINE / room).rglob("*.py"):
        assert rooms_of(path) <= allowed, f"{path} imports {rooms_of(path) - allowed}"


def test_the_ground_imports_only_the_ground():
    for name in GROUND:
        assert rooms_of(PIPELINE / f"{name}.py") <= GROUND, name


def test_every_folder_of_the_library_has_its_place_in_the_order():
    folders = {path.name for path in PIPELINE.iterdir() if (path / "__init__.py").exists()}
    assert folders == {*ROOMS, "tasks", "demo_world", ASKING}
    for path in modules():
        if path.parent.name == "demo_world":
            assert rooms_of(path) <= GROUND - OF_STAGES | {"demo_world"}, path
        else:
            assert "demo_world" not in rooms_of(path), f"{path}: only stage 01 renders the demo world"
        if path.parent.name not in ("tasks", ASKING):
            assert "tasks" not in rooms_of(path), f"{path}: only the stages and queries use their tasks"
        if path.parent.name != ASKING and path.stem not in COMMANDS:
            assert ASKING not in rooms_of(path), f"{path}: nothing needs a query"


def test_only_the_layout_names_stages():
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and path.stem != "layout":
                assert not STAGE_NAME.search(node.value), f"{path}:{node.lineno} names a stage: {node.value[:60]!r}"


def test_only_the_runner_and_the_commands_read_a_command_line():
    reading = {path.stem for path in modules() if "argparse" in path.read_text() or "sys.argv" in path.read_text()}
    assert reading == COMMANDS | {"__main__", "runner", "console"}  # console logs the command
    for name in COMMANDS:
        assert len((PIPELINE / f"{name}.py").read_text().splitlines()) < 160, name


def test_the_modules_that_the_readme_imports_need_no_run():
    """A researcher imports one function: with it come no configuration, no artifacts and no stages."""
    offered = re.findall(r"^from pipeline\.(\S+) import", Path("README.md").read_text(), re.MULTILINE)
    assert len(offered) >= 4
    reached, left = set(), set(offered)
    while left:
        name = left.pop()
        reached.add(name)
        left |= imported(PIPELINE / Path(*name.split(".")).with_suffix(".py")) - reached
    assert not {name.split(".")[0] for name in reached} & {*ON_TOP, *OF_STAGES, "artifacts", "task_context", "tasks"}


def functions(path: Path) -> list[ast.FunctionDef]:
    return [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)]


def test_functions_are_short_and_take_few_parameters():
    many = []
    for path in modules():
        for function in functions(path):
            assert (function.end_lineno or 0) - function.lineno < 40, f"{path}: {function.name} is too long"
            given = function.args.posonlyargs + function.args.args + function.args.kwonlyargs
            many += (
                [f"{path}: {function.name}"]
                if len([one for one in given if one.arg not in ("self", "cls")]) > 6
                else []
            )
    assert len(many) <= 5, many


def test_stage_scripts_are_short_and_alike():
    for path in Path("stages").glob("[0-9]*.py"):
        text = path.read_text()
        assert len(text.splitlines()) <= 80, path
        assert all((function.end_lineno or 0) - function.lineno < 35 for function in functions(path)), path
        assert re.search(r"^STAGE = Stage\(layout\.\w+, version=\d+, tasks=tasks\)$", text, re.MULTILINE), path
        assert text.endswith('if __name__ == "__main__":\n    sys.exit(main(STAGE.name))\n'), path
        assert ast.get_docstring(ast.parse(text)).startswith(f"Stage {path.stem[:2]}: "), path


def test_nothing_is_ever_unpickled_but_as_plain_data():
    for path in modules():
        reads = re.search(r"^\s*(import pickle|from pickle import)\b", path.read_text(), re.MULTILINE)
        assert not reads or path.stem == "plain_pickle", path
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name, arguments = ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}
            assert name not in ("pickle.load", "pickle.loads", "joblib.load", "pd.read_pickle"), path
            assert arguments.get("allow_pickle") != "True", path
            assert name != "torch.load" or arguments.get("weights_only") == "True", path
