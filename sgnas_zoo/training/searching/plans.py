"""``search_supernet`` and ``compare_strategies``: what a notebook asks for, and the commands write down."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgnas_zoo.api.profiles import ProfileLike
from sgnas_zoo.api.request import Request
from sgnas_zoo.api.resolve import find_generator
from sgnas_zoo.api.supernets import find_supernet
from sgnas_zoo.costs import Precision
from sgnas_zoo.errors import ArtifactError, BudgetError, SettingError, UnknownNameError, shown
from sgnas_zoo.files import read_config
from sgnas_zoo.hub.artifacts import Artifact
from sgnas_zoo.hub.cards import EVALUATION
from sgnas_zoo.hub.cards.text import Fields
from sgnas_zoo.hub.supernets import TrainedSupernet, load_supernet
from sgnas_zoo.search.budgets import Amount, broadcast, check_budget_name, plain, single, stated
from sgnas_zoo.search.generator import ArchGenerator
from sgnas_zoo.search.strategies import STRATEGIES
from sgnas_zoo.spaces import SPACES
from sgnas_zoo.training.data.sources import LabelledImages, Source
from sgnas_zoo.training.runs import make_accelerator
from sgnas_zoo.training.searching import comparison, report
from sgnas_zoo.training.searching.candidates import EvaluationLog, held_out_images
from sgnas_zoo.training.searching.search import ACCURACY, Search, check_objectives, cost_tables
from sgnas_zoo.training.searching.sharing import InheritedAccuracy
from sgnas_zoo.training.searching.truth import Truth
from sgnas_zoo.zoo import embedded_generator

if TYPE_CHECKING:
    from accelerate import Accelerator


def search_supernet(supernet: str | Path, dataset: str | Path, **options: Any) -> dict[str, Any]:
    """Search a supernet for the most accurate architecture within bounds, or for a front.

    Args:
        supernet: Folder or Hub repo of the trained supernet.
        dataset: Hub id or folder of what it was trained on; the part that was held out counts.
        options: ``strategy`` ("evolution", "additive", "nsga2", "greedy", "generator", "random"), budgets by name
            (``flops``, ``latency``, ...), ``objectives`` (``("accuracy", "flops")``), ``population`` (50),
            ``generations`` (20), ``candidates`` (1 answer of a generator or an additive model that is scored),
            ``paths`` (random ones that an additive model is fitted to; by default as many as evolution scores),
            ``images`` (5000 at most), ``seed`` (0), ``generator``, ``profile``, ``precision`` ("int8"),
            ``image_column``, ``label_column``, ``workers`` (2 decoding processes), ``scores``, a file that keeps them.

    Returns:
        ``front``, ``best``, ``evaluations`` and ``seconds``, as ``Search.run`` says, with the dataset and the origin
        of the weights.

    Raises:
        ZooError: If something is not there, does not fit together, or no architecture keeps the bounds.
    """
    scores = options.pop("scores", None)
    return plan_search(supernet, dataset, **options).run(scores)


def compare_strategies(
    space: str, strategies: Sequence[str], budgets: Sequence[float] | Sequence[str], dataset: str | Path, **options: Any
) -> dict[str, Any]:
    """Compare search strategies at the same budgets: accuracy, evaluations and time.

    Args:
        space: Name of the search space.
        strategies: Names of the strategies.
        budgets: Upper bounds on ``cost``; latencies with their unit.
        dataset: Hub id or folder of what the supernets were trained on.
        options: ``cost`` ("flops"), ``supernets`` (folder or repo by the name of a strategy; "" for all others),
            ``generator``, ``profile``, ``precision`` ("int8"), ``population``, ``generations``, ``candidates`` (1
            answer of a generator or an additive model that is scored), ``paths`` (random ones that an additive model is
            fitted to; by default as many as evolution scores), ``images`` (2000 that searches look at), ``seeds``
            (``(0,)``), ``truth`` (file of a truth table, which judges what was found), ``workers``, ``image_column``,
            ``label_column``.

    Returns:
        ``rows``, one for each search, ``totals`` by strategy, and what they were made with. With a truth table rows
        have ``true_top1`` and ``regret``: the points by which the best network within the budget is truly better.

    Raises:
        ZooError: As ``search_supernet`` does.
    """
    return plan_comparison(space, strategies, budgets, dataset, **options).run()


@dataclass(frozen=True)
class PlannedSearch:
    """A search with all that it needs, checked and loaded.

    Args:
        search: What is searched for.
        trained: The supernet.
        held: The images that count.
        accelerator: Of the run.
        workers: Decoding processes.
    """

    search: Search
    trained: TrainedSupernet
    held: LabelledImages
    accelerator: Accelerator
    workers: int

    def run(self, scores: Path | None = None) -> dict[str, Any]:
        """Search; scores are kept in a file, if one is named, and are not computed again."""
        self.trained.supernet.to(self.accelerator.device)
        score: Any = InheritedAccuracy(self.trained, self.held, self.accelerator, workers=self.workers)
        if scores is not None:
            writes = self.accelerator.is_main_process
            score = EvaluationLog(scores, self.search.space, score, writes=writes, total=self.search.most_scores())
        result = self.search.run(score)
        self.accelerator.end_training()
        return {**result, "dataset": dict(self.held.record), "weights": self.trained.named_origin()}


def plan_search(
    supernet: str | Path, dataset: str | Path, *, strategy: str = "evolution", space: str | None = None,
    objectives: Sequence[str] = (ACCURACY, "flops"), generator: ArchGenerator | str | Path | None = None,
    profile: ProfileLike | None = None, population: int = 50, generations: int = 20, images: int = 5000, seed: int = 0,
    workers: int = 2, candidates: int = 1, paths: int | None = None, image_column: str | None = None,
    label_column: str | None = None, precision: Precision | None = None, **budgets: Amount | None,
) -> PlannedSearch:  # fmt: skip
    """Put a search together, and refuse what cannot be found before anything is measured; see ``search_supernet``."""
    STRATEGIES[strategy]
    check_objectives(objectives)
    for name in budgets:
        check_budget_name(name)
    limits = single(stated(**budgets))
    trained = load_supernet(supernet)
    own = trained.supernet.space
    if space not in (None, own.name):
        raise UnknownNameError(f"This supernet is of {own.name}, not {space}; leave space out or name another.")
    if strategy == "generator" and not limits:
        raise BudgetError("A generator answers a budget; add flops=330e6 (--flops 330M), or another.")
    if profile is not None and "latency" not in (*limits, *objectives):
        raise BudgetError("A profile is about latency; add a latency such as 20ms, or name latency in the objectives.")
    makes = find_generator(generator, own.name) if strategy == "generator" or generator else None
    tables = cost_tables(own, trained.supernet.num_classes, [*limits, *objectives], profile, precision)
    wanted = Search(
        own, tables, strategy, limits, objectives, population, generations, makes, trained.pool, seed, candidates, paths
    )
    accelerator = make_accelerator()
    held = held_out_images(trained, Source(str(dataset), image_column, label_column), images)
    return PlannedSearch(wanted, trained, held, accelerator, workers)


@dataclass(frozen=True)
class PlannedComparison:
    """A comparison with all that it needs, checked and loaded.

    Args:
        contenders: By the name of the strategy.
        cost: Name of the budget.
        limits: The budgets.
        seeds: Of all that is drawn, one after the other.
        made_with: What they are made with, as plain data.
        accelerator: Of the run.
        truth: Judges what was found, if there is a truth table.
    """

    contenders: Mapping[str, comparison.Contender]
    cost: str
    limits: Sequence[float]
    seeds: Sequence[int]
    made_with: Mapping[str, Any]
    accelerator: Accelerator
    truth: Truth | None = None

    def run(
        self, save: Callable[[dict[str, Any]], object] = lambda _: None, done: Sequence[comparison.Row] = ()
    ) -> dict[str, Any]:
        """Compare; ``save`` gets the record after each search, and rows in ``done`` are not searched again."""
        main, preparation = self.accelerator.is_main_process, self.made_with["preparation"]

        def record(rows: Sequence[comparison.Row]) -> dict[str, Any]:
            judged = [{**row, **self._judged(row)} for row in rows]
            return {**self.made_with, "rows": judged, "totals": report.totals(judged, preparation)}

        def keep(rows: list[comparison.Row]) -> None:
            if main:
                save(record(rows))

        rows = comparison.search_all(self.contenders, self.cost, self.limits, self.seeds, keep, done, quiet=not main)
        keep(rows)
        self.accelerator.end_training()
        return record(rows)

    def _judged(self, row: comparison.Row) -> dict[str, float]:
        """What the truth table says of a search that is done."""
        if self.truth is None:
            return {}
        search = self.contenders[row["strategy"]].search
        arch = search.space.parse(row["arch"])
        regret = self.truth.regret(arch, search.tables[self.cost], row["budget"])
        return {"true_top1": self.truth.top1(arch), "regret": regret}


def plan_comparison(
    space: str, strategies: Sequence[str], budgets: Sequence[float] | Sequence[str], dataset: str | Path, *,
    cost: str = "flops", supernets: Mapping[str, str | Path] | None = None, generator: str | Path | None = None,
    profile: ProfileLike | None = None, population: int = 50, generations: int = 20, images: int = 2000,
    seeds: Sequence[int] = (0,), truth: str | Path | None = None, workers: int = 2, candidates: int = 1,
    paths: int | None = None, image_column: str | None = None, label_column: str | None = None,
    precision: Precision | None = None,
) -> PlannedComparison:  # fmt: skip
    """Put a comparison together, and refuse what cannot be found first; see ``compare_strategies``."""
    own, names = SPACES[space], list(dict.fromkeys(strategies))
    for name in names:
        STRATEGIES[name]
    check_budget_name(cost)
    asked: Any = list(budgets)
    limits = list(dict.fromkeys(broadcast(stated(**{cost: asked}))[cost]))
    _check_seeds(seeds)
    judge = Truth.load(truth, own) if truth is not None else None
    if judge is not None:
        judge.check_whole()
    chosen = _supernets(supernets or {}, names, space)
    makes, hours = _generator(generator, space) if "generator" in names else (None, 0.0)
    nets = dict(chosen.values())
    tables = {
        place: cost_tables(own, net.supernet.num_classes, [cost], profile, precision) for place, net in nets.items()
    }
    searches = {
        name: Search(own, tables[place], name, {}, (ACCURACY, cost), population, generations,
                     makes if name == "generator" else None, net.pool, candidates=candidates, paths=paths)
        for name, (place, net) in chosen.items()
    }  # fmt: skip
    comparison.check_budgets(list(searches.values()), cost, limits)
    accelerator, source = make_accelerator(), Source(str(dataset), image_column, label_column)
    scores = {
        place: comparison.scores(net, held_out_images(net, source), images, accelerator, workers)
        for place, net in nets.items()
    }
    contenders = {
        name: comparison.Contender(search, *scores[chosen[name][0]], 3600 * hours if name == "generator" else 0.0)
        for name, search in searches.items()
    }
    accelerator.wait_for_everyone()
    made_with = {
        "space": space, "cost": cost, "supernets": {name: _told(net) for name, (_, net) in chosen.items()},
        "preparation": {name: round(contender.preparation, 1) for name, contender in contenders.items()},
    }  # fmt: skip
    if judge is not None:
        front = judge.front(next(iter(tables.values()))[cost])
        made_with["truth"] = {**judge.record, "front": [[plain(float(amount)), top1] for amount, top1 in front]}
    return PlannedComparison(contenders, cost, limits, list(seeds), made_with, accelerator, judge)


def _check_seeds(seeds: Sequence[int]) -> None:
    """Refuse what are not different seeds.

    Raises:
        SettingError: Saying which.
    """
    for seed in seeds:
        if not isinstance(seed, Integral) or isinstance(seed, bool) or seed < 0:
            raise SettingError(f"{shown(seed)} is not a seed; give whole numbers from 0, such as 0,1,2.")
        if [*seeds].count(seed) > 1:
            raise SettingError(f"Seed {seed} is there more than once, and finds the same again; give each once.")
    if not seeds:
        raise SettingError("No seed was given; give one or several, such as 0,1,2.")


def _supernets(
    named: Mapping[str, str | Path], strategies: Sequence[str], space: str
) -> dict[str, tuple[str, TrainedSupernet]]:
    """Place and supernet of every strategy; one that several share is loaded once."""
    if foreign := [name for name in named if name and name not in strategies]:
        raise UnknownNameError(f"The supernet of {foreign[0]} is of none of the strategies; name one of them, or none.")
    chosen = {name: str(named.get(name) or named.get("") or "") for name in strategies}
    request = Request(pretrained=True, family=SPACES[space].family)
    loaded = {
        place: load_supernet(place) if place else find_supernet(request, space)[0]
        for place in dict.fromkeys(chosen.values())
    }
    for net in loaded.values():
        if net.supernet.space.name != space:
            raise UnknownNameError(f"A supernet is of {net.supernet.space.name}, not {space}; name one of {space}.")
    return {name: (place, loaded[place]) for name, place in chosen.items()}


def _told(net: TrainedSupernet) -> dict[str, Any]:
    """What a comparison tells of a supernet."""
    return {**net.named_origin(), "training": dict(net.training)}


def _generator(place: str | Path | None, space: str) -> tuple[ArchGenerator, float]:
    """A generator, and the hours that its training took as far as its folder says."""
    generator = find_generator(place, space)
    artifact = Artifact(place or embedded_generator(space) or "")
    try:
        told = Fields(read_config(artifact.file(EVALUATION)), EVALUATION)
        return generator, told.part("training").number("hours") or 0.0
    except ArtifactError:  # it tells nothing
        return generator, 0.0
