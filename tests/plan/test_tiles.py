"""Arrays as TPUs store them."""

import jax
import jax.numpy as jnp
import pytest

from ivjax.plan.device_costs import padded_count
from ivjax.plan.walk import Walk


@pytest.mark.parametrize(
    "shape, count",
    [
        ((100, 200), 128 * 200),
        ((3, 257, 129), 3 * 384 * 136),
        ((5, 7), 8 * 128),
        ((3, 40), 4 * 128),
        ((1, 40), 128),
        ((1000,), 1000),
        ((0, 8), 0),
    ],
)
def test_padding_is_that_of_the_cheapest_order_of_dimensions(shape, count):
    assert padded_count(shape) == count


def test_only_tpus_pad_values():
    aval = jax.ShapeDtypeStruct((100, 200), jnp.bfloat16)
    bytes_on = {name: Walk({}, {}, name).value(aval, ((), ())).bytes for name in ("tpu", "gpu", "cpu")}
    assert bytes_on == {"tpu": 2 * 128 * 200, "gpu": 40000, "cpu": 40000}
