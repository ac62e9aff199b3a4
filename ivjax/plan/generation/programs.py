"""The programs of a generation, as `ivjax/generate` runs them, and what goes into them on a mesh."""

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding

from ivjax.errors import UserError
from ivjax.experiment.computing import Compute, Dtype
from ivjax.generate.decoding import Decoded, Decoding, RunCache
from ivjax.generate.generator import run_decode, run_prefill
from ivjax.generate.prompts import Prompts, bucket_length
from ivjax.generate.seeing import run_see
from ivjax.models.decoder.cache import CACHE_AXES, Cache, empty_cache
from ivjax.models.dialogue.model import DialogueModel
from ivjax.models.dialogue.sizes import DialogueSize
from ivjax.ops.cut import Params
from ivjax.ops.layout import activation_spec
from ivjax.plan.generation.request import GenerationRequest
from ivjax.train.sharding import abstract, shardings_of

_CLIPS = 8  # clips that are encoded at a time, for each device that takes other clips


@dataclass(frozen=True)
class GenerationPrograms:
    """What a generation runs on a mesh. Its methods need the mesh in context.

    Attributes:
        size: the dialogue model.
        request: what is generated.
        mesh: a mesh, or one of devices that need not exist.
    """

    size: DialogueSize
    request: GenerationRequest
    mesh: Any

    def check(self) -> None:
        """Raises if the model cannot generate so."""
        if self.visual < 1:
            raise UserError(f"{self.request.frames} frames become no visual tokens; give more frames")
        self.options.check(self.size.language)

    @functools.cached_property
    def model(self) -> DialogueModel:
        """The model, which computes in bfloat16."""
        found: DialogueModel = self.size.build(Compute("bfloat16"))
        return found

    @property
    def visual(self) -> int:
        """Visual tokens of a row."""
        return self.size.visual_tokens(self.request.frames)

    @property
    def prompt(self) -> int:
        """Tokens of a prompt."""
        return self.visual + self.request.question

    @property
    def length(self) -> int:
        """The length that prompts are filled up to."""
        return bucket_length(self.prompt, self.request.chunk)

    @property
    def options(self) -> Decoding:
        """How tokens are generated."""
        asked = self.request
        return Decoding(
            new=asked.new, chunk=asked.chunk, cache=asked.cache, dropout=asked.dropout, visual=self.visual
        )

    @property
    def ways(self) -> int:
        """Devices that can take other clips, or other rows."""
        return int(self.mesh.shape["data"] * self.mesh.shape["fsdp"])

    @property
    def rows(self) -> int:
        """Rows of a device: all of them where they do not divide."""
        return self.request.batch // self.ways if self.request.batch % self.ways == 0 else self.request.batch

    @property
    def all_clips(self) -> int:
        """Clips of all rows."""
        frames = self.request.frames
        return self.request.batch * (frames // self.size.clip_frames(frames))

    @property
    def clips(self) -> int:
        """Clips that are encoded at a time."""
        return min(self.request.clips or _CLIPS * self.ways, self.all_clips)

    @property
    def batches(self) -> int:
        """Batches of clips that are encoded, one after the other."""
        return -(-self.all_clips // self.clips)

    def array(self, shape: tuple[int, ...], dtype: Any, *names: str | None) -> Any:
        """Returns the shape of an array that lies on the mesh as an activation with these axes does."""
        names = names or (None,) * len(shape)
        return jax.ShapeDtypeStruct(
            shape, dtype, sharding=NamedSharding(self.mesh, activation_spec(shape, names))
        )

    @functools.cached_property
    def params(self) -> Params:
        """Shapes of the parameters, where the model's rules place them."""
        shapes = parameter_shapes(self.size, self.request.weights)
        found: Params = abstract(shapes, shardings_of(shapes, self.mesh, self.size.rules))
        return found

    @property
    def pixels(self) -> Any:
        """A batch of clips."""
        shape = (self.clips, self.size.clip_frames(self.request.frames), *self.size.vision.image, 3)
        return self.array(shape, jnp.uint8, "batch", None, None, None, None)

    @property
    def seen(self) -> Any:
        """Visual tokens of all rows."""
        shape = (self.request.batch, self.visual, self.size.language.width)
        return self.array(shape, self.model.language.dtype, "batch", None, None)

    @property
    def prompts(self) -> Prompts:
        """Embeddings of the prompts of all rows."""
        rows, length = self.request.batch, self.length
        x = self.array(
            (rows, length, self.size.language.width), self.model.language.dtype, "batch", None, None
        )
        visual = None if self.request.dropout is None else self.array((rows, length), bool, "batch", None)
        return Prompts(x, self.array((rows,), jnp.int32, "batch"), visual)

    @property
    def caches(self) -> tuple[RunCache, ...]:
        """The caches of each run of layers."""
        size, options, rows = self.size.language, self.options, self.request.batch
        runs = zip(options.runs(size.depth), options.lengths(self.length), strict=True)
        found = []
        for (first, last), length in runs:
            make = functools.partial(empty_cache, last - first, rows, options.slots(length), size.kv_heads)
            cache = jax.eval_shape(
                lambda make=make: make(size.head, self.model.language.dtype, options.cache)
            )
            found.append(RunCache(self._placed(cache), self.array((rows,), jnp.int32, "batch")))
        return tuple(found)

    def _placed(self, cache: Cache) -> Cache:
        placed: Cache = jax.tree.map(
            lambda leaf: self.array(leaf.shape, leaf.dtype, *CACHE_AXES[: leaf.ndim]), cache
        )
        return placed

    @property
    def keys(self) -> Any:
        """Keys of random numbers of all rows."""
        found = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), self.request.batch))
        return self.array(found.shape, found.dtype)

    @property
    def state(self) -> Decoded:
        """A generation under way."""
        rows = self.request.batch
        return Decoded(
            caches=self.caches,
            token=self.array((rows,), jnp.int32, "batch"),
            generated=self.array((), jnp.int32),
            done=self.array((rows,), bool, "batch"),
            seen=None,
            keys=self.keys,
        )

    def lower(self, name: str) -> jax.stages.Lowered:
        """Returns one of the programs `see`, `prefill` and `decode` of the generator, lowered."""
        model, params, options = self.model, self.params, self.options
        if name == "see":
            # The parts that it reads: the language model's weights would count among its arguments.
            mine = {part: params[part] for part in ("vision", "bridge")}
            return run_see.lower(model, mine, self.pixels)
        language = model.language, params["language"]
        if name == "prefill":
            return run_prefill.lower(*language, self.prompts, self.keys, options)
        return run_decode.lower(*language, self.state, self.length, options)


@functools.cache
def parameter_shapes(size: DialogueSize, dtype: Dtype) -> Params:
    """Returns the shapes of a dialogue model's parameters in a dtype."""
    model = size.build(Compute("bfloat16"))

    def stored() -> Params:
        return jax.tree.map(lambda leaf: leaf.astype(dtype), model.init(jax.random.key(0)))

    found: Params = jax.eval_shape(stored)
    return found
