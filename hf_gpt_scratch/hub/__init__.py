"""
To the Hub and back. In the order of a push:

- `check.py`: checks a folder's files, each check a `Finding` (`findings.py`); `loading_check.py` loads it.
- `files.py`: which of its files are uploaded, and that no secret is in them (`secrets.py`).
- `model_card.py`: its README.md, from `card_facts.py`, `card_examples.py`, `card_data.py` and the templates in
  model_cards/.
- `handler.py`: what answers on Inference Endpoints, `endpoint/handler.py`, proven to read the model.
- `twin.py`: the same model as stock GPT-2, proven, for the branch `gpt2`.
- `push.py`: one commit of all that, loaded back from there; `repository.py` talks with the Hub.
- `push_space.py`: a page of `apps` as a Space.
"""
