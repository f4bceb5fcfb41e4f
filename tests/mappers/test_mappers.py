from dataclasses import replace

import pytest
import torch
from scipy.optimize import minimize
from scipy.stats import special_ortho_group
from sklearn.kernel_ridge import KernelRidge

from tests.helpers import related_classes
from timm_inject.errors import MapperError
from timm_inject.mappers.crossfit import assign_folds, crossfit
from timm_inject.mappers.icis_paper import IcisPaperMapper, has_converged
from timm_inject.mappers.kernel_blend import KernelBlend, Texts, choose_blend
from timm_inject.mappers.kernel_ridge import gaussian_kernel, leave_one_out_rows
from timm_inject.mappers.mixing import nearest_shares, solve_shares
from timm_inject.mappers.networks import IcisNetworks, icis_loss
from timm_inject.mappers.registry import MAPPERS, create_mapper, icis, kernel_blend, kernel_ridge, mapper_names
from timm_inject.mappers.span import RowSpan

FAST = [name for name in MAPPERS if name != "icis-paper"]


def test_registry_has_what_the_documentation_names():
    assert mapper_names() == [
        "icis", "icis-paper", "kernel-ridge", "ridge", "wavg", "smo", "costa", "conse", "subspace", "mean-row",
    ]  # fmt: skip


@pytest.mark.parametrize("name", FAST)
def test_fitted_mapper_predicts_finite_rows_and_survives_its_tensors(name):
    descriptors, rows = related_classes()
    mapper = create_mapper(name).fit(descriptors[:50], rows[:50])
    predicted = mapper.predict_rows(descriptors[50:])
    assert predicted.shape == (10, 24)
    assert torch.isfinite(predicted).all()
    copy = create_mapper(name)
    copy.tensors = {key: tensor.clone() for key, tensor in mapper.tensors.items()}
    assert torch.equal(copy.predict_rows(descriptors[50:]), predicted)


@pytest.mark.parametrize("name", [name for name in FAST if name != "mean-row"])
def test_hidden_rows_are_found_better_than_by_chance(name):
    descriptors, rows = related_classes()
    predicted = create_mapper(name).fit(descriptors[:50], rows[:50]).predict_rows(descriptors[50:])
    mean_row = rows[:50].mean(0)
    similarity = (
        torch.nn.functional.normalize(rows[50:] - mean_row, dim=1) @ torch.nn.functional.normalize(predicted - mean_row, dim=1).T
    )
    assert (similarity.argmax(1) == torch.arange(10)).float().mean() >= 0.3  # chance: 0.1


def test_icis_finds_hidden_rows_no_worse_than_kernel_ridge():
    descriptors, rows = related_classes(num_classes=120, descriptor_dim=32, row_dim=48)

    def cosine(name):
        predicted = create_mapper(name).fit(descriptors[:100], rows[:100]).predict_rows(descriptors[100:])
        mean_row = rows[:100].mean(0)
        return torch.nn.functional.cosine_similarity(predicted - mean_row, rows[100:] - mean_row, dim=1).mean()

    assert cosine("icis") >= cosine("kernel-ridge") - 0.02


@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize("num_seen", [2, 3, 7])
def test_a_few_seen_classes_are_enough_to_run(name, num_seen):
    descriptors, rows = related_classes()
    predicted = create_mapper(name).fit(descriptors[:num_seen], rows[:num_seen]).predict_rows(descriptors[10:12])
    assert torch.isfinite(predicted).all()


@pytest.mark.parametrize("name", FAST)
def test_identical_descriptors_do_not_break_it(name):
    _, rows = related_classes(num_classes=8)
    descriptors = torch.ones(8, 4) / 2
    assert torch.isfinite(create_mapper(name).fit(descriptors, rows).predict_rows(descriptors)).all()


