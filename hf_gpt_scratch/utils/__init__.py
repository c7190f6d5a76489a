"""
What every room uses, and what uses none of them:

    errors         `InputError`, a sentence for the user, and how a program ends on it
    files          files and folders that are complete or absent; reading JSON
    text           what is no text
    terminal       what is kept off the terminal
    provenance     hashes, versions, hardware and commands, for every number
    result_card    the one form of every evaluation's numbers
    markdown       those numbers as tables
    console        a command as another program
    requirements   the packages that only some commands need
"""
