"""UniFormerV2's classifiers, and CLIP's image towers, which its training starts from."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from ivjax.convert.engine.family import BUFFERS, Family, FixtureRun
from ivjax.convert.engine.fits import over_time, places
from ivjax.convert.engine.rows import Row, Transform
from ivjax.convert.families.clip_hub import CLIP_HUB
from ivjax.convert.families.internvideo2 import image_size
from ivjax.convert.families.layers import PATCH, QKV, QKV_BIAS, linear, norm
from ivjax.convert.families.layerwise import uniformerv2_layers
from ivjax.convert.families.viclip import CLIP, blocks
from ivjax.convert.families.videomae_classifier import head_rows
from ivjax.models.classifier_size import ClassifierSize
from ivjax.models.uniformerv2 import UniFormerV2Size

# A convolution of one tap is a linear layer: (O, I, 1, 1, 1) -> (I, O).
_POINT = Transform(lambda w: w.reshape(w.shape[:2]).T, lambda k: k.T.reshape(*k.T.shape, 1, 1, 1))
# One of three times for each channel: (C, 1, 3, 1, 1) -> (3, C).
_OVER_TIME = Transform(lambda w: w.reshape(-1, 3).T, lambda k: k.T.reshape(-1, 1, 3, 1, 1))


def tower_rows(source: str = "", target: str = "") -> list[Row]:
    """Rows of the tower without a head, with what goes before the names and the paths."""
    inner, dec = f"{source}transformer.", f"{source}transformer.dec.{{i}}"
    to, block = f"{target}globals", f"{source}transformer.resblocks.{{i}}"
    return [
        Row(f"{source}conv1.weight", f"{target}patch_embed/kernel", PATCH, fit=over_time),
        Row(f"{source}class_embedding", f"{target}cls_token"),
        Row(f"{source}positional_embedding", f"{target}spatial_embed", fit=places(kept=1)),
        *norm(f"{source}ln_pre", f"{target}norm_pre"),
        *blocks(block, f"{target}blocks"),
        *(row for n in (1, 2) for row in _local_rows(f"{block}.lmhra{n}", f"{target}blocks/local{n}")),
        Row(f"{inner}temporal_cls_token", f"{target}video_token"),
        Row(f"{inner}dpe.{{i}}.weight", f"{to}/places/kernel", PATCH),
        Row(f"{inner}dpe.{{i}}.bias", f"{to}/places/bias"),
        Row(f"{dec}.attn.in_proj_weight", f"{to}/attn/kernel", QKV),
        Row(f"{dec}.attn.in_proj_bias", f"{to}/attn/bias", QKV_BIAS),
        *linear(f"{dec}.attn.out_proj", f"{to}/proj"),
        *linear(f"{dec}.mlp.c_fc", f"{to}/fc1"),
        *linear(f"{dec}.mlp.c_proj", f"{to}/fc2"),
        *(row for n in (1, 2, 3) for row in norm(f"{dec}.ln_{n}", f"{to}/norm{n}")),
        Row(f"{inner}balance", f"{target}balance"),
    ]


def _local_rows(source: str, target: str) -> list[Row]:
    inside = f"{source}.pos_embed"
    return [
        *norm(f"{inside}.0", f"{target}/norm"),
        Row(f"{inside}.0.running_mean", f"{target}/norm/mean"),
        Row(f"{inside}.0.running_var", f"{target}/norm/variance"),
        Row(f"{inside}.1.weight", f"{target}/down/kernel", _POINT),
        Row(f"{inside}.1.bias", f"{target}/down/bias"),
        Row(f"{inside}.2.weight", f"{target}/over_time/kernel", _OVER_TIME),
        Row(f"{inside}.2.bias", f"{target}/over_time/bias"),
        Row(f"{inside}.3.weight", f"{target}/up/kernel", _POINT),
        Row(f"{inside}.3.bias", f"{target}/up/bias"),
    ]


def _head_rows() -> list[Row]:
    """Rows of the head: those of VideoMAE's classifiers, under other names."""
    names = {"fc_norm": "transformer.proj.0", "head": "transformer.proj.2"}
    found = []
    for row in head_rows("head"):
        first, _, rest = row.source.partition(".")
        found.append(replace(row, source=f"{names[first]}.{rest}"))
    return found


