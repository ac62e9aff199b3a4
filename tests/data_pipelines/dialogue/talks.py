"""A small corpus of conversations about videos whose frames carry their numbers."""

import json

import numpy as np

from ivjax.data_pipelines.augment.recipe import TEST
from ivjax.data_pipelines.build.build_corpus import build_rows
from ivjax.data_pipelines.build.options import BuildOptions
from ivjax.data_pipelines.dialogue.seeing import Seeing
from ivjax.data_pipelines.dialogue.videochat2 import VideoChat2
from ivjax.data_pipelines.fields import ArraySpec, Turns
from ivjax.data_pipelines.load.mixture import Corpus, Dialogues
from ivjax.data_pipelines.sampling import PerSecond
from ivjax.data_pipelines.sources.open_source import open_source
from ivjax.data_pipelines.tokenizers.chat_tokenizer import ChatTokenizer
from ivjax.data_pipelines.video.encode import encode_image
from tests.data_pipelines.footage import HEIGHT, QUICK, WIDTH, coded, write_video
from tests.goldens import FOLDER

CLIP, IMAGE = 3, 2  # visual tokens of a clip of two frames, and of an image
TOKENIZER = ChatTokenizer(str(FOLDER / "s3_spm_llama.model"))


def ask(*pairs, instruction=""):
    return [{"i": instruction if n == 0 else "", "q": q, "a": a} for n, (q, a) in enumerate(pairs)]


def talk_rows():
    """BucketRows of VideoChat2's format about two videos of 2 s and two images."""
    rows = [
        {"video": "a.mp4", "QA": ask(("What does the cat do ?", "It jumps ."), instruction="Describe .")},
        {"video": "a.mp4", "start": 0.4, "end": 1.6, "QA": ask(("Who ?", "The person ."), ("How ?", "."))},
        {"video": "b.mp4", "start": 1.0, "end": 2.0, "QA": ask(("", "The person sits down ."))},
        {"video": "b.mp4", "QA": ask(("How many times ?", "Three times ."))},
        {"image": "c.png", "QA": ask(("What is it ?", "A door ."))},
        {"image": ["c.png", "d.png"], "QA": ask(("Which ?", "The person ."))},
    ]
    return rows + [
        {"video": "a.mp4", "start": 0.1 * n, "end": 0.1 * n + 0.5, "QA": ask((f"What {n} ?", "It jumps ."))}
        for n in range(14)
    ]


def write_media(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name, frames in (("a", 50), ("b", 48)):
        write_video(folder / f"{name}.mp4", frames)
    for number, name in ((200, "c"), (100, "d")):
        (folder / f"{name}.png").write_bytes(encode_image(coded(number)))
    return folder


def build_talks(folder, rows=None, said=lambda line: None, **options):
    """Builds rows into `folder/corpus`; returns its path and the report."""
    media = write_media(folder / "media")
    table = folder / "talks.json"
    table.write_text(json.dumps(talk_rows() if rows is None else rows))
    values = {"recipe": QUICK, "shard_clips": 2, "workers": 1, **options}
    build = BuildOptions(str(table), folder / "corpus", **values)
    report = build_rows(open_source(table, "instructions", media), build, said)
    return folder / "corpus", report


def spec(tokens, clips, images=0):
    """What a stage wants of a row."""
    form = (HEIGHT, WIDTH, 3)
    words = {name: ((tokens,), np.int32) for name in ("ids", "targets", "answer_tokens", "segments")}
    words |= {name: ((tokens,), np.int32) for name in ("positions", "places")}
    media = {"video": ((clips, 2, *form), np.uint8), "clip_segments": ((clips,), np.int32)}
    if images:
        media |= {"images": ((images, *form), np.uint8), "image_segments": ((images,), np.int32)}
    slots = clips * CLIP + images * IMAGE
    every = {**words, **media, "visual_segments": ((slots,), np.int32), "index": ((), np.uint32)}
    return {name: ArraySpec(shape, np.dtype(kind)) for name, (shape, kind) in every.items()}


def turns(images=True, language="vicuna"):
    """The field of conversations: two frames a second, in clips of two."""
    seeing = Seeing(PerSecond(4, 2.0, "spread"), CLIP, IMAGE if images else 0, TEST)
    return Turns(VideoChat2(language), TOKENIZER, seeing)


def dialogues(*folders, field=None, **options):
    corpora = tuple(Corpus(str(folder)) for folder in folders)
    values = {"workers": 0, **options}
    return Dialogues(corpora, {"dialogue": field or turns()}, **values)
