"""Task contexts outside a run, for library functions that work in shards or train."""

import contextlib

from pipeline.task_context import TaskContext


class RecordedTask(TaskContext):
    """A context whose user asks to stop after so many shards."""

    def __init__(self, folder, shards=1000):
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(folder, stop_asked=lambda: len(self.told) >= shards)
        self.told = []

    @property
    def n(self):
        return sum(self.told)

    def progress(self, total, unit, done=0):
        return contextlib.nullcontext(self)

    def update(self, count):
        self.told.append(count)


class TrainingTask(TaskContext):
    """A context that calls on_step(step, steps, loss, learning_rate), and whose user may ask to stop at once."""

    def __init__(self, folder, on_step=lambda *_: None, stop=False, workers=0):
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(folder, workers=workers, stop_asked=lambda: stop)
        self.on_step = on_step

    def training_progress(self):
        return contextlib.nullcontext(self.on_step)
