"""A table of runs with the schema of results/runs.parquet, drawn from a known law plus noise: known truth for tests."""

from __future__ import annotations

import numpy as np
import polars as pl

from pipeline.fitting.laws import Chinchilla


def study_runs(
    law: Chinchilla,
    widths: list[int],
    tokens: list[int],
    replicate_widths: list[int] | None = None,
    seeds: tuple[int, ...] = (1, 2),
    tree_sd: float = 0.0025,
    run_sd: float = 0.001,
    depth: int = 3,
    vocabulary: int = 256,
    random_seed: int = 7,
) -> pl.DataFrame:
    """One trunk a (width, seed) and one cooldown a token count; ln L = law(N non-embedding, D) + tree + run noise."""
    random = np.random.default_rng(random_seed)
    grid = [(width, 0, "grid") for width in widths]
    grid += [(width, seed, "replicate") for width in replicate_widths or [] for seed in seeds]
    rows = []
    for width, seed, role in grid:
        N = 12 * depth * width**2
        with_head, total = N + vocabulary * width, N + 2 * vocabulary * width
        flops_a_token = 6 * with_head + 12 * depth * width * 64 // 2
        offset = tree_sd * random.standard_normal()
        trunk = f"trunk-{width:04d}-{seed}"
        for kind, D in [("trunk", int(0.8 * max(tokens))), *[("cooldown", D) for D in tokens]]:
            cooldown = kind == "cooldown"
            start = int(0.8 * D) if cooldown else 0
            loss = float(law.loss(N, D) * np.exp(offset + run_sd * random.standard_normal()))
            rows.append(
                {
                    "run_id": f"cooldown-{width:04d}-{D:010d}-{seed}" if cooldown else trunk,
                    "experiment": "language_model",
                    "kind": kind,
                    "role": role,
                    "recipe": "wsd",
                    "parent_id": trunk if cooldown else None,
                    "seed": seed,
                    "width": width,
                    "depth": depth,
                    "head_size": 16,
                    "context": 64,
                    "N_total": total,
                    "N_non_embedding": N,
                    "N_with_head": with_head,
                    "D": D,
                    "C": float(flops_a_token * D),
                    "C_6ND": 6.0 * N * D,
                    "flops_own": float(flops_a_token * (D - start)),
                    "start_tokens": start,
                    "loss": loss if cooldown else None,
                    "bits_per_byte": loss / np.log(2) if cooldown else None,
                    "loss_se_level": 0.0057 * loss if cooldown else None,
                    "loss_se_compared": 0.00145 * loss if cooldown else None,
                    "status": "finished",
                    "reason": None,
                }
            )
    frame = pl.DataFrame(rows, schema_overrides={"reason": pl.String, "loss": pl.Float64}, infer_schema_length=None)
    return frame.sort("experiment", "N_non_embedding", "D", "seed", "kind")
