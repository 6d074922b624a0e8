"""A model in parts is the model: same outputs, gradients and parameters, and no more traffic than predicted."""

from __future__ import annotations

from typing import Any

import pytest

GRAPHS = ("knn", "directed", "disconnected", "hub", "complete")


def worst(results: list[dict[str, float]]) -> dict[str, float]:
    return {name: max(result[name] for result in results) for name in results[0]}


def assert_equal(results: list[dict[str, float]], tolerance: float = 1e-10) -> None:
    errors = worst(results)
    assert all(error <= tolerance for error in errors.values()), errors


# ---------------------------------------------------------------------- the same answer


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_outputs_gradients_and_ten_steps_equal_one_process(ranks, graph, count):
    assert_equal(ranks.run("same_answer", count, graph=graph))


@pytest.mark.parametrize(
    "options",
    [
        {"cut": "uneven"},
        {"recompute": "steps"},
        {"num_heads": 2, "inject": "every", "attention_residual": False},
        {"untied": ("attention",), "edge_bias": "fixed", "wiring_power": 2.0},
        # A tied key bias has no gradient but rounding, which AdamW blows up unless its eps is larger.
        {"untied": "norm,mlp", "edge_bias": None, "position_embedding": False, "recompute": "steps", "eps": 1e-3},
        {"untied": "none", "value_projection": True, "num_heads": 3, "eps": 1e-3},
        {"parametrization": "shared+difference", "eps": 1e-3},
        {"parametrization": "shared+difference", "untied": "mlp", "recompute": "steps", "eps": 1e-3},
    ],
    ids=str,
)
def test_options_equal_one_process(ranks, options):
    assert_equal(ranks.run("same_answer", 3, graph="knn", **options))


def test_parts_by_metis_equal_one_process(ranks):
    pytest.importorskip("pymetis")
    assert_equal(ranks.run("same_answer", 3, graph="knn", cut="metis"))


@pytest.mark.parametrize(("count", "data"), [(2, 1), (2, 2), (4, 2)])
def test_vision_on_a_mesh_of_replicas_and_parts(ranks, count, data):
    assert_equal(ranks.run("same_vision", count, data=data))


def test_spatial_readout_and_tied_parts(ranks):
    assert_equal(ranks.run("same_vision", 3, data=1, readout="spatial", untied="norm"))


@pytest.mark.parametrize("how", [{"readout": "columns"}, {"head": "mlp"}])
def test_answers_of_columns_and_of_an_mlp(ranks, how):
    assert_equal(ranks.run("same_vision", 3, data=1, **how))


@pytest.mark.parametrize(
    "seen", [{"patch_size": 6, "columns_per_patch": 9}, {"patch_size": 4, "patch_stride": 1, "sampling": "log-polar"}]
)
def test_groups_of_columns_overlap_and_log_polar_sampling(ranks, seen):
    assert_equal(ranks.run("same_vision", 3, data=1, readout="columns", seen=seen))


def test_recorded_states_attention_and_logits(ranks):
    assert_equal(ranks.run("vision_unroll", 3))


@pytest.mark.parametrize(("signal", "recompute"), [("normed", None), ("evidence", "steps"), ("hidden", "steps")])
def test_the_spatial_loss_is_the_whole_sheets(ranks, signal, recompute):
    pytest.importorskip("lightning")
    assert_equal(ranks.run("spatial", 3, signal=signal, recompute=recompute), 1e-8)


@pytest.mark.parametrize("recompute", [None, "steps"])
def test_a_loss_of_recorded_hidden_units(ranks, recompute):
    assert_equal(ranks.run("hidden_gradient", 3, recompute=recompute))


def test_inputs_of_all_columns_and_sequences(ranks):
    assert_equal(ranks.run("inputs_of_all_columns", 3))


@pytest.mark.parametrize(("graph", "count"), [*((graph, 3) for graph in GRAPHS), ("knn", 1), ("knn", 2), ("hub", 4)])
def test_float32_is_as_exact_as_one_process(ranks, graph, count):
    """By the fused kernels, against float64: output, gradients, and parameters after ten AdamW steps."""
    errors = worst(ranks.run("float32", count, graph=graph))
    assert errors["fused"] == 1
    for what in ("output", "gradient", "parameters"):
        assert errors[what] < 4 * errors[f"{what} of one"], what


def test_float32_computed_again(ranks):
    errors = worst(ranks.run("float32", 2, graph="knn", recompute="steps", inject="every", time_embedding=False))
    assert errors["fused"] == 1
    assert errors["gradient"] < 4 * errors["gradient of one"]


def test_gradients_beside_far_masks(ranks):
    errors = worst(ranks.run("far_masks", 3))
    assert errors["fused"] == 1
    assert errors["gradient"] < 1e-5 * errors["largest"]


def test_gradients_of_the_edge_bias_alone(ranks):
    errors = worst(ranks.run("frozen", 2))
    assert errors["plain"] < 1e-10
    assert errors["fused"] < 1e-3


