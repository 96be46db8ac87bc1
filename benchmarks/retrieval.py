"""BM25 against the MiniLM embedder on DSTC11 track 5: which documents do people need for the last question?

    python -m benchmarks.retrieval kb_hospitality_dstc11_dialogues.jsonl.gz kb_hospitality_dstc11_documents.jsonl.gz OUT

Writes `bm25.trec`, `minilm.trec` and `qrels` into OUT, to be read by `vivace evaluate retrieval`.
"""

import argparse
import gzip
import json
from pathlib import Path

import bm25s
import numpy as np

from vivace.index.embedders import open_embedder
from vivace.text import normalize_words

DEPTH = 20


def main() -> None:
    """Search with both and write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dialogues", type=Path)
    parser.add_argument("documents", type=Path)
    parser.add_argument("out", type=Path)
    chosen = parser.parse_args()
    docs = [json.loads(line) for line in _lines(chosen.documents)]
    names = [row["doc_id"] for row in docs]
    texts = [f"{row['entity']}. {row.get('title') or ''} {row['text']}" for row in docs]
    asked = [json.loads(line) for line in _lines(chosen.dialogues)]
    asked = [row for row in asked if row["split"] == "test" and row["gold_doc_ids"]]
    # The place is mostly named earlier: the user's turns are the query, the last one at the end.
    queries = [" ".join(t["content"] for t in row["messages"][-3:]) for row in asked]
    chosen.out.mkdir(parents=True, exist_ok=True)
    lines = [f"{row['id']} 0 {name} 1" for row in asked for name in row["gold_doc_ids"]]
    (chosen.out / "qrels").write_text("\n".join(lines) + "\n")
    index = bm25s.BM25()
    index.index([normalize_words(text) for text in texts], show_progress=False)
    found = [index.get_scores(normalize_words(query)) for query in queries]
    _write(chosen.out / "bm25.trec", asked, names, np.asarray(found))
    embedder = open_embedder("minilm")
    _write(chosen.out / "minilm.trec", asked, names, embedder.embed(queries) @ embedder.embed(texts).T)


def _lines(file: Path) -> list[bytes]:
    return gzip.decompress(file.read_bytes()).splitlines()


def _write(path: Path, asked: list[dict[str, str]], names: list[str], scores: np.ndarray) -> None:
    with path.open("w") as file:
        for row, own in zip(asked, scores, strict=True):
            for rank, place in enumerate(np.argsort(-own, kind="stable")[:DEPTH], start=1):
                file.write(f"{row['id']} Q0 {names[place]} {rank} {own[place]:.6f} {path.stem}\n")


if __name__ == "__main__":
    main()
