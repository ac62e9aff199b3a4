"""Collects the project's own types that public signatures use, with what their docstrings say of them."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.imports import parsed

ROOMS = ("ivjax", "data_pipelines", "launch")
_NAME = re.compile(r"[A-Za-z_]\w*")


def types_of(root: Path) -> dict[str, tuple[str, str]]:
    """Returns public classes that annotations of public functions and methods name: module and meaning."""
    trees = {
        path.relative_to(root).as_posix(): parsed(path.read_text("utf-8"))
        for room in ROOMS
        for path in sorted((root / room).rglob("*.py"))
    }
    used = {name for tree in trees.values() for name in _annotated(tree)}
    found = {}
    for path, tree in trees.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and node.name in used and not node.name.startswith("_"):
                found[node.name] = (path, (ast.get_docstring(node) or "").split("\n")[0])
    return dict(sorted(found.items()))


def _annotated(tree: ast.Module) -> Iterator[str]:
    """Names in the annotations of public functions, at the top or in public classes."""
    bodies = [tree.body]
    bodies += [node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name[0] != "_"]
    for node in (node for body in bodies for node in body):
        if not isinstance(node, ast.FunctionDef) or (node.name[0] == "_" and node.name != "__init__"):
            continue
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        annotations = [argument.annotation for argument in arguments] + [node.returns]
        for annotation in annotations:
            if annotation is not None:
                yield from _NAME.findall(ast.unparse(annotation))


def table(root: Path) -> str:
    """Returns the glossary's rows of types: `python -m tests.glossary` prints them."""
    rows = types_of(root).items()
    return "".join(f"| `{name}` | {meaning} | `{path}` |\n" for name, (path, meaning) in rows)


if __name__ == "__main__":
    print(table(Path.cwd()), end="")
