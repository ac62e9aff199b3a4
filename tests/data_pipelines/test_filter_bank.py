"""The filter bank against the original, step by step."""

import numpy as np
import pytest

from ivjax.data_pipelines.video.filter_bank import filter_bank, frame_count, log_energies, mel_weights, window
from tests.goldens import Golden


@pytest.mark.golden
def test_beats_tiny_filter_banks_are_the_originals():
    golden = Golden("beats_tiny")
    samples, frames = golden["inputs/waveform"], golden.config["pad_frames"]
    bins = golden.config["fbank"]["num_mel_bins"]
    np.testing.assert_allclose(window(), golden["outputs/povey_window"], atol=1e-6)
    np.testing.assert_allclose(mel_weights(bins), golden["outputs/mel_banks64"], atol=1e-5)
    raw = log_energies(samples, bins)
    assert raw.shape[1] == frame_count(samples.shape[1])
    np.testing.assert_allclose(raw, golden["outputs/fbank64_raw"], atol=2e-3)
    found = filter_bank(samples, bins, frames)
    np.testing.assert_allclose(found, golden["outputs/fbank64_norm_padded"], atol=1e-4)
    # The widest bank has a triangle without any frequency.
    np.testing.assert_allclose(filter_bank(samples, 128), golden["outputs/fbank128_norm"], atol=1e-4)


def test_a_sound_shorter_than_a_frame_is_all_padding():
    assert not filter_bank(np.ones(399, np.float32), 64, 10).any()