def test_kernel_ridge_agrees_with_sklearn():
    descriptors, rows = related_classes()
    mapper = create_mapper("kernel-ridge").fit(descriptors[:50], rows[:50])
    width = mapper.tensors["width"].item()
    centred = rows[:50] - rows[:50].mean(0)
    kernel = gaussian_kernel(descriptors[:50], descriptors[:50], width)
    ridge = next(
        value
        for value in (0.01, 0.03, 0.1, 0.3, 1.0)
        if torch.allclose((kernel + value * torch.eye(50)) @ mapper.tensors["coefficients"], centred, atol=1e-3)
    )
    oracle = KernelRidge(alpha=ridge, kernel="rbf", gamma=1 / (2 * width**2)).fit(descriptors[:50], centred)
    expected = torch.as_tensor(oracle.predict(descriptors[50:])).float() + rows[:50].mean(0)
    assert torch.allclose(mapper.predict_rows(descriptors[50:]), expected, atol=1e-3)


def test_leave_one_out_in_closed_form_is_leaving_one_out():
    descriptors, rows = related_classes(num_classes=12)
    kernel = gaussian_kernel(descriptors, descriptors, 0.7)
    fast = leave_one_out_rows(kernel, rows, 0.1)
    for out in range(12):
        kept = torch.arange(12) != out
        solved = torch.linalg.solve(kernel[kept][:, kept] + 0.1 * torch.eye(11), rows[kept])
        assert torch.allclose(fast[out], kernel[out, kept] @ solved, atol=1e-3)


@pytest.mark.parametrize("name", FAST)
def test_rows_that_are_all_alike_do_not_break_it(name):
    descriptors, _ = related_classes(num_classes=30)
    assert torch.isfinite(create_mapper(name).fit(descriptors, torch.ones(30, 6)).predict_rows(descriptors)).all()


def test_icis_takes_roots_of_percentages_and_leaves_other_descriptors_alone():
    """Attributes whose roots decide the rows are told from descriptors that decide them as they are."""
    generator = torch.Generator().manual_seed(0)
    percentages = torch.rand(60, 16, generator=generator) ** 4
    map_ = torch.randn(16, 24, generator=generator)
    roots = torch.nn.functional.normalize(percentages.sqrt(), dim=1)
    percent = create_mapper("icis").fit(torch.nn.functional.normalize(percentages, dim=1), roots @ map_)
    assert set(percent.tensors["powers"].tolist()) == {0.5}
    descriptors, rows = related_classes()
    assert _share_of_power(create_mapper("icis").fit(descriptors, rows), 1.0) > 0.5


def _share_of_power(mapper, power):
    return mapper.tensors["shares"][mapper.tensors["powers"] == power].sum().item()


def test_the_mix_gets_a_weight_where_it_finds_rows_that_kernel_ridge_does_not():
    descriptors, rows = related_classes()
    coordinates = rows - rows.mean(0)
    weights = icis.IcisParts().mix_weights
    good, ridge = choose_blend(descriptors, coordinates, (1.0,))
    blind = replace(good, widths=torch.full_like(good.widths, 1e-3))  # sees each class alone: predicts nothing for the others
    assert icis._choose_mix_weight(descriptors, coordinates, good, ridge, weights) == 0.0
    assert icis._choose_mix_weight(descriptors, coordinates, blind, ridge, weights) > 0.0


def test_the_mix_gets_no_weight_for_a_gain_that_may_be_chance(monkeypatch):
    descriptors, rows = related_classes(30)
    rows = rows + 2.0 * rows.std() * torch.randn(rows.shape, generator=torch.Generator().manual_seed(6))
    coordinates, weights = rows - rows.mean(0), icis.IcisParts().mix_weights
    blend, ridge = choose_blend(descriptors, coordinates, (1.0,))
    assert icis._choose_mix_weight(descriptors, coordinates, blend, ridge, weights) == 0.0
    monkeypatch.setattr(icis, "_CLEAR", 0.0)
    assert icis._choose_mix_weight(descriptors, coordinates, blend, ridge, weights) > 0.0  # on average it had looked better


def test_networks_weigh_less_with_few_classes(monkeypatch):
    descriptors, rows = related_classes(50)
    monkeypatch.setattr(icis, "_ENOUGH_FOR_NETWORKS", 40)
    weights = [create_mapper("icis").fit(descriptors[:n], rows[:n]).tensors["network_weight"].item() for n in (10, 40, 50)]
    full = icis.IcisParts().network_weight
    assert weights == pytest.approx([full / 4, full, full])


