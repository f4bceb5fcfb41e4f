import pytest
import timm
import torch

from tests.helpers import NAMES, WordEncoder
from timm_inject import ArgumentTypeError, ArgumentValueError, explain, inject, save_for_hf
from timm_inject.calibration.explanation import leans_on


@pytest.mark.parametrize("num_seen", [12, 40], ids=["fewer classes than features", "more"])
def test_a_row_leans_on_the_rows_it_was_made_of(num_seen):
    rows = torch.randn(num_seen, 25, generator=torch.Generator().manual_seed(0))
    names = [f"class {index}" for index in range(num_seen)]
    mean = rows.mean(0)
    made = mean + 0.7 * (rows[3] - mean) + 0.3 * (rows[8] - mean)
    ((first, second, *rest),) = leans_on(rows, made[None], names, feature_dim=24)
    assert first[0] == "class 3"
    # More rows than features can make up one another, so only the strongest is sure to be found.
    assert num_seen > 24 or (second[0] == "class 8" and second[1] > max(share for _, share in rest))
    assert 0.99 < sum(share for _, share in leans_on(rows, made[None], names, feature_dim=24, max_shown=num_seen)[0]) < 1.01


def test_both_systems_of_equations_agree():
    rows = torch.randn(24, 25, generator=torch.Generator().manual_seed(1))
    new = torch.randn(2, 25, generator=torch.Generator().manual_seed(2))
    names = [str(index) for index in range(24)]
    primal = leans_on(rows[:, :23], new[:, :23], names, feature_dim=23)
    dual = leans_on(
        torch.cat([rows[:, :23], torch.zeros(24, 3)], 1), torch.cat([new[:, :23], torch.zeros(2, 3)], 1), names, feature_dim=26
    )
    for one, other in zip(primal, dual, strict=True):
        assert [name for name, _ in one] == [name for name, _ in other]
        assert [share for _, share in one] == pytest.approx([share for _, share in other], abs=2e-3)


def test_explains_an_injected_class_also_after_a_reload(small_model, tmp_path):
    inject(small_model, ["okapi", "electric scooter"], encoder=WordEncoder())
    told = explain(small_model, "Electric-Scooter")
    assert (told.name, told.index) == ("electric scooter", 11)
    assert {name for name, _ in told.leans_on} <= set(NAMES)
    assert [share for _, share in told.leans_on] == sorted((share for _, share in told.leans_on), reverse=True)
    save_for_hf(small_model, tmp_path / "model")
    reloaded = timm.create_model(f"local-dir:{tmp_path / 'model'}", pretrained=True)
    assert explain(reloaded, "electric scooter") == told
    assert explain(reloaded, "electric scooter", seen_class_names=NAMES) == told


def test_a_row_that_copies_a_seen_one_takes_from_it(small_model):
    inject(small_model, ["okapi"], encoder=WordEncoder())
    with torch.no_grad():
        small_model.fc.weight[10] = small_model.fc.weight[6]
        small_model.fc.bias[10] = small_model.fc.bias.mean() + 5
    told = explain(small_model, "okapi")
    assert told.leans_on[0][0] == told.takes_from[0][0] == NAMES[6]
    shares = [share for _, share in told.takes_from]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(1, abs=0.01)  # ten classes at most are shown, and the head has ten


def test_bad_names_are_refused(small_model):
    with pytest.raises(ArgumentValueError, match="This model holds no injected classes"):
        explain(small_model, "okapi")
    inject(small_model, ["okapi"], encoder=WordEncoder())
    with pytest.raises(ArgumentValueError, match="No class 'zebra' was injected into this model. Injected: 'okapi'."):
        explain(small_model, "zebra")
    with pytest.raises(ArgumentTypeError, match="`name` must be the name of one injected class, got int."):
        explain(small_model, 10)
