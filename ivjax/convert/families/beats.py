"""BEATs' files."""

from collections.abc import Mapping
from typing import Any

from ivjax.convert.engine.family import BUFFERS, Family, FixtureRun
from ivjax.convert.engine.rows import Row, Transform
from ivjax.convert.families.layers import apart, linear, norm
from ivjax.convert.families.layerwise import beats_layers
from ivjax.models.beats import BeatsSize

_PATCH = Transform(
    lambda w: w[:, 0].transpose(1, 2, 0),  # (C, 1, time, bins) -> (time, bins, C)
    lambda k: k.transpose(2, 0, 1)[:, None],
)
_TAPS = Transform(lambda v: v.transpose(2, 1, 0), lambda k: k.transpose(2, 1, 0))  # (O, I, K) -> (K, I, O)
_LENGTHS = Transform(lambda g: g.reshape(-1), lambda s: s.reshape(1, 1, -1))
_PER_HEAD = Transform(lambda a: a.reshape(-1), lambda s: s.reshape(1, -1, 1, 1))
_SHARED = "encoder.layers.{}.self_attn.relative_attention_bias.weight"
# All layers share one table, and their files repeat it in each.
TIES = {_SHARED.format(layer): _SHARED.format(0) for layer in range(1, 64)}


def beats_rows(source: str = "", target: str = "") -> list[Row]:
    """Rows of BEATs, with what goes before the names and the paths."""
    layer, to = f"{source}encoder.layers.{{i}}", f"{target}blocks"
    places, to_places = f"{source}encoder.pos_conv.0", f"{target}places"
    return [
        Row(f"{source}patch_embedding.weight", f"{target}patch_embed/kernel", _PATCH),
        *norm(f"{source}layer_norm", f"{target}norm_patches"),
        *linear(f"{source}post_extract_proj", f"{target}proj"),
        Row(f"{places}.weight_v", f"{to_places}/kernel", _TAPS),
        Row(f"{places}.weight_g", f"{to_places}/scale", _LENGTHS),
        # Newer torch calls direction and length of a weight so.
        Row(f"{places}.parametrizations.weight.original1", f"{to_places}/kernel", _TAPS),
        Row(f"{places}.parametrizations.weight.original0", f"{to_places}/scale", _LENGTHS),
        Row(f"{places}.bias", f"{to_places}/bias"),
        *norm(f"{source}encoder.layer_norm", f"{target}norm"),
        Row(f"{source}{_SHARED.format(0)}", f"{target}distances"),
        *apart(f"{layer}.self_attn.{{part}}_proj", f"{to}/attn/qkv", ("q", "k", "v")),
        *linear(f"{layer}.self_attn.out_proj", f"{to}/attn/proj"),
        *linear(f"{layer}.self_attn.grep_linear", f"{to}/attn/gate"),
        Row(f"{layer}.self_attn.grep_a", f"{to}/gate_scale", _PER_HEAD),
        *norm(f"{layer}.self_attn_layer_norm", f"{to}/norm1"),
        *linear(f"{layer}.fc1", f"{to}/mlp/fc1"),
        *linear(f"{layer}.fc2", f"{to}/mlp/fc2"),
        *norm(f"{layer}.final_layer_norm", f"{to}/norm2"),
    ]


def beats_size(config: Mapping[str, Any]) -> BeatsSize:
    """Size of a fixture. Its `fbank` has frames and bins, or says how they are made."""
    bank = config["fbank"]
    frames, bins = bank if isinstance(bank, list) else (config["pad_frames"], bank["num_mel_bins"])
    return BeatsSize(
        width=config["encoder_embed_dim"],
        depth=config["encoder_layers"],
        heads=config["encoder_attention_heads"],
        mlp_width=config["encoder_ffn_embed_dim"],
        patch_width=config["embed_dim"],
        patch=config["input_patch_size"],
        frames=frames,
        bins=bins,
        place_taps=config["conv_pos"],
        place_groups=config["conv_pos_groups"],
        buckets=config["num_buckets"],
        distance=config["max_distance"],
        gradient_decay=config["layer_wise_gradient_decay_ratio"],
    )


BEATS = Family(
    name="beats",
    rows=tuple(beats_rows()),
    presets=BeatsSize.PRESETS,
    container="model",
    ignored={**BUFFERS, "predictor.*": "only its classifier needs it"},
    ties=TIES,
    parity=FixtureRun(beats_size, beats_layers.run),
    about="BEATs, the audio encoder of stage 2",
)

FAMILIES = (BEATS,)
