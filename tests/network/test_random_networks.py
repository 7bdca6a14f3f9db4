"""Random networks of concatenations, splits, shuffles, residuals, resizes, poolings and arithmetic: imported,
rewritten and run in the memory that is planned for them, they give what onnxruntime gives; compiled too.
`scripts/random_networks.py` tries other ones, and compiles all of them."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_checks import DOORS, check_compiled, check_in_numpy, drawn
from random_networks import models


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(models(), st.sampled_from(DOORS))
def test_random_networks(proto, door):
    check_in_numpy(proto, door)


def test_compiled():
    """Some that were not drawn above, in one library."""
    assert check_compiled(drawn(40, 5)[-10:], "x86-64-v3") > 30
