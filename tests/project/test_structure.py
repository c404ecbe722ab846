"""The house keeps its order: which room may import which, and how long files and functions may grow."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "slide_fast"
ALGORITHM = "algorithm"
# Floors from below. A room imports from its own floor and from those below it.
FLOORS = (
    {"kernels", "parallel", "readers"},
    {ALGORITHM},
    {"engine", "verify", "datasets", "display", "text"},
    {"training"},
    {"inference", "mpi"},
    {"estimator", "cli"},
)
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
ONE_MACHINE = [*PACKAGE.glob("*.py"), *(PACKAGE / "kernels").glob("*.py"), *(PACKAGE / "engine").glob("*.py")]
MPI_WORDS = ("mpi", "rank", "ranks", "communicator")
LINES, FUNCTION_LINES, PARAMETERS = 400, 60, 8
LONG = {"slide_fast/training.py:fit_with_state"}  # most of it says what each option means
ENTRY_POINTS = {  # constructors of estimators, and functions that users call, with each parameter described
    "slide_fast/estimator/classifier.py:__init__",
    "slide_fast/estimator/text_classifier.py:__init__",
    "slide_fast/training.py:fit_with_state",
    "slide_fast/datasets/synthetic.py:generate",
}


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def room_of(module):
    """The room of a module of the fast path by its full name; what stands in no room is the algorithm, or training."""
    parts = module.split(".")[1:]
    if not parts or (PACKAGE / parts[0]).is_dir() is False and parts[0] != "training":
        return ALGORITHM
    return parts[0] if parts[0] != "hashing" else ALGORITHM


def imports(path):
    """Full names of the modules that a file imports, at whatever depth, but for those that only type checkers see."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    hidden = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            name = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{name}.{alias.name}" for alias in node.names)


def arrows():
    """Pairs of rooms, and the file: who imports whom. The packages' own front doors import what they show."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.parent == PACKAGE and path.name.startswith("__"):
            continue
        own = room_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
        for name in imports(path):
            if name.split(".")[0] == "slide_fast":
                yield own, room_of(name), name_of(path)


def test_every_folder_is_a_room_with_a_floor():
    folders = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()} - {"hashing"}
    assert folders | {ALGORITHM, "training"} == set(FLOOR_OF)


def test_arrows_run_one_way():
    upwards = [f"{path}: {own} imports {other}" for own, other, path in arrows() if FLOOR_OF[own] < FLOOR_OF[other]]
    assert upwards == []


def test_rooms_of_a_floor_know_of_each_other_only_where_it_is_said():
    """The command line uses the estimator's helpers, not the other way; nothing but the command line imports MPI."""
    sideways = {(own, other) for own, other, _ in arrows() if own != other and FLOOR_OF[own] == FLOOR_OF[other]}
    assert sideways <= {("parallel", "kernels"), ("readers", "parallel"), ("cli", "estimator")}
    assert {own for own, other, _ in arrows() if other == "mpi"} <= {"mpi", "cli"}


@pytest.mark.parametrize("path", ONE_MACHINE, ids=name_of)
def test_who_reads_about_one_machine_never_meets_ranks(path):
    words = {word.strip(".,:;()`'\"").lower() for word in path.read_text(encoding="utf-8").split()}
    assert words.isdisjoint(MPI_WORDS)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=name_of)
def test_files_and_functions_are_short(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            name = f"{name_of(path)}:{node.name}"
            assert name in LONG or node.end_lineno - node.lineno < FUNCTION_LINES, name
            taken = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
            assert name in ENTRY_POINTS or len([a for a in taken if a not in ("self", "cls")]) <= PARAMETERS, name


def test_the_algorithm_is_in_sight():
    """What stands directly in the package is few files, and all but the front doors have a counterpart to read."""
    files = {path.name for path in PACKAGE.glob("*.py")}
    assert len(files) <= 16
    assert files - {"__init__.py", "__main__.py"} <= {path.name for path in (ROOT / "slide_ref").glob("*.py")}
