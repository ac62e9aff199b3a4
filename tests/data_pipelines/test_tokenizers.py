"""Tokenizers against golden ids and by hand, their files when missing or wrong, and training a new one."""

import gzip
import json
import os
import pickle
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from ivjax.data_pipelines.store.dialogues import MEDIA_MARK, Dialogue
from ivjax.data_pipelines.store.records import Turn
from ivjax.data_pipelines.tokenizers import clip_bpe, sentencepiece_training
from ivjax.data_pipelines.tokenizers.bert import BertWordPiece
from ivjax.data_pipelines.tokenizers.caption_text import clean_caption
from ivjax.data_pipelines.tokenizers.chat_tokenizer import ChatTokenizer
from ivjax.data_pipelines.tokenizers.clip_bpe import ClipBpe
from ivjax.data_pipelines.tokenizers.sentencepiece_training import (
    END,
    PAD,
    START,
    corpus_captions,
    corpus_turns,
    train_sentencepiece,
)
from ivjax.data_pipelines.tokenizers.spm import SentencePiece
from ivjax.errors import UserError
from tests.data_pipelines.corpora import corpus_of, make_clip
from tests.goldens import Golden

FILES = Path(__file__).parent.parent / "golden"
GOLDEN = Golden("stage2_data_rules")
PIECES = (
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "man", "cafe", "play", "##ing", "##s", "'", "!"),
    *("你", "好", "un", "##known", "3", ".", "##1"),
)


def write_clip_vocabulary(file, merges):
    """A file laid out like the public one; merges that are not given can match nothing."""
    lines = [" ".join(merges.get(rank, (f"中{rank}", "文"))) for rank in range(clip_bpe.MERGES)]
    file.write_bytes(gzip.compress("\n".join(['"a#version: 0.2', *lines, ""]).encode(), 1))
    return str(file)


@pytest.fixture(scope="module")
def clip_vocabulary(tmp_path_factory):
    stored = json.loads((FILES / "clip_bpe_merges.json").read_text())
    merges = {int(rank): pair for rank, pair in stored.items()}
    return write_clip_vocabulary(tmp_path_factory.mktemp("clip") / "bpe.txt.gz", merges)


@pytest.fixture
def bert_vocabulary(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES) + "\n")
    return str(tmp_path / "vocab.txt")


def assert_clip_ids(path):
    texts = GOLDEN.json["texts"]
    tables = {key: ids for key, ids in GOLDEN.group("outputs").items() if "_token_ids_" in key}
    assert {key.split("_")[0] for key in tables} == {"viclip", "openclip"}
    for key, wanted in tables.items():
        tokenizer, change = ClipBpe(path, wanted.shape[1]), clean_caption if "pretext" in key else str
        ids = np.stack([tokenizer.encode(change(text)) for text in texts])
        assert ids.dtype == np.int32
        np.testing.assert_array_equal(ids, wanted, err_msg=key)


@pytest.mark.golden
def test_stage2_data_rules_clip_ids_are_those_of_both_originals(clip_vocabulary):
    assert_clip_ids(clip_vocabulary)
    assert ClipBpe().vocabulary_size == GOLDEN.json["cases"]["bpe_vocab"]["size"]


@pytest.mark.golden
@pytest.mark.skipif(
    "IVJAX_CLIP_BPE" not in os.environ, reason="IVJAX_CLIP_BPE names no public CLIP vocabulary"
)
def test_stage2_data_rules_clip_ids_with_the_public_file():
    assert_clip_ids(os.environ["IVJAX_CLIP_BPE"])


def test_clip_reads_quotes_entities_and_wide_letters_as_plain_ones(clip_vocabulary):
    tokenizer = ClipBpe(clip_vocabulary, 32)
    plain = tokenizer.encode('it\'s a "quick" fox & fine dogs 12')
    for text in (
        "IT\u2019S a \u201cquick\u201d fox &amp; \ufb01ne dogs 12",
        "it&#39;s  a &quot;quick&quot; fox &amp;amp; fine\tdogs 12\n",
        'it\'s a "quick" fox & fine dogs \uff11\uff12',
        'it\'s a "qui\x00ck" fox & fine\ufeff dogs 12',
    ):
        np.testing.assert_array_equal(tokenizer.encode(text), plain)


def test_clip_cuts_words_at_numerals_clitics_and_signs():
    words = clip_bpe._word_pattern().findall("dog's 42x² ½ten हिं_the!? don't 中文")
    assert words == ["dog", "'s", "4", "2", "x", "²", "½", "ten", "ह", "िं_", "the", "!?", "don", "'t", "中文"]


