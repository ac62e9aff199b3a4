"""Everything that a config describes its data with, under one name; none of it reads a clip.

from ivjax.data_pipelines import data_options as dp
"""

from ivjax.data_pipelines.augment.geometry import MultiScaleCrop, RandomResizedCrop, View, Whole
from ivjax.data_pipelines.augment.mix import Mix
from ivjax.data_pipelines.augment.pixels import ColourJitter, Erasing
from ivjax.data_pipelines.augment.randaugment import RandAugment
from ivjax.data_pipelines.augment.recipe import (
    FINETUNE,
    PROBE,
    TEST,
    TRAIN_STAGE1,
    TRAIN_STAGE2,
    VALIDATE,
    Augment,
)
from ivjax.data_pipelines.dialogue import InternVl, Plain, QwenChat, VideoChat2
from ivjax.data_pipelines.dialogue.seeing import Seeing
from ivjax.data_pipelines.dialogue.tiling import Tiling
from ivjax.data_pipelines.fields import Caption, Frames, Label, Sound, Tags, Turns
from ivjax.data_pipelines.fields.caption_mixer import CaptionMixer, CaptionPart
from ivjax.data_pipelines.load.mixture import Corpus, Dialogues, Media, Mixture
from ivjax.data_pipelines.load.synthetic import SyntheticClips
from ivjax.data_pipelines.sampling import (
    INTERNVIDEO25_TEST,
    INTERNVIDEO25_TRAIN,
    VIDEOCHAT_FLASH,
    ByDuration,
    Dense,
    Intervals,
    PerSecond,
    Segments,
    Spread,
    Stretched,
    Ticks,
    Within,
)
from ivjax.data_pipelines.store.shard_caching import ShardCaching
from ivjax.data_pipelines.tokenizers.bert import BertWordPiece
from ivjax.data_pipelines.tokenizers.chat_tokenizer import ChatTokenizer
from ivjax.data_pipelines.tokenizers.clip_bpe import ClipBpe
from ivjax.data_pipelines.tokenizers.spm import SentencePiece
from ivjax.data_pipelines.tokenizers.tokenizer_json import TokenizerJson

__all__ = [
    "INTERNVIDEO25_TEST",
    "INTERNVIDEO25_TRAIN",
    "VIDEOCHAT_FLASH",
    "VideoChat2",
    "Tiling",
    "QwenChat",
    "Plain",
    "InternVl",
    "Seeing",
    "Turns",
    "Dialogues",
    "ChatTokenizer",
    "FINETUNE",
    "PROBE",
    "TEST",
    "TRAIN_STAGE1",
    "TRAIN_STAGE2",
    "VALIDATE",
    "Augment",
    "ByDuration",
    "Caption",
    "CaptionMixer",
    "CaptionPart",
    "ClipBpe",
    "ColourJitter",
    "Corpus",
    "Dense",
    "Erasing",
    "Frames",
    "Intervals",
    "Label",
    "Media",
    "Mix",
    "Mixture",
    "MultiScaleCrop",
    "PerSecond",
    "RandAugment",
    "RandomResizedCrop",
    "Segments",
    "SentencePiece",
    "ShardCaching",
    "Sound",
    "Spread",
    "Stretched",
    "SyntheticClips",
    "Tags",
    "Ticks",
    "TokenizerJson",
    "View",
    "Whole",
    "Within",
    "BertWordPiece",
]
