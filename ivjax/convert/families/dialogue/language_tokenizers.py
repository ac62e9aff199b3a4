"""Tokenizers of language and dialogue models: their special tokens, and where their files are published."""

from dataclasses import replace

from ivjax.data_pipelines.tokenizers.chat_tokenizer import ChatTokenizer
from ivjax.data_pipelines.tokenizers.tokenizer import Tokenizer
from ivjax.models.decoder.sizes import LanguageSize
from ivjax.models.dialogue import DialogueSize

# InternLM2's own; in its SentencePiece model these ids are pieces that are not used.
_TURNS = (("<|im_end|>", 92542), ("<|im_start|>", 92543))
_INTERNVL = (
    *_TURNS,
    ("<img>", 92544),
    ("</img>", 92545),
    ("<IMG_CONTEXT>", 92546),
    ("<quad>", 92547),
    ("</quad>", 92548),
    ("<ref>", 92549),
    ("</ref>", 92550),
    ("<box>", 92551),
    ("</box>", 92552),
)
_VICUNA = "lmsys/vicuna-7b-v1.5 on the Hub, whose tokenizer.model is that of LLaMA"


def llama_tokenizer(size: LanguageSize) -> ChatTokenizer:
    """Returns the tokenizer of LLaMA, Vicuna, Mistral or Qwen2, told apart by their words and biases."""
    if size.qkv_bias:
        return _tokenizer(f"Qwen/Qwen2.5-{'1.5' if size.width < 3584 else '7'}B-Instruct on the Hub")
    if size.vocabulary > 32_100:
        return _tokenizer("mistralai/Mistral-7B-Instruct-v0.3 on the Hub")
    mistral = "mistralai/Mistral-7B-Instruct-v0.2 on the Hub"
    return _tokenizer(_VICUNA if size.kv_heads == size.heads else mistral)


def phi3_tokenizer(size: LanguageSize) -> ChatTokenizer:
    """Returns the tokenizer of Phi-3-mini."""
    # VideoChat2 ends its answers with LLaMA's end token, which Phi-3's own chat does not use.
    ends = (*ChatTokenizer.ends, "</s>")
    return _tokenizer("microsoft/Phi-3-mini-128k-instruct on the Hub", ends=ends)


def internlm2_tokenizer(size: LanguageSize) -> ChatTokenizer:
    """Returns the tokenizer of InternLM2 and 2.5, or of InternVL's, which has nine words more."""
    added = _known(size, _INTERNVL) or _known(size, _TURNS)
    return _tokenizer("internlm/internlm2_5-7b-chat on the Hub", added, ("<|im_end|>", "<|im_start|>"))


def internvl_tokenizer(size: DialogueSize) -> ChatTokenizer:
    """Returns the tokenizer of InternVideo2.5-Chat, whose visual tokens stand at `<IMG_CONTEXT>`."""
    merged = getattr(size.bridge, "frame_tokens", None)
    name = "InternVL_2_5_HiCo_R64" if merged == 64 else "InternVideo2_5_Chat_8B"
    added = dict(_known(size.language, _INTERNVL)) | {"<IMG_CONTEXT>": size.visual_token}
    ends = ("<|im_end|>", "<|im_start|>")
    return inner_tokenizer(_tokenizer("", tuple(added.items()), ends), size, name)


def inner_tokenizer(
    language: Tokenizer | None, size: DialogueSize, repository: str | None = None
) -> ChatTokenizer:
    """Returns the tokenizer of the language model inside a dialogue model.

    repository: of OpenGVLab's on the Hub, whose files hold both models (None: the language model's own).
    """
    assert isinstance(language, ChatTokenizer)
    published = f"OpenGVLab/{repository} on the Hub" if repository else language.published
    return replace(language, visual=size.visual_token, published=published)


def _tokenizer(
    published: str,
    added: tuple[tuple[str, int], ...] = (),
    ends: tuple[str, ...] = ChatTokenizer.ends,
) -> ChatTokenizer:
    return ChatTokenizer(added=added, ends=ends, published=published)


def _known(size: LanguageSize, tokens: tuple[tuple[str, int], ...]) -> tuple[tuple[str, int], ...]:
    """The tokens, if the model has an embedding for each of them."""
    return tokens if max(number for _, number in tokens) < size.vocabulary else ()