def test_no_numeral_lies_above_the_planes_that_clip_looks_through():
    assert not any(unicodedata.category(chr(c)).startswith("N") for c in range(0x20000, 0x110000))
    assert clip_bpe._word_pattern().findall("x\U0001fbf9y") == ["x", "\U0001fbf9", "y"]


def test_clip_merges_the_lowest_rank_first_and_all_its_occurrences(tmp_path):
    merges = {0: ("b", "a"), 1: ("a", "b"), 2: ("ba", "ba"), 3: ("a", "n</w>")}
    tokenizer = ClipBpe(write_clip_vocabulary(tmp_path / "few.gz", merges), 8)
    letter = {char: ord(char) - 33 for char in "abn"}
    expected = [49406, 512 + 2, 256 + letter["b"], 512 + 3, letter["b"], 256 + letter["n"], 49407, 0]
    np.testing.assert_array_equal(tokenizer.encode("babab an bn"), expected)


def test_bert_pieces_are_the_longest_that_fit(bert_vocabulary):
    tokenizer = BertWordPiece(bert_vocabulary, 12, len(PIECES))

    def pieces(text):
        return " ".join(PIECES[i] for i in tokenizer.encode(text) if i)

    assert pieces("A MAN playing") == "[CLS] a man play ##ing [SEP]"
    assert pieces("Café's 你好!!") == "[CLS] cafe ' [UNK] 你 好 ! ! [SEP]"
    assert pieces("\u0000a\u200b man\u00a03.1") == "[CLS] a man 3 . [UNK] [SEP]"
    assert pieces("a" * 101 + " unknown31") == "[CLS] [UNK] [UNK] [SEP]"
    assert pieces("unknowns man1 [MASK]") == "[CLS] un ##known ##s man ##1 [UNK] [UNK] [UNK] [SEP]"


def test_bert_pads_with_0_and_keeps_the_separator_of_a_long_text(bert_vocabulary):
    tokenizer = BertWordPiece(bert_vocabulary, 6, len(PIECES))
    np.testing.assert_array_equal(tokenizer.encode("a man"), [2, 5, 6, 3, 0, 0])
    np.testing.assert_array_equal(tokenizer.encode("man " * 9), [2, 6, 6, 6, 6, 3])
    assert tokenizer.mask == 4


def test_sentencepiece_ids_are_those_of_the_original_pipeline():
    tokenizer = SentencePiece(str(FILES / "s3_spm_internlm.model"), 8, start=False, end=False)
    np.testing.assert_array_equal(
        tokenizer.encode("The person sits down ."), [283, 321, 266, 320, 384, 379, 265, 0]
    )
    np.testing.assert_array_equal(
        tokenizer.encode("It jumps three times ."), [340, 365, 262, 359, 329, 265, 0, 0]
    )


def test_sentencepiece_keeps_the_end_of_a_long_text_and_reads_the_prefix_as_text():
    path = str(FILES / "s3_spm_llama.model")
    bare = SentencePiece(path, 40, start=False, end=False)
    joined = bare.encode("summarize:a man")
    ids = joined[joined != 0]
    whole = SentencePiece(path, 40, prefix="summarize:").encode("a man")
    np.testing.assert_array_equal(whole, [1, *ids, 2, *[0] * (38 - len(ids))])
    cut = SentencePiece(path, 6, prefix="summarize:", pad=7)
    np.testing.assert_array_equal(cut.encode("a man"), [1, *ids[:4], 2])
    assert cut.vocabulary_size == 420


def test_tokenizers_pickle_after_use(clip_vocabulary, bert_vocabulary):
    spm = SentencePiece(str(FILES / "s3_spm_llama.model"), 20)
    for tokenizer in (ClipBpe(clip_vocabulary, 20), BertWordPiece(bert_vocabulary, 20, len(PIECES)), spm):
        expected = tokenizer.encode("a man")
        sent = pickle.dumps(tokenizer)
        assert len(sent) < 500
        np.testing.assert_array_equal(pickle.loads(sent).encode("a man"), expected)


@pytest.mark.parametrize(
    "kind,name", [(ClipBpe, "bpe_simple"), (BertWordPiece, "vocab.txt"), (SentencePiece, "model")]
)
def test_a_missing_vocabulary_is_named_with_what_to_do(kind, name, tmp_path):
    with pytest.raises(UserError, match=f"nowhere is missing: .*{name}.*ivjax data tokenizer train"):
        kind(str(tmp_path / "nowhere")).encode("a")
    with pytest.raises(UserError, match=f"no vocabulary file: .*{name}.*ivjax data tokenizer train"):
        kind().encode("a")


