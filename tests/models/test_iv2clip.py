"""InternVideo2-CLIP against the originals: both text towers, clips and images, loss and gradients."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivjax.convert.families.iv2clip import CLIP_LANGUAGE, CLIP_MOBILE
from ivjax.models.iv2clip.language import merged_text
from ivjax.ops.contrastive import contrastive_loss, scale_from_temperature
from tests.goldens import Golden, close
from tests.stage2 import FLOAT32, check_gradients, params_of

NAMES = {"iv2clip_llama_tiny": CLIP_LANGUAGE, "iv2clip_small_tiny": CLIP_MOBILE}


class Fixture:
    """A fixture with its model and parameters."""

    def __init__(self, name):
        self.golden, self.family = Golden(name), NAMES[name]
        self.size = self.family.parity.sizes(self.golden.config)
        self.params = params_of(self.family, self.golden.group("params"))
        self.model = self.size.build(FLOAT32)

    def clips(self, name):
        return jnp.moveaxis(jnp.asarray(self.golden[f"inputs/{name}"]), 2, -1)

    def words(self, name="text_ids"):
        return jnp.asarray(self.golden[f"inputs/{name}"], jnp.int32)


@pytest.fixture(scope="module", params=NAMES)
def fixture(request):
    return Fixture(request.param)


@pytest.mark.golden
@pytest.mark.slow
def test_loss_and_gradients_are_the_originals(fixture):
    golden, model = fixture.golden, fixture.model

    def loss(params):
        seen, said = model.video(params, fixture.clips("video")), model.words(params, fixture.words())
        scale = scale_from_temperature(params["temperature"], least=0.01)
        ids = jnp.asarray(golden["inputs/idx"], jnp.int32)
        return contrastive_loss(seen, said, ids, scale, form="dense"), (seen, said)

    (found, (seen, said)), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(fixture.params)
    close(seen, golden["outputs/vision_features"], rtol=2e-4)
    close(said, golden["outputs/text_features"], rtol=2e-4)
    np.testing.assert_allclose(found, golden["losses/vtc"], rtol=1e-4)
    check_gradients(fixture.family, gradients, golden.group("grads"))


@pytest.mark.golden
@pytest.mark.slow
def test_every_layer_is_the_originals(fixture):
    layers = fixture.family.parity.run(
        fixture.size, fixture.params, fixture.golden.group("inputs"), "float32"
    )
    there = [name for name in layers if f"outputs/{name}" in fixture.golden]
    assert "text_features" in there
    for name in there:
        close(layers[name], fixture.golden[f"outputs/{name}"], rtol=2e-4)


@pytest.mark.golden
def test_iv2clip_small_tiny_reads_images_and_texts_of_other_lengths():
    fixture = Fixture("iv2clip_small_tiny")
    golden, model, params = fixture.golden, fixture.model, fixture.params
    other = dataclasses.replace(fixture.size.vision, gelu="tanh").build(FLOAT32)

    @jax.jit
    def features(params):
        found = {}
        if "inputs/image" in golden:
            found["image_features"] = model.video(params, fixture.clips("image"))
        if "inputs/text_ids_short" in golden:
            found["text_features_short"] = model.words(params, fixture.words("text_ids_short"))
        if "outputs/vision_features_tanh_gelu" in golden:
            pooled = other.encode(params["vision"], fixture.clips("video")).pooled
            found["vision_features_tanh_gelu"] = pooled
        return found

    for name, found in features(params).items():
        close(found, golden[f"outputs/{name}"], rtol=2e-4)


@pytest.mark.golden
def test_iv2clip_llama_tiny_says_the_same_when_its_lora_is_merged():
    fixture = Fixture("iv2clip_llama_tiny")
    params, size = merged_text(fixture.params["text"], fixture.size.text)
    assert size.language.lora is None and "lora" not in params["language"]
    found = jax.jit(size.build(FLOAT32).encode)(params, fixture.words())
    close(found, fixture.golden["outputs/text_features"], rtol=2e-4)
