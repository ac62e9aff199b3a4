"""Files of InternVideo-Next, of its teacher and of its predictor, by names and shapes."""

import jax
import numpy as np
import pytest

from ivjax.convert.comparison import compare
from ivjax.convert.detection import recognise
from ivjax.convert.engine.rows import original_tensors, unflatten
from ivjax.convert.origins import import_into
from ivjax.convert.registry import FAMILIES
from ivjax.models.internvideo2 import FeatureHeads, PooledHead
from ivjax.models.internvideo_next import DiffusionSize, NextSize, NextStudentSize
from ivjax.models.modernbert import ModernBertSize
from tests.convert.originals import originals, write_originals
from tests.convert.tables import import_tensors
from tests.convert.test_matching import Unread, listed
from tests.convert.test_videomae_pretrain import same

PREDICTOR = ModernBertSize(8, 5, 2, 12, first=23)
SMALL = NextStudentSize(
    NextSize(16, 2, 2, 32, 2, 8, image=(28, 28), frames=4),
    FeatureHeads(8, 2, head="mlp"),
    PooledHead(6, head="mlp"),
    PREDICTOR,
    DiffusionSize(8, 2, 6),
)


each_size = pytest.mark.parametrize(
    "manifest, preset", [("base", "B14"), pytest.param("large", "L14", marks=pytest.mark.slow)]
)


@each_size
def test_released_encoders_fit_both_ways(manifest, preset):
    _, wanted = listed(f"family_internvideo_next_{manifest}_released")
    report = compare(Unread(wanted), manifest).report
    assert (report.family, report.preset, report.matched) == ("internvideo_next_encoder", preset, len(wanted))
    assert report.fits and not report.unused and not report.resized and report.prefix == "model."
    family = FAMILIES["internvideo_next_encoder"]
    leaves = family.original_tensors(Unread(family.shapes(family.presets[preset])))
    assert {lazy.name: lazy.shape for lazy in leaves} == wanted


@each_size
def test_training_files_of_stage_2_fit_and_what_they_never_use_is_named(manifest, preset):
    _, wanted = listed(f"family_internvideo_next_{manifest}_stage2_train")
    report = compare(Unread(wanted), manifest).report
    assert (report.family, report.preset) == ("internvideo_next_latent", preset)
    assert report.fits and report.matched + len(report.unused) == len(wanted)
    family = FAMILIES["internvideo_next_latent"]
    leaves = original_tensors(family.rows, Unread(family.shapes(family.presets[preset])))
    written = {lazy.name: lazy.shape for lazy in leaves}
    assert written.items() <= wanted.items() and set(wanted) - set(written) == set(report.unused)


def test_a_training_file_of_stage_1_fills_the_encoder_of_another_stage(tmp_path):
    family = FAMILIES["internvideo_next_student"]
    tensors = originals(family, SMALL)
    path = write_originals(tmp_path / "w.pth", tensors, "module")
    wanted = import_tensors(family.rows, tensors)
    same(import_into(path, wanted), wanted)
    same(import_into(path, wanted["encoder"], branch="encoder", kind=NextSize), wanted["encoder"])


def test_the_last_five_layers_of_modernbert_are_the_predictor(tmp_path):
    family = FAMILIES["modernbert"]
    tensors = originals(family, PREDICTOR)
    assert {name.split(".")[1] for name in tensors} == {"23", "24", "25", "26", "27"}
    earlier = {
        name.replace("23", str(n)): x for name, x in tensors.items() if "23" in name for n in range(23)
    }
    words = {"embeddings.tok_embeddings.weight": tensors["layers.23.attn.Wo.weight"]}
    words |= {"final_norm.weight": tensors["layers.23.mlp_norm.weight"]}
    whole = {f"model.{name}": x for name, x in (tensors | earlier | words).items()}
    whole["head.dense.weight"] = tensors["layers.23.attn.Wo.weight"]
    path = write_originals(tmp_path / "w.safetensors", whole)
    wanted = import_tensors(family.rows, tensors)
    same(import_into(path, wanted, kind=ModernBertSize), wanted)
    assert recognise(Unread({name: x.shape for name, x in whole.items()}), "w").family is family


def test_position_tables_of_other_frames_are_resized_behind_the_class_tokens(tmp_path):
    family = FAMILIES["internvideo_next_encoder"]
    tensors = originals(family, SMALL.encoder)
    path = write_originals(tmp_path / "w.safetensors", tensors)
    wide = NextSize(16, 2, 2, 32, 2, 8, image=(28, 28), frames=8)
    shapes = {path: jax.ShapeDtypeStruct(shape, np.float32) for path, shape in family.shapes(wide).items()}
    found = import_into(path, unflatten(shapes), wide.grid, kind=NextSize)
    table = found["pos_embed"]
    assert table.shape == (1, 4 + 8 * 4, 16)
    assert (table[:, :4] == tensors["model.pos_embed"][:, :4]).all()
