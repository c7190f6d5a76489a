"""
Checkpoints of the GPT-2 family, into this package's model and out of it, tensor by tensor. To read in this order:

    key_map              a row of a format's table: which of its tensors are which of ours
    hf_gpt2, nanogpt, llms_from_scratch, openai_tf       a format each: its table, its settings, its quirks
    gguf_source, tf2_gpt2, flax_gpt2, llm_c              the same, of files that are not torch's
    gpt2_state_dict, hub_mixin, peft_adapter             the same tables, kept in other ways; characters: a tokenizer
    source, formats      an opened checkpoint of any of them, and finding out which it is
    file_kinds, foreign_models   the files and the models that are told by name and not converted
    chosen_file          of several models side by side, the one to open
    convert, proof       in: the model's folder, proven by transformers' own class or by independent_forward, the
                         format's own computation
    evidence, candidates     the settings that a file does not hold, told by the perplexity of a text, and their values
    generation_settings  what ends a text there, on which all files agree
    export, gguf         out: native (a folder of ours, opened) as stock GPT-2, or as llama.cpp's GGUF (llama_quantize)
    onnx                 out: as an ONNX folder (onnx_graph, onnx_int8; onnx_proof compares, onnx_card is its README)
    checkpoint, torch_file, safetensors_file, gguf_file  tensors in files from anyone, one at a time in memory, with
                                                         safetensors_reader, state_dict and inert_pickle
    tokenizers, download, choices                        what goes beside, OpenAI's files, the names to choose from
"""
