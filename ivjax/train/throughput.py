"""Throughput between two log lines: clips, tokens, FLOPs, and the share of time that waits for data."""

from collections import Counter

import jax

from ivjax.stages.objective import Objective
from ivjax.train.hardware import peak_flops
from ivjax.train.ledger import TimeLedger


class Throughput:
    """Measures clips/s, tokens/s, analytic TFLOP/s per device, MFU and the share of time that waits for data.

    Only the time of steps counts: what the ledger books to checkpoints and evals is left out.
    """

    def __init__(self, objective: Objective, batch: int, devices: int, ledger: TimeLedger):
        self._media = objective.media
        self._batch = batch
        self._devices = devices
        self._ledger = ledger
        self._peak = peak_flops(jax.devices()[0].device_kind)
        self._steps: Counter[str] = Counter()
        self._before = ledger.totals()

    def count(self, medium: str) -> None:
        """Notes that a step on a batch of `medium` was dispatched."""
        self._steps[medium] += 1

    def since_last(self) -> dict[str, float]:
        """Returns the rates over the steps since the call before; MFU where the device's peak is known."""
        now = self._ledger.totals()
        waited = now["data wait"] - self._before["data wait"]
        # Two calls can follow each other at once, at the last step.
        seconds = max(waited + now["step"] - self._before["step"], 1e-9)
        clips = [(self._media[name], steps * self._batch / seconds) for name, steps in self._steps.items()]
        achieved = sum(n * sum(medium.flops.values()) for medium, n in clips) / self._devices
        self._steps.clear()
        self._before = now
        # A start says once that the peak is not known (summary.py).
        mfu = {"MFU": achieved / self._peak} if self._peak else {}
        return {
            "clips/s": sum(n for _, n in clips),
            "tokens/s": sum(n * medium.tokens for medium, n in clips),
            "TFLOP/s/device": achieved / 1e12,
            **mfu,
            "data_wait": waited / seconds,
        }
