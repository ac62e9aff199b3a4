"""Files of VideoChat2's first stage: the names of the original, there and back."""

import numpy as np

from ivjax.convert.families.query_pretraining import QUERY_PRETRAINING
from ivjax.experiment.computing import Compute
from ivjax.ops.trees import paths_of
from tests.convert.tables import export_tensors, import_tensors
from tests.models.params import any_params


def test_files_of_the_first_stage_have_the_originals_names_and_come_back():
    size = QUERY_PRETRAINING.presets["umt_tiny"]
    params = any_params(size.build(Compute("float32")))
    tensors = export_tensors(QUERY_PRETRAINING.rows, params)
    hidden, embed = size.bridge.hidden, size.embed
    shapes = {
        "temp": (),
        "vision_temp_embed": (1, 4, 1, 32),
        "vision_proj.weight": (embed, hidden),
        "text_proj.bias": (embed,),
        "itm_head.weight": (2, 2 * hidden),
        "query_tokens": (1, 2, hidden),
        "qformer.bert.embeddings.word_embeddings.weight": (size.bridge.vocabulary, hidden),
        "qformer.cls.predictions.bias": (size.bridge.vocabulary,),
        "qformer.cls.predictions.transform.dense.weight": (hidden, hidden),
    }
    assert {name: tensors[name].shape for name in shapes} == shapes
    assert "extra_query_tokens" not in tensors and not any(name.startswith("none") for name in tensors)
    back = dict(paths_of(import_tensors(QUERY_PRETRAINING.rows, tensors)))
    assert back.keys() == dict(paths_of(params)).keys()
    for path, leaf in paths_of(params):
        np.testing.assert_array_equal(back[path], leaf)
