"""Score a language model's answers: one forward and one backward pass, Eq. (9) and (10).

    scores = score(model, tokenizer, prompts, answers)
    scores.epistemic, scores.aleatoric     # one per answer
    scores.by_module(), scores.by_token(0) # which weights, which tokens carry it

`examples` turns texts into ids, `passes` runs one batch, `batches` sizes them to the memory,
`calibrate` turns scores into the probability of being wrong.
"""

from gnuq.scoring.calibration import Calibration, calibrate
from gnuq.scoring.examples import Encoder, Example, ExampleError
from gnuq.scoring.objectives import OBJECTIVES
from gnuq.scoring.score import score
from gnuq.scoring.scores import Scores

__all__ = [
    "OBJECTIVES",
    "Calibration",
    "Encoder",
    "Example",
    "ExampleError",
    "Scores",
    "calibrate",
    "score",
]
