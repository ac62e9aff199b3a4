"""`ivjax bench long`: what is printed for long videos with HiCo and without it, and what is refused."""

import json

import pytest

from ivjax.bench.long_videos import LONG, LongBench, bench_long
from ivjax.cli import main
from ivjax.errors import UserError
from ivjax.generate.decoding import Decoding
from ivjax.models.dialogue.presets import DIALOGUES


@pytest.mark.slow
def test_prints_both_forms_and_their_ratio():
    tiny = DIALOGUES["internvideo2_5_chat_8b_tiny"]
    wanted = LongBench((16, 8), tiny, clips=2, options=Decoding(new=3, chunk=64), unmerged_frames=8)
    *lines, few, many = [json.loads(line) for line in bench_long(wanted)]
    assert [(line["hico"], line["frames"]) for line in lines] == [
        ("on", 8),
        ("on", 16),
        ("off", 8),
        ("off", 16),
    ]
    on, _, off, left_out = lines
    # 4 x 4 patches, of which pixel shuffle makes 2 x 2, and HiCo leaves 2.
    assert (on["visual_tokens"], off["visual_tokens"], on["tokens_before_merging"]) == (16, 32, 32)
    for line in (on, off):
        assert line["see_s"] > 0 and line["prefill_s"] > 0 and line["peak_mib"] > 0
        assert line["new_tokens_per_s"] > 0
    assert "more than 8 frames (--unmerged-frames)" in left_out["not_run"] and "see_s" not in left_out
    assert few["prompt_tokens"] == round(on["prompt_tokens"] / off["prompt_tokens"], 4)
    # What was not run has the ratios of what follows from the sizes.
    assert set(many) == {"ratio", "frames", "prompt_tokens", "prefill_gflop"}


def test_the_model_of_the_benchmark_has_sixteen_tokens_a_frame():
    LONG.check("dialogue")
    assert LONG.visual_tokens(10_000) == 160_000 and LONG.unmerged_tokens(10_000) == 640_000


def test_what_cannot_be_measured_is_one_sentence(capsys):
    assert main(["bench", "long", "--config", "stage1_synthetic"]) == 2
    assert (
        "the config trains MaskedReconstruction, and this benchmark reads videos" in capsys.readouterr().err
    )
    assert main(["bench", "long", "--frames", "8", "10"]) == 2
    assert "--frames must be multiples of 4, the frames of a clip, got (8, 10)" in capsys.readouterr().err
    assert main(["bench", "long", "batch=3"]) == 2
    assert "name one with --config" in capsys.readouterr().err
    with pytest.raises(UserError, match="--clips must be above 0, got 0"):
        LongBench((8,), clips=0)
    with pytest.raises(UserError, match="the model's bridge merges nothing"):
        LongBench((8,), DIALOGUES["videochat2_vicuna_7b_tiny"])


def test_a_file_that_is_no_video_is_one_sentence(tmp_path):
    (tmp_path / "words.mp4").write_text("no video")
    size = DIALOGUES["internvideo2_5_chat_8b_tiny"]
    with pytest.raises(UserError, match="words.mp4: no media container"):
        list(bench_long(LongBench((4,), size, str(tmp_path / "words.mp4"), clips=1)))
