"""Sounds of events in the demo corpus: the same pictures, a voice for each motion, captions of them."""

import hashlib
import json

import numpy as np
import pytest

from ivjax.cli import main
from ivjax.data_pipelines.demo.demo_video import DemoKind, DemoVideo
from ivjax.data_pipelines.demo.event_sound import VOICES
from ivjax.data_pipelines.demo.grammar import HEARD_WORDS
from ivjax.data_pipelines.demo.scene import MOTIONS, SOUND_OF
from ivjax.data_pipelines.demo.sound import RATE
from ivjax.data_pipelines.video.decode import probe, read_frames
from ivjax.data_pipelines.video.filter_bank import filter_bank
from ivjax.data_pipelines.video.sound import read_sound

SUFFIXES = ("", "2", "3")


def shots_of(videos, held_out=False):
    """The clips of some videos whose events are heard."""
    films = (DemoVideo(1, number, 4, held_out, DemoKind("events"))._film for number in range(videos))
    return [shot for film in films for shot in film.shots if shot.told is not None]


def test_a_corpus_of_tones_says_what_it_said_before_there_were_other_sounds():
    rows = [[v.id, v.rows(), v.dialogues()] for v in (DemoVideo(7, n, 5, n == 2) for n in range(3))]
    digest = hashlib.sha256(json.dumps(rows).encode()).hexdigest()
    assert digest == "1e6ab2f9db7b2752f624467a4dfeadc7541bbc7333c27a3beb8b2ff258641452"


def test_events_are_heard_beside_the_same_pictures(tmp_path):
    plain, sounding = DemoVideo(1, 0, 3, False), DemoVideo(1, 0, 3, False, DemoKind("events"))
    assert plain.id != sounding.id
    pictures = [shot.scene.events for shot in plain._film.shots]
    assert [shot.scene.events for shot in sounding._film.shots] == pictures
    command = ["data", "demo", str(tmp_path), "--clips", "3", "--held-out", "0", "--seed", "1"]
    assert main([*command, "--sounds", "events"]) == 0
    (payload,) = (path.read_bytes() for path in (tmp_path / "videos").iterdir())
    other = plain.encode()
    assert probe(payload).audio
    frames = range(probe(other).frames)
    np.testing.assert_array_equal(read_frames(payload, frames), read_frames(other, frames))
    assert np.abs(read_sound(payload, RATE).samples).max() > 3000


def test_each_event_is_heard_from_its_begin_to_its_end_and_nothing_else_is():
    for shot in shots_of(3):
        sound = shot.sound()
        assert len(sound) == round(shot.scene.frames / shot.scene.fps * RATE)
        silent = np.ones(len(sound), bool)
        for event in shot.scene.events:
            here = slice(round(event.begins * RATE), round(event.ends * RATE))
            assert np.abs(sound[here].astype(int)).max() > 2000, event.motion
            silent[here] = False
        assert not sound[silent].any()


def test_every_motion_is_told_by_its_voice():
    def described(held_out, videos):
        single = [shot for shot in shots_of(videos, held_out) if len(shot.scene.events) == 1]
        banks = [filter_bank(shot.sound().astype(np.float32) / 2**15, 64) for shot in single]
        found = np.array([np.concatenate([bank.mean(0), bank.std(0)]) for bank in banks])
        return found, np.array([MOTIONS.index(shot.scene.events[0].motion) for shot in single])

    (known, motions), (asked, wanted) = described(False, 16), described(True, 8)
    # The nearest of the known sounds, whatever the size, the speed and the pitch.
    scale = known.std(0) + 1e-3
    distances = np.linalg.norm((asked[:, None] - known[None]) / scale, axis=-1)
    assert VOICES.keys() == SOUND_OF.keys() == set(MOTIONS)
    assert np.mean(motions[distances.argmin(1)] == wanted) > 0.75


@pytest.fixture(scope="module")
def rows():
    return [row for number in range(40) for row in DemoVideo(1, number, 5, False, DemoKind("events")).rows()]


def test_captions_of_sounds_tell_of_each_event_in_its_order(rows):
    for row in rows:
        words = row["Attributes"]
        if row["UMT_Score"] <= 0.38:  # its captions are about something else
            continue
        sounds = [words["sound" + suffix] for suffix in SUFFIXES if "sound" + suffix in words]
        assert sounds == [SOUND_OF[words["motion" + s]] for s in SUFFIXES if "motion" + s in words]
        for caption in row["Audio_Captions"]:
            spoken = sorted((caption.find(w), k) for k, ws in HEARD_WORDS.items() for w in ws if w in caption)
            named = [kind for _, kind in spoken]
            assert sorted(set(named)) == sorted(set(sounds)), caption
            if words["order"] == "then" and len(set(sounds)) == len(sounds):
                assert named == sounds, caption


def test_only_full_captions_of_clips_tell_of_sounds(rows):
    heard = [w for words in HEARD_WORDS.values() for w in words]
    told = [any(w in c for w in heard) for row in rows for c in row.get("Captions", [row["Caption"]])]
    assert 0.15 < np.mean(told) < 0.4
