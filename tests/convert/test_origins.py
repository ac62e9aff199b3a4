"""A run's parts out of files and runs: teachers above all, and what is no teacher."""

import dataclasses
import functools
import shutil

import numpy as np
import pytest

from ivjax.convert import origins
from ivjax.convert.conversion import export_file
from ivjax.convert.families.encoders import ENCODER, STAGE2, VIDEOMAE
from ivjax.convert.families.internvideo2 import PRETRAIN
from ivjax.convert.formats.opening import open_tensors
from ivjax.convert.loading import load
from ivjax.convert.origins import read_weights
from ivjax.convert.registry import FAMILIES
from ivjax.convert.starting import shapes_of
from ivjax.errors import UserError
from ivjax.models.decoder.sizes import LanguageSize
from ivjax.models.dialogue import DialogueSize, ProjectorSize
from ivjax.models.internvideo2 import EncoderSize, FeatureHeads, PooledHead
from ivjax.models.viclip import TextSize, VisionSize
from ivjax.ops.resize import resize_table
from ivjax.ops.trees import paths_of
from ivjax.stages.dual_encoder import DualEncoder
from ivjax.stages.masked_reconstruction import MaskedReconstruction
from ivjax.stages.teachers import ClipTeacher, MaeTeacher
from ivjax.stages.video_dialogue import Bucket, VideoDialogue
from tests.convert.originals import originals
from tests.convert.tables import import_tensors
from tests.convert.torch_files import write_torch
from tests.goldens import Golden
from tests.train import micro

STUDENT = micro.experiment.stage.student
TEACHER = dataclasses.replace(STUDENT, width=16, depth=1)
FEW = np.ones((2, 2), np.float32)
STAGE2_BESIDE = (
    "vision_encoder.clip_decoder.0.head.weight",
    "vision_encoder.final_clip_decoder.norm.bias",
    "vision_encoder.clip_pos_embed",
    "vision_encoder.img_pos_embed",
    "vision_encoder.clip_img_pos_embed",
    "text_encoder.bert.embeddings.word_embeddings.weight",
    "text_encoder.bert.embeddings.position_ids",
    "vision_proj.weight",
    "text_proj.bias",
    "itm_head.weight",
    "temp",
)
INTERNVL_BESIDE = (
    "transformer.layers.0.self_attn.q_proj.lora_A.default.weight",
    "transformer.layers.0.self_attn.rotary_emb.inv_freq",
    "text_projection",
    "logit_scale",
)
VIDEOMAE_BESIDE = ("encoder_to_decoder.weight", "mask_token", "decoder.head.weight", "decoder.norm.bias")


def with_clip_teacher(size):
    """A stage of which only the teacher of that size matters."""
    frames = 2 if size.frames == 1 else size.frames
    student = EncoderSize(16, 2, 2, 32, 2, 8, size.image, size.patch, frames, size.tubelet)
    heads = FeatureHeads(size.width, 1), PooledHead(size.pool_width)
    return MaskedReconstruction(student, *heads, None, clip_teacher=ClipTeacher(size))


def with_mae_teacher(size):
    student = EncoderSize(16, 2, 2, 32, 2, 8, size.image, size.patch, size.grid[0])
    return MaskedReconstruction(
        student, None, None, FeatureHeads(size.width, 1), mae_teacher=MaeTeacher(size)
    )


@functools.cache
def built(stage, compute):
    """The objective of a stage, and the shapes of its parameters by dtype."""
    objective = stage.build(compute)
    return objective, functools.cache(functools.partial(shapes_of, objective))


@pytest.fixture(autouse=True, scope="module")
def traced_once():
    """A stage is traced once in this file, though each reading of a run would do it again."""
    shapes = {}

    def objective_of(experiment):
        objective, of_dtype = built(experiment.stage, experiment.compute)
        shapes[id(objective)] = of_dtype
        return objective

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(origins, "objective_of", objective_of)
        patched.setattr(origins, "shapes_of", lambda objective, dtype: shapes[id(objective)](dtype))
        yield


def frozen(stage, origin, dtype="float32"):
    """Returns the parameters that a run of the stage reads for its teachers, by path below them."""
    experiment = dataclasses.replace(micro.experiment, stage=stage, init_from=(origin,), dtype=dtype)
    objective, shapes = built(stage, experiment.compute)
    target = shapes(dtype).frozen
    found = read_weights(objective, experiment, target)
    assert found.keys() == dict(paths_of(target)).keys()
    return {path.partition("/")[2]: leaf for path, leaf in found.items()}


def assert_equal(found, wanted):
    assert found.keys() == wanted.keys()
    for path, leaf in wanted.items():
        np.testing.assert_array_equal(found[path], leaf, err_msg=path)


def written(path, container, tensors, beside=()):
    """A file as the originals save one: the tensors, and others beside them."""
    return write_torch(path, {container: tensors | dict.fromkeys(beside, FEW), "epoch": 3})


