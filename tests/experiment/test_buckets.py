"""Addresses of buckets, and mirrors of what lies in them."""

import importlib.util

import pytest

from ivjax.errors import UserError
from ivjax.experiment import bucket_files
from ivjax.experiment.bucket_files import is_bucket
from ivjax.experiment.buckets import address_of, local, opened
from ivjax.experiment.run_folder import checkpoint_steps


def test_what_is_an_address():
    assert is_bucket("gs://bucket/runs/a b") and is_bucket("gs://bucket") and is_bucket("s3://bucket/run")
    assert not any(
        map(is_bucket, ("runs/x", "/gs:/x", "gs:/bucket/x", "gs://", "https://host/x", "gs://b/x#y"))
    )
    assert local("runs/x").as_posix() == "runs/x"


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("s3://bucket/run", "of buckets gs:// alone is taken"),
        ("gs://bucket", "is a whole bucket; name a folder in it"),
        ("gs://bucket/run", "needs gcsfs: pip install 'ivjax\\[gcs\\]'"),
    ],
)
def test_what_cannot_be_opened_is_one_sentence(address, sentence, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        bucket_files.importlib.util, "find_spec", lambda name: None if name == "gcsfs" else find(name)
    )
    with pytest.raises(UserError, match=sentence), opened(address, print):
        pass


def test_a_folder_of_this_machine_is_its_own(tmp_path):
    with opened(str(tmp_path), print) as folder:
        assert folder == tmp_path and address_of(folder) is None and checkpoint_steps(folder) == []


def test_phases_have_the_address_of_their_place(tmp_path):
    (tmp_path / ".bucket").write_text("gs://bucket/run")
    assert address_of(tmp_path) == "gs://bucket/run"
    assert address_of(tmp_path / "phases" / "1_short") == "gs://bucket/run/phases/1_short"
