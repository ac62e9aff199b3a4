"""Stage 2's files: towers of clips, texts and sounds with what joins them, and the text tower alone."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, Literal

from ivjax.convert.engine.family import BUFFERS, Family, FixtureRun
from ivjax.convert.engine.fits import places, times_and_places
from ivjax.convert.engine.rows import Row
from ivjax.convert.families.beats import TIES, beats_rows, beats_size
from ivjax.convert.families.bert import bert_norm
from ivjax.convert.families.internvideo2 import decoder, encoder_size, trunk
from ivjax.convert.families.layers import apart, linear, norm
from ivjax.convert.families.layerwise import stage2_layers
from ivjax.data_pipelines.tokenizers.bert import BertWordPiece
from ivjax.models.bert import FusionBertSize
from ivjax.models.cross_modal import CrossModalSize
from ivjax.models.internvideo2 import AlignedSize, FeatureHeads, PooledHead
from ivjax.models.sizes import Compared

_UNCASED = 30522  # words of the vocabulary that the tokenizer here reads


def fusion_rows(source: str, target: str) -> list[Row]:
    """Rows of BERT with fusion layers, with what goes before the names and the paths.

    Files that were fine-tuned for retrieval lack `bert.` in their names, and the head of words.
    """
    return [
        *_bert(f"{source}bert.", target),
        *linear(f"{source}cls.predictions.transform.dense", f"{target}words/fc"),
        *bert_norm(f"{source}cls.predictions.transform.LayerNorm", f"{target}words/norm"),
        Row(f"{source}cls.predictions.bias", f"{target}words/bias"),
        *_bert(source, target),
    ]


def _bert(source: str, target: str) -> list[Row]:
    layer, block, parts = f"{source}encoder.layer.{{i}}", f"{target}blocks", ("query", "key", "value")
    crossed, cross = f"{layer}.crossattention", f"{target}cross"
    rows = [
        Row(f"{source}embeddings.word_embeddings.weight", f"{target}word_embed"),
        Row(f"{source}embeddings.position_embeddings.weight", f"{target}place_embed"),
        Row(f"{source}embeddings.token_type_embeddings.weight", f"{target}type_embed"),
        *bert_norm(f"{source}embeddings.LayerNorm", f"{target}norm_embed"),
        *apart(f"{layer}.attention.self.{{part}}", f"{block}/attn/qkv", parts),
        *linear(f"{layer}.attention.output.dense", f"{block}/attn/proj"),
        *bert_norm(f"{layer}.attention.output.LayerNorm", f"{block}/norm1"),
        *linear(f"{layer}.intermediate.dense", f"{block}/mlp/fc1"),
        *linear(f"{layer}.output.dense", f"{block}/mlp/fc2"),
        *bert_norm(f"{layer}.output.LayerNorm", f"{block}/norm2"),
    ]
    last = [row for part in parts for row in linear(f"{crossed}.self.{part}", f"{cross}/{part[0]}")]
    last += linear(f"{crossed}.output.dense", f"{cross}/proj")
    last += norm(f"{crossed}.output.LayerNorm", f"{cross}/norm")
    return rows + [replace(row, last_of=f"{block}/norm1/scale") for row in last]


def aligned_rows(source: str, target: str) -> list[Row]:
    """Rows of an InternVideo2 encoder that stands beside texts."""
    rows = [replace(row, source=f"{source}{row.source}") for row in trunk(target)]
    table = Row(f"{source}img_pos_embed", f"{target}img_pos_embed/table", fit=places(kept=1))
    return [*rows, table]


def stage2_rows() -> list[Row]:
    """Rows of the whole model; parts that a release lacks match nothing."""
    vision = "vision_encoder."
    return [
        Row("temp", "temperature"),
        *aligned_rows(vision, "vision/"),
        Row(f"{vision}clip_pos_embed", "clip_pos_embed/table", fit=times_and_places(kept=1)),
        Row(f"{vision}clip_img_pos_embed", "clip_img_pos_embed/table", fit=places(kept=1)),
        *decoder(f"{vision}clip_decoder.{{i}}", "clip_decoder"),
        *decoder(f"{vision}final_clip_decoder", "final_clip_decoder"),
        *fusion_rows("text_encoder.", "text/"),
        *linear("vision_proj", "vision_proj"),
        *linear("text_proj", "text/proj"),
        *linear("itm_head", "video_match"),
        *beats_rows("audio_encoder.", "audio/"),
        *linear("audio_proj", "audio_proj"),
        *linear("av_concat_vision_proj.0", "see/fc"),
        *norm("av_concat_vision_proj.1", "see/norm"),
        *linear("av_concat_audio_proj.0", "hear/fc"),
        *norm("av_concat_audio_proj.1", "hear/norm"),
        *linear("av_fusion", "both_proj"),
        *linear("atm_head", "audio_match"),
        *linear("avtm_head", "both_match"),
    ]


def aligned_size(config: Mapping[str, Any], vision: Mapping[str, Any], align: int | None) -> AlignedSize:
    """Size of a fixture's encoder, whose options partly stand beside those of the `vision` tower."""
    told = {
        "img_size": vision.get("img", config.get("img")),
        "patch_size": vision.get("patch", config.get("patch")),
        "num_frames": vision.get("num_frames", config.get("num_frames")),
        "tubelet_size": vision.get("tubelet", config.get("tubelet", 1)),
    }
    size = encoder_size({**vision, **told})
    images: Literal["table", "mean"] = "table" if vision.get("sep_image_video_pos_embed") else "mean"
    return AlignedSize(**asdict(size), images=images, align=align)


