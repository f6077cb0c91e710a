"""The page on §5: one number from the book for each limitation."""

from __future__ import annotations

from gnuq import artefacts, protocol, results
from gnuq.walkthrough import question_numbers, scaling


def values() -> dict[str, str]:
    """Every number of the page's sentences, by name, ready to print."""
    constants = results.calibration_table(artefacts.load("results", protocol.CALIBRATION).frame)
    regression = artefacts.load("results", "table-9").frame.set_index(["problem", "comparison"])
    sizes, answers = scaling.values(), question_numbers.values()
    return {
        "problems": str(len(constants)),
        "c_low": f"{constants['c'].min():.1g}",
        "c_high": f"{constants['c'].max():.1g}",
        "wave_rho": f"{regression['rho']['wave', 'gradient_norm']:.2f}",
        "wave_laplace_rho": f"{regression['rho']['wave', 'laplace']:.2f}",
        "first": sizes["unit_wide_gradient_norm_first_rho"],
        "last": sizes["unit_wide_gradient_norm_last_rho"],
        "widest": sizes["widest"],
        **{
            key: answers[key] for key in ("brier_median", "brier_most", "brier_method", "brier_run")
        },
        **{key: answers[f"{key}_epistemic_range"] for key in ("truthfulqa", "triviaqa")},
    }
