"""Apache Beam builds the same bytes as the local pool; without it, the error says what to install."""

import importlib.util

import pytest

from ivjax.data_pipelines.sources.row import SourceRow
from ivjax.data_pipelines.store.manifest import read_manifest
from ivjax.errors import UserError
from tests.data_pipelines.footage import build_small, contents, some_rows


@pytest.fixture
def rows(tmp_path):
    return [*some_rows(tmp_path / "videos"), SourceRow("lost", str(tmp_path / "no.mp4"))]


@pytest.mark.parametrize(
    "arguments", [(), ("--direct_num_workers=2", "--direct_running_mode=multi_processing")]
)
def test_beam_and_the_pool_write_the_same_bytes(rows, tmp_path, arguments):
    pytest.importorskip("apache_beam")
    build_small(rows, tmp_path / "pool")
    report = build_small(rows, tmp_path / "beam", engine="beam", beam_options=arguments)
    assert report.clips == 12 and report.dropped == {"missing": 1}
    assert read_manifest(tmp_path / "beam").digest == read_manifest(tmp_path / "pool").digest
    assert contents(tmp_path / "beam") == contents(tmp_path / "pool")


def test_beam_goes_on_where_the_pool_was(rows, tmp_path):
    pytest.importorskip("apache_beam")
    build_small(rows, tmp_path / "pool")
    build_small(rows, tmp_path / "both")
    (tmp_path / "both/shard-00001-of-00003.array_record").unlink()
    assert build_small(rows, tmp_path / "both", engine="beam").kept_shards == 2
    assert contents(tmp_path / "both") == contents(tmp_path / "pool")


@pytest.mark.skipif(importlib.util.find_spec("apache_beam") is not None, reason="Apache Beam is installed")
def test_without_beam_the_error_names_the_extra_and_nothing_is_written(rows, tmp_path):
    with pytest.raises(UserError, match=r"ivjax\[beam\]"):
        build_small(rows, tmp_path / "out", engine="beam")
    assert not (tmp_path / "out").exists()
