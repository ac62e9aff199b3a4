"""Dialogue: a language model learns to answer questions about the videos in its text."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ivjax.errors import UserError
from ivjax.experiment import late
from ivjax.experiment.computing import Compute
from ivjax.models.decoder.visual_dropout import VisualDropout
from ivjax.models.dialogue import DialogueSize
from ivjax.models.sizes import VideoTowerSize

if TYPE_CHECKING:
    from ivjax.stages.objective import Objective

Weighting = Literal["token", "sample", "square_root"]


@dataclass(frozen=True)
class Bucket:
    """The shape of a batch: conversations are packed into rows of so many tokens, beside so many clips.

    Attributes:
        name: of the medium, in logs.
        tokens: of a row, visual tokens included.
        clips: of a row, each of the frames that the model reads at once.
        images: still images of a row.
    """

    name: str
    tokens: int
    clips: int = 0
    images: int = 0


@dataclass(frozen=True)
class VideoDialogue:
    """The stage: next tokens of the answers, given videos and what was said before.

    Attributes:
        dialogue: size of the model.
        buckets: the shapes of its batches, the main one first.
        weighting: what counts alike in the mean over a batch: each token of an answer, each conversation
            (`sample`), or each conversation by the square root of its answers' length.
        dropout: which visual tokens are dropped inside the language model (None: none).
        question: words of a question that the bridge reads, at most; 0 for a bridge that reads none.
    """

    dialogue: DialogueSize
    buckets: tuple[Bucket, ...]
    weighting: Weighting = "token"
    dropout: VisualDropout | None = None
    question: int = 0

    dialogue_field: ClassVar[str] = "dialogue"
    IMPLEMENTATION: ClassVar[str] = "ivjax.stages.video_dialogue_loss"

    @property
    def size(self) -> DialogueSize:
        """The size of the model that is trained."""
        return self.dialogue

    def build(self, compute: Compute) -> "Objective":
        """Returns the stage's parameters, loss and batches."""
        self.check()
        return late.call(self.IMPLEMENTATION, "build", self, compute)

    def model(self, compute: Compute) -> Any:
        """Returns the dialogue model."""
        return self.dialogue.build(compute)

    def encoders(self) -> Mapping[str, VideoTowerSize]:
        """Returns the vision tower, which can stand alone."""
        return self.dialogue.encoders()

    @property
    def clip_tokens(self) -> int:
        """Visual tokens of a clip."""
        return self.dialogue.visual_tokens(self.dialogue.least_frames)

    @property
    def visual_unit(self) -> int:
        """A conversation has a multiple of so many visual tokens."""
        images = any(bucket.images for bucket in self.buckets)
        return math.gcd(self.clip_tokens, self.dialogue.visual_tokens(1) if images else 0)

    def visual_tokens(self, bucket: Bucket) -> int:
        """Visual tokens of a row."""
        images = bucket.images * self.dialogue.visual_tokens(1) if bucket.images else 0
        return bucket.clips * self.clip_tokens + images

    def check(self) -> None:
        """Raises if the options do not fit each other."""
        self.dialogue.check("dialogue")
        if not self.buckets:
            raise UserError(
                "stage.buckets is empty; name at least one, such as Bucket('main', 1024, clips=4)"
            )
        if self.dialogue.bridge.clip_frames is None:
            raise UserError(
                "stage.dialogue.bridge.clip_frames=None merges a whole video at once, which a batch of "
                "several videos cannot; give a number of frames"
            )
        if self.dropout is not None:
            self.dropout.check(self.dialogue.language.depth, "stage.dropout")
        if self.question < 0 or (self.question and not getattr(self.dialogue.bridge, "reads_text", False)):
            raise UserError(
                f"stage.question={self.question}, and the bridge reads no questions; set it to 0, or "
                "bridge.reads_text=true where the bridge has it"
            )
        names = [bucket.name for bucket in self.buckets]
        for number, bucket in enumerate(self.buckets):
            self._check_bucket(f"stage.buckets.{number}", bucket)
            if names.count(bucket.name) > 1:
                raise UserError(f"stage.buckets: {bucket.name!r} is the name of several; give each its own")

    def _check_bucket(self, where: str, bucket: Bucket) -> None:
        if bucket.tokens < 2 or bucket.clips < 0 or bucket.images < 0:
            raise UserError(
                f"{where}={bucket} is no row of a text; give tokens of 2 or more, and no negative"
            )
        if bucket.images and not self.dialogue.vision.reads_images:
            raise UserError(
                f"{where}.images={bucket.images}, and the vision tower reads no images; set it to 0"
            )
        visual = self.visual_tokens(bucket)
        if visual >= bucket.tokens:
            raise UserError(
                f"{where} has {visual} visual tokens in rows of tokens={bucket.tokens}, which leaves no "
                "place for words; take more tokens or fewer clips"
            )
