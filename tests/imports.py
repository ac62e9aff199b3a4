"""Reads the imports of the package without running them, and checks them against the rooms of the design.

A module is named as users import it: `configs/`, `data_pipelines/` and `launch/` lie beside `ivjax/` in a
checkout and are `ivjax.configs`, `ivjax.data_pipelines` and `ivjax.launch`. Every import counts: those in
functions and those under TYPE_CHECKING too, because both tie a module to another one for its readers.
"""

import ast
import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("ivjax", "configs", "data_pipelines", "launch")

# Strings that name a module of another room. The folder of the shipped configs is found, and nothing in it is
# imported.
NAMED_ELSEWHERE = {("ivjax.experiment.files", "ivjax.configs")}

# From the ground up. A room may import rooms of lower floors, and rooms of its own floor where that closes no
# circle of rooms. `ivjax` is the package's own __init__, the door to the house: nothing inside imports it.
FLOORS = (
    ("errors", "progress", "drafts", "columns", "version", "callable_package"),
    ("experiment",),
    ("ops", "data_pipelines", "figures"),
    ("models",),
    ("stages",),
    ("train", "convert"),
    ("quickstart", "sweep", "launch", "embed", "report", "evals", "generate", "plan", "bench"),
    ("cli", "configs", "__main__"),
    ("ivjax",),
)
# Rooms that may import less than their floor allows.
NARROW = {
    "data_pipelines": ("experiment", *FLOORS[0]),
    "figures": ("experiment", *FLOORS[0]),
    "configs": ("experiment", "data_pipelines", "models", "stages", "evals"),
}
# What models and benchmarks do without, and the modules that must.
DATA_PACKAGES = {"grain", "av", "array_record", "pyarrow", "tensorboardX", "torch", "tensorflow"}
WITHOUT_DATA = (
    "ivjax.bench.step_speed",
    "ivjax.stages.masked_reconstruction",
    "ivjax.convert.families.internvideo2",
    "ivjax.data_pipelines.load.mixture",
    "ivjax.data_pipelines.tokenizers.spm",
    "ivjax.configs.stage1_bench",
)


@dataclass(frozen=True)
class Import:
    """One module that another one imports.

    Attributes:
        target: the imported module, or the package outside that it comes from.
        line: its line in the importing file.
        at_start: whether it runs when its module is imported: not in a function, not for types only.
    """

    target: str
    line: int
    at_start: bool


Graph = dict[str, list[Import]]

_MODULE_NAME = re.compile(r"(ivjax(?:\.\w+)+)(?::\w+)?")
_MODULE_TEXT = re.compile(r"""["']ivjax\.""")


def sources_of(root: Path) -> dict[str, str]:
    """The source text of every module of a checkout, by module name; packages end in `.__init__`."""
    found = {}
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*.py")):
            words = path.relative_to(root).with_suffix("").parts
            found[".".join(words if folder == "ivjax" else ("ivjax", *words))] = path.read_text("utf-8")
    return found


@functools.lru_cache(maxsize=1024)  # each module is parsed once, though several tests read all of them
def parsed(text: str) -> ast.Module:
    """The tree of a source text."""
    return ast.parse(text)


def read_graph(sources: Mapping[str, str]) -> Graph:
    """The imports of each module, from its source text. Packages lose their `.__init__`."""
    names = {name.removesuffix(".__init__") for name in sources}
    return {
        name.removesuffix(".__init__"): list(_imports(name, parsed(text), names))
        for name, text in sources.items()
    }


def _imports(name: str, tree: ast.Module, names: set[str]) -> Iterator[Import]:
    package = name.rpartition(".")[0]
    own = name.removesuffix(".__init__")
    for node, at_start in _import_nodes(tree, at_start=True):
        for target in _targets(node, package, names):
            if target != own:
                yield Import(target, node.lineno, at_start)


def _import_nodes(tree: ast.AST, at_start: bool) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.expr):
            continue  # most of a tree, and no import is in one
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node, at_start
            continue
        late = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        yield from _import_nodes(node, at_start and not late and not typing_only)


def statements(tree: ast.AST) -> Iterator[ast.AST]:
    """All statements of a tree, also those in functions and classes."""
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, ast.expr):
            yield node
            yield from statements(node)


