"""Depth must not cost compile time: the layers are scanned, so the program does not grow."""

import jax
import pytest

from ivjax.experiment.overrides import apply_overrides
from ivjax.train.step import init_state, make_step
from tests.train.micro import experiment


def program_lines(depth: int, *overrides: str) -> int:
    """Lines of the compiled step's program."""
    deep = apply_overrides(experiment, [f"stage.student.depth={depth}", *overrides])
    objective = deep.stage.build(deep.compute)
    state = jax.eval_shape(lambda key: init_state(objective.init(key), deep.recipe), jax.random.key(0))
    batch = {n: jax.ShapeDtypeStruct((16, *s.shape), s.dtype) for n, s in objective.main.batch.items()}
    lowered = jax.jit(make_step(objective, deep.recipe), donate_argnums=0).lower(state, {}, batch)
    return len(lowered.compile().as_text().splitlines())


@pytest.mark.slow
def test_forty_layers_make_the_program_of_twelve():
    assert program_lines(40, "remat=full") == pytest.approx(program_lines(12, "remat=full"), rel=0.02)


@pytest.mark.slow
def test_unrolled_layers_do_grow_the_program():
    assert program_lines(6, "scan_layers=false") > 1.3 * program_lines(2, "scan_layers=false")
