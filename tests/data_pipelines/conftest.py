"""Corpora that tests of several files read and none of them changes, and a store of buckets."""

import pytest

from ivjax.experiment import bucket_files
from tests.data_pipelines.corpora import corpus_of, make_clip
from tests.data_pipelines.fake_bucket import FakeBucket


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """24 clips of 6 to 10 frames, whose numbers are their labels."""
    return corpus_of(tmp_path_factory.mktemp("corpus"), [make_clip(n, frames=6 + n % 5) for n in range(24)])


@pytest.fixture(scope="session")
def other(tmp_path_factory):
    """Six clips with labels from 100 on."""
    return corpus_of(tmp_path_factory.mktemp("other"), [make_clip(100 + n) for n in range(6)], shards=1)


@pytest.fixture
def bucket(monkeypatch):
    """A store that answers for all buckets."""
    store = FakeBucket()
    monkeypatch.setattr(bucket_files, "_files", lambda address: store)
    return store
