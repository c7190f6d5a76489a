"""
A larger language model judges answers. In the order of reading:

    prompts       what the judge is asked, and how it has to answer
    answers       its answer, or why it gave none
    scoring       all answers of a file, saved as they come
    endpoint      a judge behind an OpenAI-compatible address
    parallel      several requests at a time
    in_process    a judge in this process
    results       the numbers, the result card and the picture
"""
