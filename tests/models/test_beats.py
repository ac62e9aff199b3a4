"""BEATs against the original: every layer, and gradients with their decay by layer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivjax.convert.families.beats import BEATS
from tests.goldens import Golden, close
from tests.stage2 import FLOAT32, check_gradients, params_of


@pytest.mark.golden
def test_beats_tiny_is_the_original_layer_by_layer_with_its_gradients():
    golden = Golden("beats_tiny")
    size, params = BEATS.parity.sizes(golden.config), params_of(BEATS, golden.group("params"))
    bank = jnp.asarray(golden["outputs/fbank64_norm_padded"])

    def loss(params):
        layers = BEATS.parity.run(size, params, {"fbank": bank}, "float32")
        return jnp.mean(layers["features"] * golden["inputs/loss_weight"]), layers

    (found, layers), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    for name, layer in layers.items():
        close(layer, golden[f"outputs/{name}"], rtol=2e-4)
    assert f"layer{size.depth - 1}_out" in layers
    np.testing.assert_allclose(found, golden["losses/weighted_mean"], rtol=1e-4)
    check_gradients(BEATS, gradients, golden.group("grads"))
    # BEATs' own pre-processing has twice as many bins.
    other = jax.jit(size.build(FLOAT32).encode)(params, jnp.asarray(golden["outputs/fbank128_norm"]))
    close(other, golden["outputs/extract_features128"], rtol=2e-4)
