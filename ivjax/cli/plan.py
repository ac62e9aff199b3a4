"""`ivjax plan`."""

import argparse
import json
from pathlib import Path

from ivjax.cli.common import add_command, add_config, note
from ivjax.errors import UserError

_ABOUT = (
    "Plan a config on accelerators that need not be there: memory, FLOPs, traffic, time and cost of a step, "
    "from shapes alone. --compile also compiles the step for them."
)
_EXAMPLES = """ivjax plan stage1_1b --topology v5e:16x16 --price 1.2
  ivjax plan internvideo2_5_chat_8b --generate frames=512,new=256 --topology v5p:1x1x1"""


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command."""
    parser = add_command(commands, "plan", _ABOUT, _EXAMPLES)
    add_config(parser, needed=False)
    parser.add_argument(
        "--generate",
        metavar="frames=N,new=N,...",
        help="plan answers of a dialogue model (a preset such as internvideo2_5_chat_8b, or a config) about "
        "videos; without --topology: the smallest slices that fit. Also batch=, question=, chunk=, "
        "cache=int8, weights=float32, clips=, and layers=4:18 ratios=1:0.75:0.25 kind= for visual dropout",
    )
    parser.add_argument("--phase", metavar="NAME", help="which phase of a config with phases")
    parser.add_argument("--topology", help="v4, v5e, v5p, v6e or tpu7x:AxB[xC] in chips; h200:64; cpu:8")
    parser.add_argument(
        "--slices", type=int, default=1, help="slices of that topology, joined by the network (default 1)"
    )
    parser.add_argument("--compile", action="store_true", help="compile the step as well (minutes)")
    parser.add_argument("--search", action="store_true", help="try other meshes, remat and micro-batches")
    parser.add_argument("--price", type=float, help="price of one chip for one hour, in any currency")
    parser.add_argument(
        "--efficiency",
        type=float,
        default=1.0,
        help="share of the peak that matrix products reach (default 1)",
    )
    parser.add_argument(
        "--decode-ms", type=float, help="CPU time to decode one clip (default: by its pixels)"
    )
    parser.add_argument("--json", action="store_true", help="print the plan for programs")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write the plan as an HTML page as well")
    parser.add_argument(
        "--released", type=Path, metavar="FILE", help="write the table of released recipes instead"
    )
    parser.add_argument(
        "--compiled", nargs="*", default=[], metavar="RECIPE@T", help="cells of that table to compile"
    )
    parser.set_defaults(run=_plan)


def _plan(options: argparse.Namespace) -> int:
    if options.released:
        if options.config or options.generate is not None:
            raise UserError("--released plans all released recipes; leave out the config and --generate")
        return _released(options)
    if options.generate is not None:
        return _generation(options)
    if not options.config or not options.topology:
        raise UserError(
            "a plan needs a config and --topology, as in: ivjax plan stage1_1b --topology v5e:16x16"
        )
    from ivjax.plan.devices import prepare_environment
    from ivjax.plan.topology import parse

    # Before anything imports jax, which reads the environment once.
    prepare_environment(parse(options.topology, options.slices))
    from ivjax.experiment.files import load_experiment
    from ivjax.plan.page import write_page
    from ivjax.plan.planning import plan as plan_training
    from ivjax.plan.table import lines

    try:
        experiment = load_experiment(options.config, options.overrides, note)
    except UserError:
        _check_preset(options.config)
        raise
    plan = plan_training(
        experiment,
        options.topology,
        slices=options.slices,
        name=options.config,
        phase=options.phase,
        search=options.search,
        compiled=options.compile,
        efficiency=options.efficiency,
        decode_ms=options.decode_ms,
        price=options.price,
        say=note,
    )
    print(json.dumps(plan.as_dict()) if options.json else "\n".join(lines(plan)))
    if options.page:
        note(f"wrote {write_page(plan, options.page)}")
    # So that scripts can ask whether a config fits.
    return 0 if plan.fits else 1


def _check_preset(name: str) -> None:
    """Raises if the name is that of a dialogue model, whose answers can be planned."""
    from ivjax.models.dialogue.presets import DIALOGUES

    if name in DIALOGUES:
        raise UserError(
            f"{name} is a preset and no config; plan its answers with --generate frames=512,new=256"
        )


def _generation(options: argparse.Namespace) -> int:
    if options.slices != 1 and not options.topology:
        raise UserError("a generation runs in one slice; leave out --slices")
    for flag in ("phase", "decode_ms", "page"):
        if getattr(options, flag) is not None:
            raise UserError(f"--{flag.replace('_', '-')} belongs to plans of training; leave it out")
    if not options.config:
        raise UserError(
            "--generate needs a model, as in: ivjax plan internvideo2_5_chat_8b --generate frames=512,new=256"
        )
    from ivjax.plan.devices import prepare_environment
    from ivjax.plan.topology import parse

    topology = parse(options.topology, options.slices) if options.topology else None
    # Without a topology any TPU will do: on all of them the environment is the same.
    prepare_environment(topology or parse("v5e:16x16"))
    from ivjax.plan.generation.request import dialogue_named, parse_request
    from ivjax.plan.generation.search import GenerationJob, compiled, mesh_from
    from ivjax.plan.generation.words import generation_lines, smallest_lines
    from ivjax.plan.roofline import checked_assumptions

    mesh = [word for word in options.overrides if word.startswith("mesh.")]
    others = tuple(word for word in options.overrides if word not in mesh)
    if mesh and (options.search or topology is None):
        raise UserError(f"the search tries meshes itself; leave out {' '.join(mesh)}")
    size, request = dialogue_named(options.config, others), parse_request(options.generate)
    assumed = checked_assumptions(options.efficiency, None, options.price)
    job = GenerationJob(options.config, size, request, assumed, note)
    if topology is None:
        plans = job.smallest()
        if options.compile:
            # GPUs need packages of their own, so that only the slices of TPUs are compiled for.
            plans = [compiled(job, plan) if plan.topology.chip.platform == "tpu" else plan for plan in plans]
        print(
            json.dumps([plan.as_dict() for plan in plans])
            if options.json
            else "\n".join(smallest_lines(plans))
        )
        return 0 if plans and all(plan.fits for plan in plans) else 1
    plan = job.best(topology) if options.search else job.plan(topology, mesh_from(mesh))
    if plan is None:
        # An answer and no mistake: scripts that ask whether it fits get the status of plans that do not.
        note(f"no mesh of {topology.name} holds the weights and caches of {options.config}")
        return 1
    if options.compile:
        plan = compiled(job, plan)
    print(json.dumps(plan.as_dict()) if options.json else "\n".join(generation_lines(plan)))
    return 0 if plan.fits else 1


def _released(options: argparse.Namespace) -> int:
    from ivjax.plan.devices import prepare_environment
    from ivjax.plan.topology import parse

    # Any TPU will do: on all of them the environment is the same.
    prepare_environment(parse("v5e:16x16"))
    from ivjax.plan.recipe_table import write_recipes

    words = ["ivjax plan --released", str(options.released)]
    words += ["--compiled", *options.compiled] if options.compiled else []
    write_recipes(options.released, options.compiled, " ".join(words), note)
    return 0
