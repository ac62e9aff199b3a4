"""The batches of stage 2, and what a row of each costs."""

import jax
import jax.numpy as jnp

from ivjax.models.costs import with_backward
from ivjax.models.sizes import Compared
from ivjax.stages.cross_modal import CONTRASTS, MATCHES, WORDS, CrossModal
from ivjax.stages.objective import Medium, ParameterGroup
from ivjax.stages.tower_modules import tower_modules, unpooled

_TEXT, _AUDIO = ParameterGroup(("text",)), ParameterGroup(("audio",))


def media_of(stage: CrossModal) -> dict[str, Medium]:
    """Kinds of batch: clips with sound if there is an audio tower, clips, images, sounds alone."""
    frames = stage.vision.frames
    found = {"video": _medium(stage, frames, sound=False)}
    if stage.vision.reads_images and frames > 1:
        found["image"] = _medium(stage, 1, sound=False)
    if stage.audio is None:
        return found
    # First, because what is heard is the point of such a run; a batch without a term is no kind of batch.
    heard = {"audio_video": _medium(stage, frames, sound=True)}
    alone = {"audio": _medium(stage, 0, sound=True)}
    has_sound = any(getattr(stage.weights, name) for name in ("atc", "atm", "amlm"))
    has_video = any(getattr(stage.weights, name) for name in ("vtc", "vtm", "mlm", "uta"))
    return heard | (found if has_video else {}) | (alone if has_sound else {})


def _medium(stage: CrossModal, frames: int, sound: bool) -> Medium:
    """Batches of clips of `frames` frames (0: none), with their sound or without."""
    struct = jax.ShapeDtypeStruct
    batch = {
        "index": struct((), jnp.uint32),
        # Positives are found by this number, not by the row: one clip may stand in a batch with several
        # captions.
        "sample": struct((), jnp.int32),
    }
    seen = 0
    cost: dict[str, float] = {}
    modules: dict[str, tuple[ParameterGroup, ...]] = {}
    if frames:
        batch["video"] = struct((frames, *stage.vision.image, 3), jnp.uint8)
        patches = frames * stage.vision.patches // stage.vision.frames
        mask, (_, rows, columns) = stage.mask_of(frames), stage.vision.grid
        visible = patches if mask is None else mask.visible(patches // (rows * columns), rows * columns)
        seen = stage.vision.class_tokens + visible
        tower = stage.vision.flops(visible)
        cost |= with_backward(tower)
        modules |= tower_modules(stage.vision, tower)
        if stage.weights.uta and stage.clip_teacher:
            cost["clip_teacher"] = stage.clip_teacher.flops(frames)
    if sound and stage.audio:
        batch["audio"] = struct((stage.audio.frames, stage.audio.bins), jnp.float32)
        heard = stage.audio.flops()
        cost |= with_backward(heard) if stage.train_audio else heard
        modules |= dict.fromkeys(heard, (_AUDIO,)) if stage.train_audio else {}
    media = _media(frames, sound)
    fields = {term.field for kind in (CONTRASTS, MATCHES, WORDS) for term in stage.terms(kind, media)}
    batch |= {name: struct((stage.text.context,), jnp.int32) for name in fields}
    texts = _text_flops(stage, media, seen)
    # Texts look at tokens, which the video tower's pooling comes after.
    seeing = (unpooled(stage.vision),) if frames else ()
    looking = (_TEXT, *seeing, *((_AUDIO,) if sound and stage.audio else ()))
    modules |= {"text": (_TEXT,), "fusion": looking, "words": looking}
    return Medium(batch, seen, cost | with_backward(texts), modules=modules)


def _media(frames: int, sound: bool) -> set[Compared]:
    found: set[Compared] = set()
    found |= {"video"} if frames else set()
    found |= {"audio"} if sound else set()
    return found | {"both"} if len(found) == 2 else found


def _text_flops(stage: CrossModal, media: set[Compared], seen: int) -> dict[str, float]:
    """Forward FLOPs of a row's texts: each field once, and what looks at a medium of `seen` tokens."""
    text = stage.text
    tokens = {"video": seen, "audio": stage.audio.tokens if stage.audio else 0}
    tokens["both"] = tokens["video"] + tokens["audio"]
    one = sum(text.flops().values())
    matches, words = (list(stage.terms(kind, media)) for kind in (MATCHES, WORDS))
    fields = {term.field for kind in (CONTRASTS, MATCHES) for term in stage.terms(kind, media)}
    # Each text is judged with its own, with another, and another with its own.
    fused = sum(3 * text.fusion_flops(tokens[term.medium]) for term in matches)
    fused += sum(text.fusion_flops(tokens[term.medium]) for term in words)
    return {
        "text": one * (len(fields) + len(words)),
        "fusion": fused,
        "words": text.words_flops() * len(words),
    }
