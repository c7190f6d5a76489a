"""
Measuring models; each evaluation leaves a result card (utils/result_card.py). In the order of reading:

    metrics, intervals              the numbers of a classifier, and how sure they are
    text_classification/            classifiers beside linear models; fitting a calibration
    instruction, responses          what is measured of an instruction follower; its file of answers
    judge/                          answers scored by a larger model
    preference, preference_results  answers compared by people
    harness, guessing               MMLU and others by lm-evaluation-harness, beside what guessing scores
    plots, report                   pictures; runs side by side
    calibration, spam_benchmark     only the names of commands that older result cards record
"""
