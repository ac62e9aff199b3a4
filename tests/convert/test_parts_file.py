"""InternVideo2-CLIP out of the three files that it was released in."""

import numpy as np
import pytest

from ivjax.convert.detection import recognise
from ivjax.convert.origins import open_weights
from ivjax.errors import UserError
from tests.convert.originals import write_originals
from tests.goldens import Golden


@pytest.mark.golden
def test_iv2clip_llama_tiny_is_put_together_from_three_files(tmp_path):
    whole = Golden("iv2clip_llama_tiny").group("params")
    trained = {n: t for n, t in whole.items() if n == "temp" or "clip_projector" in n}
    # Before it was trained, the pooling was another one.
    vision = {
        n: t + np.float32("clip_projector" in n) for n, t in whole.items() if n.startswith("vision_encoder.")
    }
    old_spelling = {
        n.removeprefix("text_encoder.").replace(".base_layer", ""): t
        for n, t in whole.items()
        if n.startswith("text_encoder.")
    }
    clip = write_originals(tmp_path / "clip.pth", trained)
    stage2 = write_originals(tmp_path / "stage2.pt", vision | {"vision_proj.bias": np.zeros(3, np.float32)})
    image = {"blocks.0.norm1.weight": np.zeros(3, np.float32), "cls_token": np.zeros((1, 1, 3), np.float32)}
    text = write_originals(tmp_path / "internvl.pth", old_spelling | image, "module")
    tensors = open_weights(f"{clip}?vision={stage2}?text={text}")
    file = recognise(tensors, "the three files")
    assert file.family.name == "internvideo2_clip" and set(tensors) == set(whole)
    for name, tensor in whole.items():
        np.testing.assert_array_equal(tensors[name], tensor, err_msg=name)
    with pytest.raises(UserError, match="stage2.pt holds nothing of the text tower of internvideo2_clip"):
        open_weights(f"{clip}?vision={text}?text={stage2}")