def test_a_handful_of_classes_is_too_few_for_the_mix():
    """However clear it looks: a few ranks that all gain alike have no spread at all."""
    descriptors, rows = related_classes()
    coordinates, weights = rows - rows.mean(0), icis.IcisParts().mix_weights
    good, ridge = choose_blend(descriptors, coordinates, (1.0,))
    blind = replace(good, widths=torch.full_like(good.widths, 1e-3))
    few = slice(0, icis._FEWEST_FOR_MIX)
    assert icis._choose_mix_weight(descriptors[few], coordinates[few], blind, ridge, weights) > 0.0
    fewer = slice(1, icis._FEWEST_FOR_MIX)
    assert icis._choose_mix_weight(descriptors[fewer], coordinates[fewer], blind, ridge, weights) == 0.0


def test_a_blend_is_the_sum_of_its_kernels():
    descriptors, _ = related_classes(30)
    new, _ = related_classes(40)
    # The largest share is of the root, the largest sum of shares of the descriptors as they are.
    powers, widths, shares = torch.tensor([[1.0, 0.4, 0.3], [0.5, 0.9, 0.4], [1.0, 0.7, 0.3]], dtype=torch.float64).T
    blend = KernelBlend(powers, widths, shares)
    expected = torch.zeros(40, 30)
    for power, width, share in zip(powers.tolist(), widths.tolist(), shares.tolist(), strict=True):
        texts = Texts.of(descriptors, power)
        expected += share * gaussian_kernel(texts.centred_of(new), texts.centred, width)
    assert torch.allclose(blend.kernel(new, blend.texts_of(descriptors)), expected, atol=1e-6)
    assert torch.allclose(blend.kernel(descriptors, blend.texts_of(descriptors)).diagonal(), torch.ones(30), atol=1e-5)
    assert blend.main_power == 1.0


def test_half_of_a_kernel_is_enough_to_solve(monkeypatch):
    monkeypatch.setattr(kernel_blend, "_CHUNK", 7)  # several parts
    descriptors, rows = related_classes(30)
    blend, _ = choose_blend(descriptors, rows, (1.0, 0.5))
    texts = blend.texts_of(descriptors)
    whole, half = blend.kernel(descriptors, texts), blend.kernel(descriptors, texts, upper_only=True)
    assert torch.allclose(half.triu(), whole.triu(), atol=1e-6)
    assert (half[21:, :14] == 0).all()
    expected = torch.linalg.solve(whole.double() + 0.1 * torch.eye(30), rows.double()).float()
    assert torch.allclose(kernel_ridge.solve_ridge(half, 0.1, rows), expected, atol=1e-4)


def test_shares_fall_with_what_a_kernel_predicts_worse_and_the_best_can_have_all():
    descriptors, rows = related_classes(40)
    coordinates = rows - rows.mean(0)
    blend, ridge = choose_blend(descriptors, coordinates, (1.0,))
    only, _ = choose_blend(descriptors, coordinates, (1.0,), only_best=True)
    assert len(blend.widths) > 1 == len(only.widths)
    assert blend.shares.sum().item() == pytest.approx(1.0)
    assert only.widths[0] == blend.widths[blend.shares.argmax()]
    kernels = [gaussian_kernel(*[Texts.of(descriptors, 1.0).centred] * 2, width) for width in blend.widths.tolist()]
    cosines = torch.tensor([kernel_ridge.mean_cosine(kernel, coordinates, kernel_ridge.MIDDLE_RIDGE) for kernel in kernels])
    log_ratios = blend.shares.log() - blend.shares.log()[0]
    assert torch.allclose(log_ratios.float(), 3 * 40 * (cosines - cosines[0]), atol=1e-2)
    assert ridge in kernel_ridge.RIDGES


