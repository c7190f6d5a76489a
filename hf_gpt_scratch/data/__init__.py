"""
Data for training, from its source to batches. In the order of reading:

    download        files and Hub data sets, checked by their SHA-256
    tables          rows of CSV, JSON, Parquet, a folder of them or a Hub data set
    delimited       CSV and its like: encoding, delimiter, quotation marks, header
    columns         which columns hold texts and labels; the texts of a file
    first_look      what is wrong with a file and seen in a moment
    labelled_texts  texts of any labels, and their split, in which near-copies stay together
    label_cells     labels as a cell holds them
    stratification  folds with every label's share in each
    text            plain text to pretrain on: in memory or streamed, split, tokenized
    rows            the rows of a text: windows that slide over it, or packed documents
    packing         documents side by side in one row that do not see each other
    alpaca          the book's instruction set
    conversations   questions and answers of any shape as conversations
    turns           conversations as tokens, and their split
    preferences     a prompt with a chosen and a rejected answer, for DPO
    sms_spam        the SMS Spam Collection, split so that near-copies stay together
    word_dropout    messages with words omitted at random
    losses          the loss of each token, and perplexities made of it
"""
