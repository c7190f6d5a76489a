"""
Spam classifiers that were trained here, opened again (`runs`): fitted to their validation set (`calibration`), and
held against linear models (`baselines`, `benchmark`).
"""
