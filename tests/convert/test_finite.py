"""NaN and infinities in weights: named by inspect, refused by all that reads, unless they are allowed."""

import ml_dtypes
import numpy as np
import pytest

import ivjax
from ivjax.cli import main
from ivjax.convert.comparison import ImportChoices
from ivjax.convert.conversion import export_file, import_file, inspect_file
from ivjax.convert.formats.finite import non_finite
from ivjax.convert.formats.opening import open_tensors
from ivjax.convert.origins import import_into
from ivjax.convert.weights import import_weights
from ivjax.errors import UserError
from tests.convert.originals import originals, use_small_families, write_originals

BAD = "text_encoder.text_projection"


@pytest.fixture
def spoilt(tmp_path, monkeypatch):
    """A file with two NaN in one tensor and an infinity in another."""
    use_small_families(monkeypatch)
    tensors = originals()
    tensors[BAD].flat[[0, 7]] = np.nan
    tensors["temp"] = np.float32(-np.inf).reshape(())
    return write_originals(tmp_path / "w.pth", tensors)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
@pytest.mark.parametrize("size", [5, 2**20 + 3])
def test_numbers_that_are_not_finite_are_counted_in_every_dtype(dtype, size):
    largest = float(ml_dtypes.finfo(dtype).max)
    tensor = np.full((size, 1), largest, dtype)
    tensor[0] = -largest
    assert non_finite(tensor) == ""
    tensor[-1] = np.inf
    assert non_finite(tensor) == f"1 infinite of {size:,} numbers"
    tensor[1:3] = np.nan
    assert non_finite(tensor.T) == f"2 NaN and 1 infinite of {size:,} numbers"
    assert non_finite(np.full(3, -1)) == ""


def test_inspect_names_the_tensors_and_counts_the_numbers(spoilt, capsys):
    report = inspect_file(spoilt)
    assert report.non_finite == {"temp": "1 infinite of 1 numbers", BAD: "2 NaN of 48 numbers"}
    assert not report.fits and report.errors == 2
    assert f"{BAD} holds 2 NaN of 48 numbers" in report.problems()
    allowed = inspect_file(spoilt, ImportChoices(allow_non_finite=True))
    assert allowed.fits and f"allowed   {BAD} holds 2 NaN" in allowed.text()
    assert inspect_file(spoilt, values=False).fits
    statuses = [
        main(["convert", "inspect", str(spoilt), *more]) for more in ([], ["--quick"], ["--allow-non-finite"])
    ]
    assert statuses == [1, 0, 0]
    assert f"error     {BAD} holds 2 NaN of 48 numbers" in capsys.readouterr().out


def test_all_that_reads_refuses_them_in_one_sentence(spoilt, tmp_path):
    words = rf"({BAD}|temp) of .*w.pth holds .* `ivjax convert inspect` lists .*w.pth\?nonfinite=allow reads"
    target = import_weights(f"{spoilt}?nonfinite=allow").params
    for read in (
        lambda: import_file(spoilt, tmp_path / "own.safetensors"),
        lambda: import_weights(spoilt),
        lambda: ivjax.load(spoilt),
        lambda: import_into(spoilt, target),
    ):
        with pytest.raises(UserError, match=words):
            read()
    assert list(tmp_path.iterdir()) == [spoilt]


def test_they_are_read_and_written_bit_for_bit_where_they_are_allowed(spoilt, tmp_path):
    own, back = tmp_path / "own.safetensors", tmp_path / "back.pth"
    import_file(spoilt, own, ImportChoices(allow_non_finite=True))
    with pytest.raises(UserError, match="own.safetensors holds"):
        export_file(own, back)
    export_file(f"{own}?nonfinite=allow", back)
    theirs, ours = open_tensors(spoilt), open_tensors(back)
    assert all(theirs[name].tobytes() == ours[name].tobytes() for name in theirs)
    params = ivjax.load(f"{spoilt}?nonfinite=allow").params
    leaves = import_into(f"{spoilt}?nonfinite=allow", params)
    assert np.isneginf(leaves["temperature"]) and np.isnan(leaves["text/proj/kernel"]).sum() == 2
