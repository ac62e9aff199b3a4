"""InternVideo-Next: the released encoders, and the files of its two training stages."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ivjax.convert.engine.family import BUFFERS, Family, FixtureRun
from ivjax.convert.engine.fits import times_and_places
from ivjax.convert.engine.rows import Row
from ivjax.convert.families.internvideo2 import decoder, image_size, trunk
from ivjax.convert.families.layers import linear, norm
from ivjax.convert.families.layerwise import internvideo_next_layers
from ivjax.convert.families.modernbert import modernbert_rows
from ivjax.models.internvideo2.sizes import FeatureHeads, PooledHead
from ivjax.models.internvideo_next import DiffusionSize, LatentPredictorSize, NextSize, NextStudentSize
from ivjax.models.modernbert import ModernBertSize

_OWN = ("patch_embed.norm_before.weight",)  # what InternVideo2's files lack
_CLASS_TOKENS = 4  # rows of position tables that stand for no patch


def _table(source: str, target: str) -> Row:
    return Row(source, target, fit=times_and_places(kept=_CLASS_TOKENS))


def encoder_rows(prefix: str = "") -> list[Row]:
    """Rows of the encoder: InternVideo2's, with two norms around its patches and one table of positions."""
    return [
        *(row for row in trunk(prefix) if not row.target.startswith(f"{prefix}pos_embed")),
        _table("pos_embed", f"{prefix}pos_embed"),
        Row("patch_embed.norm_before.weight", f"{prefix}norm_pixels/scale"),
        Row("patch_embed.norm.weight", f"{prefix}norm_patches/scale"),
    ]


def _predictor_rows() -> list[Row]:
    return [
        *encoder_rows("encoder/"),
        Row("bert_mask_token", "mask_token"),
        _table("diff_pos_embed", "predictor_pos_embed"),
        *decoder("to_bert_proj", "to_predictor"),
        *modernbert_rows("bert_decoder.", "predictor/"),
    ]


def _diffusion_rows() -> list[Row]:
    net, block = "diffloss.net", "diffloss.net.res_blocks.{i}"
    return [
        *linear(f"{net}.input_proj", "diffusion/input"),
        *linear(f"{net}.cond_embed", "diffusion/condition"),
        *linear(f"{net}.time_embed.mlp.0", "diffusion/time/fc1"),
        *linear(f"{net}.time_embed.mlp.2", "diffusion/time/fc2"),
        *linear(f"{block}.adaLN_modulation.1", "diffusion/blocks/modulation"),
        *norm(f"{block}.in_ln", "diffusion/blocks/norm"),
        *linear(f"{block}.mlp.0", "diffusion/blocks/fc1"),
        *linear(f"{block}.mlp.2", "diffusion/blocks/fc2"),
        *linear(f"{net}.final_layer.adaLN_modulation.1", "diffusion/modulation"),
        *linear(f"{net}.final_layer.linear", "diffusion/output"),
    ]


_UNREAD = {
    **BUFFERS,
    **dict.fromkeys(
        ("bert_decoder.embeddings.*", "bert_decoder.final_norm.*"), "the predictor has layers alone"
    ),
}


def next_size(config: Mapping[str, Any]) -> NextSize:
    """Size of a fixture's encoder; `num_frames_in` are the frames of its clips, if they are others."""
    made = config["num_frames"]
    frames = config.get("num_frames_in", made)
    return NextSize(
        width=config["embed_dim"],
        depth=config["depth"],
        heads=config["num_heads"],
        mlp_width=int(config["embed_dim"] * config["mlp_ratio"]),
        pool_heads=config["attn_pool_num_heads"],
        pool_width=config["clip_embed_dim"],
        class_tokens=config["cls_token_num"],
        image=image_size(config),
        patch=config["patch_size"],
        frames=frames,
        table_frames=None if frames == made else made,
        tubelet=config["tubelet_size"],
        layer_scale=config["init_values"] or None,
    )


def _predictor_size(config: Mapping[str, Any]) -> ModernBertSize:
    bert, kept = config["bert"], 5  # the originals keep the last five layers
    return ModernBertSize(
        width=bert["hidden_size"],
        depth=kept,
        heads=bert["num_attention_heads"],
        mlp_width=bert["intermediate_size"],
        first=bert["num_hidden_layers"] - kept,
        every=bert["global_attn_every_n_layers"],
        reach=bert["local_attention"] // 2,
        global_base=bert["global_rope_theta"],
        local_base=bert["local_rope_theta"],
    )


def _student_size(config: Mapping[str, Any]) -> NextStudentSize:
    interval = config["clip_student_return_interval"]
    heads = FeatureHeads(config["clip_teacher_embed_dim"], config["clip_return_layer"], interval, head="mlp")
    return NextStudentSize(
        next_size(config),
        heads,
        PooledHead(config["clip_teacher_final_dim"], head="mlp"),
        _predictor_size(config),
        DiffusionSize(config["diffloss_w"], config["diffloss_d"]),
    )


def _latent_size(config: Mapping[str, Any]) -> LatentPredictorSize:
    return LatentPredictorSize(next_size(config), _predictor_size(config))


NEXT_ENCODER = Family(
    name="internvideo_next_encoder",
    rows=tuple(encoder_rows()),
    presets=NextSize.PRESETS,
    prefix="model.",
    frames=(16, 32, 8, 4),
    needs=_OWN,
    about="InternVideo-Next's released encoders (base, large), from their folders on the Hub",
)

NEXT_STUDENT = Family(
    name="internvideo_next_student",
    rows=(
        *_predictor_rows(),
        _table("clip_pos_embed", "clip_pos_embed"),
        *decoder("clip_decoder.{i}", "clip_decoder"),
        *decoder("final_clip_decoder", "final_clip_decoder"),
        *_diffusion_rows(),
    ),
    presets=NextStudentSize.PRESETS,
    container="module",
    frames=NEXT_ENCODER.frames,
    needs=_OWN,
    ignored=_UNREAD,
    parity=FixtureRun(_student_size, internvideo_next_layers.run_student),
    about="InternVideo-Next's stage 1 in training: encoder, heads, predictor, decoder of pixels",
)

NEXT_LATENT = replace(
    NEXT_STUDENT,
    name="internvideo_next_latent",
    rows=(*_predictor_rows(), *decoder("selfdist_decoder", "latent_decoder")),
    presets=LatentPredictorSize.PRESETS,
    ignored={
        **_UNREAD,
        "clip_pos_embed": "only stage 1 has heads for a teacher",
        **dict.fromkeys(
            ("selfdist_normproj_decoder.*", "selfdist_proj_clip.*"), "no loss of the originals reads it"
        ),
    },
    parity=FixtureRun(_latent_size, internvideo_next_layers.run_latent),
    about="InternVideo-Next's stage 2 in training: encoder, predictor and the head for the target's features",
)

FAMILIES = (NEXT_ENCODER, NEXT_STUDENT, NEXT_LATENT)
