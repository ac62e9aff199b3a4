"""Folders of tiny language models as the Hub has them: weights, config.json and tokenizer."""

import json
import shutil
from dataclasses import replace

from ivjax.convert.engine.family import Family
from ivjax.models.decoder.sizes import LanguageSize
from tests.convert.originals import originals, write_originals
from tests.goldens import FOLDER

LLAMA_MODEL, INTERNLM_MODEL = FOLDER / "s3_spm_llama.model", FOLDER / "s3_spm_internlm.model"


def words_of(model) -> int:
    """Pieces of a SentencePiece model."""
    from sentencepiece import SentencePieceProcessor

    return SentencePieceProcessor(model_file=str(model)).get_piece_size()


def config_of(size: LanguageSize, kind: str) -> dict:
    """A config.json that describes a size."""
    return {
        "model_type": kind,
        "hidden_size": size.width,
        "num_hidden_layers": size.depth,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.kv_heads,
        "intermediate_size": size.mlp_width,
        "vocab_size": size.vocabulary,
        "rms_norm_eps": size.epsilon,
        "bias": False,
    }


def write_language_model(folder, family: Family, kind: str, size: LanguageSize, model=None):
    """Writes weights and config.json, and beside them a tokenizer.model, if one is given."""
    folder.mkdir(parents=True, exist_ok=True)
    write_originals(folder / "model.safetensors", originals(family, size))
    (folder / "config.json").write_text(json.dumps(config_of(size, kind)))
    if model is not None:
        shutil.copy(model, folder / "tokenizer.model")
    return folder


def tiny_with(words: int, **changes) -> LanguageSize:
    """A tiny size with so many words."""
    return replace(
        LanguageSize.PRESETS["tiny"],
        width=32,
        depth=1,
        mlp_width=48,
        vocabulary=words,
        epsilon=1e-5,
        **changes,
    )
