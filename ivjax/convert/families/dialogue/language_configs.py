"""Sizes of language models out of the config.json beside their weights."""

from collections.abc import Callable, Mapping
from typing import Any

from ivjax.errors import UserError
from ivjax.models.decoder.sizes import LanguageSize, Rotary
from ivjax.ops.rotary import long_rope_magnitude

Config = Mapping[str, Any]


def decoder_size(config: Config) -> LanguageSize:
    """Returns the size of the language model that a config.json describes.

    Raises UserError for a model whose arithmetic is another one than that of LanguageSize.
    """
    kind = config.get("model_type")
    if kind not in _KINDS:
        raise UserError(
            f"its config.json says model_type={kind}; language models here are {', '.join(_KINDS)}"
        )
    if (activation := config.get("hidden_act", "silu")) != "silu":
        raise UserError(f"its config.json says hidden_act={activation}, and language models here have silu")
    width, heads = config["hidden_size"], config["num_attention_heads"]
    head = config.get("head_dim")
    common = {
        "width": width,
        "depth": config["num_hidden_layers"],
        "heads": heads,
        # LLaMA's first configs have no such entry: every head has keys of its own.
        "kv_heads": config.get("num_key_value_heads") or heads,
        "mlp_width": config["intermediate_size"],
        "vocabulary": config["vocab_size"],
        "rotary": _rotary(config),
        "head_width": None if head in (None, width // heads) else head,
        "epsilon": config.get("rms_norm_eps", 1e-6),
    }
    return LanguageSize(**(common | _KINDS[kind](config)))


def _llama(config: Config) -> dict[str, Any]:
    attention, mlp = config.get("attention_bias", False), config.get("mlp_bias", False)
    tied = config.get("tie_word_embeddings", False)
    return {"qkv_bias": attention, "proj_bias": attention, "mlp_bias": mlp, "tied": tied}


def _mistral(config: Config) -> dict[str, Any]:
    tied = config.get("tie_word_embeddings", False)
    return {"window": config.get("sliding_window"), "tied": tied}


def _qwen2(config: Config) -> dict[str, Any]:
    window = config.get("sliding_window") if config.get("use_sliding_window") else None
    # The layers below this number see everything.
    if window is not None and config.get("max_window_layers", 0) >= config["num_hidden_layers"]:
        window = None
    if window is not None and config.get("max_window_layers", 0) > 0:
        raise UserError(
            "its config.json gives a sliding window to some layers only; here all layers have it, or none"
        )
    return {"window": window, "qkv_bias": True, "tied": config.get("tie_word_embeddings", False)}


def _phi3(config: Config) -> dict[str, Any]:
    # A window as long as the longest text hides nothing, and would cost kernels that have none.
    window, limit = config.get("sliding_window"), config.get("max_position_embeddings", 4096)
    hides = window is not None and window < limit
    return {"window": window if hides else None, "tied": config.get("tie_word_embeddings", False)}


def _internlm2(config: Config) -> dict[str, Any]:
    # The class has biases unless its config says no, and never in the MLP.
    biased = config.get("bias", True)
    return {"qkv_bias": biased, "proj_bias": biased, "tied": config.get("tie_word_embeddings", False)}


_KINDS: dict[Any, Callable[[Config], dict[str, Any]]] = {
    "llama": _llama,
    "mistral": _mistral,
    "qwen2": _qwen2,
    "phi3": _phi3,
    "internlm2": _internlm2,
}


LANGUAGE_KINDS = tuple(_KINDS)  # what the config.json of a language model calls it


def _rotary(config: Config) -> Rotary:
    # New files say all of it in one place, older ones have the base beside the scaling.
    said = {**(config.get("rope_scaling") or {}), **(config.get("rope_parameters") or {})}
    base = float(said.get("rope_theta") or config.get("rope_theta") or 10000.0)
    kind = said.get("rope_type") or said.get("type") or "default"
    limit = config.get("max_position_embeddings", 4096)
    trained = said.get("original_max_position_embeddings") or config.get("original_max_position_embeddings")
    part = said.get("partial_rotary_factor") or config.get("partial_rotary_factor") or 1.0
    if part != 1.0:
        raise UserError(f"its config.json turns {part} of each head's channels; here all of them are turned")
    if kind == "default":
        return Rotary(base, trained=limit, limit=limit)
    if kind == "linear":
        return Rotary(base, "linear", float(said["factor"]), limit, limit)
    if kind == "dynamic":
        return Rotary(base, "dynamic", float(said["factor"]), limit, limit)
    if kind == "yarn":
        trained = trained or limit
        factor = float(said.get("factor") or limit / trained)
        magnitude = said.get("attention_factor")
        _refuse(said, "mscale", "mscale_all_dim", truncate=(None, True))
        ramp = float(said.get("beta_fast") or 32), float(said.get("beta_slow") or 1)
        return Rotary(base, "yarn", factor, trained, limit, magnitude=magnitude, ramp=ramp)
    if kind in ("longrope", "su"):
        tables = tuple(said["short_factor"]), tuple(said["long_factor"])
        magnitude = said.get("attention_factor")
        if magnitude is None and said.get("factor"):
            magnitude = long_rope_magnitude(int(said["factor"] * (trained or limit)), trained or limit)
        return Rotary(base, "long", 1.0, trained or limit, limit, *tables, magnitude=magnitude)
    raise UserError(
        f"its config.json scales positions by {kind}; here there are default, linear, dynamic, "
        "yarn and longrope"
    )


def _refuse(said: Config, *names: str, **allowed: tuple[Any, ...]) -> None:
    """Raises if a scaling has options that are not computed here."""
    for name in (*names, *allowed):
        if said.get(name) not in allowed.get(name, (None,)):
            raise UserError(
                f"its config.json says {name}={said[name]} of its positions, which is not known here"
            )
