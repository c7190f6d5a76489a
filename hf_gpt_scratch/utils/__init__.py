"""
What every other part uses, and what uses none of them:

    errors         `InputError`, a sentence for the user, and how a program ends with it
    files          writing files and folders completely or not at all; reading JSON
    download       files from the web: checked, continued where they broke, shared by commands that want the same
    locks          locks that a killed process does not keep
    constants      names that several rooms share
    text           characters that are not text
    special_tokens which tokens end a text, and which one begins it
    terminal       text without control sequences, for all that is printed; silencing libraries
    provenance     hashes, versions, hardware and commands, for every number
    result_card    the one form of every evaluation's numbers
    markdown       those numbers as tables
    console        a command as another program
    requirements   the packages that only some commands need
    precision      which precision the CPU is fast at
    int8           linear layers of int8, for using a model on a CPU
    weight_layout  weights in memory as writing token by token reads them fastest
"""
