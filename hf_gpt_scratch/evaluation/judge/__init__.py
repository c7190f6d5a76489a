"""
A larger language model as the judge of answers. In the order of reading: what it is asked (`prompts`), who answers
(`endpoint` a server with `parallel` requests, or `in_process` a model here; `answers` is what comes of it), what the
answers come to (`results`), and all of it in one go, with files that a stopped run continues from (`scoring`).
"""