@pytest.mark.golden
def test_stage1_teacher_internvideo2_is_read_from_a_stage_2_file_of_half_the_frames(tmp_path, monkeypatch):
    golden = Golden("stage1_teacher_internvideo2")
    params, size = golden.group("params"), ENCODER.parity.sizes(golden.config)
    monkeypatch.setitem(FAMILIES, STAGE2.name, dataclasses.replace(STAGE2, frames=(size.frames,)))
    named = {f"vision_encoder.{name}": tensor for name, tensor in params.items()}
    path = written(tmp_path / "stage2.pt", "module", named, STAGE2_BESIDE)
    wanted = dict(paths_of(import_tensors(ENCODER.rows, params)))
    assert_equal(frozen(with_clip_teacher(size), f"clip_teacher={path}"), wanted)
    longer = dataclasses.replace(size, frames=2 * size.frames)
    if size.positions == "joint":
        wanted["pos_embed/table"] = resize_table(params["pos_embed"], size.grid, longer.grid, kept=1)
    else:
        times = (size.grid[0], 1, 1), (longer.grid[0], 1, 1)
        wanted["pos_embed/temporal"] = resize_table(params["pos_embed_temporal"], *times, kept=0)
    assert_equal(frozen(with_clip_teacher(longer), f"clip_teacher={path}"), wanted)


@pytest.mark.golden
@pytest.mark.parametrize("name", ["stage1_pretrain_l2", "stage1_pretrain_none_sep", "stage1_distill"])
def test_a_student_becomes_a_teacher(name, tmp_path):
    golden = Golden(name)
    params, size = golden.group("params"), PRETRAIN.parity.sizes(golden.config)
    path = written(tmp_path / "student.pth", "module", params)
    student = dict(paths_of(import_tensors(PRETRAIN.rows, params)["encoder"]))
    stage = with_clip_teacher(size.encoder)
    assert_equal(frozen(stage, f"clip_teacher={path}#encoder"), student)
    with pytest.raises(UserError, match=rf"is of internvideo2_pretrain: write {path}#encoder for that"):
        frozen(stage, f"clip_teacher={path}")


@pytest.mark.golden
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_stage1_teacher_internvl_is_read_from_the_file_of_both_towers(dtype, tmp_path):
    golden = Golden("stage1_teacher_internvl")
    params, size = golden.group("params"), ENCODER.parity.sizes(golden.config)
    wanted = dict(paths_of(import_tensors(ENCODER.rows, params)))
    params["patch_embed.proj.weight"] = params["patch_embed.proj.weight"][:, :, 0]
    path = written(tmp_path / "internvl_c.pth", "module", params, INTERNVL_BESIDE)
    found = frozen(with_clip_teacher(size), f"clip_teacher={path}", dtype)
    assert {leaf.dtype.name for leaf in found.values()} == {dtype}
    assert_equal(found, {path: leaf.astype(found[path].dtype) for path, leaf in wanted.items()})


@pytest.mark.golden
@pytest.mark.parametrize("beside", [(), VIDEOMAE_BESIDE], ids=["encoder", "autoencoder"])
@pytest.mark.parametrize("positions", ["learned", "fixed"])
def test_stage1_teacher_videomae_is_read_with_and_without_its_decoder(beside, positions, tmp_path):
    golden = Golden("stage1_teacher_videomae")
    params, size = golden.group("params"), VIDEOMAE.parity.sizes(golden.config)
    if positions == "fixed":
        del params["pos_embed"]
    named = {f"encoder.{name}": tensor for name, tensor in params.items()}
    path = written(tmp_path / "vit_g.pth", "model", named, beside)
    stage = with_mae_teacher(dataclasses.replace(size, positions=positions))
    wanted = dict(paths_of(import_tensors(VIDEOMAE.rows, params)))
    for entry in (f"mae_teacher={path}", f"mae_teacher={path}#encoder"):
        assert_equal(frozen(stage, entry), wanted)


