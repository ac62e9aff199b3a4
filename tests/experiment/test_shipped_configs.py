"""The shipped configs: golden texts of all experiments and variants, and that they are whole.

`python -m tests.records` writes the golden texts.
"""

from collections.abc import Sequence
from pathlib import Path

import pytest

from ivjax.data_pipelines.load.mixture import Media, Mixture
from ivjax.experiment.files import load_experiment, shipped_configs, variants_of
from ivjax.experiment.listing import diff, leaves, resolved_text
from ivjax.experiment.overrides import apply_overrides

TEXTS = Path(__file__).parents[1] / "configs"


def write_texts(names: Sequence[str] = ()) -> None:
    """Writes the golden texts of the configs of these names; without names, of all."""
    for pattern in [f"{name}.*" for name in names] or ["*.txt"]:
        for old in TEXTS.glob(pattern):
            old.unlink()
    for name in names or shipped_configs():
        for file, text in texts_of(name).items():
            (TEXTS / file).write_text(text)


def texts_of(name: str) -> dict[str, str]:
    """The golden texts of a config: its own experiment whole, each variant as its difference from it."""
    whole = load_experiment(name)
    texts = {f"{name}.txt": resolved_text(whole)}
    variants = [
        "\n  ".join([variant, *diff(leaves(whole), leaves(load_experiment(f"{name}:{variant}")))])
        for variant in variants_of(name)
    ]
    return texts | ({f"{name}.variants.txt": "\n".join([*variants, ""])} if variants else {})


@pytest.mark.parametrize("name", sorted(shipped_configs()))
def test_resolved_texts_of_shipped_configs_and_their_variants(name):
    texts = texts_of(name)
    assert {file.name for file in TEXTS.glob(f"{name}.*")} == set(texts)
    for file, text in texts.items():
        assert text == (TEXTS / file).read_text(), file


@pytest.mark.parametrize("name", sorted(shipped_configs()))
def test_the_stage_of_every_variant_takes_what_its_data_gives(name):
    for variant in ["", *(f":{variant}" for variant in variants_of(name))]:
        found = load_experiment(name + variant)
        objective = found.stage.build(found.compute)
        mixtures = found.data.mixtures if isinstance(found.data, Media) else {"video": found.data}
        for medium, mixture in mixtures.items():
            if isinstance(mixture, Mixture):
                rows = objective.media[medium].batch
                assert rows["video"].shape[0] == mixture.fields["video"].rule.frames, variant
                tags = mixture.fields.get("targets")
                classes = "targets" in rows and (tags.shape if tags else (mixture.mix.classes,))
                assert not classes or rows["targets"].shape == classes, variant


@pytest.mark.parametrize("name", ["viclip_b16:two_phases", "viclip_l14:two_phases"])
def test_changes_of_phases_are_overrides_of_the_experiment(name):
    found = load_experiment(name)
    assert len(found.phases) == 2
    for phase in found.phases:
        assert apply_overrides(found, phase.changes).stage.mask == (0.0 if phase.changes else 0.9)
