"""The page on discrepancies: the paper's numbers against each other, and against ours."""

from __future__ import annotations

import pandas as pd
from scipy.stats import gmean

from gnuq import artefacts, paper, protocol, results
from gnuq.display import grouped
from gnuq.networks import Architecture
from gnuq.results import language, proxy_tables, text_summary
from gnuq.walkthrough import appendix_g, axioms, paper_map, scaling

#: Widths of the scaling study's networks, as Table 10 names them; none for softmax regression.
WIDTHS = (None, 8, 16, 32, 64, 128, 256, 512, 1028)
#: The classification problems whose networks have hidden layers, as the comparison has them.
NETWORKS = ["xor", "rings", "spirals-4", "rings-4"]


def parameter_counts() -> pd.DataFrame:
    """Parameters of the scaling study's networks, with four outputs and with one: Table 10."""
    printed = [int(key) for key in paper.items()["table-10"].printed]
    rows = {}
    for width, count in zip(WIDTHS, printed, strict=True):
        hidden = () if width is None else (width, width)
        rows["none" if width is None else f"{width}, {width}"] = {
            "four outputs": Architecture(2, hidden, 4).parameters,
            "one output": Architecture(2, hidden, 1).parameters,
            "printed": count,
        }
    return pd.DataFrame(rows).T.rename_axis("hidden layers")


def proxy_asymmetry() -> dict[str, float]:
    """Table 3's effect in one number per problem: the bottom proxy's ratio over the top proxy's."""
    return {k: row["bottom"] / row["top"] for k, row in paper.items()["table-3"].printed.items()}


def scaling_steps() -> pd.DataFrame:
    """Table 10's epistemic columns from size to size, and whether each falls."""
    rows = paper.printed("table-10")
    first, second = ([rows[key]["epistemic"][i] for key in rows] for i in (0, 1))
    frame = pd.DataFrame({"1st column": first, "2nd column": second}, index=pd.Index(rows))
    falls = frame.diff() < 0
    return frame.assign(**{f"{name} falls": falls[name] for name in frame})


def far_apart(least: float = 0.15) -> pd.DataFrame:
    """Every printed pair from which ours is far: a mean over data seeds off by `least` or more.

    Returns:
        One row per pair, in the paper's order, by item, problem, what; ours and the paper's.
    """
    parts = []
    for name, item in paper.items().items():
        table = paper_map.beside(item)
        if table.empty or name == "table-1":  # Table 1 repeats the others
            continue
        off = table.filter(like="difference").abs().max(axis=1)
        parts.append(table.assign(off=off, item=item.label)[off >= least])
    found = pd.concat(parts)
    columns = ["Pearson, ours", "paper, 1st", "Spearman, ours", "paper, 2nd"]
    return found.set_index(["item", "problem", "what"])[columns]


def values() -> dict[str, str]:
    """Every number that the page's sentences use, by name, ready to print."""
    found = [_printed(), _binary(), _classes(), _weights(), _methods(), _sequences()]
    found += [_proxies(), _terms(), _texts(), _scaling()]
    found += [{f"g_{name}": text for name, text in appendix_g.values().items()}]
    return {name: text for part in found for name, text in part.items()}


def _printed() -> dict[str, str]:
    table_6, table_3 = paper.printed("table-6"), paper.items()["table-3"].printed
    steps, effect = scaling_steps(), proxy_asymmetry()
    text = paper.items()["table-4"].printed["distilbert"]
    found = {f"effect_{name}": f"{value:.0f}" for name, value in effect.items()}
    for name in ("xor", "rings"):
        found |= _pair(f"p6_{name}", table_6[name]["laplace"])
    sizes = list(steps.index)
    for benchmark, row in paper.items()["table-14"].printed.items():
        found[f"n_{benchmark}_first"] = grouped(row["llama-2"])
        found[f"n_{benchmark}_last"] = grouped(row["phi-4"])
    return found | {
        "p3_xor": f"{table_3['xor']['identity']:.2f}",
        "p4": f"{text['identity']:.2f}",
        "p4_science": f"{text['science']:.2f}",
        "p4_sports": f"{text['sports']:.2f}",
        "falls_1": str(int(steps["1st column falls"].sum())),
        "falls_2": str(int(steps["2nd column falls"].sum())),
        "first_r": f"{steps['1st column'].iloc[0]:.2f}",
        "first_rho": f"{steps['2nd column'].iloc[0]:.2f}",
        "last_r": f"{steps['1st column'].iloc[-1]:.2f}",
        "last_rho": f"{steps['2nd column'].iloc[-1]:.2f}",
        "lowest_r": f"{steps['1st column'].min():.2f}",
        "lowest_r_at": grouped(sizes[steps["1st column"].argmin()]),
        "lowest_rho": f"{steps['2nd column'].min():.2f}",
        "lowest_rho_at": grouped(sizes[steps["2nd column"].argmin()]),
    }


