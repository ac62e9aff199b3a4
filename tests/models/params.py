"""Parameters for tests to which any values will do."""

from typing import Any

import jax
import numpy as np

from ivjax.ops.trees import map_with_path


def any_params(model: Any) -> dict[str, Any]:
    """Float32 parameters of a model, none of them zero: scales and variances are near 1, all else is near 0.

    Drawn by numpy, because to compile a model's own `init` takes longer than most tests do.
    """
    rng = np.random.default_rng(0)

    def drawn(path: str, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        near = 1.0 if path.endswith(("/scale", "/variance")) else 0.0
        return (near + 0.1 * rng.normal(size=leaf.shape)).astype(np.float32)

    return map_with_path(drawn, jax.eval_shape(model.init, jax.random.key(0)))
