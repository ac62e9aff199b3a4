"""Collects the project's own types that public signatures use, with what their docstrings say of them."""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.imports import parsed

ROOMS = ("ivjax", "data_pipelines", "launch")
_NAME = re.compile(r"[A-Za-z_]\w*")
# Model families, each a folder or a table of conversion.
_FAMILY = re.compile(r"ivjax/(models/\w+/|convert/families/\w+\.py)")
# The line by which options of a stage or a suite name their module: see docs/architecture.md#late-binding.
_NAMED = re.compile(r'^    IMPLEMENTATION.* = "(ivjax\.(?:stages|evals)\.[\w.]+)"$', re.MULTILINE)


def types_of(root: Path) -> dict[str, tuple[str, str]]:
    """Returns public classes that annotations of public functions and methods name: module and meaning.

    Left out are those that a model family, a stage or a suite keeps to itself: whoever adds one explains its
    types there.
    """
    sources = {
        path.relative_to(root).as_posix(): path.read_text("utf-8")
        for room in ROOMS
        for path in sorted((root / room).rglob("*.py"))
    }
    trees, homes = {path: parsed(text) for path, text in sources.items()}, _homes(sources)
    users: dict[str, set[str]] = {}
    for path, tree in trees.items():
        for name in _annotated(tree):
            users.setdefault(name, set()).add(homes.get(path, ""))
    found = {}
    for path, tree in trees.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                shared = users.get(node.name, set())
                if shared and not (path in homes and shared == {homes[path]}):
                    found[node.name] = (path, (ast.get_docstring(node) or "").split("\n")[0])
    return dict(sorted(found.items()))


def _homes(sources: Mapping[str, str]) -> dict[str, str]:
    """Returns the family, stage or suite of each module that is of one."""
    homes = {path: found[0] for path in sources if (found := _FAMILY.match(path))}
    for path, text in sources.items():
        for module in _NAMED.findall(text):
            homes |= {path: path, f"{module.replace('.', '/')}.py": path}
    return homes


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
