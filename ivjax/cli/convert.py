"""`ivjax convert`: checkpoints of the originals to this project's format, and back."""

import argparse
import json
from pathlib import Path
from typing import Any

from ivjax.cli.common import add_command, note

_FILE = (
    "a torch file, .safetensors, an index of shards, or a folder; then ?language=OTHER, where the language "
    "model of a dialogue model lies in a file of its own"
)


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command."""
    about = "Convert checkpoints of the original models, and compare with them."
    convert = add_command(commands, "convert", about, "ivjax convert inspect ViCLIP-B_InternVid-FLT-10M.pth")
    what = convert.add_subparsers(dest="what", required=True)
    for add_one in (_add_inspect, _add_import, _add_export, _add_folder, _add_parity, _add_families):
        add_one(what)


def _add_inspect(what: argparse._SubParsersAction) -> None:
    about = (
        "Show a file's family and nearest preset, and account for every tensor; status 1 if it does not fit, "
        "or holds NaN or infinities."
    )
    parser = add_command(what, "inspect", about, "ivjax convert inspect pretrain.pth")
    parser.add_argument("file", type=Path, help=_FILE)
    _add_choices(parser)
    parser.add_argument("--quick", action="store_true", help="compare names and shapes alone; read no tensor")
    parser.set_defaults(run=_inspect)


def _add_import(what: argparse._SubParsersAction) -> None:
    about = (
        "Write a file's weights in this project's format. Other sizes than the preset's go by path, as "
        "in vision.frames=16; position tables are resized to them."
    )
    examples = """ivjax convert import ViCLIP-B.pth viclip_b.safetensors
  ivjax convert import 'videochat2_7b_stage3.pth?language=vicuna-7b-v1.5/' chat.safetensors
  ivjax convert import Mistral-7B-Instruct-v0.2/ tuned.safetensors --lora my_adapter/"""
    parser = add_command(what, "import", about, examples)
    parser.add_argument("file", type=Path, help=_FILE)
    parser.add_argument("out", type=Path, help="the .safetensors file to write")
    _add_choices(parser)
    parser.add_argument(
        "--shard-size",
        default="4GiB",
        metavar="SIZE",
        help="split files larger than this, such as 500MB (default 4GiB)",
    )
    about = "a LoRA as peft writes it, a file or its folder, to go beside the language model's parameters"
    parser.add_argument("--lora", type=Path, metavar="ADAPTER", help=about)
    parser.set_defaults(run=_import)


def _add_export(what: argparse._SubParsersAction) -> None:
    about = "Write weights under their original names, as .safetensors or torch file (.pt, .pth)."
    examples = """ivjax convert export viclip_b.safetensors viclip_b.pth
  ivjax convert export chat.safetensors adapter/adapter_model.safetensors --lora"""
    parser = add_command(what, "export", about, examples)
    parser.add_argument("weights", type=Path, help="weights in this project's format, or a run folder")
    parser.add_argument("out", type=Path, help="the file to write")
    parser.add_argument(
        "--names",
        metavar="FAMILY",
        help="write the names of this family, such as clip_hub (default: those that the weights came with)",
    )
    about = (
        "write the LoRA of a language or dialogue model alone, as peft does (default: with the model, and "
        "merged into the kernels where its files have no place for it)"
    )
    parser.add_argument("--lora", action="store_true", help=about)
    _add_json(parser)
    parser.set_defaults(run=_export)


def _add_folder(what: argparse._SubParsersAction) -> None:
    about = (
        "Write the model of a run or of a weight file as a folder that `ivjax.load` and `init_from` take: "
        "weights, sizes, vocabulary, class names, settings, and a model card for the Hugging Face Hub."
    )
    example = "ivjax convert folder runs/viclip viclip-tiny --license apache-2.0 --evals retrieval.json"
    parser = add_command(what, "folder", about, example)
    parser.add_argument("weights", help=f"a run folder, or {_FILE}")
    parser.add_argument("out", type=Path, help="the folder to make; its name is that of the model")
    card = parser.add_argument_group("what the card says")
    card.add_argument("--license", metavar="ID", help="such as apache-2.0 (default: none is stated)")
    card.add_argument(
        "--base-model", nargs="+", default=[], metavar="ID", help="models on the Hub it was made of"
    )
    card.add_argument(
        "--datasets", nargs="+", default=[], metavar="ID", help="datasets on the Hub it has seen"
    )
    card.add_argument("--evals", nargs="+", default=[], metavar="FILE", help="results of `ivjax eval --out`")
    written = parser.add_argument_group("what is written")
    written.add_argument("--ema", action="store_true", help="the averaged parameters of a run")
    written.add_argument("--dtype", choices=("float32", "bfloat16"), help="cast to it (default: as they are)")
    written.add_argument(
        "--shard-size", default="4GiB", metavar="SIZE", help="split larger weights (default 4GiB)"
    )
    written.add_argument("--tokenizer", metavar="FILE", help="the vocabulary, where none lies beside a file")
    written.add_argument("--classes", metavar="FILE|CORPUS", help="the class names, where a run has none")
    _add_json(parser)
    parser.set_defaults(run=_folder)


def _add_parity(what: argparse._SubParsersAction) -> None:
    about = "Compare a model with a fixture of the original, layer by layer; status 1 if float32 differs."
    example = "ivjax convert parity viclip_b.safetensors --fixture viclip_b16.safetensors"
    parser = add_command(what, "parity", about, example)
    parser.add_argument("weights", type=Path, help="weights of any format, or the fixture itself")
    parser.add_argument("--fixture", type=Path, required=True, help="NAME.safetensors, NAME.json beside it")
    _add_json(parser)
    parser.set_defaults(run=_parity)


def _add_families(what: argparse._SubParsersAction) -> None:
    about = (
        "List the families of checkpoints: presets, names of tensors, and with FAMILY the options of sizes."
    )
    parser = add_command(what, "families", about, "ivjax convert families clip_hub")
    parser.add_argument("family", nargs="?", metavar="FAMILY", help="one family, in detail (default: all)")
    _add_json(parser)
    parser.set_defaults(run=_families)


def _add_choices(parser: argparse.ArgumentParser) -> None:
    """Adds what a user may say of a file: see ImportChoices."""
    parser.add_argument("overrides", nargs="*", metavar="path=value", help="other sizes, by dotted path")
    parser.add_argument("--family", help="the file's family (default: found by its tensors' names)")
    parser.add_argument("--preset", help="the released size (default: the nearest)")
    parser.add_argument(
        "--fresh",
        nargs="+",
        default=[],
        metavar="PATTERN",
        help="patterns of parameter paths to initialise instead",
    )
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16"), help="cast floats to it (default: as stored)"
    )
    parser.add_argument("--frames", type=int, help="frames that the file's joint position table has")
    parser.add_argument(
        "--inflate",
        choices=("centre", "mean"),
        default="centre",
        help="image kernels go to the middle of time, or are spread over it (default centre)",
    )
    parser.add_argument("--allow-non-finite", action="store_true", help="read NaN and infinities as they are")
    _add_json(parser)


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def _inspect(options: argparse.Namespace) -> int:
    from ivjax.convert.conversion import inspect_file

    report = inspect_file(options.file, _choices(options), not options.quick, note)
    _show(report, options.json)
    # A status, so that scripts need not read the table.
    return 0 if report.fits else 1


def _import(options: argparse.Namespace) -> int:
    from ivjax.convert.conversion import import_file
    from ivjax.convert.formats.writing import bytes_of

    shard_bytes = bytes_of(options.shard_size)
    choices = _choices(options)
    converted = import_file(options.file, options.out, choices, shard_bytes, note, options.lora)
    _show(converted, options.json)
    return 0


def _export(options: argparse.Namespace) -> int:
    from ivjax.convert.conversion import export_file

    _show(export_file(options.weights, options.out, note, options.names, options.lora), options.json)
    return 0


def _folder(options: argparse.Namespace) -> int:
    from ivjax.convert.formats.writing import bytes_of
    from ivjax.convert.model_folder import FolderOptions
    from ivjax.report.model_card.front_matter import CardOptions
    from ivjax.report.model_card.write_folder import write_folder

    card = CardOptions(
        options.license, tuple(options.base_model), tuple(options.datasets), tuple(options.evals)
    )
    shard_bytes = bytes_of(options.shard_size)
    written = FolderOptions(shard_bytes, options.dtype, options.ema, options.tokenizer, options.classes)
    _show(write_folder(options.weights, options.out, card, written, note), options.json)
    return 0


def _parity(options: argparse.Namespace) -> int:
    from ivjax.convert.parity import check_parity

    report = check_parity(options.weights, options.fixture)
    _show(report, options.json)
    return 0 if report.holds else 1


def _families(options: argparse.Namespace) -> int:
    from ivjax.convert.catalogue import catalogue

    entries = catalogue(options.family)
    if options.json:
        print(json.dumps([entry.as_dict() for entry in entries], indent=1))
    else:
        print("\n\n".join(entry.text() for entry in entries))
    return 0


def _choices(options: argparse.Namespace) -> Any:
    from ivjax.convert.comparison import ImportChoices

    return ImportChoices(
        options.family,
        options.preset,
        tuple(options.overrides),
        tuple(options.fresh),
        options.dtype,
        options.frames,
        options.inflate,
        allow_non_finite=options.allow_non_finite,
    )


def _show(result: Any, as_json: bool) -> None:
    print(json.dumps(result.as_dict(), indent=1) if as_json else result.text())
