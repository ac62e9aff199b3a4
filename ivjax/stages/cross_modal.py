"""Stage 2: clips, sounds and texts meet in one space, are told apart in pairs, and help to guess words."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple

from ivjax.errors import UserError
from ivjax.experiment import late
from ivjax.experiment.computing import Compute
from ivjax.experiment.frozen_map import FrozenMap
from ivjax.experiment.ranges import Count, Rate, Share, Within
from ivjax.models.bert import FusionBertSize
from ivjax.models.cross_modal.sizes import CrossModalSize
from ivjax.models.internvideo2.sizes import FeatureHeads, PooledHead
from ivjax.models.sizes import AudioTowerSize, Compared, VideoTowerSize
from ivjax.stages.dual_encoder import Contrast
from ivjax.stages.mask import Mask
from ivjax.stages.teachers import ClipTeacher

if TYPE_CHECKING:
    from ivjax.stages.objective import Objective


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms; 0 leaves a term out, with what only it needs.

    Attributes:
        vtc: clips against texts.
        vtm: whether a text belongs to a clip.
        mlm: words guessed beside a clip.
        atc: sounds against texts.
        atm: whether a text belongs to a sound.
        amlm: words guessed beside a sound.
        avc: sounds against clips.
        avtc: clips with their sound against texts.
        avtm: whether a text belongs to a clip with its sound.
        avmlm: words guessed beside a clip with its sound.
        uta: a teacher's features, predicted at the tokens that are seen.
    """

    vtc: float = 1.0
    vtm: float = 1.0
    mlm: float = 1.0
    atc: float = 0.0
    atm: float = 0.0
    amlm: float = 0.0
    avc: float = 0.0
    avtc: float = 0.0
    avtm: float = 0.0
    avmlm: float = 0.0
    uta: float = 0.0


class Term(NamedTuple):
    """A term that compares a medium with texts.

    Attributes:
        name: as in LossWeights.
        medium: what the texts are compared with.
        weight: its weight.
        field: the field of the batch with the texts.
    """

    name: str
    medium: Compared
    weight: float
    field: str


CONTRASTS: dict[str, Compared] = {"vtc": "video", "atc": "audio", "avtc": "both"}
MATCHES: dict[str, Compared] = {"vtm": "video", "atm": "audio", "avtm": "both"}
WORDS: dict[str, Compared] = {"mlm": "video", "amlm": "audio", "avmlm": "both"}


