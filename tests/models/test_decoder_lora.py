"""LoRA: applied beside the kernels, merged into them, and in peft's files."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ivjax
from ivjax.convert.conversion import export_file
from ivjax.convert.families.dialogue.language_models import INTERNLM2, LLAMA, PHI3
from ivjax.convert.formats.opening import open_tensors
from ivjax.convert.formats.tensors import Arrays
from ivjax.convert.lora_files import CONFIG
from ivjax.errors import UserError
from ivjax.experiment.computing import Compute
from ivjax.models.decoder.blocks import Linear, Text, without_some
from ivjax.models.decoder.lora import merged
from ivjax.models.decoder.sizes import LORA_LAYERS, LanguageSize, Lora
from ivjax.ops.randomness import dropout, folded
from ivjax.ops.trees import paths_of
from tests.convert.originals import originals, write_originals
from tests.convert.tables import save_weights
from tests.models.params import any_params

PLAIN = replace(LanguageSize.PRESETS["tiny"], width=24, depth=2, heads=6, mlp_width=20, vocabulary=30)
SIZE = replace(PLAIN, lora=Lora(rank=3, alpha=6.0, dropout=0.1))
IDS = np.random.default_rng(0).integers(0, 30, (2, 7))


def logits(model, params):
    """Logits of the same texts for any model."""
    text = Text(model.turns(jnp.arange(IDS.shape[1])[None], IDS.shape[1]))
    states = model.layers(params, model.embed(params, IDS), text)
    return model.logits(params, model.normed(params, states))


def model_of(size):
    """The model that computes in float32."""
    return size.build(Compute("float32"))


def test_factors_start_where_they_add_nothing_and_a_layer_without_them_has_none():
    few = replace(PLAIN, lora=Lora(rank=3, layers=("q", "v")))
    shapes = jax.eval_shape(model_of(few).init, jax.random.key(0))
    paths = {path for path, _ in paths_of(shapes["lora"])}
    assert paths == {f"blocks/attn/{layer}/{factor}" for layer in "qv" for factor in "ab"}
    layer = Linear(5, few.lora, jnp.float32, name="q")
    factors = layer.init(jax.random.key(0), np.ones((1, 8), np.float32))["lora"]
    assert np.all(np.abs(factors["a"]) <= 8**-0.5) and np.any(factors["a"]) and not np.any(factors["b"])
    assert "lora" not in jax.eval_shape(model_of(PLAIN).init, jax.random.key(0))


def test_merged_equals_applied_and_every_factor_has_a_gradient():
    model, params = model_of(SIZE), any_params(model_of(SIZE))

    def loss(factors):
        found = logits(model, {**params, "lora": factors})
        return jnp.sum(jnp.sin(found)), found

    (_, applied), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(params["lora"])
    plain, size = merged(params, SIZE)
    assert size == PLAIN and "lora" not in plain
    alone = jax.jit(lambda p: logits(model_of(size), p))(plain)
    np.testing.assert_allclose(alone, applied, rtol=2e-4, atol=2e-5)
    found = {path for path, leaf in paths_of(gradients) if np.any(leaf)}
    assert len(found) == 2 * len(LORA_LAYERS)


def test_dropout_thins_what_factors_read_by_the_keys_of_each_row():
    lora = Lora(rank=3, alpha=6.0, dropout=0.5)
    model = model_of(replace(PLAIN, lora=lora))
    params = jax.tree.map(jnp.asarray, any_params(model))
    text = Text(model.turns(jnp.arange(IDS.shape[1])[None], IDS.shape[1]))
    keys = jax.random.split(jax.random.key(0), 2)

    @jax.jit
    def run(keys, ids):
        x = model.layers(params, model.embed(params, ids), text, keys=keys)
        return x, model.logits(params, x, keys) - model.logits({**params, "lora": {}}, x)

    x, added = run(keys, IDS)
    # The head's share: every entry of x is gone, or twice as large.
    a, b = (params["lora"]["head"][factor] for factor in "ab")
    found = np.linalg.lstsq(b.T, np.asarray(added).reshape(-1, 30).T / lora.scale, rcond=None)[0].T
    kept = dropout(folded(keys, LORA_LAYERS.index("head")), x, 0.5)
    np.testing.assert_allclose(found, np.asarray(kept).reshape(-1, 24) @ a, rtol=1e-3, atol=1e-4)
    # A row is the same whatever stands beside it, and another one by another key.
    other, _ = run(keys[::-1], IDS[::-1])
    np.testing.assert_allclose(other[::-1], x, rtol=1e-5, atol=1e-6)
    assert np.abs(run(keys, IDS[::-1])[0][::-1] - x).max() > 1e-3
    assert without_some(x, lora, "q", None) is x


def test_a_model_without_factors_compiles_to_the_same_program():
    params = any_params(model_of(PLAIN))

    def text(size):
        return jax.jit(lambda p: logits(model_of(size), p)).lower(params).as_text()

    assert text(SIZE) == text(PLAIN)


def test_an_export_has_the_factors_merged_or_alone(tmp_path):
    params = any_params(model_of(SIZE))
    save_weights(tmp_path / "own.safetensors", params, "llama", SIZE)
    export_file(tmp_path / "own.safetensors", tmp_path / "merged.safetensors")
    plain = LLAMA.original_tensors(Arrays(dict(paths_of(jax.device_get(merged(params, SIZE)[0])))))
    found = open_tensors(tmp_path / "merged.safetensors")
    assert set(found) == {lazy.name for lazy in plain}
    for lazy in plain:
        np.testing.assert_allclose(found[lazy.name], lazy.read(), rtol=1e-5, atol=1e-6)
    export_file(tmp_path / "own.safetensors", tmp_path / "peft/adapter_model.safetensors", lora=True)
    said = json.loads((tmp_path / "peft" / CONFIG).read_text())
    assert (said["r"], said["lora_alpha"]) == (3, 6.0) and "q_proj" in said["target_modules"]
    alone = open_tensors(tmp_path / "peft")
    name = "base_model.model.model.layers.1.mlp.down_proj.lora_A.weight"
    np.testing.assert_array_equal(alone[name].T, params["lora"]["blocks"]["mlp"]["down"]["a"][1])
    # And back beside the model that it was made for.
    base = write_originals(tmp_path / "base.safetensors", originals(LLAMA, PLAIN))
    loaded = ivjax.load(base, family="llama", sizes=PLAIN, lora=tmp_path / "peft")
    assert loaded.model.size == SIZE
    for path, leaf in paths_of(params["lora"]):
        np.testing.assert_array_equal(dict(paths_of(loaded.params["lora"]))[path], leaf)


@pytest.mark.parametrize("family", [INTERNLM2, PHI3])
@pytest.mark.parametrize("adapter", ["", "default."])
def test_the_factors_of_packed_kernels_are_read_as_those_of_their_parts(family, adapter, tmp_path):
    packed = {"internlm2": "attention.wqkv", "phi3": "self_attn.qkv_proj"}[family.name]
    head, rng = PLAIN.head, np.random.default_rng(0)
    rows = (PLAIN.heads + 2 * PLAIN.kv_heads) * head
    theirs = {
        f"lm.base_model.model.model.layers.{layer}.{packed}.lora_{factor}.{adapter}weight": tensor
        for layer in range(2)
        for factor, tensor in (
            ("A", rng.normal(size=(3, 24)).astype("f")),
            ("B", rng.normal(size=(rows, 3)).astype("f")),
        )
    }
    write_originals(tmp_path / "lora/adapter_model.safetensors", theirs)
    base = write_originals(tmp_path / "base.safetensors", originals(family, PLAIN))
    loaded = ivjax.load(base, family=family.name, sizes=PLAIN, lora=tmp_path / "lora")
    assert loaded.model.size.lora == Lora(rank=3, alpha=6.0, layers=("q", "k", "v"))
    # The product of the packed factors, unpacked as a kernel is.
    name = f"model.layers.1.{packed}"
    a, b = (theirs[f"lm.base_model.model.{name}.lora_{factor}.{adapter}weight"] for factor in "AB")
    parts = family.unpacked(Arrays({f"{name}.weight": b @ a}), PLAIN)
    for part in "qkv":
        factors = loaded.params["lora"]["blocks"]["attn"][part]
        wanted = parts[f"{name}.weight[{part}]"].T
        np.testing.assert_allclose(factors["a"][1] @ factors["b"][1], wanted, rtol=1e-4, atol=1e-5)
    # Written out again they are packed again.
    save_weights(tmp_path / "own.safetensors", loaded.params, family.name, loaded.model.size)
    export_file(tmp_path / "own.safetensors", tmp_path / "back/adapter_model.safetensors", lora=True)
    back = open_tensors(tmp_path / "back")
    plainly = {n.removeprefix("lm.").replace("default.", ""): tensor for n, tensor in theirs.items()}
    assert set(back) == set(plainly)
    assert all(back[n].tobytes() == tensor.tobytes() for n, tensor in plainly.items())


def test_factors_that_were_trained_apart_do_not_fit_a_packed_kernel(tmp_path):
    save_weights(tmp_path / "own.safetensors", any_params(model_of(SIZE)), "phi3", SIZE)
    with pytest.raises(UserError, match="q, k, v share .* and differ here, trained apart; merge"):
        export_file(tmp_path / "own.safetensors", tmp_path / "adapter.safetensors", lora=True)
    assert not (tmp_path / "adapter.safetensors").exists() and not (tmp_path / CONFIG).exists()


@pytest.mark.parametrize(
    "name, shape, words",
    [
        (
            "model.layers.{}.self_attn.q_proj.lora_A.weight",
            (3, 25),
            r"is a LoRA for another model than this llama",
        ),
        ("transformer.h.{}.attn.lora_A.weight", (3, 24), "holds no LoRA for llama"),
    ],
)
def test_a_lora_for_another_model_is_told_in_one_sentence(name, shape, words, tmp_path):
    tensors = {name.format(layer): np.zeros(shape, "f") for layer in range(2)}
    tensors |= {n.replace("_A", "_B"): np.zeros((24, 3), "f") for n in tensors}
    lora = write_originals(tmp_path / "lora.safetensors", tensors)
    base = write_originals(tmp_path / "base.safetensors", originals(LLAMA, PLAIN))
    with pytest.raises(UserError, match=words):
        ivjax.load(base, family="llama", sizes=PLAIN, lora=lora)
