"""A run of two towers, its folder with a card, an eval result of it, and videos."""

import json
import re

import yaml

from ivjax.data_pipelines.load.tokenizers_in_use import vocabularies_of
from ivjax.experiment.computing import Compute
from ivjax.experiment.kept_files import keep_files
from ivjax.models.internvideo2 import EncoderSize
from ivjax.report.model_card.front_matter import CardOptions
from ivjax.report.model_card.write_folder import write_folder
from tests.convert.tables import save_weights
from tests.data_pipelines.corpora import make_clip
from tests.evals.small_run import save_small_run, write_test_set
from tests.models.params import any_params

TINY = EncoderSize(16, 2, 2, 32, 2, 8, image=(28, 28), frames=2, layer_scale=0.1)
NAMES = ("red", "green", "blue")


def quiet(line):
    pass


def write_pair(folder):
    """Writes the run `run` and the folder `pair-tiny` that is made of it."""
    experiment = save_small_run(folder / "run", write_test_set(folder / "corpus"))
    keep_files(folder / "run", vocabularies_of(experiment))
    for number, name in enumerate("ab"):
        (folder / f"{name}.mp4").write_bytes(make_clip(number).payload)
    (folder / "result.json").write_text(json.dumps(result_of("run")))
    card = CardOptions("apache-2.0", ("friends/pair",), ("friends/clips",), (str(folder / "result.json"),))
    write_folder(str(folder / "run"), folder / "pair-tiny", card, say=quiet)


def result_of(weights):
    """A result of retrieval as `ivjax eval --out` stores it."""
    return {
        "suite": "retrieval",
        "protocol": {"weights": weights, "data": "/home/me/test_set", "videos": 13},
        "metrics": {"t2v_r1": 12.5, "t2v_medr": 3.0},
    }


def save_classifier(path, size):
    """Writes the file of a classifier."""
    save_weights(path, any_params(size.build(Compute("float32"))), "internvideo2_classifier", size)


def head_and_text(card):
    """The front matter of a card, and what comes after it."""
    _, head, text = re.split(r"^---\n", card.read_text(), maxsplit=2, flags=re.M)
    return yaml.safe_load(head), text
