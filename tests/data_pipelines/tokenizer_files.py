"""Small tokenizer.json files as Qwen2 and LLaMA come with, trained on English."""

import pytest

from tests.data_pipelines.fuzzed_texts import ENGLISH

package = pytest.importorskip("tokenizers", reason="tokenizers is not installed")

# Qwen2's own rule for words.
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
    r"\s+(?!\S)|\s+"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
PIECES = 1000


def write_qwen(path):
    """Writes a file of 1,000 pieces and three special tokens, with settings of someone who padded and cut."""
    split = package.pre_tokenizers
    found = package.Tokenizer(package.models.BPE())
    found.normalizer = package.normalizers.NFC()
    letters = split.ByteLevel(add_prefix_space=False, use_regex=False)
    found.pre_tokenizer = split.Sequence([split.Split(package.Regex(WORDS), "isolated"), letters])
    found.decoder = package.decoders.ByteLevel()
    trainer = package.trainers.BpeTrainer(
        vocab_size=PIECES, show_progress=False, initial_alphabet=split.ByteLevel.alphabet()
    )
    found.train_from_iterator(ENGLISH.split("\n")[:3000], trainer)
    found.add_special_tokens(SPECIAL)
    found.enable_padding(length=99)
    found.enable_truncation(3)
    found.save(str(path))
    return path


def write_llama(path):
    """Writes a file as LLaMA's and Mistral's are: blanks are letters, rare characters are bytes."""
    steps, decoders = package.normalizers, package.decoders
    found = package.Tokenizer(package.models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    found.normalizer = steps.Sequence([steps.Prepend("▁"), steps.Replace(" ", "▁")])
    found.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    special = ["<unk>", "<s>", "</s>"]
    trainer = package.trainers.BpeTrainer(
        vocab_size=PIECES,
        show_progress=False,
        special_tokens=[*special, *(f"<0x{byte:02X}>" for byte in range(256))],
    )
    # Without blanks at ends of words, pieces would span whole lines.
    found.pre_tokenizer = package.pre_tokenizers.Split("▁", "merged_with_next")
    found.train_from_iterator(ENGLISH.split("\n")[:3000], trainer)
    found.pre_tokenizer = None
    template = package.processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    found.post_processor = template
    found.save(str(path))
    return path
