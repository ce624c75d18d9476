"""Classification without training (Radford et al. 2021, section 3.1): the class whose prompts are nearest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from madang.base.errors import InvalidInput
from madang.models.protocol import Embeds, Vectors

TEMPLATES = ("a picture of a {}", "a photo of a {}", "a {}", "{} 그림")


@dataclass(frozen=True, slots=True)
class ZeroShot:
    """Classes as vectors: each is the mean of its prompts' vectors, made one long (an ensemble, section 3.1.4)."""

    labels: tuple[str, ...]
    vectors: Vectors  # (classes, dim)

    @classmethod
    def of(
        cls, model: Embeds, classes: Mapping[str, Sequence[str]] | Sequence[str], templates: Sequence[str] = TEMPLATES
    ) -> ZeroShot:
        """From labels and the templates ("{}" stands for the label), or from prompts for each label.

        Raises `InvalidInput` where there are fewer than two classes, a template has no "{}", or a class has no prompt.
        """
        if not isinstance(classes, Mapping):
            without = [each for each in templates if "{}" not in each]
            if without or not templates:
                raise InvalidInput(f'templates: {without or "none"} must contain "{{}}" where the label goes.')
            classes = {label: [each.replace("{}", label) for each in templates] for label in classes}
        if len(classes) < 2:
            raise InvalidInput(f"classes: at least two different ones are needed, not {len(classes)}.")
        empty = [label for label, prompts in classes.items() if not prompts]
        if empty:
            raise InvalidInput(f"classes: {empty[0]!r} has no prompt.")
        one = [label for label, prompts in classes.items() if isinstance(prompts, str)]
        if one:
            raise InvalidInput(f"classes: the prompts of {one[0]!r} are one text.", remedy="Give a list of texts.")
        vectors = np.stack([model.embed(list(prompts), "query").mean(0) for prompts in classes.values()])
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return cls(tuple(classes), (vectors / np.maximum(lengths, 1e-12)).astype(np.float32))

    def scores(self, pictures: Vectors) -> NDArray[np.float32]:
        """Cosines float32 (n, classes) of unit vectors of pictures (n, dim)."""
        return np.asarray(pictures @ self.vectors.T, np.float32)

    def best(self, pictures: Vectors) -> list[str]:
        """The label of each picture."""
        return [self.labels[at] for at in self.scores(pictures).argmax(1)]

    def shares(self, pictures: Vectors, scale: float) -> NDArray[np.float32]:
        """Probabilities float32 (n, classes): the softmax of cosines times the model's scale."""
        scores = self.scores(pictures) * scale
        found = np.exp(scores - scores.max(1, keepdims=True))
        return np.asarray(found / found.sum(1, keepdims=True), np.float32)
