"""VideoMAE's encoder, the autoencoder that pretrains it, and their sizes."""

from ivjax.models.videomae.sizes import AutoencoderSize, DecoderSize, VideoMaeSize

__all__ = ["AutoencoderSize", "DecoderSize", "VideoMaeSize"]
