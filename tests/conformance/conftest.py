"""The marks that transformers' shared tests carry, which pytest would refuse as unknown."""

SHARED_MARKS = (
    "accelerate_tests flash_attn_test flash_attn_3_test flash_attn_4_test is_expert_parallel_test is_fsdp_test"
    " is_pipeline_test is_tensor_parallel_test is_training_test order torch_compile_test"
)


def pytest_configure(config):
    for mark in SHARED_MARKS.split():
        config.addinivalue_line("markers", f"{mark}: transformers' own")
