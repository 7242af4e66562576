"""Each way of timing matrix products multiplies: against float64."""

import pytest
import torch

from pipeline.training.device import prepare_device
from pipeline.training.peak import blas_product, matrix_product_rate, products, torch_product


def test_every_way_multiplies():
    left, right = torch.randn(2, 48, 48)
    entry = float((left.double() @ right.double())[-1, -1])
    for way in (torch_product(left, right), blas_product(left.numpy(), right.numpy())):
        for _ in range(2):
            assert float(way()) == pytest.approx(entry, rel=1e-3, abs=1e-4)


def test_the_ways_of_a_device_multiply_the_same():
    device = prepare_device()
    _, ways = products(device)
    entries = [float(way()) for way in ways]
    assert entries == pytest.approx([entries[0]] * len(ways), rel=1e-3, abs=1e-3)
    assert matrix_product_rate(device) > 0
