"""How well a model follows instructions, in numbers that need no judge: perplexity, stopping, repetition."""

from collections.abc import Iterable, Sequence

DEFINITIONS = {
    "eval_loss": "mean cross-entropy in nats of the tokens that are trained on: all of them, or with mask_prompt those"
    " of the response",
    "perplexity": "exp of the mean cross-entropy of all tokens except the first, including the EOS token",
    "response_perplexity": "the same for the response's tokens, including the EOS token",
    "stop_rate": "share of the generated responses that end in the EOS token",
    "repetition_rate": "seq-rep-4 (Welleck et al. 2020): share of a response's 4-grams of tokens that repeat an"
    " earlier one, averaged over the responses",
    "tokens_per_second": "generated tokens, including EOS tokens, per second of generating all responses",
}
# Of conversations of several questions alone
LATER = {"later_response_perplexity": "the response perplexity of second and later answers, read after those before"}


def repetition_rate(responses: Iterable[Sequence[int]], n: int = 4) -> float:
    """
    The mean over responses of the share of their n-grams of tokens that repeat an earlier one: seq-rep-n (Welleck et
    al. 2020, "Neural Text Generation with Unlikelihood Training"); 0 for a response of fewer than n tokens.
    """
    rates = []
    for ids in responses:
        grams = list(zip(*(ids[i:] for i in range(n))))
        rates.append(1 - len(set(grams)) / len(grams) if grams else 0.0)
    return sum(rates) / len(rates)