def test_what_takes_the_whole_model_is_refused_on_every_rank(ranks):
    for messages in ranks.run("refused", 2):
        for penalty, transform, hook in (messages[:3], messages[3:]):
            assert "gradients of gradients do not cross processes" in penalty
            assert "take the whole model" in transform
            assert "hooks on messages" in hook


def test_an_empty_batch(ranks):
    for results in ranks.run("nothing", 2):
        assert set(results.values()) == {0.0}, results


def test_autocast_sends_half_precision(ranks):
    for errors in ranks.run("autocast", 2):
        assert errors["bytes"] == errors["expected"]
        assert errors["own error"] < 2 * errors["whole error"]
        assert errors["gradient"] > 0


def test_compiled_in_one_graph(ranks):
    """On a directed graph, where one rank sends and never receives."""
    assert_equal(ranks.run("compiled", 2))


@pytest.mark.parametrize("untied", ["all", "mlp", "none"])
def test_a_model_built_in_parts_starts_like_the_whole(ranks, untied):
    assert_equal(ranks.run("same_start", 3, untied=untied), 0.0)


# ---------------------------------------------------------------------- traffic


@pytest.mark.parametrize("count", [2, 3])
def test_bytes_exchanged_are_the_halos(ranks, count):
    """Per step and direction, by count, and nothing else but the wiring cost, a scalar: no parameter, no gradient.

    Counted over forward pass, backward pass and the optimizer's step, in every collective that torch has.
    """
    results = ranks.run("traffic", count)
    wide = 4 * 2 * (3 + 6)  # float32, batch 2, keys of 3 and values of 6
    for result in results:
        halo = wide * len(result["halo"])
        assert result["forward"] == {"all_to_all_single": [halo] * 3, "all_reduce": [4]}
        assert result["backward"] == {"all_to_all_single": [wide * result["sends"]] * 3}
        assert result["predicted"] == result["from model"] == halo
        assert not set(result["halo"]) & set(result["own"])
    sent, received = (sum(result[name] for result in results) for name in ("sends", "predicted"))
    assert wide * sent == received


def test_recomputed_steps_receive_the_halo_again(ranks):
    for result in ranks.run("traffic", 2, recompute="steps"):
        assert len(result["backward"]["all_to_all_single"]) == 2 * 3


def test_shared_parameters_are_summed_once(ranks):
    for result in ranks.run("traffic", 2, untied="mlp"):
        assert result["backward"]["all_reduce"] == [4 * result["shared"]]


def test_pieces_that_do_not_hear_each_other_exchange_nothing(ranks):
    for result in ranks.run("traffic", 2, graph="disconnected"):
        assert "all_to_all_single" not in result["forward"]


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_the_halo_travels_while_interior_columns_are_computed(ranks, backend):
    """In the fused step, and in the plain one: forward the interior comes first, backward the boundary does."""
    for done in ranks.run("overlap", 2, backend=backend):
        assert done == ["send", "attend", "receive", "attend", "attend", "send", "attend", "receive"]


# ---------------------------------------------------------------------- checkpoints


@pytest.mark.parametrize(("count", "data"), [(1, 1), (3, 1), (4, 2)])
def test_checkpoints_load_with_any_number_of_ranks(ranks, tmp_path, count, data):
    path = tmp_path / "checkpoint"
    ranks.run("save", count, path=str(path), data=data)
    assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint"]
    for other in (1, 2, 4):
        assert_equal(ranks.run("load", other, path=str(path)))


def test_a_checkpoint_is_replaced_by_the_next(ranks, tmp_path):
    path = tmp_path / "checkpoint"
    for count in (2, 3):
        ranks.run("save", count, path=str(path), data=1)
    assert_equal(ranks.run("load", 2, path=str(path)))
    assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint"]


# ---------------------------------------------------------------------- bad input


@pytest.mark.parametrize("different", ["sheet", "geometry", "configuration", "partition"])
def test_ranks_that_differ_are_told_alike(ranks, different):
    messages = ranks.run("agreement", 3 if different != "partition" else 2, different=different)
    assert len(set(messages)) == 1
    assert f"has another {different}" in messages[0]
    assert messages[0].startswith(f"rank {len(messages) - 1} ")


def test_a_partition_of_another_number_of_parts(ranks):
    assert set(ranks.run("agreement", 2, different="number of parts")) == {
        "the partition has 5 parts, but 2 ranks share the sheet"
    }


def test_more_ranks_than_columns(ranks):
    assert set(ranks.run("crowd", 3)) == {"3 parts are more than the 2 columns of the sheet: give at most 2"}


def test_inputs_that_cannot_be(ranks):
    messages: list[Any] = ranks.run("bad_input", 2)[0]
    expected = ("[9, B, 6]", "[21, B, 6]", "needs an input", "got Linear", "already", "do not divide", "another graph")
    for message, part in zip(messages, expected, strict=True):
        assert part in message
