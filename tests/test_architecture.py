"""The rooms of the house: which module may import which; and docs/architecture.md speaks of what is there."""

import ast
import re
import sys

import pytest

from tests.glossary import table, types_of
from tests.imports import (
    DATA_PACKAGES,
    NAMED_ELSEWHERE,
    ROOT,
    WITHOUT_DATA,
    class_names,
    function_names,
    module_circles,
    named_modules,
    read_graph,
    room_circles,
    room_of,
    sources_of,
    started_packages,
    wrong_arrows,
)

# What a process that decodes clips must not load: it starts often, and a jax backend would claim the devices.
DEVICE_PACKAGES = {"jax", "jaxlib", "flax", "optax", "orbax"}
HEAVY_PACKAGES = DEVICE_PACKAGES | {"grain", "av"}
BROUGHT = {"ml_dtypes", "yaml"}  # dependencies of jax and of flax
DISTRIBUTIONS = {"PIL": "pillow", "orbax": "orbax-checkpoint", "mlflow": "mlflow-skinny"}
PAGE = (ROOT / "docs" / "architecture.md").read_text()


@pytest.fixture(scope="module")
def sources():
    return sources_of(ROOT)


@pytest.fixture(scope="module")
def graph(sources):
    return read_graph(sources)


def test_no_import_points_up(graph):
    assert wrong_arrows(graph) == []


def test_no_modules_import_each_other(graph):
    assert module_circles(graph) == []


def test_no_rooms_of_one_floor_import_each_other(graph):
    assert room_circles(graph) == []


def test_the_data_plane_imports_no_jax(graph):
    importers = {
        f"{module} -> {found.target}"
        for module, imports in graph.items()
        for found in imports
        if room_of(module) == "data_pipelines" and found.target.split(".")[0] in DEVICE_PACKAGES
    }
    assert importers == set()


def test_decode_workers_start_no_jax(graph, sources):
    workers = [
        name
        for name, text in sources.items()
        if room_of(name) == "data_pipelines" and '__name__ == "__main__"' in text
    ]
    assert workers
    for worker in workers:
        assert started_packages(graph, worker).keys() & (DEVICE_PACKAGES | {"grain"}) == set()


def test_strings_name_modules_of_their_own_room(sources, graph):
    named = named_modules(sources)
    assert ("ivjax.stages.classification", "ivjax.stages.classification_loss") in named
    elsewhere = {pair for pair in named if room_of(pair[0]) != room_of(pair[1])}
    assert elsewhere == NAMED_ELSEWHERE
    assert [pair for pair in named if pair[1] not in graph] == []


def test_a_module_that_a_call_or_a_constant_names_is_found():
    text = 'READER = "ivjax.evals.gone"\nlate.call("ivjax.cli.main:run", "f")\n"""Uses ivjax.evals."""\n'
    assert named_modules({"ivjax.ops.trees": text}) == [
        ("ivjax.ops.trees", "ivjax.evals.gone"),
        ("ivjax.ops.trees", "ivjax.cli.main"),
    ]


def test_configs_start_none_of_the_heavy_packages(graph):
    for module in graph:
        if room_of(module) in ("configs", "experiment"):
            assert started_packages(graph, module).keys() & HEAVY_PACKAGES == set(), module


@pytest.mark.parametrize("module", WITHOUT_DATA)
def test_models_and_benchmark_import_nothing_of_the_data_plane(graph, module):
    assert module in graph
    assert started_packages(graph, module).keys() & DATA_PACKAGES == set()


def test_names_that_meant_several_things_mean_one(sources):
    assert "parts" not in function_names(sources)
    names = class_names(sources)
    for name in ("Rows", "Task", "Job", "Plan", "Fault"):
        assert len(names.get(name, ())) <= 1, names[name]


def test_importing_ivjax_alone_imports_nothing_from_outside(graph):
    assert started_packages(graph, "ivjax").keys() <= {"pathlib", "typing"}


def test_an_upward_import_is_found(sources, graph):
    name = "ivjax.ops.trees"
    for line in ("from ivjax.models import layers", "def late():\n    import ivjax.train.loop"):
        changed = read_graph(sources | {name: f"{sources[name]}\n{line}\n"})
        added = set(wrong_arrows(changed)) - set(wrong_arrows(graph))
        assert len(added) == 1 and added.pop().startswith(f"{name} -> ivjax.")


def test_an_upward_import_for_types_only_is_found():
    graph = read_graph(
        {
            "ivjax.data_pipelines.load.loader": (
                "from typing import TYPE_CHECKING\n"
                "if TYPE_CHECKING:\n    from ivjax.models.tower import VideoTower\n"
            ),
            "ivjax.models.tower": "",
        }
    )
    assert wrong_arrows(graph) == ["ivjax.data_pipelines.load.loader -> ivjax.models.tower"]


