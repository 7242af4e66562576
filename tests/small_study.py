"""A params.yaml for a study of seconds, on the source text of the project itself."""

SMALL = """
study: {name: small}
prepare:
  sources: [{kind: text, path: "pipeline/**/*.py"}]
  tokenizer: {kind: bytes}
  validation_fraction: 0.3
plan: {experiments: [language_model]}
language_model:
  grid: {kind: sizes_by_tokens, widths: [16, 32], tokens: [20_000, 40_000, 80_000]}
  replicates: {seeds: [1], widths: [16]}
  model: {depth: 2, head_size: 16, context: 64}
  optimizer: {kind: muon, matrix_rate: 0.01, embedding_rate: 0.008, head_rate: 0.008}
  batch: {tokens: 256, growth_from: 60_000}
  schedule: {kind: wsd, warmup_tokens: 2_560}
  evaluation: {windows: 128, windows_per_document: 64}
train: {micro_batch_tokens: 8192, checkpoint_seconds: 0.5, retries: 2}
collect: {}
fit: {convention: non_embedding, bootstrap: 100}
report: {}
"""
