"""`ivjax.load`: a model and its parameters out of a run folder or a weight file."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ivjax.convert.folder_weights import stored_step
from ivjax.convert.lora_files import read_lora, with_factors
from ivjax.convert.model_summary import summary
from ivjax.convert.origins import params_of_run
from ivjax.convert.registry import FAMILIES, family_in_words, family_named
from ivjax.convert.text_vectors import check_reads_words, text_vectors
from ivjax.convert.tokenizer_choice import named_tokenizer, tokenizer_beside
from ivjax.convert.weights import import_weights
from ivjax.data_pipelines.load.tokenizers_in_use import caption_tokenizer
from ivjax.data_pipelines.tokenizers.tokenizer import Tokenizer
from ivjax.errors import UserError
from ivjax.experiment.buckets import local
from ivjax.experiment.computing import Compute, Dtype
from ivjax.experiment.experiment import Experiment, Stage
from ivjax.experiment.run_folder import checkpoint_steps, folder_with_weights
from ivjax.experiment.storing import is_run, stored_experiment
from ivjax.models.sizes import ComposedSize
from ivjax.ops.cut import Params


@dataclass(frozen=True, eq=False, repr=False)
class Loaded:
    """A model with its parameters; printed, it says what it reads and gives.

    It unpacks as `model, params, tokenizer = ivjax.load(...)`.

    Attributes:
        model: a video tower has `encode(params, clips)`, a pair of towers `video(params, clips)` and
            `words(params, ids)`, a classifier `logits(params, clips)`.
        params: nested dicts of float32 arrays.
        tokenizer: turns captions into ids, or the texts of a language model into ids and back (a
            LanguageTokenizer); None for a model that reads no text.
        path: where it came from, as it was given.
        made: what it is known as: the stage and steps of a run, or the family and preset of a file.
        dtype: what it computes in.
        pools: False if nobody has trained what its video tower pools with.
        experiment: what a run was trained with; None for a file.
        family: the checkpoint family of a file; "" for a run.
    """

    model: Any
    params: Params
    tokenizer: Tokenizer | None
    path: str = ""
    made: str = ""
    dtype: Dtype = "float32"
    pools: bool = True
    experiment: Experiment | None = None
    family: str = ""

    def __iter__(self) -> Iterator[Any]:
        return iter((self.model, self.params, self.tokenizer))

    def __repr__(self) -> str:
        title = f"{self.made} of {self.path}, computes in {self.dtype}"
        family = family_in_words(getattr(self.model, "size", None), FAMILIES.get(self.family))
        return summary(title, family, self.model, self.params, self.tokenizer)

    def text(self, texts: str | Sequence[str]) -> np.ndarray:
        """Returns a vector of unit length for each text: (n, D) float32, n = 1 for a single one.

        Texts are cleaned as the captions of evals and searches are, so that the product with the rows of
        `ivjax.features` is the cosine that those show.
        """
        model = check_reads_words(self.path, self.model, self.tokenizer)
        assert self.tokenizer is not None
        return text_vectors(model, self.params, self.tokenizer, [texts] if isinstance(texts, str) else texts)


def load(
    path: str | Path,
    preset: str | None = None,
    *,
    family: str | None = None,
    sizes: Any = (),
    fresh: tuple[str, ...] = (),
    tokenizer: str | Path | Tokenizer | None = None,
    dtype: Dtype = "float32",
    ema: bool = False,
    on_host: bool = False,
    lora: str | Path | None = None,
) -> Loaded:
    """Loads the model of a run folder, of an original checkpoint, or of a file of this project's format.

    Args:
        path: the run folder or the file; PATH#BRANCH is a video tower inside it, such as a teacher of a run.
        preset: the released size; needed where the file does not say it.
        family: the checkpoint family; needed where the tensors' names fit several.
        sizes: for a file whose sizes are no preset's: its sizes, such as `EncoderSize(...)`, or what differs
            from the preset by dotted path, as in `("vision.frames=16",)`.
        fresh: patterns of parameter paths that are initialised instead of read.
        tokenizer: another vocabulary file than the model names or has beside it, for a language model also a
            folder with its tokenizer; or another tokenizer.
        dtype: what the model computes in. Parameters are always float32.
        ema: loads the averaged parameters of a run instead of the last ones.
        on_host: leaves the parameters in the host's memory, for a caller that spreads them over devices.
        lora: a file of factors of low rank, or a folder with one as peft writes it, for a language model or
            that of a dialogue model.

    What a run did not train is read from the copy in its folder, and of older runs, which have none, from
    their `init_from`. Teachers are left out, because they are no part of the model.
    """
    if dtype not in ("float32", "bfloat16"):
        raise UserError(f"a model computes in float32 or bfloat16, not in {dtype!r}")
    place, branch = split_branch(str(path))
    folder = local(place).expanduser()
    if not is_run(folder):
        found = _of_file(place, preset, family, sizes, fresh, dtype, ema)
        found = _inside(found, branch) if branch else found
    elif preset or family or fresh or sizes:
        raise UserError(f"{path} is a run, which knows its sizes: leave out preset, family, sizes and fresh")
    else:
        found = _of_run(folder, branch, dtype, ema)
    found = dataclasses.replace(found, path=str(path))
    if tokenizer is not None:
        chosen = named_tokenizer(found.path, found.model, found.tokenizer, tokenizer)
        found = dataclasses.replace(found, tokenizer=chosen)
    elif found.family:
        beside = tokenizer_beside(place, found.model, found.tokenizer)
        found = dataclasses.replace(found, tokenizer=beside)
    if lora is not None:
        found = _with_lora(found, lora)
    if not on_host:
        device = jax.local_devices()[0]
        found = dataclasses.replace(found, params=jax.device_put(found.params, device))
    return found


def split_branch(path: str) -> tuple[str, str]:
    """Returns PATH and BRANCH of PATH#BRANCH; a name that is a file with a # in it is a path."""
    place, _, branch = path.rpartition("#")
    # Names of videos and checkpoints may hold a #.
    return (place, branch) if place and not Path(path).expanduser().exists() else (path, "")


