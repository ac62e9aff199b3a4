"""A run folder of the smallest pair of towers, with a tokenizer that knows all its words, and a test set."""

import dataclasses
from pathlib import Path

from ivjax.data_pipelines.fields.annotations import Caption
from ivjax.data_pipelines.fields.frames import Frames
from ivjax.data_pipelines.load.mixture import Corpus, Mixture
from ivjax.data_pipelines.sampling import Intervals
from ivjax.data_pipelines.tokenizers.bert import BertWordPiece
from ivjax.experiment.experiment import Experiment
from tests.data_pipelines.corpora import make_clip, write_corpus
from tests.train import micro, pairs

CLIPS = 13  # no batch size divides it


def write_test_set(folder: Path, broken: bool = False) -> Path:
    """A corpus of clips that differ; with `broken` one more record, which nobody can read."""
    from ivjax.data_pipelines.store.records import pack

    records = [pack(make_clip(number)) for number in range(CLIPS)]
    return write_corpus(folder, [*records[:5], *([b"nonsense"] if broken else []), *records[5:]], 2)


def small_experiment(folder: Path, corpus: Path) -> Experiment:
    """The experiment of clips and captions on real data; writes its vocabulary."""
    words = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "clip", "number", *map(str, range(CLIPS)))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "words.txt").write_text("".join(f"{word}\n" for word in words))
    tokenizer = BertWordPiece(str(folder / "words.txt"), length=8, vocabulary_size=len(words))
    # Other words, longer than the model reads: evals must choose the tokenizer by its field.
    dialogue = dataclasses.replace(tokenizer, length=16)
    fields = {"dialogue": Caption(dialogue), "video": Frames(Intervals(4)), "text": Caption(tokenizer)}
    return dataclasses.replace(pairs.experiment, data=Mixture((Corpus(str(corpus)),), fields, workers=0))


def save_small_run(folder: Path, corpus: Path) -> Experiment:
    """Leaves what a run of the experiment would, with random parameters."""
    experiment = small_experiment(folder, corpus)
    micro.saved(folder, experiment)
    return experiment
