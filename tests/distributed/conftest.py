"""The mark of the test that needs DeepSpeed, which is no dependency of this package."""


def pytest_configure(config):
    config.addinivalue_line("markers", "deepspeed: needs DeepSpeed installed")
