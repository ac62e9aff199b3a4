"""Collects the project's own types that public signatures and fields use, with what the code says of them."""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from tests.imports import parsed, statements

ROOMS = ("ivjax", "data_pipelines", "launch")
_NAME = re.compile(r"[A-Za-z_][\w.]*")
# Model families, each a folder or a table of conversion.
_FAMILY = re.compile(r"ivjax/(models/\w+/|convert/families/[\w/]+\.py)")
# The line by which options of a stage or a suite name their module: see docs/architecture.md#late-binding.
_NAMED = re.compile(r'^    IMPLEMENTATION.* = "(ivjax\.(?:stages|evals)\.[\w.]+)"$', re.MULTILINE)


class Type(NamedTuple):
    """A public class or an alias at the top of a module.

    Attributes:
        name: what annotations call it.
        path: the module's file.
        meaning: the first line of its docstring; of an alias, that of the comment above or behind it.
    """

    name: str
    path: str
    meaning: str


class Names:
    """What the names of each module mean: its own types, and those that it imports.

    Attributes:
        sources: the text of each module, by its file.
    """

    def __init__(self, root: Path):
        self.sources = {
            path.relative_to(root).as_posix(): path.read_text("utf-8")
            for room in ROOMS
            for path in sorted((root / room).rglob("*.py"))
        }
        self._own = {path: {t.name: t for t in _defined(path, text)} for path, text in self.sources.items()}
        self._imported = {path: dict(_imported(parsed(text))) for path, text in self.sources.items()}

    def all(self) -> Iterator[Type]:
        for types in self._own.values():
            yield from types.values()

    def meant(self, path: str, name: str) -> Type | None:
        """The type that a name, maybe with dots, means in a module; None if it is no type of the project."""
        if name in self._own[path]:
            return self._own[path][name]
        module, _, last = self._imported[path].get(name, "").rpartition(".")
        if not module and "." in name:
            first, _, last = name.rpartition(".")
            module = self._imported[path].get(first, "")
        place = module.replace(".", "/")
        for folder in (place, place.removeprefix("ivjax/")):
            for file in (f"{folder}.py", f"{folder}/__init__.py"):
                if module and file in self.sources:
                    return self.meant(file, last)
        return None


def types_of(root: Path) -> list[Type]:
    """Returns the types that annotations of public functions, methods and fields name, by name.

    Left out are those that a model family, a stage or a suite keeps to itself: whoever adds one explains its
    types there.
    """
    names = Names(root)
    homes = _homes(names.sources)
    users: dict[Type, set[str]] = {}
    for path, text in names.sources.items():
        for name in _annotated(parsed(text)):
            if found := names.meant(path, name):
                users.setdefault(found, set()).add(homes.get(path, ""))
    return sorted(t for t in users if homes.get(t.path) is None or users[t] != {homes[t.path]})


def _homes(sources: Mapping[str, str]) -> dict[str, str]:
    """Returns the family, stage or suite of each module that is of one."""
    homes = {path: found[0] for path in sources if (found := _FAMILY.match(path))}
    for path, text in sources.items():
        for module in _NAMED.findall(text):
            homes |= {path: path, f"{module.replace('.', '/')}.py": path}
    return homes


def _defined(path: str, text: str) -> Iterator[Type]:
    """The public types of a module."""
    lines = text.splitlines()
    for node in parsed(text).body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield Type(node.name, path, (ast.get_docstring(node) or "").split("\n")[0])
        elif name := _alias(node):
            above = []
            for line in reversed(lines[: node.lineno - 1]):
                if not line.startswith("#"):
                    break
                above.insert(0, line.removeprefix("#").strip())
            behind = lines[node.end_lineno - 1].partition("  # ")[2]
            yield Type(name, path, re.split(r"(?<=\.) ", " ".join(above) or behind)[0])


def _alias(node: ast.stmt) -> str:
    """The name that a statement gives to a type, or nothing."""
    if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
        return ""
    name, types = node.targets[0].id, ast.Subscript | ast.BinOp | ast.Attribute | ast.Name
    # Constants are in capitals.
    return name if name[0].isupper() and not name.isupper() and isinstance(node.value, types) else ""


def _imported(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """(name, what it names in full) of each import, also for types only."""
    for node in statements(tree):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def _annotated(tree: ast.Module) -> Iterator[str]:
    """Names in annotations of public functions and fields, at the top and in public classes; in aliases."""
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name[0] != "_"]
    for body in (tree.body, *(node.body for node in classes)):
        for annotation in (annotation for node in body for annotation in _annotations(node)):
            if annotation is not None:
                yield from _NAME.findall(ast.unparse(annotation))


def _annotations(node: ast.stmt) -> list[ast.expr | None]:
    """The types in a public function's head, of a public field, or in an alias."""
    if isinstance(node, ast.FunctionDef) and (node.name[0] != "_" or node.name == "__init__"):
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        return [argument.annotation for argument in arguments] + [node.returns]
    if isinstance(node, ast.AnnAssign) and not ast.unparse(node.target).startswith("_"):
        return [node.annotation]
    return [node.value] if isinstance(node, ast.Assign) and _alias(node) else []


def table(root: Path) -> str:
    """Returns the glossary's rows of types: `python -m tests.glossary` prints them."""
    return "".join(f"| `{t.name}` | {t.meaning} | `{t.path}` |\n" for t in types_of(root))


if __name__ == "__main__":
    print(table(Path.cwd()), end="")
