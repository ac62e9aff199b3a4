"""Media that the annotations of these tests are about."""

import pytest

from tests.data_pipelines.sources.helpers import make_media


@pytest.fixture
def media(tmp_path):
    return make_media(tmp_path)
