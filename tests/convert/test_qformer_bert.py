"""BERT as the start of a Q-Former: what its first training reads of a file of the Hub, and what it draws."""

import dataclasses
import json

import numpy as np
import pytest

from ivjax.convert.detection import recognise
from ivjax.convert.formats.opening import open_tensors
from ivjax.convert.formats.tensors import LazyTensor
from ivjax.convert.formats.writing import write_safetensors
from ivjax.convert.origins import read_weights
from ivjax.convert.starting import shapes_of
from ivjax.errors import UserError
from ivjax.experiment.computing import Compute
from ivjax.models.qformer.pretraining_size import QueryPretrainSize
from ivjax.stages.query_pretraining import QueryPretraining
from tests.train.micro import experiment as micro
from tests.train.test_query_pretraining import BRIDGE, UMT

WORDS, HIDDEN, DEPTH = BRIDGE.vocabulary - 1, BRIDGE.hidden, BRIDGE.depth
WIDE, PLACES = BRIDGE.mlp_width, BRIDGE.places
STAGE = QueryPretraining(QueryPretrainSize(UMT, BRIDGE, embed=6), words=6, start=WORDS)
FRESH = (
    "bridge/cross",
    "bridge/query_tokens",
    "bridge/input_norm",
    "heads",
    "time_embed",
    "temperature",
    "vision",
)


def bert_file(old_names: bool) -> dict[str, np.ndarray]:
    """A small BERT as new files of the Hub name it, or the oldest, whose norms have gamma and beta."""
    scale, shift = ("gamma", "beta") if old_names else ("weight", "bias")
    shapes = {
        "embeddings.word_embeddings.weight": (WORDS, HIDDEN),
        "embeddings.position_embeddings.weight": (PLACES, HIDDEN),
        "embeddings.token_type_embeddings.weight": (2, HIDDEN),
        f"embeddings.LayerNorm.{scale}": (HIDDEN,),
        f"embeddings.LayerNorm.{shift}": (HIDDEN,),
        "pooler.dense.weight": (HIDDEN, HIDDEN),
        "pooler.dense.bias": (HIDDEN,),
    }
    for layer in range(DEPTH):
        here = f"encoder.layer.{layer}"
        for name, out, into in (
            *((f"attention.self.{part}", HIDDEN, HIDDEN) for part in ("query", "key", "value")),
            ("attention.output.dense", HIDDEN, HIDDEN),
            ("intermediate.dense", WIDE, HIDDEN),
            ("output.dense", HIDDEN, WIDE),
        ):
            shapes |= {f"{here}.{name}.weight": (out, into), f"{here}.{name}.bias": (out,)}
        for name in ("attention.output", "output"):
            shapes |= {f"{here}.{name}.LayerNorm.{kind}": (HIDDEN,) for kind in (scale, shift)}
    rng = np.random.default_rng(0)
    tensors = {f"bert.{name}": rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    return tensors | {"cls.predictions.bias": np.zeros(WORDS, np.float32)}


def written(folder, tensors, config=None):
    """A folder as one of the Hub."""
    folder.mkdir(exist_ok=True)
    lazies = [LazyTensor(name, x.shape, x.dtype, lambda x=x: [x]) for name, x in tensors.items()]
    write_safetensors(folder / "model.safetensors", lazies, {})
    told = {"model_type": "bert", "hidden_size": HIDDEN, "num_attention_heads": BRIDGE.heads}
    (folder / "config.json").write_text(json.dumps(told | (config or {})))
    return folder


def started(folder, **changes):
    """What a run of the first training reads."""
    later = dataclasses.replace(
        micro, **{"stage": STAGE, "init_from": (f"bridge={folder}",), "init_fresh": FRESH, **changes}
    )
    objective = later.stage.build(Compute("float32"))
    return read_weights(objective, later, shapes_of(objective, "float32").trained)


@pytest.mark.parametrize("old_names", [False, True])
def test_layers_words_and_norms_come_from_bert_and_queries_have_a_copy_of_its_mlp(tmp_path, old_names):
    tensors = bert_file(old_names)
    found = started(written(tmp_path / "bert", tensors))
    scale = "gamma" if old_names else "weight"
    for layer in range(DEPTH):
        here = f"bert.encoder.layer.{layer}"
        for ours in ("", "_query"):
            mlp = f"bridge/blocks/mlp{ours}"
            first, bias = found[f"{mlp}/fc1/kernel"], found[f"{mlp}/fc2/bias"]
            np.testing.assert_array_equal(first[layer], tensors[f"{here}.intermediate.dense.weight"].T)
            np.testing.assert_array_equal(bias[layer], tensors[f"{here}.output.dense.bias"])
            norm = found[f"bridge/blocks/norm2{ours}/scale"]
            np.testing.assert_array_equal(norm[layer], tensors[f"{here}.output.LayerNorm.{scale}"])
        keys = found["bridge/blocks/attn/qkv/kernel"][layer, 1]
        np.testing.assert_array_equal(keys, tensors[f"{here}.attention.self.key.weight"].T)
    words = found["bridge/word_embed"]
    np.testing.assert_array_equal(words[:-1], tensors["bert.embeddings.word_embeddings.weight"])
    assert 0 < np.abs(words[-1]).max() < 0.1  # [DEC], drawn
    assert not any(path.startswith(("bridge/cross", "bridge/query_tokens", "heads")) for path in found)


def test_what_bert_does_not_have_must_be_named_as_fresh(tmp_path):
    folder = written(tmp_path / "bert", bert_file(False))
    with pytest.raises(UserError, match="nothing for bridge/cross/k/bias"):
        started(folder, init_fresh=tuple(name for name in FRESH if name != "bridge/cross"))


def test_another_vocabulary_another_depth_and_another_arithmetic_are_refused(tmp_path):
    tensors = bert_file(False)
    fewer = tensors | {"bert.embeddings.word_embeddings.weight": np.zeros((WORDS - 3, HIDDEN), np.float32)}
    with pytest.raises(UserError, match="word_embeddings.weight"):
        started(written(tmp_path / "fewer", fewer))
    short = {name: x for name, x in tensors.items() if "layer.1." not in name}
    with pytest.raises(UserError, match="of which the file has other layers"):
        started(written(tmp_path / "short", short))
    with pytest.raises(UserError, match="hidden_act=relu"):
        started(written(tmp_path / "relu", tensors, {"hidden_act": "relu"}))


def test_the_same_file_is_a_text_tower_where_nobody_asks_for_a_q_former(tmp_path):
    file = written(tmp_path / "bert", bert_file(False))
    assert recognise(open_tensors(file), str(file)).family.name == "bert"
