"""InternVideo2-CLIP: the text towers beside InternVideo2 encoders, and the released pairs of them."""

from ivjax.models.iv2clip.sizes import LanguageTextSize, MobileTextSize

__all__ = ["LanguageTextSize", "MobileTextSize"]
