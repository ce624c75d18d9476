"""How well short descriptions fit a request: by shared words and, in languages the embedders know, by meaning."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from madang.models.protocol import Embedder
from madang.models.providers.extractive import ExtractiveReader, covered
from madang.text import languages

# Chosen on twelve requests that one of eight tools fits and twelve that none does: all but one were told apart.
THRESHOLD_KNOWN, THRESHOLD_FOREIGN = 0.5, 0.3


def fits(request: str, descriptions: Sequence[str], reader: ExtractiveReader,
         embedders: Sequence[Embedder]) -> tuple[NDArray[np.float64], float]:
    """A score for each description, float64 (n,), and the score from which on one fits."""
    wanted = reader.content_terms(request)
    analyzed = reader.analyzer.index_terms(descriptions)
    shared = covered(wanted, analyzed)
    back = np.array([covered(reader.content_terms(each), [wanted])[0] for each in descriptions])
    known = languages.detect(request) in frozenset[str]().union(*(each.languages for each in embedders)) | {"und"}
    if not known:
        return shared + back, THRESHOLD_FOREIGN
    score = 0.3 * shared + 0.3 * back
    for embedder in embedders:
        vectors = embedder.embed([request, *descriptions], "query").astype(np.float64)
        score += vectors[1:] @ vectors[0]
    return score, THRESHOLD_KNOWN
