"""
The training jobs behind transformers' Trainer. In the order of reading:

    spam, pretrain, instruct    the jobs: each has its settings, its `main` and what it measures
    instruct_results            what instruct measures and writes
    prefer                      the job of preferences, by TRL's DPO: preference_trainer, prefer_results
    run_record                  what the jobs share: how a run begins, what is recorded, how it ends
    arguments                   settings of the model and of TrainingArguments, from a YAML file and the command line
    configs                     the YAML files that come with the package; checks before torch is imported
    job_help                    the options of a job and its short help, without importing torch
    trainer                     a Trainer that stops at NaN, and saves and pushes complete models
    samplers                    batches of rows of similar length
    progress                    the table of losses
"""
