"""
The training jobs behind transformers' Trainer. In the order of reading:

    pretrain, classify, instruct
                                the jobs: each has its settings, its `main` and what it measures
    spam                        the SMS collection as a first example of classify
    classifiers                 what these two share: heads, weights of labels, long texts
    classify_results            what classify measures, prints and writes
    instruct_results            what instruct measures and writes
    prefer                      the job of preferences, by TRL's DPO: preference_trainer, prefer_results
    run_record                  what the jobs share: how a run begins, what is recorded, how it ends
    arguments                   settings of the model and of TrainingArguments, from a YAML file and the command line
    configs                     the YAML files that come with the package; checks before torch is imported
    job_help                    the options of a job and its short help, without importing torch
    interruption                what whoever ends a job is told
    run_file                    which run a folder is of, and whether that is finished
    checkpoints                 a manifest for each; the last good one
    resuming                    what a run trains on, compared when it goes on
    exact_trainer               a Trainer whose runs, killed and resumed, end as if never killed: stopping
    trainer                     a Trainer that stops at NaN, and saves and pushes complete models
    precision                   fp32, bf16 or fp16
    causal_attention            attention with dropout on a CPU
    samplers                    batches of rows of similar length
    document_attention          packed rows by document, on a CPU
    progress                    the table of losses
"""
