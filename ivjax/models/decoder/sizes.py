"""Sizes of language models. One network is all of the released families; what differs stands here."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, get_args

from ivjax.errors import UserError
from ivjax.experiment import late
from ivjax.experiment.computing import Compute
from ivjax.experiment.ranges import Count, Rate
from ivjax.experiment.rules import Rules
from ivjax.models.decoder.rules import DECODER
from ivjax.models.sizes import VideoTowerSize


@dataclass(frozen=True)
class Rotary:
    """How positions turn queries and keys.

    Attributes:
        base: of the geometric row of wavelengths.
        scaling: how longer texts fit: not at all, by slower turns throughout, or beyond `trained` tokens by
            dynamic NTK, YaRN or LongRoPE's tables.
        factor: of linear scaling, dynamic NTK and YaRN.
        trained: tokens that the frequencies were trained with; only scalings ask for it.
        limit: tokens that a model with LongRoPE reads.
        short_factors: LongRoPE's divisors of the frequencies for texts up to `trained` tokens.
        long_factors: the same for longer texts.
        magnitude: what YaRN and LongRoPE multiply sines and cosines by (None: as in their papers).
        ramp: turns in `trained` tokens between which YaRN goes from whole to slowed-down frequencies.
    """

    base: float = 10000.0
    scaling: Literal["none", "linear", "dynamic", "yarn", "long"] = "none"
    factor: float = 1.0
    trained: Count = 4096
    limit: Count = 4096
    short_factors: tuple[float, ...] = ()
    long_factors: tuple[float, ...] = ()
    magnitude: float | None = None
    ramp: tuple[float, float] = (32.0, 1.0)


LoraLayer = Literal["q", "k", "v", "proj", "gate", "up", "down", "head"]
LORA_LAYERS: tuple[LoraLayer, ...] = get_args(LoraLayer)


@dataclass(frozen=True)
class Lora:
    """Additions of low rank to linear layers: y + alpha / rank * (x a) b.

    Attributes:
        rank: columns of a, and rows of b.
        alpha: their product counts alpha / rank.
        layers: the linear layers that have one.
        dropout: the share of the entries of x that training leaves out of the product.
    """

    rank: Count = 16
    alpha: float = 32.0
    layers: tuple[LoraLayer, ...] = LORA_LAYERS
    dropout: Rate = 0.0

    @property
    def scale(self) -> float:
        """What the product of both factors is multiplied by."""
        return self.alpha / self.rank


@dataclass(frozen=True)
class LanguageSize:
    """Everything that shapes a language model. Released sizes: `PRESETS`.

    Attributes:
        width: channels of a token.
        depth: blocks.
        heads: heads of the queries.
        kv_heads: heads of keys and values, each shared by heads / kv_heads query heads.
        mlp_width: hidden channels of the gated MLP.
        vocabulary: token ids are below it.
        rotary: how positions enter.
        head_width: channels of a head (None: width / heads).
        window: each token sees only so many tokens back, itself counted (None: all).
        qkv_bias: whether queries, keys and values have biases.
        proj_bias: whether the layer behind the heads has a bias.
        mlp_bias: whether the layers of the MLP have biases.
        tied: whether the word embeddings are also the head.
        epsilon: of the norms.
        lora: additions of low rank to its linear layers (None: none).
    """

    width: Count
    depth: Count
    heads: Count
    kv_heads: Count
    mlp_width: Count
    vocabulary: Count
    rotary: Rotary = Rotary()
    head_width: Count | None = None
    window: Count | None = None
    qkv_bias: bool = False
    proj_bias: bool = False
    mlp_bias: bool = False
    tied: bool = False
    epsilon: float = 1e-5
    lora: Lora | None = None

    PRESETS: ClassVar[dict[str, "LanguageSize"]]

    grid: ClassVar[None] = None

    @property
    def rules(self) -> Rules:
        """Rules of the model's parameters."""
        return DECODER

    @property
    def head(self) -> int:
        """Channels of a head."""
        return self.width // self.heads if self.head_width is None else self.head_width

    def build(self, compute: Compute) -> Any:
        """Returns the LanguageModel."""
        return late.call("ivjax.models.decoder.network", "build", self, compute)

    def encoders(self) -> Mapping[str, VideoTowerSize]:
        """Returns nothing: there is no video tower inside."""
        return {}

    def flops(self, tokens: int, keys: int | None = None) -> dict[str, float]:
        """Forward FLOPs of `tokens` tokens with `keys` before them in the cache (None: none), by layer."""
        q, kv = self.heads * self.head, self.kv_heads * self.head
        per_token = self.width * (2 * q + 2 * kv) + 3 * self.width * self.mlp_width
        head = 0 if self.lora is None or "head" not in self.lora.layers else self.width + self.vocabulary
        rank = 0 if self.lora is None else self.lora.rank
        return {
            "blocks": self.depth * 2.0 * tokens * (per_token + rank * self._beside_lora),
            "attention": self.depth * 4.0 * self._pairs(tokens, keys or 0) * q,
            "head": 2.0 * tokens * (self.width * self.vocabulary + rank * head),
        }

    def _pairs(self, tokens: int, keys: int) -> float:
        """Queries times the keys that each sees on average: all of the cache, and half of their own text."""
        # How many tokens see everything before them; the others see a whole window.
        growing = tokens if self.window is None else min(max(self.window - keys, 0), tokens)
        return growing * (keys + growing / 2) + (tokens - growing) * (self.window or 0)

    @property
    def _beside_lora(self) -> int:
        """Inputs and outputs of all layers of a block that have an addition of low rank."""
        q, kv = self.heads * self.head, self.kv_heads * self.head
        ends = dict.fromkeys(("q", "proj"), self.width + q) | dict.fromkeys(("k", "v"), self.width + kv)
        ends |= dict.fromkeys(("gate", "up", "down"), self.width + self.mlp_width)
        return sum(ends.get(layer, 0) for layer in (self.lora.layers if self.lora else ()))

    def check(self, name: str) -> None:
        """Raises if the size at `stage.<name>` is impossible."""
        where = f"stage.{name}"
        if self.kv_heads < 1 or self.heads % self.kv_heads:
            raise UserError(
                f"{where}.heads={self.heads} cannot share {self.kv_heads} kv_heads evenly; "
                "make heads a multiple of kv_heads"
            )
        if self.head % 2 or (self.head_width is None and self.width % self.heads):
            raise UserError(
                f"{where}.width={self.width} does not divide into {self.heads} heads of an even width; "
                "change width or heads"
            )
        if self.window is not None and self.window < 1:
            raise UserError(
                f"{where}.window={self.window} hides every token from itself; give 1 or more, or None"
            )
        if self.lora is not None and self.lora.rank < 1:
            raise UserError(f"{where}.lora.rank={self.lora.rank} adds nothing; give 1 or more, or lora=None")
        if self.lora is not None and not 0 <= self.lora.dropout < 1:
            raise UserError(f"{where}.lora.dropout={self.lora.dropout} is no share; give 0 or more, below 1")
        if self.lora is not None and self.tied and "head" in self.lora.layers:
            raise UserError(
                f"{where}.lora.layers names the head, which is tied to the embeddings; leave it out"
            )
        tables = self.rotary.short_factors, self.rotary.long_factors
        if self.rotary.scaling == "long" and any(len(table) != self.head // 2 for table in tables):
            raise UserError(
                f"{where}.rotary has {len(tables[0])} short_factors and {len(tables[1])} long_factors for "
                f"{self.head // 2} pairs of channels; take both from the model's config.json"
            )


_INTERNLM2 = LanguageSize(4096, 32, 32, 8, 14336, 92544, Rotary(1e6, "dynamic", 2.0, 32768))
_VICUNA = LanguageSize(4096, 32, 32, 32, 11008, 32000, epsilon=1e-6)
_QWEN2 = LanguageSize(3584, 28, 28, 4, 18944, 152064, Rotary(1e6, trained=32768), qkv_bias=True, epsilon=1e-6)

LanguageSize.PRESETS = {
    "internlm2_5_7b": _INTERNLM2,
    # With the nine tokens that InternVL adds.
    "internvl_internlm2_5_7b": replace(_INTERNLM2, vocabulary=92553),
    "vicuna_7b": _VICUNA,
    "mistral_7b": LanguageSize(4096, 32, 32, 8, 14336, 32000, Rotary(1e6)),
    # Version 0.3 has more words. Version 0.1 has a window of 4096 and a base of 10000.
    "mistral_7b_v03": LanguageSize(4096, 32, 32, 8, 14336, 32768, Rotary(1e6)),
    # The 128k form has tables of LongRoPE, which come from the config.json beside its weights.
    "phi3_mini_4k": LanguageSize(3072, 32, 32, 32, 8192, 32064, window=2047),
    "qwen2_7b": _QWEN2,
    "qwen2_5_7b": _QWEN2,
    "qwen2_5_1_5b": replace(
        _QWEN2, width=1536, heads=12, kv_heads=2, mlp_width=8960, vocabulary=151936, tied=True
    ),
    "tiny": LanguageSize(64, 4, 4, 2, 128, 512, Rotary(10000.0, trained=4096)),
}