def _size_of(config: Mapping[str, Any]) -> CrossModalSize:
    """Sizes of a fixture."""
    vision, bert, marks = config["vis"], config["bert"], config["tokenizer"]
    encoder = aligned_size(config, vision, None)
    joint, out = config.get("av_concat_dim"), config.get("contra_dim", config.get("embed_dim"))
    weights = config["loss_weight"]
    names: dict[Compared, str] = {"video": "vtm", "audio": "atm", "both": "avtm"}
    return CrossModalSize(
        encoder,
        FusionBertSize(
            width=bert["hidden_size"],
            depth=bert["num_hidden_layers"],
            heads=bert["num_attention_heads"],
            mlp_width=bert["intermediate_size"],
            out=out,
            context=config["L"],
            vocabulary=bert["vocab_size"],
            places=bert["max_position_embeddings"],
            pad=marks["pad"],
            fusion=bert["num_hidden_layers"] - bert["fusion_layer"],
            seen=joint or encoder.width,
            start=marks["cls"],
            mask=marks["mask"],
        ),
        audio=beats_size({**config["beats"], "fbank": config["fbank"]}) if "beats" in config else None,
        joint_width=joint,
        matches=tuple(m for m, loss in names.items() if m == "video" or weights.get(loss)),
        fused=bool(weights.get("avtc") or weights.get("avtm")),
        clip=FeatureHeads(
            vision["clip_teacher_embed_dim"],
            vision["clip_return_layer"],
            vision["clip_student_return_interval"],
            norm=vision["clip_norm_type"],
        ),
        pooled=PooledHead(vision["clip_teacher_final_dim"], norm=vision["clip_norm_type"])
        if vision["clip_teacher_final_dim"]
        else None,
    )


_COPIES = {
    "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}

STAGE2 = Family(
    name="internvideo2_stage2",
    rows=tuple(stage2_rows()),
    presets=CrossModalSize.PRESETS,
    tokenizer=lambda size: (
        BertWordPiece(length=size.text.context) if size.text.vocabulary == _UNCASED else None
    ),
    container="module",
    frames=(4, 8, 16),
    ignored={**BUFFERS, "text_encoder.*pooler.*": "texts are read at their first token, without the pooler"},
    ties={
        **{f"text_encoder.{copy}": f"text_encoder.{owner}" for copy, owner in _COPIES.items()},
        **{f"audio_encoder.{copy}": f"audio_encoder.{owner}" for copy, owner in TIES.items()},
    },
    parity=FixtureRun(_size_of, stage2_layers.run),
    about="stage 2: clips, texts and maybe sounds, with fusion layers",
)

FUSION_BERT = Family(
    name="bert_fusion",
    rows=tuple(fusion_rows("", "")),
    presets=FusionBertSize.PRESETS,
    tokenizer=lambda size: BertWordPiece(length=size.context) if size.vocabulary == _UNCASED else None,
    ignored={
        **BUFFERS,
        "*pooler.*": "texts are read at their first token, without the pooler",
        "cls.seq_relationship.*": "only BERT's own training used it",
        # Named though rows read it, so that plain BERT is preferred for a file that both know.
        "cls.predictions.*": "only masked words need it",
    },
    ties=_COPIES,
    # Stage 2's projection beside BERT.
    added=("proj/kernel", "proj/bias"),
    about="BERT as stage 2's text tower; one from the Hub lacks the cross-attention, which is then fresh",
)

FAMILIES = (STAGE2, FUSION_BERT)
