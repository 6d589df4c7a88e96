"""Which code a task runs, and its digest per file: an artifact is stale when that code has changed.

The files are found in the source, without importing them: from the function of a task along the names that it uses and
the imports in it. What counts of a file that is reached:

* In the rooms of the library (competition, images, network, features, matching, ranking, report) the whole file: it
  computes bytes, and what one function of it reaches through objects of another cannot be read off the source.
* In the stage scripts, pipeline/tasks and the files directly below pipeline/, only the definitions that are reached by
  name. They hold the code of many tasks side by side, and an edit of one shall not repeat days of another.
* Of the settings and the configuration, the methods whose names occur in code that is reached. Fields do not count:
  their values are in the cache key.
* Of the modules in `WITHOUT_BYTES` nothing: they name, schedule, report and stop.

Not counted anywhere: comments, docstrings, formatting, the order of imports at the top of a file, and annotations of
parameters, results and variables, which nothing reads at run time (those in the body of a class do count: there they
define fields). Not seen: code that is reached through a name computed at run time, and other packages, whose versions
the manifest records. Raise the stage's version for a change that this cannot see.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import gc
import hashlib
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

LIBRARY = Path(__file__).resolve().parent
WITHOUT_BYTES = {"code_digest.py", "console.py", "errors.py", "layout.py", "runner.py", "task_context.py"}
BY_METHOD = ("settings.py", "config.py")  # their objects come to a task from the runner, without a name to follow
BY_NAME = "tasks"  # the only folder of the library that is not taken whole
WHOLE = "*"
Place = tuple[str, str]  # a file, and a name that it defines
IMPORTS = (ast.Import, ast.ImportFrom)
REFERRING = {ast.Name, ast.Attribute, *IMPORTS}
NOT_RUN = {"ctx", "kind", "returns", "type_comment"}


class Definition(NamedTuple):
    """A definition in a file: the digest of its syntax tree, and what it refers to."""

    digest: str
    names: frozenset[str]
    attributes: frozenset[str]
    imports: frozenset[tuple[str, str]]


def digest_code(work: Callable[..., Any]) -> dict[str, str]:
    """The digests of the code that `work` runs, by file: "matching/geometry.py", "stages/<script>.py".

    Arguments that are bound to it (functools.partial, fields of dataclasses) are followed too. Empty for a function
    without a file. Files are read once in a process: it runs what it has loaded.
    """
    found = [(function.__code__.co_filename, function.__name__) for function in _bound_functions(work)]
    with _collector_paused():
        return _open_library().digest((Path(file), name) for file, name in found if Path(file).is_file())


class Library:
    """The source of the package pipeline in a folder, and what refers to what in it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._by_method = [str(folder / name) for name in BY_METHOD if (folder / name).is_file()]
        # What is asked for thousands of times, by --status, is answered once.
        self._source, self._refer, self._locate = cache(_Source), cache(self._find_targets), cache(self._find_import)
        self._is_whole, self._is_aside = cache(self._computes_bytes), cache(self._has_no_bytes)
        self._digest = cache(self._digest_reached)

    def digest(self, roots: Iterable[tuple[Path, str]]) -> dict[str, str]:
        """The digests of the code that the definitions (file, name) reach, by file."""
        return dict(self._digest(frozenset(self._place(str(path.resolve()), name) for path, name in roots)))

    def _digest_reached(self, roots: frozenset[Place]) -> dict[str, str]:
        reached: set[Place] = set()
        left = set(roots)
        while left:
            reached |= left
            left = set().union(*(self._refer(place) for place in left)) - reached
        parts: dict[str, list[str]] = {}
        for file, name in sorted(reached):
            if not self._is_aside(file):
                parts.setdefault(file, []).append(f"{name} {self._source(file).define(name).digest}")
        return {self._show(Path(file)): _hash(lines) for file, lines in parts.items()}

    def _find_targets(self, place: Place) -> set[Place]:
        """What a definition refers to, in its own file and in others."""
        file, name = place
        if self._is_aside(file):
            return set()
        source = self._source(file)
        definition = source.define(name)
        found = {self._place(file, other) for other in definition.names & source.statements.keys()}
        found |= {self._place(*target) for one in definition.imports if (target := self._locate(*one)) is not None}
        methods = {f".{attribute}" for attribute in definition.attributes}
        for settings in self._by_method:
            found |= {(settings, method) for method in methods & self._source(settings).statements.keys()}
        return found

    def _place(self, file: str, name: str) -> Place:
        """The definition that counts when `name` of a file is reached: the name's, or the whole file."""
        return file, WHOLE if self._is_whole(file) or name not in self._source(file).statements else name

    def _computes_bytes(self, file: str) -> bool:
        path = Path(file)
        inside = self.folder in path.parents and path.parent != self.folder
        return inside and path.relative_to(self.folder).parts[0] != BY_NAME

    def _has_no_bytes(self, file: str) -> bool:
        return Path(file).parent == self.folder and Path(file).name in WITHOUT_BYTES

    def _find_import(self, module: str, name: str) -> Place | None:
        """(file, name in it) of an import; None for those from other packages."""
        package, *parts = module.split(".")
        if package != "pipeline":
            return None
        folder = self.folder.joinpath(*parts)
        if parts and (file := folder.with_suffix(".py")).is_file():
            return str(file), name
        if (file := folder / f"{name}.py").is_file():
            return str(file), WHOLE
        return (str(file), name) if (file := folder / "__init__.py").is_file() else None

    def _show(self, path: Path) -> str:
        inside = self.folder in path.parents
        return path.relative_to(self.folder).as_posix() if inside else f"{path.parent.name}/{path.name}"


