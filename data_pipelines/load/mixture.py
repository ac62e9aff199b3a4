"""Options of an experiment's `data`, importable without the packages that read clips."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from ivjax.data_pipelines.augment.mix import Mix
from ivjax.data_pipelines.fields.conversation_field import ConversationField
from ivjax.data_pipelines.fields.field import Field
from ivjax.data_pipelines.store.shard_caching import ShardCaching
from ivjax.errors import UserError
from ivjax.experiment import late
from ivjax.experiment.frozen_map import FrozenMap
from ivjax.experiment.overrides import apply_overrides
from ivjax.experiment.ranges import Count, Share

if TYPE_CHECKING:
    from ivjax.data_pipelines.load.loader import BatchRequest, Loader


@dataclass(frozen=True)
class Corpus:
    """A folder of shards.

    Attributes:
        path: the folder; or its address in a bucket, gs://BUCKET/FOLDER.
        weight: its part of the mixture; None: the number of its clips.
        fields: fields that are made otherwise here than in the rest of the mixture.
        changes: options of fields that differ here, as overrides: `video.augment.flip=0`.
    """

    path: str
    weight: float | None = None
    fields: Mapping[str, Field] = field(default_factory=dict)
    changes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        # Configs write a dict, which could still be changed inside of a frozen dataclass.
        object.__setattr__(self, "fields", FrozenMap(self.fields))


class Served(NamedTuple):
    """Loaders of several media, and of how many steps each serves one.

    Attributes:
        loaders: one for each medium.
        steps: of every `sum(steps.values())` steps, how many each medium serves.
    """

    loaders: "dict[str, Loader]"
    steps: dict[str, int]


class CorpusFields(NamedTuple):
    """A corpus folder and how its clips are read.

    Attributes:
        folder: the corpus.
        fields: what is made of its clips.
        path: where the fields that all corpora share stand in the experiment, for messages.
        changed: where the fields stand that this corpus reads otherwise.
    """

    folder: str
    fields: Mapping[str, Field]
    path: str = "data.fields"
    changed: Mapping[str, str] = {}

    def path_of(self, name: str) -> str:
        """Returns where the options of a field stand in the experiment."""
        return self.changed.get(name, f"{self.path}.{name}")


@dataclass(frozen=True)
class CorpusReader:
    """What a Mixture and Dialogues have in common; see there.

    Attributes:
        corpora: what is trained on.
        fields: what is made of what a corpus holds.
        eval_corpora: what the loss is measured on during training; never trained on.
        workers: decode processes; None: one for each core but one; 0: threads of this process.
        seconds: an example that takes longer is broken.
        broken: the share of broken ones that ends the run when it is exceeded.
        shard_cache: where shards of corpora in buckets are copied to.
    """

    corpora: tuple[Corpus, ...]
    fields: Mapping[str, Any]
    eval_corpora: tuple[Corpus, ...] = ()
    workers: int | None = None
    seconds: float = 60.0
    broken: Share = 0.01
    shard_cache: ShardCaching = ShardCaching()

    def __post_init__(self) -> None:
        object.__setattr__(self, "fields", FrozenMap(self.fields))

    def corpus_fields(self, path: str, eval_clips: bool = False) -> Iterator[CorpusFields]:
        """Yields how each corpus, or each eval corpus, is read; the mixture stands at `path`."""
        which = "eval_corpora" if eval_clips else "corpora"
        corpora: tuple[Corpus, ...] = getattr(self, which)
        for number, corpus in enumerate(corpora):
            yield self._fields_of(corpus, path, f"{path}.{which}.{number}")

    def _fields_of(self, corpus: Corpus, path: str, where: str) -> CorpusFields:
        """Returns the fields of a corpus that stands at `where`: the mixture's, with what it changes."""
        whole = replace(self, fields={**self.fields, **corpus.fields})
        try:
            read = apply_overrides(whole, [f"fields.{change}" for change in corpus.changes])
        except UserError as error:
            raise UserError(f"{where}.changes: {error}") from None
        touched = (change.partition("=")[0].partition(".")[0] for change in corpus.changes)
        changed = {name: f"{where}.fields.{name}" for name in corpus.fields}
        # Last, because changes are made to the corpus's own fields too.
        changed |= {name: f"{where}.changes: {name}" for name in touched}
        return CorpusFields(corpus.path, read.fields, f"{path}.fields", changed)