@dataclass(frozen=True)
class CrossModal:
    """The stage.

    Attributes:
        vision: size of the video tower.
        text: size of the text tower with its fusion layers.
        audio: size of the audio tower (None: nothing is heard).
        joint_width: channels that tokens of clips and sounds are brought to before texts look at them
            (None: the video tower's own).
        weights: weights of the terms.
        contrast: how embeddings are compared, and the temperature that negatives are drawn with too.
        mask: which patches of clips are not seen in training (None: all are).
        image_mask: the same for images.
        drop_path: the rate of the video tower's last block.
        dropout: the share of numbers that the text tower drops.
        word_mask: the share of words that are to be guessed.
        group: rows that negatives are drawn among and guessed words are averaged over: those of one device
            in the originals (None: the whole batch).
        easy_negatives: the share of clips whose negatives are any others, where those of the rest look alike.
            None in the originals, which start from trained towers. In a training from nothing the contrast
            learns long before the fusion layers, and would leave them none that is easy enough to begin with.
        chunk: rows that are fused at a time, over all devices (None: all); memory grows with it alone.
        captions: name of a term -> the field that it reads its texts from, where that is another one.
        train_audio: whether the audio tower is trained; as in the originals it is frozen by default.
        clip: heads that predict a teacher's layers (None: none).
        pooled: head that predicts its pooled feature (None: none).
        clip_teacher: the teacher, for `weights.uta`.
    """

    vision: VideoTowerSize
    text: FusionBertSize
    audio: AudioTowerSize | None = None
    joint_width: Count | None = None
    weights: LossWeights = LossWeights()
    contrast: Contrast = Contrast(temperature=0.07, least=0.001, most=0.5)
    mask: Mask | None = Mask("random", 0.8, "clip")
    image_mask: Mask | None = Mask("random", 0.5, "clip")
    drop_path: Rate = 0.25
    dropout: Rate = 0.1
    word_mask: Annotated[float, Within(0, 1, above=True)] = 0.5
    group: Count | None = None
    easy_negatives: Share = 0.0
    chunk: Count | None = 512
    captions: Mapping[str, str] = field(default_factory=dict)
    train_audio: bool = False
    clip: FeatureHeads | None = None
    pooled: PooledHead | None = None
    clip_teacher: ClipTeacher | None = None

    caption_field: ClassVar[str] = "text"
    IMPLEMENTATION: ClassVar[str] = "ivjax.stages.cross_modal_loss"

    def __post_init__(self) -> None:
        object.__setattr__(self, "captions", FrozenMap(self.captions))

    @property
    def size(self) -> CrossModalSize:
        """The size of the model that is trained: it has the heads that its terms need."""
        weights = self.weights
        return CrossModalSize(
            self.vision,
            self.text,
            None,
            self.audio,
            self.joint_width,
            tuple(medium for name, medium in MATCHES.items() if getattr(weights, name)),
            bool(weights.avtc or weights.avtm),
            self.clip,
            self.pooled,
        )

    def build(self, compute: Compute) -> "Objective":
        """Returns the stage's parameters, loss and batches."""
        self.check()
        return late.call(self.IMPLEMENTATION, "build", self, compute)

    def model(self, compute: Compute) -> Any:
        """Returns the towers with their heads."""
        return self.size.build(compute, self.contrast.temperature)

    def encoders(self) -> Mapping[str, Any]:
        """Returns the video tower and a teacher, which can stand alone."""
        teacher = {"clip_teacher": self.clip_teacher.size} if self.clip_teacher else {}
        return {**self.size.encoders(), **teacher}

    def terms(self, kind: Mapping[str, Compared], media: set[Compared]) -> Iterator[Term]:
        """Yields the terms of a kind that have a weight, for batches with such media."""
        for name, medium in kind.items():
            weight = getattr(self.weights, name)
            if weight and medium in media:
                yield Term(name, medium, weight, self.captions.get(name, self.caption_field))

    def mask_of(self, frames: int) -> Mask | None:
        """Returns the mask of clips of so many frames; 1 is an image."""
        return self.image_mask if frames == 1 < self.vision.frames else self.mask

    def check(self) -> None:
        """Raises if the options do not fit each other."""
        self._check_terms()
        self.size.check()
        for mask in (self.mask, self.image_mask):
            if mask is not None:
                mask.check()
                if mask.kind == "attention" and not self.clip_teacher:
                    raise UserError(
                        "stage.mask.kind=attention is guided by a teacher; give stage.clip_teacher, or "
                        "take random"
                    )
        contrast = self.contrast
        if not 0.0 < contrast.least <= contrast.temperature <= contrast.most:
            raise UserError(
                f"stage.contrast.temperature={contrast.temperature} lies outside "
                f"[{contrast.least}, {contrast.most}], or these are not above 0"
            )
        if contrast.kind != "info_nce":
            raise UserError("stage.contrast.kind must be info_nce: negatives are drawn by its softmax")
        if self.group == 1:
            raise UserError("stage.group=1 leaves no row to draw a negative from; give 2 or more")

    def _check_terms(self) -> None:
        weights = {f.name: getattr(self.weights, f.name) for f in fields(self.weights)}
        if not any(weights.values()):
            raise UserError("stage.weights are all 0, so nothing is trained; give one of them a weight")
        heard = [name for name, weight in weights.items() if weight and name.startswith("a")]
        if heard and self.audio is None:
            raise UserError(
                f"stage.weights.{heard[0]}={weights[heard[0]]} needs sound; give stage.audio, or set it to 0"
            )
        if unknown := self.captions.keys() - {*CONTRASTS, *MATCHES, *WORDS}:
            raise UserError(f"stage.captions names {', '.join(sorted(unknown))}, which compares no texts")
        words = [name for name in WORDS if weights[name]]
        if words and not self.text.words:
            raise UserError(f"stage.weights.{words[0]} guesses words; set stage.text.words=true, or it to 0")
        if not weights["uta"]:
            return
        if self.clip_teacher is None or not (self.clip or self.pooled):
            raise UserError(
                "stage.weights.uta predicts a teacher; give stage.clip_teacher, and stage.clip or "
                "stage.pooled"
            )
        self.clip_teacher.check(self.vision, self.clip, self.pooled)
