"""What an engine declares it can do. Whatever is not declared is refused with `Unsupported`, never answered wrongly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from madang.store import validate


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """An engine's promises. `madang.testing.store_suite` holds it to each, and to a refusal of everything else.

    `filters_refused` names, with the reason, the tags of `madang.testing.filter_table.TAGS` whose rows may be refused
    (the metadata when it is written, or the filter when it is asked). A row that is not refused must be right.
    """

    metrics: tuple[str, ...] = ("cosine", "dot", "euclidean")
    namespaces: bool = True
    filters_refused: Mapping[str, str] = field(default_factory=dict)
    documents: bool = True             # keeps `document` and `context` and gives them back
    text: bool = False                 # query(text=...): words, and words with a vector
    sparse: bool = False               # keeps `sparse` and gives it back
    sparse_query: bool = False         # query(sparse=...)
    sources: bool = False              # replace_sources and what belongs to it
    target_recall: bool = False        # query(target_recall=...) is obeyed
    update_metadata: bool = True       # update(set_metadata=...)
    delete_by_filter: bool = True
    by_filter: bool = False            # count(filter=...), list_ids(filter=...) and update(filter=...)
    delete_counts: bool = True         # delete returns how many records went; else how many were asked for, or 0
    list_ids: bool = True
    list_prefix: bool = True
    ordered_ids: bool = True           # list_ids goes by code point; else in an order of the engine's own
    unicode_ids: bool = True
    zero_vectors: bool = True          # with metric "cosine", where they have no direction and score 0
    exact_scores: bool = True          # equal to the built-in engine's but for rounding
    exact_values: bool = True          # vectors come back bit for bit; else but for rounding
    read_your_writes: bool = True
    max_top_k: int = validate.MAX_TOP_K
