"""When a storm strikes: in gusts over the whole chain, with calm before each of them."""

import random
from collections import Counter

HEADS = 5  # a chain has at least so many sessions
LONGEST_LULL = 40  # effects; a head takes about 65


class Gusts:
    """So many effects in trouble, parted among heads that are drawn.

    What is left of a gust when its head is reached goes on after the next one's lull. So the
    storm is over after the last head that was drawn, and not before all its effects have passed.
    """

    def __init__(self, rng: random.Random, effects: int, heads: int = HEADS) -> None:
        self._rng, self.left, self.heads = rng, effects, -1
        cuts = sorted(rng.choices(range(effects + 1), k=heads - 1))
        sizes = [end - start for start, end in zip([0, *cuts], [*cuts, effects], strict=True)]
        self._sizes: Counter[int] = Counter()
        for size in sizes:
            self._sizes[rng.randrange(heads)] += size
        self._gust = self._lull = 0
        self.is_calm = True

    def pass_effect(self, heads: int) -> bool:
        """Count an effect that begins when the chain has so many heads; tell if it is the last."""
        if self.heads < heads:
            self._reach(heads)
        if self.is_calm and not self._lull:
            return False
        if self._lull:
            self._lull -= 1
        else:
            self._gust -= 1
            self.left -= 1
        self.is_calm = self._lull > 0 or self._gust <= 0
        return not self.left

    def _reach(self, heads: int) -> None:
        for head in range(self.heads + 1, heads + 1):
            self._gust += self._sizes[head]
        self.heads = heads
        self._lull = max(0, self._rng.randrange(-LONGEST_LULL, LONGEST_LULL))
        self.is_calm = self._lull > 0 or self._gust <= 0