@cache
def _open_library() -> Library:
    return Library(LIBRARY)


@contextlib.contextmanager
def _collector_paused() -> Iterator[None]:
    """Syntax trees are many objects without cycles: looking for garbage among them takes as long as parsing."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


class _Source:
    """A file, its top-level statements by the name that they bind, and the methods of its classes as ".name".

    The statements that bind no name are under "", and run whenever the file is imported.
    """

    def __init__(self, file: str):
        self.statements: dict[str, list[_Walk]] = {"": []}
        self._definitions: dict[str, Definition] = {}
        by_method = Path(file).name in BY_METHOD
        for statement in _executed(ast.parse(Path(file).read_bytes(), file)):
            walk = _Walk(statement)
            for name in _bound_names(statement) or ("",):
                self.statements.setdefault(name, []).append(walk)
            if by_method and isinstance(statement, ast.ClassDef):
                for method in statement.body:
                    if isinstance(method, ast.FunctionDef):
                        self.statements.setdefault(f".{method.name}", []).append(_Walk(method))

    def define(self, name: str) -> Definition:
        """The definition of a name, or of the whole file."""
        if name not in self._definitions:
            self._definitions[name] = self._define(name)
        return self._definitions[name]

    def _define(self, name: str) -> Definition:
        own = [each for each in self.statements if not each.startswith(".")] if name == WHOLE else [name]
        walks = list(dict.fromkeys(walk for each in own for walk in self.statements[each]))
        imports = sorted(walk.text for walk in walks if walk.is_import)
        texts = [*imports, *(walk.text for walk in walks if not walk.is_import)]
        names = {""} if name else set()  # what runs at import runs before any definition
        return Definition(
            _hash(texts),
            frozenset(names.union(*(walk.names for walk in walks))),
            frozenset().union(*(walk.attributes for walk in walks)),
            frozenset().union(*(walk.imports for walk in walks)),
        )


class _Walk:
    """The syntax tree of a statement as words, without what does not run, and what it refers to.

    Empty fields are left out: later versions of Python add some.
    """

    def __init__(self, node: ast.AST):
        self.is_import = isinstance(node, IMPORTS)
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self.imports: set[tuple[str, str]] = set()
        words: list[str] = []
        self._visit(node, words)
        self.text = (" " if self.is_import else "\n").join(words)

    def _visit(self, node: ast.AST, words: list[str], in_class: bool = False) -> None:
        kind = type(node)
        if kind in REFERRING:
            self._refer(node)
        words.append(kind.__name__)
        for name in kind._fields:
            if name in NOT_RUN or (name == "annotation" and not in_class):
                continue
            value = getattr(node, name, None)
            parts = value if isinstance(value, list) else () if value is None else (value,)
            if not parts:
                continue
            words.append(name)
            for part in parts:
                if not isinstance(part, ast.AST):
                    words.append(repr(part))
                elif name != "body" or not _is_text(part):
                    self._visit(part, words, kind is ast.ClassDef)
            words.append(")")

    def _refer(self, node: ast.AST) -> None:
        if isinstance(node, ast.Name):
            self.names.add(node.id)
        elif isinstance(node, ast.Attribute):
            self.attributes.add(node.attr)
        elif isinstance(node, ast.ImportFrom):
            self.imports |= {(node.module or "", alias.name) for alias in node.names}
        elif isinstance(node, ast.Import):
            self.imports |= {(alias.name, WHOLE) for alias in node.names}


def _bound_functions(work: Any) -> Iterator[Any]:
    """The functions in `work`: itself, what is bound to a partial, and what is in the fields of a dataclass."""
    if isinstance(work, partial):
        for one in (work.func, *work.args, *work.keywords.values()):
            yield from _bound_functions(one)
    elif dataclasses.is_dataclass(work) and not isinstance(work, type):
        for field in dataclasses.fields(work):
            yield from _bound_functions(getattr(work, field.name))
    elif hasattr(work, "__code__"):
        yield work


def _executed(tree: ast.Module) -> Iterator[ast.stmt]:
    """The top-level statements that run when a file is imported, with one name per import."""
    for statement in tree.body:
        if isinstance(statement, ast.If) and ast.unparse(statement.test).startswith(("TYPE_CHECKING", "__name__ ==")):
            continue  # never true while a task runs
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            for alias in statement.names:
                yield type(statement)(**{**dict(ast.iter_fields(statement)), "names": [alias]})
        elif not _is_text(statement):
            yield statement


def _bound_names(statement: ast.stmt) -> set[str]:
    """The names that a top-level statement binds."""
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return {statement.name}
    if isinstance(statement, (ast.Import, ast.ImportFrom)):
        return {alias.asname or alias.name.partition(".")[0] for alias in statement.names}
    if isinstance(statement, (ast.Assign, ast.AnnAssign)):
        names = (node for node in ast.walk(statement) if isinstance(node, ast.Name))
        return {name.id for name in names if isinstance(name.ctx, ast.Store)}
    return set()


def _is_text(statement: ast.AST) -> bool:
    """Whether this is a docstring, or any other text that is only there to be read."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _hash(words: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(words).encode()).hexdigest()
