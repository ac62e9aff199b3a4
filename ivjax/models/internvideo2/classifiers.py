"""Sizes of the classifiers that were fine-tuned from InternVideo2 encoders, and of probes of them."""

from dataclasses import replace

from ivjax.models.classifier_size import ClassifierSize
from ivjax.models.internvideo2.sizes import EncoderSize

_KINETICS = {"k710": 710, "k400": 400, "k600": 600, "k700": 700}


def _released() -> dict[str, ClassifierSize]:
    """Everything that was released or has a script, as SIZE_DATA_fFRAMES."""
    found = {}
    for name, encoder in EncoderSize.PRESETS.items():
        # The small sizes have scripts for 8 frames, Kinetics and Something-Something alone.
        large = name in ("1B", "6B")
        for data, classes in (_KINETICS | ({"mit": 339} if large else {}) | {"ssv2": 174}).items():
            for frames in (8, 16) if large else (8,):
                size = ClassifierSize(replace(encoder, frames=frames), classes)
                found[f"{name}_{data}_f{frames}"] = size
        if large:
            ssv2 = found[f"{name}_ssv2_f16"]
            found[f"{name}_ssv2_attentive_f16"] = replace(ssv2, extra_mlp=True)
            found[f"{name}_ssv2_linear_f16"] = replace(ssv2, merge="cls_avgN_proj")
    return found


CLASSIFIERS = _released()
