"""Write the Parquet fixtures of the tests, as the hub's files are written.

Run: python scripts/make_parquet_fixtures.py   (needs pyarrow; texts are made up)
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

FOLDER = Path(__file__).parent.parent / "tests" / "data"

targets = pa.struct([("choices", pa.list_(pa.string())), ("labels", pa.list_(pa.int32()))])
questions = pa.table(
    {
        "question": ["Can a stone swim?", "What do owls read?"],
        "mc1_targets": pa.array(
            [
                {"choices": ["No.", "Yes."], "labels": [1, 0]},
                {"choices": ["Nothing.", "Maps.", "Caf\u00e9 menus."], "labels": [1, 0, 0]},
            ],
            targets,
        ),
        "mc2_targets": pa.array(
            [
                {"choices": ["No.", "It sinks.", "Yes."], "labels": [1, 1, 0]},
                {"choices": ["Nothing.", "Maps."], "labels": [1, 0]},
            ],
            targets,
        ),
    }
)
pq.write_table(questions, FOLDER / "questions.snappy.parquet", compression="snappy")

sentences = pa.table(
    {
        "idx": pa.array([0, 1, 2], pa.int32()),
        "sentence": ["a warm film", "dull and long", None],
        "label": pa.array([1, 0, -1], pa.int64()),
        "share": pa.array([0.5, float("nan"), None], pa.float64()),
    }
)
for codec in ["zstd", "gzip", "lz4", "none"]:
    pq.write_table(sentences, FOLDER / f"sentences.{codec}.parquet", compression=codec)