def test_powers_that_start_far_from_the_best_are_left_out(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    percentages = torch.rand(60, 16, generator=generator) ** 4
    rows = torch.nn.functional.normalize(percentages.sqrt(), dim=1) @ torch.randn(16, 24, generator=generator)
    coordinates = rows - rows.mean(0)
    started, searched = [], []
    of = kernel_blend.KernelScores
    start, search = of.start_cosine, of.best_width
    monkeypatch.setattr(of, "start_cosine", lambda self: started.append(id(self)) or start(self))
    monkeypatch.setattr(of, "best_width", lambda self: searched.append(id(self)) or search(self))
    blend, _ = choose_blend(percentages, coordinates, (1.0, 0.5))
    assert len(set(started)) == 2
    assert len(searched) == 1
    assert set(blend.powers.tolist()) == {0.5}


def test_the_best_kernel_alone_is_the_best_of_all_powers(monkeypatch):
    monkeypatch.setattr(kernel_blend, "_SHARPNESS", 1e-3)  # all powers take part, with about equal shares
    generator = torch.Generator().manual_seed(0)
    percentages = torch.rand(60, 16, generator=generator) ** 4
    rows = torch.nn.functional.normalize(percentages.sqrt(), dim=1) @ torch.randn(16, 24, generator=generator)
    coordinates = rows - rows.mean(0)
    blend, _ = choose_blend(percentages, coordinates, (1.0, 0.5))
    only, _ = choose_blend(percentages, coordinates, (1.0, 0.5), only_best=True)
    assert set(blend.powers.tolist()) == {1.0, 0.5}
    assert only.powers.tolist() == [0.5]
    assert only.widths[0] == blend.widths[blend.shares.argmax()]
    assert only.shares.tolist() == [1.0]


def test_large_heads_choose_by_evenly_spaced_classes(monkeypatch):
    descriptors, rows = related_classes(90)
    coordinates = rows - rows.mean(0)
    few, ridge = choose_blend(descriptors[::3], coordinates[::3], (1.0, 0.5))
    monkeypatch.setattr(kernel_ridge, "_MAX_TRIED", 30)
    many, same_ridge = choose_blend(descriptors, coordinates, (1.0, 0.5))
    assert many.powers.tolist() == few.powers.tolist()
    assert same_ridge == ridge
    # Descriptors are centred on the mean of all classes here, so that widths and shares are near and not the same.
    assert torch.allclose(many.widths, few.widths, rtol=0.1)
    assert torch.allclose(many.shares, few.shares, atol=0.1)


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


def test_many_rows_and_few_have_the_same_span():
    rows = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    rows -= rows.mean(0)
    many, svd = RowSpan.of(rows), torch.linalg.svdvals(rows)
    assert torch.allclose(many.singular, svd, atol=1e-4)
    assert torch.allclose(many.coordinates @ many.basis, rows, atol=1e-4)
    wide = RowSpan.of(rows.T - rows.T.mean(0))
    assert torch.allclose(wide.coordinates @ wide.basis, rows.T - rows.T.mean(0), atol=1e-4)


def test_large_heads_train_on_a_part_of_their_classes_at_a_time(monkeypatch):
    monkeypatch.setattr(icis, "_MAX_PER_EPOCH", 30)
    seen = []
    original = icis.icis_loss
    monkeypatch.setattr(icis, "icis_loss", lambda networks, d, r, is_seen: seen.append(len(d)) or original(networks, d, r, is_seen))
    descriptors, rows = related_classes()
    predicted = create_mapper("icis").fit(descriptors[:50], rows[:50]).predict_rows(descriptors[50:])
    assert set(seen) == {30}
    assert torch.isfinite(predicted).all()


def test_icis_does_not_depend_on_the_rows_common_part():
    """Adding one vector to every row changes no prediction of a classifier, so it must not change what is learned."""
    descriptors, rows = related_classes()
    shift = torch.linspace(-1, 1, 24)
    one = create_mapper("icis").fit(descriptors[:50], rows[:50]).predict_rows(descriptors[50:])
    other = create_mapper("icis").fit(descriptors[:50], rows[:50] + shift).predict_rows(descriptors[50:])
    similarity = torch.nn.functional.cosine_similarity(one - rows[:50].mean(0), other - shift - rows[:50].mean(0), dim=1)
    assert similarity.min() > 0.99


def test_icis_turns_with_the_feature_space():
    descriptors, rows = related_classes()
    rotation = torch.as_tensor(special_ortho_group.rvs(24, random_state=0)).float()
    one = create_mapper("icis").fit(descriptors[:50], rows[:50]).predict_rows(descriptors[50:])
    other = create_mapper("icis").fit(descriptors[:50], rows[:50] @ rotation).predict_rows(descriptors[50:])
    mean_row = rows[:50].mean(0)
    similarity = torch.nn.functional.cosine_similarity(one - mean_row, other @ rotation.T - mean_row, dim=1)
    assert similarity.min() > 0.9  # the networks start from other random weights


class TestPaper:
    def test_networks_are_as_published(self):
        networks = IcisNetworks(8, 12, generator=torch.Generator().manual_seed(0))
        assert networks.descriptor_encoder.out_features == networks.row_encoder.out_features == 2048
        assert networks.row_decoder.weight.std().item() == pytest.approx(0.02, rel=0.05)
        assert not any(parameter.any() for name, parameter in networks.named_parameters() if name.endswith("bias"))
        assert networks.dropout == 0

    def test_loss_is_the_sum_of_four_cosine_terms(self):
        networks = IcisNetworks(8, 12, generator=torch.Generator().manual_seed(0))
        descriptors, rows = related_classes(5, 8, 12)
        cosine = torch.nn.CosineSimilarity(dim=1)
        by_hand = (
            (1 - cosine(networks.descriptor_from_descriptor(descriptors), descriptors)).mean()
            + (1 - cosine(networks.row_from_row(rows), rows)).mean()
            + (1 - cosine(networks.descriptor_from_row(rows), descriptors)).mean()
            + (1 - cosine(networks.row_from_descriptor(descriptors), rows)).mean()
        )
        assert torch.allclose(icis_loss(networks, descriptors, rows, torch.ones(5, dtype=torch.bool)), by_hand)

    def test_unseen_descriptors_take_part_in_their_own_reconstruction_alone(self):
        networks = IcisNetworks(8, 12, generator=torch.Generator().manual_seed(0))
        descriptors, _ = related_classes(5, 8, 12)
        loss = icis_loss(networks, descriptors, torch.empty(0, 12), torch.zeros(5, dtype=torch.bool))
        loss.backward()
        assert networks.row_encoder.weight.grad is None
        assert networks.row_decoder.weight.grad is None
        assert networks.descriptor_decoder.weight.grad.abs().sum() > 0

    def test_training_follows_the_recipe(self, monkeypatch):
        steps = []
        original = torch.optim.Adam

        class Recorded(original):
            def __init__(self, parameters, lr, **options):
                steps.append(lr)
                super().__init__(parameters, lr=lr, **options)

            def step(self, *arguments):
                steps.append("step")
                return super().step(*arguments)

        monkeypatch.setattr(torch.optim, "Adam", Recorded)
        descriptors, rows = related_classes(20, 8, 12)
        progress = []
        mapper = IcisPaperMapper().fit(
            descriptors, rows, unseen_descriptors=descriptors[:3], progress=lambda *step: progress.append(step)
        )
        epochs = int(mapper.tensors["num_epochs"])
        assert steps[0] == 1e-5
        assert steps.count("step") == 2 * epochs  # 23 classes in batches of 16
        assert progress[0] == ("Train the mapper", 1, 1000)
        assert 25 <= epochs <= 1000
        assert mapper.predict_rows(descriptors[:2]).shape == (2, 12)

    def test_slope_rule(self):
        falling = [4 - 0.01 * epoch for epoch in range(100)]
        flat = [1.0] * 25
        assert not any(has_converged(falling[:end]) for end in range(100))
        assert not any(has_converged(flat[:end]) for end in range(25))
        assert has_converged(flat)  # epochs 21 to 25 are flat
        # 2e-3 an epoch is the limit, and it is not reached while one of the last five epochs is above it.
        assert has_converged([4 - 0.0019 * epoch for epoch in range(25)])
        assert not has_converged([4 - 0.0021 * epoch for epoch in range(25)])


def test_crossfit_predicts_every_class_without_itself():
    descriptors, rows = related_classes(20)
    result = crossfit(lambda: create_mapper("kernel-ridge"), descriptors, rows, num_folds=5, fits=5, seed=0)
    assert result.fold.bincount().tolist() == [4] * 5
    changed = rows.clone()
    out = result.fold == 2
    changed[out] = torch.randn(4, 24, generator=torch.Generator().manual_seed(1))
    again = crossfit(lambda: create_mapper("kernel-ridge"), descriptors, changed, num_folds=5, fits=5, seed=0)
    assert torch.equal(result.rows[out], again.rows[out])  # the hidden rows had no say in their prediction
    assert not torch.equal(result.rows[~out], again.rows[~out])


@pytest.mark.parametrize("name", ["icis", "kernel-ridge"])
def test_a_mapper_on_other_classes_keeps_what_was_chosen(name, monkeypatch):
    descriptors, rows = related_classes(60)
    fitted = create_mapper(name).fit(descriptors, rows)
    other = fitted.unfitted()
    assert not other.tensors
    monkeypatch.setattr(icis, "choose_blend", None)  # not to be called
    monkeypatch.setattr(kernel_ridge, "choose_kernel", None)
    other.fit(descriptors[:40], rows[:40])
    assert all(torch.equal(other.tensors[choice], fitted.tensors[choice]) for choice in fitted.choices)
    same = fitted.unfitted().fit(descriptors, rows)
    assert all(torch.equal(same.tensors[key], tensor) for key, tensor in fitted.tensors.items())


def test_the_kernel_is_sought_from_the_middle_to_the_nearest_best():
    tried = []

    def score(value):
        tried.append(value)
        return {1: 0, 2: 9, 3: 4, 4: 3, 5: 2, 6: 8}[value]

    assert kernel_ridge.climb((1, 2, 3, 4, 5, 6), score) == 2
    assert 6 not in tried
    assert kernel_ridge.climb((1, 2, 3), lambda value: 0) == 2


def test_crossfit_of_a_slow_mapper_holds_out_what_it_says():
    descriptors, rows = related_classes(20)
    result = crossfit(lambda: create_mapper("mean-row"), descriptors, rows, num_folds=5, fits=1, seed=0)
    assert sorted(result.fold.unique().tolist()) == [-1, 0]
    assert (result.fold == 0).sum() == 4


def test_folds_differ_by_at_most_one():
    sizes = assign_folds(23, 5, torch.Generator().manual_seed(0)).bincount()
    assert sorted(sizes.tolist()) == [4, 4, 5, 5, 5]


@pytest.mark.parametrize(
    ("descriptors", "rows", "message"),
    [
        (
            torch.ones(3, 4),
            torch.ones(2, 5),
            "A mapper needs one descriptor a row: got descriptors (3, 4) and rows (2, 5)",
        ),
        (torch.ones(1, 4), torch.ones(1, 5), "A mapper needs at least 2 seen classes to learn from, got 1."),
        (torch.full((2, 4), torch.nan), torch.ones(2, 5), "The descriptors hold NaN or infinite values."),
        (torch.ones(2, 4), torch.full((2, 5), torch.inf), "The rows to learn from hold NaN or infinite values."),
    ],
)
def test_bad_training_sets_are_told(descriptors, rows, message):
    with pytest.raises(MapperError) as caught:
        create_mapper("ridge").fit(descriptors, rows)
    assert message in str(caught.value)


def test_misuse_is_told():
    with pytest.raises(MapperError, match="The mapper 'ridge' is not fitted. Call `fit`"):
        create_mapper("ridge").predict_rows(torch.ones(1, 4))
    descriptors, rows = related_classes(10)
    with pytest.raises(MapperError, match=r"fitted on descriptors of width 16, got shape \(1, 4\)"):
        create_mapper("ridge").fit(descriptors, rows).predict_rows(torch.ones(1, 4))