def test_a_circle_is_found_through_a_lazy_import_and_a_package():
    graph = read_graph(
        {
            "ivjax.plan.__init__": "from ivjax.plan.walk import Walk",
            "ivjax.plan.walk": "def loops():\n    from . import loops",
            "ivjax.plan.loops": "from ivjax.plan import Walk",
            "ivjax.plan.tiles": "import ivjax.plan.walk",
        }
    )
    assert module_circles(graph) == ["ivjax.plan ivjax.plan.loops ivjax.plan.walk"]


def test_a_circle_of_rooms_is_found():
    graph = read_graph(
        {
            "ivjax.plan.table": "import ivjax.report.curves",
            "ivjax.report.curves": "",
            "ivjax.report.masks": "import ivjax.plan.table",
        }
    )
    assert module_circles(graph) == [] and room_circles(graph) == ["plan report"]


def test_packages_started_by_an_import_leave_out_late_ones():
    graph = read_graph(
        {
            "ivjax.__init__": "",
            "ivjax.load.__init__": "import av",
            "ivjax.load.child": "import os\ndef run():\n    import jax\nclass A:\n    import numpy",
        }
    )
    assert started_packages(graph, "ivjax.load.child").keys() == {"av", "os", "numpy"}


def test_the_glossary_has_every_type_that_public_signatures_and_fields_use():
    heading = "| type | meaning | where |\n|---|---|---|\n"
    assert PAGE.count(heading) == 1
    assert PAGE.split(heading)[1] == table(ROOT), "paste what `python -m tests.glossary` prints into the page"


def test_a_word_of_the_glossary_means_one_type_and_is_explained():
    types = types_of(ROOT)
    assert sorted({t.name for t in types}) == [t.name for t in types]
    assert [t for t in types if not t.meaning] == []


def test_fields_aliases_and_late_modules_count_for_the_glossary(tmp_path):
    user = "from ivjax.stages.c import Own\ndef build(stage: Own) -> None: ...\n"
    texts = {
        "ivjax/ops/a.py": "Two = tuple[int, int]  # two numbers\n# Turns two.\nTurn = Callable[[Two], Two]\n",
        "ivjax/ops/b.py": "from ivjax.ops.a import Turn as T\nclass B:\n    turn: T\n    other: int\n",
        "ivjax/stages/c.py": 'class Own:\n    IMPLEMENTATION: ClassVar[str] = "ivjax.stages.c_loss"\n',
        "ivjax/stages/c_loss.py": user,
    }
    for path, text in texts.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    meanings = {t.name: t.meaning for t in types_of(tmp_path)}
    assert meanings == {"Turn": "Turns two.", "Two": "two numbers"}
    (tmp_path / "ivjax/ops/d.py").write_text(user)
    assert "Own" in [t.name for t in types_of(tmp_path)]


def test_a_clips_way_names_functions_that_exist():
    rows = re.findall(r"^\| `([\w.]+)` \| `([\w/.*]+)` \| ", PAGE.split("## Parameters")[0], re.MULTILINE)
    assert len(rows) >= 10
    for name, pattern in rows:
        texts = [path.read_text() for path in ROOT.glob(pattern) if path.is_file()]
        assert texts, f"{pattern} does not exist"
        for word in name.split("."):
            defined = re.compile(rf"\b(class|def) {word}\b|^    {word}: ", re.MULTILINE)
            assert any(defined.search(text) for text in texts), f"{pattern} defines no {word}"


def requirements():
    """The names of what setup.py installs always, and with each extra."""
    (call,) = [node for node in ast.walk(ast.parse((ROOT / "setup.py").read_text())) if is_setup(node)]
    given = {word.arg: word.value for word in call.keywords}
    extras = ast.literal_eval(given["extras_require"])
    core = ast.literal_eval(given["install_requires"])
    return named(core), {name: named(needed) for name, needed in extras.items()}


def is_setup(node):
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "setup"


def named(needed):
    return {re.split(r"[\[>=<]", requirement)[0] for requirement in needed}


# Here and not beside the tests of the package, because to read all modules takes seconds.
def test_what_is_installed_is_what_is_imported(graph):
    outside = {found.target.split(".")[0] for module in graph.values() for found in module}
    outside -= {"ivjax", *sys.stdlib_module_names, *BROUGHT}
    imported = {DISTRIBUTIONS.get(name, name).replace("tensorflow_", "tensorflow-") for name in outside}
    core, extras = requirements()
    optional = extras["tfds"] | extras["tokenizers"] | extras["wandb"] | extras["mlflow"]
    optional |= {name.replace("-", "_") for name in extras["beam"]}
    assert core | optional == imported
    # Only for what is optional may a module at the start of a program do without.
    early = {found.target.split(".")[0] for module in graph.values() for found in module if found.at_start}
    assert not early & {"tokenizers", "wandb", "mlflow"}
    assert extras["tokenizers"] <= extras["test"] and "convert" not in extras
