"""
The instruction set of "Build a Large Language Model (From Scratch)", chapter 7: 1,100 rows in Alpaca's format (Taori
et al. 2023), with an `instruction`, an `input` (perhaps empty) and an `output`.

It holds 25 pairs of instruction and input twice, so that the usual split in file order tests on pairs seen in
training: `turns.split` keeps such copies together.
"""

URL = "https://raw.githubusercontent.com/rasbt/LLMs-from-scratch/main/ch07/01_main-chapter-code/instruction-data.json"
SHA256 = "7e09a9af353722ca15c18bc580f093f9c39d3178335a75177319cb1e1d163944"
