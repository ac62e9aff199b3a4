"""The loss of stage 2: towers clip by clip, then what compares the rows of a batch."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from ivjax.experiment.computing import Compute
from ivjax.experiment.rules import Rule, prefixed, stated_in
from ivjax.models.cross_modal.towers import CrossModalTowers
from ivjax.models.sizes import Compared
from ivjax.models.teaching import ClipFeatures, clip_features, features_at, normalised
from ivjax.models.tower import VideoTower
from ivjax.ops.contrastive import contrastive_loss, scale_from_temperature, scale_gradient
from ivjax.ops.cut import Params
from ivjax.ops.losses import alignment_loss
from ivjax.ops.masked_words import draw_words, hidden_words_loss, mask_words
from ivjax.ops.negatives import Negatives, draw_negatives, grouped, take_rows
from ivjax.ops.randomness import Dropout, drop_path, sample_keys
from ivjax.ops.slices import in_chunks
from ivjax.ops.video import resize_frames
from ivjax.stages.cross_modal import CONTRASTS, MATCHES, WORDS, CrossModal, Term
from ivjax.stages.cross_modal_batch import media_of
from ivjax.stages.masking import draw_mask
from ivjax.stages.objective import Batch, Joint, Metrics, Objective, PerClip, joint_loss


def build(stage: CrossModal, compute: Compute) -> Objective:
    """Returns the stage's parameters, loss and batches."""
    training = training_of(stage, compute)
    undropped = dataclasses.replace(stage, drop_path=0.0, dropout=0.0)
    evaluated = dataclasses.replace(training, stage=undropped)
    joint = Joint(training.rows, training.loss)
    # This rule goes first, so that it decides; the model's own knows no bounds.
    bounded = Rule("temperature", bounds=(stage.contrast.least, stage.contrast.most))
    teacher = prefixed("clip_teacher", stage.clip_teacher.size.rules) if stage.clip_teacher else ()
    frozen = ("audio",) if stage.audio and not stage.train_audio else ()
    return Objective(
        init=training.init,
        loss=joint_loss(joint),
        eval_loss=joint_loss(Joint(evaluated.rows, evaluated.loss)),
        media=media_of(stage),
        rules=(*stated_in(__name__, [bounded]), *stage.size.rules, *teacher),
        frozen=(*frozen, *(("clip_teacher",) if stage.clip_teacher else ())),
        unfreeze="stage.train_audio=true" if stage.audio else "",
        joint=joint,
        grid=stage.vision.grid,
        vocabulary={name: stage.text.vocabulary for name in stage_fields(stage)},
    )


def stage_fields(stage: CrossModal) -> list[str]:
    """The fields of texts that the stage reads."""
    return list(dict.fromkeys((stage.caption_field, *stage.captions.values())))


def training_of(stage: CrossModal, compute: Compute) -> "CrossModalTraining":
    """Returns the stage with its models built."""
    taps = stage.clip.taps(stage.vision.depth) if stage.clip and stage.weights.uta else ()
    teacher = stage.clip_teacher.model(stage.clip, compute) if stage.clip_teacher else None
    return CrossModalTraining(stage, stage.model(compute), stage.vision.build(compute, taps), teacher)


