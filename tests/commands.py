"""Checks command lines of `ivjax` without running them."""

from collections.abc import Sequence

from ivjax.cli import _parse
from ivjax.data_pipelines.build.options import BuildOptions
from ivjax.evals.suites.flags import suite_asked
from ivjax.experiment.files import load_experiment
from ivjax.experiment.overrides import apply_overrides
from ivjax.plan.generation.request import dialogue_named, parse_request
from ivjax.plan.topology import parse
from ivjax.sweep.sweep_folder import SweepFolder
from ivjax.sweep.trials import combinations


def check_command(words: Sequence[str]) -> None:
    """Parses the words after `ivjax`, and resolves what they name that needs no file: a config with its
    overrides, a suite with its flags, a topology, a model. Raises UserError or SystemExit."""
    options = _parse(words)
    overrides = getattr(options, "overrides", [])
    if options.command == "launch":
        if options.arguments:
            check_command(options.arguments)
    elif options.command == "eval":
        suite_asked(options)
    elif options.command == "sweep":
        if options.config:
            runs = combinations(overrides, options.zip, options.list)
            SweepFolder(options.config, tuple(runs), options.workdir).experiments(lambda line: None)
    elif options.command == "data":
        if options.what == "build":
            apply_overrides(BuildOptions(options.source, options.out), overrides)
    elif getattr(options, "generate", None) is not None:
        dialogue_named(options.config, tuple(word for word in overrides if not word.startswith("mesh.")))
        parse_request(options.generate)
    elif getattr(options, "config", None):
        load_experiment(options.config, overrides)
    if getattr(options, "topology", None):
        parse(options.topology, options.slices)
