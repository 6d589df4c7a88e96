"""A place to work that is no run: for library functions that work in shards."""

import contextlib


class Place:
    """A workplace whose user asks to stop behind so many shards."""

    workers = 1

    def __init__(self, folder, shards=1000):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.scratch, self.shards, self.told = folder, folder / "scratch", shards, []

    def progress(self, total, unit):
        return contextlib.nullcontext(self)

    def update(self, count):
        self.told.append(count)

    def should_stop(self):
        return len(self.told) >= self.shards
