"""BM25 against bm25s, nDCG against ir_measures (trec_eval), exact search against faiss."""

from __future__ import annotations

import bm25s
import faiss
import ir_measures
import numpy as np
import pytest

from benchmarks.metrics import hit, ndcg
from madang.index import Flat, Lexical
from madang.store.fusion import reciprocal_rank


def test_bm25_equals_bm25s() -> None:
    """bm25s's "lucene" method has the same formula up to the factor k1 + 1, which does not change the order."""
    generator = np.random.default_rng(0)
    corpus = [[f"t{t}" for t in generator.zipf(1.4, size=generator.integers(5, 60)) if t < 200] or ["t1"]
              for _ in range(400)]
    theirs = bm25s.BM25(method="lucene", k1=1.2, b=0.75)
    theirs.index(corpus, show_progress=False)
    names = sorted({term for text in corpus for term in text})
    ids = {name: number for number, name in enumerate(names)}
    ours = Lexical(k1=1.2, b=0.75)
    counted = [{term: text.count(term) for term in dict.fromkeys(text)} for text in corpus]
    ours.add(np.arange(len(corpus), dtype=np.int64),
             np.concatenate([[0], np.cumsum([len(each) for each in counted])]).astype(np.int64),
             np.array([ids[term] for each in counted for term in each], dtype=np.int64),
             np.array([float(count) for each in counted for count in each.values()], dtype=np.float32))
    for query in (["t1", "t5"], ["t2", "t3", "t17"], ["t40"]):
        known = [term for term in query if term in ids]
        expected = theirs.get_scores(known)
        rows, scores = ours.search(np.array([ids[t] for t in known], dtype=np.int64),
                                   np.ones(len(known), dtype=np.float32), len(corpus), None)
        ratio = scores / expected[rows]
        assert np.allclose(ratio, ratio[0], rtol=1e-4)
        assert len(rows) == int((expected > 0).sum())


def test_ndcg_and_hit_equal_trec_eval() -> None:
    generator = np.random.default_rng(1)
    qrels, run, ours = [], [], {"ndcg": [], "hit": []}
    for q in range(50):
        ranking = [f"d{d}" for d in generator.permutation(30)[:15]]
        relevant = f"d{generator.integers(30)}"
        qrels.append(ir_measures.Qrel(str(q), relevant, 1))
        run += [ir_measures.ScoredDoc(str(q), d, 100.0 - rank) for rank, d in enumerate(ranking)]
        ours["ndcg"].append(ndcg(ranking, relevant))
        ours["hit"].append(hit(ranking, relevant))
    measured = ir_measures.calc_aggregate([ir_measures.nDCG @ 10, ir_measures.Success @ 10], qrels, run)
    assert np.mean(ours["ndcg"]) == pytest.approx(measured[ir_measures.nDCG @ 10])
    assert np.mean(ours["hit"]) == pytest.approx(measured[ir_measures.Success @ 10])


@pytest.mark.parametrize("metric", ["dot", "euclidean", "cosine"])
def test_exact_search_equals_faiss(metric: str) -> None:
    generator = np.random.default_rng(2)
    vectors = generator.standard_normal((2000, 96)).astype(np.float32)
    queries = generator.standard_normal((20, 96)).astype(np.float32)
    ours = Flat(dim=96, metric=metric)
    ours.add(vectors)
    rows, scores = ours.search(queries, 10)
    if metric == "cosine":
        faiss.normalize_L2(vectors)
        faiss.normalize_L2(queries)
    theirs = faiss.IndexFlatL2(96) if metric == "euclidean" else faiss.IndexFlatIP(96)
    theirs.add(vectors)
    expected, found = theirs.search(queries, 10)
    assert np.allclose(scores, -expected if metric == "euclidean" else expected, rtol=1e-4, atol=1e-4)
    assert (rows == found).mean() > 0.99


def test_fusion_of_identical_rankings_keeps_them() -> None:
    assert [item for item, _ in reciprocal_rank([["a", "b", "c"]] * 3)] == ["a", "b", "c"]
