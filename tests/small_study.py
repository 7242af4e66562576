"""Small inputs shared by tests: a params.yaml for a study of seconds on the project's own source, and a manifest."""

SMALL = """
study: {name: small}
prepare:
  sources: [{kind: text, path: "pipeline/**/*.py"}]
  tokenizer: {kind: bytes}
  validation_fraction: 0.3
language_model:
  grid: {kind: sizes_by_tokens, widths: [16, 32], tokens: [20_000, 40_000, 80_000]}
  replicates: {seeds: [1], widths: [16]}
  model: {depth: 2, head_size: 16, context: 64}
  optimizer: {kind: muon, matrix_rate: 0.01, embedding_rate: 0.008, head_rate: 0.008}
  batch: {tokens: 256, growth_from: 60_000}
  schedule: {kind: wsd, warmup_tokens: 2_560}
  evaluation: {windows: 128, windows_per_document: 64}
laws: {}
train: {micro_batch_tokens: 8192, checkpoint_seconds: 0.5, retries: 2}
collect: {}
fit: {convention: non_embedding, bootstrap: 100}
report: {}
"""

MANIFEST = {
    "digest": "ab" * 32,
    "dtype": "uint8",
    "vocab_size": 256,
    "separator": 0,
    "train": {"tokens": 2_000_000, "documents": 900, "bytes": 1_999_100},
    "validation": {"tokens": 100_000, "documents": 50, "bytes": 99_950},
    "sources": [{"kind": "text", "path": "corpus", "documents": 950, "bytes": 2_099_050, "sha256": "cd" * 32}],
    "duplicates": 3,
    "empty": 1,
    "invalid": 2,
    "split": {"fraction": 0.05, "seed": 0, "rule": "hash of the text"},
    "tokenizer": {"kind": "bytes"},
}

LAW = """laws:
  deep_linear:
    seeds: [0, 1]
    num_inputs: 6
    num_hidden: 8
    strengths: [2.0, 1.0]
    initial: 0.001
    rates: [0.01, 0.005]
    stability: [0.9, 1.1]
    conditions: [1.0, 4.0]
    imbalances: [0.5, 2.0]
    scales: [0.1, 0.000001]
"""
"""One law of learning mechanics with the cheapest dials, as text in place of the empty section of SMALL."""