def test_a_vocabulary_of_another_kind_or_size_is_refused(clip_vocabulary, bert_vocabulary, tmp_path):
    model = str(FILES / "s3_spm_llama.model")
    short = tmp_path / "short.gz"
    short.write_bytes(gzip.compress(b'"#version: 0.2\ni n\nt h\n'))
    cut = tmp_path / "cut.gz"
    cut.write_bytes(Path(clip_vocabulary).read_bytes()[:5000])
    (tmp_path / "empty").touch()
    for tokenizer, words in (
        (ClipBpe(bert_vocabulary), "cannot be read as bpe_simple"),
        (ClipBpe(str(short)), "48894 or more lines"),
        (ClipBpe(str(cut)), "cannot be read as bpe_simple"),
        (BertWordPiece(clip_vocabulary), "is not vocab.txt .* it is not UTF-8 text"),
        (BertWordPiece(__file__), r"it has no line \[PAD\]"),
        (BertWordPiece(bert_vocabulary), f"has {len(PIECES)} pieces .* is 30522"),
        (SentencePiece(bert_vocabulary), "is not a SentencePiece model"),
        (SentencePiece(str(tmp_path / "empty")), "it is empty"),
        (SentencePiece(model, pieces=32000), "has 420 pieces and the tokenizer wants 32000"),
        (SentencePiece(model, length=1), "has no room"),
    ):
        with pytest.raises(UserError, match=words):
            tokenizer.encode("a man")


CAPTIONS = [
    f"a {c} {s} moves {d}" for c in ("red", "blue") for s in ("circle", "star") for d in ("left", "up")
]


def test_a_trained_tokenizer_is_the_same_again_and_fits_the_defaults(tmp_path):
    for name in ("one", "two"):
        train_sentencepiece(iter(CAPTIONS), tmp_path / name / "spm.model", 300)
    one, two = ((tmp_path / name / "spm.model").read_bytes() for name in ("one", "two"))
    assert one == two
    ids = SentencePiece(str(tmp_path / "one" / "spm.model"), 64, pieces=300).encode("a blue star é moves up")
    used = ids[: np.flatnonzero(ids == END)[0] + 1]
    assert used[0] == START and PAD not in used and (ids[len(used) :] == PAD).all()


def test_many_captions_are_sampled_from_first_to_last_always_alike(tmp_path):
    captions = CAPTIONS * 60 + ["some zebras yawn"] * 480
    for name in ("one", "two"):
        train_sentencepiece(captions, tmp_path / name, 300, most=120)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    tokenizer = SentencePiece(str(tmp_path / "one"), 9, start=False, end=False)
    assert all(np.count_nonzero(tokenizer.encode(word)) <= 3 for word in ("moves", "zebras"))
    assert np.count_nonzero(tokenizer.encode("vozema")) >= 6


@pytest.mark.parametrize(
    "captions,size,words",
    [
        ([], 300, "no captions"),
        ([" "], 300, "no captions"),
        (CAPTIONS, 20, "required_chars"),
        (CAPTIONS, 9000, "<= "),
    ],
)
def test_training_that_cannot_be_leaves_nothing_behind(tmp_path, captions, size, words):
    with pytest.raises(UserError, match=words):
        train_sentencepiece(captions, tmp_path / "spm.model", size)
    assert not list(tmp_path.iterdir())


def test_captions_of_a_corpus_are_read_in_order_and_cleaned(tmp_path):
    clips = [make_clip(n, 1, captions=(f"A Red-{n} star!", "two")) for n in range(4)]
    folder = corpus_of(tmp_path, clips, 2)
    assert list(corpus_captions(folder)) == [t for n in range(4) for t in (f"a red {n} star", "two")]
    assert list(corpus_captions(folder, clean=False))[0] == "A Red-0 star!"


def test_marks_of_turns_are_one_piece_of_a_model_of_conversations(tmp_path, monkeypatch):
    asked = "Which colour?\n(A)"
    talks = [
        Dialogue(colour, (), (Turn("user", f"{MEDIA_MARK}{asked} {colour}"), Turn("assistant", colour)))
        for colour in ("red", "green", "blue")
    ]

    class Stored(list):
        def close(self):
            pass

    monkeypatch.setattr(sentencepiece_training, "StoredDialogues", lambda folder: Stored(talks))
    texts = list(corpus_turns(tmp_path))
    assert texts[:2] == [f"{asked} red", "red"] and len(texts) == 6
    train_sentencepiece(texts, tmp_path / "talks.model", 320, as_it_comes=True)
    tokenizer = ChatTokenizer(str(tmp_path / "talks.model"))
    for mark in ("[INST]", "[/INST]", "<Video>", "</Video>"):
        with_blank = tokenizer.pieces(f"{mark} red")
        assert len(with_blank) == len(tokenizer.pieces("red")) + 2, mark  # a blank and the mark
