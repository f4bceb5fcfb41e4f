import copy
import json

import pytest
import torch
from timm_inject.calibration.selection import CANDIDATES, choose_mapper, usual_num_new

from tests.helpers import NAMES, WordEncoder, needs_offline, related_classes
from timm_inject import ArgumentTypeError, ArgumentValueError, MapperError, fit_mapper, inject, injection_record, self_score
from timm_inject.calibration.self_score import _compare_rows
from timm_inject.cli.main import main
from timm_inject.mappers.fitting import fit_and_crossfit


def test_scores_and_classes(small_model):
    before = copy.deepcopy(small_model.state_dict())
    score = self_score(small_model, encoder=WordEncoder(), mapper="ridge")
    assert all(torch.equal(before[key], value) for key, value in small_model.state_dict().items())
    for figure in (score.zsl_accuracy, score.seen_accuracy, score.unseen_accuracy, score.harmonic_mean):
        assert 0 <= figure <= 1
    assert [entry.name for entry in score.classes] == NAMES
    assert (score.num_seen, score.num_new, score.mapper, score.calibration) == (10, 2, "ridge", "harmonic")
    assert all(1 <= entry.rank <= 10 for entry in score.classes)
    assert score.row_cosine == pytest.approx(sum(entry.cosine for entry in score.classes) / 10)
    assert score == self_score(small_model, encoder=WordEncoder(), mapper="ridge")
    assert json.loads(json.dumps(score.to_dict()))["num_seen"] == 10
    assert repr(score).startswith("SelfScore(zsl_accuracy=")
    assert "ClassSelfScore" not in repr(score)


def test_a_trained_mapper_gives_the_same_and_injected_classes_do_not_count(small_model):
    score = self_score(small_model, encoder=WordEncoder(), mapper="ridge")
    trained = fit_mapper(small_model, encoder=WordEncoder(), mapper="ridge")
    assert self_score(small_model, encoder=WordEncoder(), mapper=trained) == score
    inject(small_model, ["okapi"], encoder=WordEncoder())
    assert self_score(small_model, encoder=WordEncoder(), mapper="ridge") == score


def test_cosine_and_rank_against_a_loop():
    descriptors, rows = related_classes(num_classes=20)
    fitted = fit_and_crossfit("kernel-ridge", descriptors, rows)
    cosine, rank = _compare_rows(fitted, 23)
    mean = rows[:, :23].mean(0)
    for index in range(20):
        predicted = fitted.crossfit.rows[index, :23] - mean
        all_cosines = torch.stack([torch.cosine_similarity(predicted, row[:23] - mean, dim=0) for row in rows])
        assert cosine[index].item() == pytest.approx(all_cosines[index].item(), abs=1e-5)
        assert rank[index].item() == 1 + int((all_cosines > all_cosines[index] + 1e-6).sum())


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_new": 6}, ArgumentValueError, "`num_new` must be between 1 and half of the 10 seen classes, got 6."),
        ({"num_new": 0}, ArgumentValueError, "`num_new` must be between 1 and half of the 10 seen classes, got 0."),
        ({"num_new": 2.0}, ArgumentTypeError, "`num_new` must be an int or None, got float."),
        ({"calibration": "best"}, ArgumentValueError, "`calibration` must be one of 'harmonic', 'keep-seen', None, got 'best'."),
        ({"mapper": "rigde"}, MapperError, "There is no mapper 'rigde'. Did you mean 'ridge'?"),
        ({"mapper": 3}, ArgumentTypeError, "`mapper` must be a name from the registry, got int."),
    ],
)
def test_bad_settings_are_refused(small_model, options, error, message):
    with pytest.raises(error) as caught:
        self_score(small_model, encoder=WordEncoder(), **options)
    assert message in str(caught.value)


def test_auto_takes_the_best_by_self_score(small_model):
    scores = {name: self_score(small_model, encoder=WordEncoder(), mapper=name).harmonic_mean for name in CANDIDATES}
    best = max(scores, key=scores.get)
    auto, by_name = copy.deepcopy(small_model), copy.deepcopy(small_model)
    inject(auto, ["okapi"], encoder=WordEncoder(), mapper="auto")
    inject(by_name, ["okapi"], encoder=WordEncoder(), mapper=best)
    assert injection_record(auto).classes == injection_record(by_name).classes
    assert torch.equal(auto.fc.weight, by_name.fc.weight)
    assert self_score(small_model, encoder=WordEncoder(), mapper="auto").mapper == best
    assert fit_mapper(small_model, encoder=WordEncoder(), mapper="auto").facts.mapper == best


def test_auto_on_too_few_classes_is_the_default():
    descriptors, rows = related_classes(num_classes=2)
    assert choose_mapper(descriptors, rows, feature_dim=23, calibration=None, seed=0) == "icis"
    assert [usual_num_new(count) for count in (3, 10, 73, 1000, 21843)] == [1, 2, 14, 200, 200]


@needs_offline
def test_command(small_model, tmp_path, capsys):
    from timm_inject import save_for_hf

    save_for_hf(small_model, tmp_path / "model")
    model = f"local-dir:{tmp_path / 'model'}"
    assert main(["self-score", model, "--mapper", "ridge"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Estimated without images, 2 of 10 classes hidden at a time, mapper ridge:\n")
    assert "median rank of the true row" in out
    assert main(["self-score", model, "--mapper", "ridge", "--num-new", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_new"] == 3
    assert main(["self-score", model, "--num-new", "9"]) == 2
    assert "between 1 and half of the 10 seen classes, got 9." in capsys.readouterr().err
