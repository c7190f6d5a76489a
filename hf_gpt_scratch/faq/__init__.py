"""
A bot that answers from a list of questions and answers (FAQ), or says that it does not know. In the order of reading:
`faq_file` (what its folder keeps), `retrieval` (the nearest question, by TF-IDF), `bot` (retrieve, check with the
language model, answer or refuse).
"""
