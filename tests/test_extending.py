"""docs/extending.md holds: each addition fits the tree alone, within its price, and works in a copy of it."""

import ast
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass

import pytest

from tests.train.processes import ROOT

PAGE = ROOT / "docs" / "extending.md"
PRICES = {"A video encoder": 2, "A stage": 0, "A field of a batch": 1, "A data source": 1, "An eval suite": 1}
_BLOCK = re.compile(r'^```(python|diff|sh) title="([^"]+)"\n(.*?)^```$', re.MULTILINE | re.DOTALL)
_RECORDS = "python -m tests.records "
# Tests that look at the whole tree: they must pass with any addition in it.
WHOLE_TREE = (
    "tests/test_architecture.py",
    "tests/experiment/test_shipped_configs.py::test_resolved_texts_of_shipped_configs_and_their_variants",
    "tests/train/test_rules.py::test_rules_of_a_shipped_config_are_as_recorded",
)


@dataclass(frozen=True)
class Addition:
    """A section of the page.

    Attributes:
        name: its heading.
        added: the text of each new file.
        edited: the changes in each file that exists.
        records: the new files that `tests.records` writes.
        configs: the configs that it is asked to record.
    """

    name: str
    added: dict[str, str]
    edited: dict[str, str]
    records: tuple[str, ...]
    configs: tuple[str, ...]

    @property
    def tests(self):
        return [path for path in self.added if path.startswith("tests/")]


def additions():
    heading, *sections = re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)
    assert heading.startswith("# Extending")
    found = []
    for section in sections:
        blocks = _BLOCK.findall(section)
        added = {path: text for kind, path, text in blocks if kind == "python"}
        edited = {path: text for kind, path, text in blocks if kind == "diff"}
        commands = {paths: text.strip() for kind, paths, text in blocks if kind == "sh"}
        assert all(command.startswith(_RECORDS) for command in commands.values())
        records = tuple(path for paths in commands for path in paths.split(", "))
        configs = tuple(command.removeprefix(_RECORDS) for command in commands.values())
        found.append(Addition(section.splitlines()[0], added, edited, records, configs))
    return found


def apply(addition, tree):
    """Writes an addition into a copy of the tree."""
    for path, text in addition.added.items():
        assert not (tree / path).exists(), f"{path} exists already"
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text)
    for path, diff in addition.edited.items():
        (tree / path).write_text(patched((tree / path).read_text(), diff, path))


def patched(text, diff, path):
    """The text with each hunk applied; a hunk's unchanged and removed lines must stand in it exactly once."""
    for hunk in diff.split("@@\n"):
        lines = hunk.splitlines()
        before = "\n".join(line[1:] for line in lines if line[0] in " -")
        after = "\n".join(line[1:] for line in lines if line[0] in " +")
        assert text.count(before) == 1, f"{path} has these lines {text.count(before)} times:\n{before}"
        text = text.replace(before, after)
    return text


def unresolved(addition):
    """The imports in an addition's new files that find nothing in the tree or in the addition."""
    changed = {path: patched((ROOT / path).read_text(), diff, path) for path, diff in addition.edited.items()}
    nodes = [(path, node) for path, text in addition.added.items() for node in ast.walk(ast.parse(text))]
    return [
        f"{path}: {node.module}.{alias.name}"
        for path, node in nodes
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in ("ivjax", "tests")
        for alias in node.names
        if not defined(node.module, alias.name, addition.added | changed)
    ]


def defined(module, name, texts):
    """Whether `module.name` is a module, or a word of that module, in the tree with `texts` in it."""

    def text_of(path):
        return texts.get(path) or ((ROOT / path).read_text() if (ROOT / path).is_file() else None)

    place = module.replace(".", "/")
    # A checkout has some folders beside ivjax/.
    for folder in {place, place.removeprefix("ivjax/")}:
        if any(text_of(f"{folder}/{name}{end}") is not None for end in (".py", "/__init__.py")):
            return True
        texts_of_module = [text_of(f"{folder}{end}") for end in (".py", "/__init__.py")]
        if any(text and re.search(rf"\b{name}\b", text) for text in texts_of_module):
            return True
    return False


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    tree = tmp_path_factory.mktemp("copy")
    left_out = shutil.ignore_patterns("__pycache__", "golden")
    for name in ("ivjax", "configs", "data_pipelines", "launch", "tests", "docs"):
        shutil.copytree(ROOT / name, tree / name, ignore=left_out)
    for name in ("setup.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tree / name)
    return tree


@pytest.mark.parametrize("addition", additions(), ids=lambda addition: addition.name)
def test_an_addition_fits_the_tree_alone_and_keeps_its_price(addition):
    new = len(addition.added) + len(addition.records)
    print(f"{addition.name}: {new} new files, {len(addition.edited)} edited")
    assert len(addition.edited) <= PRICES[addition.name]
    assert not any((ROOT / path).exists() for path in (*addition.added, *addition.records))
    assert unresolved(addition) == []
    assert addition.tests


@pytest.mark.multiprocess
@pytest.mark.slow
def test_all_additions_of_the_page_pass_their_tests_and_those_of_the_whole_tree(copy):
    page = additions()
    assert [addition.name for addition in page] == list(PRICES)
    for addition in page:
        apply(addition, copy)
    configs = [name for addition in page for name in addition.configs]
    own = [path for addition in page for path in addition.tests]
    # Of the shipped configs only the new ones: the others are tested in the tree itself.
    chosen = [f"{test}[{name}]" for test in WHOLE_TREE if "::" in test for name in configs]
    whole = [test for test in WHOLE_TREE if "::" not in test]
    done = run(configs, [*own, *whole, *chosen], copy)
    assert [path for addition in page for path in addition.records if not (copy / path).is_file()] == []
    passed = int(re.search(r"(\d+) passed", done)[1])
    assert passed > len(own) + len(chosen) and "skipped" not in done


def run(configs, tests, tree):
    """Records configs in the copy and runs tests there; returns what is printed."""
    # One process, as the page's two commands would import the same for seconds each.
    code = (
        "import runpy, sys, pytest\n"
        f"sys.argv = ['tests.records', *{configs}]\n"
        "runpy.run_module('tests.records', run_name='__main__')\n"
        f"sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', '-p', 'no:xdist', *{tests}]))"
    )
    environment = os.environ | {"PYTHONPATH": str(tree)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return done.stdout


def test_an_import_of_another_addition_is_found():
    encoder, stage = additions()[:2]
    added = stage.added | {"ivjax/stages/x.py": "from ivjax.models.poolformer import PoolFormerSize"}
    borrowing = Addition("", added, {}, (), ())
    assert unresolved(borrowing) == ["ivjax/stages/x.py: ivjax.models.poolformer.PoolFormerSize"]
    assert unresolved(Addition("", encoder.added | added, {}, (), ())) == []


def test_a_hunk_that_does_not_fit_is_an_error():
    assert patched("a\nb\n", " a\n+x\n", "file") == "a\nx\nb\n"
    with pytest.raises(AssertionError, match="file has these lines 0 times"):
        patched("a\nb\n", " c\n+x\n", "file")
