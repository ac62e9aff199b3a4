"""Text to token ids, from vocabulary files that lie on this machine."""

from ivjax.data_pipelines.tokenizers.bert import BertWordPiece
from ivjax.data_pipelines.tokenizers.chat_tokenizer import ChatTokenizer
from ivjax.data_pipelines.tokenizers.clip_bpe import ClipBpe
from ivjax.data_pipelines.tokenizers.spm import SentencePiece
from ivjax.data_pipelines.tokenizers.tokenizer_json import TokenizerJson

# Exported, so that an override may name each of them where another one stands.
__all__ = ["BertWordPiece", "ChatTokenizer", "ClipBpe", "SentencePiece", "TokenizerJson"]