@dataclass(frozen=True)
class Mixture(CorpusReader):
    """Clips of several corpora, each shuffled anew every epoch, interleaved by weight.

    Attributes:
        corpora: what is trained on.
        fields: what is made of a clip: name of an array of the batch -> how it is made.
        eval_corpora: what the loss is measured on during training; never trained on.
        workers: decode processes; None: one for each core but one; 0: threads of this process.
        seconds: a clip that takes longer is broken.
        broken: the share of broken clips that ends the run when it is exceeded.
        shard_cache: where shards of corpora in buckets are copied to.
        cache_gib: memory of this host for decoded clips, shared by the workers; 0 is off. Clips that fit
            are decoded once, whole, with their sound, and read from there at later visits. Eval corpora get
            as much again.
        mix: with it the stage may ask for `targets` (classes,), the soft ones of mixed labels.
        repeats: how often a clip stands in a batch, with the same frames and different augmentations.
        shuffle_shards: clips are shuffled within groups of so many shards, which are drawn anew each epoch
            and read one after the other; 0: over all shards of a corpus. With corpora in buckets, only two
            groups of each need to lie on this machine.
    """

    # Named and not imported, so that a config loads without grain and PyAV.
    IMPLEMENTATION: ClassVar[str] = "ivjax.data_pipelines.load.mixture_loader"

    fields: Mapping[str, Field]
    mix: Mix | None = None
    repeats: Count = 1
    cache_gib: float = 0.0
    shuffle_shards: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.repeats < 1:
            # Only an experiment knows where the mixture stands in it, so the class is named and no path.
            raise UserError(f"Mixture.repeats={self.repeats}; it must be at least 1")

    def open(self, request: "BatchRequest", eval_clips: bool = False) -> "Loader":
        """Opens a loader over the mixture, or over its eval corpora."""
        return late.call(self.IMPLEMENTATION, "open_mixture", self, request, eval_clips)


@dataclass(frozen=True)
class Dialogues(CorpusReader):
    """Conversations of several corpora, packed into rows of the sizes that the stage's media have.

    Attributes:
        corpora: what is trained on.
        fields: one field of conversations (`Turns`).
        eval_corpora: what the loss is measured on during training; never trained on.
        workers: decode processes; None: one for each core but one; 0: threads of this process.
        seconds: a row that takes longer is broken.
        broken: the share of broken conversations that ends the run when it is exceeded.
        shard_cache: where shards of corpora in buckets are copied to.
        pack: whether several conversations may share a row.
    """

    IMPLEMENTATION: ClassVar[str] = "ivjax.data_pipelines.load.dialogue_loader"

    fields: Mapping[str, ConversationField]
    pack: bool = True

    def open_media(self, requests: "Mapping[str, BatchRequest]", eval_clips: bool = False) -> "Served":
        """Opens a loader for each of the media, which are the buckets of the stage by name."""
        return late.call(self.IMPLEMENTATION, "open_dialogues", self, requests, eval_clips)


@dataclass(frozen=True)
class Media:
    """Several mixtures in one run; each step's batch comes from one of them.

    Attributes:
        mixtures: name of the medium, as the stage calls it -> its clips. Images are clips of one frame.
        steps: of every `sum(steps.values())` steps, how many each medium serves, in an order shuffled anew.
            A medium without a number serves in proportion to its clips; with no numbers at all it is as if
            the batches of all media lay in one pile.
    """

    mixtures: Mapping[str, Mixture]
    steps: Mapping[str, Count] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "mixtures", FrozenMap(self.mixtures))
        object.__setattr__(self, "steps", FrozenMap(self.steps))
        if not self.mixtures:
            raise UserError("data.mixtures is empty; name at least one medium")
        if unknown := self.steps.keys() - self.mixtures.keys():
            raise UserError(
                f"data.steps names {', '.join(sorted(unknown))}, which data.mixtures lacks; "
                f"the media are {', '.join(self.mixtures)}"
            )
        if min(self.steps.values(), default=1) < 1:
            raise UserError(f"data.steps is {dict(self.steps)}; each medium must have at least 1")


def readers_of(data: object) -> dict[str, CorpusReader]:
    """Returns what reads the corpora of an experiment's data, by the path where each stands."""
    return {"data": data} if isinstance(data, Dialogues) else dict(mixtures_of(data))


def mixtures_of(data: object) -> dict[str, Mixture]:
    """Returns the mixtures of an experiment's data by the path where each stands."""
    if isinstance(data, Mixture):
        return {"data": data}
    mixtures = data.mixtures if isinstance(data, Media) else {}
    return {path_of_medium(name): m for name, m in mixtures.items() if isinstance(m, Mixture)}


def path_of_medium(name: str) -> str:
    """Returns where the mixture of a medium stands in an experiment."""
    return f"data.mixtures.{name}"
