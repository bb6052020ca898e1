"""Which shapes of batches become graphs on a GPU, here without one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reconstructor.forward import MOST_GRAPHS, SEEN_BEFORE_EXCHANGE, Forward
from sgaps.model import ModelInput, build_model, collate
from sgaps.settings import load_settings
from toy_models import picture, samples_of


class Graph:
    """Stands in for a graph of a GPU: which batches were replayed, and what cannot be captured."""

    made = 0
    replayed = 0

    def __init__(self, *_: object, **__: object) -> None:
        Graph.made += 1

    def replay(self, _: ModelInput) -> list[torch.Tensor]:
        Graph.replayed += 1
        return []


class NoRoom(Graph):
    def __init__(self, *_: object, **__: object) -> None:
        super().__init__()
        raise torch.OutOfMemoryError("CUDA out of memory")


class Arrivals:
    """What comes to a model with graphs, by the width of its pictures."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, graph: type[Graph] = Graph) -> None:
        monkeypatch.setattr("reconstructor.forward._Graph", graph)
        Graph.made = Graph.replayed = 0
        settings = load_settings(["model.embed_dim=24", "model.num_heads=2", "model.ffn_dim=32"])
        self._forward = Forward(build_model(settings.model).eval(), torch.device("cpu"))

    def come(self, *widths: int) -> None:
        for width in widths:
            inputs = collate(
                [(samples_of(picture(0, width, 28), 40), (), np.empty(0, np.float32))],
                width=width,
                height=28,
                attended_frames=1,
                max_state_dim=1,
                sentinel=-999.0,
            )
            self._forward.on_gpu(inputs, entropy=False)


@pytest.mark.parametrize(("graph", "replayed"), [(Graph, 4), (NoRoom, 0)])
def test_a_shape_that_comes_again_becomes_a_graph_once(
    monkeypatch: pytest.MonkeyPatch, graph: type[Graph], replayed: int
) -> None:
    """One that cannot be captured goes kernel by kernel, and is not tried again."""
    arrivals = Arrivals(monkeypatch, graph)
    arrivals.come(36, 36)
    assert Graph.made == 0
    arrivals.come(*[36] * 4, *range(40, 80, 8))
    assert (Graph.made, Graph.replayed) == (1, replayed)


def test_more_shapes_in_turn_than_graphs_are_not_captured_again_and_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A capture for each pass would be a hundred times slower than no graphs at all."""
    monkeypatch.setattr("reconstructor.forward._told", lambda *_, **__: [])
    arrivals = Arrivals(monkeypatch)
    arrivals.come(*[*range(40, 80)] * 20)
    assert Graph.made == MOST_GRAPHS
    assert Graph.replayed == 18 * MOST_GRAPHS


def test_a_shape_that_comes_often_takes_the_place_of_one_that_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("reconstructor.forward.MOST_GRAPHS", 2)
    monkeypatch.setattr("reconstructor.forward._told", lambda *_, **__: [])
    arrivals = Arrivals(monkeypatch)
    arrivals.come(*[36, 40] * 3, 36)
    arrivals.come(*[48] * SEEN_BEFORE_EXCHANGE)
    assert Graph.made == 2
    arrivals.come(48, 48, 36)
    assert (Graph.made, Graph.replayed) == (3, 6)
    arrivals.come(*[40] * SEEN_BEFORE_EXCHANGE)  # which had to go
    assert Graph.made == 3
    arrivals.come(40)
    assert Graph.made == 4
