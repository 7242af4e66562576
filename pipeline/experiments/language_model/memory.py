"""How much memory a run of the language model takes on a GPU, from its spec alone."""

from __future__ import annotations

from pipeline.experiments.language_model.plan import size_from, transformer_size
from pipeline.planning.run_spec import RunSpec

PROCESS_BYTES = 1 << 30
"""CUDA context and kernels in one process (0.55 GB on an H200), the workspaces of cuBLAS (33 MB for each of two
streams) and the matrices of training/peak.matrix_product_rate (0.4 GB, for a moment)."""


def memory(spec: RunSpec, micro_batch_tokens: int, shards: int = 1) -> int:
    """Bytes that the run `spec` takes at its peak with at most `micro_batch_tokens` at once, on each of the devices
    that divide the model into `shards`.

    State, as in ZeRO (Rajbhandari et al. 2020, arXiv 1910.02054, section 3.1): fp32 weight and gradient, 8 bytes a
    parameter; momentum, 4, or for AdamW two moments, 8; the bfloat16 copy that autocast keeps, 2; and of the largest
    stack of matrices the fp32 momentum, direction and bfloat16 factors of an orthogonalisation, 16 an entry.

    Activations kept for the backward pass, counted from models/transformer.py as in Korthikanti et al. 2022
    (arXiv 2205.05198, section 4) for its own layers: a token of width C holds, a layer, two residual inputs of norms in
    fp32 (8 C) and what they give in fp32 and bfloat16 (12 C), queries, keys and values before and after the rotation
    (10 C), the attention's output (2 C) with its normaliser, and two hidden layers of M C in bfloat16 (4 M C). The loss
    holds the logits in bfloat16, in fp32, and the gradients of both: 16 bytes an entry of the vocabulary.

    In shards (training/sharded.py), weights, gradients and moments are divided; whole are the embedding, the head and a
    layer, in 18 bytes a parameter: fp32, the buffer it was gathered in, the bfloat16 copy, the gradient and the buffer
    that scatters it. A layer is gathered in bfloat16, which leaves room for the next one. Muon has one matrix at a time
    whole. A model of the user's own is whole throughout.

    A model of the user's own is taken for a transformer of its shape, with the parameters that it has beyond one.
    """
    size, numbers = transformer_size(spec.settings), spec.settings
    beyond = max(0, size_from(numbers).N_total - size.N_total)
    head_size, ratio = numbers["model"]["head_size"], numbers["model"]["mlp_ratio"]
    moments = 4 if numbers["optimizer"]["kind"] == "muon" else 8
    outside = size.N_total - size.N_non_embedding
    stack = size.depth * max(3, ratio) * size.width**2
    inside = size.N_non_embedding + beyond
    state = (8 + moments) * inside + (8 + 8) * outside
    if shards == 1:
        state += 2 * (inside + outside) + 16 * (stack + beyond)
    else:
        whole, matrices = (inside, stack + beyond) if "size" in numbers else (inside / size.depth, stack / size.depth)
        state = round(state / shards + 18 * (whole + outside) + 16 * matrices)
    tokens = max(micro_batch_tokens, size.context)
    layer = (8 + 12 + 10 + 2 + 4 * ratio) * size.width + 8 * size.width // head_size
    token = size.depth * layer + 14 * size.width + 16 * size.vocab_size
    return PROCESS_BYTES + state + tokens * token
