"""
Measuring models; each evaluation leaves a result card (utils/result_card.py). In the order of reading:

    metrics, intervals              the numbers of a classifier and their 95 % intervals
    text_classification/            classifiers compared with linear models; fitting a calibration
    instruction, responses          measuring an instruction follower; its file of answers
    judge/                          answers scored by a larger model
    preference, preference_results  answers compared by people; preference_export: their votes as training data
    harness, guessing               MMLU and others with lm-evaluation-harness, next to the scores of guessing
    plots, report                   pictures; runs side by side
    calibration, spam_benchmark     only the names of commands that older result cards record
"""
