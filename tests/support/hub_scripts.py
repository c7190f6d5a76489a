"""Programs that load from the stand-in for the Hub and make adapters of what is there, and the errors of commands."""

LOAD = """
import sys
sys.modules["hf_gpt_scratch"] = None
from transformers import AutoModelForCausalLM, AutoTokenizer
trust = sys.argv[2] == "trust"
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1], trust_remote_code=trust)
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], trust_remote_code=trust)
print(model(**tokenizer("a boat", return_tensors="pt")).logits.sum().item())
"""

LOAD_ADAPTER = LOAD.replace(
    "from transformers import AutoModelForCausalLM, AutoTokenizer",
    """
from peft import AutoPeftModelForCausalLM as AutoModelForCausalLM
from transformers import AutoTokenizer
""",
)

PLAIN_ADAPTER = """
import sys
from peft import LoraConfig, get_peft_model
from hf_gpt_scratch import GPTScratchForCausalLM
from hf_gpt_scratch.pretrained import load_pretrained, record_reference_logits
from hf_gpt_scratch.tokenizer import load_tokenizer
from pathlib import Path
model = load_pretrained(GPTScratchForCausalLM, "user/base")
config = LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", init_lora_weights=False)
get_peft_model(model, config).save_pretrained(sys.argv[1])
load_tokenizer("user/base").save_pretrained(sys.argv[1])
record_reference_logits(Path(sys.argv[1]))
"""


def sentence(run) -> str:
    """The one sentence of a command that failed."""
    assert run.returncode == 1, run.stderr
    [line] = [line for line in run.stderr.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in run.stderr
    return line