def tower_size(config: Mapping[str, Any]) -> UniFormerV2Size:
    """Size of a fixture's tower."""
    double: Literal[0, 1, 2] = 2 if config["double_lmhra"] else 1
    return UniFormerV2Size(
        width=config["width"],
        depth=config["layers"],
        heads=config["heads"],
        returned=tuple(config["return_list"]),
        global_heads=config["n_head"],
        global_mlp=int(config["n_dim"] * config["mlp_factor"]),
        patch=config["patch_size"],
        image=image_size(config, "input_resolution"),
        frames=config["t_size"],
        tubelet=2 if config["temporal_downsample"] else 1,
        local=0 if config["no_lmhra"] else double,
        local_width=int(config["width"] // config["dw_reduction"]),
        fused=not config["frozen"],
        dropout=config["mlp_dropout"][0],
    )


def _size_of(config: Mapping[str, Any]) -> ClassifierSize:
    return ClassifierSize(tower_size(config), config["num_classes"])


def _presets() -> dict[str, ClassifierSize]:
    """The released classifiers, as SIZE_DATA_fFRAMES; frames change no shape."""
    scenes = {"k710": 710, "k400": 400, "k600": 600, "k700": 700, "mit": 339, "anet": 200, "hacs": 200}
    found: dict[str, ClassifierSize] = {}
    for name in ("B16", "L14", "L14_336"):
        size = UniFormerV2Size.PRESETS[name]
        found |= {f"{name}_{data}_f8": ClassifierSize(size, classes) for data, classes in scenes.items()}
    for name in ("B16", "L14"):
        motion = UniFormerV2Size.PRESETS[f"{name}_ssv2"]
        found[f"{name}_ssv2_f16"] = ClassifierSize(motion, 174)
        found[f"{name}_ssv1_f16"] = ClassifierSize(motion, 174)
    frozen = replace(UniFormerV2Size.PRESETS["L14_336"], fused=False)
    return found | {"L14_336_k400_frozen_f8": ClassifierSize(frozen, 400)}


UNIFORMERV2 = Family(
    name="uniformerv2_classifier",
    rows=tuple(replace(row, target=f"encoder/{row.target}") for row in tower_rows()) + tuple(_head_rows()),
    presets=_presets(),
    container="model_state",
    prefix="backbone.",
    parity=FixtureRun(_size_of, uniformerv2_layers.run),
    about="UniFormerV2's fine-tuned classifiers of InternVideo 1 (B/16, L/14, L/14 at 336 pixels)",
)


def _of_clip(clip: Family) -> Family:
    """CLIP's files as the start of a UniFormerV2: their image tower, inflated."""
    vision = [replace(row, target=row.target.removeprefix("vision/")) for row in clip.rows if _shared(row)]
    text = [row for row in clip.rows if not _shared(row)]
    unread = {_pattern(row): "UniFormerV2 has no place for it" for row in text}
    sizes = UniFormerV2Size.PRESETS
    return replace(
        clip,
        name=f"uniformerv2_{clip.name}",
        rows=tuple(vision),
        presets=sizes,
        tokenizer=lambda size: None,
        ignored={**clip.ignored, **BUFFERS, **unread},
        added=(*_NEW, *_NEW_LOCAL),
        hub=None,
        about="CLIP's image tower as the start of a UniFormerV2: name the family",
        stores_runs=False,
    )


# What CLIP lacks.
_NEW = tuple(
    f"globals/{path}"
    for path in (
        *(
            f"{layer}/{leaf}"
            for layer in ("attn", "proj", "fc1", "fc2", "places")
            for leaf in ("kernel", "bias")
        ),
        *(f"norm{n}/{leaf}" for n in (1, 2, 3) for leaf in ("scale", "bias")),
    )
) + ("video_token", "balance")
_NEW_LOCAL = tuple(
    f"blocks/local{n}/{path}"
    for n in (1, 2)
    for path in (
        *(f"norm/{leaf}" for leaf in ("scale", "bias", "mean", "variance")),
        *(f"{layer}/{leaf}" for layer in ("down", "over_time", "up") for leaf in ("kernel", "bias")),
    )
)


def _shared(row: Row) -> bool:
    return row.target.startswith("vision/")


def _pattern(row: Row) -> str:
    return row.source.replace("{i}", "*").replace("{part}", "*")


FAMILIES = (UNIFORMERV2, _of_clip(CLIP), _of_clip(CLIP_HUB))
