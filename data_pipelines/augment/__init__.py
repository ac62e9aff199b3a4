"""Augmentation of frames: a crop that the decoder carries out, then changes of the pixels."""
