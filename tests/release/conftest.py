"""What is built once for the tests of a release."""

import pytest

from support.built import Distributions, Installed, build


@pytest.fixture(scope="session")
def distributions(tmp_path_factory) -> Distributions:
    return build(tmp_path_factory.mktemp("distributions"))


@pytest.fixture(scope="session")
def run(distributions, tmp_path_factory) -> Installed:
    """Runs what the wheel installs."""
    return Installed(distributions.wheel, tmp_path_factory.mktemp("environment"), tmp_path_factory.mktemp("elsewhere"))
