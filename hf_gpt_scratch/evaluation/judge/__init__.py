"""
A larger language model as the judge of answers. In the order of reading:

    prompts       what the judge is asked, and in which form it has to answer
    answers       its answer, or that there is none
    scoring       all answers of a file, kept as they come
    endpoint      a judge behind an OpenAI-compatible address
    parallel      several requests at a time
    in_process    a judge in this process
    results       what the answers come to: numbers, card, picture
"""
