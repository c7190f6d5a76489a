"""
How good a model is, with intervals, beside a baseline, in numbers and pictures; what is measured becomes result cards.

Any classifier: `metrics`, `intervals`, `plots`; spam classifiers of the worked job: `text_classification/`. A language
model: `harness` with `guessing`. Its answers: `instruction` without a judge, `judge/` by a model, `preference` by
people, from files that `responses` reads. `report` puts runs side by side. `calibration` and `spam_benchmark` are
names that older result cards have for commands.
"""
