"""The processes that train one model together: the workers of TensorFlow's MultiWorkerMirroredStrategy."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from ckptrun.training.keras.model import keras_of

# One agreement a second is never felt; the bound keeps batches that suddenly become slow from putting the next one off for minutes.
_AGREE_EVERY_S = 1.0
_MOST_BATCHES_BETWEEN = 50


class Together:
    """The processes of a MultiWorkerMirroredStrategy: what they do at the same batch, each of them does.

    An ask reaches each at a moment of its own. So they tell each other what they heard, about once a second, at batches that all of
    them know beforehand.
    """

    def __init__(self, strategy: Any, number: int, count: int) -> None:
        self.number, self.count, self.first = number, count, number == 0
        self._batches = self._next = self._last = 0
        self._since = time.monotonic()
        self._sum = _sum(strategy, strategy.num_replicas_in_sync // count)

    def agree(self, run: Any, save: bool, stop: bool) -> tuple[bool, bool]:
        """Return whether all of them are to save, and to stop, after this batch."""
        self._batches += 1
        if self._batches < self._next:
            return False, False
        took_us = int((time.monotonic() - self._since) * 1e6)
        rows = self.rows([save, stop, run.ask, took_us])
        each_s = max(row[3] for row in rows) / 1e6 / max(1, self._batches - self._last)
        self._last, self._since = self._batches, time.monotonic()
        self._next = self._batches + max(1, min(_MOST_BATCHES_BETWEEN, int(_AGREE_EVERY_S / max(each_s, 1e-9))))
        save = any(row[0] for row in rows)
        if save and not self.first:
            run.answer(max(row[2] for row in rows))
        return save, any(row[1] for row in rows)

    def rows(self, numbers: Any) -> list[list[int]]:
        """Give these numbers to all; return those of each process, the first one's first."""
        import numpy

        table = numpy.zeros((self.count, len(numbers)), numpy.int64)
        table[self.number] = numbers
        found: list[list[int]] = self._sum(table).tolist()
        return found

    def exchange(self, content: bytes) -> list[bytes]:
        """Give these bytes to all; return those of each process."""
        lengths = [row[0] for row in self.rows([len(content)])]
        rows = self.rows(list(content.ljust(max(lengths))))
        return [bytes(row[:length]) for row, length in zip(rows, lengths)]  # noqa: B905 Python 3.8 has no `strict`


def _sum(strategy: Any, devices: int) -> Callable[[Any], Any]:
    """Return what adds up a table of all processes: one graph for each size, because an eager collective is traced each time."""
    import tensorflow

    @tensorflow.function  # type: ignore[untyped-decorator]
    def added(table: Any) -> Any:
        def of_device() -> Any:
            device = tensorflow.distribute.get_replica_context()
            mine = table if device.replica_id_in_sync_group % devices == 0 else tensorflow.zeros_like(table)
            return device.all_reduce(tensorflow.distribute.ReduceOp.SUM, mine)

        return strategy.run(of_device)

    return lambda table: strategy.experimental_local_results(added(tensorflow.constant(table)))[0].numpy()


def together_of(model: Any) -> Together | None:
    """Return the processes that train this model, None for one alone. Raises ValueError for those that could not agree."""
    strategy = getattr(model, "distribute_strategy", None)
    resolver: Any = getattr(strategy, "cluster_resolver", None)
    workers = resolver.cluster_spec().as_dict() if resolver is not None and resolver.cluster_spec() else {}
    count = len(workers.get("chief", [])) + len(workers.get("worker", []))
    if count > 1 and set(workers) <= {"chief", "worker", "evaluator"} and not hasattr(keras_of(model), "ops"):
        before = len(workers.get("chief", [])) if resolver.task_type == "worker" else 0
        return Together(strategy, before + resolver.task_id, count)
    jax: Any = sys.modules.get("jax")
    torch: Any = sys.modules.get("torch")
    ranks = torch is not None and torch.distributed.is_available() and torch.distributed.is_initialized()
    if count > 1 or (jax is not None and jax.process_count() > 1) or (ranks and torch.distributed.get_world_size() > 1):
        raise ValueError(
            "of trainings in several processes this adapter knows MultiWorkerMirroredStrategy with Keras 2 alone:"
            " use one process with all its devices, or a checkpoint of Keras's own"
        )
    return None
