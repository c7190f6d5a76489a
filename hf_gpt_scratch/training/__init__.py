"""
The training jobs behind transformers' Trainer. In the order of reading:

    spam, pretrain, instruct    the jobs: each has its settings, its `main` and what it measures
    run_record                  what the jobs share: how a run begins, what is recorded of it, how it ends
    arguments                   settings of the model and of TrainingArguments, from a YAML and the command line
    configs                     the YAML files that come with the package, by name; imports nothing heavy
    trainer                     a Trainer that stops at NaN, and saves and pushes whole models
    samplers                    rows of like length together
    progress                    the table of losses
"""