def _sequences() -> dict[str, str]:
    table = language.sequences()
    longer = table[table["length"] > 1]
    ranks = table[["epistemic", "length_free", "length"]].corr("spearman")["length"]
    return {
        "s_count": str(len(table)),
        "s_cross": f"{longer['cross'].median():.0%}",
        "s_length": f"{ranks['epistemic']:.2f}",
        "s_length_free": f"{ranks['length_free']:.2f}",
    }


def _proxies() -> dict[str, str]:
    bias = proxy_tables.saved("proxy-bias")
    found: dict[str, str] = {}
    for covariance in ("full", "diagonal"):
        rows = proxy_tables.chosen(bias, **(proxy_tables.PRIMARY | {"covariance": covariance}))
        for problem, factor in rows.groupby("problem")["factor"]:
            found[f"p3_{covariance}_{problem}"] = f"{gmean(factor):.1f}"
    table = artefacts.load("results", "table-3").frame.set_index("problem")
    effects = table["bottom"] / table["top"]
    found |= {f"ours_effect_{name}": f"{effect:.0f}" for name, effect in effects.items()}
    low, high = table.loc["xor", ["identity_low", "identity_high"]]
    return found | {"p3_low": f"{low:.2f}", "p3_high": f"{high:.2f}"}


def _terms() -> dict[str, str]:
    terms = proxy_tables.saved("proxy-bias-terms")
    halves = terms[(terms["proxy"] != "all") & (terms["region"] == "everywhere")]
    rows = halves[halves["scaling"] == "paper"].groupby("problem")[["misled", "size_off_diagonal"]]
    means = rows.mean()
    found = {f"p7_wrong_{name}": f"{value:.0%}" for name, value in means["misled"].items()}
    return found | {f"p7_off_{k}": f"{v:.0f}" for k, v in means["size_off_diagonal"].items()}


def _texts() -> dict[str, str]:
    rows = text_summary.chosen(artefacts.load("results", "table-4").frame)
    order = (rows["shift_science"] < 1) & (rows["shift_sports"] > 1)
    return {"p4_order": str(int(order.sum())), "p4_seeds": str(len(rows))}


def _scaling() -> dict[str, str]:
    told = scaling.values()
    found = {"s10_widest": told["widest"], "s10_off": told["unit_hmc_off_first"]}
    for prior in ("unit", "fan"):
        for end in ("first", "last"):
            found[f"s10_{prior}_{end}"] = told[f"{prior}_wide_gradient_norm_{end}_rho"]
    return found


def _pair(name: str, pair: tuple[float, float]) -> dict[str, str]:
    return {f"{name}_r": f"{pair[0]:.2f}", f"{name}_rho": f"{pair[1]:.2f}"}


def _binary() -> dict[str, str]:
    found: dict[str, str] = {}
    for number in (5, 6):
        table = artefacts.load("results", f"table-{number}").frame
        for row in table.to_dict("records"):
            name = f"t{number}_{row['problem']}_{row['comparison']}"
            found |= _pair(name, (row["r"], row["rho"]))
    return found


def _classes() -> dict[str, str]:
    table = artefacts.load("results", "table-7").frame
    found: dict[str, str] = {}
    for row in table[table["comparison"] == "overall"].to_dict("records"):
        found |= _pair(f"t7_{row['problem']}", (row["r"], row["rho"]))
    return found


def _weights() -> dict[str, str]:
    table = artefacts.load("results", "appendix-c").frame
    network = table[table["model"] != "logistic regression"].set_index("quantity")["value"]
    spreads = axioms.random_spreads(3)
    rises = (spreads["epistemic (1)"] > 0).mean()
    return {
        "c_rank": f"{network['rank of the gradients of 400 inputs']:.0f}",
        "c_parameters": f"{network['P']:.0f}",
        "c_mode": f"{network['length of θ*']:.1f}",
        "c_mean": f"{network['length of E[θ]']:.2f}",
        "spreads": str(len(spreads)),
        "spreads_rise": f"{rises:.0%}",
    }


def _methods() -> dict[str, str]:
    rows = results.by_method(artefacts.load("results", protocol.METHODS).frame, NETWORKS)
    names = {"norm": "gradient norm", "delta": "full, delta", "linearised": "full, linearised"}
    found = rows["spearman"].to_dict()
    return {f"m_{short}": f"{found[name]:.2f}" for short, name in names.items()}
