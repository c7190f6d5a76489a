"""The configuration refuses what no model can be built from, and knows transformers' names for its settings."""

import pytest

from hf_gpt_scratch import GPTScratchConfig


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"n_embd": 30, "n_head": 4}, "n_embd (30) must be divisible by n_head (4)"),
        ({"n_layer": 0}, "n_layer must be a whole number of at least 1, not 0"),
        ({"vocab_size": -5}, "vocab_size"),
        ({"n_positions": 1.5}, "n_positions"),
        ({"n_inner": 0}, "n_inner"),
        ({"resid_pdrop": 1.1}, "resid_pdrop must lie between 0 and 1, not 1.1"),
        ({"attn_pdrop": -0.1}, "attn_pdrop"),
        ({"embd_pdrop": "a lot"}, "embd_pdrop"),
        ({"prefix_loss_weight": 2}, "prefix_loss_weight"),
        ({"class_weights": [1.0]}, "class_weights must be 2 numbers above 0, one for each label, not [1.0]"),
        ({"class_weights": [1.0, 0]}, "above 0"),
        ({"class_weights": [1, 2], "problem_type": "multi_label_classification"}, "class_weights are for one label"),
        ({"long_texts": "middle"}, "long_texts must be 'first', 'last' or 'windows', not 'middle'"),
        ({"layer_norm_epsilon": 0}, "layer_norm_epsilon"),
        ({"activation_function": "gelu_knew"}, "gelu_knew"),
        ({"loss_chunk_size": -1}, "loss_chunk_size"),
        ({"sliding_window": 0}, "sliding_window must be a whole number of at least 1, not 0"),
        ({"sliding_window": 4, "layer_types": ["local"] * 12}, "layer_types must be a list of 'full_attention' and"),
        ({"sliding_window": 4, "layer_types": ["full_attention"]}, "1 entries, but there are 12 blocks"),
        ({"layer_types": ["sliding_attention"] * 12}, "which needs a sliding_window"),
    ],
)
def test_impossible_settings_are_refused_with_the_reason(settings, reason):
    with pytest.raises(ValueError) as error:
        GPTScratchConfig(**settings)
    assert reason in str(error.value)


def test_defaults_are_gpt2_124m():
    config = GPTScratchConfig()
    assert (config.vocab_size, config.n_positions, config.n_embd) == (50257, 1024, 768)
    assert (config.n_layer, config.n_head) == (12, 12)


def test_transformers_names_are_aliases():
    config = GPTScratchConfig(hidden_size=96, num_hidden_layers=3, num_attention_heads=6, max_position_embeddings=32)
    assert (config.n_embd, config.n_layer, config.n_head, config.n_positions) == (96, 3, 6, 32)


def test_saving_and_loading_keeps_every_setting(tmp_path):
    config = GPTScratchConfig(n_embd=96, n_head=6, qkv_bias=False, prefix_loss_weight=0.5, id2label={0: "a", 1: "b"})
    config.save_pretrained(tmp_path)
    loaded = GPTScratchConfig.from_pretrained(tmp_path)
    assert loaded.to_diff_dict() == config.to_diff_dict()


def test_every_block_has_the_window_unless_its_type_says_otherwise(tmp_path):
    assert GPTScratchConfig(n_layer=2, sliding_window=4).layer_types == ["sliding_attention"] * 2
    config = GPTScratchConfig(n_layer=2, sliding_window=4, layer_types=["sliding_attention", "full_attention"])
    config.save_pretrained(tmp_path)
    assert GPTScratchConfig.from_pretrained(tmp_path).layer_types == ["sliding_attention", "full_attention"]
    assert not hasattr(GPTScratchConfig(), "layer_types")  # vLLM indexes it where it exists


def test_auto_map_of_another_repository_is_not_kept():
    config = GPTScratchConfig(auto_map={"AutoConfig": "user/repo--configuration_gpt_scratch.GPTScratchConfig"})
    assert len(config.auto_map) == 5
    assert not any("--" in value for value in config.auto_map.values())
