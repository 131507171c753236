"""On a new machine tests wait for programs that are being built."""

import pytest


def test_a_test_spends_none_of_its_time_on_waiting_for_programs(request: pytest.FixtureRequest) -> None:
    """Hooks are called from the last to the first: the one that waits is around the one that sets the test's timer."""
    hooks = request.config.pluginmanager.hook.pytest_runtest_protocol.get_hookimpls()
    modules = [hook.function.__module__ for hook in hooks]
    assert modules.index("tests.conftest") > modules.index("pytest_timeout")
