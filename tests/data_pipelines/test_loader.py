"""The synthetic source and the loader: one order for any number of hosts, and over a restart."""

import jax
import numpy as np
import pytest

from ivjax.data_pipelines.load.loader import BatchRequest, HostShard
from ivjax.data_pipelines.load.media_loader import open_media
from ivjax.data_pipelines.load.synthetic import SyntheticClips
from ivjax.errors import UserError
from ivjax.experiment.computing import Compute
from ivjax.experiment.mesh_shape import MeshShape
from ivjax.train.feed import Feed
from ivjax.train.mesh import build_mesh
from tests.data_pipelines import reading
from tests.train.micro import experiment

SPEC = experiment.stage.build(Compute()).main.batch
CLIPS = SyntheticClips(clips=20)
EXAMPLES = CLIPS.examples(SPEC)


def open_loader(host=HostShard()):
    return CLIPS.open(BatchRequest(SPEC, 8, 3, host))


def batches(count, hosts=1, state=None):
    return reading.batches(open_loader, count, hosts, state)


@pytest.mark.parametrize("hosts", [2, 4])
def test_global_batches_do_not_depend_on_the_hosts(hosts):
    reference, _ = batches(6)
    assert [sorted(batch) for batch in reference] == [list(range(8 * n, 8 * n + 8)) for n in range(6)]
    reading.assert_same(batches(6, hosts)[0], reference)


def test_restored_on_other_hosts_the_order_goes_on():
    reference, _ = batches(6)
    first, state = batches(2, hosts=2)
    rest, _ = batches(4, hosts=4, state=state)
    reading.assert_same(first + rest, reference)


def test_every_clip_comes_once_an_epoch_in_a_new_order():
    found, _ = batches(5)
    videos = [batch[index]["video"].tobytes() for batch in found for index in sorted(batch)]
    assert len(set(videos[:20])) == 20 and set(videos[:20]) == set(videos[20:])
    assert videos[:20] != videos[20:]


def test_eval_clips_are_never_trained_on():
    train = {EXAMPLES[i]["video"].tobytes() for i in range(20)}
    evaluated = SyntheticClips(clips=20).examples(SPEC, eval_clips=True)
    assert len(train) == 20 and not train & {evaluated[i]["video"].tobytes() for i in range(20)}


def test_features_are_of_unit_length_and_follow_the_pixels():
    example = EXAMPLES[5]
    for name in ("clip", "mae", "pooled"):
        np.testing.assert_allclose(np.linalg.norm(example[name], axis=-1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(example["attention"].sum(-1), 1.0, rtol=1e-5)
    patches = example["video"].reshape(3, 3, 14, 3, 14, 3).transpose(0, 1, 3, 2, 4, 5).reshape(27, -1)
    alike = {p.tobytes(): f for p, f in zip(patches, example["mae"][0], strict=True)}
    for patch, feature in zip(patches, example["mae"][0], strict=True):
        np.testing.assert_allclose(feature, alike[patch.tobytes()], rtol=1e-6)


def test_what_the_source_cannot_make_is_an_error():
    with pytest.raises(UserError, match="have no caption"):
        SyntheticClips().examples({**SPEC, "caption": jax.ShapeDtypeStruct((4,), np.int32)})


def test_an_empty_source_is_an_error():
    with pytest.raises(UserError, match="holds no clips"):
        SyntheticClips(clips=0).open(BatchRequest(SPEC, 8))


def test_the_feed_puts_rows_on_the_mesh_and_refuses_other_shapes():
    mesh = build_mesh(MeshShape(data=2, fsdp=2, tensor=2))
    loader = open_media(CLIPS, {"video": BatchRequest(SPEC, 8, 3)})
    fed = next(Feed(loader, mesh, 8, {"video": SPEC}))
    loader.close()
    reference = batches(1)[0][0]
    for index, video in zip(np.asarray(fed.batch["index"]), np.asarray(fed.batch["video"]), strict=True):
        np.testing.assert_array_equal(video, reference[int(index)]["video"])
    assert fed.batch["video"].sharding.shard_shape((8, 3, 42, 42, 3))[0] == 2
    assert (fed.medium, fed.first) == ("video", 0)
    assert fed.position == {"step": 1, "loaders": {"video": {"global_next_index": 8}}}
    wrong = {**SPEC, "pooled": jax.ShapeDtypeStruct((5,), np.float32)}
    with pytest.raises(UserError, match=r"wants pooled as float32 \(5,\).* gives float32 \(16,\)"):
        next(Feed(open_media(CLIPS, {"video": BatchRequest(SPEC, 8, 3)}), mesh, 8, {"video": wrong}))
