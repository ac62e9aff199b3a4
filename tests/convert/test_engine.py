"""The table of rows is applied as it stands, and the import undoes the export."""

import jax
import numpy as np
import pytest

from ivjax.convert.engine.rows import Row
from ivjax.convert.families.internvideo2 import pretrain_rows
from ivjax.errors import UserError
from ivjax.experiment.computing import Compute
from ivjax.models.internvideo2 import EncoderSize, FeatureHeads, PooledHead, StudentSize
from ivjax.ops.trees import paths_of
from tests.convert.tables import export_tensors, import_tensors

ROWS = [Row("layer.{i}.weight", "layers/kernel"), Row("head.weight", "head/kernel")]
ONE = np.ones((2, 2))


@pytest.mark.parametrize(
    "tensors, message",
    [
        ({"layer.0.weight": ONE, "layer.2.weight": ONE}, "layer.1.weight is missing"),
        ({"head.weight": ONE, "tail.weight": ONE}, "tail.weight is left over"),
        (
            {"layer.0.weight": ONE, "layer.1.weight": ONE[:1]},
            r"layer.1.weight is \(1, 2\) in the file and \(2, 2\)",
        ),
    ],
)
def test_a_source_that_does_not_fit_is_an_error(tensors, message):
    with pytest.raises(UserError, match=message):
        import_tensors(ROWS, tensors)


def test_two_rows_for_one_leaf_and_a_leaf_without_row_are_errors():
    twice = [Row("a", "x"), Row("b", "x")]
    with pytest.raises(UserError, match="both a and b would fill x"):
        import_tensors(twice, {"a": ONE, "b": ONE})
    with pytest.raises(UserError, match="no place for these parameters: extra/kernel"):
        export_tensors(ROWS, {"head": {"kernel": ONE}, "extra": {"kernel": ONE}})


@pytest.mark.parametrize("positions", ["joint", "separable"])
@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_exported_and_imported_parameters_are_the_same(positions, head):
    size = EncoderSize(32, 3, 2, 64, 2, 16, image=(28, 28), frames=2, positions=positions)
    student = StudentSize(
        size, FeatureHeads(8, 2, head=head), PooledHead(8, head=head), FeatureHeads(8, 1, head="mlp")
    )
    shapes = jax.eval_shape(student.build(Compute()).init, jax.random.key(0))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda s: rng.normal(size=s.shape).astype(np.float32), shapes)
    tensors = export_tensors(pretrain_rows(), params)
    assert tensors["blocks.2.attn.qkv.weight"].shape == (96, 32)
    assert ("clip_decoder.1.head.2.weight" in tensors) == (head == "mlp")
    again = dict(paths_of(import_tensors(pretrain_rows(), tensors)))
    assert again.keys() == dict(paths_of(params)).keys()
    for path, leaf in paths_of(params):
        np.testing.assert_array_equal(again[path], leaf)
