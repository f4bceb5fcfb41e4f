"""Shares of seen classes that make up a new one."""

import torch
from scipy.optimize import minimize

from tests.helpers import related_classes
from timm_inject.mappers.mixing import nearest_shares, solve_shares


def test_shares_are_shares_and_never_the_class_itself():
    descriptors, _ = related_classes(num_classes=40)
    itself = torch.arange(40)
    shares = nearest_shares(descriptors, descriptors, count=8, steps=30, itself=itself)
    assert torch.allclose(shares.sum(1), torch.ones(40), atol=1e-5)
    assert (shares >= 0).all()
    assert (shares > 0).sum(1).max() <= 8
    assert (shares.diagonal() == 0).all()


def test_solved_shares_come_as_near_as_a_quadratic_programme():
    generator = torch.Generator().manual_seed(0)
    seen = torch.nn.functional.normalize(torch.randn(6, 5, generator=generator), dim=1)
    target = torch.nn.functional.normalize(torch.rand(6, generator=generator) @ seen, dim=0)
    shares = solve_shares(seen @ seen.T, (target @ seen.T)[None], steps=2000)[0]
    oracle = minimize(
        lambda x: float(((torch.as_tensor(x).float() @ seen - target) ** 2).sum()),
        [1 / 6] * 6,
        bounds=[(0, 1)] * 6,
        constraints={"type": "eq", "fun": lambda x: x.sum() - 1},
    )
    assert ((shares @ seen - target) ** 2).sum().item() <= oracle.fun + 1e-3