def tower_of_stage(name: str, stage: Stage, branch: str, dtype: Dtype) -> tuple[Any, bool]:
    """Returns the video tower at a branch of a stage's parameters, and whether its pooling was trained."""
    encoders = stage.encoders()
    if branch not in encoders:
        names = ", ".join(f"{name}#{other}" for other in encoders) or "none"
        raise UserError(f"{name} has no encoder #{branch}; its encoders are {names}")
    size: ComposedSize = stage.model(Compute(dtype)).size
    # Teachers, which the model does not hold, were trained elsewhere.
    pools = branch not in size.encoders() or size.trains_pooling()
    return encoders[branch].build(Compute(dtype)), pools


def _of_run(folder: Path, branch: str, dtype: Dtype, ema: bool) -> Loaded:
    experiment = stored_experiment(folder)
    stage, name = experiment.stage, type(experiment.stage).__name__
    place = folder_with_weights(folder)
    step = max(checkpoint_steps(place), default=None) or stored_step(place)
    made = name + (f" after step {step:,}" if step else "")
    if not branch:
        params = params_of_run(folder, experiment, ema)
        words = caption_tokenizer(experiment)
        return Loaded(
            stage.model(Compute(dtype)), params, words, made=made, dtype=dtype, experiment=experiment
        )
    tower, pools = tower_of_stage(str(folder), stage, branch, dtype)
    params = params_of_run(folder, experiment, ema, branch)[branch]
    return Loaded(tower, params, None, "", f"{branch} of {made}", dtype, pools, experiment)


def _of_file(
    path: str,
    preset: str | None,
    family: str | None,
    sizes: Any,
    fresh: tuple[str, ...],
    dtype: Dtype,
    ema: bool,
) -> Loaded:
    if ema:
        raise UserError(f"{path} is a file, which holds no averaged parameters beside its own; leave out ema")
    overrides, given = (sizes, None) if isinstance(sizes, tuple | list) else ((), sizes)
    # In float32 whatever the model computes in: its layers cast by themselves, as in training.
    imported = import_weights(path, family, preset, fresh, "float32", sizes=given, overrides=overrides)
    found = family_named(imported.report.family)
    made = " ".join(filter(None, (found.name, imported.report.preset)))
    model = found.model(imported.sizes, jnp.dtype(dtype))
    tokenizer = found.tokenizer(imported.sizes)
    return Loaded(model, imported.params, tokenizer, path, made, dtype, family=found.name)


def _inside(whole: Loaded, branch: str) -> Loaded:
    """Returns the video tower at a branch of a file's model."""
    tower, pools = tower_inside(whole, branch)
    return Loaded(tower, whole.params[branch], None, "", f"{branch} of {whole.made}", whole.dtype, pools)


def tower_inside(whole: Loaded, branch: str) -> tuple[Any, bool]:
    """Returns the video tower at a branch of a model, and whether its pooling was trained."""
    size: Any = getattr(whole.model, "size", None)
    encoders = size.encoders() if hasattr(size, "encoders") else {}
    if branch not in encoders:
        kind = type(whole.model).__name__
        raise UserError(f"{whole.path} holds a {kind}, which has no video encoder #{branch}")
    return encoders[branch].build(Compute(whole.dtype)), size.trains_pooling()


def _with_lora(found: Loaded, path: str | Path) -> Loaded:
    """Returns a language model, or one inside another, with the factors of a LoRA beside its parameters."""
    if not found.family:
        raise UserError(f"{found.path} is a run; a LoRA is added to the file of a language model")
    family, made = family_named(found.family), f"{found.made} with the LoRA of {path}"
    size, factors = read_lora(path, family, getattr(found.model, "size", None))
    params = with_factors(found.params, family, factors)
    return dataclasses.replace(found, model=size.build(Compute(found.dtype)), params=params, made=made)