def _targets(node: ast.Import | ast.ImportFrom, package: str, names: set[str]) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    base = node.module or ""
    if node.level:
        above = package.split(".")[: len(package.split(".")) - node.level + 1]
        base = ".".join([*above, *([node.module] if node.module else [])])
    for alias in node.names:
        # `from package import module` imports the module; `from module import name` the module as well.
        inner = f"{base}.{alias.name}"
        yield inner if inner in names else base


def room_of(module: str) -> str:
    """The room of a module: the folder or single file below `ivjax`."""
    words = module.split(".")
    return words[1] if len(words) > 1 else words[0]


def wrong_arrows(graph: Graph) -> list[str]:
    """A line for each import that the rooms do not allow: `module -> imported module`."""
    return sorted(
        {
            f"{module} -> {found.target}"
            for module, imports in graph.items()
            for found in imports
            if found.target in graph and not _allowed(module, found.target)
        }
    )


def _allowed(module: str, target: str) -> bool:
    here, there = room_of(module), room_of(target)
    if here == there:
        return True
    if here in NARROW:
        return there in NARROW[here]
    return _floor(there) <= _floor(here) and there != "ivjax"


def _floor(room: str) -> int:
    for number, rooms in enumerate(FLOORS):
        if room in rooms:
            return number
    raise ValueError(f"{room!r} is on no floor of tests/imports.py; add it to FLOORS")


def module_circles(graph: Graph) -> list[str]:
    """A line for each group of modules that import each other: their names in order."""
    return _circles(
        {module: {i.target for i in imports if i.target in graph} for module, imports in graph.items()}
    )


def room_circles(graph: Graph) -> list[str]:
    """A line for each group of rooms of one floor that import each other."""
    edges: dict[str, set[str]] = {room_of(module): set() for module in graph}
    for module, imports in graph.items():
        here = room_of(module)
        for found in imports:
            if found.target in graph:
                there = room_of(found.target)
                # An arrow that points up is reported once, as that.
                if there != here and _floor(there) == _floor(here):
                    edges[here].add(there)
    return _circles(edges)


def _circles(edges: Mapping[str, set[str]]) -> list[str]:
    """The strongly connected groups of more than one name, by Tarjan's algorithm."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(name: str) -> None:
        order[name] = lowest[name] = len(order)
        stack.append(name)
        for target in edges[name]:
            if target not in order:
                visit(target)
                lowest[name] = min(lowest[name], lowest[target])
            elif target in stack:
                lowest[name] = min(lowest[name], order[target])
        if lowest[name] == order[name]:
            place = stack.index(name)
            if len(group := stack[place:]) > 1:
                found.append(" ".join(sorted(group)))
            del stack[place:]

    for name in sorted(edges):
        if name not in order:
            visit(name)
    return sorted(found)


def named_modules(sources: Mapping[str, str]) -> list[tuple[str, str]]:
    """(module, module that it names) for each string that is a module's full name, also before a colon."""
    # Most modules name none, and to walk the whole tree of each takes a second.
    naming = {name: parsed(text) for name, text in sources.items() if _MODULE_TEXT.search(text)}
    return [
        (name.removesuffix(".__init__"), named[1])
        for name, tree in naming.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and (named := _MODULE_NAME.fullmatch(str(node.value)))
    ]


def class_names(sources: Mapping[str, str]) -> dict[str, list[str]]:
    """Public class names, each with the modules that define it."""
    found: dict[str, list[str]] = {}
    for name, text in sources.items():
        for node in statements(parsed(text)):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found.setdefault(node.name, []).append(name)
    return found


def function_names(sources: Mapping[str, str]) -> set[str]:
    """Names of all functions and methods."""
    return {
        node.name
        for text in sources.values()
        for node in statements(parsed(text))
        if isinstance(node, ast.FunctionDef)
    }


def started_packages(graph: Graph, module: str) -> dict[str, str]:
    """Packages from outside that importing `module` starts, each with the module that imports it.

    The __init__ files of the folders above a module run as well, so they are followed too.
    """
    seen, waiting, found = {module}, [module], {}
    while waiting:
        name = waiting.pop()
        above = [name.rsplit(".", count)[0] for count in range(1, name.count(".") + 1)]
        targets = [i.target for i in graph.get(name, ()) if i.at_start] + above
        for target in targets:
            if target in graph:
                if target not in seen:
                    seen.add(target)
                    waiting.append(target)
            else:
                found.setdefault(target.split(".")[0], name)
    return found
