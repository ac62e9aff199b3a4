"""The decoder against the classes of transformers: logits, and gradients of all parameters, in float32."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivjax.convert.families.dialogue.language_configs import decoder_size
from ivjax.convert.families.dialogue.language_models import LLAMA, PHI3
from ivjax.convert.formats.tensors import Arrays
from ivjax.experiment.computing import Compute
from ivjax.models.decoder.blocks import Text
from tests.convert.tables import import_tensors
from tests.goldens import close
from tests.models.test_decoder import exported

pytestmark = pytest.mark.slow
torch = pytest.importorskip("torch", reason="torch is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

SIZES = {
    "vocab_size": 61,
    "hidden_size": 48,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8}
DYNAMIC = {"rope_type": "dynamic", "factor": 2.0}
LONG = {
    "rope_type": "longrope",
    "original_max_position_embeddings": 16,
    "short_factor": [1.0, 1.1, 1.3, 1.4],
    "long_factor": [1.0, 2.0, 3.5, 8.0],
}
# name: (class, options of its config, tokens of a text)
MODELS = {
    "llama": ("Llama", {}, 11),
    "llama_all_heads": ("Llama", {"num_key_value_heads": 6, "rms_norm_eps": 1e-5}, 11),
    "llama_biases": ("Llama", {"attention_bias": True, "mlp_bias": True}, 11),
    "llama_attention_biases": ("Llama", {"attention_bias": True}, 11),
    "llama_linear": ("Llama", {"rope_parameters": {"rope_type": "linear", "factor": 3.0}}, 11),
    "llama_dynamic": ("Llama", {"rope_parameters": DYNAMIC, "max_position_embeddings": 8}, 11),
    "mistral": ("Mistral", {"sliding_window": None}, 11),
    "mistral_window": ("Mistral", {"sliding_window": 4, "head_dim": 12}, 11),
    "qwen2": ("Qwen2", {}, 11),
    "qwen2_tied": ("Qwen2", {"tie_word_embeddings": True}, 11),
    "qwen2_yarn": ("Qwen2", {"rope_parameters": YARN}, 21),
    "qwen2_yarn_magnitude": (
        "Qwen2",
        {"rope_parameters": YARN | {"attention_factor": 0.7, "beta_fast": 4}},
        21,
    ),
    "phi3": ("Phi3", {"sliding_window": None}, 11),
    "phi3_window": ("Phi3", {"sliding_window": 5}, 11),
    "phi3_short": ("Phi3", {"sliding_window": None, "rope_parameters": LONG}, 15),
    "phi3_long": ("Phi3", {"sliding_window": None, "rope_parameters": LONG}, 23),
}


@functools.cache
def reference(name):
    """A random model of transformers, its texts padded at the right, and what it makes of them."""
    kind, options, length = MODELS[name]
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**(SIZES | options), attn_implementation="eager")
    model = getattr(transformers, f"{kind}ForCausalLM")(config).float().eval()
    with torch.no_grad():
        for path, parameter in model.named_parameters():
            # As they are started, softmax would be flat and scales 1: mistakes in them would not show.
            parameter.copy_(torch.randn_like(parameter) * 0.15 + (1.0 if "norm" in path else 0.0))
    ids = torch.randint(1, 61, (3, length))
    mask = torch.ones_like(ids)
    mask[1, -4:], mask[2, 5:] = 0, 0
    weight = torch.randn(3, length, 61) * mask[..., None]
    logits = model(input_ids=ids, attention_mask=mask).logits
    (logits * weight).sum().backward()
    gradients = {path: parameter.grad.numpy() for path, parameter in model.named_parameters()}
    tensors = {path: parameter.detach().numpy() for path, parameter in model.named_parameters()}
    texts = tuple(x.numpy() for x in (ids, mask, weight))
    return config.to_dict(), tensors, texts, logits.detach().numpy(), gradients


@pytest.mark.parametrize("name", MODELS)
def test_logits_and_gradients_are_those_of_transformers(name):
    config, tensors, (ids, mask, weight), wanted, gradients = reference(name)
    family = PHI3 if name.startswith("phi3") else LLAMA
    size = decoder_size(config)
    model = size.build(Compute("float32"))
    params = import_tensors(family.rows, dict(family.unpacked(Arrays(tensors), size)))
    assert jax.tree.map(np.shape, params) == jax.tree.map(
        np.shape, jax.eval_shape(model.init, jax.random.key(0))
    )
    segments = jnp.where(jnp.asarray(mask) > 0, 0, -1)
    text = Text(model.turns(jnp.arange(ids.shape[1])[None], ids.shape[1]), segments)

    @jax.jit
    def step(params):
        def loss(params):
            states = model.layers(params, model.embed(params, ids), text)
            logits = model.logits(params, model.normed(params, states))
            return jnp.sum(logits * weight), logits

        return jax.value_and_grad(loss, has_aux=True)(params)

    (_, logits), found = step(params)
    there = mask > 0
    close(logits[there], wanted[there])
    named = exported(family, found, size)
    assert named.keys() == gradients.keys()
    for path, gradient in gradients.items():
        largest = float(np.abs(gradient).max())
        np.testing.assert_allclose(named[path], gradient, rtol=1e-3, atol=2e-5 * largest, err_msg=path)
