"""What `sgaps bench stages` prints."""

from __future__ import annotations

from sgaps_cli.bench.stages import bench_stages, told


def test_every_service_does_the_frames_and_is_counted() -> None:
    costs = {cost.stage: cost for cost in bench_stages(frames=32)}
    assert list(costs) == ["gateway", "recorder", "reconstructor", "sampler"]
    assert all(cost.cpu_secs_per_1000 > 0 for cost in costs.values())
    # A frame goes in twice, onto the stream and into the session's memory; 8 older ones come out.
    assert 6_000 < costs["gateway"].broker_bytes_in < 9_000
    assert 9 * 3_000 < costs["reconstructor"].broker_bytes_out < 9 * 4_000
    assert told(list(costs.values())).count("\n") == 1 + len(costs)
