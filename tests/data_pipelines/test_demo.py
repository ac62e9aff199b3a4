"""The demo corpus on disk: the same again for the same seed, and pictures and sound as its rows say."""

import io
import json
import os
import re

import av
import numpy as np
import pytest

from ivjax.data_pipelines.demo.demo_corpus import make_demo
from ivjax.data_pipelines.demo.scene import COLOURS
from ivjax.data_pipelines.video.decode import probe, read_frames
from ivjax.data_pipelines.video.shots import ShotRule, content_scores
from ivjax.errors import UserError

CLIPS, HELD_OUT, SEED = 14, 4, 3


def quiet(line):
    pass


def make(out, workers=1, clips=CLIPS, seed=SEED):
    return make_demo(out, clips, seed, HELD_OUT, workers, quiet)


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def seconds(text):
    hours, minutes, rest = text.split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(rest)


def bounds(row, fps):
    """The frames of a row: (first, behind the last)."""
    return tuple(round(seconds(row[f"{name}_timestamp"]) * fps) for name in ("Start", "End"))


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return make(tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="module")
def drawn(demo):
    """(row, its decoded frames, the bytes of its video) of every clip."""
    found = []
    for row in lines(demo.annotations) + lines(demo.held_out):
        payload = (demo.videos / f"{row['YoutubeID']}.mp4").read_bytes()
        found.append((row, read_frames(payload, range(*bounds(row, probe(payload).fps))), payload))
    return found


@pytest.mark.multiprocess
def test_the_same_seed_gives_the_same_bytes_whatever_the_processes(demo, tmp_path):
    make(tmp_path, workers=2)
    assert contents(tmp_path) == contents(demo.videos.parent)


def test_another_seed_gives_another_corpus(demo, tmp_path):
    other = make(tmp_path, clips=4, seed=SEED + 1)
    assert not {p.name for p in other.videos.iterdir()} & {p.name for p in demo.videos.iterdir()}
    one, two = ({row["Caption"] for row in lines(path)} for path in (demo.annotations, other.annotations))
    assert not one & two


def test_a_stopped_run_is_gone_on_with(tmp_path):
    demo = make(tmp_path, clips=6)
    whole = contents(tmp_path)
    kept, lost, *_ = sorted(demo.videos.iterdir())
    lost.rename(demo.videos / f".{lost.name}.77.draft")
    demo.annotations.unlink()
    os.utime(kept, (1, 1))
    make(tmp_path, clips=6)
    assert contents(tmp_path) == whole and kept.stat().st_mtime == 1


def test_a_folder_of_other_videos_is_refused(demo):
    before = contents(demo.videos.parent)
    with pytest.raises(UserError, match="holds videos of something else"):
        make(demo.videos.parent, seed=SEED + 1)
    assert contents(demo.videos.parent) == before


@pytest.mark.parametrize(("clips", "seed"), [(0, 1), (5, -1)])
def test_numbers_that_make_no_corpus_are_refused(tmp_path, clips, seed):
    with pytest.raises(UserError, match="must be at least"):
        make(tmp_path / "new", clips=clips, seed=seed)
    assert not (tmp_path / "new").exists()


def test_every_clip_that_was_asked_for_is_annotated_once(demo):
    for path, wanted in ((demo.annotations, CLIPS), (demo.held_out, HELD_OUT)):
        places = [(row["YoutubeID"], row["Start_timestamp"]) for row in lines(path)]
        assert len(places) == len(set(places)) == wanted
        assert all(re.fullmatch(r"[\w-]{11}", name) for name, _ in places)


def test_the_camera_cuts_where_a_clip_begins_and_ends_and_nowhere_in_it(demo, drawn):
    rule = ShotRule()
    for path in demo.videos.iterdir():
        payload = path.read_bytes()
        frames, fps = probe(payload).frames, probe(payload).fps
        scores = np.array(list(content_scores(read_frames(payload, range(frames)))))
        cuts = set(np.flatnonzero(scores >= rule.threshold))
        clips = [bounds(row, fps) for row, _, _ in drawn if row["YoutubeID"] == path.stem]
        assert {bound for clip in clips for bound in clip} - {0, frames} <= cuts
        assert not cuts & {frame for start, end in clips for frame in range(start + 1, end)}


def near(frames, rgb):
    """Returns the number of pixels of a colour, up to its shade, in each frame: (T,)."""
    shade = np.rint(0.94 * np.array(rgb)).astype(np.int16)
    return (np.abs(frames.astype(np.int16) - shade) < 30).all(-1).sum((1, 2))


def test_decoded_frames_show_the_colours_of_the_attributes_and_no_others(drawn):
    for row, frames, _ in drawn:
        shown = {name for name, rgb in COLOURS.items() if near(frames[::3], rgb).max() >= 25}
        assert shown == {v for name, v in row["Attributes"].items() if name.startswith("colour")}, row


def test_a_later_event_begins_later(drawn):
    for row, frames, payload in drawn:
        words = row["Attributes"]
        if words["order"] == "then" and words["colour"] != words["colour2"]:
            first, second = (np.argmax(near(frames, COLOURS[words[c]]) > 8) for c in ("colour", "colour2"))
            assert first < second
            assert second / probe(payload).fps >= float(words["begins2"])


def test_sound_is_where_the_attributes_say(drawn):
    heard = set()
    for row, _, payload in drawn:
        sound = row["Attributes"]["sound"]
        samples = cut_sound(row, payload) if probe(payload).audio else np.zeros(800)
        assert (np.abs(samples).max() > 0.1) == (sound != "none")
        if sound != "none":
            heard.add(sound)
            loudest = np.abs(np.fft.rfft(samples)).argmax() * 16000 / len(samples)
            assert {"low": 150, "beeping": 450, "high": 950}[sound] < loudest
            assert loudest < {"low": 260, "beeping": 750, "high": 1450}[sound]
    assert len(heard) >= 2


def cut_sound(row, payload):
    """The sound of a clip without its first and last tenth of a second."""
    with av.open(io.BytesIO(payload)) as container:
        sound = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    start, end = (seconds(row[f"{name}_timestamp"]) for name in ("Start", "End"))
    return sound[int((start + 0.1) * 16000) : int((end - 0.1) * 16000)]