@pytest.mark.golden
@pytest.mark.parametrize(
    "entry, words",
    [
        ("teacher={path}", "the stage has no branch teacher; its branches are encoder, clip_teacher$"),
        (
            "clip_teacher={path}#decoder",
            "a file of internvideo2_pretrain has no branch #decoder; its branches are encoder$",
        ),
        ("clip_teacher={heads}#encoder", "heads.pth holds nothing of its branch #encoder$"),
        (
            "clip_teacher={stage2}#encoder",
            "a file of internvideo2_stage2_vision has no branch #encoder; leave out #encoder$",
        ),
        (
            "clip_teacher={videomae}",
            "videomae.pth is of videomae_encoder: give a file of internvideo2_encoder or internvideo2_stage2",
        ),
        ("clip_teacher={none}", "none.pth does not exist; give a .safetensors, .pt, .pth or .bin file$"),
    ],
)
def test_unknown_branches_are_named_for_stage1_distill(entry, words, tmp_path):
    golden = Golden("stage1_distill")
    params, size = golden.group("params"), PRETRAIN.parity.sizes(golden.config)
    heads = {name: x for name, x in params.items() if "decoder" in name}
    videomae = {f"encoder.{n}": x for n, x in Golden("stage1_teacher_videomae").group("params").items()}
    stage2 = {f"vision_encoder.{name}": x for name, x in params.items()}
    files = {"path": params, "heads": heads, "stage2": stage2, "videomae": videomae}
    places = {name: written(tmp_path / f"{name}.pth", "module", tensors) for name, tensors in files.items()}
    with pytest.raises(UserError, match=f"^init_from=.*: .*{words}"):
        frozen(with_clip_teacher(size.encoder), entry.format(**places, none=tmp_path / "none.pth"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run whose teacher came out of a file that is gone; what it trained, and the teacher."""
    folder = tmp_path_factory.mktemp("trained")
    tensors = originals(ENCODER, TEACHER)
    path = written(folder / "teacher.pth", "module", tensors)
    stage = dataclasses.replace(micro.experiment.stage, mae=None, clip_teacher=ClipTeacher(TEACHER))
    experiment = dataclasses.replace(
        micro.experiment, stage=stage, init_from=(f"clip_teacher={path}",), init_fresh=("*",)
    )
    params = micro.saved(folder / "run", experiment)
    path.rename(folder / "elsewhere.pth")
    return folder / "run", params, dict(paths_of(import_tensors(ENCODER.rows, tensors)))


def test_a_run_is_loaded_and_exported_without_its_teacher(trained, tmp_path):
    run, student, _ = trained
    assert_equal(dict(paths_of(load(run).params)), student)
    assert export_file(run, tmp_path / "student.pth", lambda line: None).report.fits
    exported = import_tensors(PRETRAIN.rows, dict(open_tensors(tmp_path / "student.pth")))
    assert_equal(dict(paths_of(exported)), student)


@pytest.mark.parametrize("times", [1, 2])
def test_a_runs_student_becomes_a_teacher_and_its_table_is_resized(trained, times):
    run, params, _ = trained
    size = dataclasses.replace(STUDENT, frames=times * STUDENT.frames)
    wanted = {path.removeprefix("encoder/"): leaf for path, leaf in params.items() if "encoder/" in path}
    table = resize_table(wanted["pos_embed/table"], STUDENT.grid, size.grid, kept=1)
    found = frozen(with_clip_teacher(size), f"clip_teacher={run}#encoder")
    assert_equal(found, wanted | {"pos_embed/table": table})


def test_the_teacher_of_a_run_is_read_from_the_runs_own_init_from(trained):
    run, _, teacher = trained
    stage, entry = with_clip_teacher(TEACHER), f"clip_teacher={run}#clip_teacher"
    with pytest.raises(UserError, match="teacher.pth does not exist"):
        frozen(stage, entry)
    shutil.copy(run.parent / "elsewhere.pth", run.parent / "teacher.pth")
    assert_equal(frozen(stage, entry), teacher)
    (run.parent / "teacher.pth").unlink()


@pytest.mark.parametrize(
    "part, words",
    [
        ("#vision", "has no branch #vision; its branches are encoder, clip_teacher$"),
        ("", "run is of internvideo2_pretrain: write .*run#encoder for that branch of it$"),
    ],
)
def test_a_branch_that_a_run_lacks_is_named(trained, part, words):
    with pytest.raises(UserError, match=words):
        frozen(with_clip_teacher(STUDENT), f"clip_teacher={trained[0]}{part}")


def test_the_video_tower_of_a_contrastive_run_becomes_the_tower_of_a_dialogue_model(tmp_path):
    vision = VisionSize(width=8, depth=1, heads=2, out=4, patch=8, image=(16, 16), frames=2)
    text = TextSize(width=8, depth=1, heads=2, out=4, context=6, vocabulary=20)
    pair = dataclasses.replace(micro.experiment, stage=DualEncoder(vision, text, train_text=True))
    params = micro.saved(tmp_path / "run", pair)
    size = DialogueSize(
        vision=vision,
        bridge=ProjectorSize(8, out=8, frame_tokens=2, image_tokens=2, clip_frames=2, heads=2),
        language=LanguageSize(8, 1, 2, 1, 16, vocabulary=20),
    )
    stage = VideoDialogue(size, (Bucket("rows", 32, clips=1),))
    experiment = dataclasses.replace(
        micro.experiment,
        stage=stage,
        init_from=(f"vision={tmp_path}/run#vision",),
        init_fresh=("bridge", "language"),
    )
    objective, shapes = built(stage, experiment.compute)
    found = read_weights(objective, experiment, shapes("float32").trained)
    assert_equal(found, {name: leaf for name, leaf in params.items() if name.startswith("vision/")})