@dataclass(frozen=True)
class CrossModalTraining:
    """The stage with its models.

    Attributes:
        stage: the stage's options.
        model: what is trained.
        vision: its video tower, with the taps that predict a teacher.
        teacher: the frozen teacher (None: there is none).
    """

    stage: CrossModal
    model: CrossModalTowers
    vision: VideoTower
    teacher: VideoTower | None

    def init(self, key: jax.Array) -> Params:
        """Fresh parameters of the model and the teacher."""
        teacher = {"clip_teacher": self.teacher.init(jax.random.fold_in(key, 3))} if self.teacher else {}
        return self.model.init(key) | teacher

    # What one clip gives by itself.

    def rows(self, params: Params, batch: Batch, key: jax.Array) -> PerClip:
        """Embeddings, tokens and states of each clip, sound and text."""
        found: PerClip = {}
        if "video" in batch:
            found |= self._seen(params, batch, key)
        if "audio" in batch:
            tokens = self.model.hear(params, batch["audio"])
            found["audio"] = self.model.head("audio", params, tokens)
            found["heard"] = self.model.head("heard", params, tokens)
        if self.model.size.fused and {"video", "audio"} <= found.keys():
            found["both"] = self.model.head("both", params, found["audio"], found["video"])
        media = media_in(batch)
        for name in {t.field for kind in (CONTRASTS, MATCHES) for t in self.stage.terms(kind, media)}:
            states = self._text.read(params["text"], batch[name], self._dropout(key, batch, f"read {name}"))
            found[f"states {name}"] = states
            found[f"text {name}"] = self._text.embed(params["text"], states)
        return found

    def _seen(self, params: Params, batch: Batch, key: jax.Array) -> PerClip:
        stage, video = self.stage, batch["video"]
        features = self._teaching(params, video)
        visible = self.visible(batch, key, features)
        patches = None if visible is None else visible[:, 1:] - 1
        keep = drop_path(sample_keys(key, batch["index"], "drop_path"), stage.drop_path, stage.vision.depth)
        encoded = self.vision.encode(params["vision"], video, patches, keep)
        found = {
            "video": self.model.head("video", params, encoded.pooled),
            "seen": self.model.head("seen", params, encoded.tokens),
        }
        if features is not None:
            every = jnp.broadcast_to(jnp.arange(encoded.tokens.shape[1]), encoded.tokens.shape[:2])
            places = every if visible is None else visible
            found["uta"] = self._alignment(params, encoded, places, video.shape[1], features)
        return found

    def _teaching(self, params: Params, video: jax.Array) -> ClipFeatures | None:
        """What the teacher says of all tokens; None without one."""
        teacher, options = self.teacher, self.stage.clip_teacher
        if teacher is None or options is None:
            return None
        if video.shape[2:4] != options.size.image:
            video = resize_frames(video, options.size.image)
        return clip_features(teacher, params["clip_teacher"], video)

    def _alignment(
        self, params: Params, encoded: Any, visible: jax.Array, frames: int, features: ClipFeatures
    ) -> jax.Array:
        """The distance (B,) of each clip's predictions from the teacher."""
        stage = self.stage
        predicted = self.model.predicted(params, encoded.taps, encoded.pooled, visible, frames)
        each = jax.vmap(alignment_loss)
        total = jnp.zeros(len(visible), jnp.float32)
        if stage.clip is not None:
            target = jax.lax.stop_gradient(features_at(features, visible, stage.clip.norm))
            total += each(predicted.clip.swapaxes(0, 1), target.swapaxes(0, 1))
        if stage.pooled is not None:
            target = jax.lax.stop_gradient(normalised(features.pooled, stage.pooled.norm))
            total += each(predicted.pooled, target)
        return total

    # What compares the rows of a batch.

    def loss(self, params: Params, rows: PerClip, batch: Batch, key: jax.Array) -> tuple[jax.Array, Metrics]:
        """The weighted sum of the terms, and the terms."""
        stage, media = self.stage, media_in(batch)
        scale = scale_from_temperature(params["temperature"], stage.contrast.least, stage.contrast.most)
        terms: dict[str, tuple[float, jax.Array]] = {}
        metrics: Metrics = {}
        for term in stage.terms(CONTRASTS, media):
            terms[term.name] = (
                term.weight,
                self._contrast(rows[term.medium], rows[f"text {term.field}"], batch, scale),
            )
        if stage.weights.avc and "both" in media:
            found = self._contrast(rows["audio"], rows["video"], batch, scale)
            terms["avc"] = stage.weights.avc, found
        for term in stage.terms(MATCHES, media):
            negatives = self.negatives(term, rows, batch, scale, key)
            found, right = self._match(term, params, rows, batch, negatives, key)
            terms[term.name], metrics[f"{term.name}_right"] = (term.weight, found), right
        for term in stage.terms(WORDS, media):
            found, right = self._words(term, params, rows, batch, key)
            terms[term.name], metrics[f"{term.name}_right"] = (term.weight, found), right
        if "uta" in rows and stage.weights.uta:
            terms["uta"] = stage.weights.uta, jnp.mean(rows["uta"])
        total = sum((weight * value for weight, value in terms.values()), jnp.float32(0))
        metrics |= {name: value for name, (_, value) in terms.items()}
        return total, metrics | {"temperature": 1.0 / scale}

    def _contrast(self, left: jax.Array, right: jax.Array, batch: Batch, scale: jax.Array) -> jax.Array:
        contrast = self.stage.contrast
        # The scale is put on the embeddings rather than on the loss, so that the temperature keeps its whole
        # gradient.
        left, right = (scale_gradient(x, contrast.gather_scale) for x in (left, right))
        return contrastive_loss(left, right, batch["sample"], scale, form=contrast.form)

    def _match(
        self, term: Term, params: Params, rows: PerClip, batch: Batch, negatives: Negatives, key: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Whether texts belong to what they look at: the loss, and the share of right answers."""
        text = {"states": rows[f"states {term.field}"], "ids": batch[term.field]}
        seen = self._tokens(term.medium, rows)
        group = self.stage.group
        work = {
            "text": text,
            "seen": seen,
            "other_text": take_rows(text, negatives.right, group),
            "other_seen": take_rows(seen, negatives.left, group),
            "keys": sample_keys(key, batch["index"], f"{term.name} dropout"),
        }

        def judged(work: Any) -> jax.Array:
            """The logits (n, 3, 2) of each text with its own, its own with another, another with its own."""
            joined = lambda *parts: jax.tree.map(lambda *x: jnp.concatenate(x), *parts)  # noqa: E731
            text = joined(work["text"], work["text"], work["other_text"])
            seen = joined(work["seen"], work["other_seen"], work["seen"])
            drop = self._drop(work["keys"], passes=3)
            fused = self._text.fuse(params["text"], text["states"], text["ids"], seen, drop)
            logits = self.model.head("match", params, fused[:, 0], term.medium)
            return logits.reshape(3, -1, 2).swapaxes(0, 1)

        logits = in_chunks(judged, work, self.stage.chunk)
        answers = jnp.array([1, 0, 0])
        losses = -jnp.take_along_axis(jax.nn.log_softmax(logits), answers[None, :, None], axis=-1)[..., 0]
        # A row without a negative has its own pair alone.
        counts = jnp.stack([jnp.ones_like(negatives.found), negatives.found, negatives.found], axis=1)
        right = (logits.argmax(-1) == answers) * counts
        return jnp.sum(losses * counts) / jnp.sum(counts), jnp.sum(right) / jnp.sum(counts)

    def _words(
        self, term: Term, params: Params, rows: PerClip, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Hidden words that are guessed beside a medium: the loss, and the share that is right."""
        shown, hidden = self.hidden_words(term, batch, key)
        work = {
            "ids": batch[term.field],
            "shown": shown,
            "hidden": hidden,
            "seen": self._tokens(term.medium, rows),
            "keys": sample_keys(key, batch["index"], f"{term.name} dropout"),
        }

        def guessed(work: Any) -> tuple[jax.Array, jax.Array]:
            drop = self._drop(work["keys"])
            # A word may be replaced by the id of padding, which is a word like others there.
            states = self._text.read(params["text"], work["shown"], drop, work["ids"])
            states = self._text.fuse(params["text"], states, work["ids"], work["seen"], drop)
            return hidden_words_loss(self._text.guess(params["text"], states), work["ids"], work["hidden"])

        losses, right = in_chunks(guessed, work, self.stage.chunk)
        count = jnp.sum(hidden, axis=-1, dtype=jnp.float32)
        losses, right, count = (grouped(x, self.stage.group).sum(-1) for x in (losses, right, count))
        # Over the words of a group, and then over groups: so do the originals, device by device.
        each = losses / jnp.maximum(count, 1.0)
        return jnp.mean(each), jnp.sum(right) / jnp.maximum(jnp.sum(count), 1.0)

    def _tokens(self, medium: Compared, rows: PerClip) -> jax.Array:
        """What texts look at (B, n, C); of both, the sound first."""
        if medium == "both":
            return jnp.concatenate([rows["heard"], rows["seen"]], axis=1)
        return rows["heard" if medium == "audio" else "seen"]

    # What is drawn.

    def visible(self, batch: Batch, key: jax.Array, features: ClipFeatures | None) -> jax.Array | None:
        """Draws the tokens that are seen (B, 1 + n), the class token first; None for all."""
        frames = batch["video"].shape[1]
        mask, (times, rows, columns) = self.stage.mask_of(frames), self.stage.vision.grid
        if mask is None:
            return None
        times = times * min(frames, self.stage.vision.frames) // self.stage.vision.frames or 1
        keys = sample_keys(key, batch["index"], "mask")
        attention = features.attention if features is not None and mask.kind == "attention" else None
        return draw_mask(mask, keys, times, rows * columns, attention)

    def negatives(
        self, term: Term, rows: PerClip, batch: Batch, scale: jax.Array, key: jax.Array
    ) -> Negatives:
        """Draws for each row a text that does not belong to its medium, and a medium to its text."""
        keys = sample_keys(key, batch["index"], f"{term.name} negatives")
        left, right, samples = rows[term.medium], rows[f"text {term.field}"], batch["sample"]
        stage = self.stage
        return draw_negatives(left, right, samples, scale, keys, stage.group, stage.easy_negatives)

    def hidden_words(self, term: Term, batch: Batch, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Draws the words to be guessed: the texts with them hidden (B, L), and which they are."""
        size, ids = self.stage.text, batch[term.field]
        keys = sample_keys(key, batch["index"], f"{term.name} words")
        draws = draw_words(keys, ids.shape[1], self.stage.word_mask, size.vocabulary)
        return mask_words(ids, draws, size.mask, (size.pad, size.start))

    def _dropout(self, key: jax.Array, batch: Batch, purpose: str) -> Dropout | None:
        if not self.stage.dropout:
            return None
        return self._drop(sample_keys(key, batch["index"], purpose))

    def _drop(self, keys: jax.Array, passes: int = 1) -> Dropout | None:
        """The dropout of texts that are read `passes` times in one batch, one after the other."""
        if not self.stage.dropout:
            return None
        again = [jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, number) for number in range(passes)]
        return Dropout(jnp.concatenate(again), self.stage.dropout)

    @property
    def _text(self) -> Any:
        return self.model.text


def media_in(batch: Mapping[str, Any]) -> set[Compared]:
    """What there is in a batch that texts can be compared with."""
    found: set[Compared] = {name for name in ("video", "audio") if name in batch}
    return found | {"both"} if len(found) == 2 else found
