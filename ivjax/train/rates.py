"""Speed between two log lines."""

import jax

from ivjax.stages.objective import Objective
from ivjax.train.hardware import peak_flops
from ivjax.train.ledger import TimeLedger


class Rates:
    """Clips/s, tokens/s, analytic TFLOP/s per device, MFU and the share of time spent on waiting for data.

    Only the time of steps counts: what the ledger books to checkpoints and evals is left out.
    """

    def __init__(self, objective: Objective, batch: int, devices: int, ledger: TimeLedger):
        self._tokens = objective.tokens
        self._flops = sum(objective.flops.values())
        self._batch = batch
        self._devices = devices
        self._ledger = ledger
        self._peak = peak_flops(jax.devices()[0].device_kind)
        self._step, self._before = 0, ledger.totals()

    def since_last(self, step: int) -> dict[str, float | str]:
        """Rates since the call before, now that `step` steps of this session are done."""
        now = self._ledger.totals()
        waited = now["data wait"] - self._before["data wait"]
        seconds = waited + now["step"] - self._before["step"]
        clips = (step - self._step) * self._batch / max(seconds, 1e-9)
        achieved = clips * self._flops / self._devices
        self._step, self._before = step, now
        return {
            "clips/s": clips,
            "tokens/s": clips * self._tokens,
            "TFLOP/s/device": achieved / 1e12,
            "MFU": achieved / self._peak if self._peak else "unknown",
            "data_wait": waited / max(seconds, 1e-9),
        }
