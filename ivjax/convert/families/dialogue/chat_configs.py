"""Sizes of dialogue models out of the config.json beside their weights."""

from collections.abc import Mapping
from typing import Any

from ivjax.convert.families.dialogue.internvit import internvit_size
from ivjax.convert.families.dialogue.language_configs import decoder_size
from ivjax.errors import UserError
from ivjax.models.dialogue import DialogueSize, ProjectorSize
from ivjax.models.internvit import InternVitSize

Config = Mapping[str, Any]

# What InternVL's classes take where a config.json says nothing.
_VISION = {"norm_type": "rms_norm", "qkv_bias": False, "qk_normalization": True}
_CONTEXT = 92546  # <IMG_CONTEXT>, one of the nine words that InternVL adds to InternLM2
_FRAME_TOKENS, _CLIP_FRAMES = 16, 4  # constants of InternVideo2.5's code, which no config.json tells


def internvl_size(config: Config) -> DialogueSize:
    """Returns the size of the InternVL chat model that a config.json describes, with HiCo of 16 tokens."""
    vision = {**_VISION, **config["vision_config"]}
    _check_layer(config)
    # Its class is InternLM2's, whatever the config calls it.
    language = {**config["llm_config"], "model_type": config["llm_config"].get("model_type", "internlm2")}
    ratio, version = config.get("downsample_ratio", 0.5), config.get("ps_version", "v1")
    return shuffled_size(
        internvit_size(vision), language, ratio, version, _FRAME_TOKENS, _CLIP_FRAMES, _CONTEXT
    )


def shuffled_size(
    vision: InternVitSize,
    language: Config,
    ratio: float,
    version: Any,
    frame_tokens: int,
    clip_frames: int,
    visual_token: int,
) -> DialogueSize:
    """Returns the size of a model that shuffles pixels by `ratio`, merges clips, and has `mlp1`."""
    decoder = decoder_size(language)
    bridge = ProjectorSize(
        vision.width,
        decoder.width,
        frame_tokens,
        frame_tokens,
        clip_frames,
        heads=decoder.heads,
        shuffle=round(1 / ratio),
        shuffle_version=version,
        norm=True,
    )
    return DialogueSize(vision, bridge, decoder, visual_token)


def _check_layer(config: Config) -> None:
    if (layer := config.get("select_layer", -1)) != -1:
        raise UserError(f"its config.json says select_layer={layer}; here the last layer's states are read")


def fixture_size(config: Config) -> DialogueSize:
    """Returns the size of a fixture's model."""
    _check_layer(config)
    return shuffled_size(
        internvit_size(config["vision"]),
        {"model_type": "internlm2", **config["llm"]},
        config["downsample_ratio"],
        config["ps_version"],
        config["num_tome_tokens"] // config["local_num_frames"],
        config["local_num_frames"],
        config["img_context_id"],
    )
