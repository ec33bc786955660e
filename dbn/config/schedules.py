"""A value over the epochs of a layer: constant, in steps, or along a line.

0.1 is constant; 1,3@10,10@40 is 1 at first, 3 from epoch 10 on, 10 from epoch 40 on; 0.1:0 falls along a straight
line from 0.1 at the first update to 0 behind the last.
"""

from typing import NamedTuple, Self


class Schedule(NamedTuple):
    """Values in force from an epoch on, or the two ends of a line."""

    steps: tuple[tuple[int, float], ...]
    """(epoch, value), the first from epoch 1."""
    end: float | None = None
    """Where a line ends that begins at the first value."""

    @classmethod
    def read(cls, written: float | str) -> Self:
        """A number, or what the head of this file describes; ValueError otherwise."""
        first, *later = str(written).split(",")
        if not later and ":" in first:
            begin, end = map(float, first.split(":"))
            return cls(((1, begin),), end)
        steps = [(1, float(first))]
        for part in later:
            value, _, epoch = part.partition("@")
            if int(epoch) <= steps[-1][0]:
                raise ValueError(f"epoch {epoch} comes after epoch {steps[-1][0]}")
            steps.append((int(epoch), float(value)))
        return cls(tuple(steps))

    @property
    def values(self) -> tuple[float, ...]:
        """Every value that is written in it."""
        return tuple(value for _, value in self.steps) + (() if self.end is None else (self.end,))

    def at(self, epoch: float, epochs: int) -> float:
        """The value in epoch 1, 2, … of so many; with a fraction, that far into the epoch."""
        if self.end is not None:
            begin = self.steps[0][1]
            return begin + (self.end - begin) * (epoch - 1) / epochs
        return [value for start, value in self.steps if start <= epoch][-1]
