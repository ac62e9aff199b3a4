"""The text of a model card: what the weights, the run's settings and eval results say, and no more."""

import dataclasses
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ivjax.convert.loading import Loaded
from ivjax.convert.model_summary import model_facts, video_size
from ivjax.data_pipelines.load.mixture import mixtures_of
from ivjax.evals.own_frames import own_frames
from ivjax.experiment.experiment import Experiment
from ivjax.experiment.listing import options_text
from ivjax.models.dialogue.model import DialogueModel
from ivjax.models.dual_tower import DualTower
from ivjax.report.facts.eval_results import EvalResult
from ivjax.report.model_card.front_matter import CardOptions, data_name
from ivjax.version import __version__


def card_text(
    name: str,
    loaded: Loaded,
    family: str,
    source: str,
    experiment: Experiment | None,
    options: CardOptions,
    results: Sequence[EvalResult],
) -> str:
    """Returns the card without its head.

    Args:
        name: of the model, which is that of its folder.
        loaded: the model as it is read from its folder.
        family: the family of checkpoints and the preset, in words; "" for none.
        source: the file or the run that it was made of.
        experiment: the settings of the run, those of its own machine included; None for a file.
        options: what the user says.
        results: of evals.
    """
    sections = {
        "What it is": _what(loaded, family),
        "How it was made": _made(loaded, source, experiment),
        "How it is used": _use(name, loaded),
        "Evaluation": _evaluation(results),
        "Limits": _limits(loaded, options, results),
    }
    text = "".join(f"\n## {title}\n\n{body}\n" for title, body in sections.items())
    return f"# {name}\n{text}\nWritten by ivjax {__version__}.\n"


def _what(loaded: Loaded, family: str) -> str:
    tokenizer: Any = loaded.tokenizer
    if getattr(tokenizer, "path", ""):
        tokenizer = dataclasses.replace(tokenizer, path=Path(tokenizer.path).name)
    facts = model_facts(loaded.model, loaded.params, tokenizer)
    facts.pop("use", None)
    return _table(("", ""), [("family", family)] * bool(family) + list(facts.items()))


def _made(loaded: Loaded, source: str, experiment: Experiment | None) -> str:
    if experiment is None:
        return f"Converted from `{_last(source)}`, which says nothing of how it was trained."
    steps = f"{experiment.steps:,} steps of {experiment.batch:,} clips were planned"
    corpora = dict.fromkeys(
        _last(corpus.path) for mixture in mixtures_of(experiment.data).values() for corpus in mixture.corpora
    )
    stage = type(experiment.stage)
    rows = {
        "stage": f"{stage.__name__}. {_first_line(sys.modules[stage.__module__].__doc__)}",
        "run": f"{loaded.made}; {steps}",
        "learning rate": options_text(experiment.schedule),
        "optimizer": options_text(experiment.optimizer),
        "precision": f"{experiment.dtype}, parameters and their updates in float32",
        "corpora": ", ".join(corpora),
        "started from": ", ".join(re.sub(r"[^=]*/", "", entry) for entry in experiment.init_from),
        "trains": ", ".join(f"{each.pattern} x {each.rate:g}" for each in experiment.trains),
        "seed": str(experiment.seed),
    }
    table = _table(("", ""), [(name, text) for name, text in rows.items() if text])
    return f"{table}\n\nAll settings are in `experiment.txt`."


def _use(name: str, loaded: Loaded) -> str:
    fetch = f"Fetch the folder (`hf download ACCOUNT/{name} --local-dir {name}`), and install ivjax."
    lines = "\n".join(["import ivjax", "", f"model = ivjax.load({_loading(name, loaded)})", *_usage(loaded)])
    more = ""
    if hasattr(loaded.model.size, "classes"):
        command = f"ivjax eval {name} --suite classify --data VIDEOS --predictions FILE"
        more = f"\n\n`{command}` names the classes of videos."
    return f"{fetch}\n\n```python\n{lines}\n```{more}"


def _loading(name: str, loaded: Loaded) -> str:
    file = getattr(type(loaded.tokenizer), "FILE", "tokenizer.model")
    # A vocabulary that nobody had at hand.
    lacks = loaded.tokenizer is not None and not getattr(loaded.tokenizer, "path", "")
    return f'"{name}", tokenizer="{file}"' if lacks else f'"{name}"'


def _usage(loaded: Loaded) -> list[str]:
    if isinstance(loaded.model, DialogueModel):
        return ['talk = ivjax.chat(model, "a.mp4")', 'print(talk.answer("What happens?"))']
    if isinstance(loaded.model, DualTower):
        return [
            'vectors = ivjax.features(model, ["a.mp4", "b.mp4"])',
            'words = model.text(["a dog runs", "a cat sleeps"])',
            "print(vectors @ words.T)  # cosines, a row for each video",
        ]
    if video_size(loaded.model.size) is not None:
        return ['vectors = ivjax.features(model, ["a.mp4", "b.mp4"])', "print(vectors.shape)"]
    return ["print(model)"]


def _evaluation(results: Sequence[EvalResult]) -> str:
    if not results:
        return "No result was given."
    rows = [
        (result.suite, data_name(result), f"{result.protocol.get('videos', '')}", metric, f"{value:g}")
        for result in results
        for metric, value in result.metrics.items()
    ]
    table = _table(("suite", "test set", "videos", "metric", "value"), rows)
    return f"{table}\n\nPercentages and ranks, as `ivjax eval` gives them (docs/evals.md of ivjax)."


def _limits(loaded: Loaded, options: CardOptions, results: Sequence[EvalResult]) -> str:
    found = []
    tower = video_size(loaded.model.size)
    if tower is not None:
        frames, (height, width) = getattr(loaded.model, "frames", tower.frames), tower.image
        found.append(
            f"Of a video it sees {frames} frames of {height} x {width} pixels at a time, and no more."
        )
    own = None if loaded.experiment is None else own_frames(loaded.experiment)
    if own is not None:
        found.append(
            f"Frames are chosen by {options_text(own.rule)}, pictures cut by {options_text(own.crop)}."
        )
    if isinstance(loaded.model, DualTower) and loaded.tokenizer is not None:
        found.append(f"Texts are cut after {loaded.tokenizer.length} ids.")
    if (classes := getattr(loaded.model.size, "classes", None)) is not None:
        found.append(f"Any video is one of its {classes} classes to it.")
    if isinstance(loaded.model, DialogueModel):
        found.append("An answer is the likeliest text, and nothing checks that it is true.")
    if not results:
        found.append("Nothing is known of how good it is.")
    if options.license is None:
        found.append("No license is stated.")
    found.append("What its training videos show, and whom they leave out, is not recorded here.")
    return "\n".join(f"- {each}" for each in found)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _first_line(text: str | None) -> str:
    return (text or "").strip().partition("\n")[0]


def _last(place: str) -> str:
    return place.rstrip("/").rpartition("/")[2]
